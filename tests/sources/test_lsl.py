"""A live LSL stream through real liblsl, on the loopback: found, refused, lost, found again."""

import asyncio
import threading

import numpy as np
import pylsl
import pytest

from streamer.errors import SignalError, SourceError
from streamer.messages import Channel, Chunk, Gap
from streamer.sources.lsl import PULL_S, SLICE_S, LslSource
from streamer.sources.settings import LslSettings
from tests.fakes import none_left
from tests.outlet import Hurried


def outlet(name, rate=100.0, labels=("AF7", "TP9"), source_id="x", form=pylsl.cf_float32, kind="EEG"):
    info = pylsl.StreamInfo(name, kind, len(labels), rate, form, source_id)
    entries = info.desc().append_child("channels")
    for label in labels:
        entry = entries.append_child("channel")
        entry.append_child_value("label", label)
        entry.append_child_value("unit", "microvolts")
    return pylsl.StreamOutlet(info)


class Sender:
    """Sends numbered samples with exact times whenever someone listens, until stopped."""

    def __init__(self, name, first=0, begun=None, **more):
        self.outlet = outlet(name, **more)
        self.begun = pylsl.local_clock() if begun is None else begun
        self.next = first
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set():
            if self.outlet.wait_for_consumers(0.1):
                k = np.arange(self.next, self.next + 50)
                rows = np.stack([k, -k], axis=1).astype(np.float32)
                self.outlet.push_chunk(rows, list(self.begun + k / 100.0))
                self.next += 50
                self._stop.wait(0.02)

    def stop(self):
        self._stop.set()
        self._thread.join(60)
        del self.outlet
        return self.next


@pytest.fixture
def senders():
    open_ = []
    yield lambda *args, **more: open_.append(Sender(*args, **more)) or open_[-1]
    for sender in open_:
        if hasattr(sender, "outlet"):
            sender.stop()


def run(main):
    return asyncio.run(asyncio.wait_for(main, 60))


async def _opened(**settings):
    settings.setdefault("resolve_s", 30.0)
    async with LslSource(LslSettings(**settings)) as source:
        return source.info


def test_samples_and_what_they_are(senders):
    async def main():
        senders("one")
        items = []
        async with LslSource(LslSettings(name="one")) as source:
            info = source.info
            async for item in source:
                items.append(item)
                if item.stop >= 500:
                    break
        return info, items

    info, items = run(main())
    assert info.channels == (Channel("AF7", "microvolts"), Channel("TP9", "microvolts"))
    assert (info.name, info.rate_hz) == ("one", 100.0)
    rows = np.concatenate([item.samples for item in items], axis=1)
    assert rows.dtype == np.float64
    np.testing.assert_array_equal(np.diff(rows[0]), 1)
    np.testing.assert_array_equal(rows[1], -rows[0])
    none_left("lsl")


@pytest.mark.slow
@pytest.mark.parametrize("source_id", ["x", ""])
def test_a_stream_that_dies_is_found_again_and_the_loss_is_a_gap(senders, source_id):
    async def main():
        sender = senders("two", source_id=source_id)
        items = []
        clock = Hurried()
        async with LslSource(LslSettings(name="two", silence_s=250), clock) as source:
            clock.hurry(25)
            begun = sender.begun
            again = None
            async for item in source:
                items.append(item)
                if again is None and item.stop >= 200:
                    at = await asyncio.to_thread(sender.stop)
                    again = senders("two", at + 300, begun, source_id=source_id)
                if any(isinstance(item, Gap) for item in items) and isinstance(item, Chunk):
                    break
        return items

    items = run(main())
    (gap,) = [item for item in items if isinstance(item, Gap)]
    assert gap.stop - gap.start >= 300
    first = items[0].samples[0, 0]
    for item in items:
        if isinstance(item, Chunk):
            np.testing.assert_array_equal(item.samples[0] - first, np.arange(item.start, item.stop))


@pytest.mark.slow
def test_a_stream_that_comes_back_as_another_is_refused(senders):
    async def main():
        sender = senders("three")
        async with LslSource(LslSettings(name="three")) as source:
            again = None
            async for _ in source:
                if again is None:
                    at = await asyncio.to_thread(sender.stop)
                    again = senders("three", at, labels=("AF7", "AF8"))

    with pytest.raises(SourceError, match="'three' was lost and came back"):
        run(main())


