"""BrainVision RDA over a real socket: floats, integers, losses, cuts, ends, restarts, nonsense."""

import asyncio
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import SignalError, SourceError
from streamer.live.intake import Intake
from streamer.messages import Chunk, Gap, Marker
from streamer.sources.rda import MARKERS_AT_ONCE, RdaSource
from streamer.sources.rda_messages import START, RdaBlock, Start, Stop, read_body, read_header
from streamer.sources.settings import RdaSettings
from tests.fakes import FakeClock, settle
from tests.rda import GUID, STOP, Server, block, marker, message, start, values


def run(main):
    return asyncio.run(asyncio.wait_for(main, 60))


async def opened(server, *first, clock=None, **wanted):
    """A source, open, and the server's side of its connection."""
    clock = clock or FakeClock()
    source = RdaSource(RdaSettings(port=server.port, **wanted), clock)
    entering = asyncio.create_task(source.__aenter__())
    writer = await server.client()
    writer.write(b"".join(first or (start(), block(0))))
    await entering
    return source, writer, clock


async def _all(source):
    out = []
    try:
        async for item in source:
            out.append(item)
    except SourceError as error:
        return out, str(error)
    raise AssertionError("it ended without a reason")


async def taken(source, count):
    """The next items, as many as there are to be."""
    out = []
    async for item in source:
        out.append(item)
        if len(out) == count:
            break
    return out


def ended(server, *sent, clock=None, **wanted):
    """All that a connection gives which the server closes, and why it ended."""

    async def main():
        async with Server() as there:
            source, writer, _ = await opened(there, *sent, clock=clock, **wanted)
            writer.close()
            out, why = await _all(source)
            await source.__aexit__(None, None, None)
            return source, out, why

    return run(main())


@pytest.mark.parametrize("form", ["<f4", "<i2"])
def test_samples_are_microvolts_by_their_resolution(form):
    first = start(resolutions=[0.5, 0.1, 2.0])
    source, items, why = ended(None, first, block(7, form=form), block(8, form=form))
    assert (source.info.rate_hz, source.info.started) == (500.0, 1e9 - 10 / 500)
    assert [(one.label, one.unit) for one in source.info.channels] == [
        ("Fp1", "uV"),
        ("C3", "uV"),
        ("EOG", "uV"),
    ]
    assert [item.start for item in items] == [0, 10]
    whole = np.concatenate([values(7), values(8)]).T * np.array([[0.5], [0.1], [2.0]])
    np.testing.assert_allclose(np.concatenate([item.samples for item in items], axis=1), whole, rtol=1e-6)
    assert "closed" in why


def test_what_comes_does_not_depend_on_how_it_is_cut():
    sent = b"".join([start(), *(block(n, points=4, markers=[marker(1)]) for n in range(6))])

    async def main():
        async with Server() as server:
            source = RdaSource(RdaSettings(port=server.port), FakeClock())
            entering = asyncio.create_task(source.__aenter__())
            writer = await server.client()
            writer.get_extra_info("socket").setsockopt(6, 1, 1)  # no delay: each byte is a packet
            for byte in range(len(sent)):
                writer.write(sent[byte : byte + 1])
                if byte % 7 == 0:
                    await asyncio.sleep(0)
            await entering
            items = await taken(source, 12)
            await source.__aexit__(None, None, None)
            return items

    items = run(main())
    assert [item.start for item in items if isinstance(item, Chunk)] == [0, 4, 8, 12, 16, 20]
    assert [item.at for item in items if isinstance(item, Marker)] == [1, 5, 9, 13, 17, 21]


def test_blocks_that_are_lost_are_gaps_and_those_that_come_again_are_left_out():
    sent = [start(), block(5), block(6), block(6), block(8), block(7)]
    sent += [block(n) for n in range(12, 40)]
    source, items, _ = ended(None, *sent)
    assert [(one.start, one.stop) for one in items] == [
        (0, 10),
        (10, 20),
        (20, 30),
        (30, 40),
        (40, 70),
        *((10 * n, 10 * n + 10) for n in range(7, 35)),
    ]
    assert [(one.start, one.stop) for one in items if isinstance(one, Gap)] == [(40, 70)]  # 9, 10, 11
    assert np.array_equal(items[3].samples, values(8).T * 0.5)
    assert list(source.remarks) == ["1 blocks of the amplifier came twice or too late"]


