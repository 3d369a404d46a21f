"""Whatever breaks in one stream is begun again, goes on in the same session, and leaves the others alone."""

import asyncio
import logging
import shutil
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from streamer.commands.status import find_statuses
from streamer.errors import DamagedError, DiskError, JournalError, SignalError, SourceError, UsageError
from streamer.journal import Journal, JournalReader, Meta, writer
from streamer.live import supervisor as module
from streamer.live.batching import Batcher
from streamer.live.health import LOOK_S
from streamer.live.supervisor import BACKOFF_S, OngoingNight, Supervisor
from streamer.messages import Channel, Chunk, Gap, Score
from streamer.night.session import read_items
from streamer.pipeline import Pipeline
from streamer.settings import StreamSettings
from streamer.sinks.handover import Reaction
from streamer.sinks.publisher import Publisher
from tests.fakes import FakeClock, FakeSource, Witness, settle
from tests.journal.test_writer import make_read_only
from tests.paths import default_model, eeg, info

EEG = eeg(600, 100)
LIVE = StreamSettings.model_validate({"name": "anna", "source": {"kind": "lsl"}})
INFO = info(100)


@pytest.fixture(autouse=True)
def commits_at_once(monkeypatch):
    """A flush does not wait for the next second of a clock that stands still until the flush is over."""
    monkeypatch.setattr(writer, "COMMIT_S", 0.0)


class Poison(Exception):
    """A mistake in the program."""


class Brittle(Pipeline):
    """Crashes once, at a sample that it is told, and does nothing while its gate is closed."""

    crash_at = -1
    gate = threading.Event()
    gate.set()

    def front(self, item):
        if item is not None:
            self.check(item)
        return super().front(item)

    def check(self, item):
        assert Brittle.gate.wait(60)
        if item.start <= Brittle.crash_at < item.stop:
            Brittle.crash_at = -1
            raise Poison("boom")


class Rig:
    """One supervised stream whose sources are made by hand."""

    def __init__(self, folder, settings=LIVE):
        self.clock, self.witness, self.stop = FakeClock(), Witness(), asyncio.Event()
        self.folder, self.sources, self.opened = folder, asyncio.Queue(), 0
        self.remarks = deque()  # while a source is being opened
        self.told = []  # why nothing arrives
        self.heard = []  # ends of the scores that triggers and alarm hear
        self.worker, self.sessions = ThreadPoolExecutor(1), []
        self.settings, self.refusals = settings, []
        self.batcher = Batcher(self.worker, self.clock)
        self.supervisor = Supervisor(
            settings,
            self.clock,
            self.batcher,
            self.begin,
            self.pipeline,
            lambda *_: self,
            told=lambda payload: self.told.append(payload.reason),
        )
        self.task = asyncio.create_task(self.supervisor.run(self.stop))

    async def __aenter__(self):
        self.opened += 1
        source = await self.sources.get()
        if isinstance(source, Exception):
            raise source
        source.info = replace(source.info, started=self.clock.wall())
        return source

    async def __aexit__(self, *_):
        pass

    def pipeline(self, session):
        return Brittle(session, self.settings.signal, self.settings.hop_s, default_model())

    async def begin(self, session, afresh):
        if self.refusals:
            raise self.refusals.pop()
        name = f"s{len(self.sessions)}"
        journal = Journal.create(
            self.folder / f"{name}.sqlite", Meta(name, "node", "anna", session), self.clock, deliver=False
        )
        publisher = Publisher("anna", name, session, journal, [self.witness], self.clock, 60.0)
        self.sessions.append(journal)
        self.publisher = publisher
        publisher.first(Reaction("the test", lambda score, _: self.heard.append(score.end)))
        return OngoingNight(session, journal, self.pipeline(session), publisher)

    def source(self, *parts, about=INFO):
        """A source that gives seconds of EEG, and what else there is."""
        made = FakeSource(about)
        for part in parts:
            if isinstance(part, tuple):
                start, stop = part
                channels = len(about.channels)
                part = Chunk(
                    start * 100, np.repeat(EEG[:, start * 100 : stop * 100], channels, 0), self.clock.now
                )
            made.give(part)
        self.sources.put_nowait(made)
        return made

    async def later(self, seconds):
        await self.clock.advance(seconds)

    async def done(self):
        self.stop.set()
        outcome = await asyncio.wait_for(self.task, 60)
        for journal in self.sessions:
            await asyncio.to_thread(journal.close)
        self.worker.shutdown()
        return outcome


