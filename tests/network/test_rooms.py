"""Memories that lie side by side already are not copied again, and each pass gets what it asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.messages import EPOCH_SAMPLES, Window
from streamer.network.rooms import KNOWN, ROOMS, Memory, Rooms
from streamer.network.runner import PASS
from streamer.network.stager import Model, score_together
from streamer.window import BINS, FRAMES
from tests.paths import default_model

SHAPE = (2, 1, 2, 2, 1, 1, 3, 2)  # the fifth axis is that of streams


def memories(count):
    return [Memory(np.full(SHAPE, number, np.float32)) for number in range(count)]


def assert_side_by_side(joined, asked):
    for place, memory in enumerate(asked):
        np.testing.assert_array_equal(joined[:, :, :, :, place : place + 1], memory.values)


def passed(rooms, asked):
    """One pass: in which order it took place, and how many memories were copied for it."""
    order, before = rooms.order(asked), rooms.copied
    assert sorted(order) == list(range(len(asked)))
    ordered = [asked[at] for at in order]
    assert_side_by_side(rooms.joined(ordered), ordered)
    return order, rooms.copied - before


def test_what_has_not_changed_is_not_copied_again():
    rooms, streams = Rooms(), memories(12 * 3)
    passes = [streams[at : at + 12] for at in range(0, 36, 12)]
    assert [passed(rooms, one)[1] for one in passes] == [12] * 3
    assert [passed(rooms, one)[1] for one in passes] == [0] * 3
    assert [passed(rooms, one[::-1])[1] for one in passes] == [0] * 3
    passes[1][4] = Memory(np.full(SHAPE, 99, np.float32))  # it has committed an epoch
    assert [passed(rooms, one)[1] for one in passes] == [0, 1, 0]


def test_a_pass_with_some_others_copies_only_those():
    rooms, streams = Rooms(), memories(16)
    passed(rooms, streams[:12])
    assert passed(rooms, streams[4:])[1] == 4


def test_the_place_of_a_stream_that_ended_is_used_again():
    rooms, (*streams, last) = Rooms(most=1), memories(13)
    passed(rooms, streams)
    assert passed(rooms, [*streams[:7], *streams[8:], last]) == ([0, 1, 2, 3, 4, 5, 6, 11, *range(7, 11)], 1)
    assert len(rooms._seats) == 12


def test_there_are_so_many_rooms_and_no_more():
    rooms = Rooms(most=3)
    for one in [memories(12) for _ in range(9)]:
        passed(rooms, one)
    assert len(rooms._rooms) == 3
    assert len(rooms._seats) == 36
    assert len(Rooms()._rooms) == 0


def test_a_pass_of_strangers_leaves_the_rooms_of_others_alone():
    rooms, known, strangers = Rooms(), memories(12), memories(12)
    passed(rooms, known)
    passed(rooms, [*known[: KNOWN - 1], *strangers[: 13 - KNOWN]])
    assert passed(rooms, [*known[KNOWN - 1 :], *strangers[-(KNOWN - 1) :]])[1] == 12
    assert len(rooms._rooms) == 3


@given(
    passes=st.lists(st.lists(st.integers(0, 30), min_size=6, max_size=6), max_size=30), most=st.integers(1, 4)
)
def test_every_pass_gets_what_it_asked_for(passes, most):
    """Also the same memory twice: that of streams that have none yet."""
    rooms, streams = Rooms(most), memories(31)
    for one in passes:
        passed(rooms, [streams[number] for number in one])
        assert len(rooms._rooms) <= most
        assert len(rooms._seats) <= 6 * most


@pytest.fixture(scope="module")
def model() -> Model:
    return default_model()


def window(seed, epoch):
    rng = np.random.default_rng(seed)
    return Window(
        EPOCH_SAMPLES * 9,
        epoch,
        rng.standard_normal(EPOCH_SAMPLES).astype(np.float32) * 20,
        rng.standard_normal((FRAMES, BINS)).astype(np.float32) * 5 + 20,
    )


def test_in_full_passes_each_stream_is_staged_as_if_it_were_alone(model):
    rng = np.random.default_rng(0)
    alone, shared = ([model.session() for _ in range(PASS + 8)] for _ in range(2))
    copied = model.runner._rooms.copied
    for turn in range(12):
        chosen = rng.permutation(PASS + 8)[:PASS].tolist()
        asked = [
            (window(turn * 100 + one, turn if one % 5 == turn % 5 else None), one != 3) for one in chosen
        ]
        found = score_together([(shared[one], *what) for one, what in zip(chosen, asked, strict=True)])
        for one, what, staged in zip(chosen, asked, found, strict=True):
            expected = alone[one].score(*what)
            assert staged.warmup == expected.warmup
            if expected.probabilities is None:
                assert staged.probabilities is None
            else:
                assert staged.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
    assert PASS < model.runner._rooms.copied - copied < 12 * PASS * 2 / 3
    assert len(model.runner._rooms._rooms) <= ROOMS
