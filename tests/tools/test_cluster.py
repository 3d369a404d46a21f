"""A Ray that does not start is tried again if it was only slow, and refused in one line."""

import sys
from types import SimpleNamespace

import pytest

from streamer.errors import RunError
from tools.score import cluster


@pytest.mark.parametrize(("slow", "starts"), [(2, 3), (9, 3)])
def test_a_ray_that_starts_too_slowly_is_started_again_and_at_last_refused(monkeypatch, slow, starts):
    begun = []

    def init(**_):
        begun.append(1)
        if len(begun) <= slow:
            raise Exception("The current node timed out during startup. This could happen because ...")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    if slow < starts:
        cluster._connect("local", 1)
    else:
        with pytest.raises(RunError, match="no Ray at local"):
            cluster._connect("local", 1)
    assert len(begun) == starts


def test_a_mistake_of_ours_is_not_told_as_a_ray_that_is_not_there(monkeypatch):
    def init(*, address):
        """Take no other option."""

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with pytest.raises(TypeError, match="unexpected keyword"):
        cluster._connect("local", 1)


@pytest.mark.parametrize(
    "refused", [ConnectionError("nobody there"), ValueError("nobody there"), Exception("nobody there")]
)
def test_what_no_second_start_would_mend_is_refused_at_once(monkeypatch, refused):
    begun = []

    def init(**_):
        begun.append(1)
        raise refused

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with pytest.raises(RunError, match="nobody there"):
        cluster._connect("ray://127.0.0.1:1", 1)
    assert len(begun) == 1
