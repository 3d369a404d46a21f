"""A process that died goes on in the same session: nothing lost, rewritten or double, and to the bit."""

import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamer.clock import SystemClock, boot_id
from streamer.errors import JournalError
from streamer.journal import Journal, JournalReader, Meta
from streamer.journal.candidates import find
from streamer.journal.lock import LOCK
from streamer.journal.place import LOG
from streamer.live.engine import Engine
from streamer.live.resume import NOT_RUNNING, Continued
from streamer.messages import STAGES, Chunk, Gap, Score
from streamer.night.session import read_items
from streamer.pipeline import Pipeline
from streamer.settings import SignalSettings, StreamSettings, validate
from tests.chaos.evidence import youngest
from tests.fakes import FakeSource, Witness
from tests.journals import HandClock, chunk, epoch, event
from tests.paths import default_model, info

ROOT = Path(__file__).parents[2]
STARTED = "2026-01-01T22:00:00Z"
SETTINGS = StreamSettings.model_validate({"name": "anna", "source": {"kind": "lsl"}})
META = Meta(
    "20260101T220000Z-anna-abc123",
    "node",
    "anna",
    info(100),
    "sha",
    SETTINGS.model_dump(mode="json"),
    boot=boot_id(),
)


def rescored(path):
    """(epoch, stage, smoothed, probabilities) by a pipeline that saw the whole record at once."""
    with JournalReader(path) as session:
        meta = session.meta
    settings = StreamSettings.model_validate(meta.settings)
    pipeline = Pipeline(meta.info, SignalSettings(), settings.hop_s, default_model())
    outputs = [output for item in read_items(path) for output in pipeline.push(item)] + list(pipeline.flush())
    return [
        (
            one.epoch,
            one.stage,
            one.smoothed,
            one.probabilities and tuple(round(p, 5) for p in one.probabilities),
        )
        for one in outputs
        if isinstance(one, Score) and one.epoch is not None
    ]


def recorded(path):
    with JournalReader(path) as session:
        return [
            (
                one.epoch,
                one.stage,
                one.smoothed,
                one.probabilities and tuple(dict(one.probabilities).values()),
            )
            for one in session.epochs()
        ]


def unlisted(path):
    """Samples that are neither in the file nor in its list of gaps."""
    with JournalReader(path) as session:
        spans = [(one.start, one.stop) for one in (*session.samples(), *session.gaps())]
    at = missing = 0
    for start, stop in sorted(spans):
        missing += max(0, start - at)
        at = max(at, stop)
    return missing


def check(path, resumed):
    """The promise, for one session."""
    found = recorded(path)
    assert [number for number, *_ in found] == list(range(len(found)))
    assert found == rescored(path)[: len(found)]
    assert unlisted(path) == 0
    with JournalReader(path) as session:
        events = list(session.events())
    again = [one for one in events if one.event == "session_resumed"]
    assert resumed == 0 or 0 < len(again) <= resumed, (
        "one that was said just before the next death may be gone"
    )
    assert all(one.data["differing"] == 0 for one in again)
    gaps = [(one.data["t_start"], one.data["seconds"]) for one in events if one.event == "gap"]
    assert len(set(gaps)) == len(gaps), "no loss is told twice"


# ---- which session


def dead(folder, clock, meta=META, ended=False):
    """A session file with five minutes in it, whose process is gone."""
    path = folder / f"{meta.session}.sqlite"
    with Journal.create(path, meta, clock) as journal:
        journal.record(Chunk(0, np.zeros((1, 30_000)), clock.monotonic()))
        if ended:
            journal.event(event(0).model_copy(update={"event": "session_ended"}))
    return path


def test_the_newest_session_that_was_not_ended_is_continued(tmp_path):
    clock = HandClock()
    dead(tmp_path, clock, replace(META, session="20260101T200000Z-anna-fff000"))
    path = dead(tmp_path, clock)
    dead(tmp_path, clock, replace(META, session="20260101T230000Z-anna-two-aaa", stream="anna-two"))
    (tmp_path / "20260101T235959Z-anna-ffffff.sqlite").write_text("not a session")
    assert find(tmp_path, META, clock, 60).path == path


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"info": info(128)}, "another rate"),
        ({"info": info(100, ("Fz",))}, "other channels"),
        ({"model_sha256": "other"}, "the model is another"),
        ({"settings": SETTINGS.model_copy(update={"hop_s": 5}).model_dump(mode="json")}, "hop_s was changed"),
    ],
)
def test_what_differs_begins_anew_and_says_why(tmp_path, change, why):
    dead(tmp_path, HandClock())
    found = find(tmp_path, replace(META, **change), HandClock(), 60)
    assert found.path is None
    assert why in found.why


