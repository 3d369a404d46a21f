"""The judge of chaos finds each broken promise: a night that kept all is spoilt in one way at a time."""

import asyncio
import json
import os
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from streamer.clock import SystemClock
from streamer.journal import Journal, JournalReader, Meta
from streamer.messages import Chunk, Gap, Score
from streamer.pipeline import Pipeline
from streamer.settings import StreamSettings
from streamer.sinks.publisher import Publisher
from tests.chaos.check import Verdict, birth, check, check_torn
from tests.chaos.engine import NOTE, WITNESS_FILE, WitnessedJournal
from tests.chaos.evidence import handed, newest_sample, undelivered
from tests.journals import HastyClock
from tests.paths import default_model, eeg, info

LABELS = ("Fpz-Cz", "count")
SETTINGS = StreamSettings.model_validate(
    {"name": "anna", "source": {"kind": "lsl"}, "signal": {"channel": "Fpz-Cz"}}
)
EEG = eeg(700, 100)


def part(start, stop):
    """Seconds of EEG whose second channel counts the samples."""
    at = np.arange(start * 100, stop * 100)
    return Chunk(start * 100, np.stack([EEG[0, at], at.astype(float)]))


def record(folder, items, ended=True, most=100):
    """Record a session of which at most so many epochs are committed; what a broker would have passed on."""
    about = info(100, LABELS)
    meta = Meta("s", "node", "anna", about, settings=SETTINGS.model_dump(mode="json"))
    pipeline = Pipeline(about, SETTINGS.signal, SETTINGS.hop_s, default_model())
    with Journal.create(folder / "s.sqlite", meta, SystemClock()) as journal:
        publisher = Publisher("anna", "s", about, journal, [], SystemClock(), None)
        for item in items:
            journal.record(item)
            for output in pipeline.push(item):
                if isinstance(output, Score) and len(publisher.labels) < most:
                    publisher.commit(output)
        if ended:
            publisher.event("session_ended", "stopped")
    with JournalReader(folder / "s.sqlite") as session:
        return [(parcel.kind, parcel.body) for parcel in session.parcels()]


@pytest.fixture
def night(tmp_path):
    """A session that ended in peace, with a gap in it, and all that a broker would have passed on."""
    heard = record(tmp_path, (part(0, 95), Gap(9500, 10_000, "radio"), part(100, 200)))
    assert sum(kind == "epoch" for kind, _ in heard) == 6
    return tmp_path, heard


def judged(folder, heard, *given_up):
    verdict = Verdict(given_up=set(given_up))
    check(folder, heard, default_model(), verdict)
    return {
        name: count
        for name in Verdict.__slots__
        if isinstance(count := getattr(verdict, name), int) and count
    }


def changed(message, **what):
    return message[0], json.dumps({**json.loads(message[1]), **what})


def alter(folder, statement, *values):
    with closing(sqlite3.connect(folder / "s.sqlite")) as file, file:
        file.execute(statement, values)


def test_a_night_without_fault_is_found_without_fault(night):
    folder, heard = night
    assert judged(folder, heard) == {}
    assert judged(folder, [*heard[:3], changed(heard[2], historical=True), *heard[3:]]) == {}


def test_what_the_broker_passed_on_is_held_against_the_file(night):
    folder, heard = night
    assert judged(folder, heard[1:]) == {"lost": 1}
    assert judged(folder, [heard[1], heard[0], *heard[2:]]) == {"reordered": 1}
    assert judged(folder, [changed(heard[0], stage="no_signal"), *heard[1:]]) == {"rewritten": 1}
    assert judged(folder, [*heard, changed(heard[0], confidence=0.5)]) == {"rewritten": 1}
    assert judged(folder, [*heard, changed(heard[0], seq=99)]) == {"rewritten": 1}


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        ("DELETE FROM gaps", {"unlisted_gaps": 2}),  # by the index, and by the device's own count
        ("DELETE FROM epochs WHERE seq = 5", {"lost": 1, "rewritten": 1}),
        ("UPDATE epochs SET body = replace(body, '\"epoch\":5', '\"epoch\":4')", {"duplicated": 1}),
        ("DELETE FROM events", {"abandoned": 1}),
        ("UPDATE samples SET data = zeroblob(length(data)) WHERE start = 0", {"disordered_samples": 9499}),
    ],
)
def test_the_file_is_held_against_the_truth(night, spoil, found):
    folder, heard = night
    alter(folder, spoil)
    assert found.items() <= judged(folder, heard).items()


