"""An hour of the night at speed: nothing grows. Ten hours: `python -m tests.chaos soak`."""

import asyncio

import pytest

from tests.chaos.soak import Look, judge, soak


def test_growth_is_seen():
    flat = [Look(hour, 380.0 + hour % 2, 16, 5, 29, 7.0) for hour in range(1, 11)]
    assert judge(flat) == []
    leaking = [Look(hour, 380.0 + 4 * hour, 16 + hour, 5, 29, 7.0 + 9 * hour) for hour in range(1, 11)]
    assert [found.split()[0] for found in judge(leaking)] == ["memory", "files", "latency"]


@pytest.mark.slow
def test_an_hour_leaves_nothing_behind(tmp_path):
    looks = asyncio.run(soak(tmp_path, hours=1, speed=300, hop_s=5))
    assert len(looks) >= 8  # ten, unless the machine was too busy to look
    assert [found for found in judge(looks) if not found.startswith("latency")] == []