def test_an_ended_an_old_and_no_session_begin_anew(tmp_path):
    clock = HandClock()
    assert "no earlier" in find(tmp_path, META, clock, 60).why
    dead(tmp_path, clock)
    clock.now += 61
    assert "1 min old" in find(tmp_path, META, clock, 60).why
    dead(tmp_path, clock, replace(META, session="20260101T220001Z-anna-abc123"), ended=True)
    assert "ended" in find(tmp_path, META, clock, 600).why


def test_age_is_told_by_the_clock_that_nobody_sets_while_the_computer_runs(tmp_path):
    class Stepped(HandClock):
        def wall(self):
            return super().wall() + 3600

    dead(tmp_path, HandClock(), replace(META, boot=boot_id()))
    assert find(tmp_path, META, Stepped(), 60).path
    other = tmp_path / "other"
    other.mkdir()
    dead(other, HandClock(), replace(META, boot="another"))
    assert "60 min old" in find(other, META, Stepped(), 60).why


def test_the_newest_is_told_by_its_samples_not_by_its_name(tmp_path):
    clock = HandClock()
    dead(tmp_path, clock, replace(META, session="20260101T230000Z-anna-fff000", boot=boot_id()), ended=True)
    clock.now += 10
    path = dead(tmp_path, clock, replace(META, boot=boot_id()))  # the wall clock was set back meanwhile
    assert find(tmp_path, META, clock, 60).path == path


def test_a_damaged_session_is_not_continued_and_stands_in_no_ones_way(tmp_path, caplog):
    clock = HandClock()
    path = dead(tmp_path, clock)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b"\xff" * (len(data) - len(data) // 2))
    assert find(tmp_path, META, clock, 60).path is None
    assert "is damaged" in find(tmp_path, META, clock, 60).why + caplog.text
    sound = dead(tmp_path, clock, replace(META, session="20260101T200000Z-anna-aaa000"))
    clock.now += 1
    assert find(tmp_path, META, clock, 60).path == sound


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:100]),
        lambda path: path.write_bytes(path.read_bytes()[:50_000]),
        lambda path: path.write_bytes(b"\xa5" * 5000),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), path.symlink_to("nowhere")),
        lambda path: changed(path, "PRAGMA user_version = 99"),
        lambda path: changed(path, "UPDATE meta SET value = '[1e999]' WHERE key = 'info'"),
    ],
    ids=[
        "zero bytes",
        "a piece",
        "cut",
        "junk",
        "a folder",
        "a link to nothing",
        "a later version",
        "no meta",
    ],
)
def test_a_last_session_that_cannot_be_read_is_told_and_its_firings_count(tmp_path, damage):
    path = dead(tmp_path, HandClock())
    damage(path)
    clock = HandClock()
    clock.now += 3600 - clock.wall() + time.time()  # by the file system's clock
    found = find(tmp_path, META, clock, 7200)
    assert (found.path, found.unknown, found.before) == (None, True, path)
    assert META.session in found.why
    assert find(tmp_path, META, clock, 60).before == (path if path.is_symlink() else None)
    dead(tmp_path, clock, replace(META, session="20260101T235959Z-anna-ffffff"), ended=True)
    assert META.session not in find(tmp_path, META, clock, 60).why


def changed(path, statement):
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE samples SET data = x'00' WHERE start > 0",
        "UPDATE outbox SET body = 'x'",
        "UPDATE gaps SET stop = -1",
    ],
)
def test_a_session_with_bad_rows_is_continued(tmp_path, harm):
    clock = HandClock()
    path = tmp_path / f"{META.session}.sqlite"
    with Journal.create(path, META, clock) as journal:
        journal.record(Chunk(0, np.zeros((1, 3000)), clock.monotonic()))
        journal.record(Gap(3000, 3100, "radio", clock.monotonic()))
        journal.epoch(epoch(0))
        journal.record(Chunk(3100, np.zeros((1, 100)), clock.monotonic()))
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(harm)
    assert find(tmp_path, META, clock, 60).path == path
    at = 0
    for item in read_items(path):
        assert item.start == at
        at = item.stop
    with Journal.resume(path, clock) as journal:
        assert journal.next_sample == at


class Booted(HandClock):
    """The computer has been up for so long, and its wall clock is so far ahead of the other clock."""

    def __init__(self, up_s, wall_ahead_s):
        super().__init__()
        self.now, self._ahead = up_s, wall_ahead_s

    def wall(self):
        return super().wall() + self._ahead