@pytest.mark.parametrize(
    ("more", "error", "says"),
    [
        ({"rate": 0.0}, SourceError, "states no regular rate"),
        ({"rate": 10.0}, SignalError, "10 Hz"),
        ({"form": pylsl.cf_string}, SourceError, "carries text"),
    ],
)
def test_what_is_no_signal_is_refused(more, error, says):
    kept = outlet("four", **more)
    with pytest.raises(error, match=says):
        run(_opened(name="four"))
    del kept


@pytest.fixture
def long_look(monkeypatch):
    """Nobody is overlooked on a busy machine."""
    monkeypatch.setattr("streamer.sources.lsl.LOOK_S", 3.0)


@pytest.mark.slow
def test_none_and_several_matches_are_listed(long_look):
    kept = [outlet("five", source_id="a"), outlet("five", source_id="b")]
    with pytest.raises(SourceError, match=r"no LSL stream matches name 'nine' .*'five' \(type 'EEG', 2 chan"):
        run(_opened(name="nine", resolve_s=1.0))
    with pytest.raises(SourceError, match=r"2 LSL streams match name 'five': .*source_id 'b'"):
        run(_opened(name="five"))
    kept.clear()


@pytest.mark.slow
def test_a_predicate_finds_lists_and_is_checked(long_look):
    kept = [outlet("seven", labels=("AF7", "Oz")), outlet("seven", labels=("AF7",)), outlet("eight")]
    assert run(_opened(predicate="desc/channels/channel/label='Oz'")).channels[1].label == "Oz"
    with pytest.raises(SourceError, match=r"2 LSL streams match predicate \"name='seven'\": .*or predicate"):
        run(_opened(predicate="name='seven'"))
    with pytest.raises(SourceError, match=r"no LSL stream matches predicate .* there are: .*'eight'"):
        run(_opened(predicate="name='nine'", resolve_s=1.0))
    with pytest.raises(SourceError, match=r"predicate \"name=='seven'\" is not XPath; write, say, "):
        run(_opened(predicate="name=='seven'"))
    kept.clear()


@pytest.mark.slow
def test_a_silent_stream_opens_and_can_be_cancelled():
    kept = outlet("six")

    async def main():
        async with LslSource(LslSettings(name="six", resolve_s=30.0)) as source:
            assert source.info.rate_hz == 100
            task = asyncio.create_task(anext(aiter(source)))
            await asyncio.wait({task}, timeout=0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main())
    del kept
    none_left("lsl")


def test_cancelled_while_looking():
    async def main():
        task = asyncio.create_task(_opened(name="nobody", resolve_s=600.0))
        await asyncio.wait({task}, timeout=0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


class Inlet:
    """Gives samples as they were sent, each burst in a call of its own; None: the stream is lost."""

    def __init__(self, *bursts):
        self.bursts = list(bursts)
        self.asked = []

    def pull_chunk(self, wait_s, most, dest_obj):
        self.asked.append((wait_s, most))
        burst = self.bursts.pop(0)
        if burst is None:
            self.bursts.insert(0, None)
            raise pylsl.util.LostError
        count = min(burst, most)
        dest_obj[:count] = 1.0
        return None, [0.0] * count


@pytest.mark.parametrize(
    ("missing", "bursts", "came", "calls"),
    [
        (0, [12], 12, [(PULL_S, 100)]),  # as soon as any are there
        (25, [12, 12, 12], 25, [(SLICE_S, 25), (SLICE_S, 13), (SLICE_S, 1)]),
        (100, [12, 0, 12, 0, 12], 24, [(SLICE_S, 100), (SLICE_S, 88), (SLICE_S, 88), (SLICE_S, 76)]),
        (25, [12, None], 12, [(SLICE_S, 25), (SLICE_S, 13)]),  # nothing that came is dropped
    ],
)
def test_samples_are_kept_together_until_those_that_are_missing_came(missing, bursts, came, calls):
    source = LslSource(LslSettings(name="kept"))
    source._inlet, source._buffer = Inlet(*bursts), np.zeros((100, 2), np.float32)
    times, samples = source._pull(missing)
    assert (times.shape, samples.shape) == ((came,), (2, came))
    assert (samples == 1).all()
    assert source._inlet.asked == calls
    if source._inlet.bursts[:1] == [None]:
        with pytest.raises(pylsl.util.LostError):
            source._pull(missing)
