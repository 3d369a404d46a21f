"""The picture of several nights: their main figures by date, one line per sleeper."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from streamer.messages import Floats
from streamer.night.session import Night, evening_of
from streamer.report.canvas import COLOURS, NARROW, RED, WIDTH, make_figure, to_png
from streamer.report.verdict import verdict

SHOWN = {
    "tst_min": "total sleep, min",
    "se_percent": "efficiency, %",
    "sol_min": "onset latency, min",
    "waso_min": "wake after onset, min",
    "n3_percent": "N3, %",
    "r_percent": "R, %",
}
LINES = (
    COLOURS["N2"],
    COLOURS["R"],
    COLOURS["W"],
    "#4c9f70",
    COLOURS["N3"],
    COLOURS["N1"],
    "#7a5195",
    "#8c564b",
)
TICKS = 6  # about as many dates fit below a picture
LEAST_SPAN = 4.0  # shortest axis, minutes or percent
NAMED = 12  # with more sleepers the legend is left out
NAME = 9  # characters of a recording's name below the picture


def draw_trend(nights: Sequence[Night], narrow: bool = False) -> bytes:
    """Draw each night's main figures by date; a failed night is a cross without a value.

    Nights lie at their dates. If a sleeper has two nights of one date, or a night has no date, all lie side
    by side in the given order.

    Args:
        nights: as read from their sessions.
        narrow: for a phone: the panels one below the other.

    """
    columns = 1 if narrow else 2
    rows = len(SHOWN) // columns
    figure = make_figure((1.6 if narrow else 2.5) * rows, NARROW if narrow else WIDTH)
    axes = figure.subplots(rows, columns, sharex=True).ravel()
    places, names = _places(nights)
    failed = np.array([verdict(night).grade == "failed" for night in nights])
    statistics = [night.statistics().to_json() for night in nights]
    lines = _lines(nights)
    for axis, (name, title) in zip(axes, SHOWN.items(), strict=True):
        values = np.array([np.nan if (one := each[name]) is None else one for each in statistics], np.float64)
        fine = np.where(failed, np.nan, values)
        for members, colour in zip(lines.values(), LINES * len(lines), strict=False):
            axis.plot(places[members], fine[members], "o-", color=colour, markersize=5)
        if failed.any():  # matplotlib cannot place an empty line
            on_the_edge = axis.get_xaxis_transform()  # y is a place in the panel, not a value
            none = np.zeros(int(failed.sum()))
            axis.plot(
                places[failed],
                none,
                "x",
                color=RED,
                markersize=9,
                mew=2,
                transform=on_the_edge,
                clip_on=False,
            )
        axis.set_title(title, fontsize=10, loc="left")
        axis.grid(axis="y", color="#e5e5e5")
        axis.margins(y=0.2)
        _bound(axis)
    _name_nights(axes, places, names)
    handles = [
        Line2D([], [], color=colour, marker="o", label=name)
        for name, colour in zip(lines, LINES * len(lines), strict=False)
        if 1 < len(lines) <= NAMED
    ]
    if failed.any():
        cross = Line2D([], [], color=RED, marker="x", linestyle="", mew=2, label="failed night: no value")
        handles.append(cross)
    if handles:
        figure.legend(
            handles=handles, loc="outside upper right", ncols=2 if narrow else 6, fontsize=9, frameon=False
        )
    return to_png(figure)


def _bound(axis: Axes) -> None:
    """Set the axis: not below zero, and not shorter than LEAST_SPAN."""
    low, high = axis.get_ylim()
    if high - low < LEAST_SPAN:
        middle = (low + high) / 2
        low, high = middle - LEAST_SPAN / 2, middle + LEAST_SPAN / 2
    axis.set_ylim(max(low, -0.06 * high), high)


def _places(nights: Sequence[Night]) -> tuple[Floats, list[str]]:
    """The place of each night on the axis, and its label."""
    dates = [evening_of(night.meta) for night in nights]
    days = [(one.meta.stream, date) for one, date in zip(nights, dates, strict=True)]
    names = [
        one.sleeper[:NAME] if date is None else f"{date.day} {date:%b}"
        for one, date in zip(nights, dates, strict=True)
    ]
    known = [date for date in dates if date is not None]
    if len({date.year for date in known}) > 1:
        names = [
            name if date is None else f"{name}\n{date.year}" for name, date in zip(names, dates, strict=True)
        ]
    if len(known) < len(dates) or len(set(days)) < len(days):
        if len({one.sleeper for one in nights}) > len({one.meta.stream for one in nights}):  # of recordings
            names = [
                name if date is None else f"{name}\n{one.sleeper[:NAME]}"
                for one, date, name in zip(nights, dates, names, strict=True)
            ]
        return np.arange(len(dates), dtype=np.float64), names
    return np.array([date.toordinal() for date in known], dtype=np.float64), names


def _name_nights(axes: Sequence[Axes], places: Floats, names: Sequence[str]) -> None:
    """Write dates below the nights, as many as fit, and none for a day without a night."""
    first, last = float(places.min()), float(places.max())
    margin = max(0.5, 0.04 * (last - first))
    least = (last - first) / TICKS
    shown: list[int] = []
    for number in np.argsort(places, kind="stable").tolist():
        if not shown or places[number] - places[shown[-1]] >= max(least, 1e-9):
            shown.append(number)
    for axis in axes:
        axis.set_xlim(first - margin, last + margin)
        axis.set_xticks(places[shown], [names[number] for number in shown])


def _lines(nights: Sequence[Night]) -> dict[str, list[int]]:
    """The indices of each sleeper's nights, in order."""
    out: dict[str, list[int]] = {}
    for number, night in enumerate(nights):
        out.setdefault(night.meta.stream, []).append(number)
    return out