@pytest.mark.parametrize(
    ("name", "up_s", "wall_ahead_s", "continued"),
    [
        ("its clock went on: 50 s down, 40 s of them up", 40, 110, True),
        ("its clock stood still while the power was off", 40, 60, False),
        ("its clock was put back to when it was saved last", 40, -900, False),
        ("its clock began with 1970", 40, -1.7e9, False),
        ("its clock is ahead: too old, for all that is known", 40, 9e4, False),
    ],
)
def test_after_a_start_of_the_computer_a_clock_that_is_behind_tells_nothing(
    tmp_path, name, up_s, wall_ahead_s, continued
):
    """The last sample is older than the start. A clock that says it is younger is behind."""
    path = dead(tmp_path, HandClock(), replace(META, boot="another"))
    found = find(tmp_path, META, Booted(up_s, wall_ahead_s), 600)
    assert (found.path == path) is continued
    assert found.unknown is (not continued and wall_ahead_s < 9e4)
    assert continued or "it is not known" in found.why or "min old" in found.why


def test_a_session_that_died_with_unknown_age_is_told_although_there_are_older_ones(tmp_path):
    yesterday = Booted(100, -80_000)
    dead(tmp_path, yesterday, replace(META, session="20251231T220000Z-anna-abc000", boot="first"), ended=True)
    dead(tmp_path, HandClock(), replace(META, boot="second"))
    found = find(tmp_path, META, Booted(40, -900), 600)
    assert (found.path, found.unknown) == (None, True)
    assert META.session in found.why
    assert found.before == tmp_path / f"{META.session}.sqlite"


def test_a_session_that_died_with_unknown_age_is_told_although_one_before_it_was_ended_just_now(tmp_path):
    dead(tmp_path, HandClock(), replace(META, session="20260101T215000Z-anna-abc000"), ended=True)
    dead(tmp_path, HandClock(), replace(META, boot="another"))
    assert META.session in find(tmp_path, META, Booted(110, -900), 600).why
    later = dead(tmp_path, HandClock(), replace(META, session="20260101T215500Z-anna-abc111"))
    assert find(tmp_path, META, Booted(110, -900), 600).path == later


def test_of_several_with_unknown_age_the_one_written_last_is_told(tmp_path):
    """A clock that was ahead at first gives the older one the later name."""
    ahead = dead(tmp_path, HandClock(), replace(META, session="20260101T235000Z-anna-abc000", boot="first"))
    later = dead(tmp_path, HandClock(), replace(META, boot="second"))
    for path, written in ((ahead, 1000), (later, 2000)):
        for one in tmp_path.glob(f"{path.name}*"):
            os.utime(one, (written, written))
    found = find(tmp_path, META, Booted(40, -900), 600)
    assert (found.unknown, found.before) == (True, later)
    assert later.stem in found.why


def test_reading_a_session_is_no_write_although_it_leaves_an_empty_log(tmp_path):
    """SQLite makes a log where a lock says that a process may write, as after a death."""
    older = dead(tmp_path, HandClock(), replace(META, session="20260101T215000Z-anna-abc000", boot="first"))
    later = dead(tmp_path, HandClock(), replace(META, boot="second"))
    for path, written in ((older, 1000), (later, 2000)):
        os.utime(path, (written, written))
    older.with_name(older.name + LOCK).touch()
    assert [find(tmp_path, META, Booted(40, -900), 600).before for _ in range(2)] == [later, later]
    assert older.with_name(older.name + LOG).stat().st_size == 0
    assert youngest(tmp_path) == [older, later]


def test_an_older_session_is_not_gone_on_with_when_a_later_one_was_ended(tmp_path):
    clock = HandClock()
    dead(tmp_path, clock)
    clock.now += 10
    dead(tmp_path, clock, replace(META, session="20260101T230000Z-anna-abc000"), ended=True)
    assert find(tmp_path, META, clock, 600).path is None


def test_a_session_that_is_only_delivered_does_not_become_one_of_this_start_of_the_computer(tmp_path):
    """Its times would be taken for those of this one at the next start, and any age for true."""
    path = dead(tmp_path, HandClock(), replace(META, boot="another"))
    Journal.resume(path, Booted(40, 60)).close()
    assert find(tmp_path, META, Booted(130, 60), 600).unknown
    with Journal.resume(path, Booted(40, 110)) as journal:
        journal.record(Gap(30_000, 30_100, NOT_RUNNING, 40.0))
    assert find(tmp_path, META, Booted(50, 110), 600).path == path


