"""Writes the hypnogram as text (CSV, Profusion), all but the samples as JSON, and the night as arrays."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from streamer.exports.notes import list_notes
from streamer.host import private
from streamer.messages import STAGES
from streamer.night.session import Night, Progress, read_conditioned
from streamer.payloads import PublishedStage

PROFUSION: dict[PublishedStage, int] = {"W": 0, "N1": 1, "N2": 2, "N3": 3, "R": 5}
PROFUSION_UNSCORED = 9
YASA_UNSCORED = "UNS"


def write_csv(night: Night, path: Path, progress: Progress) -> list[str]:
    """Write `onset,duration,label`, one line per epoch, in seconds since sample 0; UNS if unscored.

    YASA's `Hypnogram` reads the labels; EDFbrowser imports the columns as annotations.
    """
    with open(path, "w", encoding="utf-8", newline="", opener=private.opener) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["onset", "duration", "label"])
        for note in list_notes(night):
            if note.kind in STAGES or note.kind == "unscored":
                label = YASA_UNSCORED if note.kind == "unscored" else note.kind
                table.writerow([f"{note.onset_s:.0f}", "30", label])
    return []


def write_profusion(night: Night, path: Path, progress: Progress) -> list[str]:
    """Write one number per epoch, one per line."""
    lines = [str(PROFUSION.get(label, PROFUSION_UNSCORED)) for label in night.labels]
    private.write(path, "".join(f"{line}\n" for line in lines))
    return []


def write_json(night: Night, path: Path, progress: Progress) -> list[str]:
    """Write everything but the samples."""
    data = {
        "meta": asdict(night.meta),
        "channel": night.channel,
        "duration_s": night.duration_s,
        **night.described(),
        "ended": night.ended,
        "hypnogram": night.labels,
        "statistics": night.statistics().described(),
        "epochs": [epoch.model_dump(mode="json", by_alias=True) for epoch in night.epochs],
        "events": [event.model_dump(mode="json", by_alias=True) for event in night.events],
        "gaps": [{"start": gap.start, "stop": gap.stop, "reason": gap.reason} for gap in night.gaps],
    }
    private.write(path, json.dumps(data, indent=1) + "\n")
    return []


def write_npz(night: Night, path: Path, progress: Progress) -> list[str]:
    """Write arrays for `model.data.load_night`.

    `samples` (epochs * 3000,) float16 µV at 100 Hz, NaN where lost; `stages` (epochs,), -1 if unscored;
    `soft` (epochs, 5), the engine's probabilities, 0 if unscored. These are the engine's stages, not an
    expert's: a network trained on them learns the engine's mistakes.
    """
    stages = [STAGES.index(label) if label in STAGES else -1 for label in night.labels]
    with open(path, "wb", opener=private.opener) as file:
        np.savez(
            file,
            recording=np.array(night.meta.session),
            subject=np.array(night.meta.stream),
            samples=read_conditioned(night, progress).astype(np.float16),
            stages=np.array(stages, dtype=np.int8),
            soft=np.nan_to_num(night.probabilities()).astype(np.float32),
        )
    return ["the stages are the engine's, not an expert's"]
