"""Opens a recording file of any format."""

from __future__ import annotations

from pathlib import Path

from streamer.errors import RecordingError, UsageError
from streamer.sources.files import read_head
from streamer.sources.lines import UTF_16
from streamer.sources.source import Recording

MOST_NULS = 16  # one byte in so many may be NUL in a text that was damaged


def open_recording(path: Path, rate_hz: float | None = None) -> Recording:
    """Open an EDF, BDF, XDF or CSV file; the content decides first, then the name.

    `rate_hz` is for a CSV without times.

    Raises:
        RecordingError: the file is missing, damaged, or none of these.
        UsageError: `rate_hz` is needed, or given for a file that has its own.

    """
    # Each reader is imported only when it is needed: most runs need one of them or none.
    from streamer.sources.edf_header import is_edf

    head = read_head(path)
    kind = path.suffix.lower()
    if is_edf(head) or kind in (".edf", ".bdf", ".rec"):
        from streamer.sources.edf import EdfRecording

        _no_rate(path, rate_hz)
        return EdfRecording(path)
    if head.startswith(b"XDF:") or kind in (".xdf", ".xdfz") or path.name.lower().endswith(".xdf.gz"):
        from streamer.sources.xdf import XdfRecording

        _no_rate(path, rate_hz)
        return XdfRecording(path)
    wide = head.startswith(UTF_16)
    if (head.count(0) > len(head) // MOST_NULS and not wide) or kind not in (
        ".csv",
        ".tsv",
        ".txt",
        ".dat",
        "",
    ):
        raise RecordingError(
            f"{path} is not a recording sleepstream reads; give an EDF, BDF, XDF or CSV file"
        )
    from streamer.sources.table import TableRecording

    return TableRecording(path, rate_hz)


def _no_rate(path: Path, rate_hz: float | None) -> None:
    if rate_hz is not None:
        raise UsageError(f"{path} states its own rate; take rate_hz = {rate_hz:g} out of the settings")
