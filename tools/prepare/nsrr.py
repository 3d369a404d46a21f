"""Reads stages from the two kinds of XML of the National Sleep Research Resource (SHHS and others)."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from streamer.errors import RecordingError
from streamer.night.hypnogram import ScoredSpan
from streamer.night.scoring.words import label_of


def is_xml(path: Path) -> bool:
    """Whether a scoring is XML by its name."""
    return path.suffix.lower() == ".xml"


def read_xml_stages(path: Path) -> list[ScoredSpan]:
    """Read every stage of `*-nsrr.xml` or `*-profusion.xml`: (onset s, duration s, stage), from sample 0.

    The first has one `ScoredEvent` of type `Stages|Stages` per run of epochs, with `EventConcept` such as
    "Stage 2 sleep|2", `Start` and `Duration`; the second one `SleepStage` (0-5, 6 movement, 9 unscored) per
    epoch of `EpochLength` seconds.

    Raises:
        RecordingError: the file is missing, damaged, or has no stages.

    """
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror}; check the path") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise RecordingError(f"{path} is not XML ({error}); copy it again") from error
    try:
        found = _events(root) if root.tag == "PSGAnnotation" else _epochs(root)
    except ValueError as error:
        raise RecordingError(f"{path}: {error}; give NSRR's original file") from error
    if not found:
        raise RecordingError(
            f"{path} has no sleep stages (its root is {root.tag}); give *-nsrr.xml or *-profusion.xml"
        )
    return found


def _events(root: ElementTree.Element) -> list[ScoredSpan]:
    return [
        (
            float(event.findtext("Start", "")),
            float(event.findtext("Duration", "")),
            label_of(event.findtext("EventConcept", "").rpartition("|")[2]),
        )
        for event in root.iterfind("ScoredEvents/ScoredEvent")
        if event.findtext("EventType") == "Stages|Stages"
    ]


def _epochs(root: ElementTree.Element) -> list[ScoredSpan]:
    stages = [stage.text or "" for stage in root.iterfind("SleepStages/SleepStage")]
    length_s = float(root.findtext("EpochLength", "30"))
    return [(length_s * number, length_s, label_of(text)) for number, text in enumerate(stages)]
