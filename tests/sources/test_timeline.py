"""Times to indices: what is lost is found, what is late is not lost, cuts change nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.messages import Chunk, Gap
from streamer.sources.timeline import Timeline
from tests.chunkings import SIZES

RATES = pytest.mark.parametrize("rate", [50.0, 100.0, 256.0, 1000.0])


def _run(timeline, times, sizes=(), rows=None):
    rows = np.arange(len(times), dtype=float)[None] if rows is None else rows
    out, at, turn = [], 0, 0
    while at < len(times):
        size = sizes[turn % len(sizes)] if any(sizes) else len(times)
        out += timeline.push(times[at : at + size], rows[:, at : at + size])
        at, turn = at + size, turn + 1
    return out + timeline.flush()


def _indices(items):
    return np.concatenate([np.arange(item.start, item.stop) for item in items if isinstance(item, Chunk)])


def _gaps(items):
    return [(item.start, item.stop) for item in items if isinstance(item, Gap)]


def _follows(items):
    assert [item.start for item in items] == [0, *(item.stop for item in items[:-1])]


def _ten_minutes(rate):
    return np.arange(int(600 * rate))


@RATES
@pytest.mark.parametrize("drift", [0, 200e-6, -200e-6, 0.024, -0.024])
def test_drift_and_a_wrong_nominal_rate_are_no_loss(rate, drift):
    timeline = Timeline(rate)
    items = _run(timeline, 5e5 + _ten_minutes(rate) / rate * (1 + drift))
    assert _gaps(items) == []
    assert timeline.rate_estimate_hz == pytest.approx(rate / (1 + drift), rel=1e-5)


@RATES
def test_jitter_bursts_and_stalls_are_no_loss(rate):
    k = _ten_minutes(rate)
    rng = np.random.default_rng(3)
    jitter = rng.normal(0, 0.02, len(k))
    bursts = (k // 12 * 12 + 11) / rate
    stalled = np.where((k / rate > 300) & (k / rate < 301), 301.0, k / rate)
    for times in (
        k / rate + jitter,
        k / rate * 1.0002 + jitter,
        bursts,
        bursts + jitter[: len(k) // 12 + 1].repeat(12)[: len(k)],
        stalled,
    ):
        assert _gaps(_run(Timeline(rate), times)) == []


@RATES
@pytest.mark.parametrize("drift", [0, 200e-6])
def test_clean_times_give_every_loss_exactly(rate, drift):
    k = _ten_minutes(rate)
    lost = [(2000, 2000 + int(90 * rate)), (len(k) - 900, len(k) - 880), (len(k) - 500, len(k) - 495)]
    kept = np.delete(k, np.concatenate([np.arange(*one) for one in lost]))
    items = _run(Timeline(rate), kept / rate * (1 + drift))
    assert _gaps(items) == lost
    np.testing.assert_array_equal(_indices(items), kept)
    _follows(items)


@RATES
def test_a_pause_in_jittered_or_bursting_times_is_right_to_one_sample(rate):
    k = np.delete(_ten_minutes(rate), slice(int(300 * rate), int(390 * rate)))
    jitter = np.random.default_rng(5).normal(0, 0.02, len(k))
    for times in (k / rate * 1.0002 + jitter, (k // 12 * 12 + 11) / rate):
        items = _run(Timeline(rate), times)
        assert len(_gaps(items)) == 1
        assert np.abs(_indices(items) - k).max() <= 1


def test_five_percent_of_chunks_dropped_from_clean_times():
    k = _ten_minutes(256.0)[:153_600].reshape(-1, 32)
    kept = k[np.random.default_rng(6).random(len(k)) > 0.05].ravel()
    items = _run(Timeline(256.0), kept / 256.0)
    np.testing.assert_array_equal(_indices(items), kept - kept[0])


@RATES
@pytest.mark.parametrize("share", [0.01, 0.05])
def test_packets_lost_among_packets_that_have_one_time_each(rate, share):
    k = _ten_minutes(rate)
    k = k[: len(k) // 12 * 12].reshape(-1, 12)
    kept = k[np.random.default_rng(8).random(len(k)) >= share].ravel()
    off = np.abs(_indices(_run(Timeline(rate), (kept // 12 * 12 + 11) / rate)) - (kept - kept[0]))
    assert off.max() <= 12  # one that is left alone between two lost ones
    assert np.mean(off > 1) < 0.01


@given(
    seed=st.integers(0, 10_000),
    jitter_s=st.sampled_from([0.005, 0.01, 0.02, 0.05]),
    chunk=st.sampled_from([1, 12, 32, 64]),
    share=st.floats(0.01, 0.5),
)
def test_no_amount_of_jitter_and_loss_breaks_it(seed, jitter_s, chunk, share):
    rng = np.random.default_rng(seed)
    k = np.arange(256 * 60)
    kept = k[(rng.random(len(k) // chunk + 1) >= share)[k // chunk]]
    items = _run(Timeline(256.0), kept / 256.0 + rng.normal(0, jitter_s, len(kept)))
    _follows(items)
    assert len(_indices(items)) == len(kept)


def test_a_small_loss_within_jitter_is_found_late_but_whole():
    k = np.delete(_ten_minutes(256.0), slice(100_000, 100_012))  # 47 ms, one packet
    items = _run(Timeline(256.0), k / 256.0 + np.random.default_rng(7).normal(0, 0.02, len(k)))
    ((start, stop),) = _gaps(items)
    assert 100_000 <= start <= 100_000 + 200
    assert abs(stop - start - 12) <= 1


def test_a_loss_that_ends_in_a_burst_of_what_the_device_had_kept():
    rate = 256.0
    k = np.delete(_ten_minutes(rate), slice(50_000, 50_768))  # 3 s lost, then 2 s delivered at once
    times = k / rate
    late = (k >= 50_768) & (k < 50_768 + 512)
    times[late] = (50_768 + 512) / rate
    items = _run(Timeline(rate), times)
    assert _gaps(items) == [(50_000, 50_768)]


@given(
    sizes=SIZES,
    seed=st.integers(0, 99),
    jitter_s=st.sampled_from([0.0, 0.001, 0.02]),
    burst=st.sampled_from([1, 12]),
    packets_from=st.sampled_from([0, 2900]),
    holes=st.lists(st.tuples(st.integers(0, 7000), st.integers(1, 900)), max_size=5),
)
def test_any_chunking_gives_the_same_stream(sizes, seed, jitter_s, burst, packets_from, holes):
    k = np.arange(8000)
    for start, length in holes:
        k = k[(k < start) | (k >= start + length)]
    noise = np.random.default_rng(seed).normal(0, jitter_s, len(k))
    times = (k // burst * burst) / 256.0 + (noise if burst == 1 else noise[k // burst])
    times = np.where(k < packets_from, k / 256.0 + noise, times)
    whole = _run(Timeline(256.0), times)
    cut = _run(Timeline(256.0), times, sizes)
    assert _gaps(cut) == _gaps(whole)
    np.testing.assert_array_equal(_indices(cut), _indices(whole))
    rows = [np.concatenate([i.samples[0] for i in items if isinstance(i, Chunk)]) for items in (cut, whole)]
    np.testing.assert_array_equal(rows[0], np.arange(len(k)))
    np.testing.assert_array_equal(rows[0], rows[1])
    _follows(cut)


def test_reset_starts_anew():
    timeline = Timeline(100.0)
    timeline.push(np.arange(500) / 100.0, np.zeros((1, 500)))
    timeline.reset()
    assert _gaps(_run(timeline, 1e6 + np.arange(500) / 100.0)) == []
