"""A simulated night is the same however it is cut and played, its losses are gaps, its truth fits."""

import asyncio
import datetime
import json
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.messages import STAGES, Chunk, Gap
from streamer.sources.night import FIGURES, Figures
from streamer.sources.settings import SimulatedSettings
from streamer.sources.simulated import SimulatedSource, resample
from tests.fakes import FakeClock


def night(**options):
    return SimulatedSource(SimulatedSettings(**options), FakeClock())


def signal(source):
    """The samples of a night, NaN where they were lost; checks that nothing overlaps or is left out."""
    at, parts = 0, []
    for item in source.items():
        assert item.start == at
        at = item.stop
        parts.append(item.samples[0] if isinstance(item, Chunk) else np.full(item.stop - item.start, np.nan))
    return np.concatenate(parts)


DISTURBED = {"seed": 2, "hours": 0.1, "rate_hz": 128, "dropouts_per_hour": 40, "artefacts_per_hour": 40}


@cache
def disturbed():
    return signal(night(**DISTURBED))


@settings(max_examples=10, deadline=None)
@given(chunk_s=st.floats(0.05, 60), speed=st.sampled_from([1.0, 7.0, "max"]))
def test_chunks_and_speed_change_no_sample(chunk_s, speed):
    found = signal(night(**DISTURBED, chunk_s=chunk_s, speed=speed))
    assert np.array_equal(disturbed(), found, equal_nan=True)


@pytest.mark.parametrize("rate_hz", [50, 99.7, 100, 128, 200, 256, 1024])
def test_every_rate_gives_the_whole_night(rate_hz):
    samples = signal(night(seed=1, hours=0.05, rate_hz=rate_hz))
    assert len(samples) == round(180 * rate_hz)
    assert np.isfinite(samples).all()


def test_seeds_differ_and_repeat():
    assert np.array_equal(signal(night(seed=1, hours=0.02)), signal(night(seed=1, hours=0.02)))
    assert not np.array_equal(signal(night(seed=1, hours=0.02)), signal(night(seed=2, hours=0.02)))
    assert night(seed=1).truth == night(seed=1).truth != night(seed=2).truth


@pytest.mark.parametrize(("hours", "n"), [(8.0, 960), (1.0, 120), (0.1, 12), (0.01, 2)])
def test_the_truth_covers_every_epoch(hours, n):
    truth = night(hours=hours).truth
    assert len(truth) == n
    assert set(truth) <= set(STAGES)


@pytest.mark.parametrize("seed", range(8))
def test_a_night_looks_like_a_night(seed):
    truth = np.array(night(seed=seed).truth)
    asleep = truth != "W"
    onset, rem = int(asleep.argmax()), int((truth == "R").argmax())
    assert 8 <= onset / 2 <= 25  # minutes to fall asleep
    assert 40 <= (rem - onset) / 2 <= 120
    share = {stage: (truth == stage).sum() / asleep.sum() for stage in STAGES}
    assert 0.02 < share["N1"] < 0.12
    assert 0.4 < share["N2"] < 0.65
    assert 0.1 < share["N3"] < 0.27
    assert 0.14 < share["R"] < 0.31
    assert asleep.mean() > 0.85
    assert (truth[-6:] == "W").all()
    half = len(truth) // 2
    assert (truth[:half] == "N3").sum() > 2 * (truth[half:] == "N3").sum()
    assert (truth[half:] == "R").sum() > (truth[:half] == "R").sum()


def test_stages_differ_in_what_they_should():
    source = night(seed=3, hours=3.0, speed="max")
    epochs = signal(source).reshape(-1, 3000)
    spectrum = np.abs(np.fft.rfft(epochs, axis=1)) ** 2
    delta, beta = spectrum[:, 15:120].sum(1), spectrum[:, 480:900].sum(1)
    truth = np.array(source.truth)
    assert np.median(delta[truth == "N3"]) > 2 * np.median(delta[truth == "N2"])
    assert np.median((beta / delta)[truth == "W"]) > 3 * np.median((beta / delta)[truth == "N3"])


