"""RdaBlock numbers against what was truly sent: lost, late, repeated, wrapped, begun anew."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.messages import Chunk, Gap
from streamer.sources.rda_blocks import HOLD_BLOCKS, WRAP, BlockCounter
from streamer.sources.rda_messages import RdaBlock

RATE_HZ, POINTS = 500.0, 10
BLOCK_S = POINTS / RATE_HZ


def of(number, first=0, points=POINTS):
    """RdaBlock `number` of an acquisition whose sample values are their own places."""
    places = np.arange((number - first) * POINTS, (number - first) * POINTS + points, dtype=np.float64)
    return RdaBlock(number % WRAP, places[None])


def fed(numbers, first=0, counter=None, begin_s=0.0):
    """All that a counter gives of blocks that come when their numbers say."""
    counter = counter or BlockCounter(RATE_HZ, ("C3",))
    out = []
    latest = 0.0
    for number in numbers:
        latest = max(latest, begin_s + (number - first) * BLOCK_S)
        out += counter.push(of(number, first), latest)
    return counter, out + counter.flush()


def whole(items):
    """They follow each other without holes, and each sample lies at its own place."""
    at = 0
    for item in items:
        assert item.start == at
        at = item.stop
        if isinstance(item, Chunk):
            assert np.array_equal(item.samples[0], np.arange(item.start, item.stop))
    return at


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.integers(1, 99), max_size=60),
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 3)), max_size=60),
    st.sampled_from([0, 77, WRAP - 50]),
)
def test_every_sample_lies_where_it_was_taken(lost, moves, first):
    sent = [n for n in range(100) if n not in lost]
    order = {n: float(n) for n in sent}
    for number, by in moves:
        if number in order and number:
            order[number] += by + 0.5  # overtaken by some
    arrive = sorted(sent, key=lambda n: (order[n], n))
    again = [n for pair in zip(arrive, arrive, strict=True) for n in pair]  # each twice
    _, items = fed([first + n for n in again], first)
    assert whole(items) == (max(sent) + 1) * POINTS
    missing = {n for gap in items if isinstance(gap, Gap) for n in range(gap.start // 10, gap.stop // 10)}
    assert missing == {n for n in lost if n < max(sent)}


def test_a_loss_is_no_longer_than_the_time_that_has_passed():
    counter = BlockCounter(RATE_HZ, ("C3",))
    items = [*counter.push(of(0), 0.0), *counter.push(of(1 << 20), 3.0), *counter.flush()]
    assert [item.stop - item.start for item in items] == [10, round(3.0 * RATE_HZ) - 10, 10]
    assert "further than time" in counter.remarks[0]


def test_numbers_that_begin_again_without_a_word_are_found():
    counter, items = fed(range(1000, 1100), 1000)
    later = []
    for number in range(60):
        later += counter.push(of(number), 100 * BLOCK_S + number * BLOCK_S)
    kept = [item for item in later if isinstance(item, Chunk)]
    assert len(items) == 100
    assert sum(item.samples.shape[1] for item in kept) == 360  # after half a second of doubt
    assert isinstance(later[0], Gap)
    assert later[-1].stop == 1600
    assert "went back" in counter.remarks[-1]


def test_blocks_without_samples_are_not_kept_without_end():
    counter = BlockCounter(RATE_HZ, ("C3",))
    counter.push(of(0), 0.0)
    for number in range(5, 5 + 3 * HOLD_BLOCKS):
        counter.push(of(number, number, 0), 0.1)
        assert len(counter._held) < HOLD_BLOCKS


@pytest.mark.parametrize("stalled_s", [0.5, 20.0])
def test_a_stall_that_catches_up_is_no_loss_and_hides_none(stalled_s):
    counter, items = fed(range(50))
    for number in [*range(50, 80), *range(200, 220)]:  # at once, after the stall
        items += counter.push(of(number), 50 * BLOCK_S + stalled_s)
    items += counter.flush()
    assert whole(items) == 2200
    assert [(gap.start, gap.stop) for gap in items if isinstance(gap, Gap)] == [(800, 2000)]
