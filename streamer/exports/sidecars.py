"""The content of the JSON files and READMEs of a BIDS dataset."""

from __future__ import annotations

from typing import Final, Literal

from streamer import __version__
from streamer.exports.signals import describe_columns
from streamer.night.session import Night

VERSION = "1.10.0"
UNKNOWN = "n/a"
HAPPENED: Final = {
    "gap": "samples that were lost",
    "lights_off": "lights off, marked by the sleeper or the home",
    "lights_on": "lights on, marked or inferred",
    "mark": "a mark set by the sleeper or the home",
    "marker": "an event that arrived with the samples: a stimulus, a key, a trigger input",
    "trigger": "a trigger was sent",
    "alarm": "the alarm rang",
}
STAGES: Final = {
    "W": "wake (AASM)",
    "N1": "stage N1 (AASM)",
    "N2": "stage N2 (AASM)",
    "N3": "stage N3 (AASM)",
    "R": "stage R, REM sleep (AASM)",
    "unscored": "could not be scored: samples lost, or signal too bad",
}
_TIMES: Final[dict[str, object]] = {
    "onset": {"Description": "seconds since the first sample", "Units": "s"},
    "duration": {"Description": "duration", "Units": "s"},
}
_SOFTWARE: Final[dict[str, object]] = {
    "StimulusPresentation": {"SoftwareName": "sleepstream", "SoftwareVersion": __version__}
}
EVENTS: Final[dict[str, object]] = {
    **_TIMES,
    "trial_type": {"Description": "kind of event", "Levels": HAPPENED},
    "text": {"Description": "text of the event"},
    **_SOFTWARE,
}
STAGE_EVENTS: Final[dict[str, object]] = {
    "Description": "sleep stages, one per 30 s, scored by a neural network",
    **_TIMES,
    "trial_type": {"Description": "sleep stage of the epoch", "Levels": STAGES},
    "confidence": {"Description": "the network's probability of that stage"},
    **_SOFTWARE,
}
PEOPLE: Final[dict[str, object]] = {
    "participant_id": {"Description": "label of the participant"},
    "sleeper": {"Description": "the name of the stream or of the recording"},
    "species": {"Description": "species of the participant"},
}
_README = {
    "raw": """# Nights of sleep

Recorded by sleepstream {version}. The events are marks of the sleeper or the home, triggers, alarms and
gaps. Where samples were lost, the recording repeats the last value, under an event `gap` (in the EDF+:
BAD_gap). Times are UTC.

The stages were scored by a neural network, not by an expert; they lie under derivatives/sleepstream. Not a
medical device.

Before you publish this dataset, name its authors and licence in dataset_description.json.
""",
    "derivative": """# Sleep stages

Scored in real time by sleepstream {version}, from one EEG derivation, with AASM's stages: each 30 s epoch
was scored when it ended, and not changed later. Scored by a neural network, not by an expert. Not a medical
device.
""",
}

Kind = Literal["raw", "derivative"]


def make_readme(kind: Kind) -> str:
    """The README of the dataset, or of the derivative with its stages."""
    return _README[kind].format(version=__version__)


def make_description(kind: Kind) -> dict[str, object]:
    """The content of `dataset_description.json`."""
    raw = kind == "raw"
    return {
        "Name": "Nights recorded by sleepstream" if raw else "Sleep stages by sleepstream",
        "BIDSVersion": VERSION,
        "DatasetType": kind,
        "License": UNKNOWN,
        "GeneratedBy": [{"Name": "sleepstream", "Version": __version__}],
        # The stages come from the dataset around them; the origin of the recordings is unknown.
        "SourceDatasets": [{"URL": UNKNOWN if raw else "../../", "Version": UNKNOWN}],
    }


def make_sidecar(night: Night) -> dict[str, object]:
    """The content of `_eeg.json`: all fields that BIDS recommends, "n/a" if unknown."""
    info, (found, _) = night.meta.info, describe_columns(night)
    voltages = sum(column.voltage for column in found)
    return {
        "TaskName": "sleep",
        "TaskDescription": "A night's sleep, staged in real time.",
        "Instructions": UNKNOWN,
        "CogAtlasID": "https://www.cognitiveatlas.org/task/id/tsk_4a57abb9499dd",
        "CogPOID": UNKNOWN,
        "SamplingFrequency": info.rate_hz,
        "PowerLineFrequency": night.signal.mains_hz,
        "SoftwareFilters": UNKNOWN,
        "HardwareFilters": UNKNOWN,
        "EEGReference": f"as the device derives its channels; staged: {night.channel}",
        "EEGGround": UNKNOWN,
        "EEGPlacementScheme": UNKNOWN,
        "EEGChannelCount": voltages,
        "EOGChannelCount": 0,
        "ECGChannelCount": 0,
        "EMGChannelCount": 0,
        "MISCChannelCount": len(found) - voltages,
        "TriggerChannelCount": 0,
        "RecordingDuration": round(night.duration_s, 6),
        "RecordingType": "continuous",
        "Manufacturer": UNKNOWN,
        "ManufacturersModelName": info.name or UNKNOWN,
        "SoftwareVersions": f"sleepstream {night.meta.versions.get('sleepstream', UNKNOWN)}",
        "DeviceSerialNumber": UNKNOWN,
        "CapManufacturer": UNKNOWN,
        "CapManufacturersModelName": UNKNOWN,
        "SubjectArtefactDescription": UNKNOWN,
        "InstitutionName": UNKNOWN,
        "InstitutionAddress": UNKNOWN,
        "InstitutionalDepartmentName": UNKNOWN,
    }
