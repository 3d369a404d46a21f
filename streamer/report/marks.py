"""Places the names of a night's marks above its picture, so that none covers another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ROWS = 4  # of names above the picture; what does not fit there is counted instead of named
MARGIN = 0.008  # between two names of a row, as a share of the width


@dataclass(frozen=True, slots=True)
class Name:
    """A text above a picture."""

    at: float  # of its middle, 0..1 of the picture's width
    text: str
    row: int  # 0 is the lowest


def spread(marks: Sequence[tuple[float, str]], character: float) -> list[Name]:
    """Give each mark a name in the lowest row where it covers no other.

    Marks of one name whose texts would touch become one, such as "4 alarms"; what fits into no row becomes
    "N marks".

    Args:
        marks: place (0..1 of the width) and text of each.
        character: width of a character, as a share of the picture's.

    """
    names = sorted(_gathered(marks, character))
    taken: list[list[tuple[float, float]]] = [[] for _ in range(ROWS)]
    out: list[Name] = []
    crowded: list[tuple[float, int]] = []
    for at, text, count in names:
        shown = _counted(text, count)
        middle = _inside(at, shown, character)
        begin, end = _extent(middle, shown, character)
        row = next((row for row in range(ROWS) if _free(taken[row], begin, end)), None)
        if row is None:
            crowded.append((at, count))
        else:
            taken[row].append((begin, end))
            out.append(Name(middle, shown, row))
    if crowded:
        count = sum(number for _, number in crowded)
        out.append(Name(1.0, f"and {count} more", ROWS))
    return out


def _gathered(marks: Sequence[tuple[float, str]], character: float) -> list[tuple[float, str, int]]:
    """Those of one name that stand so near that their names would touch: (middle, name, how many)."""
    out: list[tuple[float, str, int]] = []
    for text in dict.fromkeys(text for _, text in marks):
        near: list[float] = []
        for at in sorted(place for place, other in marks if other == text):
            if near and at - near[-1] > (len(text) + 4) * character:
                out.append((sum(near) / len(near), text, len(near)))
                near = []
            near.append(at)
        out.append((sum(near) / len(near), text, len(near)))
    return out


def _counted(text: str, count: int) -> str:
    return text if count == 1 else f"{count} {text}{'' if text.endswith('s') else 's'}"


def _extent(middle: float, text: str, character: float) -> tuple[float, float]:
    half = len(text) * character / 2 + MARGIN / 2
    return middle - half, middle + half


def _inside(at: float, text: str, character: float) -> float:
    """So that a name at an edge does not leave the picture."""
    half = min(0.5, len(text) * character / 2)
    return min(max(at, half), 1 - half)


def _free(taken: Sequence[tuple[float, float]], begin: float, end: float) -> bool:
    return all(end <= other_begin or begin >= other_end for other_begin, other_end in taken)
