"""What the commands change of the whole process."""

import gc
import weakref

import pytest

from streamer.commands.driving import WAVE, spare_garbage


@pytest.fixture(autouse=True)
def _as_before():
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


class Ring:
    """Refers to itself, so that only a search finds that it is garbage."""

    def __init__(self):
        self.itself = self


def test_what_is_there_when_a_session_begins_is_never_searched_again():
    spare_garbage(1)
    assert gc.get_freeze_count() > 1000


def test_the_more_streams_the_fewer_searches_but_garbage_is_always_found():
    usual = gc.get_threshold()
    spare_garbage(1)
    assert gc.get_threshold() == usual
    spare_garbage(1000)
    before = sum(one["collections"] for one in gc.get_stats())
    wave = [Ring() for _ in range(1000 * WAVE // 2)]
    del wave
    assert sum(one["collections"] for one in gc.get_stats()) == before
    ring = weakref.ref(Ring())
    assert len([[] for _ in range(2 * 1000 * WAVE)]) == 2 * 1000 * WAVE
    assert ring() is None
