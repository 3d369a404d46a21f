"""Exports a session to the formats of other programs; a file is written completely or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from streamer.errors import UsageError
from streamer.exports.bids import add_to_dataset
from streamer.exports.edf import is_discontinuous, write_annotations, write_continuous, write_edf
from streamer.exports.notes import list_notes
from streamer.exports.tables import write_csv, write_json, write_npz, write_profusion
from streamer.host import private
from streamer.night.session import Night, Progress, ignore_progress, read_night

__all__ = ["FORMATS", "SCORES", "export"]

Write = Callable[[Night, Path, Progress], list[str]]
# name -> (what follows the session's name in the file name, function that writes it, description)
FORMATS: Final[dict[str, tuple[str, Write, str]]] = {
    "edf": (".edf", write_edf, "EDF+ (EDF+D if there are gaps): every channel, stages as annotations"),
    "edfc": ("-continuous.edf", write_continuous, "EDF+C, gaps filled and annotated: for MNE and pyedflib"),
    "annotations": ("-hypnogram.edf", write_annotations, "EDF+ without signals: stages, lights, marks, gaps"),
    "bids": ("-bids", add_to_dataset, "a BIDS dataset with such EDF+ files; adds to an existing one"),
    "csv": (".csv", write_csv, "onset, duration, label: for YASA and EDFbrowser"),
    "profusion": (".txt", write_profusion, "one number per epoch: 0 1 2 3 5, 9 if unscored"),
    "json": ("-night.json", write_json, "epochs, statistics with definitions, events, gaps"),
    "npz": (".npz", write_npz, "conditioned signal and stages, as used for training"),
}
SCORES: Final = ("annotations", "csv", "profusion", "json")  # formats that need no samples


def export(
    session: Path, to: str, out: Path | None = None, progress: Progress = ignore_progress
) -> tuple[Path, list[str]]:
    """Export a session.

    Args:
        session: the session file.
        to: a key of FORMATS.
        out: the file; for BIDS the dataset's folder. Default: beside the session, with the session's name.
        progress: called with the share done, 0 to 1.

    Returns:
        The path of what was written, and remarks for the user.

    Raises:
        UsageError: the format is unknown, or `out` exists or cannot be written.
        JournalError: the session cannot be read.

    """
    if to not in FORMATS:
        raise UsageError(f"{to!r} is not an export format; choose one of {', '.join(FORMATS)}")
    suffix, write, _ = FORMATS[to]
    target = out or session.with_name(session.stem + suffix)
    if target.exists() and to != "bids":
        raise UsageError(f"{target} exists and is not overwritten; give another --out")
    night = read_night(session)
    if not night.n_samples and not night.labels:
        raise UsageError(f"{session} has neither samples nor epochs; there is nothing to export")
    if night.pruned and to not in SCORES:
        raise UsageError(
            f"{session}: its raw samples were deleted, but {to} needs them; choose one of {', '.join(SCORES)}"
        )
    if to == "annotations" and not list_notes(night):
        raise UsageError(f"{session} has no stages, marks or gaps; there is nothing to annotate")
    try:
        if to == "bids":
            private.make_folder(target.parent)
            remarks = add_to_dataset(night, target, progress)
        else:
            remarks = _whole(night, target, write, progress)
        remarks = [*night.missing, *remarks]
        if to == "edf" and is_discontinuous(target):
            remarks += _twin(night, target, progress)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}; choose another --out") from error
    progress(1.0)
    return target, remarks


def _whole(night: Night, target: Path, write: Write, progress: Progress) -> list[str]:
    """Write under another name and rename at the end, so that the file is complete or does not exist."""
    private.make_folder(target.parent)
    partial = target.with_name(f"{target.stem}.partial{target.suffix}")
    try:
        remarks = write(night, partial, progress)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return remarks


def _twin(night: Night, target: Path, progress: Progress) -> list[str]:
    """Write an EDF+C beside an EDF+D, for programs that do not support gaps."""
    twin = target.with_name(target.stem + FORMATS["edfc"][0])
    said = f"{target} is EDF+D, which MNE and pyedflib cannot read; for them there is {twin} (--to edfc)"
    if twin.exists():
        return [f"{said}, which existed and was not changed"]
    _whole(night, twin, write_continuous, progress)
    return [said]
