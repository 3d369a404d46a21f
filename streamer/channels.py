"""Finds the channel to stage: by label, position or difference, or by well-known labels if none is named."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from streamer.errors import SignalError, UsageError
from streamer.messages import Channel
from streamer.sources.caps import BIOSEMI, describe_cap, other_system, shared
from streamer.sources.units import is_voltage

RATES_HZ = (50.0, 1024.0)  # below there are no spindles; above there is nothing that staging needs

# Best first: the derivation that the network was trained on, then AASM's and R&K's (to A1 and A2).
DERIVATIONS = (
    *("Fpz-Cz", "C4-M1", "C3-M2", "C4-A1", "C3-A2", "C3-A1", "C4-A2", "C3-M1", "C4-M2", "Cz-A1", "Cz-A2"),
    *("Cz-M1", "Cz-M2", "F4-M1", "F3-M2", "F4-A1", "F3-A2", "Fp2-M1", "Fp1-M2", "Pz-Oz", "O2-M1", "O1-M2"),
)
ELECTRODES = ("AF7", "AF8", "TP9", "TP10")
SITES = (
    *(
        "Cz",
        "C4",
        "C3",
        "Fz",
        "F4",
        "F3",
        "Fpz",
        "Fp2",
        "Fp1",
        "Pz",
        "P4",
        "P3",
        "Oz",
        "O2",
        "O1",
        "F8",
        "F7",
    ),
    *("T4", "T3", "T8", "T7", "T6", "T5", "P8", "P7", "AFz", "FCz", "CPz", "POz", "AF4", "AF3"),
)
LISTED = 24  # channels named in an error; a clinical montage has a hundred

Wanted = str | tuple[str, ...] | None  # one channel, several to fall back on, or None: choose by the labels


_PREFIX = re.compile(r"^(?:eeg|raw)[ ._]+(?=\S)")
_NUMBERED = re.compile(r"#[1-9][0-9]*$")


@dataclass(frozen=True, slots=True)
class Pick:
    """A channel, or the difference of two, as indices."""

    plus: int
    minus: int | None
    label: str


def choose(channels: Sequence[Channel], wanted: Wanted, rates_hz: Sequence[float] = ()) -> Pick:
    """Find one channel by name; of a list, the first.

    Args:
        channels: of the stream.
        wanted: a label (upper or lower case, with or without a leading "EEG "), a position such as "#3"
            (counted from 0), one of several equal labels such as "C4#2" (counted from 1), or a difference
            such as "AF7-TP9" (a label that contains "-" itself has precedence). None: the best-known EEG
            derivation that is a voltage at 50-1024 Hz.
        rates_hz: each channel's sampling rate, if they differ.

    Raises:
        UsageError: no channel matches, or more than one does; the text lists the channels, nearest first.

    """
    if wanted is None:
        return _sensible(channels, rates_hz)
    if isinstance(wanted, tuple):
        return choose_all(channels, wanted, rates_hz)[0]
    single = _one(channels, wanted)
    if single is not None:
        return Pick(single, None, channels[single].label)
    pairs = _pairs(channels, wanted)
    if len(pairs) > 1:
        readings = " or ".join(repr(pick.label) for pick in pairs)
        raise UsageError(f"channel {wanted!r} can be read in {len(pairs)} ways ({readings}); use positions")
    if not pairs:
        raise UsageError(f"no channel {wanted!r}; there are: {list_channels(channels, rates_hz, wanted)}")
    pick = pairs[0]
    if rates_hz and pick.minus is not None and rates_hz[pick.plus] != rates_hz[pick.minus]:
        rates = f"{rates_hz[pick.plus]:g} and {rates_hz[pick.minus]:g} Hz"
        raise UsageError(
            f"{pick.label!r} cannot be computed: its channels have {rates}; choose two channels of equal rate"
        )
    return pick


def choose_all(
    channels: Sequence[Channel], wanted: Wanted, rates_hz: Sequence[float] = ()
) -> tuple[Pick, ...]:
    """Find every channel of a list, or the one of a single name; arguments as for `choose`.

    Raises:
        UsageError: as for `choose`, or two entries mean the same channel.

    """
    if not isinstance(wanted, tuple):
        return (choose(channels, wanted, rates_hz),)
    picks = tuple(choose(channels, one, rates_hz) for one in wanted)
    labels = [pick.label for pick in picks]
    if len({(pick.plus, pick.minus) for pick in picks}) < len(picks):
        raise UsageError(f"the channels {', '.join(wanted)} are {', '.join(labels)}: name each one only once")
    return picks


def doubt_name(channels: Sequence[Channel], rates_hz: Sequence[float], pick: Pick) -> str | None:
    """Return a warning if the label may be another place on this cap than in the 10-20 system."""
    system = other_system(_usable_labels(channels, rates_hz))
    sides = [pick.plus] if pick.minus is None else [pick.plus, pick.minus]
    if system is None or not any(shared(_base(channels[side].label), system) for side in sides):
        return None
    return f"{pick.label!r} may not be {pick.label} of the 10-20 system: {describe_cap(system)}"


def check_rate(rate_hz: float, what: str) -> None:
    """Refuse a rate outside 50-1024 Hz.

    Raises:
        SignalError: the rate is outside; `what` names the channel in the message.

    """
    low, high = RATES_HZ
    if not low <= rate_hz <= high:
        raise SignalError(f"{what} has {rate_hz:g} Hz; sleep staging needs {low:g} to {high:g} Hz of EEG")


def list_channels(channels: Sequence[Channel], rates_hz: Sequence[float] = (), near: str = "") -> str:
    """List the channels in one line with rate and unit: those similar to `near` first, non-EEG last."""

    def order(index: int) -> tuple[bool, float]:
        likeness = difflib.SequenceMatcher(None, _plain(near), _plain(channels[index].label)).ratio()
        return not _usable(channels, rates_hz, index), -likeness if near else 0.0

    def describe(index: int) -> str:
        rate = f"{rates_hz[index]:g} Hz" if rates_hz else ""
        about = ", ".join(part for part in (rate, channels[index].unit) if part)
        return f"{channels[index].label} ({about})" if about else channels[index].label

    ranked = sorted(range(len(channels)), key=order)
    more = f" and {len(ranked) - LISTED} more" if len(ranked) > LISTED else ""
    return ", ".join(describe(index) for index in ranked[:LISTED]) + more if ranked else "none"


def _plain(label: str) -> str:
    """Normalise a label: compatible characters, lower case, single spaces, no leading "EEG "."""
    text = " ".join(unicodedata.normalize("NFKC", label).casefold().split())
    return _PREFIX.sub("", text)


def _base(label: str) -> str:
    """Normalise a label, and remove the number that distinguishes equal labels ("C4#2")."""
    return _plain(_NUMBERED.sub("", label))


def _one(channels: Sequence[Channel], wanted: str) -> int | None:
    """The one channel with this label or position; None if there is none."""
    exact = [index for index, channel in enumerate(channels) if channel.label == wanted]
    if not exact and re.fullmatch(r"#[0-9]+", wanted):
        return _at(channels, int(wanted[1:]))
    found = exact or _like(channels, wanted)
    if len(found) > 1:
        both = ", ".join(f"#{_position(channels, index)} {channels[index].label!r}" for index in found)
        raise UsageError(
            f"channel {wanted!r} is ambiguous: {both}; name it by its position, such as "
            f"'#{_position(channels, found[0])}'"
        )
    return found[0] if found else None


def _like(channels: Sequence[Channel], wanted: str) -> list[int]:
    """The channels with this label, after normalisation."""
    plain = _plain(wanted)
    found = [index for index, channel in enumerate(channels) if _plain(channel.label) == plain]
    found = found or [index for index, channel in enumerate(channels) if _base(channel.label) == plain]
    number = _NUMBERED.search(wanted)
    if found or number is None:
        return found
    equal = [index for index, channel in enumerate(channels) if _plain(channel.label) == _base(wanted)]
    return equal[int(number[0][1:]) - 1 :][:1]


def _position(channels: Sequence[Channel], index: int) -> int:
    """A channel's position in its device, if known, else its index."""
    position = channels[index].position
    return index if position is None else position


