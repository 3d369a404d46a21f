"""Packet numbers: wraps, losses shorter and longer than a turn, stalls that are no loss, and any chunking."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.messages import Gap
from streamer.sources.packets import Numbering, PacketCounter

RATE_HZ = 256.0
SHAPES = {
    "8 bits": Numbering(256),
    "in steps of 2": Numbering(256, step=2),
    "16 bits, 12 a packet": Numbering(1 << 16, rows=12),
    "8 bits, 2 a packet": Numbering(256, rows=2),
}


def place(shape, index, times=None, cuts=(), began=0):
    """Run rows of these true indices through a counter; return its items, merged over chunks."""
    numbers = index // shape.rows * shape.step % shape.wrap
    times = (index + 1) / RATE_HZ if times is None else times
    counter = PacketCounter(RATE_HZ, shape)
    items = []
    for part in np.split(np.arange(index.size), cuts):
        items += counter.push(numbers[part], times[part], (index[part] - began)[None].astype(float))
    return items + counter.flush()


def gaps(items):
    return [(item.start, item.stop) for item in items if isinstance(item, Gap)]


def check_places(items):
    """Every sample lies at its own index, and nothing is left out."""
    at = 0
    for item in items:
        assert item.start == at
        at = item.stop
        if not isinstance(item, Gap):
            np.testing.assert_array_equal(item.samples[0], np.arange(item.start, item.stop))
    return at


def without(count, *drops):
    index = np.arange(count)
    for start, stop in drops:
        index = index[(index < start) | (index >= stop)]
    return index


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("lost", [1, 12, 24, 120, 252, 255, 256, 257, 516, 5_000, 60_000])
def test_every_loss_is_found_to_the_sample(shape, lost):
    lost = max(1, lost // shape.rows) * shape.rows  # radios lose whole packets
    start = 1200  # a packet begins here in all of them
    items = place(shape, without(start + lost + 1200, (start, start + lost)))
    assert gaps(items) == [(start, start + lost)]
    assert check_places(items) == start + lost + 1200


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_an_hour_without_loss_has_no_gap(shape):
    index = np.arange(round(400 * RATE_HZ))
    jitter = np.random.default_rng(1).normal(0, 0.02, index.size)
    items = place(
        shape, index, np.maximum.accumulate((index + 1) / RATE_HZ + jitter), range(50, index.size, 50)
    )
    assert gaps(items) == []
    assert check_places(items) == index.size


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("stall_s", [0.6, 1.0, 2.0, 4.0])
def test_a_stall_that_catches_up_is_no_loss(shape, stall_s):
    index = np.arange(6000)
    times = (index + 1) / RATE_HZ
    times = np.where((times >= 5) & (times < 5 + stall_s), 5 + stall_s, times)
    items = place(shape, index, times, range(25, 6000, 25))
    assert gaps(items) == []
    assert check_places(items) == 6000


def test_a_stall_that_catches_up_in_two_bursts_is_no_loss():
    index = np.arange(6000)
    times = (index + 1) / RATE_HZ
    times = np.where((times >= 5) & (times < 6.4), 6.4, times)
    times = np.where((times > 6.4) & (times < 7), 7.0, times)
    times[1280:1310] = 6.4
    times[1310 : int(7 * RATE_HZ)] = 7.0
    items = place(Numbering(256), index, times, range(25, 5900, 25))
    assert gaps(items) == []


def test_a_stall_with_a_loss_in_it_is_placed_to_the_sample():
    index = without(6000, (1300, 1400))
    times = (index + 1) / RATE_HZ
    times = np.where((times >= 5) & (times < 7), 7.0, times)
    items = place(Numbering(256), index, times, range(25, 5900, 25))
    assert gaps(items) == [(1300, 1400)]
    assert check_places(items) == 6000


def test_a_device_that_counts_anew_is_placed_by_time():
    shape = Numbering(1 << 16, rows=12)
    counter = PacketCounter(RATE_HZ, shape)
    first, then = np.arange(1200), np.arange(1200)
    counter.push(40_000 + first // 12, (first + 1) / RATE_HZ, first[None] * 1.0)
    items = counter.push(then // 12, (then + 1 + 2560) / RATE_HZ, then[None] * 1.0)
    assert gaps(items) == [(1200, 2560)]


def test_a_stream_may_begin_within_a_packet():
    items = place(SHAPES["16 bits, 12 a packet"], np.arange(7, 5000), began=7)
    assert gaps(items) == []
    assert check_places(items) == 4993


@given(
    st.lists(st.integers(0, 3000), max_size=8).map(sorted),
    st.lists(st.tuples(st.integers(20, 240), st.integers(1, 80)), max_size=3),
    st.sampled_from(list(SHAPES.values())),
)
def test_any_chunking_gives_the_same(cuts, drops, shape):
    index = without(3000, *((at * 12, (at + length) * 12) for at, length in drops))
    whole = place(shape, index)
    assert gaps(place(shape, index, cuts=cuts)) == gaps(whole)
    assert check_places(place(shape, index, cuts=cuts)) == check_places(whole)


CYTON = {"Cyton": (250.0, Numbering(256)), "Cyton with Daisy": (125.0, Numbering(256, step=2))}
DROPOUTS = st.lists(st.tuples(st.integers(1, 700), st.integers(1, 2500)), min_size=1, max_size=6)


def radio(rate_hz, shape, dropouts, jitter_s=0.0, seed=0):
    """A device that is heard for so many samples, then loses so many, and so on: its rows and times."""
    at, kept = 2 * round(rate_hz), [np.arange(2 * round(rate_hz))]
    for heard, lost in dropouts:
        kept.append(np.arange(at + lost, at + lost + heard))
        at += lost + heard
    kept.append(np.arange(at, at + 2 * round(rate_hz)))
    index = np.concatenate(kept)
    late = np.abs(np.random.default_rng(seed).normal(0, jitter_s, index.size)) if jitter_s else 0.0
    return index, np.maximum.accumulate((index + 1) / rate_hz + late)


def placed(rate_hz, shape, index, times, piece=25):
    counter = PacketCounter(rate_hz, shape)
    numbers = index // shape.rows * shape.step % shape.wrap
    items = []
    for at in range(0, index.size, piece):
        part = slice(at, at + piece)
        items += counter.push(numbers[part], times[part], index[part][None].astype(float))
    return items + counter.flush()


@pytest.mark.parametrize(("rate_hz", "shape"), CYTON.values(), ids=CYTON)
@pytest.mark.parametrize("apart", [2, 10, 30, 60, 100])
def test_two_dropouts_that_follow_each_other_closely_are_counted_once(rate_hz, shape, apart):
    """The second one was within the samples by which the first was judged, and was counted with both."""
    index, times = radio(rate_hz, shape, [(apart, 1280), (400, 1280)])
    items = placed(rate_hz, shape, index, times)
    assert check_places(items) == index[-1] + 1


@settings(max_examples=50)
@given(DROPOUTS, st.sampled_from(list(CYTON.values())), st.sampled_from([0.0, 0.004]), st.integers(1, 200))
def test_any_dropouts_are_found_to_the_sample(dropouts, device, jitter_s, piece):
    rate_hz, shape = device
    index, times = radio(rate_hz, shape, dropouts, jitter_s)
    assert check_places(placed(rate_hz, shape, index, times, piece)) == index[-1] + 1


@settings(max_examples=50)
@given(
    DROPOUTS.filter(lambda dropouts: all(heard >= 250 for heard, _ in dropouts)),
    st.lists(st.tuples(st.floats(1, 60), st.floats(0.1, 4)), max_size=3),
    st.sampled_from(list(CYTON.values())),
)
def test_with_stalls_among_the_dropouts_nothing_is_off_for_good(dropouts, stalls, device):
    """Where a stall hides a dropout it cannot be told which came first; how much was lost can.

    A stall that lasts to the end of the stream is left out: nothing comes after it by which to tell.
    """
    rate_hz, shape = device
    index, _ = radio(rate_hz, shape, dropouts)
    index = np.concatenate([index, index[-1] + np.arange(1, 1500)])
    times = (index + 1) / rate_hz
    for begin, length in (one for one in stalls if sum(one) < times[-1] - 3):
        times = np.where((times >= begin) & (times < begin + length), begin + length, times)
    *_, last = placed(rate_hz, shape, index, times)
    assert last.stop == index[-1] + 1


def test_a_device_that_is_two_percent_slow_loses_nothing():
    index = np.arange(40_000)
    assert gaps(place(Numbering(256), index, (index + 1) / (0.98 * RATE_HZ), range(50, index.size, 50))) == []
    bursts = np.ceil((index + 1) / (0.985 * RATE_HZ) * 2.5) / 2.5  # every 0.4 s: never at the device's pace
    assert gaps(place(Numbering(256), index, bursts, range(50, index.size, 50))) == []
