"""The hypnogram alone as EDF+ annotations, as Sleep-EDF publishes its own."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import edfio

from streamer.exports.notes import notes
from streamer.session import Night, Progress


def write_annotations(night: Night, path: Path, progress: Progress) -> list[str]:
    """Write an EDF+ without signals: stages, lights, marks, losses. It starts with sample 0, in UTC."""
    began = datetime.fromtimestamp(night.started, UTC)
    edfio.Edf(
        [],
        recording=edfio.Recording(startdate=began.date()),
        starttime=began.time(),
        annotations=[edfio.EdfAnnotation(one.onset_s, one.duration_s, one.text) for one in notes(night)],
    ).write(path)
    return []
