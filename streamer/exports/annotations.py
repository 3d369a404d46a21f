"""The hypnogram alone as EDF+ annotations, as Sleep-EDF publishes its own."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

import edfio

from streamer.exports.dates import NO_DATE, edf_start, undated
from streamer.exports.notes import notes
from streamer.session import Night, Progress


def write_annotations(night: Night, path: Path, progress: Progress) -> list[str]:
    """Write an EDF+ without signals: stages, lights, marks, losses. It starts with sample 0, in UTC."""
    begin = edf_start(night)
    fraction = timedelta(seconds=night.started - math.floor(night.started))
    edfio.Edf(
        [],
        recording=edfio.Recording(startdate=None if begin.date() == NO_DATE else begin.date()),
        starttime=(begin + fraction).time(),
        annotations=[edfio.EdfAnnotation(one.onset_s, one.duration_s, one.text) for one in notes(night)],
    ).write(path)
    return undated(night)
