"""The long view of time: true rates, clocks that are set, computers that sleep; the grid does not move."""

import asyncio

import numpy as np
import pytest

from streamer.clock import SystemClock, suspended_s
from streamer.journal import JournalReader
from streamer.live.ratewatch import ClockWatch, RateWatch
from streamer.messages import Chunk
from tests.live.test_stream import rig


def watch(nominal_hz, true_hz, minutes, jitter_s=0.0, stalls=(), seed=0):
    """Chunks of 0.1 s that arrive late by up to `jitter_s`, or only when a stall is over."""
    rng = np.random.default_rng(seed)
    made, said = RateWatch(nominal_hz), []
    for step in range(1, minutes * 600):
        arrived = step / 10 + rng.exponential(jitter_s or 1e-9)
        for begin, end in stalls:
            if begin <= arrived < end:
                arrived = end
        said.append(made.push(round(step / 10 * true_hz), arrived))
    return made, [text for text in said if text]


@pytest.mark.parametrize(("nominal_hz", "true_hz"), [(250, 256), (256, 250), (200, 201.5), (256, 254.5)])
def test_a_wrong_rate_is_said_once_and_rightly(nominal_hz, true_hz):
    made, said = watch(nominal_hz, true_hz, 10, jitter_s=0.05)
    assert made.rate_hz == pytest.approx(true_hz, rel=5e-4)
    assert len(said) == 1
    assert f"{nominal_hz} Hz" in said[0]
    assert f"{true_hz:.0f}" in said[0] or f"{true_hz}" in said[0]


@pytest.mark.parametrize("ppm", [0, 200, -200, 2000])
def test_drift_is_measured_and_no_reason_to_warn(ppm):
    made, said = watch(256, 256 * (1 + ppm * 1e-6), 30, jitter_s=0.05, stalls=((300, 309), (900, 960)))
    assert said == []
    assert made.rate_hz == pytest.approx(256 * (1 + ppm * 1e-6), rel=1e-4)


def test_two_minutes_of_samples_are_needed():
    made, said = watch(250, 256, 1)
    assert made.rate_hz is None
    assert said == []


@pytest.mark.parametrize("hours", [1, -1])
def test_daylight_saving_done_wrong_is_noticed_once(hours):
    made = ClockWatch(1e9, 50.0, 0.0)
    assert made.look(1e9 + 60.01, 110.0, 0.0) == []
    (said,) = made.look(1e9 + 120 + 3600 * hours, 170.0, 0.0)
    assert f"was set by {3600 * hours:+.1f} s" in said
    assert made.look(1e9 + 180 + 3600 * hours, 230.0, 0.0) == []


def test_slewing_is_no_jump_and_sleep_is_no_setting():
    made = ClockWatch(1e9, 0.0, 100.0)
    for minute in range(1, 600):
        assert made.look(1e9 + minute * 60.03, minute * 60.0, 100.0) == []
    (said,) = made.look(1e9 + 599 * 60.03 + 3660, 599 * 60 + 3660, 3700.0)
    assert "slept for 3600 s" in said


def test_this_computers_steady_clock_counts_its_sleep():
    assert suspended_s() >= -0.001
    first = SystemClock().monotonic()
    assert SystemClock().monotonic() >= first


@pytest.mark.parametrize("by_s", [3600.0, -3600.0, 2.0])
def test_a_clock_that_is_set_moves_no_epoch(tmp_path, by_s):
    async def scenario():
        async with rig(tmp_path) as r:
            r.give(0, 35)
            await r.until(lambda: len(r.publisher.labels) == 1)
            r.clock._wall += by_s
            await r.clock.advance(61)
            r.give(35, 95)
            await r.until(lambda: len(r.publisher.labels) == 3)
            assert any("was set by" in event.text for event in r.witness.events if event.event == "warning")
            return r.source.info.started

    started = asyncio.run(scenario())
    with JournalReader(tmp_path / "session.sqlite") as session:
        begun = [epoch.t_start.timestamp() - started for epoch in session.epochs()]
        (_, *first), (_, *second) = session.raw("clocks")
    assert begun == [0.0, 30.0, 60.0]
    assert second[0] - first[0] == pytest.approx(60 + by_s)
    assert second[1] - first[1] == pytest.approx(60)


def test_a_device_that_lies_about_its_rate_is_named_in_an_event(tmp_path):
    async def scenario():
        async with rig(tmp_path) as r:
            for second in range(150):
                samples = np.random.default_rng(second).normal(0, 20, (1, 102))
                r.source.give(Chunk(second * 102, samples, arrived=1.0 + second))
            await r.until(lambda: "warning" in r.witness.event_names())
            assert "102.00 Hz, but the stream says 100 Hz" in r.witness.events[-1].text

    asyncio.run(scenario())
