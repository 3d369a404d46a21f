"""Real outlets in other processes that misbehave: every index against the truth, every loss in the ledger."""

import asyncio
import signal
import time
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pylsl
import pytest

from streamer.clock import SystemClock
from streamer.errors import SourceError
from streamer.live.engine import Engine
from streamer.messages import Chunk, Gap
from streamer.settings import validate
from tests.fakes import Witness
from tests.outlet import Script, playing, sent, source

HELD_S = 2.0  # what the timeline may hold back until it is sure of it

pytestmark = pytest.mark.slow  # each plays in real time, for seconds


def run(main, seconds=60):
    return asyncio.run(asyncio.wait_for(main, seconds))


def numbers(items):
    """The device's number of each sample that came."""
    return np.concatenate([item.samples[-1] for item in items if isinstance(item, Chunk)]).astype(int)


async def collect(stream, until, items):
    """Read until the sample with this number, or one after it, has come."""
    async for item in stream:
        items.append(item)
        if isinstance(item, Chunk) and item.samples[-1, -1] >= until:
            return


def missing(found):
    """Stretches of numbers (first missing, first after) that did not come."""
    ends = np.flatnonzero(np.diff(found) > 1)
    return [(int(found[end]) + 1, int(found[end + 1])) for end in ends]


def check(items, chunk):
    """Index against number to one sample; every loss listed to within one chunk, and none made up."""
    found = numbers(items)
    at = np.concatenate([np.arange(item.start, item.stop) for item in items if isinstance(item, Chunk)])
    assert np.abs(at - (found - found[0]) - at[0]).max() <= 1
    ledger = [(item.start, item.stop) for item in items if isinstance(item, Gap)]
    truth = [(start - found[0], stop - found[0]) for start, stop in missing(found)]
    assert len(ledger) == len(truth), (ledger, truth)
    if truth:
        assert np.abs(np.array(ledger) - np.array(truth)).max() <= chunk
    assert [item.start for item in items] == [0, *(item.stop for item in items[:-1])]


WORLDS = {
    "dropped": {"dropped": 0.05},
    "jitter": {"jitter_s": 0.02},
    "drift": {"drift": 200e-6},
    "bursts": {"burst": 12, "chunk": 12},
    "wrong rate": {"said_hz": 250.0},
    "pause": {"pause_s": (120.0, 210.0)},
    "dropped, wrong rate": {"dropped": 0.05, "said_hz": 250.0},
    "pause and jitter": {"jitter_s": 0.02, "pause_s": (120.0, 210.0)},
}


async def heard(script, settings):
    """All that a source gives of an outlet that plays by itself."""
    items = []
    async with source(script.speed, **settings) as stream:
        await collect(stream, script.stop - HELD_S * script.rate_hz, items)
    return items


@pytest.mark.parametrize("worlds", [tuple(WORLDS)[:4], tuple(WORLDS)[4:]], ids="+".join)
def test_the_grid_is_right_and_the_ledger_complete(worlds):
    """Several devices at once, each in a world of its own."""
    scripts = [Script(f"world {world}", seconds=300.0, speed=60.0, **WORLDS[world]) for world in worlds]

    async def main():
        return await asyncio.gather(*(heard(script, {"name": script.name}) for script in scripts))

    with ExitStack() as processes:
        for script in scripts:
            processes.enter_context(playing(script))
        found = run(main())
    for script, items in zip(scripts, found, strict=True):
        np.testing.assert_array_equal(numbers(items), sent(script)[: len(numbers(items))], script.name)
        check(items, script.chunk)


async def _killed_and_reborn(first, second, settings, between=None):
    """All of the first outlet, its death, and the second, whose numbers go on where times do."""
    items = []
    with ExitStack() as processes:
        process = processes.enter_context(playing(first))
        async with source(first.speed, **settings) as stream:
            items_of = aiter(stream)
            await collect(items_of, first.stop - 1, items)
            process.kill()
            if between is not None:
                processes.enter_context(playing(between))
            processes.enter_context(playing(second))
            await collect(items_of, second.stop - HELD_S * second.rate_hz, items)
    return items


def test_killed_and_reborn():
    """With the same identity, with another, or with none."""

    async def main():
        reborn = []
        for source_id in ("outlet", "another", ""):
            first = Script(f"phoenix {source_id}", seconds=20.0, begun=1e5)
            second = replace(first, first=40 * 256, source_id=source_id)
            reborn.append(_killed_and_reborn(first, second, {"name": first.name}))
        return await asyncio.gather(*reborn)

    for items in run(main()):
        check(items, Script("").chunk)
        assert [(gap.start, gap.stop) for gap in items if isinstance(gap, Gap)] == [(20 * 256, 40 * 256)]


def test_what_merely_matches_is_not_taken_for_what_was_lost():
    first = Script("mine", kind="band", seconds=10.0, begun=1e5)
    second = Script("mine", kind="band", seconds=20.0, begun=1e5, first=40 * 256)
    neighbour = Script("yours", kind="band", seconds=600.0, begun=1e5, source_id="neighbour")
    items = run(_killed_and_reborn(first, second, {"type": "band"}, neighbour))
    check(items, first.chunk)
    assert [(gap.start, gap.stop) for gap in items if isinstance(gap, Gap)] == [(10 * 256, 40 * 256)]


