"""Many streams on one thread: epochs to the bit as if alone, provisional stages to 1e-5, nobody held up."""

import asyncio
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.asks import Ask
from streamer.frontend import Graded
from streamer.live import batching
from streamer.live.batching import CROWD, MOST, PIECE, Batcher
from streamer.messages import Chunk, Gap, Score
from streamer.network.stager import Model
from streamer.pipeline import Pipeline
from streamer.settings import SignalSettings
from tests.chunkings import cut, stream
from tests.fakes import FakeClock, Inline, WatchedRunner
from tests.paths import default_model, eeg, info, run, scores

PROMISED = 1e-5  # of a probability, between one that was scored with others and one that was not


def recorded_model(clock=None):
    """The packaged model, and what its network is given."""
    real = default_model()
    runner = WatchedRunner(real.runner, clock)
    return Model(runner, real.contract), runner


def pipeline(model, hop_s=1):
    return Pipeline(info(100), SignalSettings(), hop_s, model)


def whole(seconds):
    """A stream as one piece."""
    return Chunk(0, eeg(seconds, 100))


async def outputs(lane, made, item):
    """All that comes of an item."""
    return [one async for piece in lane.outputs(made, item) for one in piece]


async def staged(lane, made, pieces, turns=()):
    """Everything that comes of a stream whose pieces are handed over after so many turns of the loop each."""
    out, turns = [], list(turns)
    for number, piece in enumerate(pieces):
        for _ in range(turns[number % len(turns)] if turns else 0):
            await asyncio.sleep(0)
        out += await outputs(lane, made, piece)
    return out + await outputs(lane, made, None)


def together(streams, model, worker):
    """What comes of several streams at once; each is its hop, its pieces and its turns."""

    async def scenario():
        batcher = Batcher(worker, FakeClock())
        return await asyncio.gather(
            *(
                staged(batcher.lane(True), pipeline(model, hop_s), pieces, turns)
                for hop_s, pieces, turns in streams
            )
        )

    return asyncio.run(scenario())


def assert_as_promised(found, alone, crowd=False):
    """The same outputs in the same order; epochs to the bit but in a crowd, other probabilities to 1e-5."""
    assert len(found) == len(alone)
    for one, other in zip(found, alone, strict=True):
        exact = not isinstance(other, Score) or (other.epoch is not None and not crowd)
        if exact or other.probabilities is None:
            assert one == other
            continue
        assert (one.end, one.epoch, one.warmup, one.quality) == (
            other.end,
            other.epoch,
            other.warmup,
            other.quality,
        )
        np.testing.assert_allclose(one.probabilities, other.probabilities, rtol=0, atol=PROMISED)


STREAM = st.tuples(
    st.sampled_from([1, 2, 5, 7, 30]),  # hop
    st.integers(0, 3),  # whose EEG
    st.lists(st.sampled_from([29, 100, 331, 2999, 7919]), min_size=1, max_size=4),  # pieces
    st.lists(st.integers(0, 9), min_size=1, max_size=4),  # turns before each
    st.lists(st.sampled_from([(2000, 2010), (3100, 4700), (7000, 7400)]), max_size=2, unique=True),  # gaps
)


def assert_company_changes_as_promised(streams, crowd=False):
    model, _ = recorded_model()
    given = [
        (hop_s, stream(eeg(95, 100, seed), gaps), sizes, turns) for hop_s, seed, sizes, turns, gaps in streams
    ]
    found = together(
        [(hop_s, list(cut(items, sizes)), turns) for hop_s, items, sizes, turns in given], model, Inline()
    )
    for outputs, (hop_s, items, _, _) in zip(found, given, strict=True):
        assert_as_promised(outputs, run(items, 100, hop_s), crowd=crowd)


@settings(max_examples=8)
@given(streams=st.lists(STREAM, min_size=1, max_size=6))
def test_any_company_changes_no_epoch_and_provisional_stages_by_the_last_bits(streams):
    assert_company_changes_as_promised(streams)


