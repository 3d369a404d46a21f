"""Recognises caps with a naming system other than 10-20, some labels of which look like 10-20 labels.

On BioSemi's caps of 64 and more electrodes, A1 lies on the vertex or the forehead and C4 anywhere; EGI's nets
have E1 to E256 and perhaps a Cz, which is their reference and flat. If most labels belong to such a system, a
label that also fits the 10-20 system must not be staged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LEAST = 3  # fewer labels do not show which system it is
_TEN_TEN = re.compile(
    r"(?:fp[z1-2]|[ai]z|nz|a[12]|m[12]|(?:af|f|ft|fc|t|c|tp|cp|p|po|o|i)(?:z|10|[1-9]))(?:[-:/ _].+)?"
)
BIOSEMI = "BioSemi's (A1 to A32, B1 to B32 ...)"
_OTHERS = {
    BIOSEMI: re.compile(r"[a-h](?:[1-9]|[12][0-9]|3[0-2])(?:[-:/ _].+)?"),
    "EGI's (E1 to E256)": re.compile(r"e[1-9][0-9]{0,2}(?:[-:/ _].+)?"),
    "plain numbers": re.compile(r"(?:ch|chan|channel|electrode|eeg|e|exg|exg channel)?[ _.-]*[0-9]{1,3}"),
}
_WHERE = {
    BIOSEMI: "; C4 is A23 on its cap of 32 electrodes, B18 on that of 64, B22 on that of 128",
}


def other_system(labels: Iterable[str]) -> str | None:
    """Return the naming system of most labels, or None if it is the 10-20 system or unknown.

    `labels` are of the channels that could be EEG, lower case, without a leading "eeg ". Names that belong to
    both, such as A1 and C4, do not count.
    """
    known = 0
    counts = dict.fromkeys(_OTHERS, 0)
    for label in labels:
        there = [name for name, pattern in _OTHERS.items() if pattern.fullmatch(label)]
        ten_ten = _TEN_TEN.fullmatch(label) is not None
        known += ten_ten and not there
        for name in () if ten_ten else there:
            counts[name] += 1
    most = max(counts, key=lambda name: counts[name])
    return most if counts[most] >= LEAST and counts[most] > known else None


def shared(label: str, system: str) -> bool:
    """Whether a label belongs to the 10-20 system and to the other, as C4 and A1 do to BioSemi's."""
    return _OTHERS[system].fullmatch(label) is not None and _TEN_TEN.fullmatch(label) is not None


def describe_cap(system: str) -> str:
    """Describe such a cap, as part of a sentence."""
    return f"most labels are {system}, not the 10-20 system's{_WHERE.get(system, '')}"
