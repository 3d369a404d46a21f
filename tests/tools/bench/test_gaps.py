"""The benchmark of long losses: it measures the walk through a loss, and the other sleeper meanwhile."""

import asyncio

import pytest

from tools.bench.gaps import BEFORE_S, WANTED, interrupted


@pytest.mark.slow
def test_all_of_a_loss_is_walked_and_the_other_goes_on(tmp_path):
    found = asyncio.run(interrupted(120, tmp_path))
    assert 120 + BEFORE_S <= found["windows"] <= 121 + BEFORE_S
    assert found["other_late_max_ms"] > 0
    measured = {key.split("_", 2)[2] for key in WANTED}
    assert measured <= set(found)
