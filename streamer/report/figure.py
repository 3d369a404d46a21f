"""The picture of a night, as PNG."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, DateFormatter, HourLocator
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from streamer.messages import EPOCH_S, STAGES, Floats
from streamer.night.session import Night, evening_of, zone_of
from streamer.payloads import PublishedStage
from streamer.report.canvas import (
    COLOURS,
    DPI,
    GRADES,
    LOST,
    NARROW,
    RED,
    WIDTH,
    make_figure,
    to_days,
    to_png,
)
from streamer.report.marks import place_names
from streamer.report.spectrum import Spectrogram
from streamer.report.verdict import verdict

ROWS: dict[PublishedStage, int] = {"W": 4, "R": 3, "N1": 2, "N2": 1, "N3": 0}
MARKS: dict[str, str] = {
    "channel_changed": "",
    "lights_off": "lights off",
    "lights_on": "lights on",
    "mark": "",
    "trigger": "trigger",
    "alarm": "alarm",
}
CROWD = 24  # more marks of one name than this are drawn thin, so that they do not hide the panels
FONT = 8
CHARACTER = 0.56 * FONT / 72  # width of an average character of the names above a picture, inches
LONG = 240  # epochs from which the axis has full hours


def draw_night(
    night: Night,
    spectrum: Spectrogram,
    other: Sequence[PublishedStage] | None = None,
    narrow: bool = False,
) -> bytes:
    """Draw hypnogram, hypnodensity, spectrogram and quality over one time axis; return a PNG.

    Args:
        night: as read from its session.
        spectrum: of the same night.
        other: the stages of another scorer, drawn below.
        narrow: for a phone.

    """
    panels = ["hypnogram", *(["other"] if other is not None else []), "density", "spectrum", "quality"]
    heights = {"hypnogram": 2.2, "other": 1.6, "density": 1.8, "spectrum": 2.4, "quality": 0.35}
    width = NARROW if narrow else WIDTH
    figure = make_figure(sum(heights[name] for name in panels) * (0.8 if narrow else 1.12) + 1.2, width)
    axes = figure.subplots(
        len(panels),
        1,
        sharex=True,
        gridspec_kw={"height_ratios": [heights[name] for name in panels]},
        squeeze=False,
    )[:, 0]
    by_name: dict[str, Axes] = dict(zip(panels, axes, strict=True))
    times = _times(night, len(night.labels) + 1)
    _hypnogram(by_name["hypnogram"], times, night.labels, "engine" if other is not None else "stage")
    if other is not None:
        _hypnogram(by_name["other"], times, other, "scorer")
    _density(by_name["density"], times, night)
    _spectrum(figure, by_name["spectrum"], times, spectrum)
    _quality(by_name["quality"], times, night)
    _marks(list(by_name.values()), night, CHARACTER / width)
    if verdict(night).grade == "failed":
        figure.suptitle(
            "FAILED NIGHT: not a result", color=RED, weight="bold", ha="left", x=0.01, fontsize=12
        )
    zone = zone_of(night.meta)
    last = by_name["quality"]
    last.xaxis.set_major_locator(
        HourLocator(interval=2 if narrow else 1, tz=zone)
        if len(night.labels) > LONG
        else AutoDateLocator(maxticks=5 if narrow and night.labels else None, tz=zone)
    )
    last.xaxis.set_major_formatter(DateFormatter("%H:%M", tz=zone))
    if evening_of(night.meta) is None:
        last.set_xlabel("time since the start of the recording")
    else:
        last.set_xlabel("UTC" if zone is UTC else "local time")
    if times.shape[0] > 1:
        last.set_xlim(times[0], times[-1])
    if narrow:  # the legends say it
        for name in ("density", "quality"):
            by_name[name].set_ylabel("")
    figure.align_ylabels(axes)
    return to_png(figure)


def _hypnogram(axis: Axes, times: Floats, labels: Sequence[PublishedStage], name: str) -> None:
    rows = np.array([ROWS.get(label, np.nan) for label in labels], dtype=np.float64)
    if rows.size:
        axis.step(times, np.append(rows, rows[-1]), where="post", color="#7d858c", linewidth=0.7)
    for stage, row in ROWS.items():
        for begin, end in _runs([label == stage for label in labels]):
            axis.plot(
                times[[begin, end]], [row, row], color=COLOURS[stage], linewidth=4, solid_capstyle="butt"
            )
    unscored = [label not in ROWS for label in labels]
    for begin, end in _runs(unscored):
        axis.axvspan(times[begin], times[end], facecolor=LOST, hatch="///", edgecolor="white", linewidth=0)
    axis.set_yticks(list(ROWS.values()), list(ROWS))
    axis.set_ylim(-0.5, 4.5)
    axis.set_ylabel(name)
    if any(unscored):
        patch = Patch(facecolor=LOST, hatch="///", edgecolor="white", label="unscored")
        _legend(axis, [patch], below=True)  # above are the names of the marks


def _density(axis: Axes, times: Floats, night: Night) -> None:
    shares = np.nan_to_num(night.probabilities())
    order = ("N3", "N2", "N1", "R", "W")
    columns = [np.repeat(shares[:, STAGES.index(stage)], 2) for stage in order]
    edges = np.repeat(times, 2)[1:-1]
    axis.stackplot(edges, columns, colors=[COLOURS[stage] for stage in order], labels=order, linewidth=0)
    axis.set_ylim(0, 1)
    axis.set_facecolor(LOST)
    axis.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    axis.set_ylabel("probability")
    _legend(axis, [Patch(color=COLOURS[stage], label=stage) for stage in reversed(order)])


def _spectrum(figure: Figure, axis: Axes, times: Floats, spectrum: Spectrogram) -> None:
    axis.set_facecolor(LOST)
    axis.set_ylabel("Hz")
    axis.set_ylim(0.3, 30)
    shown = spectrum.hz <= 30
    values = spectrum.decibel[:, shown]
    real = values[np.isfinite(values)]
    if not real.size:
        return
    low, high = np.percentile(real, [5, 99])
    step = spectrum.hz[1] - spectrum.hz[0]
    picture = axis.imshow(
        values.T,
        origin="lower",
        aspect="auto",
        extent=(times[0], times[-1], spectrum.hz[0] - step / 2, spectrum.hz[shown][-1] + step / 2),
        cmap="magma",
        vmin=float(low),
        vmax=float(high),
        interpolation="nearest",
    )
    inset = axis.inset_axes((1.012, 0.05, 0.012, 0.9))
    bar = figure.colorbar(picture, cax=inset)
    bar.set_label("dB re 1 µV²/Hz", fontsize=8)
    bar.ax.tick_params(labelsize=8)


def _quality(axis: Axes, times: Floats, night: Night) -> None:
    grades = {epoch.epoch: epoch.quality.grade for epoch in night.epochs}
    row = [grades.get(number) for number in range(len(night.labels))]
    for grade, colour in GRADES.items():
        for begin, end in _runs([found == grade for found in row]):
            axis.axvspan(times[begin], times[end], color=colour, linewidth=0)
    axis.set_facecolor(LOST)
    axis.set_yticks([])
    axis.set_ylabel("quality", rotation=0, ha="right", va="center")
    _legend(axis, [Patch(color=colour, label=grade) for grade, colour in GRADES.items() if grade in row])


def _legend(axis: Axes, handles: list[Patch], below: bool = False) -> None:
    """Add a legend beside a panel; in a narrow picture above it, or below."""
    if not handles:
        return
    if axis.figure.bbox.width > NARROW * DPI:
        axis.legend(
            handles=handles, loc="center left", bbox_to_anchor=(1.005, 0.5), fontsize=8, frameon=False
        )
        return
    axis.legend(
        handles=handles,
        loc="upper left" if below else "lower left",
        bbox_to_anchor=(-0.02, 0.02 if below else 0.97),
        ncols=len(handles),
        handlelength=1.0,
        columnspacing=1.0,
        borderpad=0.2,
        fontsize=8,
        frameon=False,
    )


def _marks(axes: Sequence[Axes], night: Night, character: float) -> None:
    """Draw lights, marks, triggers and alarms as lines through every panel, with names above the first.

    Args:
        axes: of the panels, from above.
        night: with the events.
        character: width of a character, as a share of the picture's width.

    """
    length_s = len(night.labels) * EPOCH_S
    found: list[tuple[float, str]] = []
    for event in night.events:
        seconds = night.seconds_of(event)
        if event.event not in MARKS or not 0 <= seconds <= length_s:
            continue
        found.append((seconds / length_s, MARKS[event.event] or event.text[:30] or "mark"))
    often = Counter(name for _, name in found)
    for share, name in found:
        thin = often[name] > CROWD
        for axis in axes:
            axis.axvline(
                to_days(night.started + share * length_s),
                color="#222222",
                linewidth=0.3 if thin else 0.8,
                linestyle="-" if thin else (0, (4, 3)),
                alpha=0.5 if thin else 1.0,
            )
    for one in place_names(found, character):
        axes[0].annotate(
            one.text, (one.at, 1.0), xycoords="axes fraction", xytext=(0, 4 + (FONT + 3) * one.row),
            textcoords="offset points", ha="right" if one.at == 1 else "center", va="bottom", fontsize=FONT,
        )  # fmt: skip


def _runs(flags: Sequence[bool]) -> list[tuple[int, int]]:
    """Begin and end (exclusive) of every run of True."""
    edges = np.flatnonzero(np.diff([0, *(int(flag) for flag in flags), 0]))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _times(night: Night, count: int) -> Floats:
    return np.asarray(
        [to_days(night.started + EPOCH_S * number) for number in range(count)], dtype=np.float64
    )
