"""Joins streams of an XDF file that are pieces of one, because the device was restarted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamer.messages import Channel, Floats
from streamer.sources.excursions import Excursions
from streamer.sources.table_rows import in_order
from streamer.sources.xdf_times import seconds, speed_of, true_rate

OVERLAP_S = 0.5  # the clocks of two pieces may differ by so much
SHORT_S = 1.0  # a shorter piece that overlaps another is left out
LATE_S = 1.0  # a sample's time may go back by so much without being damaged


@dataclass(slots=True)
class Pieces:
    """One stream.

    Attributes:
        name: as the device gave it.
        origin: its name and type, and its source_id.
        channels: as the device labels them.
        rate_hz: nominal, or that of its times if it is another.
        parts: times (n,) s and samples (n, channels) of each piece, in order of time.

    """

    name: str
    origin: tuple[tuple[str, str], str]
    channels: list[Channel]
    rate_hz: float
    parts: list[tuple[Floats, Any]]

    @property
    def first_s(self) -> float:
        """Time of the first sample."""
        return float(self.parts[0][0][0])

    @property
    def last_s(self) -> float:
        """Time of the last one."""
        return float(self.parts[-1][0][-1])

    @property
    def duration_s(self) -> float:
        """From the first sample to the last."""
        return self.last_s - self.first_s

    def blocks(self, size: int, columns: Sequence[int]) -> Iterator[tuple[Floats, Floats]]:
        """Yield times (n,) s and samples (columns, n), at most `size` at once."""
        for times, samples in self.parts:
            for at in range(0, len(times), size):
                yield times[at : at + size], samples[at : at + size, columns].T.astype(np.float64)

    def is_of(self, other: Pieces) -> bool:
        """Whether both are pieces of one stream: same source_id, or same name and type."""
        same = self.origin[0] == other.origin[0] or (
            bool(self.origin[1]) and self.origin[1] == other.origin[1]
        )
        return same and (self.rate_hz, self.channels) == (other.rate_hz, other.channels)


def joined(streams: Sequence[dict[str, Any]]) -> tuple[list[Pieces], list[str]]:
    """Join the streams of each device; also return remarks on what was joined or left out.

    The order is that of the file, but streams less than half as long as the longest come last.
    """
    remarks: list[str] = []
    single = [one for stream in streams if (one := _single(stream, remarks)) is not None]
    families: list[list[Pieces]] = []
    for one in single:
        mine = next((family for family in families if any(one.is_of(other) for other in family)), None)
        if mine is None:
            families.append(mine := [])
        mine.append(one)
    out = [track for family in families for track in _tracks(family, remarks)]
    for one in out:
        one.rate_hz, remark = true_rate(max((times for times, _ in one.parts), key=len), one.rate_hz)
        remarks += [f"stream {one.name!r}: {remark}"] if remark else []
    longest = max((one.duration_s for one in out), default=0.0)
    return sorted(out, key=lambda one: one.duration_s < longest / 2), remarks


def text_in(tree: Any, key: str) -> str:
    """Return the text of the first element of that name; "" if there is none."""
    found = _first(tree, key)
    return found.strip() if isinstance(found, str) else ""


def _tracks(family: Sequence[Pieces], remarks: list[str]) -> list[Pieces]:
    """Join pieces that follow each other; pieces that overlap stay separate streams."""
    tracks: list[Pieces] = []
    for piece in sorted(family, key=lambda piece: (piece.first_s, -piece.duration_s)):
        beside = [one for one in family if one is not piece and _overlap_s(one, piece) >= 0]
        if piece.duration_s < SHORT_S and any(one.duration_s >= SHORT_S for one in beside):
            count = len(piece.parts[0][0])
            remarks.append(
                f"a piece of {count} samples of stream {piece.name!r} is left out: it lies beside another"
            )
            continue
        before = next((one for one in tracks if piece.first_s >= one.last_s - OVERLAP_S), None)
        if before is None:
            tracks.append(piece)
            continue
        missing_s = max(0.0, piece.first_s - before.last_s)
        remarks.append(
            f"stream {piece.name!r} comes in pieces, which are joined; {missing_s:.1f} s are missing between"
        )
        before.parts += piece.parts
    return tracks


def _overlap_s(one: Pieces, other: Pieces) -> float:
    return min(one.last_s, other.last_s) - max(one.first_s, other.first_s)


def _single(stream: dict[str, Any], remarks: list[str]) -> Pieces | None:
    """Read one of pyxdf's streams, without samples whose times are damaged."""
    info = stream["info"]
    name = text_in(info, "name")
    times, samples = stream["time_stamps"], stream["time_series"]
    rate_hz = float(info["nominal_srate"][0])
    keep = np.isfinite(times)
    good = np.flatnonzero(keep)
    if good.size:
        times = times.copy()
        in_seconds, remark = seconds(times[good], rate_hz)
        excursions = Excursions(speed_of(in_seconds, rate_hz) / rate_hz)
        times[good] = excursions.undo(in_seconds)
        said = [remark] if remark else []
        remarks += [f"stream {name!r}: {one}" for one in (*said, *excursions.remarks())]
    keep[good] = in_order(times[good], LATE_S)[0]
    if not keep.all():
        wrong = int(keep.size - np.count_nonzero(keep))
        remarks.append(f"{wrong} samples of stream {name!r} are left out: their times are damaged")
        times, samples = times[keep], samples[keep]
    if not times.size:
        return None
    origin = ((name, text_in(info, "type")), text_in(info, "source_id"))
    return Pieces(name, origin, _channels(info, name), rate_hz, [(times, samples)])


def _channels(info: dict[str, Any], name: str) -> list[Channel]:
    """Return labels and units from desc/channels/channel, or the stream's name and a number."""
    count = int(info["channel_count"][0])
    described = _first(_first(info, "desc"), "channels")
    entries = described.get("channel") if isinstance(described, dict) else None
    if not isinstance(entries, list) or len(entries) != count:
        return [Channel(f"{name} {n}", "") for n in range(count)]
    return [
        Channel(text_in(entry, "label") or f"{name} {n}", text_in(entry, "unit"))
        for n, entry in enumerate(entries)
    ]


def _first(tree: Any, key: str) -> Any:
    """Return the first element of that name in pyxdf's form of the XML, or None."""
    found = tree.get(key) if isinstance(tree, dict) else None
    return found[0] if isinstance(found, list) and found else None
