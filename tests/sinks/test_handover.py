"""No sink can end, block or starve another: what it raises is counted, said once, and it is tried again."""

import asyncio
import threading

import pytest

from streamer.clock import SystemClock
from streamer.errors import JournalError, SinkError, explain
from streamer.journal import Journal, JournalReader, Meta
from streamer.messages import Quality, Score
from streamer.news import Online, Remark, Scored
from streamer.payloads import EventPayload
from streamer.sinks import handover
from streamer.sinks.handover import SAY_AGAIN_S, STALLED_S, Aside, Guard, HandOver, Reaction, guard
from streamer.sinks.publisher import Publisher
from tests.fakes import FakeClock, Witness
from tests.paths import info


class Silent(BaseException):
    """Cannot even say what it is."""

    def __str__(self):
        raise RuntimeError


class Ear:
    """A sink that does to each message what a test wants done."""

    name = "the ear"
    wants = (Online, Remark)
    prompt = True

    def __init__(self, does=lambda: None, prompt=True):
        self.does = does
        self.heard = []
        self.prompt = prompt

    def hear(self, stream, news):
        self.does()
        self.heard.append(news)


def raising(error):
    def does():
        raise error

    return does


ANYTHING = [
    ValueError("bad"),
    OSError(28, "No space left on device"),
    SystemExit(1),
    KeyboardInterrupt(),
    MemoryError(),
    RecursionError(),
    ExceptionGroup("several", [ValueError("one")]),
    asyncio.CancelledError(),
    Silent(),
]


@pytest.mark.parametrize("error", ANYTHING, ids=lambda error: type(error).__name__)
def test_whatever_a_sink_raises_is_counted_said_once_and_it_is_tried_again(error, caplog):
    clock, bad, good = FakeClock(), Ear(raising(error)), Ear()
    sinks = HandOver([bad, good], clock)
    for _ in range(5):
        sinks.hear("anna", Online(True))
    assert len(good.heard) == 5
    ((name, text),) = sinks.complaints()
    assert name == "the ear"
    assert text.startswith("the ear failed: ")
    assert "\n" not in text
    assert len([one for one in caplog.records if one.name == "streamer.sinks.handover"]) == 1
    clock.now += SAY_AGAIN_S
    sinks.hear("anna", Online(True))
    assert len(sinks.complaints()) == 1, "an hour later it is said again"
    bad.does = lambda: None
    sinks.hear("anna", Online(False))
    assert bad.heard[0].text.startswith("6 messages are missing here: ")
    assert bad.heard[1] == Online(False)


def test_a_sink_that_lies_about_itself_harms_nobody():
    class Liar:
        prompt, name = True, "the liar"

        @property
        def wants(self):
            raise ValueError

        def hear(self, stream, news):
            raise AssertionError

    guard = Guard(Liar(), FakeClock())
    guard.hear("anna", Online(True))
    assert guard.failures == 1
    well = Ear()
    HandOver([guard, well], FakeClock()).hear("anna", Online(True))
    assert guard.failures == 2
    assert well.heard == [Online(True)]


def test_who_is_added_later_hears_what_the_others_hear():
    late, sinks = Ear(), HandOver([Ear()], FakeClock())
    sinks.hear("anna", Online(True))
    assert [sinks.wanted(kind) for kind in (Online, Remark, EventPayload)] == [True, True, False]
    sinks.first(late)
    sinks.first(Reaction("the alarm", lambda *_: None))
    sinks.hear("anna", Online(False))
    assert late.heard == [Online(False)]
    assert sinks.wanted(Scored)


def test_the_first_are_told_before_all_others_and_only_what_they_want():
    order = []
    sinks = HandOver([Ear(lambda: order.append("other"))], FakeClock())
    sinks.first(Ear(lambda: order.append("first")))
    sinks.first(Reaction("the alarm", lambda *_: order.append("a score")))
    sinks.hear("anna", Online(True))
    assert order == ["first", "other"]


def test_a_sink_that_may_wait_is_not_told_on_the_loop():
    with pytest.raises(ValueError, match="thread of its own"):
        guard(Ear(prompt=False), FakeClock())


class Stuck:
    """What a sink is stuck in, until a test lets it go."""

    def __init__(self):
        self.begun, self.over = threading.Event(), threading.Event()

    def __call__(self):
        self.begun.set()
        assert self.over.wait(60)


def test_a_sink_that_is_stuck_loses_the_oldest_and_is_told_how_many():
    stuck, clock = Stuck(), FakeClock()
    ear = Ear(stuck, prompt=False)
    with Aside(ear, clock, most=3) as aside:
        aside.hear("anna", Online(True))
        assert stuck.begun.wait(60)
        for _ in range(10):
            aside.hear("anna", Online(False))
        assert aside.dropped == 7
        assert aside.complaint() == ""
        clock.now += STALLED_S + 1
        assert "is stuck" in aside.complaint()
        assert aside.complaint() == ""
        stuck.over.set()
    assert [type(news).__name__ for news in ear.heard] == ["Online", "Remark"] + ["Online"] * 3
    assert ear.heard[1].text.startswith("7 messages are missing here")


