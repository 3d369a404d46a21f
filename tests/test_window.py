"""The ring, the hop grid and the epoch grid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.messages import Chunk
from streamer.window import Windows, spectrogram
from tests.chunkings import SIZES, cut, stream

SIGNAL = np.random.default_rng(6).standard_normal((1, 10_000)) * 20


def _run(windows, items):
    return [window for item in items for window in windows.push(item)]


@given(hop_s=st.integers(1, 30), sizes=SIZES, gap=st.tuples(st.integers(0, 6000), st.integers(1, 3500)))
def test_any_chunking_gives_the_same_windows(hop_s, sizes, gap):
    items = stream(SIGNAL, [(gap[0], gap[0] + gap[1])])
    whole = _run(Windows(hop_s), items)
    pieces = _run(Windows(hop_s), list(cut(items, sizes)))
    assert [(w.end, w.epoch) for w in whole] == [(w.end, w.epoch) for w in pieces]
    for one, other in zip(whole, pieces, strict=True):
        assert one.samples.tobytes() == other.samples.tobytes()
        assert one.spectrogram.tobytes() == other.spectrogram.tobytes()


@given(hop_s=st.integers(1, 30))
def test_every_window_is_the_last_30_s_and_its_spectrogram_the_batch_one(hop_s):
    for window in _run(Windows(hop_s), stream(SIGNAL)):
        last = SIGNAL[0, window.end - 3000 : window.end]
        np.testing.assert_array_equal(window.samples, last.astype(np.float32))
        np.testing.assert_array_equal(window.spectrogram, spectrogram(last))


@given(hop_s=st.integers(1, 30))
def test_windows_come_on_the_hop_grid_and_at_every_epochs_end(hop_s):
    windows = _run(Windows(hop_s), stream(SIGNAL))
    ends = [s for s in range(30, 101) if s % hop_s == 0 or s % 30 == 0]
    assert [w.end // 100 for w in windows] == ends
    assert [w.epoch for w in windows] == [None if s % 30 else s // 30 - 1 for s in ends]


def test_a_gap_is_nan_and_the_grid_goes_on():
    windows = _run(Windows(30), stream(SIGNAL, [(3500, 6500)]))
    assert [w.epoch for w in windows] == [0, 1, 2]
    assert not np.isnan(windows[0].samples).any()
    assert np.isnan(windows[1].samples).sum() == 2500
    assert np.isnan(windows[2].samples).sum() == 500
    assert list(np.isnan(windows[2].spectrogram).all(axis=1)) == [True] * 5 + [False] * 24


def test_a_window_once_given_does_not_change():
    windows = Windows(1)
    first = _run(windows, [Chunk(0, SIGNAL[:, :3000])])[0]
    before = first.samples.copy(), first.spectrogram.copy()
    _run(windows, [Chunk(3000, SIGNAL[:, 3000:])])
    np.testing.assert_array_equal(first.samples, before[0])
    np.testing.assert_array_equal(first.spectrogram, before[1])


@pytest.mark.parametrize("hop_s", [0, 31, -1])
def test_a_hop_out_of_range_is_refused(hop_s):
    with pytest.raises(ValueError, match="1 to 30"):
        Windows(hop_s)
