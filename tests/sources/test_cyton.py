"""BrainFlow's own Cyton driver against a Cyton that loses packets, falls silent and is opened again."""

import asyncio

import numpy as np
import pytest

from streamer.messages import Gap
from streamer.sources.brainflow import BrainflowSource
from streamer.sources.settings import BrainflowSettings
from tests.cyton import RATE_HZ, Cyton

UV = 4.5 / (2**23 - 1) / 24 * 1e6  # one count of the ADC at the default gain


async def collected(cyton, until_s, silence_s):
    """Gaps, how far each sample lies from its place, in samples, and the first one's number."""
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
    return gaps, np.abs(np.concatenate(off)).max(), round(first)


@pytest.mark.slow
def test_losses_are_found_to_the_sample_and_a_silent_board_is_opened_again():
    """Losses shorter and longer than a turn of its counter; the silence is a gap."""
    drops = (1500, 1501), (1600, 1630), (1800, 2056), (2200, 2900)

    async def scenario(losing, mute):
        return await asyncio.gather(collected(losing, 9, silence_s=5), collected(mute, 20, silence_s=5))

    with Cyton(drops) as losing, Cyton(mute=(9, 13)) as mute:
        lost, silent = asyncio.run(asyncio.wait_for(scenario(losing, mute), 120))
    gaps, off, first = lost
    assert [(start + first, stop + first) for start, stop in gaps] == list(drops)
    assert off < 0.1
    ((start, _),), off, first = silent
    assert (start + first) / RATE_HZ == pytest.approx(9, abs=0.01)
    assert mute.commands.count(b"v") == 2
    assert off < 1.5 * RATE_HZ  # placed by the clock: two seconds and more would be missing
