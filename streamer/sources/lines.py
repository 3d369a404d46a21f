"""Splits a table into its first lines and its rows; the last row may have been cut."""

from __future__ import annotations

import codecs
import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

from streamer.sources.files import decode_text
from streamer.sources.units import is_voltage

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # what such a file begins with, as spreadsheets write it
DELIMITERS = "\t;,| "
ALIKE = 20  # rows whose decimals show whether the last one is whole
CUT = "its last line has no end, as if it had been cut, and is left out"
MAY_BE_CUT = "its last line has no end, as if it had been cut: its last cell counts as lost"

Line = tuple[int, str]  # its number, from 1, and its text


@dataclass(frozen=True, slots=True)
class Opening:
    """The first lines of a table."""

    preamble: tuple[str, ...]  # `%` and `#` lines
    header: str | None
    first: str  # row; empty if there is none
    delimiter: str
    above: int = 0  # lines between the preamble and the first row
    units: tuple[str, ...] = ()  # of the columns, where they have a line of their own


def opening(path: Path) -> Opening:
    """Read the lines above the rows of a text file, and the first row."""
    preamble: list[str] = []
    with _open(path) as file:
        plain = iter(line for line in file if line.strip())
        header = next(plain, "")
        while header[:1] in ("%", "#"):
            preamble.append(header)
            header = next(plain, "")
        first = next((line for line in plain if line[0] != "%"), "")
        second = next(plain, "")
    delimiter = next((mark for mark in DELIMITERS if mark in header.strip()), ",")
    if not header or _named(split(header, delimiter)):
        units = tuple(split(first, delimiter)) if header else ()
        if not _are_units(units):
            return Opening(tuple(preamble), header or None, first, delimiter, int(bool(header)))
        return Opening(tuple(preamble), header, second, delimiter, 2, units)
    above = preamble[-1].lstrip("#% ") if preamble else ""
    if preamble and preamble[-1][0] == "#" and len(split(above, delimiter)) == len(split(header, delimiter)):
        return Opening(tuple(preamble[:-1]), above, header, delimiter)  # as numpy.savetxt writes it
    return Opening(tuple(preamble), None, header, delimiter)


def rows(path: Path, above: int, delimiter: str, remarks: list[str]) -> Iterator[Line]:
    """Yield the lines after the first `above`. A last line that may have been cut adds a remark.

    Of such a line the last cell is left out, or the whole line if its cells do not fit those above.
    """
    recent: deque[str] = deque(maxlen=ALIKE)
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip() or (line[0] in "%#" and not (recent and _like(line, recent[-1], delimiter))):
                continue
            if above:
                above -= 1
                continue
            if line[-1] not in "\r\n" and not _whole(line, recent, delimiter):
                if '"' in line or not recent or line.count(delimiter) != recent[-1].count(delimiter):
                    remarks.append(CUT)
                    return
                remarks.append(MAY_BE_CUT)
                line = line[: line.rfind(delimiter) + 1]
            recent.append(line)
            yield number, line


def blocks(lines: Iterator[Line], size: int) -> Iterator[list[Line]]:
    """Yield the lines in lists of at most `size`."""
    while block := list(islice(lines, size)):
        yield block


def split(line: str, delimiter: str) -> list[str]:
    """Split a line into its cells, which keep their blanks."""
    line = line.rstrip("\r\n")
    if '"' in line:
        try:
            cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
        except csv.Error:
            return []
    elif delimiter == " ":
        return line.split()
    else:
        cells = line.split(delimiter)
    return cells


def fitted(cells: list[str], width: int) -> list[str]:
    """Drop the empty cell that follows a delimiter at the end of a row."""
    return cells[:-1] if len(cells) == width + 1 and not cells[-1].strip() else cells


def text(cell: str) -> str:
    """Decode a cell, whichever encoding the file has."""
    return decode_text(cell.strip().encode("utf-8", "surrogateescape"))


def _open(path: Path) -> TextIO:
    with path.open("rb") as file:
        wide = file.read(2) in UTF_16
    if wide:
        return path.open(encoding="utf-16", errors="replace", newline="")
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _named(cells: Sequence[str]) -> bool:
    """Whether these cells are a header: one is neither a number nor a time."""
    return any(re.search(r"[^\W\d_]{2,}|^\s*[^\W\d_]", cell) is not None for cell in cells)


def _like(line: str, other: str, delimiter: str) -> bool:
    """Whether a line that looks like a comment is a row with a damaged first character."""
    return line.count(delimiter) == other.count(delimiter) > 0


def _are_units(cells: Sequence[str]) -> bool:
    """Whether these cells are units: one is a voltage, and none has a digit."""
    named = [text(cell).strip("()[] ") for cell in cells]
    return any("v" in one.casefold() and is_voltage(one) for one in named) and not any(
        re.search(r"\d", one) for one in named
    )


def _whole(line: str, recent: Sequence[str], delimiter: str) -> bool:
    """Whether a line without an end is surely whole: it has as many decimals as the lines above."""
    ends = {(one.count(delimiter), _decimals(one)) for one in (*recent, line)}
    return len(recent) == ALIKE and len(ends) == 1 and _decimals(line) > 0


def _decimals(line: str) -> int:
    match = re.search(r"\.(\d+)\s*$", line)
    return len(match[1]) if match else 0
