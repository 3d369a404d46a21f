"""CUDA graphs, all but the GPU: few graphs, streams apart, none used that cannot be trusted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from model.size import BANDS_HZ
from streamer.live.batching import MOST
from streamer.network.cuda_graph import SIZES, GraphedNetwork, Tensors, Work, with_graphs
from streamer.network.torchscript import State
from tests.model.tiny import TINY, network, signal

pytestmark = pytest.mark.train

CPU = torch.device("cpu")
SIZE = replace(TINY, bins=90, bands_hz=BANDS_HZ, trailing_epochs=4)


class Rerun:
    """A recording without a GPU: the work is done again, into the same memory, as a graph does it."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.outputs = tuple(one.clone() for one in work())

    def replay(self) -> None:
        for ours, new in zip(self.outputs, self._work(), strict=True):
            ours.copy_(new)


class Stuck(Rerun):
    """A recording that gives for ever what it gave at first."""

    def replay(self) -> None:
        pass


class Counted:
    """Counts what is recorded, and what is replayed."""

    def __init__(self) -> None:
        self.recorded = 0
        self.replayed = 0

    def __call__(self, work: Work) -> Rerun:
        self.recorded += 1

        def counted() -> Tensors:
            self.replayed += 1
            return work()

        return Rerun(counted)


class Plain:
    """The network, as `TorchNetwork` offers it."""

    def __init__(self) -> None:
        self.net = network(SIZE)

    def initial_state(self, batch: int) -> State:
        return State(*self.net.initial_state(batch))

    def advance(self, *given: Any) -> tuple[torch.Tensor, State]:
        logits, after = self.net.advance(*given)
        return logits, State(*after)


@pytest.fixture(scope="module")
def graphed() -> GraphedNetwork:
    return GraphedNetwork(Plain(), CPU, Rerun)


def night(live: Any, streams: int, epochs: int = 5) -> tuple[list[torch.Tensor], State]:
    """Logits of each epoch, and the last state."""
    raw, spectrum, present = signal(epochs, batch=streams)
    rows = []
    with torch.inference_mode():
        state = live.initial_state(streams)
        for epoch in range(epochs):
            now = slice(epoch, epoch + 1)
            logits, state = live.advance(raw[:, now], spectrum[:, now], present[:, now], state)
            rows.append(logits)
    return rows, state


@pytest.mark.parametrize("streams", [*range(1, 10), 15, 16, 17, 31, 32, 33, 40])
def test_the_same_as_without_graphs_for_any_number_of_streams(graphed: GraphedNetwork, streams: int) -> None:
    expected, after = night(Plain(), streams)
    found, state = night(graphed, streams)
    for one, other in zip([*found, *state], [*expected, *after], strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_what_came_out_is_not_overwritten_by_the_next(graphed: GraphedNetwork) -> None:
    raw, spectrum, present = (one[:, :1] for one in signal(2, batch=3))
    logits, state = graphed.advance(raw, spectrum, present, graphed.initial_state(3))
    kept = [one.clone() for one in (logits, *state)]
    again, _ = graphed.advance(-raw, spectrum + 9, ~present, state)
    for one, before in zip((logits, *state), kept, strict=True):
        assert torch.equal(one, before)
    assert not torch.equal(logits, again)


def test_a_stream_alone_is_not_touched_by_those_who_came_before(graphed: GraphedNetwork) -> None:
    """What fills a pass up is what the one before left there; holes and all."""
    expected, _ = night(Plain(), 3)
    raw, spectrum, present = (one[:, :1] for one in signal(2, batch=4))
    broken = State(*(torch.full_like(one, 7) for one in graphed.initial_state(4)))
    holes = torch.full_like(raw, torch.nan), torch.full_like(spectrum, torch.nan)
    graphed.advance(*holes, present, broken._replace(seen=broken.seen * 0))
    found, _ = night(graphed, 3)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_several_epochs_at_once_need_no_graph(graphed: GraphedNetwork) -> None:
    given = signal(3, batch=2)
    with torch.inference_mode():
        found, _ = graphed.advance(*given, graphed.initial_state(2))
        expected, _ = Plain().advance(*given, graphed.initial_state(2))
    torch.testing.assert_close(found, expected)


def test_all_graphs_are_recorded_before_the_night() -> None:
    capture = Counted()
    graphed = GraphedNetwork(Plain(), CPU, capture)
    assert capture.recorded == len(SIZES)
    before = capture.replayed
    for streams in (1, 3, 5, 16, 27, 3, 33):
        night(graphed, streams, epochs=2)
    assert capture.recorded == len(SIZES)
    assert capture.replayed - before == 2 * 6  # 33 are more than any graph is for


def test_no_pass_of_the_engine_is_too_large() -> None:
    assert SIZES[-1] >= MOST


def test_streams_of_several_threads(graphed: GraphedNetwork) -> None:
    expected = {streams: night(Plain(), streams)[0] for streams in range(1, 5)}
    found: dict[int, list[torch.Tensor]] = {}

    def run(streams: int) -> None:
        for _ in range(5):
            found[streams] = night(graphed, streams)[0]

    threads = [threading.Thread(target=run, args=(streams,)) for streams in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for streams, rows in expected.items():
        for one, other in zip(found[streams], rows, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def refuses(work: Work) -> Rerun:
    raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nand much more")


@pytest.mark.parametrize(
    ("capture", "reason"), [(refuses, "operation not permitted when stream is capturing)"), (Stuck, "off by")]
)
def test_a_graph_that_cannot_be_had_or_trusted_is_told_once(
    capture: Callable[[Work], Rerun], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    plain = Plain()
    with caplog.at_level(logging.WARNING):
        assert with_graphs(plain, CPU, capture) is plain
    (record,) = caplog.records
    assert "the network runs without them" in record.getMessage()
    assert reason in record.getMessage()
    assert "\n" not in record.getMessage()


def test_a_network_with_graphs_replaces_the_plain_one(caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(with_graphs(Plain(), CPU, Rerun), GraphedNetwork)
    assert caplog.records == []
