"""Finds the sleep stage that a scorer's word or number means."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from streamer.messages import UNSCORED, Label

_PREFIX = re.compile(r"(?:aasm[\s_:-]*)?(?:sleep[\s_-]*stage|sleep|stage)(?:-|[\s_:.=]+|(?=[a-z0-9?]))")
_NUMBER = re.compile(r"[+-]?\d+(?:\.0*)?")
_NREM = re.compile(r"(?:n|s|nrem|nonrem|stage|nremstage)([1-4])")
# Rechtschaffen and Kales' stages 3 and 4 are AASM's N3; their movement time has no counterpart.
_NAMES: Final[dict[str, Label]] = {
    **dict.fromkeys(("w", "wk", "wake", "awake", "wakefulness", "wach", "s0", "n0", "stagew"), "W"),
    **dict.fromkeys(("r", "rem", "rems", "sr", "srem", "stager"), "R"),
    **dict.fromkeys(("sws", "slowwave", "s3s4", "n3n4", "s34"), "N3"),
    **dict.fromkeys(("", "uns", "unscored", "notscored", "unknown", "undefined", "nan", "na"), UNSCORED),
    **dict.fromkeys(("nosignal", "art", "artefact", "artifact", "none", "null", "nostage"), UNSCORED),
    **dict.fromkeys(("m", "mt", "mvt", "movement", "movementtime", "bodymovement"), UNSCORED),
}
_NUMBERS: Final[dict[int, Label]] = {
    -2: UNSCORED,
    -1: UNSCORED,
    0: "W",
    1: "N1",
    2: "N2",
    3: "N3",
    4: "N3",
    5: "R",
    **dict.fromkeys((6, 7, 9), UNSCORED),  # movement time, unscored
}
MOST_DIGITS = 16
_YASA_UNSCORED = -2  # only YASA's numbers have it
_OLD = (6, 7, 9)  # movement or unscored in Rechtschaffen and Kales' numbers and Profusion's


def label_of(text: str) -> Label:
    """Return the stage that one word means: "N2", "Sleep stage S2", "WAKE", "REM", "NREM 3", "?", "2" ...

    A bare number is read as Rechtschaffen and Kales' (4: S4, 5: REM). For a whole file use `labels_of`.

    Raises:
        ValueError: the word does not mean a stage.

    """
    found = _named(text)
    if found is None:
        number = _bare_number(text)
        found = None if number is None else _NUMBERS.get(number)
    if found is None:
        raise ValueError(f"{text.strip()!r} is not a sleep stage")
    return found


def labels_of(words: Sequence[str]) -> list[Label | None]:
    """Return the stages that the words of one file mean; None for a word that is not understood.

    The meaning of a bare 4 depends on the other words. With a 5, 6, 7 or 9, or with REM by name, 4 is S4
    (Rechtschaffen and Kales, Profusion). With a -2 the numbers are YASA's, and 4 is REM.

    Raises:
        ValueError: there is a 4, and nothing tells which of the two it is.

    """
    numbers = _NUMBERS | {4: _meaning_of_4(words)}
    found: list[Label | None] = []
    for word in words:
        number = _bare_number(word)
        found.append(_named(word) if number is None else numbers.get(number))
    return found


def is_stage_text(text: str) -> bool:
    """Whether a text begins like a sleep stage ("Sleep stage ..."), even if the stage is not understood."""
    return (
        re.match(r"(?:sleep[\s_-]*)?stage(?:[\s_:.-]|$)|sleep[\s_-]+(?:s\d|rem|n\d|w|mt|uns)", _plain(text))
        is not None
    )


def is_named_stage(text: str) -> bool:
    """Whether a text names a stage; bare numbers and empty texts do not."""
    return bool(text.strip()) and _bare_number(text) is None and _named(text) is not None


def _meaning_of_4(words: Sequence[str]) -> Label:
    numbers = {number for word in words if (number := _bare_number(word)) is not None}
    if 4 not in numbers or 5 in numbers or any(_named(word) == "R" for word in words):
        return "N3"
    yasa, old = _YASA_UNSCORED in numbers, not numbers.isdisjoint(_OLD)
    if yasa == old:
        others = ", a -2 and a 6, 7 or 9" if old else " and no 5"
        raise ValueError(
            f"found a 4{others}: 4 is REM in YASA's numbers, but S4 in Rechtschaffen and Kales'; write R or "
            "N3 instead of each 4"
        )
    return "R" if yasa else "N3"


def _plain(text: str) -> str:
    """Normalise a text for comparison: lower case, no quotes, no `@@channel`, which EDF+ appends."""
    text = unicodedata.normalize("NFKC", text).casefold().partition("@@")[0]
    return " ".join(text.strip(" \t\"'\0").split())


def _bare_number(text: str) -> int | None:
    plain = _plain(text)
    return _whole(plain) if _NUMBER.fullmatch(plain) else None


def _whole(number: str) -> int:
    """Convert a number that `_NUMBER` matches; -3, which is no stage, if it has too many digits."""
    return int(number.partition(".")[0]) if len(number) < MOST_DIGITS else -3


def _named(text: str) -> Label | None:
    """The stage that a word names, also as "stage 2"; None for a bare number or another word."""
    plain = _plain(text)
    rest = _PREFIX.sub("", plain, count=1).strip() if _PREFIX.match(plain) else plain
    if rest == "?" or rest in ("n/a", "-"):
        return UNSCORED
    if _NUMBER.fullmatch(rest):
        return None if rest == plain else _NUMBERS.get(_whole(rest))
    key = re.sub(r"[\W_]+", "", rest)
    key = key.removesuffix("sleep") or key
    if not key and plain:
        return None  # only punctuation, or "sleep stage" without a stage
    nrem = _NREM.fullmatch(key) or (re.fullmatch(r"([1-4])", key) if rest != plain else None)
    return _NUMBERS[int(nrem[1])] if nrem else _NAMES.get(key)