def test_markers_belong_to_a_sample_and_are_harmless():
    words = [marker(3, "Stimulus", "S  1"), marker(99, "\x1b[2J", "a\nb", 1), marker(0, "", "", 7)]
    _, items, _ = ended(None, start(), block(0, markers=words), block(1))
    found = [item for item in items if isinstance(item, Marker)]
    assert [(one.at, one.told, one.channel) for one in found] == [
        (3, "Stimulus: S  1", ""),
        (10, "\\x1b[2J: a b", "C3"),  # no further than its block
        (0, "unnamed", ""),
    ]


def test_a_flood_of_markers_is_left_out_and_said():
    many = [block(n, markers=[marker()] * 100) for n in range(10)]
    source, items, _ = ended(None, start(), *many)
    assert sum(isinstance(item, Marker) for item in items) == MARKERS_AT_ONCE
    assert source.remarks[-1] == "512 markers were left out: there are more than 10 a second"
    assert sum(isinstance(item, Chunk) for item in items) == 10


def test_between_two_acquisitions_it_waits_and_the_time_is_a_gap():
    async def main():
        async with Server() as server:
            source, writer, clock = await opened(server, silence_s=5)
            items = aiter(source)
            await anext(items)
            writer.write(STOP + message(10_000) + message(5, b"\1\0\0\0"))
            later = asyncio.create_task(anext(items))
            await _until(lambda: source._start is None)
            await clock.advance(100)
            writer.write(start(resolutions=[1.0, 1.0, 1.0]) + block(0))
            gap = await later
            chunk = await anext(items)
            await source.__aexit__(None, None, None)
            return gap, chunk

    gap, chunk = run(main())
    assert (gap.stop - gap.start, gap.reason) == (100 * 500 - 10, "the acquisition was begun anew")
    assert chunk.start == gap.stop
    assert np.array_equal(chunk.samples, values(0).T)  # by the new resolutions


async def _until(done):
    for _ in range(100_000):
        if done():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


@pytest.mark.parametrize(
    "again",
    [start(interval_us=4000.0), start(names=("Fp1", "C3")), start(names=("Fp1", "C4", "EOG"))],
    ids=["rate", "count", "names"],
)
def test_another_acquisition_ends_it(again):
    _, items, why = ended(None, start(), block(0), STOP, again, block(0))
    assert len(items) == 1
    assert "another acquisition" in why


def test_a_connection_that_falls_silent_is_given_up():
    async def main():
        async with Server() as server:
            source, writer, clock = await opened(server, silence_s=3)
            items = aiter(source)
            await anext(items)
            writer.write(block(1)[:40])  # half of one does not count
            more = asyncio.create_task(anext(items))
            await settle()
            await clock.advance(2.5)
            assert not more.done()
            await clock.advance(1)
            with pytest.raises(SourceError, match="silent for 3 s"):
                await more
            await source.__aexit__(None, None, None)

    run(main())


def test_who_answers_and_sends_nothing_is_told_what_to_do():
    async def main():
        clock = FakeClock()
        async with Server() as server:
            source = RdaSource(RdaSettings(port=server.port, resolve_s=4), clock)
            entering = asyncio.create_task(source.__aenter__())
            writer = await server.client()
            writer.write(message(5) + message(10_000) + start())
            await _until(lambda: source._start is not None)
            await clock.advance(4.1)
            with pytest.raises(SourceError, match="start monitoring or recording"):
                await entering

    run(main())


def test_nobody_there_is_told():
    async def main():
        async with Server() as server:
            await server.refuse()
            with pytest.raises(SourceError, match=r"\(Connection refused\); enable Remote Data Access"):
                await RdaSource(RdaSettings(port=server.port)).__aenter__()
        with pytest.raises(SourceError, match="no BrainVision RDA server"):
            await RdaSource(RdaSettings(host="a" * 70 + ".invalid")).__aenter__()

    run(main())