def _at(channels: Sequence[Channel], position: int) -> int | None:
    return next((index for index in range(len(channels)) if _position(channels, index) == position), None)


def _pairs(channels: Sequence[Channel], wanted: str) -> list[Pick]:
    """Every way to read `wanted` as one channel minus another."""
    out = []
    for dash in re.finditer("-", wanted):
        sides = wanted[: dash.start()].strip(), wanted[dash.end() :].strip()
        plus, minus = (_one(channels, side) if side else None for side in sides)
        if plus is not None and minus is not None:
            out.append(Pick(plus, minus, f"{channels[plus].label}-{channels[minus].label}"))
    return out


def _usable(channels: Sequence[Channel], rates_hz: Sequence[float], index: int) -> bool:
    rate_fits = not rates_hz or RATES_HZ[0] <= rates_hz[index] <= RATES_HZ[1]
    return rate_fits and is_voltage(channels[index].unit)


def _usable_labels(channels: Sequence[Channel], rates_hz: Sequence[float]) -> dict[str, int]:
    """The channels that could be EEG, by normalised label; of equal labels the first."""
    usable: dict[str, int] = {}
    for index, channel in enumerate(channels):
        if _usable(channels, rates_hz, index):
            usable.setdefault(_base(channel.label), index)
    return usable


def _sensible(channels: Sequence[Channel], rates_hz: Sequence[float]) -> Pick:
    """Choose by label: a known derivation, else a difference of two electrodes, else a known electrode."""
    usable = _usable_labels(channels, rates_hz)
    system = other_system(usable)
    for name in DERIVATIONS:
        known = usable.get(_plain(name))
        if known is not None and system != BIOSEMI:
            return Pick(known, None, channels[known].label)
    if system is not None:
        listed = list_channels(channels, rates_hz)
        raise UsageError(f"no channel is clearly EEG: {describe_cap(system)}; name one of: {listed}")
    for name in DERIVATIONS:
        plus, minus = (usable.get(_plain(side)) for side in name.split("-"))
        if plus is not None and minus is not None and (not rates_hz or rates_hz[plus] == rates_hz[minus]):
            return Pick(plus, minus, f"{channels[plus].label}-{channels[minus].label}")
    for site in (*ELECTRODES, *SITES):
        pattern = re.compile(rf"{_plain(site)}([-:/ _]\w+)?")
        for label, index in usable.items():
            if pattern.fullmatch(label):
                return Pick(index, None, channels[index].label)
    if len(usable) == 1 and len(channels) == 1:
        return Pick(0, None, channels[0].label)
    raise UsageError(f"no channel is clearly EEG; name one of: {list_channels(channels, rates_hz)}")
