"""Reads a session file; unreadable rows are left out and reported."""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar

import numpy as np
from pydantic import ValidationError

from streamer.errors import DamagedError, JournalError
from streamer.journal.file import APPLICATION_ID, CLOSED, MIGRATIONS, PRUNED, Mark, Position
from streamer.journal.lock import held
from streamer.journal.outbox import Parcel
from streamer.journal.pieces import spans, unpacked
from streamer.journal.place import find_place
from streamer.journal.rows import COLUMNS, Meta, Row, read_meta, whole
from streamer.messages import Chunk, Gap
from streamer.payloads import EpochPayload, EventName, EventPayload

PACKING = 2  # the first version of the file that can hold packed samples
_Payload = TypeVar("_Payload", EpochPayload, EventPayload)


class JournalReader:
    """A session file, read only; a journal may be writing it at the same time.

    Invalid rows, and rows of a later version that this one does not know, are left out; all others are read.
    `missing` lists what was left out so far.

    Args:
        path: of the session file.
        thorough: check every page first, which takes about a second per gigabyte.

    Raises:
        JournalError: the file is missing, foreign, damaged or of a newer version; also while iterating.

    """

    def __init__(self, path: Path, *, thorough: bool = False) -> None:
        self.path = path
        self._left_out: dict[str, set[object]] = {}  # table -> first columns of invalid rows
        self._cursors: set[sqlite3.Cursor] = set()
        self._place = find_place(path)
        self._db = self._place.open()
        try:
            self._check(thorough)
            self.meta = self._meta()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, even if iterators over it are not exhausted."""
        while self._cursors:  # an open one would make SQLite keep the file and its log
            self._cursors.pop().close()
        self._db.close()
        self._place.close()

    def samples(self, start: int = 0) -> Iterator[Chunk]:
        """Yield blocks of samples in order, (channels, n) in the source's unit, from index `start` on."""
        at = start
        for first, n, _, monotonic, data in self.sample_rows(start):
            block = np.frombuffer(data, dtype="<f4").reshape(-1, n)
            skip = max(0, at - first)
            if skip and first > start:  # it overlaps the row before
                self._leave_out("samples", first)
            if skip < n:
                yield Chunk(first + skip, block[:, skip:].astype(np.float64), monotonic)
                at = first + n

    def sample_rows(self, start: int = 0) -> Iterator[Row]:
        """Yield rows of table `samples`, packed or not, in order; the first holds index `start`."""
        where = ("WHERE start + n > ?", start) if start else ("",)
        loose = self._table("samples", f"{where[0]} ORDER BY start", *where[1:])
        if not self._packs:
            return loose
        return heapq.merge(loose, self._unpacked(start), key=lambda row: int(row[0]))

    def raw(self, table: str) -> Iterator[Row]:
        """Yield every row of a table, unchecked."""
        columns = "rowid" if table in ("samples", "clocks", "sqlite_sequence") else "1"
        return self._rows(f"SELECT * FROM {table} ORDER BY {columns}")

    def _unpacked(self, start: int) -> Iterator[Row]:
        for piece in self._table("packed", "WHERE stop > ? ORDER BY start", start):
            try:
                rows = unpacked(piece, self.meta.info)
            except ValueError:
                self._leave_out("packed", piece[0])
                continue
            yield from (row for row in rows if row[0] + row[1] > start)

    def gaps(self, order: Literal["id", "start"] = "id") -> Iterator[Gap]:
        """Yield every gap, in the order of discovery (`id`) or of position (`start`)."""
        for _, start, stop, reason, _, monotonic in self._table("gaps", f"ORDER BY {order}"):
            yield Gap(start, stop, reason, monotonic)

    def epochs(self) -> Iterator[EpochPayload]:
        """Yield every committed epoch, in order."""
        for seq, number, *_, body in self._table("epochs", "ORDER BY seq"):
            payload = self._validated(EpochPayload, "epochs", seq, body)
            if payload is not None and payload.epoch == number:
                yield payload
            else:
                self._leave_out("epochs", seq)

    def events(self, *names: EventName, last: int | None = None) -> Iterator[EventPayload]:
        """Yield events, in order.

        Args:
            names: only events of these names, and the newest of all; empty: all events.
            last: how many of the newest of all; None: none, or all if no name is given.

        """
        where, values = "", list[object](names)
        if names:
            where = f"WHERE event IN ({', '.join('?' * len(names))})"
        if last is not None:
            where += (" OR " if names else "WHERE ") + "seq > (SELECT max(seq) FROM events) - ?"
            values.append(last)
        for seq, *_, body in self._table("events", f"{where} ORDER BY seq", *values):
            payload = self._validated(EventPayload, "events", seq, body)
            if payload is not None:
                yield payload

    def newest(self, name: EventName) -> EventPayload | None:
        """Return the last event of a name; None if there is none."""
        for seq, *_, body in self._table("events", "WHERE event = ? ORDER BY seq DESC", name):
            payload = self._validated(EventPayload, "events", seq, body)
            if payload is not None:
                return payload
        return None

    def tally(self) -> dict[str, int]:
        """Return how many events of each name there are, without reading them."""
        return {
            str(name): int(count)
            for name, count in self._rows("SELECT event, count(*) FROM events GROUP BY 1")
        }

    def parcels(self) -> Iterator[Parcel]:
        """Yield the messages that no broker has acknowledged, in order."""
        for row in self._table("outbox", "ORDER BY id"):
            yield Parcel(*row)

    def last(self) -> Mark:
        """Return how far the stream was recorded, gaps included, and when."""
        samples = islice(self._table("samples", "ORDER BY start DESC"), 1)
        marks = [Mark(start + n, wall, monotonic) for start, n, wall, monotonic, _ in samples]
        if self._packs:
            pieces = islice(self._table("packed", "ORDER BY stop DESC"), 1)
            marks += [Mark(stop, wall, monotonic) for _, stop, wall, monotonic, *_ in pieces]
        if self.pruned is not None:
            marks.append(self.pruned)
        gaps = islice(self._table("gaps", "ORDER BY stop DESC"), 1)
        marks += [Mark(stop, wall, monotonic) for _, _, stop, _, wall, monotonic in gaps]
        return max(marks, key=lambda mark: mark.index, default=Mark())

    def holes(self) -> int:
        """Return how many samples are missing: neither in the file nor listed as a gap."""
        at = missing = 0
        for start, stop in heapq.merge(self._loose_spans(), self._packed_spans()):
            missing += max(0, start - at)
            at = max(at, stop)
        return missing if self.pruned is None else 0

    def _loose_spans(self) -> Iterator[tuple[int, int]]:
        size = 4 * len(self.meta.info.channels)
        samples = f"SELECT start, start + n AS stop FROM samples WHERE length(data) = {size} * n"
        for start, stop in self._rows(f"{samples} UNION ALL SELECT start, stop FROM gaps ORDER BY 1"):
            if isinstance(start, int) and isinstance(stop, int) and 0 <= start < stop:
                yield start, stop

    def _packed_spans(self) -> Iterator[tuple[int, int]]:
        for piece in self._table("packed", "ORDER BY start") if self._packs else ():
            try:
                yield from ((start, start + n) for start, n, _, _ in spans(piece))
            except ValueError:
                self._leave_out("packed", piece[0])

    @property
    def unpacked_samples(self) -> bool:
        """Whether the file has samples that are not packed."""
        return bool(self._number("EXISTS (SELECT 1 FROM samples)"))

    @property
    def sample_bytes(self) -> int:
        """Bytes of the samples on disk, packed or not."""
        tables = ["samples", *(["packed"] if self._packs else [])]
        return sum(self._number(f"ifnull(sum(length(data)), 0) FROM {table}") for table in tables)

    @property
    def pruned(self) -> Mark | None:
        """The end of its samples if they were pruned; else None."""
        for (value,) in self._rows("SELECT value FROM meta WHERE key = ?", PRUNED):
            try:
                index, wall, monotonic = json.loads(value)
                return Mark(int(index), float(wall), float(monotonic))
            except (ValueError, TypeError):
                self._leave_out("meta", PRUNED)
        return None

    @property
    def ended(self) -> bool:
        """Whether the engine closed the session."""
        return bool(self._number("EXISTS (SELECT 1 FROM events WHERE event = 'session_ended')"))

    @property
    def died(self) -> bool:
        """Whether its process crashed, and no other writes it now."""
        return not self._place.log_away and not held(self._place.file)

    def check(self) -> None:
        """Check every page, which takes about a second per gigabyte."""
        for (problem,) in self._rows("SELECT * FROM pragma_quick_check(1)"):
            if problem != "ok":
                raise self._damaged(problem)

    @property
    def missing(self) -> tuple[str, ...]:
        """What was not read so far, a line each: rows left out, or a missing log."""
        said = [
            f"{len(rows)} rows of table {table} were left out: not valid in this version"
            for table, rows in self._left_out.items()
        ]
        if self._place.log_away and not self._complete():
            said.append(
                f"{self.path.name} was not closed, and {self._place.file.name}-wal is not beside it: "
                "the last seconds may be missing; put that file there"
            )
        return tuple(said)

    def _complete(self) -> bool:
        """Whether its writer has closed it."""
        return bool(
            self._number(f"count(*) FROM meta WHERE key = '{CLOSED}'")
            or self._number("count(*) FROM events WHERE event = 'session_ended'")
        )

    def _validated(self, kind: type[_Payload], table: str, key: int, body: str) -> _Payload | None:
        try:
            return kind.model_validate_json(body)
        except ValidationError:
            self._leave_out(table, key)
            return None

    def _leave_out(self, table: str, key: object) -> None:
        self._left_out.setdefault(table, set()).add(key)

    def position(self) -> Position:
        """Return where its writer stopped."""
        return Position(
            last=self.last(),
            next_parcel=self._number(
                "ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'outbox'), -1) + 1"
            ),
            epoch_seq=self._number("ifnull(max(seq), -1) FROM epochs"),
            event_seq=self._number("ifnull(max(seq), -1) FROM events"),
            parcels=tuple(self.parcels()),
        )

    def _number(self, expression: str) -> int:
        ((value,),) = self._rows(f"SELECT {expression}")
        return int(value)

    def _table(self, table: str, which: str, *values: object) -> Iterator[Row]:
        """Yield the valid rows of a table, with its columns in order."""
        columns = ", ".join(COLUMNS[table])
        for row in self._rows(f"SELECT {columns} FROM {table} {which}", *values):
            if whole(table, row, self.meta.info):
                yield row
            else:
                self._leave_out(table, row[0])

    def _rows(self, query: str, *values: object) -> Iterator[Row]:
        cursor: sqlite3.Cursor | None = None
        try:
            cursor = self._db.execute(query, values)
            self._cursors.add(cursor)
            # Not `yield from cursor`: that would close it at the end, perhaps after its connection.
            yield from iter(cursor.fetchone, None)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # SQLite's message may be damaged too
            raise self._damaged(str(error)) from error
        finally:
            if cursor is not None and cursor in self._cursors:
                self._cursors.discard(cursor)
                cursor.close()

    def _check(self, thorough: bool) -> None:
        found = self._number("application_id FROM pragma_application_id")
        if found != APPLICATION_ID:
            raise JournalError(f"{self.path} is not a sleepstream session (application id {found:#x})")
        version = self._number("user_version FROM pragma_user_version")
        if not 1 <= version <= len(MIGRATIONS):
            raise JournalError(
                f"{self.path} is of version {version}, not 1 to {len(MIGRATIONS)}: update this engine"
            )
        self._packs = version >= PACKING
        if thorough:
            self.check()

    def _meta(self) -> Meta:
        try:
            return read_meta((key, value) for key, value in self._rows("SELECT key, value FROM meta"))
        except ValueError as error:
            raise self._damaged("its metadata is damaged") from error

    def _damaged(self, what: str) -> DamagedError:
        reason = " ".join(what.split())  # SQLite may quote damaged text with line breaks
        return DamagedError(
            f"{self.path} is damaged or not a sleepstream session: {reason}; sleepstream recover saves what "
            "can be read"
        )
