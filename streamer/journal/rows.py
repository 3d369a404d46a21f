"""Checks the rows of a session file: SQLite does not notice damaged values."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import JsonValue, TypeAdapter

from streamer.messages import EPOCH_S, StreamInfo
from streamer.payloads import utc

LONGEST_S = 366 * 86400.0  # of a session; a larger value is damaged
Row = tuple[Any, ...]
COLUMNS: Final[Mapping[str, Mapping[str, Any]]] = {
    "samples": {"start": int, "n": int, "wall": float, "monotonic": float, "data": bytes},
    "packed": {"start": int, "stop": int, "wall": float, "monotonic": float, "rows": bytes, "data": bytes},
    "gaps": {"id": int, "start": int, "stop": int, "reason": str, "wall": float, "monotonic": float},
    "epochs": {
        "seq": int,
        "epoch": int,
        "t_start": str,
        "t_end": str,
        "stage": str,
        "smoothed": str,
        "confidence": float | None,
        "body": str,
    },
    "events": {"seq": int, "t": str, "event": str, "body": str},
    "clocks": {"sample": int, "wall": float, "monotonic": float},
    "outbox": {"id": int, "kind": str, "body": str, "created": float},
}


@dataclass(frozen=True, slots=True)
class Meta:
    """A session's metadata."""

    session: str
    node: str
    stream: str
    info: StreamInfo
    model_sha256: str = ""
    settings: dict[str, JsonValue] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)  # package -> version
    boot: str = ""  # identity of the computer's start from which the last process's monotonic times count


_META = TypeAdapter(Meta)


def meta_rows(meta: Meta) -> list[tuple[str, str]]:
    """Return the rows of table `meta`: key, JSON."""
    return [(key, json.dumps(value)) for key, value in _META.dump_python(meta, mode="json").items()]


def read_meta(rows: Iterable[tuple[str, str]]) -> Meta:
    """Read a session's metadata.

    Raises:
        ValueError: it is damaged.

    """
    try:
        meta = _META.validate_python({key: json.loads(value) for key, value in rows})
        utc(meta.info.started)
    except (TypeError, RecursionError, OverflowError, OSError) as error:
        raise ValueError(str(error)) from error
    if not (meta.info.channels and 0 < meta.info.rate_hz < math.inf):
        raise ValueError("no channels, or no rate")
    return meta


def whole(table: str, row: Row, info: StreamInfo) -> bool:
    """Whether a row, all columns in order, is valid."""
    for value, kind in zip(row, COLUMNS[table].values(), strict=True):
        if not isinstance(value, kind) or (isinstance(value, float) and not math.isfinite(value)):
            return False
    cells = dict(zip(COLUMNS[table], row, strict=True))
    match table:
        case "samples":
            size = 4 * len(info.channels) * cells["n"]
            return _span(cells["start"], cells["start"] + cells["n"], info) and len(cells["data"]) == size
        case "packed" | "gaps":
            return _span(cells["start"], cells["stop"], info)
        case "epochs":
            return bool(cells["seq"] >= 0 and 0 <= cells["epoch"] <= LONGEST_S / EPOCH_S)
        case "outbox":
            return cells["kind"] in ("epoch", "event") and _is_object(cells["body"])
    return True


def _span(start: int, stop: int, info: StreamInfo) -> bool:
    return 0 <= start < stop <= info.rate_hz * LONGEST_S


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