def test_what_is_due_together_is_scored_together_and_epochs_alone():
    model, network = recorded_model()
    streams = [(1, list(cut(stream(eeg(62, 100, seed)), [100])), ()) for seed in range(5)]
    found = together(streams, model, Inline())
    off_the_grid = 31 - 1  # seconds 31 to 62, without 60
    assert network.passes.count(5) == off_the_grid + 1
    assert network.passes.count(1) == 5 * 2
    for outputs, (_, pieces, _) in zip(found, streams, strict=True):
        assert_as_promised(outputs, run(pieces, 100, 1))


@pytest.fixture
def crowd(monkeypatch):
    """Two devices count as a crowd."""
    monkeypatch.setattr(batching, "CROWD", 2)
    monkeypatch.setattr(batching, "EVERY_S", 0.0)


@pytest.mark.usefixtures("crowd")
def test_in_a_crowd_epochs_are_scored_together_too_and_the_past_they_leave_is_the_same():
    model, network = recorded_model()
    signals = [eeg(125, 100, seed) for seed in range(5)]
    signals[1][:, 3200:5800] = 0  # its epoch 1 is not usable
    items = [stream(signal) for signal in signals]
    found = together([(1, list(cut(one, [100])), ()) for one in items], model, Inline())
    assert 1 not in network.passes  # nobody is alone, on the grid neither
    for outputs, pieces in zip(found, items, strict=True):
        alone = run(pieces, 100, 1)
        assert {None, 0, 1, 2, 3} == {score.epoch for score in scores(outputs)}
        assert_as_promised(outputs, alone, crowd=True)
    assert [score.stage for score in scores(found[1]) if score.epoch == 1] == ["unscored"]


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(streams=st.lists(STREAM, min_size=2, max_size=6))
@pytest.mark.usefixtures("crowd")
def test_in_a_crowd_any_company_changes_scores_by_the_last_bits(streams):
    assert_company_changes_as_promised(streams, crowd=True)


def test_a_pass_is_bounded():
    model, network = recorded_model()
    streams = [(1, list(cut(stream(eeg(32, 100)), [100])), ())] * (MOST + 3)
    together(streams, model, Inline())
    assert max(network.passes) == MOST
    assert sum(network.passes) == (MOST + 3) * 3


def test_a_stream_that_is_alone_has_every_score_to_the_bit():
    model, network = recorded_model()
    items = stream(eeg(95, 100), [(4000, 4500)])
    with ThreadPoolExecutor(1) as worker:
        (found,) = together([(1, list(cut(items, [331])), ())], model, worker)
    assert found == run(items, 100, 1)
    assert set(network.passes) == {1}


def test_real_threads_change_nothing():
    model, _ = recorded_model()
    given = [(hop_s, stream(eeg(95, 100, hop_s))) for hop_s in (1, 1, 2, 5)]
    with ThreadPoolExecutor(1) as worker:
        found = together([(hop_s, list(cut(items, [100])), ()) for hop_s, items in given], model, worker)
    for outputs, (hop_s, items) in zip(found, given, strict=True):
        assert_as_promised(outputs, run(items, 100, hop_s))


def test_who_has_a_long_piece_to_catch_up_on_holds_nobody_up():
    model, _ = recorded_model()
    done = []

    async def hand_over(lane, name, seconds):
        await outputs(lane, pipeline(model), whole(seconds))
        done.append(name)

    async def scenario():
        batcher = Batcher(Inline(), FakeClock())
        names = {"after a loss": 150, "anna": 31, "bert": 32}
        await asyncio.gather(*(hand_over(batcher.lane(True), name, length) for name, length in names.items()))

    asyncio.run(scenario())
    assert done == ["anna", "bert", "after a loss"]


NIGHT_OFF_S = 20 * 3600


async def after_a_night_off(lane, made):
    """A stream whose band was off for 20 h has samples again: what comes of them, piece by piece."""
    await outputs(lane, made, whole(40))
    await outputs(lane, made, Gap(4000, 4000 + 100 * NIGHT_OFF_S, "off"))
    async for piece in lane.outputs(made, Chunk(4000 + 100 * NIGHT_OFF_S, eeg(40, 100))):
        yield piece


