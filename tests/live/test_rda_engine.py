"""A night from a BrainVision Recorder that stops, vanishes and comes back: one session, gaps, markers."""

import asyncio

import numpy as np

from streamer.journal import JournalReader
from streamer.live.engine import Engine
from streamer.night.session import read_items
from streamer.settings import validate
from tests.fakes import FakeClock, Witness, settle
from tests.rda import Server, block, marker, start

NAMES = ("C3", "M2")


def night(first, count, rng):
    """A second of EEG per block, each with a marker."""
    for number in range(first, first + count):
        data = rng.standard_normal((100, 2)) * 30
        yield block(number, 100, 2, markers=[marker(50, text=f"S{number:3}")], data=data)


def test_one_session_goes_on_over_a_connection_that_is_lost(tmp_path):
    async def main():
        clock, witness, rng = FakeClock(), Witness(), np.random.default_rng(0)
        async with Server() as server:
            source = {"kind": "rda", "port": server.port}
            stream = {"name": "s01", "source": source, "signal": {"channel": "C3-M2"}}
            data = {"node": "lab", "session_dir": str(tmp_path), "stream": [stream]}
            engine = Engine(validate(data, "test"), clock, witness)
            running = asyncio.create_task(engine.run())
            for attempt in range(2):
                writer = await server.client()
                writer.write(start(NAMES, 10_000.0))
                for sent in night(100 * attempt, 5, rng):
                    writer.write(sent)
                    await settle()
                    await clock.advance(1)
                seen = 5 * (attempt + 1)
                await witness.until(lambda seen=seen: len(_markers(witness)) >= seen)
                writer.close()
                if not attempt:
                    await witness.until(lambda: any(one.event == "error" for one in witness.events))
                    await clock.advance(3)  # no longer than it then waits for samples
            engine.stop()
            (outcome,) = await running
        return outcome

    outcome = asyncio.run(asyncio.wait_for(main(), 60))
    with JournalReader(outcome.session) as session:
        events = list(session.events())
    recorded = list(read_items(outcome.session))
    assert [one.event for one in events].count("session_started") == 1
    assert "closed there" in next(one.text for one in events if one.event == "error")
    found = [one for one in events if one.event == "marker"]
    assert [one.data["description"] for one in found] == [f"S{n:3}" for n in (*range(5), *range(100, 105))]
    (gap,) = [item for item in recorded if not hasattr(item, "samples")]
    assert 100 <= gap.stop - gap.start <= 500
    assert [round(one.at_s, 2) for one in found[:5]] == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert round(found[5].at_s, 2) == round(gap.stop / 100 + 0.5, 2)


def _markers(witness):
    return [one for one in witness.events if one.event == "marker"]
