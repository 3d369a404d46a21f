"""A short chaos: twenty faults against the real engine, broker and device, and nothing promised is broken."""

import asyncio

import pytest

from tests.mosquitto import needs_mosquitto
from tools.chaos import unleash


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs_mosquitto
def test_nothing_that_is_promised_breaks(tmp_path):
    verdict, done = asyncio.run(unleash(tmp_path, seed=11, faults=20, minutes=5))
    assert done.total() >= 20
    assert verdict.broken() == 0, verdict
    assert verdict.notes["epochs"] > 20
