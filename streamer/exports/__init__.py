"""A session in the formats that other programs read; each export is written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from streamer import private
from streamer.errors import UsageError
from streamer.exports.annotations import write_annotations
from streamer.exports.arrays import write_npz
from streamer.exports.bids import write_bids
from streamer.exports.edf import write_continuous, write_edf
from streamer.exports.tables import write_csv, write_json, write_profusion
from streamer.session import Night, Progress, read_night, unwatched

__all__ = ["FORMATS", "SCORES", "export"]

Write = Callable[[Night, Path, Progress], list[str]]
# name -> (suffix of the file, or "" for a folder; who writes it; what it is)
FORMATS: Final[dict[str, tuple[str, Write, str]]] = {
    "edf": (".edf", write_edf, "EDF+ (EDF+D where there are gaps): every channel, stages as annotations"),
    "edfc": (".edf", write_continuous, "the same, gaps held and annotated: for MNE and pyedflib"),
    "annotations": (
        "-hypnogram.edf",
        write_annotations,
        "EDF+ without signals: stages, lights, marks, losses",
    ),
    "bids": ("", write_bids, "a BIDS dataset around such an EDF+"),
    "csv": (".csv", write_csv, "onset, duration, label: for YASA and EDFbrowser"),
    "profusion": (".txt", write_profusion, "one number per epoch: 0 1 2 3 5, 9 where unscored"),
    "json": (".json", write_json, "epochs, statistics with definitions, events, losses"),
    "npz": (".npz", write_npz, "conditioned signal and stages, as for training"),
}
SCORES: Final = ("annotations", "csv", "profusion", "json")  # those that need no samples


def export(
    session: Path, to: str, out: Path | None = None, progress: Progress = unwatched
) -> tuple[Path, list[str]]:
    """Write a session in another format.

    Args:
        session: the session file.
        to: a key of FORMATS.
        out: the file (the folder, for BIDS); default: beside the session, with its name.
        progress: told how far it is.

    Returns:
        What was written, and remarks that a person should read.

    Raises:
        UsageError: the format is unknown, or `out` exists or cannot be written.
        JournalError: the session cannot be read.

    """
    if to not in FORMATS:
        raise UsageError(f"{to!r} is no format of export; choose {', '.join(FORMATS)}")
    suffix, write, _ = FORMATS[to]
    target = out or session.with_name(session.stem + (suffix or "-bids"))
    if target.exists():
        raise UsageError(f"{target} exists and is never overwritten; give another --out")
    night = read_night(session)
    if not night.n_samples and not night.labels:
        raise UsageError(f"{session} holds neither samples nor epochs; there is nothing to export")
    partial = target.with_name(f"{target.stem}.partial{suffix}")
    try:
        private.make_folder(target.parent)
        remarks = [*night.missing, *write(night, partial, progress)]
        partial.replace(target)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}; choose another --out") from error
    progress(1.0)
    return target, remarks