def run(scenario, folder, settings=LIVE):
    async def main():
        rig = Rig(folder, settings)
        return await scenario(rig), rig

    return asyncio.run(main())


def committed(path):
    with JournalReader(path) as session:
        return [(one.epoch, one.stage, one.probabilities) for one in session.epochs()]


def rescored(path):
    pipeline = Pipeline(INFO, LIVE.signal, LIVE.hop_s, default_model())
    outputs = [output for item in read_items(path) for output in pipeline.push(item)]
    return [one for one in outputs if isinstance(one, Score) and one.epoch is not None]


def test_a_device_that_fails_is_opened_again_and_the_night_goes_on(tmp_path):
    async def scenario(rig):
        rig.source((0, 70), SourceError("unplugged"))
        await rig.witness.until(lambda: "error" in rig.witness.event_names())
        assert rig.witness.stages[-1].stage == "no_signal"
        await rig.later(BACKOFF_S[0])
        rig.source((0, 120))
        await rig.witness.until(lambda: rig.witness.stages[-1].stage not in ("no_signal", "unscored"))
        await rig.witness.until(lambda: len(rig.witness.stages) >= 4)
        return await rig.done()

    outcome, rig = run(scenario, tmp_path)
    assert outcome.error is None
    assert rig.supervisor.failures == 1
    assert rig.told == ["unplugged", ""]
    assert len(rig.sessions) == 1
    found, whole = committed(outcome.session), rescored(outcome.session)
    assert [number for number, *_ in found] == list(range(len(found)))
    assert [one.stage for one in whole[: len(found)]] == [stage for _, stage, _ in found]
    with JournalReader(outcome.session) as session:
        (gap,) = session.gaps()
    assert 7000 == gap.start < gap.stop
    assert rig.witness.event_names()[-1] == "session_ended"


def test_why_nothing_arrives_is_told_while_it_is_waited_for(tmp_path, caplog):
    async def scenario(rig):
        rig.remarks.append("no LSL stream matches so far")
        await rig.later(1)
        assert rig.told == ["no LSL stream matches so far"]
        rig.sources.put_nowait(SourceError("no LSL stream matches within 10 s"))
        await rig.later(BACKOFF_S[0])
        rig.source()  # opened, and mute
        await rig.later(11)
        assert rig.told[-1] == "test has sent nothing for 10 s"
        rig.stop.set()
        return await rig.done()

    outcome, rig = run(scenario, tmp_path)
    assert outcome.error is None
    assert rig.told == [
        "no LSL stream matches so far",
        "no LSL stream matches within 10 s",
        "",
        "test has sent nothing for 10 s",
        "",
    ]


def test_a_channel_that_is_not_there_is_told_at_once(tmp_path, caplog):
    async def scenario(rig):
        rig.sources.put_nowait(UsageError("no channel 'AF7-TP9'; there are: C3"))
        return await asyncio.wait_for(rig.task, 60)

    outcome, rig = run(scenario, tmp_path)
    assert isinstance(outcome.error, UsageError)
    assert rig.told == ["no channel 'AF7-TP9'; there are: C3"]
    assert "waits for its signal: no channel 'AF7-TP9'; there are: C3" in caplog.text


def test_time_without_a_device_counts_from_the_beginning(tmp_path):
    async def scenario(rig):
        rig.source(SourceError("unplugged"))
        await rig.witness.until(lambda: "error" in rig.witness.event_names())
        await rig.later(BACKOFF_S[0] + 9)
        rig.source((0, 40))
        await rig.witness.until(lambda: rig.witness.stages[-1].stage != "no_signal")
        return await rig.done()

    outcome, _ = run(scenario, tmp_path)
    with JournalReader(outcome.session) as session:
        (gap,) = session.gaps()
    assert gap.start == 0
    assert gap.stop == pytest.approx(100 * (BACKOFF_S[0] + 9), abs=100)


def test_a_crash_is_logged_and_the_pipeline_remade_from_the_record(tmp_path, caplog):
    async def scenario(rig):
        Brittle.crash_at = 6500
        rig.source((0, 50), (50, 70))
        await rig.witness.until(lambda: "error" in rig.witness.event_names())
        await rig.later(BACKOFF_S[0])
        rig.source((0, 60))
        await rig.witness.until(lambda: len(rig.witness.stages) >= 3)
        return await rig.done()

    with caplog.at_level(logging.ERROR):
        outcome, rig = run(scenario, tmp_path)
    assert "boom" in caplog.text
    assert "Traceback" in caplog.text
    found, whole = committed(outcome.session), rescored(outcome.session)
    assert len(rig.sessions) == 1
    assert [one.stage for one in whole[: len(found)]] == [stage for _, stage, _ in found]
    assert [one.epoch for one in whole[: len(found)]] == [number for number, *_ in found]
    assert rig.heard == [one.end for one in whole[: len(found)]], "also what was lost in the crash, in order"


