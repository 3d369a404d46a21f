"""Writes a BIDS dataset (Brain Imaging Data Structure, EEG) of one night or many, or adds nights to one.

The recording and its events (lights, marks, triggers, gaps) are raw data. The stages were computed by a
network, so they lie under `derivatives/sleepstream`, which BIDS treats as a separate dataset.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamer import __version__
from streamer.errors import UsageError
from streamer.exports.edf import write_continuous
from streamer.exports.notes import Note, list_notes
from streamer.exports.sidecars import (
    EVENTS,
    PEOPLE,
    STAGE_EVENTS,
    make_description,
    make_readme,
    make_sidecar,
)
from streamer.exports.signals import describe_columns
from streamer.host import private
from streamer.night.session import Night, Progress
from streamer.payloads import utc

DERIVED = Path("derivatives") / "sleepstream"
SESSION = "SleepstreamSession"  # key in the sidecar: identity of the session


@dataclass(frozen=True, slots=True)
class _Place:
    """The place of a night in the dataset."""

    subject: str  # "sub-..."
    session: str  # "ses-..."

    @property
    def folder(self) -> Path:
        """Its folder, relative to the dataset."""
        return Path(self.subject) / self.session / "eeg"

    @property
    def stem(self) -> str:
        """The beginning of its file names."""
        return f"{self.subject}_{self.session}_task-sleep"


def add_to_dataset(night: Night, dataset: Path, progress: Progress) -> list[str]:
    """Add a night to a dataset, completely or not at all; the dataset is created if it is missing.

    A subject is a sleeper, a session is a night, named by its start (UTC), and the task is `sleep`. A night
    that is in the dataset already is not changed, nor are a README and a description that the user has
    edited.

    Returns:
        Remarks for the user.

    Raises:
        UsageError: the folder is not a dataset written here, or the session has no samples.

    """
    _check_ours(dataset)
    people = _people(dataset)
    subject = next((one for one, name in people.items() if name == night.sleeper), None)
    subject = subject or _unused("sub-" + (_alphanumeric(night.sleeper) or "01"), people)
    place = _place(dataset, subject, night)
    if place is None:
        return [f"{night.path}: already in {dataset}, and not changed"]
    partial = dataset / f".{place.stem}.partial"
    try:
        remarks = _write_night(night, place, partial, progress)
        _publish(partial, dataset)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if dataset.is_dir() and not any(dataset.iterdir()):
            dataset.rmdir()
    _write_top(dataset, {**people, subject: night.sleeper})
    return remarks


def _write_night(night: Night, place: _Place, root: Path, progress: Progress) -> list[str]:
    raw, derived = root / place.folder, root / DERIVED / place.folder
    private.make_folder(raw)
    private.make_folder(derived)
    remarks = write_continuous(night, raw / f"{place.stem}_eeg.edf", progress, stages=False)
    _json(raw / f"{place.stem}_eeg.json", {**make_sidecar(night), SESSION: night.meta.session})
    _channels(night, raw / f"{place.stem}_channels.tsv")
    _events(list_notes(night, stages=False), raw / f"{place.stem}_events.tsv")
    _json(raw / f"{place.stem}_events.json", EVENTS)
    stages = derived / f"{place.stem}_desc-stages_events.tsv"
    _stages(night, stages)
    model = {"Name": "sleepstream", "Version": __version__, "ModelSHA256": night.meta.model_sha256}
    _json(stages.with_suffix(".json"), {**STAGE_EVENTS, "GeneratedBy": [model]})
    return remarks


def _publish(partial: Path, dataset: Path) -> None:
    """Move a finished night into the dataset, the stages first: if the raw data are there, all is there."""
    for root in (DERIVED, Path()):
        for session in sorted((partial / root).glob("sub-*/ses-*")):
            target = dataset / session.relative_to(partial)
            private.make_folder(target.parent)
            session.replace(target)


def _place(dataset: Path, subject: str, night: Night) -> _Place | None:
    """The place of a night; None if it is in the dataset.

    Sessions with the same start get different names.
    """
    date = utc(night.started).strftime("%Y%m%dT%H%M%S")
    version = 1
    while True:
        place = _Place(subject, f"ses-{date}" + (f"v{version}" if version > 1 else ""))
        sidecar_file = dataset / place.folder / f"{place.stem}_eeg.json"
        if not (dataset / place.subject / place.session).exists():
            return place
        try:
            if json.loads(sidecar_file.read_text(encoding="utf-8")).get(SESSION) == night.meta.session:
                return None
        except (OSError, ValueError, AttributeError):
            pass  # not written here: take another name
        version += 1


def _check_ours(dataset: Path) -> None:
    if not dataset.exists() or (dataset.is_dir() and not any(dataset.iterdir())):
        private.make_folder(dataset)
        return
    try:
        made = json.loads((dataset / "dataset_description.json").read_text(encoding="utf-8"))
        ours = any(one.get("Name") == "sleepstream" for one in made.get("GeneratedBy", []))
    except (OSError, ValueError, AttributeError, TypeError):
        ours = False
    if not ours:
        raise UsageError(f"{dataset} exists and is not a dataset made by sleepstream; give another --out")


def _people(dataset: Path) -> dict[str, str]:
    """The participants in the dataset: label -> name of the sleeper."""
    try:
        lines = (dataset / "participants.tsv").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    rows = csv.DictReader(lines, delimiter="\t")
    return {row["participant_id"]: row.get("sleeper") or "" for row in rows if row.get("participant_id")}


def _write_top(dataset: Path, people: Mapping[str, str]) -> None:
    """Write the dataset's top files; those that a user may edit are written only once."""
    derived = dataset / DERIVED
    for path, text in (
        (dataset / "dataset_description.json", _text(make_description("raw"))),
        (derived / "dataset_description.json", _text(make_description("derivative"))),
        (dataset / "README", make_readme("raw")),
        (derived / "README", make_readme("derivative")),
        (dataset / "participants.json", _text(PEOPLE)),
    ):
        if not path.exists():
            private.write(path, text)
    table = dataset / "participants.tsv"
    kept = table.read_text(encoding="utf-8").splitlines() if table.exists() else []
    head = kept[0].split("\t") if kept else list(PEOPLE)
    known = {line.partition("\t")[0] for line in kept[1:]}
    values = {"species": "homo sapiens"}
    kept = kept or ["\t".join(head)]
    for subject, name in people.items():
        if subject not in known:
            row = {"participant_id": subject, "sleeper": " ".join(name.split()), **values}
            kept.append("\t".join(row.get(column, "n/a") for column in head))
    partial = table.with_name(".participants.partial")
    private.write(partial, "\n".join(kept) + "\n")
    partial.replace(table)


