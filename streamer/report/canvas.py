"""Colours, size and PNG output, for every picture of a report."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import date2num
from matplotlib.figure import Figure

COLOURS = {"W": "#e9a820", "R": "#c2408b", "N1": "#7fc4d9", "N2": "#3b82c4", "N3": "#1e3a78"}
GRADES = {"good": "#4c9f70", "fair": "#d9c94a", "poor": "#e07b39", "off": "#b3261e"}
LOST = "#d0d0d0"
RED = "#b3261e"
WIDTH = 11.0  # inches
NARROW = 4.2  # inches, for a phone
DPI = 110


def make_figure(height: float, width: float = WIDTH) -> Figure:
    """Make an empty figure of this size in inches, without a window."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure) -> bytes:
    """Convert a finished figure to PNG."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def to_days(seconds: float) -> float:
    """Convert Unix time, s, to matplotlib's days."""
    return float(date2num(datetime.fromtimestamp(seconds, UTC)))
