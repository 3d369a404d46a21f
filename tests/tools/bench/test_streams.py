"""The benchmark of many streams: its devices are devices, and it stops where latency is lost."""

import asyncio

import numpy as np
import pytest

from streamer.messages import EPOCH_S, Chunk
from streamer.quality import GOOD, QualityMeter
from tests.fakes import FakeClock
from tools.bench import streams
from tools.bench.signals import NOISE_S, RATE_HZ, noise_like_eeg
from tools.bench.streams import Headband, Point, capacity


def test_the_noise_is_graded_as_eeg_is():
    noise = noise_like_eeg(np.random.default_rng(0), 4, NOISE_S)
    for samples in noise:
        meter = QualityMeter(RATE_HZ)
        meter.push(Chunk(0, samples[None], 0.0))
        assert meter.grade(EPOCH_S) is GOOD
        assert 1.0 <= np.median(meter.fast_uv(EPOCH_S)) <= 3.0


def test_a_device_gives_its_past_and_then_what_comes_in_time():
    async def scenario():
        clock, given = FakeClock(), []
        noise = noise_like_eeg(np.random.default_rng(0), 4, NOISE_S)

        async def listen():
            async with Headband(noise, 70, 2.0, clock) as device:
                async for chunk in device:
                    given.append((chunk, clock.now))

        listening = asyncio.create_task(listen())
        for _ in range(1400):
            await clock.advance(0.01)
        listening.cancel()
        await asyncio.wait([listening])
        return given

    given = asyncio.run(scenario())
    at = 0
    for chunk, now in given:
        assert chunk.start == at
        assert chunk.samples.shape == (4, chunk.stop - at)
        assert chunk.stop > at
        assert chunk.arrived <= now
        at = chunk.stop
    assert [chunk.stop - chunk.start for chunk, _ in given[:2]] == [30 * RATE_HZ] * 2
    late = [now - chunk.arrived for chunk, now in given[3:]]
    assert 8 <= len(late) <= 12  # one a second
    assert max(late) <= 1 / RATE_HZ  # no more than the sample that is under way
    assert at / RATE_HZ == pytest.approx(70 + 11.5, abs=0.6)  # it began after 2 s of 14


@pytest.mark.parametrize(("most", "held"), [(10_000, 212), (199, 175), (150, 125), (1, 0)])
def test_streams_are_added_until_latency_is_lost(most, held):
    asked = []

    def run(count, hop_s, cores):
        asked.append(count)
        p99_ms = 20.0 if count <= most else 500.0
        return [Point(count, count * 0.004, 0.0, 100, 5.0, p99_ms, False, 400.0) for _ in cores]

    found = capacity(1, [0], run)
    assert found["hop1_one_core_streams_held"] == held
    assert found["hop1_one_core_load70_streams"] == 175
    assert found["hop1_one_core_load70_load"] == pytest.approx(0.7)
    assert asked[0] == streams.FIRST
    assert capacity(1, [0, 1], run)["hop1_two_cores_streams_held"] == 2 * held


def test_what_was_thinned_is_not_carried():
    def run(count, hop_s, cores):
        return [Point(count, count * 0.004, 0.0, 100, 5.0, 20.0, count > 180, 400.0)]

    assert capacity(1, [0], run)["hop1_one_core_streams_held"] == 175
