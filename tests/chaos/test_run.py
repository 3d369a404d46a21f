"""A short chaos: ten faults against the real engine, broker and device; nothing promised is broken."""

import asyncio

import pytest

from tests.chaos.check import Verdict
from tests.chaos.rig import Rig
from tests.chaos.run import Chaos, unleash
from tests.mosquitto import needs_mosquitto


@needs_mosquitto
def test_every_kind_of_fault_comes_before_any_comes_again_and_the_seed_says_when(tmp_path):
    def drawn(seed):
        folder = tmp_path / f"{seed} {len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        rig = Rig(folder, 60.0)
        rig.mounted = rig.output.mounted = True
        chaos = Chaos(rig, seed, Verdict())
        return chaos, [chaos.draw() for _ in range(40)]

    chaos, first = drawn(1)
    names = [name for strike in first for name, _ in strike]
    others = [name for name in names if name not in chaos._faults.deaths]
    assert len(set(others[:14])) == len(set(others)) == 14
    assert len(set(names)) == 29
    assert 5 < sum(len(strike) == 2 for strike in first) < 20
    _, again = drawn(1)
    assert [[(name, draw.random()) for name, draw in strike] for strike in again] == [
        [(name, draw.random()) for name, draw in strike] for strike in first
    ]
    assert [name for strike in drawn(2)[1] for name, _ in strike] != names


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs_mosquitto
def test_nothing_that_is_promised_breaks(tmp_path):
    verdict, done = asyncio.run(unleash(tmp_path, seed=77, faults=10, minutes=10))
    assert done.total() >= 10
    assert len(done) >= 8
    assert verdict.broken() == 0, verdict
    assert verdict.notes["epochs"] > 20
    assert verdict.notes["alarms_rung"] == verdict.notes["alarms_due"] > 3
