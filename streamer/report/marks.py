"""Places the names of a night's marks above its picture, so that they do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ROWS = 4  # rows of names above the picture; names that do not fit are counted instead
MARGIN = 0.008  # between two names of a row, as a share of the picture's width


@dataclass(frozen=True, slots=True)
class Name:
    """A name above a picture."""

    at: float  # of its middle, as a share of the picture's width
    text: str
    row: int  # 0 is the lowest


def place_names(marks: Sequence[tuple[float, str]], character: float) -> list[Name]:
    """Place each mark's name in the lowest row where it is free.

    Marks of one name whose texts would touch become one text, such as "4 alarms". Marks that fit into no row
    become "and N more".

    Args:
        marks: place (as a share of the width) and text of each.
        character: width of a character, as a share of the picture's width.

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
    """Join marks of one name whose texts would touch: (middle, name, how many)."""
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
    """Move a name at an edge into the picture."""
    half = min(0.5, len(text) * character / 2)
    return min(max(at, half), 1 - half)


def _free(taken: Sequence[tuple[float, float]], begin: float, end: float) -> bool:
    return all(end <= other_begin or begin >= other_end for other_begin, other_end in taken)
