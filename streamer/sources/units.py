"""The table of voltage units, used by readers, staging, checks and exports."""

from __future__ import annotations

import re
import unicodedata

from streamer.errors import UsageError

# µV per volt of each prefix.
_PREFIXES_UV = {
    "": 1e6,
    "m": 1e3,
    "milli": 1e3,
    "u": 1.0,
    "μ": 1.0,
    "mu": 1.0,
    "micro": 1.0,
    "n": 1e-3,
    "nano": 1e-3,
}
_POWERS_UV = {"0": 1e6, "-3": 1e3, "-6": 1.0, "-9": 1e-3}
# How files write that they know no unit: µV is then assumed.
_NOTHING = ("", "none", "n/a", "na", "nan", "null", "unknown", "undefined", "-", "?")
# A mu that was damaged by a wrong encoding; nothing else can stand there.
_LOST_MU = re.compile(r"(?:Âµ|Î¼|æ|\?|\ufffd+)(?=V)")
_VOLTS = re.compile(r"(.*?)(?:v|volts?)")
_POWER = re.compile(r"(?:10(?:\^|\*\*)|1e)([-+]?\d+)[*x·]?(?:v|volts?)")
SUGGESTED = ("uV", "V", "mV", "nV")  # units to try where a signal looks wrong in its own


def microvolts_in(unit: str) -> float | None:
    """Return how many µV one `unit` is: 1 if the source gives no unit, None if it is not a voltage.

    Takes V, mV, µV (with either mu, or u) and nV in upper or lower case, their names, and powers of ten such
    as `10^-6V`.
    """
    text = _LOST_MU.sub("u", unit.strip(" \t\r\n\0[]()"))
    text = "".join(unicodedata.normalize("NFKC", text).casefold().replace("−", "-").replace("_", " ").split())
    if text in _NOTHING:
        return 1.0
    power = _POWER.fullmatch(text)
    if power is not None:
        return _POWERS_UV.get(str(int(power[1])))
    volts = _VOLTS.fullmatch(text)
    return _PREFIXES_UV.get(volts[1]) if volts is not None else None


def microvolts_per(unit: str) -> float:
    """Return how many µV one `unit` is, as `microvolts_in` does.

    Raises:
        UsageError: the unit is not a voltage.

    """
    factor = microvolts_in(unit)
    if factor is None:
        raise UsageError(
            f"unit {unit!r} is not a voltage; choose an EEG channel, or give its unit: V, mV, uV or nV"
        )
    return factor


def is_voltage(unit: str) -> bool:
    """Whether a signal with this unit can be EEG; one without a unit can."""
    return microvolts_in(unit) is not None
