"""When the machine is too slow, provisional stages give way, epochs do not; and all comes back by itself."""

import asyncio
from itertools import pairwise

import pytest

from streamer.live.batching import Batcher
from streamer.live.overload import CALM_S, HOPS_S, LATE_S, Overload
from streamer.messages import Chunk
from tests.fakes import FakeClock, Inline
from tests.live.test_batching import outputs, pipeline, recorded_model
from tests.paths import eeg, run, scores

STREAMS = 3
SECONDS = 270


@pytest.fixture(autouse=True)
def promised(monkeypatch):
    """What people get: tests of other things are not about the machine's speed."""
    monkeypatch.setattr("streamer.live.overload.LATE_S", LATE_S)


def late(overload, clock):
    """A window is handed over now and scored too late."""
    handed_over = clock.now
    clock.now += LATE_S + 0.1
    overload.scored(handed_over)


def test_each_late_window_that_came_after_the_last_step_is_a_step():
    clock = FakeClock()
    overload = Overload(clock)
    overload.scored(clock.now)
    assert overload.least_hop_s == 0
    for hop_s in (*HOPS_S[1:], HOPS_S[-1]):
        late(overload, clock)
        assert overload.least_hop_s == hop_s


def test_what_was_waiting_before_the_step_is_no_reason_for_another():
    clock = FakeClock()
    overload = Overload(clock)
    late(overload, clock)
    overload.scored(0.0)
    assert overload.least_hop_s == HOPS_S[1]


def work(overload, clock, front, network, seconds):
    """The thread is busy for these shares of each second."""
    for _ in range(round(seconds)):
        clock.now += 1 - front - network
        began = clock.now
        clock.now += front + network
        overload.worked(began, began + front)


def test_it_steps_back_only_with_time_to_spare():
    clock = FakeClock()
    overload = Overload(clock)
    late(overload, clock)
    late(overload, clock)
    work(overload, clock, 0.1, 0.8, 3 * CALM_S)
    assert overload.least_hop_s == HOPS_S[2]
    work(overload, clock, 0.05, 0.05, CALM_S - 5)
    late(overload, clock)  # a step up, and the calm begins anew
    work(overload, clock, 0.05, 0.05, CALM_S - 5)
    assert overload.least_hop_s == HOPS_S[3]
    work(overload, clock, 0.05, 0.05, 6)
    assert overload.least_hop_s == HOPS_S[2]
    work(overload, clock, 0.05, 0.05, 3 * CALM_S)
    assert overload.least_hop_s == 0


@pytest.mark.parametrize(("network", "hop_s"), [(0.12, 0), (0.2, 2)])
def test_a_step_back_multiplies_the_networks_time_and_no_other(network, hop_s):
    clock = FakeClock()
    overload = Overload(clock)
    late(overload, clock)
    assert overload.least_hop_s == 2
    work(overload, clock, 0.45, network, 3 * CALM_S)  # hop 1: .69 or .85
    assert overload.least_hop_s == hop_s


class Night:
    """Some devices in fake time, and a network whose speed changes."""

    def __init__(self, costs_s, seconds):
        self.clock = FakeClock()
        self.model, self.network = recorded_model(self.clock)
        self.costs_s = costs_s  # from when on, and of one window
        self.seconds = seconds
        self.batcher = Batcher(Inline(), self.clock)
        self.lanes = [self.batcher.lane(True) for _ in range(STREAMS)]
        self.hops = []  # that were in force
        self.out = asyncio.run(self.play())

    async def device(self, lane, seed):
        samples, made, out = eeg(self.seconds, 100, seed), pipeline(self.model), []
        for second in range(self.seconds):
            await self.clock.sleep(max(0.0, second + 1 + seed / 10 - self.clock.now))
            self.network.cost_s = max(cost for cost in self.costs_s.items() if cost[0] <= second)[1]
            out += await outputs(lane, made, Chunk(second * 100, samples[:, second * 100 :][:, :100]))
            self.hops.append(lane.least_hop_s)
        return scores(out)

    async def play(self):
        devices = [asyncio.create_task(self.device(lane, seed)) for seed, lane in enumerate(self.lanes)]
        while not all(one.done() for one in devices):
            await self.clock.advance(1.0)
        return [one.result() for one in devices]


def test_a_slow_machine_stages_every_epoch_as_a_fast_one_does():
    slow = Night({0: 0.01, 40: 0.8, 95: 0.01}, SECONDS)
    for seed, found in enumerate(slow.out):
        whole = scores(run([Chunk(0, eeg(SECONDS, 100, seed))], 100, 1, flush=False))
        epochs = [score for score in whole if score.epoch is not None]
        assert [score for score in found if score.epoch is not None] == epochs
        assert len(found) == len(whole) - slow.lanes[seed].thinned
        assert slow.lanes[seed].thinned > 30
        ends = [score.end // 100 for score in found]
        assert max(after - before for before, after in pairwise(ends)) <= 30
        assert ends[-20:] == list(range(SECONDS - 19, SECONDS + 1))  # it has come back by itself
    assert max(slow.hops) >= 5
    assert slow.hops[-1] == 0


def test_a_machine_that_keeps_up_leaves_nothing_out():
    fast = Night({0: 0.05}, 100)
    assert set(fast.hops) == {0}
    assert [lane.thinned for lane in fast.lanes] == [0] * STREAMS


def test_a_recording_can_wait_and_is_not_thinned():
    async def scenario():
        clock = FakeClock()
        model, network = recorded_model(clock)
        network.cost_s = 2.0
        lane = Batcher(Inline(), clock).lane(False)
        return await outputs(lane, pipeline(model), Chunk(0, eeg(60, 100))), lane

    found, lane = asyncio.run(scenario())
    assert len(scores(found)) == 31
    assert (lane.thinned, lane.least_hop_s) == (0, 0)