def _channels(night: Night, path: Path) -> None:
    info = night.meta.info
    found, _ = describe_columns(night)
    rows = []
    for column in found:
        about = [column.staged] if column.staged else []
        if column.source != column.label:
            about.append(f"named {column.source} by its device")
        kind, unit = ("EEG", "uV") if column.voltage else ("MISC", column.unit or "n/a")
        rows.append([column.label, kind, unit, f"{info.rate_hz:.10g}", "; ".join(about) or "n/a"])
    _table(path, ["name", "type", "units", "sampling_frequency", "description"], rows)


def _events(found: Sequence[Note], path: Path) -> None:
    rows = [[_decimal(note.onset_s), _length(note.duration_s), note.kind, _cell(note.text)] for note in found]
    _table(path, ["onset", "duration", "trial_type", "text"], rows)


def _stages(night: Night, path: Path) -> None:
    confidence = {epoch.epoch: epoch.confidence for epoch in night.epochs}
    rows = []
    for number, note in enumerate(list_notes(night, events=False)):
        sure = confidence.get(number)
        rows.append(
            [
                _decimal(note.onset_s),
                _length(note.duration_s),
                note.kind,
                "n/a" if sure is None else f"{sure:.5g}",
            ]
        )
    _table(path, ["onset", "duration", "trial_type", "confidence"], rows)


def _unused(label: str, people: Mapping[str, str]) -> str:
    """Make a label unique: names may differ only in characters that a label cannot have."""
    found, count = label, 1
    while found in people:
        count += 1
        found = f"{label}x{count}"
    return found


def _alphanumeric(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", name)


def _decimal(seconds: float) -> str:
    text = f"{seconds:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _length(duration_s: float | None) -> str:
    return "n/a" if duration_s is None else _decimal(duration_s)


def _cell(text: str) -> str:
    return " ".join(text.split()) or "n/a"


def _text(data: Mapping[str, object]) -> str:
    return json.dumps(data, indent=1) + "\n"


def _json(path: Path, data: Mapping[str, object]) -> None:
    private.write(path, _text(data))


def _table(path: Path, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table separated by tabs, without quotes, as BIDS requires."""
    lines = ["\t".join(head), *("\t".join(row) for row in rows)]
    private.write(path, "\n".join(lines) + "\n")