def test_a_session_of_another_machine_is_not_continued_for_its_negative_age(tmp_path):
    late = HandClock()
    late.now += 1e6
    dead(tmp_path, late)
    assert find(tmp_path, META, HandClock(), 600).unknown


def test_a_clock_that_was_set_while_nothing_ran_is_said(tmp_path):
    path = dead(tmp_path, HandClock())
    with Journal.resume(path, Booted(130, 3600)) as journal:
        assert "was set by +3600.0 s" in journal.clock_was_set
        assert journal.last.monotonic == 100  # the loss is counted by the other clock
    path = dead(tmp_path, HandClock(), replace(META, session="20260101T210000Z-anna-aaa111", boot="another"))
    with Journal.resume(path, Booted(40, 110)) as journal:
        assert journal.rebooted
        assert journal.last.monotonic == pytest.approx(-10)  # 50 s ago


def test_two_processes_cannot_continue_one_session(tmp_path):
    path = dead(tmp_path, HandClock())
    with Journal.resume(path, HandClock()), pytest.raises(JournalError, match="in use"):
        Journal.resume(path, HandClock())


# ---- where on its clock


def test_a_source_goes_on_after_what_was_missed():
    async def given(start, begin):
        source = FakeSource(info(100))
        source.give(
            Chunk(0, np.arange(4.0)[None]), Gap(4, 6, "radio"), Chunk(6, np.arange(6.0, 9.0)[None]), None
        )
        return [item async for item in Continued(source, start, begin, 7.0)]

    later = asyncio.run(given(50, 40))
    assert later[0] == Gap(40, 50, NOT_RUNNING, 7.0)
    assert [(item.start, item.stop) for item in later[1:]] == [(50, 54), (54, 56), (56, 59)]
    overlapping = asyncio.run(given(0, 5))
    assert [(item.start, item.stop) for item in overlapping] == [(5, 6), (6, 9)]
    assert overlapping[1].samples.tolist() == [[6, 7, 8]]
    middle = asyncio.run(given(0, 7))
    assert [item.samples.tolist() for item in middle] == [[[7, 8]]]


def test_the_position_survives_in_the_file(tmp_path):
    clock = HandClock()
    with Journal.create(
        tmp_path / "s.sqlite", replace(META, info=info(256, ("A", "B")), boot="another"), clock
    ) as journal:
        journal.record(chunk(0, 100))
        clock.now += 5
        journal.record(Gap(100, 356, "radio"))
        last = journal.last
    with Journal.resume(tmp_path / "s.sqlite", clock) as journal:
        assert journal.last.index == 356 == journal.next_sample
        assert journal.last.wall == last.wall
        assert journal.last.monotonic == pytest.approx(clock.now)
        assert journal.meta.boot == boot_id()
        journal.epoch(epoch(0))


# ---- with what memory

TRIGGER = {
    "name": "t",
    "stages": STAGES,
    "min_probability": 0,
    "quality": "off",
    "warmup": True,
    "arousal": None,
    "dwell_s": 20,
    "refractory_s": 50,
    "max_per_night": 4,
}


def firings(path):
    """What the trigger has done in a session, in its own words."""
    with JournalReader(path) as session:
        return [
            [one.data[key] for key in ("end", "number", "dwell_s", "cycle")]
            for one in session.events()
            if one.event == "trigger"
        ]


def engine(folder, source, witness=None, resume_s=1800.0, mqtt=None):
    data = {
        "node": "test",
        "session_dir": str(folder),
        "mqtt": mqtt,
        "stream": [{"name": "anna", "hop_s": 10, "source": source, "trigger": [TRIGGER]}],
    }
    return Engine(validate(data, "test"), SystemClock(), witness or Witness(), resume_s=resume_s)


@pytest.mark.slow
def test_a_session_that_cannot_be_written_on_makes_room_for_a_new_one(tmp_path):
    source = {"kind": "simulated", "hours": 0.02, "speed": 50}

    async def night(witness):
        running = asyncio.create_task(engine(tmp_path, source, witness).run())
        await witness.until(lambda: len(witness.stages) > 1)
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(night(Witness()))
    (path,) = tmp_path.glob("*.sqlite")
    lock = path.with_name(path.name + LOCK)
    lock.unlink(missing_ok=True)
    lock.mkdir()  # or another user's; root may do all, and tests run as root
    witness = Witness()
    (outcome,) = asyncio.run(engine(tmp_path, source, witness).run())
    assert outcome.error is None
    assert outcome.session not in (None, path)
    said = [one.text for one in witness.events if one.event == "warning"]
    assert any(path.stem in one and "cannot record" in one for one in said)