def test_a_session_that_was_given_up_may_have_died_within_a_long_gap(tmp_path):
    heard = record(tmp_path, (part(0, 95), Gap(9500, 69_500, "radio"), part(695, 700)), ended=False, most=5)
    assert judged(tmp_path, heard, "s.sqlite") == {}
    assert judged(tmp_path, heard) == {"abandoned": 1, "lost": 18}


def test_other_samples_would_have_made_other_epochs(night):
    folder, heard = night
    samples = part(100, 200).samples.astype("<f4")
    samples[0] *= 0.5
    alter(folder, "UPDATE samples SET data = ? WHERE start = 10000", samples.tobytes())
    assert set(judged(folder, heard)) == {"rewritten"}


def test_a_torn_copy_must_open_as_an_earlier_state(night, tmp_path):
    folder, _ = night
    verdict = Verdict()
    earlier = tmp_path / "copy.sqlite"
    earlier.write_bytes((folder / "s.sqlite").read_bytes())
    alter(folder, "DELETE FROM epochs WHERE seq = 0")
    check_torn(earlier, folder / "s.sqlite", verdict)
    assert verdict.torn == 1
    earlier.write_bytes((folder / "s.sqlite").read_bytes()[:5000])
    check_torn(earlier, folder / "s.sqlite", verdict)
    assert verdict.torn == 2


def test_a_log_cut_anywhere_behind_its_birth_is_an_earlier_state_and_before_it_none(tmp_path):
    folder = tmp_path / "copies"
    folder.mkdir()
    with Journal.create(tmp_path / "s.sqlite", Meta("s", "node", "anna", info(100)), HastyClock()) as journal:
        for at in range(4):
            journal.record(Chunk(at * 100, EEG[:, :100]))
            asyncio.run(journal.flush())
        whole = (tmp_path / "s.sqlite-wal").read_bytes()
        (folder / "c.sqlite").write_bytes((tmp_path / "s.sqlite").read_bytes())
    log, verdict = folder / "c.sqlite-wal", Verdict()
    log.write_bytes(whole)
    begun = birth(log)
    assert 0 < begun < len(whole)
    for cut in (begun - 1, begun, begun + 5000, len(whole) - 1, len(whole)):
        for name in ("c.sqlite", "c.sqlite-wal"):
            (tmp_path / name).write_bytes((folder / name).read_bytes())
        with (tmp_path / "c.sqlite-wal").open("r+b") as file:
            file.truncate(cut)
        check_torn(tmp_path / "c.sqlite", tmp_path / "s.sqlite", verdict)
        assert verdict.torn == 1, f"only the first was cut too early, not {cut}"


def test_the_witness_outlives_the_process_and_knows_what_was_handed_over(tmp_path):
    path = tmp_path / WITNESS_FILE.format(pid=7)
    WitnessedJournal.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        meta = Meta("s", "node", "anna", info(100, LABELS))
        with WitnessedJournal.create(tmp_path / "s.sqlite", meta, SystemClock()) as journal:
            journal.record(part(0, 2))
            journal.record(Gap(200, 300, "radio"))
            journal.record(part(3, 4))
            before = SystemClock().monotonic()
    finally:
        os.close(WitnessedJournal.descriptor)
    assert [one.newest for one in handed(tmp_path, 7)] == [199, 399]
    assert all(before - 5 < one.at <= before for one in handed(tmp_path, 7))
    assert newest_sample(tmp_path) == 399
    assert undelivered(tmp_path) == 0
    path.write_bytes(path.read_bytes() + bytes(NOTE.size - 1))  # it died while it noted
    assert len(handed(tmp_path, 7)) == 2
    assert handed(tmp_path, 8) == []