def test_a_night_without_samples_leaves_in_small_pieces_and_holds_nobody_up():
    heard = []  # whose turn it was

    async def scenario():
        batcher = Batcher(Inline(), FakeClock())
        model = default_model()
        off = after_a_night_off(batcher.lane(True), pipeline(model))
        sizes = [len(await anext(off))]
        for _ in range(5):
            turns = asyncio.create_task(outputs(batcher.lane(True), pipeline(model), whole(31)))
            turns.add_done_callback(lambda _: heard.append("another"))
            while not turns.done():
                sizes.append(len(await anext(off)))
                heard.append("the long loss")
        return sizes

    sizes = asyncio.run(scenario())
    assert max(sizes) <= PIECE
    assert "".join(name[0] for name in heard).count("ttt") == 0  # at most two pieces before another's turn


def test_windows_of_a_loss_are_made_as_they_are_wanted():
    made_of = []

    class Watched(Pipeline):
        def front(self, item):
            for part in super().front(item):
                if isinstance(part, Graded):
                    made_of.append(weakref.ref(part.window.samples))
                yield part

    async def scenario():
        watched = Watched(info(100), SignalSettings(), 1, default_model())
        off, most = after_a_night_off(Batcher(Inline(), FakeClock()).lane(True), watched), 0
        for _ in range(40):
            await anext(off)
            most = max(most, sum(one() is not None for one in made_of))
        return most

    assert asyncio.run(scenario()) <= PIECE + 2


def test_who_stops_in_a_long_loss_gets_its_epochs_and_nothing_else():
    async def scenario():
        lane, made = Batcher(Inline(), FakeClock()).lane(True), pipeline(default_model())
        stop = asyncio.Event()
        await outputs(lane, made, Gap(0, 360_000, "off"))
        found = []
        async for piece in lane.outputs(made, Chunk(360_000, eeg(31, 100)), stop):
            found += scores(piece)
            stop.set()
        return found

    found = asyncio.run(scenario())
    assert [score.epoch for score in found if score.epoch is not None] == list(range(121))
    assert len(found) <= PIECE + 121


class Poison(Exception):
    """A mistake in the program."""


def test_a_crash_is_told_to_its_own_stream_only():
    class Crashing(Pipeline):
        def front(self, item):
            yield from super().front(item)
            raise Poison("boom")

    async def scenario():
        batcher = Batcher(Inline(), FakeClock())
        model, item = default_model(), whole(40)
        crashing = Crashing(info(100), SignalSettings(), 1, model)
        return await asyncio.gather(
            outputs(batcher.lane(True), crashing, item),
            outputs(batcher.lane(True), pipeline(model), item),
            return_exceptions=True,
        )

    crashed, well = asyncio.run(scenario())
    assert isinstance(crashed, Poison)
    assert len(scores(well)) == 11


def asked(*works):
    """What comes of streams whose stages first ask for one of these each, and then do as usual."""

    class Asking(Pipeline):
        def __init__(self, work):
            super().__init__(info(100), SignalSettings(), 1, default_model())
            self.work = work

        def front(self, item):
            yield Ask(self.work, np.ones((1, 7)))
            yield from super().front(item)

    async def scenario():
        batcher = Batcher(Inline(), FakeClock())
        lanes = [(batcher.lane(True), Asking(work)) for work in works]
        return await asyncio.gather(
            *(outputs(lane, made, whole(40)) for lane, made in lanes), return_exceptions=True
        )

    return asyncio.run(scenario())


def test_what_stages_of_several_streams_ask_is_answered_in_one_call():
    calls = []

    def work(rows):
        calls.append(rows.shape)
        return rows

    assert [len(scores(one)) for one in asked(work, work, work)] == [11, 11, 11]
    assert calls == [(3, 7)]


def test_a_stage_that_fails_at_what_it_asks_harms_its_own_stream_only():
    def poison(rows):
        raise Poison("boom")

    crashed, well, again = asked(poison, np.negative, np.negative)
    assert isinstance(crashed, Poison)
    assert [len(scores(one)) for one in (well, again)] == [11, 11]


