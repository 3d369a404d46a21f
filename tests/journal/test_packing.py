"""Samples are packed without loss, in one step, and let go only as a whole; a crash leaves one whole file."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streamer.commands.recover import recover
from streamer.errors import JournalError
from streamer.exports import export
from streamer.journal import Journal, JournalReader, packing
from streamer.journal import file as session_file
from streamer.journal.codec import MOST_BYTES, pack, unpack
from streamer.journal.lock import FileLock
from streamer.journal.pieces import PIECE_SAMPLES
from streamer.messages import Channel
from streamer.night.session import read_conditioned, read_items, read_night
from tests.journals import META, HastyClock, chunk, epoch, event
from tests.night import session as night
from tests.night import stages


def session(folder: Path, seconds: int = 600, ended: bool = True) -> Path:
    """A row a second, a loss, epochs, events, messages that nobody took."""
    path = folder / "s.sqlite"
    db = session_file.create(path, META)
    db.execute("PRAGMA synchronous = OFF")
    db.execute("BEGIN")
    for second in range(seconds):
        samples = chunk(second * 256, 256).samples.astype("<f4")
        if second not in (100, 101):
            row = second * 256, 256, 1e9 + second / 7, second / 3, samples.tobytes()
            db.execute("INSERT INTO samples VALUES (?, ?, ?, ?, ?)", row)
    db.execute("COMMIT")
    db.execute("INSERT INTO gaps VALUES (1, 25600, 26112, 'radio', 0, 0)")
    db.close()
    with Journal.resume(path, HastyClock()) as journal:
        for number in range(seconds // 30):
            journal.epoch(epoch(number))
        journal.event(event(0))
        if ended:
            journal.event(event(1).model_copy(update={"event": "session_ended"}))
    return path


def all_of(path: Path) -> tuple[object, ...]:
    with JournalReader(path) as reader:
        tables = tuple(tuple(reader.raw(table)) for table in packing.KEPT)
        return tables, tuple(reader.sample_rows()), reader.last(), reader.position(), reader.missing


BITS = arrays(np.uint32, st.tuples(st.integers(1, 3), st.integers(0, 50)))


@given(BITS)
def test_every_bit_comes_back_of_nans_too(bits):
    samples = bits.view("<f4")
    assert unpack(pack(samples), *samples.shape).tobytes() == samples.tobytes()


@given(st.integers(0, 2**32 - 1), st.floats(1e-9, 1e3), st.floats(-1e4, 1e4), st.integers(2, 16))
def test_whole_numbers_come_back_and_take_less_whatever_their_scale(seed, scale, offset, bits):
    walk = np.cumsum(np.random.default_rng(seed).integers(-(2**bits) // 2, 2**bits // 2, (2, 2000)), axis=1)
    samples = (walk * scale + offset).astype("<f4")
    data = pack(samples)
    assert unpack(data, 2, 2000).tobytes() == samples.tobytes()
    assert bits > 5 or len(data) < samples.nbytes / 2


@given(st.data())
def test_what_was_damaged_is_refused_or_gives_no_more_than_was_asked(data):
    samples = np.random.default_rng(1).integers(-50, 50, (2, 300)).astype("<f4")
    raw = bytearray(pack(samples))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(ValueError):
        assert unpack(bytes(raw[: data.draw(st.integers(0, len(raw)))]), 2, 300).shape == (2, 300)
    with pytest.raises(ValueError, match="more than one piece"):
        unpack(bytes(raw), 2, MOST_BYTES)


def test_a_packed_session_reads_as_before_and_is_smaller(tmp_path):
    path = session(tmp_path)
    before, size, mode = all_of(path), path.stat().st_size, path.stat().st_mode
    read, played = read_night(path), list(read_items(path))
    assert packing.pack(path) == size - path.stat().st_size > 0.5 * size
    assert all_of(path) == before
    assert path.stat().st_mode == mode
    again = read_night(path)
    assert (again.epochs, again.events, again.gaps, again.n_samples, again.missing) == (
        read.epochs,
        read.events,
        read.gaps,
        read.n_samples,
        (),
    )
    assert all(
        (one.start, one.stop) == (other.start, other.stop)
        for one, other in zip(played, read_items(path), strict=True)
    )
    with JournalReader(path) as reader:
        assert not reader.unpacked_samples
        assert reader.holes() == 0
        for start in (0, 1, 25599, 30000, PIECE_SAMPLES, 153_599):
            first = next(iter(reader.samples(start)))
            assert first.start == max(start, first.start)
            assert start in range(first.start, first.stop)
    assert packing.pack(path) == 0
    assert os.listdir(tmp_path) == [path.name]


def test_a_packed_session_can_be_delivered_from_and_packed_again(tmp_path):
    path = session(tmp_path)
    packing.pack(path)
    before = all_of(path)
    with Journal.resume(path, HastyClock()) as journal:
        assert len(journal.outbox) == 22
        journal.outbox.acknowledge(0)
        journal.record(chunk(600 * 256, 256))
    with JournalReader(path) as reader:
        assert reader.last().index == 601 * 256
    packing.pack(path)
    assert len(all_of(path)[1]) == len(before[1]) + 1


def test_a_file_of_before_there_was_packing_is_read_and_packed(tmp_path):
    path = session(tmp_path, 60)
    new = all_of(path)
    with closing(sqlite3.connect(path)) as db:
        db.executescript("DROP TABLE packed; PRAGMA user_version = 1")
    assert all_of(path) == new
    assert recover(path, tmp_path / "copy.sqlite").rows["samples"] == 60
    packing.pack(path)
    assert all_of(path) == new


def test_recover_saves_what_is_packed_and_lists_what_is_not_readable(tmp_path):
    path = session(tmp_path)
    packing.pack(path)
    saved = recover(path, tmp_path / "copy.sqlite")
    assert (saved.breaks, saved.lost_samples) == (0, 0)
    assert all_of(saved.path)[1] == all_of(path)[1]
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE packed SET data = zeroblob(100) WHERE start = 0")
    with JournalReader(path) as reader:
        assert next(iter(reader.samples())).start == PIECE_SAMPLES + 512 - 256 * 0
        assert "table packed" in " ".join(reader.missing)
    saved = recover(path, tmp_path / "mended.sqlite")
    assert saved.breaks == 1
    assert saved.lost_samples == PIECE_SAMPLES
    with Journal.resume(path, HastyClock()) as journal:
        journal.record(chunk(600 * 256, 256))
    with pytest.raises(JournalError, match="after packing"):  # nothing that cannot be read is left behind
        packing.pack(path)


def test_only_an_ended_session_that_nobody_has_is_touched(tmp_path):
    path = session(tmp_path, 60, ended=False)
    with pytest.raises(JournalError, match="was not ended"):
        packing.pack(path)
    with pytest.raises(JournalError, match="was not ended"):
        packing.prune(path)
    path.unlink()
    path = session(tmp_path, 60)
    before = path.read_bytes()
    with FileLock(path), pytest.raises(JournalError, match="in use"):
        packing.prune(path)
    os.link(path, tmp_path / "other.sqlite")
    with pytest.raises(JournalError, match="several names"):
        packing.pack(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("step", ["_write", "_sync", "_compare"])
def test_whatever_fails_leaves_the_session_as_it_was(tmp_path, monkeypatch, step):
    path = session(tmp_path, 60)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packing, step, fail)
    with pytest.raises(JournalError, match="No space"):
        packing.pack(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_packer_that_errs_by_one_bit_is_found_out(tmp_path, monkeypatch):
    path = session(tmp_path, 60)
    before = path.read_bytes()
    real = packing.packed

    def wrong(rows, info):
        rows = list(rows)
        data = bytearray(rows[7][4])
        data[0] ^= 1
        return real([*rows[:7], (*rows[7][:4], bytes(data)), *rows[8:]], info)

    monkeypatch.setattr(packing, "packed", wrong)
    with pytest.raises(JournalError, match="samples differ after packing"):
        packing.pack(path)
    assert path.read_bytes() == before


# One process imports; for each step another one is forked, which dies there.
CRASH = """
import os, sys
from pathlib import Path
from streamer.journal import packing