def test_the_end_does_not_wait_for_a_sink_that_is_stuck(caplog, monkeypatch):
    monkeypatch.setattr(handover, "DRAIN_S", 0.01)
    stuck = Stuck()
    aside = Aside(Ear(stuck, prompt=False), SystemClock()).__enter__()
    aside.hear("anna", Online(True))
    assert stuck.begun.wait(60)
    assert not aside.close()
    assert "did not take its last messages (1)" in caplog.text
    stuck.over.set()
    monkeypatch.undo()
    assert aside.close()


def test_a_machine_without_threads_to_spare_costs_messages_and_no_night(monkeypatch):
    real, refusals = threading.Thread.start, [1, 1]

    def start(self):
        if refusals and self.name == "sink: the ear":
            refusals.pop()
            raise RuntimeError("can't start new thread")
        real(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    ear = Ear(prompt=False)
    with Aside(ear, SystemClock()) as aside:
        for _ in range(3):
            aside.hear("anna", Online(True))
        assert "can't start new thread" in aside.complaint()
    assert ear.heard == [Online(True)] * 3
    none = Aside(ear, SystemClock())
    assert none.close(), "it was never begun"


def test_a_sink_is_entered_and_left_in_its_own_thread_whatever_that_raises(caplog):
    class Screen(Ear):
        def __enter__(self):
            self.entered = threading.current_thread()
            raise OSError(5, "Input/output error")

        def __exit__(self, *_):
            raise AssertionError("was never entered")

    screen = Screen(prompt=False)
    with Aside(screen, SystemClock()) as aside:
        aside.hear("anna", Online(True))
    assert screen.heard[-1] == Online(True)
    assert screen.entered.name == "sink: the ear"
    assert aside.failures == 1


def test_errors_are_said_in_one_line():
    assert explain(OSError(28, "No space left on device")) == "No space left on device"
    assert explain(SinkError("said\nso")) == "said so"
    assert explain(ValueError()) == "ValueError"
    assert explain(Silent()) == "Silent"
    assert len(explain(ValueError("x" * 10_000))) <= 500


def score(end_s, epoch):
    return Score(end_s * 100, epoch, "N2", "N2", (0.0, 0.0, 1.0, 0.0, 0.0), False, Quality("good"))


@pytest.fixture
def publisher(tmp_path):
    """One with a sink that raises, a reaction that raises, and a witness."""
    clock, witness = FakeClock(), Witness()
    with Journal.create(tmp_path / "s.sqlite", Meta("s", "n", "anna", info(100)), SystemClock()) as journal:
        bad = Ear(raising(ZeroDivisionError()))
        bad.wants = (object,)
        made = Publisher("anna", "s", info(100), journal, [bad, witness], clock, None)
        made.first(Reaction("the triggers", raising_push))
        yield made, witness, journal


def raising_push(_score, _end):
    raise KeyError("stage")


def test_a_night_goes_on_beside_sinks_that_fail_and_says_so_once(publisher):
    made, witness, journal = publisher
    for number in range(4):
        made.score(score(30 * (number + 1), number))
    made.urgent("trigger", "fired", {})
    assert [payload.seq for payload in witness.stages] == [0, 1, 2, 3]
    said = [(one.event, one.data.get("sink")) for one in witness.events]
    assert said == [("error", "the triggers"), ("error", "the ear"), ("trigger", None)]
    assert [one.seq for one in witness.events] == [0, 1, 2]
    assert len(made.labels) == 4
    assert journal.status.state == "recording"


def test_a_sink_that_answers_while_it_is_told_something_urgent_is_recorded_after_that(tmp_path):
    class Answering(Ear):
        wants = (EventPayload,)

        def hear(self, stream, news):
            if news.event == "trigger":
                made.event("mark", "heard")

    with Journal.create(tmp_path / "s.sqlite", Meta("s", "n", "anna", info(100)), SystemClock()) as journal:
        made = Publisher("anna", "s", info(100), journal, [Answering()], FakeClock(), None)
        made.urgent("trigger", "fired", {})
        made.urgent("trigger", "fired", {})
    with JournalReader(tmp_path / "s.sqlite") as session:
        assert [one.event for one in session.events()] == ["trigger", "mark"] * 2


def test_an_event_is_heard_although_the_record_is_closed(publisher, caplog):
    made, witness, journal = publisher
    journal.close()
    with pytest.raises(JournalError):
        journal.clock_pair()
    made.urgent("alarm", "ringing", {})
    assert "alarm" in witness.event_names()
    assert "not recorded: alarm of anna" in caplog.text
