"""The parallel pass says of every epoch what the live path says of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.messages import Doubt, Gap, Score
from streamer.pipeline import BLOCK, Pipeline
from streamer.settings import SignalSettings
from tests.chunkings import SIZES, cut, stream
from tests.paths import default_model, eeg, info, run, scores

MINUTES = 26  # 52 epochs: more than the 40 that the packaged network looks back


def blocks(about, block, channel=None):
    return Pipeline(about, SignalSettings(channel=channel), 30, default_model(), block=block)


def parallel(items, rate_hz, block, channel=None):
    pipeline = blocks(info(rate_hz), block, channel)
    return [*(output for item in items for output in pipeline.push(item)), *pipeline.flush()]


def said(score):
    """All of a score but its probabilities, which may differ in their last digits."""
    return (score.end, score.epoch, score.stage, score.smoothed, score.warmup, score.quality, score.fast_uv)


def same(live, offline):
    """The same outputs in the same order, probabilities to 1e-5."""
    assert [type(one) for one in live] == [type(one) for one in offline]
    for one, other in zip(live, offline, strict=True):
        if not isinstance(one, Score):
            assert one == other
            continue
        assert said(one) == said(other)
        if one.probabilities is not None:
            np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5, rtol=0)


def lossy(draw_gaps, rate_hz, seconds):
    """Gaps that do not overlap: (start s, length s) as samples."""
    out, free = [], 0
    for start, length in sorted(draw_gaps):
        begin, end = int(start * rate_hz), int((start + length) * rate_hz)
        if begin >= free and end < seconds * rate_hz and end > begin:
            out.append((begin, end))
            free = end + 1
    return out


LOSSES = st.lists(
    st.tuples(st.floats(0, 60 * MINUTES), st.sampled_from([0.05, 0.4, 2.9, 3.1, 29.0, 65.0, 400.0])),
    max_size=6,
)


@pytest.mark.slow
@settings(max_examples=12)
@given(
    rate_hz=st.sampled_from([100, 128, 256]),
    losses=LOSSES,
    block=st.sampled_from([1, 7, 39, 40, 64, 500]),
    sizes=SIZES,
    seed=st.integers(0, 3),
)
def test_the_parallel_pass_equals_the_live_path_over_losses_blocks_and_chunkings(
    rate_hz, losses, block, sizes, seed
):
    samples = eeg(60 * MINUTES, rate_hz, seed)
    samples[0, 5000:5700] = np.nan  # what is not a number is lost too
    items = stream(samples, lossy(losses, rate_hz, 60 * MINUTES))
    live = run(items, rate_hz)
    assert len(scores(live)) == 2 * MINUTES
    same(live, parallel(cut(items, [max(size, 331) if size else 0 for size in sizes]), rate_hz, block))


def test_a_long_night_rolls_over_the_context_many_times():
    items = stream(eeg(3 * 3600, 100), [(200_000, 300_000)])
    live = run(items, 100)
    lost = [score.epoch for score in scores(live) if score.stage == "unscored"]
    assert lost == list(range(66, 100))  # 67 to 100 min are gone
    same(live, parallel(items, 100, 64))


def test_a_stream_that_is_lost_from_the_start_and_one_of_nothing():
    items = stream(eeg(600, 100), [(0, 20_000)])
    same(run(items, 100), parallel(items, 100, 4))
    assert parallel([], 100, 4) == []


def test_losses_and_doubts_keep_their_place():
    items = stream(eeg(300, 100) * 1e-6, [(100, 200), (9000, 9500)])
    outputs = parallel(items, 100, 3)
    same(run(items, 100), outputs)
    assert [type(one) for one in outputs if not isinstance(one, Score)] == [Gap, Doubt, Gap]


def test_no_score_waits_longer_than_its_block():
    pipeline = blocks(info(100), 4)
    counts = [len(list(pipeline.push(item))) for item in cut(stream(eeg(300, 100)), [3000])]
    assert sum(counts) == 8
    assert max(counts) == 4
    assert len(list(pipeline.flush())) == 2


def test_the_future_of_a_block_does_not_reach_into_it():
    one, other = eeg(900, 100), eeg(900, 100)
    other[:, 60_000:] *= 3
    ones, others = (scores(parallel(stream(samples), 100, 64)) for samples in (one, other))
    early = [score.probabilities for score in ones if score.end <= 60_000]
    np.testing.assert_allclose(early, [s.probabilities for s in others[: len(early)]], atol=1e-6)
    assert ones[25].probabilities != pytest.approx(others[25].probabilities, abs=1e-4)


def test_the_derivation_is_chosen_as_live():
    one = blocks(info(100, ("C4", "M1")), BLOCK, "C4-M1")
    assert (
        one.label
        == Pipeline(info(100, ("C4", "M1")), SignalSettings(channel="C4-M1"), 30, default_model()).label
    )
