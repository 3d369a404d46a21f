"""BrainFlow's own Cyton driver against a Cyton that loses packets, falls silent and is opened again."""

import asyncio

import numpy as np
import pytest

from streamer.messages import Gap
from streamer.sources.brainflow import BrainflowSource
from streamer.sources.settings import BrainflowSettings
from tests.cyton import RATE_HZ, Cyton

UV = 4.5 / (2**23 - 1) / 24 * 1e6  # one count of the ADC at the default gain


def collect(cyton, until_s, silence_s):
    """Gaps, and how far each sample lies from its place, in samples."""

    async def scenario():
        gaps, off, first = [], [], None
        settings = BrainflowSettings(board="cyton", serial_port=cyton.port, silence_s=silence_s)
        async with BrainflowSource(settings) as source:
            async for item in source:
                if isinstance(item, Gap):
                    gaps.append((item.start, item.stop))
                else:
                    counts = item.samples[3] / UV
                    first = counts[0] if first is None else first
                    off.append(counts - first - np.arange(item.start, item.stop))
                if item.stop > until_s * RATE_HZ:
                    break
        return gaps, np.concatenate(off), round(first)

    return asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.slow
def test_losses_shorter_and_longer_than_a_turn_of_its_counter_are_found_to_the_sample():
    drops = (1500, 1501), (1600, 1630), (1800, 2056), (2200, 2900)
    with Cyton(drops) as cyton:
        gaps, off, first = collect(cyton, 9, silence_s=4)
    assert [(start + first, stop + first) for start, stop in gaps] == list(drops)
    assert np.abs(off).max() < 0.1


@pytest.mark.slow
def test_a_silent_one_is_opened_again_and_the_silence_is_a_gap():
    with Cyton(mute=(9, 11)) as cyton:
        gaps, off, first = collect(cyton, 14, silence_s=1)
    (gap,) = gaps
    assert (gap[0] + first) / RATE_HZ == pytest.approx(9, abs=0.1)
    assert cyton.commands.count(b"v") == 2
    assert np.abs(off).max() < 0.1 * RATE_HZ  # placed by the clock