HOSTILE = {
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "no size": message(1, size=0),
    "a size that fills the memory": message(4, size=0xFFFFFFFF),
    "samples before a start": block(0),
    "no channels": start(names=()),
    "more channels than bytes": start(count=1000),
    "channels without end": start(count=0xFFFFFFFF),
    "half a start": message(1, b"\1\0\0"),
    "no interval": start(interval_us=0.0),
    "no number": start(interval_us=float("nan")),
    "an endless interval": start(interval_us=float("inf")),
    "a resolution that is none": start(resolutions=[1.0, float("nan"), 1.0]),
    "a negative one": start(resolutions=[1.0, -1.0, 1.0]),
    "names without an end": message(1, struct.pack("<Idd", 1, 2000.0, 1.0) + b"Fp1"),
    "half a block": start() + message(4, b"\0" * 8),
    "more samples than bytes": start() + message(4, struct.pack("<III", 0, 0xFFFFFFFF, 0)),
    "more markers than bytes": start() + block(0, count=0xFFFFFFFF),
    "a marker without size": start() + block(0, markers=[marker(size=0)]),
    "a marker beyond its block": start() + block(0, markers=[marker(size=5000)]),
    "a second that is cut": start() + block(0, markers=[marker(size=35), marker()], count=2),
}


@pytest.mark.parametrize("sent", HOSTILE.values(), ids=HOSTILE)
def test_nonsense_is_one_clear_error(sent):
    async def main():
        async with Server() as server:
            source = RdaSource(RdaSettings(port=server.port), FakeClock())
            entering = asyncio.create_task(source.__aenter__())
            (await server.client()).write(sent)
            with pytest.raises(SourceError) as error:
                await entering
        assert "\n" not in str(error.value)
        assert "makes no sense" in str(error.value) or "does not speak" in str(error.value)

    run(main())


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([1, 2, 3, 4, 5, 9, 10_000]), st.binary(max_size=120), st.booleans())
def test_no_message_raises_anything_else(kind, body, begun):
    first = read_body(START, start()[24:], None) if begun else None
    try:
        made = read_body(kind, body, first)
    except (SourceError, SignalError) as error:
        made = str(error)
    assert made is None or isinstance(made, Start | RdaBlock | Stop) or made.isprintable()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 200), st.integers(0, 255))
def test_a_message_with_one_byte_wrong_does_no_harm(at, value):
    sent = bytearray(start() + block(0, markers=[marker(3)]))
    sent[at % len(sent)] = value
    try:
        begun, rest = None, bytes(sent)
        while len(rest) >= 24:
            kind, size = read_header(rest[:24])
            made = read_body(kind, rest[24 : 24 + size], begun)
            begun, rest = made if isinstance(made, Start) else begun, rest[24 + size :]
            if isinstance(made, RdaBlock):
                assert made.points <= 10
                assert all(mark.position <= made.points for mark in made.marks)
    except (SourceError, SignalError):
        pass


def test_a_rate_that_is_none_of_eeg_is_refused():
    async def main():
        async with Server() as server:
            source = RdaSource(RdaSettings(port=server.port), FakeClock())
            entering = asyncio.create_task(source.__aenter__())
            (await server.client()).write(start(interval_us=200.0))
            with pytest.raises(SignalError, match="5000 Hz"):
                await entering

    run(main())


def test_samples_that_are_no_numbers_are_missing():
    data = np.full((10, 3), np.inf)
    data[0] = np.nan
    _, (chunk,), _ = ended(None, start(), block(0, data=data))
    assert np.isnan(chunk.samples).all()


def test_names_of_any_code_page_are_readable():
    body = struct.pack("<Id2d", 2, 2000.0, 1.0, 1.0) + "Ö1".encode("latin-1") + b"\0\0"
    source, _, _ = ended(None, message(1, body), block(0, channels=2))
    assert [one.label for one in source.info.channels] == ["Ö1", "1"]
    assert GUID[:4] == b"\x8eEXC"


def test_the_intake_records_samples_and_keeps_markers_apart(tmp_path):
    class Ledger:
        def __init__(self):
            self.items = []

        def record(self, item):
            self.items.append(item)

    async def main():
        async with Server() as server:
            sent = start(), *(block(n, markers=[marker(2)]) for n in range(60))
            source, _, clock = await opened(server, *sent)
            ledger = Ledger()
            async with Intake(source, ledger, True, clock) as intake:
                await intake.next()
                await _until(lambda: len(intake.markers) == 60)
            await source.__aexit__(None, None, None)
            return ledger.items, list(intake.markers)

    items, markers = run(main())
    assert all(isinstance(item, Chunk) for item in items)
    assert [one.at for one in markers] == [10 * n + 2 for n in range(60)]
