"""Reports: one night as an HTML page with a picture, several nights as a trend."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from streamer import __version__
from streamer.errors import RecordingError, UsageError
from streamer.host import private
from streamer.night.names import Named, find_sessions, make_distinct, name_session
from streamer.night.scoring import read_scoring
from streamer.night.scoring.comparison import Comparison, compare
from streamer.night.session import Night, Progress, ignore_progress, read_conditioned, read_night
from streamer.report.page import make_night_page, make_trend_page
from streamer.report.spectrum import compute_multitaper

__all__ = [
    "Named",
    "WrittenReport",
    "find_sessions",
    "make_distinct",
    "name_session",
    "write_report",
    "write_trend",
]

MADE_FROM = "made_from"  # key in a report's JSON: a digest of its inputs


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """The files of a report, and its night.

    Attributes:
        html: the page.
        png: the picture.
        json: the numbers.
        night: the night that they show.
        made_from: a digest of the report's inputs.
        drawn: True: the files were written now; False: they existed, and nothing has changed since.
        compared: agreement with another scorer, if that was asked for.

    """

    html: Path
    png: Path
    json: Path
    night: Night
    made_from: str
    drawn: bool
    compared: Comparison | None = None


def write_report(
    session: Named, folder: Path, against: Path | None = None, progress: Progress = ignore_progress
) -> WrittenReport:
    """Write NAME.html, self-contained, with NAME.png and NAME.json beside it.

    An older report of the same session is replaced, or kept if nothing has changed. A report of another
    session is never replaced.

    Args:
        session: the session file, and NAME.
        folder: of the report; created if it is missing.
        against: a scorer's hypnogram of the same night to compare with, see `scoring.read_scoring`.
        progress: called with the share done, 0 to 1.

    Raises:
        JournalError: the session cannot be read.
        RecordingError: the other hypnogram cannot be read.
        UsageError: the folder cannot be written.

    """
    night = read_night(session.path)
    found = None
    if against is not None:
        found = compare(read_scoring(against, night.started), night.labels, _confidence(night))
    name = session.free_in(folder)
    html, picture, values = (_folder(folder) / f"{name}{end}" for end in (".html", ".png", ".json"))
    made_from = _digest(session.path, against)
    kept = html.is_file() and picture.is_file() and _made_from(values) == made_from
    if not kept:
        _draw(night, found, against, (html, picture, values), made_from, progress)
    progress(1.0)
    return WrittenReport(html, picture, values, night, made_from, not kept, found)


def write_trend(reports: Sequence[WrittenReport], folder: Path, name: str = "trend") -> tuple[Path, bool]:
    """Write NAME.html, self-contained, with NAME.png beside it: several nights in order of time.

    Returns:
        The page, and whether it was written now; it is kept if nothing has changed.

    """
    ordered = sorted(reports, key=lambda report: (report.night.started, report.html.name))
    html = _folder(folder) / f"{name}.html"
    made_from = sha256("\n".join(f"{one.html.name} {one.made_from}" for one in ordered).encode()).hexdigest()
    picture = html.with_suffix(".png")
    if picture.is_file() and html.is_file() and made_from in html.read_text(encoding="utf-8")[:1000]:
        return html, False
    from streamer.report.trend import draw_trend

    nights = [report.night for report in ordered]
    png = draw_trend(nights)
    private.write(picture, png)
    links = [report.html.name for report in ordered]
    private.write(html, make_trend_page(nights, (png, draw_trend(nights, narrow=True)), links, made_from))
    return html, True


def _draw(
    night: Night,
    found: Comparison | None,
    against: Path | None,
    files: tuple[Path, Path, Path],
    made_from: str,
    progress: Progress,
) -> None:
    from streamer.report.figure import draw_night

    signal = read_conditioned(night, lambda share: progress(0.5 * share))
    spectrum = compute_multitaper(signal, lambda share: progress(0.5 + 0.35 * share))
    truth = None if found is None else found.truth
    png, narrow = (draw_night(night, spectrum, truth, narrow) for narrow in (False, True))
    data = {
        "session": night.meta.session,
        **night.described(),
        "statistics": night.statistics().to_json(),
        "agreement": None if found is None else found.to_json(),
        MADE_FROM: made_from,
    }
    html, picture, values = files
    private.write(picture, png)
    private.write(html, make_night_page(night, (png, narrow), found, against))
    private.write(values, json.dumps(data, indent=1) + "\n")  # last: it marks the report as complete


def _digest(session: Path, against: Path | None) -> str:
    """A digest of the session file's state, the scorer's file and this program's version."""
    parts = [__version__]
    for path in (session, session.with_name(f"{session.name}-wal")):
        if path.is_file():
            state = path.stat()
            parts.append(f"{path.name} {state.st_size} {state.st_mtime_ns}")
    if against is not None:
        try:
            parts.append(f"{against.name} {sha256(against.read_bytes()).hexdigest()}")
        except OSError as error:
            raise RecordingError(f"cannot read {against}: {error.strerror}; check the path") from error
    return sha256("\n".join(parts).encode()).hexdigest()


def _made_from(values: Path) -> str | None:
    try:
        found = json.loads(values.read_text(encoding="utf-8")).get(MADE_FROM)
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def _confidence(night: Night) -> list[float | None]:
    out: list[float | None] = [None] * len(night.labels)
    for epoch in night.epochs:
        out[epoch.epoch] = epoch.confidence
    return out


def _folder(folder: Path) -> Path:
    try:
        private.make_folder(folder)
    except OSError as error:
        raise UsageError(f"cannot create folder {folder}: {error.strerror}; choose another") from error
    return folder