@pytest.mark.slow
def test_a_record_that_cannot_be_read_back_begins_another(tmp_path, caplog):
    async def scenario(rig):
        Brittle.crash_at = 6500
        rig.source((0, 70))
        await rig.witness.until(lambda: "error" in rig.witness.event_names())
        Brittle.crash_at = 6500  # at the same sample again, while it is read back
        rig.source((0, 10))
        await rig.later(BACKOFF_S[0])
        await rig.witness.until(lambda: "session_ended" in rig.witness.event_names())
        rig.source((0, 10))
        await rig.later(2 * BACKOFF_S[0])
        await rig.witness.until(lambda: rig.witness.event_names()[-1] == "reconnected")
        return await rig.done()

    outcome, rig = run(scenario, tmp_path)
    assert len(rig.sessions) == 2
    assert outcome.session == rig.sessions[1].path


def test_a_record_that_is_damaged_begins_another(tmp_path, monkeypatch):
    """It was sound when it was written, and is not when it is needed again."""

    async def broken(path, *_):
        raise DamagedError(f"{path} is damaged")

    async def scenario(rig):
        monkeypatch.setattr(module, "rewarm", broken)
        Brittle.crash_at = 6500
        rig.source((0, 70))
        await rig.witness.until(lambda: "error" in rig.witness.event_names())
        rig.source((0, 10))
        await rig.later(BACKOFF_S[0])
        await rig.witness.until(lambda: "session_ended" in rig.witness.event_names())
        rig.source((0, 40))
        await rig.later(2 * BACKOFF_S[0])
        await rig.witness.until(lambda: rig.witness.stages[-1].stage not in ("no_signal", "unscored"))
        return await rig.done()

    outcome, rig = run(scenario, tmp_path)
    assert len(rig.sessions) == 2
    assert outcome.session == rig.sessions[1].path
    assert outcome.error is None


