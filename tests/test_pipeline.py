"""The properties of the whole path, from raw chunks to smoothed stages."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.conditioner import Conditioner
from streamer.messages import STAGES, Chunk, Doubt, Gap
from streamer.network.runner import Given
from streamer.network.stager import Model, Session, softmax
from streamer.quality import LEAST_REAL
from streamer.resampler import Resampler
from streamer.window import Windows
from tests.chunkings import SIZES, cut, stream
from tests.paths import default_model, eeg, run, scores

GAPS = [(2000, 2010), (6000, 9000), (17_000, 17_002)]  # bridged, long, bridged


@settings(max_examples=10)
@given(rate_hz=st.sampled_from([50, 100, 128, 200, 256]), hop_s=st.sampled_from([1, 7, 30]), sizes=SIZES)
def test_any_chunking_gives_the_same_scores_to_the_bit(rate_hz, hop_s, sizes):
    samples = eeg(130, rate_hz)
    samples[0, 4000:4300] = np.nan
    items = stream(samples, [gap for gap in GAPS if gap[1] < samples.shape[1]])
    whole = run(items, rate_hz, hop_s)
    assert scores(whole)
    assert run(cut(items, [max(size, 29) if size else 0 for size in sizes]), rate_hz, hop_s) == whole


def test_single_samples_and_empty_chunks_give_the_same_scores_to_the_bit():
    items = stream(eeg(95, 100), [(4000, 4500)])
    assert run(cut(items, [1, 0]), 100, 5) == run(items, 100, 5)


@settings(max_examples=10)
@given(rate_hz=st.sampled_from([50, 100, 200, 256]), at_s=st.floats(31, 118), hop_s=st.sampled_from([1, 30]))
def test_nothing_depends_on_the_future(rate_hz, at_s, hop_s):
    at = int(at_s * rate_hz)
    one, other = eeg(120, rate_hz), eeg(120, rate_hz)
    other[:, at:] = eeg(120, rate_hz, seed=1)[:, at:] * 3 + 100
    horizon = (at_s - Resampler(rate_hz).delay_s) * 100 - 2
    ones, others = (
        [score for score in scores(run(stream(samples), rate_hz, hop_s)) if score.end <= horizon]
        for samples in (one, other)
    )
    assert ones == others
    # and the stream that has not got there yet has said the same things already
    early = scores(run([Chunk(0, one[:, :at])], rate_hz, hop_s, flush=False))
    assert [score for score in early if score.end <= horizon] == ones


def test_the_future_does_change_what_comes_after_it():
    one, other = eeg(120, 100), eeg(120, 100)
    other[:, 6000:] *= 3
    assert scores(run(stream(one), 100))[2:] != scores(run(stream(other), 100))[2:]


@pytest.mark.train
def test_streaming_equals_the_parallel_pass_over_the_night():
    samples = eeg(1200, 100)
    lost = 10 * 3000
    items = stream(samples, [(lost, lost + 3000)])
    streamed = [score.probabilities for score in scores(run(items, 100))]
    conditioner, windows = Conditioner(100), Windows(30)
    all_windows = [w for item in items for out in conditioner.push(item) for w in windows.push(out)]
    raw = np.stack([w.samples for w in all_windows])
    spec = np.stack([w.spectrogram for w in all_windows])
    present = np.ones((len(all_windows), 2), np.bool_)
    present[10] = False
    runner = Model.load(runtime="torchscript").runner
    logits, _ = runner.block(Given(raw, spec, present), runner.start())
    parallel = np.array([softmax(row) for row in logits.tolist()])
    assert streamed[10] is None
    keep = [k for k in range(len(all_windows)) if k != 10]
    np.testing.assert_allclose([streamed[k] for k in keep], parallel[keep], atol=1e-5)


def test_provisional_scores_leave_the_committed_ones_alone():
    items = stream(eeg(300, 100))
    committed = [(s.end, s.stage, s.probabilities) for s in scores(run(items, 100, 1)) if s.epoch is not None]
    assert committed == [(s.end, s.stage, s.probabilities) for s in scores(run(items, 100, 30))]


def test_a_lost_epoch_keeps_its_place_and_is_not_scored():
    out = scores(
        run(stream(eeg(210, 100), [(6000, 9000), (12_100, 12_100 + int(3000 * (1.1 - LEAST_REAL)))]), 100)
    )
    assert [score.epoch for score in out] == list(range(7))
    assert [score.stage == "unscored" for score in out] == [False, False, True, False, True, False, False]
    assert [score.probabilities is None for score in out] == [score.stage == "unscored" for score in out]
    assert out[2].quality.lost_fraction == 1.0


def test_every_loss_is_listed_once_and_in_device_samples():
    samples = eeg(100, 200)
    samples[0, 5000:5100] = np.inf
    gaps = [
        out
        for out in run(cut(stream(samples, [(100, 101), (5100, 5200)]), [33]), 200)
        if isinstance(out, Gap)
    ]
    assert [(gap.start, gap.stop) for gap in gaps] == [(100, 101), (5000, 5200)]


def test_a_wrong_unit_is_doubted_once():
    doubts = [out for out in run(stream(eeg(90, 100) * 1e-6), 100) if isinstance(out, Doubt)]
    assert len(doubts) == 1
    assert "looks like V" in doubts[0].text


@pytest.mark.parametrize("factor", [0.0, 1e-3])
def test_a_flat_channel_is_never_a_stage(factor):
    assert {score.stage for score in scores(run(stream(eeg(120, 100) * factor), 100))} == {"unscored"}


def test_probabilities_are_a_distribution_and_the_stage_its_largest():
    for score in scores(run(stream(eeg(120, 100)), 100, 1)):
        assert sum(score.probabilities) == pytest.approx(1)
        assert score.stage == STAGES[int(np.argmax(score.probabilities))]


def test_sessions_share_weights_and_nothing_else():
    model = default_model()
    first, second = Session(model), Session(model)
    conditioner, windows = Conditioner(100), Windows(30)
    night = [w for item in stream(eeg(300, 100)) for out in conditioner.push(item) for w in windows.push(out)]
    alone = [first.score(window, True) for window in night]
    first.reset()
    woven = []
    for window in night:
        woven.append(first.score(window, True))
        second.score(night[0], True)
    assert woven == alone