def test_a_network_that_fails_leaves_nobody_waiting():
    model, network = recorded_model()

    async def scenario():
        batcher = Batcher(Inline(), FakeClock())
        made, lanes = [pipeline(model) for _ in range(3)], [batcher.lane(True) for _ in range(3)]
        for number in range(3):
            await outputs(lanes[number], made[number], whole(30))
        network.together = None
        piece = Chunk(3000, eeg(1, 100))
        return await asyncio.gather(
            *(outputs(lane, one, piece) for lane, one in zip(lanes, made, strict=True)),
            return_exceptions=True,
        )

    assert [type(error) for error in asyncio.run(scenario())] == [TypeError] * 3


def test_who_no_longer_waits_is_not_told():
    async def scenario():
        with ThreadPoolExecutor(1) as worker:
            batcher = Batcher(worker, FakeClock())
            lane, model = batcher.lane(True), default_model()
            gone = asyncio.create_task(outputs(lane, pipeline(model), whole(60)))
            await asyncio.sleep(0)
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
            return await outputs(batcher.lane(True), pipeline(model), whole(40))

    assert len(scores(asyncio.run(scenario()))) == 11


@pytest.mark.parametrize("others", [0, CROWD])
def test_in_a_crowd_a_pass_waits_for_company_until_it_is_full(others, monkeypatch):
    monkeypatch.setattr(batching, "EVERY_S", 3600.0)
    model, network = recorded_model()

    async def scenario():
        batcher = Batcher(Inline(), FakeClock())
        for _ in range(others):
            batcher.lane(True)
        made = [(batcher.lane(live=not number), pipeline(model)) for number in range(MOST)]
        for _, one in made:
            list(one.push(whole(30)))
        await outputs(*made[0], Gap(3000, 3000, ""))  # the first pass of all waits for nobody
        network.passes.clear()
        tasks = [asyncio.create_task(outputs(lane, one, Chunk(3000, eeg(1, 100)))) for lane, one in made[1:]]
        for _ in range(50):
            await asyncio.sleep(0)
        assert [task.done() for task in tasks] == [not others] * (MOST - 1)
        tasks.append(asyncio.create_task(outputs(*made[0], Chunk(3000, eeg(1, 100)))))
        await asyncio.wait(tasks)

    asyncio.run(scenario())
    assert network.passes == ([MOST] if others else [MOST - 1, 1])


@pytest.mark.parametrize("crowd", [False, True])
def test_in_a_crowd_what_a_full_pass_leaves_waits_for_company(crowd, monkeypatch):
    monkeypatch.setattr(batching, "EVERY_S", 3600.0)
    model, network = recorded_model()

    async def scenario():
        batcher = Batcher(Inline(), FakeClock())
        made = [(batcher.lane(live=crowd), pipeline(model)) for _ in range(MOST + 3)]
        for _, one in made:
            list(one.push(whole(30)))
        network.passes.clear()
        tasks = [asyncio.create_task(outputs(lane, one, Chunk(3000, eeg(1, 100)))) for lane, one in made]
        for _ in range(50):
            await asyncio.sleep(0)
        assert [task.done() for task in tasks] == [True] * MOST + [not crowd] * 3
        later = [
            asyncio.create_task(outputs(lane, one, Chunk(3100, eeg(1, 100)))) for lane, one in made[3:MOST]
        ]
        await asyncio.wait([*tasks, *later])

    asyncio.run(scenario())
    assert network.passes[:2] == ([MOST, MOST] if crowd else [MOST, 3])


def test_in_a_crowd_who_has_more_to_catch_up_on_does_not_wait_for_company(monkeypatch):
    monkeypatch.setattr(batching, "EVERY_S", 3600.0)
    model, network = recorded_model()

    async def scenario():
        batcher = Batcher(Inline(), FakeClock())
        for _ in range(CROWD):
            batcher.lane(True)
        return await outputs(batcher.lane(True), pipeline(model), whole(34))

    assert len(scores(asyncio.run(scenario()))) == 5
    assert network.passes == [1] * 5