def test_what_arrives_while_the_record_is_read_back_is_recorded_at_once_and_scored_afterwards(tmp_path):
    async def scenario(rig):
        Brittle.crash_at = 6500
        rig.source((0, 60), (60, 70))
        await rig.witness.until(lambda: "error" in rig.witness.event_names())
        Brittle.gate.clear()
        await rig.later(BACKOFF_S[0])
        rig.source((0, 60), (60, 90))
        await settle()
        (journal,) = rig.sessions
        await rig.later(2)
        await asyncio.wait_for(journal.flush(), 60)
        with JournalReader(journal.path) as session:
            assert session.last().index == journal.next_sample > 7000 + 9000
        said = len(rig.witness.stages)
        Brittle.gate.set()
        await rig.witness.until(lambda: len(rig.publisher.labels) == journal.next_sample // 3000)
        assert len(rig.witness.stages) > said
        return await rig.done()

    try:
        outcome, _ = run(scenario, tmp_path)
    finally:
        Brittle.gate.set()
    whole = rescored(outcome.session)
    assert [stage for _, stage, _ in committed(outcome.session)] == [one.stage for one in whole]


def test_a_stop_while_the_record_is_read_back_leaves_it_to_the_next_start(tmp_path):
    async def scenario(rig):
        Brittle.crash_at = 6500
        rig.source((0, 60), (60, 70))
        await rig.witness.until(lambda: "error" in rig.witness.event_names())
        Brittle.gate.clear()
        await rig.later(BACKOFF_S[0])
        rig.source((0, 60))
        await settle()
        rig.stop.set()
        await settle()
        Brittle.gate.set()
        return await rig.done()

    try:
        outcome, rig = run(scenario, tmp_path)
    finally:
        Brittle.gate.set()
    assert outcome.error is None
    assert outcome.session == rig.sessions[0].path
    assert "session_ended" not in rig.witness.event_names()


def test_a_device_that_came_back_as_another_begins_another_session(tmp_path):
    async def scenario(rig):
        rig.source((0, 40), SourceError("unplugged"))
        await rig.witness.until(lambda: "error" in rig.witness.event_names())
        await rig.later(BACKOFF_S[0])
        other = replace(INFO, channels=(*INFO.channels, Channel("Fz", "uV")))
        rig.source((0, 40), about=other)
        await rig.witness.until(lambda: len(rig.sessions) == 2)
        return await rig.done()

    outcome, rig = run(scenario, tmp_path)
    assert rig.witness.event_names().count("session_ended") == 2
    assert outcome.session == rig.sessions[1].path


def test_the_rest_grows_and_a_stop_ends_it(tmp_path):
    async def scenario(rig):
        for attempt in range(3):
            rig.sources.put_nowait(SourceError("not there"))
            await rig.later(0)
            assert rig.opened == attempt + 1
            await rig.later(BACKOFF_S[0] * 2**attempt)
            assert rig.opened == attempt + 2
        rig.sources.put_nowait(SourceError("not there"))
        await rig.later(0)
        return await rig.done()

    outcome, _ = run(scenario, tmp_path)
    assert outcome.session is None


def test_a_disk_with_no_room_for_a_session_is_tried_until_there_is(tmp_path):
    async def scenario(rig):
        rig.refusals = [DiskError("full; make room")] * 2
        for attempt in range(3):
            rig.source((0, 40))
            await settle()
            await rig.later(BACKOFF_S[0] * 2**attempt)
        await rig.witness.until(lambda: rig.witness.stages)
        return await rig.done()

    outcome, rig = run(scenario, tmp_path)
    assert outcome.error is None
    assert rig.supervisor.failures == 2
    assert len(committed(outcome.session)) == 1


REPAIRABLE = OSError(5, "driver"), RuntimeError("a bug"), JournalError("no right"), SignalError("rate")


@pytest.mark.parametrize("error", REPAIRABLE, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["opening", "beginning"])
def test_whatever_is_no_wrong_use_is_tried_again_at_the_first_attempt_as_at_any_other(tmp_path, error, where):
    async def scenario(rig):
        if where == "opening":
            rig.sources.put_nowait(error)
        else:
            rig.refusals = [error]
            rig.source((0, 40))
        rig.source((0, 40))
        await settle()
        await rig.later(BACKOFF_S[0])
        await rig.witness.until(lambda: rig.witness.stages)
        return await rig.done()

    outcome, rig = run(scenario, tmp_path)
    assert outcome.error is None
    assert rig.supervisor.failures == 1
    assert len(committed(outcome.session)) == 1


@pytest.mark.parametrize("kind", ["replay", "lsl"])
def test_what_another_attempt_cannot_mend_ends_the_stream(tmp_path, kind):
    source = {"kind": "replay", "path": "x.edf"} if kind == "replay" else {"kind": "lsl"}
    wrong = SourceError("gone") if kind == "replay" else UsageError("no channel of that name")

    async def scenario(rig):
        rig.sources.put_nowait(wrong)
        return await asyncio.wait_for(rig.task, 60)

    settings = StreamSettings.model_validate({"name": "anna", "source": source})
    outcome, rig = run(scenario, tmp_path, settings)
    assert outcome.error is wrong
    assert rig.opened == 1


def test_a_device_that_is_another_for_a_while_ends_neither_the_night_nor_the_session(tmp_path):
    """What was right for this session is not the settings' fault: a renamed channel may be renamed back."""

    async def scenario(rig):
        rig.source((0, 40), SourceError("unplugged"))
        await rig.witness.until(lambda: "error" in rig.witness.event_names())
        rig.sources.put_nowait(UsageError("no channel of that name"))  # of a source that looks for itself
        await rig.later(BACKOFF_S[0])
        rig.source((0, 40), about=info(100, ("AF7",)))
        await rig.later(2 * BACKOFF_S[0])
        await rig.witness.until(lambda: rig.supervisor.failures == 3)
        rig.source((0, 70))
        await rig.later(4 * BACKOFF_S[0])
        await rig.witness.until(lambda: rig.witness.stages[-1].stage not in ("no_signal", "unscored"))
        return await rig.done()

    named = {"name": "anna", "source": {"kind": "lsl"}, "signal": {"channel": "Fpz-Cz"}}
    outcome, rig = run(scenario, tmp_path, StreamSettings.model_validate(named))
    assert outcome.error is None
    assert len(rig.sessions) == 1
    errors = [event.text for event in rig.witness.events if event.event == "error"]
    assert "no channel of that name" in errors[1]
    assert "AF7" in errors[2]
    assert rig.witness.event_names().count("session_ended") == 1


def poke(rig):
    """Have the journal's thread look: it does not see a fake clock go on by itself."""
    writer = rig.sessions[0]._writer
    writer._scribe.within(writer, 0.0)


def test_a_disk_that_becomes_read_only_is_said_and_the_stages_go_on(tmp_path):
    def staged(rig):
        return sum(one.stage != "no_signal" for one in rig.witness.stages)

    async def told(rig, state):
        while not [one for one in rig.witness.events if one.data.get("recording") == state]:
            await rig.later(1)
            poke(rig)
            await asyncio.sleep(0.01)

    async def scenario(rig):
        source = rig.source((0, 40))
        await rig.witness.until(lambda: rig.witness.stages)
        make_read_only(rig.sessions[0], True)
        source.give(Chunk(4000, EEG[:, 4000:6500], rig.clock.now))
        await told(rig, "failing")
        before = staged(rig)
        source.give(Chunk(6500, EEG[:, 6500:9500], rig.clock.now))
        await rig.witness.until(lambda: staged(rig) > before)
        make_read_only(rig.sessions[0], False)
        await told(rig, "recording")
        return await rig.done()

    outcome, rig = run(scenario, tmp_path)
    assert outcome.error is None
    texts = [one.text for one in rig.witness.events if "recording" in one.data]
    assert "readonly" in texts[0]
    assert "takes the recording again" in texts[1]
    with JournalReader(outcome.session) as session:
        assert sum(one.samples.shape[1] for one in session.samples()) == 9500
        assert [one.epoch for one in session.epochs()] == [0, 1, 2]


@pytest.mark.parametrize("what", ["deleted", "moved"])
def test_a_session_folder_that_is_taken_away_is_said_and_the_night_is_whole(tmp_path, what):
    """`health` said `recording` to the end, and all of it was lost."""
    folder = tmp_path / "sessions"
    folder.mkdir()

    async def scenario(rig):
        source = rig.source((0, 40))
        await rig.witness.until(lambda: rig.witness.stages)
        await rig.later(2)
        if what == "deleted":
            shutil.rmtree(folder)
        else:
            folder.rename(tmp_path / "elsewhere")
        source.give(Chunk(4000, EEG[:, 4000:9500], rig.clock.now))
        while not [one for one in rig.witness.events if one.data.get("remade")]:
            await rig.later(1)
            poke(rig)
            await asyncio.sleep(0.01)
        return await rig.done()

    outcome, rig = run(scenario, folder)
    assert outcome.error is None
    (said,) = [one.text for one in rig.witness.events if "remade" in one.data]
    assert f"{outcome.session} was deleted or moved" in said
    with JournalReader(outcome.session) as session:
        assert sum(one.samples.shape[1] for one in session.samples()) == 9500
        assert [one.epoch for one in session.epochs()] == [0, 1, 2]
        assert session.missing == ()
    (status,) = find_statuses(folder)
    assert (status.state, "was deleted or moved" in status.trouble) == ("ended", True)


def test_a_crash_in_one_stream_leaves_another_alone(tmp_path):
    async def scenario(rig):
        Brittle.crash_at = 100
        rig.source((0, 10))
        await rig.witness.until(lambda: "error" in rig.witness.event_names())
        other = Rig(tmp_path / "other")
        other.folder.mkdir()
        other.source((0, 95), Gap(9500, 9600, "radio"))
        await other.witness.until(lambda: len(other.witness.stages) >= 3)
        first = await rig.done()
        return first, await other.done()

    (first, second), _ = run(scenario, tmp_path)
    assert first.error is None
    assert len(second.labels) == 3


def test_it_is_said_when_the_machine_cannot_keep_up_and_when_that_is_over(tmp_path):
    settings = LIVE.model_copy(update={"hop_s": 5})

    async def scenario(rig):
        rig.source((0, 40))
        await rig.witness.until(lambda: rig.witness.stages)
        for hop_s in (2, 10, 0):  # the first is shorter than what this stream does anyway
            rig.batcher.overload.least_hop_s = hop_s
            await rig.later(LOOK_S + 0.1)
        return await rig.done()

    _, rig = run(scenario, tmp_path, settings)
    said = [event for event in rig.witness.events if "least_hop_s" in event.data]
    assert [event.data["least_hop_s"] for event in said] == [10, 0]
    assert "provisional stages 10 s apart" in said[0].text
    assert "keeps up again" in said[1].text
