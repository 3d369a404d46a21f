"""One recording through BrainFlow's playback board and through file replay: the same scores, to the bit."""

import asyncio

import numpy as np
import pytest

from streamer.clock import SystemClock
from streamer.messages import Chunk, Gap
from streamer.sources.opener import open_source
from streamer.sources.settings import BrainflowSettings, ReplaySettings
from tests.paths import eeg, run, scores

RATE_HZ = 256
SECONDS = 126
SPEED = 40  # the playback board keeps to the recorded times, so a recording with dense ones plays fast
PACKET = 12
HOLE = slice(600 * PACKET, 700 * PACKET)  # 4.7 s of Bluetooth out of reach


def recording():
    """(n,) µV as six decimals keep them."""
    return np.round(eeg(SECONDS, RATE_HZ, seed=3)[0], 6)


def muse_csv(path, signal, kept):
    """What BrainFlow's data logger writes for a Muse 2, with only the `kept` rows."""
    index = np.arange(signal.size)
    table = np.zeros((signal.size, 8))
    table[:, 0] = (65_000 + index // PACKET) % 65_536  # wraps on the way
    table[:, 2] = signal
    table[:, 6] = 1.7e9 + index / RATE_HZ / SPEED
    np.savetxt(path, table[kept], fmt="%.6f", delimiter="\t")


async def played(settings):
    """Every item of a source, only the channel AF7."""
    async with open_source(settings, "AF7", SystemClock()) as source:
        at = [channel.label for channel in source.info.channels].index("AF7")
        return [
            item if isinstance(item, Gap) else Chunk(item.start, item.samples[at : at + 1], item.arrived)
            async for item in source
        ]


def play(*settings):
    """The items of several sources that play at the same time."""

    async def scenario():
        return await asyncio.gather(*map(played, settings))

    return asyncio.run(asyncio.wait_for(scenario(), 60))


def staged(items):
    """What the pipeline makes of them: everything but the arrival times."""
    return [
        (score.end, score.epoch, score.stage, score.probabilities, score.quality)
        for score in scores(run(items, RATE_HZ, hop_s=5))
    ]


@pytest.mark.slow
def test_playback_and_file_replay_score_the_same_and_a_hole_is_found_by_its_packet_numbers(tmp_path):
    signal = recording()
    whole = np.ones(signal.size, bool)
    holed = whole.copy()
    holed[HOLE] = False
    settings = []
    for name, kept in {"whole.csv": whole, "holed.csv": holed}.items():
        muse_csv(tmp_path / name, signal, kept)
        settings.append(BrainflowSettings(board="playback", master_board="muse 2", file=tmp_path / name))
    np.savetxt(tmp_path / "file.csv", signal, fmt="%.6f", header="AF7", comments="")
    settings.append(ReplaySettings(path=tmp_path / "file.csv", rate_hz=RATE_HZ, speed="max"))
    live, interrupted, replayed = play(*settings)
    assert not any(isinstance(item, Gap) for item in live)
    scored = staged(live)
    assert len(scored) == 20
    assert scored == staged(replayed)
    assert [(item.start, item.stop) for item in interrupted if isinstance(item, Gap)] == [
        (HOLE.start, HOLE.stop)
    ]
    oracle = [
        Chunk(0, signal[None, : HOLE.start]),
        Gap(HOLE.start, HOLE.stop, "radio"),
        Chunk(HOLE.stop, signal[None, HOLE.stop :]),
    ]
    scored = staged(interrupted)
    assert scored == staged(oracle)
    assert "unscored" in {score[2] for score in scored}
