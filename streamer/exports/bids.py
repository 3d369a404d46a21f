"""A BIDS dataset (Brain Imaging Data Structure, EEG) of one night."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from streamer import __version__, private
from streamer.exports.edf import write_continuous
from streamer.exports.notes import notes
from streamer.payloads import utc
from streamer.session import Night, Progress
from streamer.units import is_voltage

VERSION = "1.10.0"
KINDS = {
    "W": "wake (AASM)",
    "N1": "stage N1 (AASM)",
    "N2": "stage N2 (AASM)",
    "N3": "stage N3 (AASM)",
    "R": "stage R, REM sleep (AASM)",
    "unscored": "could not be scored: too few samples, or too bad ones",
    "gap": "samples that were lost",
    "lights_off": "the night began",
    "lights_on": "the night ended",
    "mark": "marked by the sleeper or the home",
    "trigger": "a trigger was sent",
    "alarm": "the alarm rang",
}

_README = """# A night of sleep

Recorded and staged in real time by sleepstream {version}, from one EEG derivation, causally: each 30 s epoch
was staged when it ended and never rewritten. The events hold the stages (AASM), what the sleeper marked, and
every stretch of samples that was lost. Stages are a network's, not an expert's. Not a medical device.

Where samples were lost the recording holds the last value, under an event `gap` (in the EDF+: BAD_gap).
"""


def write_bids(night: Night, path: Path, progress: Progress) -> list[str]:
    """Write the folder: one subject (the stream's name), one session (the date), task `sleep`."""
    subject = re.sub(r"[^A-Za-z0-9]", "", night.meta.stream) or "01"
    date = utc(night.started).strftime("%Y%m%dT%H%M%S")
    folder = path / f"sub-{subject}" / f"ses-{date}" / "eeg"
    private.make_folder(folder)
    stem = f"sub-{subject}_ses-{date}_task-sleep"
    remarks = write_continuous(night, folder / f"{stem}_eeg.edf", progress)
    _json(path / "dataset_description.json", _description())
    private.write(path / "README", _README.format(version=__version__))
    _table(path / "participants.tsv", ["participant_id", "species"], [[f"sub-{subject}", "homo sapiens"]])
    _json(path / "participants.json", {"species": {"Description": "species of the participant"}})
    _json(folder / f"{stem}_eeg.json", _sidecar(night))
    _channels(night, folder / f"{stem}_channels.tsv")
    _events(night, folder / f"{stem}_events.tsv")
    _json(folder / f"{stem}_events.json", _columns())
    return remarks


def _description() -> dict[str, object]:
    return {
        "Name": "A night staged by sleepstream",
        "BIDSVersion": VERSION,
        "DatasetType": "raw",
        "GeneratedBy": [{"Name": "sleepstream", "Version": __version__}],
    }


def _sidecar(night: Night) -> dict[str, object]:
    info = night.meta.info
    mains = night.meta.settings.get("signal")
    counted = [channel for channel in info.channels if is_voltage(channel.unit)]
    return {
        "TaskName": "sleep",
        "TaskDescription": "A night's sleep, staged in real time.",
        "SamplingFrequency": info.rate_hz,
        "PowerLineFrequency": mains.get("mains_hz", 50) if isinstance(mains, dict) else 50,
        "SoftwareFilters": "n/a",
        "EEGReference": "as the device derives its channels; see their names",
        "EEGChannelCount": len(counted),
        "MiscChannelCount": len(info.channels) - len(counted),
        "RecordingDuration": round(night.duration_s, 6),
        "RecordingType": "continuous",
        "DeviceSerialNumber": "n/a",
    }


def _channels(night: Night, path: Path) -> None:
    info = night.meta.info
    rows = [
        [
            channel.label,
            "EEG" if is_voltage(channel.unit) else "MISC",
            "uV" if is_voltage(channel.unit) else channel.unit or "n/a",
            f"{info.rate_hz:g}",
            "staged" if channel.label in (night.channel, *night.channel.split("-")) else "n/a",
        ]
        for channel in info.channels
    ]
    _table(path, ["name", "type", "units", "sampling_frequency", "description"], rows)


def _events(night: Night, path: Path) -> None:
    rows = [
        [
            f"{note.onset_s:.6g}" if note.kind != "gap" else f"{note.onset_s:.4f}",
            _length(note.duration_s),
            note.kind,
        ]
        for note in notes(night)
    ]
    _table(path, ["onset", "duration", "trial_type"], rows)


def _length(duration_s: float | None) -> str:
    return "n/a" if duration_s is None else f"{duration_s:.4f}".rstrip("0").rstrip(".")


def _columns() -> dict[str, object]:
    return {
        "onset": {"Description": "seconds since the first sample", "Units": "s"},
        "duration": {"Description": "length", "Units": "s"},
        "trial_type": {"Description": "sleep stage, event of the night, or loss", "Levels": KINDS},
    }


def _json(path: Path, data: Mapping[str, object]) -> None:
    private.write(path, json.dumps(data, indent=1) + "\n")


def _table(path: Path, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with open(path, "w", encoding="utf-8", newline="", opener=private.opener) as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(head)
        table.writerows(rows)
