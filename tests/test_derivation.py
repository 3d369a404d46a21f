"""Channels to one derivation in µV, and what is not a number to gaps."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.channels import Pick
from streamer.derivation import Derivation
from streamer.messages import Channel, Chunk, Gap
from tests.chunkings import SIZES, cut, joined, stream

CHANNELS = (Channel("AF7", "uV"), Channel("TP9", "mV"))


def _run(derivation, items):
    return [*(out for item in items for out in derivation.push(item)), *derivation.flush()]


def test_one_channel_in_its_own_unit():
    out = _run(Derivation(Pick(1, None, "TP9"), CHANNELS), [Chunk(0, np.array([[1.0, 2.0], [3.0, 4.0]]))])
    np.testing.assert_array_equal(out[0].samples, [[3000.0, 4000.0]])


def test_a_difference_of_two_channels_with_different_units():
    out = _run(
        Derivation(Pick(0, 1, "AF7-TP9"), CHANNELS), [Chunk(0, np.array([[1.0, 2.0], [0.001, 0.002]]))]
    )
    np.testing.assert_allclose(out[0].samples, [[0.0, 0.0]], atol=1e-6)


def test_a_unit_given_by_the_user_overrides_the_declared_one():
    out = _run(Derivation(Pick(0, None, "AF7"), CHANNELS, unit="V"), [Chunk(0, np.array([[1.0], [0.0]]))])
    assert out[0].samples[0, 0] == 1e6


def test_not_a_number_in_either_channel_is_a_gap_and_adjoins_others():
    samples = np.arange(20.0).reshape(2, 10)
    samples[0, 3] = np.nan
    samples[1, 4] = np.inf
    out = _run(
        Derivation(Pick(0, 1, "AF7-TP9"), CHANNELS),
        [Chunk(0, samples), Gap(10, 12, "lost"), Gap(12, 13, "lost")],
    )
    assert [(type(item), item.start, item.stop) for item in out] == [
        (Chunk, 0, 3),
        (Gap, 3, 5),
        (Chunk, 5, 10),
        (Gap, 10, 13),
    ]


@given(sizes=SIZES, holes=st.lists(st.integers(0, 499), max_size=30))
def test_any_chunking_gives_the_same_stream(sizes, holes):
    samples = np.random.default_rng(9).standard_normal((2, 500))
    samples[0, holes] = np.nan
    pick = Pick(0, None, "AF7")
    items = stream(samples, [(100, 140)])
    assert joined(_run(Derivation(pick, CHANNELS), list(cut(items, sizes)))) == joined(
        _run(Derivation(pick, CHANNELS), items)
    )