@pytest.mark.slow
def test_a_night_that_was_cut_short_equals_one_that_was_not(tmp_path):
    source = {"kind": "simulated", "hours": 0.1, "started": STARTED, "dropouts_per_hour": 40, "rate_hz": 128}

    async def cut(seconds):
        witness = Witness()
        running = asyncio.create_task(engine(tmp_path / "cut", {**source, "speed": 100}, witness).run())
        await witness.until(lambda: len(witness.stages) > seconds // 10)
        running.cancel()
        await asyncio.wait([running])
        return witness

    async def nights():
        first = Witness()
        (whole,) = await engine(tmp_path / "whole", {**source, "speed": 100}, first).run()
        await cut(60)
        second = await cut(70)
        (rest,) = await engine(tmp_path / "cut", {**source, "speed": 100}).run()
        return whole, first, second, rest

    whole, first, second, rest = asyncio.run(nights())
    assert len(list((tmp_path / "cut").glob("*.sqlite"))) == 1
    assert rest.labels == whole.labels
    assert rest.statistics == whole.statistics
    assert recorded(rest.session) == recorded(whole.session)
    assert firings(rest.session) == firings(whole.session)
    assert len(firings(whole.session)) == 4
    lasted = {one.t_end: (one.lasted_s, one.stage_lasted_s) for one in first.stages}
    told = [(one.lasted_s, one.stage_lasted_s) for one in second.stages]
    assert told == [lasted[one.t_end] for one in second.stages]
    check(rest.session, resumed=2)
    assert second.stages[0].seq > 6
    assert not [one for one in second.stages if one.t_end < second.stages[0].t_end]


def test_asked_for_a_new_session_one_begins(tmp_path):
    source = {"kind": "simulated", "hours": 0.02, "speed": "max"}
    clock = SystemClock()
    dead(tmp_path, clock, replace(META, node="test"))
    witness = Witness()
    asyncio.run(engine(tmp_path, source, witness, resume_s=0.0).run())
    assert witness.events[0].event == "session_started"
    assert witness.events[0].data["why"] == "a new session was asked for"


# ---- by force


def config(folder, source):
    path = folder / "run.toml"
    given = "\n".join(f"{key} = {json.dumps(value)}" for key, value in source.items())
    path.write_text(
        f'session_dir = "{folder}"\n[[stream]]\nname = "anna"\nhop_s = 10\n[stream.source]\n{given}\n'
    )
    return path


COMMAND = [sys.executable, "-c", "import sys; from streamer.cli import main; sys.exit(main())", "run"]
SURROUNDINGS = {"cwd": ROOT, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}


@contextlib.contextmanager
def running(path):
    process = subprocess.Popen([*COMMAND, str(path)], **SURROUNDINGS, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def grown(folder, before):
    """Wait until the newest session holds more samples than before."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in folder.glob("*.sqlite"):
            with contextlib.suppress(JournalError), JournalReader(path) as session:  # or it is just made
                if session.last().index > before:
                    return session.last().index
        time.sleep(0.05)
    raise TimeoutError("the session does not grow")


@pytest.mark.slow
def test_kill_9_at_random_moments_costs_nothing_but_a_listed_gap(tmp_path):
    path = config(tmp_path, {"kind": "simulated", "hours": 1, "speed": 60, "dropouts_per_hour": 20})
    rng, at = random.Random(6), 0
    for _ in range(4):
        with running(path):
            at = grown(tmp_path, at + 6000)  # a minute more than the gap that the restart makes
            time.sleep(rng.uniform(0, 1.5))  # any moment will do
    with running(path) as process:
        grown(tmp_path, at + 6000)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    (session,) = tmp_path.glob("*.sqlite")
    check(session, resumed=4)
    assert len(recorded(session)) > 10
    with running(path):  # it was ended: another one begins
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("*.sqlite"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert len(list(tmp_path.glob("*.sqlite"))) == 2


@pytest.mark.slow
def test_a_second_process_on_one_session_is_refused_and_the_first_goes_on(tmp_path):
    path = config(tmp_path, {"kind": "simulated", "hours": 8, "speed": 10})
    with running(path) as first:
        at = grown(tmp_path, 2560)
        second = subprocess.run(
            [*COMMAND, str(path)], **SURROUNDINGS, capture_output=True, text=True, timeout=60
        )
        assert second.returncode == 1
        assert "on this machine already" in " ".join(second.stderr.split())
        grown(tmp_path, at + 2560)
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 0
    (session,) = tmp_path.glob("*.sqlite")
    check(session, resumed=0)
