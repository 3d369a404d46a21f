"""A long loss is walked through, and the other sleeper goes on meanwhile."""

import asyncio

import pytest

from tests.live.gaps import BEFORE_S, interrupted


@pytest.mark.slow
def test_all_of_a_loss_is_walked_and_the_other_goes_on(tmp_path):
    found = asyncio.run(interrupted(120, tmp_path))
    assert 120 + BEFORE_S <= found["windows"] <= 121 + BEFORE_S
    assert found["other_late_max_ms"] > 0
    assert found["growth_mb"] < 80
