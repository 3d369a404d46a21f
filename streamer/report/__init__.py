"""The morning: one night as a page and a picture, several nights as a trend."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streamer import private
from streamer.errors import UsageError
from streamer.report.page import night_page, trend_page
from streamer.report.spectrum import multitaper
from streamer.scoring import read_scoring
from streamer.scoring.comparison import Comparison, compare
from streamer.session import Night, Progress, conditioned, read_night, unwatched

__all__ = ["Written", "sessions_of", "write_report", "write_trend"]


@dataclass(frozen=True, slots=True)
class Written:
    """What a report left on disk."""

    html: Path
    png: Path
    json: Path
    night: Night
    compared: Comparison | None = None


def sessions_of(paths: Sequence[Path]) -> list[Path]:
    """Session files, in the order given; a folder stands for all that lie in it, by name.

    Raises:
        UsageError: a folder without a session.

    """
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.glob("*.sqlite")) if path.is_dir() else [path]
        if not inside:
            raise UsageError(f"{path} holds no session (*.sqlite); give a session file")
        found += inside
    return found


def write_report(
    session: Path, folder: Path, against: Path | None = None, progress: Progress = unwatched
) -> Written:
    """Write NAME.html, self-contained, with NAME.png and NAME.json beside it; older ones are replaced.

    Args:
        session: the session file; NAME is its name without the suffix.
        folder: where to; made if it is missing.
        against: another scorer's hypnogram of the same night, see `scoring.read_scoring`.
        progress: told how far it is.

    Raises:
        JournalError: the session cannot be read.
        RecordingError: the other hypnogram cannot be read.
        UsageError: matplotlib is not installed, or the folder cannot be written.

    """
    from streamer.report.figure import draw_night

    night = read_night(session)
    found = None
    if against is not None:
        found = compare(read_scoring(against, night.started), night.labels, _confidence(night))
    signal = conditioned(night, lambda share: progress(0.5 * share))
    spectrum = multitaper(signal, lambda share: progress(0.5 + 0.35 * share))
    png = draw_night(night, spectrum, None if found is None else found.truth)
    page = night_page(night, png, found, against)
    data = {
        "session": night.meta.session,
        "statistics": night.statistics().to_json(),
        "agreement": None if found is None else found.to_json(),
    }
    html, picture, values = (_folder(folder) / f"{session.stem}{end}" for end in (".html", ".png", ".json"))
    written = Written(html, picture, values, night, found)
    private.write(written.png, png)
    private.write(written.html, page)
    private.write(written.json, json.dumps(data, indent=1) + "\n")
    progress(1.0)
    return written


def write_trend(reports: Sequence[Written], folder: Path) -> Path:
    """Write trend.html, self-contained, with trend.png beside it, from several nights in order of time."""
    from streamer.report.figure import draw_trend

    ordered = sorted(reports, key=lambda report: report.night.started)
    nights = [report.night for report in ordered]
    png = draw_trend(nights)
    html = _folder(folder) / "trend.html"
    private.write(html.with_suffix(".png"), png)
    private.write(html, trend_page(nights, png, [report.html.name for report in ordered]))
    return html


def _confidence(night: Night) -> list[float | None]:
    out: list[float | None] = [None] * len(night.labels)
    for epoch in night.epochs:
        out[epoch.epoch] = epoch.confidence
    return out


def _folder(folder: Path) -> Path:
    try:
        private.make_folder(folder)
    except OSError as error:
        raise UsageError(f"cannot make folder {folder}: {error.strerror}; choose another") from error
    return folder