def dying(real, step, count):
    def call(*given):
        count.append(1)
        if len(count) == step:
            os._exit(9)
        return real(*given)
    return call

for step, path in enumerate(sys.argv[1:], 1):
    child = os.fork()
    if not child:
        count = []
        for name in ("_settle", "_write", "_sync", "_compare"):
            setattr(packing, name, dying(getattr(packing, name), step, count))
        Path.replace = dying(Path.replace, step, count)
        packing.pack(Path(path))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9, step
"""


def test_a_crash_at_any_step_loses_nothing(tmp_path):
    path = session(tmp_path, 60)
    before = all_of(path)
    copies = [Path(shutil.copy(path, tmp_path / f"{step}.sqlite")) for step in range(1, 7)]
    subprocess.run([sys.executable, "-c", CRASH, *copies], check=True)
    for step, copy in enumerate(copies, 1):
        assert all_of(copy) == before
        with JournalReader(copy) as reader:
            assert reader.unpacked_samples == (step < 6)
        packing.pack(copy)
        assert all_of(copy) == before
        assert not (tmp_path / f"{copy.name}{packing.NEW}").exists()


def test_the_program_ends_with_the_engine_that_asked_for_it(tmp_path, monkeypatch, capsys):
    path = session(tmp_path, 60)
    monkeypatch.setattr(os, "nice", lambda by: by)
    monkeypatch.setattr(sys, "argv", ["packing", str(path), "--parent", str(os.getppid() + 1)])
    assert packing.main() == 1
    assert "the engine has ended" in capsys.readouterr().err
    assert os.listdir(tmp_path) == [path.name]
    monkeypatch.setattr(sys, "argv", ["packing", str(path), "--parent", str(os.getppid())])
    assert packing.main() == 0
    assert int(capsys.readouterr().out) > 0


def test_a_pruned_session_keeps_all_but_its_samples(tmp_path):
    path = night(tmp_path / "n.sqlite", stages("W122"), channels=(Channel("Fpz", "uV"),))
    before, size = read_night(path), path.stat().st_size
    packing.pack(path)
    packing.prune(path)
    after = read_night(path)
    assert (after.epochs, after.events, after.n_samples) == (before.epochs, before.events, before.n_samples)
    assert after.pruned
    assert path.stat().st_size < size / 2
    assert len(after.missing) == 1
    assert "raw samples were deleted" in after.missing[0]
    assert np.isnan(read_conditioned(after)).all()
    with pytest.raises(Exception, match="its raw samples were deleted, but edf needs them"):
        export(path, "edf")
    assert export(path, "json")[0].exists()
    assert packing.prune(path) == packing.pack(path) == 0
    saved = recover(path, tmp_path / "copy.sqlite")
    assert read_night(saved.path).pruned
