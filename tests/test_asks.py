"""Seconds of several streams that are worked on together give, to the bit, what each gives alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.asks import Ask, alone, finished, settle_together
from streamer.filters import polyphase
from streamer.frontend import FrontEnd, Graded
from streamer.settings import SignalSettings
from tests.chunkings import cut, stream
from tests.paths import eeg, info


def said(outputs):
    """What stages before the network say, to the bit."""
    return [
        (
            one.window.end,
            one.window.samples.tobytes(),
            one.window.spectrogram.tobytes(),
            one.quality,
            one.fast_uv,
        )
        if isinstance(one, Graded)
        else one
        for one in outputs
    ]


def together(fronts, items):
    """Give each front its item; answer all that they ask in the same turn together."""
    outputs = [[] for _ in fronts]
    going = [(front.steps(item), out) for front, item, out in zip(fronts, items, outputs, strict=True)]
    while going:
        asks, asking = [], []
        for steps, out in going:
            for step in steps:
                if isinstance(step, Ask):
                    asks.append(step)
                    asking.append((steps, out))
                    break
                out.append(step)
        settle_together(asks)
        going = asking
    return outputs


@settings(deadline=None, max_examples=15)
@given(
    rates=st.lists(st.sampled_from([100, 128, 199.5, 256]), min_size=2, max_size=5),
    sizes=st.lists(st.sampled_from([97, 256, 331, 2999]), min_size=1, max_size=4),
    lost=st.tuples(st.integers(0, 3000), st.integers(1, 200)),
)
def test_a_stream_among_others_says_what_it_says_alone(rates, sizes, lost):
    streams = [
        [*cut(stream(eeg(33, rate) * (number + 1), [(lost[0], sum(lost))]), sizes), None]
        for number, rate in enumerate(rates)
    ]
    fronts, lonely = ([FrontEnd(info(rate), SignalSettings(), 1) for rate in rates] for _ in range(2))
    for turn in range(max(map(len, streams))):
        there = [number for number, items in enumerate(streams) if turn < len(items)]
        items = [streams[number][turn] for number in there]
        found = together([fronts[number] for number in there], items)
        for number, item, out in zip(there, items, found, strict=True):
            expected = lonely[number].flush() if item is None else lonely[number].push(item)
            assert said(out) == said(expected)


def test_rows_are_worked_on_in_one_call_if_the_same_is_to_be_done_with_them():
    calls = []

    def work(rows):
        calls.append(rows.shape)
        return rows.sum(axis=1)

    asks = [Ask(work, np.full((rows, size), 1.0)) for rows, size in [(1, 3), (2, 3), (1, 4)]]
    settle_together(asks)
    assert calls == [(3, 3), (1, 4)]
    assert [list(ask.answer) for ask in asks] == [[3], [3, 3], [4]]


def test_what_stages_ask_is_answered_for_one_stream():
    def stage():
        ask = Ask(lambda rows: [row.sum() for row in rows], np.ones((2, 3)))
        yield ask
        yield "between"
        return list(ask.answer)

    assert list(alone(stage())) == ["between"]

    def silent():
        ask = Ask(len, np.ones((2, 3)))
        yield ask
        return ask.answer

    assert finished(silent()) == 2


@pytest.mark.parametrize(("up", "down"), [(25, 64), (100, 199), (1, 1)])
def test_a_resampler_treats_each_row_like_a_signal_alone(up, down):
    rng = np.random.default_rng(0)
    resample = polyphase(rng.standard_normal(21), up, down)
    rows = rng.standard_normal((4, 300))
    assert resample(rows).tobytes() == np.stack([resample(row) for row in rows]).tobytes()