def test_reborn_as_something_else_is_refused():
    others = {
        r"3 channels \(AF7 \(microvolts\), AF8 .*; it had 3 .*TP9": {"labels": ("AF7", "AF8", "count")},
        "3 channels at 128 Hz; it had .* at 256 Hz": {"rate_hz": 128.0},
        "3 channels at 0 Hz": {"said_hz": 0.0},
    }

    async def main():
        reborn = []
        for number, more in enumerate(others.values()):
            first = Script(f"changeling {number}", seconds=5.0, begun=1e5)
            second = replace(first, seconds=20.0, first=40 * 256, **more)
            reborn.append(_killed_and_reborn(first, second, {"name": first.name}))
        return await asyncio.gather(*reborn, return_exceptions=True)

    for says, error in zip(others, run(main()), strict=True):
        with pytest.raises(SourceError, match=says):
            raise error


def test_reborn_with_another_clock_the_loss_is_what_this_computer_saw_pass():
    """One loss, no shorter than the outlet was gone, whichever way its clock has gone."""
    first = Script("earlier", seconds=20.0, speed=10.0, begun=1e5)
    travels = [(replace(first, name=name), begun) for name, begun in {"earlier": 0.0, "later": 1e7}.items()]

    async def main():
        reborn = [
            _killed_and_reborn(one, replace(one, begun=begun, first=40 * 256), {"name": one.name})
            for one, begun in travels
        ]
        return await asyncio.gather(*reborn)

    began = time.monotonic()
    found = run(main())
    took_s = time.monotonic() - began
    for items in found:
        (gap,) = [item for item in items if isinstance(item, Gap)]
        assert gap.start == first.stop
        assert 5 * 256 < gap.stop - gap.start < took_s * first.speed * 256
        assert len(missing(numbers(items))) == 1


def test_frozen_and_thawed_is_the_same_outlet_and_what_was_missed_is_listed():
    """A computer that hangs: the connection stays open and says nothing."""
    script = Script("frozen", seconds=600.0, speed=60.0)

    async def main():
        items = []
        with playing(script) as process:
            async with source(script.speed, name="frozen", silence_s=0.3) as stream:
                items_of = aiter(stream)
                await collect(items_of, 20 * 256, items)
                process.send_signal(signal.SIGSTOP)
                upcoming = asyncio.ensure_future(collect(items_of, 450 * 256, items))
                await asyncio.wait({upcoming}, timeout=3.0)  # long enough to try to connect anew, in vain
                assert not upcoming.done()
                process.send_signal(signal.SIGCONT)
                await upcoming
        return items

    check(run(main()), script.chunk)


def test_a_mute_outlet_is_asked_again_until_it_speaks_and_the_wait_is_a_loss():
    script = Script("mute", seconds=600.0, speed=10.0, mute=True)

    async def main():
        items = []
        with playing(script) as process:
            await asyncio.to_thread(pylsl.resolve_byprop, "name", "mute", 1, 60.0)
            begun = time.monotonic()
            async with source(name="mute", resolve_s=6.0, silence_s=3.0) as stream:
                upcoming = asyncio.ensure_future(collect(stream, 20 * 256, items))
                await asyncio.wait({upcoming}, timeout=5.0)  # long enough to try to connect anew
                process.stdin.write("speak\n")
                process.stdin.flush()
                await upcoming
                waited_s = time.monotonic() - begun
        return waited_s, items

    waited_s, (gap, *rest) = run(main())
    assert (type(gap), gap.start) == (Gap, 0)
    assert 0 < gap.stop / 256 < waited_s + 1
    assert rest[0].start == gap.stop
    assert len(missing(numbers(rest))) == 0


def test_a_paused_outlet_can_be_left_while_it_is_silent():
    async def main():
        with playing(Script("paused", seconds=5.0)):
            async with source(name="paused", silence_s=0.1) as stream:
                items_of = aiter(stream)
                await collect(items_of, 5 * 256 - 1, [])
                upcoming = asyncio.ensure_future(anext(items_of))
                await asyncio.wait({upcoming}, timeout=1.2)
                upcoming.cancel()
                await asyncio.wait({upcoming})
                assert upcoming.cancelled()

    run(main())


def test_a_band_that_comes_back_with_other_electrodes_gets_a_new_session(tmp_path):
    first = Script("band", seconds=40.0)
    second = Script("band", seconds=400.0, speed=40.0, labels=("AF8", "AF7", "count"))
    settings = {
        "session_dir": str(tmp_path),
        "stream": [
            {
                "name": "anna",
                "source": {"kind": "lsl", "name": "band", "resolve_s": 30},
                "signal": {"channel": ["AF7", "#2"]},
            }
        ],
    }

    async def main():
        witness = Witness()
        engine = Engine(validate(settings, "test"), SystemClock(), witness)
        running = asyncio.create_task(engine.run())
        with playing(first) as process:
            await witness.until(lambda: witness.stages)
            process.kill()
            with playing(second):
                await witness.until(lambda: witness.event_names().count("session_started") == 2)
                before = len(witness.stages)
                await witness.until(lambda: len(witness.stages) > before)
        engine.stop()
        await running
        return witness

    witness = run(main(), 90)
    assert len(set(witness.sessions)) == 2
    (said,) = [event.text for event in witness.events if event.event == "error"]
    assert "came back with 3 channels (AF8" in said
    assert [name for name in witness.event_names() if name.startswith("session")] == [
        *("session_started", "session_ended"),
        *("session_started", "session_ended"),
    ]
