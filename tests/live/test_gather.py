"""Pieces are kept together for a second at most, and nothing comes of it but less work."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.frontend import FrontEnd, Graded
from streamer.live.intake import Gather
from streamer.messages import Chunk, Gap
from streamer.settings import SignalSettings
from tests.chunkings import SIZES, cut, joined, stream
from tests.paths import eeg, info


def numbered(items, sizes):
    """The stream cut anew; each piece arrives at the time that is its number."""
    pieces = cut(items, sizes)
    return [
        Chunk(piece.start, piece.samples, number + 1.0)
        if isinstance(piece, Chunk)
        else Gap(piece.start, piece.stop, piece.reason, number + 1.0)
        for number, piece in enumerate(pieces)
    ]


def windows(items, rate_hz):
    """Every window with the number of the piece that it came out with; the end of the stream is none."""
    front = FrontEnd(info(rate_hz), SignalSettings(), 1)
    return [
        (output.window.end, output.window.samples.tobytes(), output.window.arrived)
        for item in items
        for output in front.push(item)
        if isinstance(output, Graded)
    ]


@given(
    rate_hz=st.sampled_from([50, 100, 128, 199.5, 200, 256, 1000]),
    sizes=SIZES,
    gaps=st.lists(st.tuples(st.integers(0, 7000), st.integers(1, 400)), max_size=2),
)
def test_no_window_comes_with_a_later_piece(rate_hz, sizes, gaps):
    at, lost = 0, []
    for start, length in sorted(gaps):
        if start > at:
            lost.append((start, at := start + length))
    sizes = [max(size, 11) if size else 0 for size in sizes]
    pieces = numbered(stream(eeg(max(8000, 40 * rate_hz) / rate_hz, rate_hz), lost), sizes)
    gather = Gather(rate_hz)
    gathered = [one for piece in pieces for one in gather.push(piece)]
    assert windows(gathered, rate_hz) == windows(pieces, rate_hz)
    assert joined([*gathered, *gather.flush()]) == joined(pieces)


def test_small_pieces_leave_once_a_second():
    pieces = list(cut(stream(eeg(20, 256)), [13]))
    gather = Gather(256)
    given = [gather.push(piece) for piece in pieces]
    assert sum(map(bool, given)) == 1 + 19  # the first piece; the last second waits for the resampler
    assert max(chunk.samples.shape[1] for chunks in given for chunk in chunks) <= 256 + 13 + 26
    assert gather.flush()
    assert not gather.flush()


def test_a_source_that_skips_samples_is_not_mended():
    gather = Gather(256)
    assert [chunk.stop for chunk in gather.push(Chunk(0, np.zeros((1, 10))))] == [10]
    assert gather.push(Chunk(10, np.zeros((1, 10)))) == []
    assert len(gather) == 1
    first, second = gather.push(Chunk(30, np.zeros((1, 10))))
    assert (first.start, first.stop, second.start) == (10, 20, 30)


@given(rate_hz=st.sampled_from([50, 100, 128, 199.5, 256, 1000]), first=st.integers(1, 300))
def test_what_is_missing_completes_a_second_and_one_sample_less_does_not(rate_hz, first):
    gather, samples = Gather(rate_hz), eeg(15, rate_hz)
    assert gather.missing() == 0  # the first piece leaves at once
    assert gather.push(Chunk(0, samples[:, :first]))
    at = first
    for _ in range(3):
        missing = gather.missing()
        assert 0 < missing <= rate_hz * 1.3 + 1
        assert not gather.push(Chunk(at, samples[:, at : at + missing - 1]))
        assert gather.missing() == 1
        at += missing
        assert [item.stop for item in gather.push(Chunk(at - 1, samples[:, at - 1 : at]))] == [at]
    gather.push(Gap(at, at + 5, "radio"))
    assert gather.missing() == 0