def test_dropouts_are_gaps_and_the_index_goes_on():
    source = night(seed=4, hours=1.0, dropouts_per_hour=12, dropout_s=20.0)
    gaps = [item for item in source.items() if isinstance(item, Gap)]
    assert 5 <= len(gaps) <= 25
    assert all(gap.stop > gap.start and gap.reason == "simulated dropout" for gap in gaps)
    lossy, whole = signal(source), signal(night(seed=4, hours=1.0))
    kept = np.isfinite(lossy)
    assert len(lossy) == 360_000
    assert np.array_equal(lossy[kept], whole[kept])
    assert (~kept).sum() == sum(gap.stop - gap.start for gap in gaps)


def test_gain_and_artefacts_are_as_asked():
    plain = signal(night(seed=5, hours=0.2))
    assert np.allclose(signal(night(seed=5, hours=0.2, gain=3.0)), 3 * plain)
    moved = signal(night(seed=5, hours=0.2, artefacts_per_hour=40))
    assert 0.01 < (moved != plain).mean() < 0.2
    assert np.abs(moved).max() > 100


def test_resampling_keeps_a_sine():
    t = np.arange(6000) / 100
    sine = np.sin(2 * np.pi * 11.3 * t)
    for rate_hz in (73.0, 99.7, 128.0, 250.0, 512.0):
        found = np.concatenate(list(resample(iter(np.split(sine, [1, 700, 701, 3111])), rate_hz)))
        expected = np.sin(2 * np.pi * 11.3 * np.arange(len(found)) / rate_hz)
        inner = slice(int(rate_hz), -int(rate_hz))
        assert np.abs(found - expected)[inner].max() < 5e-3


def test_resampling_down_lets_nothing_fold_back():
    t = np.arange(6000) / 100
    found = np.concatenate(list(resample(iter([np.sin(2 * np.pi * 31 * t)]), 50.0)))
    assert np.abs(found[100:-100]).max() < 0.02


def test_the_stream_is_paced_by_the_clock_alone():
    async def play(speed):
        clock = FakeClock(wall=500.0)
        source = SimulatedSource(SimulatedSettings(hours=0.005, speed=speed, chunk_s=2.0), clock)
        arrivals = []

        async def read():
            async with source:
                arrivals.extend([(item.stop, item.arrived) async for item in source])

        reader = asyncio.create_task(read())
        while not reader.done():
            await asyncio.sleep(0.001)  # lets the drawing thread finish
            await clock.advance(0.05)
        await reader
        return source, arrivals

    source, arrivals = asyncio.run(play(2.0))
    assert [stop for stop, _ in arrivals] == [200, 400, 600, 800, 1000, 1200, 1400, 1600, 1800]
    for stop, arrived in arrivals:
        assert arrived >= stop / 100 / 2.0
    assert source.info.started == 500.0
    assert source.info.rate_hz == 100
    assert [channel.unit for channel in source.info.channels] == ["uV"]
    _, fast = asyncio.run(play("max"))
    assert fast[-1][0] == 1800


def test_the_shipped_figures_are_whole():
    known = json.loads(FIGURES.read_text(encoding="utf-8"))
    assert np.array(known["transitions"]).shape == (5, 5)
    assert np.sum(known["transitions"], axis=1) == pytest.approx(np.ones(5), abs=1e-4)
    assert sum(known["priors"]) == pytest.approx(1, abs=1e-4)
    assert "ODC-By 1.0" in known["source"]
    assert all(np.linalg.eigvalsh(spread).min() > 0 for spread in Figures.load().spread)


def test_the_start_can_be_given():
    async def opened():
        started = datetime.datetime(2026, 1, 2, 23, 0, tzinfo=datetime.UTC)
        async with night(started=started) as source:
            return source.info.started, started.timestamp()

    found, asked = asyncio.run(opened())
    assert found == asked
