"""Stages as LSL streams, seen through real inlets on the loopback."""

import asyncio

import numpy as np
import pylsl
import pytest

from streamer.clock import SystemClock
from streamer.errors import SettingsError
from streamer.live.engine import Engine
from streamer.messages import STAGES
from streamer.payloads import EventPayload, Probabilities, QualityPayload, StagePayload, utc
from streamer.settings import validate
from streamer.sinks.lsl import LslOutlets, SampleClock
from streamer.sinks.settings import LslSinkSettings
from tests.fakes import Witness, held

BEGAN = 1_700_000_000.0
MINE = "out"


def staged(seq, stage, end_s, latency_ms=100.0):
    values = None
    if stage in STAGES:
        values = Probabilities(**{name: 0.8 if name == stage else 0.05 for name in STAGES})
    return StagePayload(
        session="s1",
        seq=seq,
        t_end=utc(BEGAN + end_s),
        stage=stage,
        smoothed=stage,
        probabilities=values,
        confidence=None if values is None else 0.8,
        warmup=False,
        quality=QualityPayload(grade="good", lost_fraction=0),
        provisional=False,
        latency_ms=latency_ms,
    )


def event(name, text):
    return EventPayload(session="s1", seq=0, t=utc(BEGAN), event=name, text=text, data={})


class Inlets:
    """Both inlets of one stream, open."""

    def __init__(self, stream, prefix=MINE, recover=True):
        self._recover = recover
        self.markers = self._open(f"{prefix}-{stream}-markers")
        self.density = self._open(f"{prefix}-{stream}-hypnodensity")

    def _open(self, name):
        (found,) = pylsl.resolve_byprop("name", name, timeout=60)
        inlet = pylsl.StreamInlet(found, recover=self._recover)
        inlet.open_stream(timeout=60)
        return inlet


def test_stage_changes_and_events_become_markers_and_every_stage_its_probabilities(monkeypatch):
    before = pylsl.local_clock()
    monkeypatch.setattr(pylsl, "local_clock", lambda: before)  # no time goes by between two pushes
    with LslOutlets(LslSinkSettings(prefix=MINE), "home", "anna", 5) as outlets:
        inlets = Inlets("anna")
        for seq, stage in enumerate(["N2", "N2", "unscored", "R"]):
            outlets.hear("anna", staged(seq, stage, 30 + 5 * seq, latency_ms=15_100 - 5000 * seq))
        outlets.hear("anna", event("trigger", "cue after 5 min of R"))
        outlets.hear("anna", event("lights_on", ""))
        markers = [inlets.markers.pull_sample(timeout=60) for _ in range(5)]
        densities = [inlets.density.pull_sample(timeout=60) for _ in range(4)]
    assert [values[0] for values, _ in markers] == [
        "Sleep stage N2",
        "Sleep stage ?",
        "Sleep stage R",
        "Trigger: cue after 5 min of R",
        "Lights on",
    ]
    np.testing.assert_allclose(densities[0][0], [0.05, 0.05, 0.8, 0.05, 0.05], atol=1e-6)
    assert np.isnan(densities[2][0]).all()
    times = np.array([time for _, time in densities])
    np.testing.assert_allclose(np.diff(times), 5, atol=1e-3)  # the grid's pace, not that of the pushing
    assert markers[0][1] == times[0]
    assert times[0] == pytest.approx(before - 15.1, abs=1e-3)


def test_outlets_say_what_they_carry():
    with LslOutlets(LslSinkSettings(prefix=MINE), "home", "berta", 5):
        inlets = Inlets("berta")
        markers, density = inlets.markers.info(5), inlets.density.info(5)
    assert (markers.type(), markers.channel_count(), markers.nominal_srate()) == ("Markers", 1, 0.0)
    assert markers.channel_format() == pylsl.cf_string
    assert markers.source_id() == "sleepstream-home-berta-markers"
    assert (density.type(), density.channel_count(), density.nominal_srate()) == ("Hypnodensity", 5, 0.0)
    assert density.get_channel_labels() == list(STAGES)
    assert set(density.get_channel_units()) == {"probability"}
    made = density.desc().child("acquisition")
    assert made.child_value("stream") == "berta"
    assert made.child_value("hop_s") == "5"


def test_either_can_be_left_out():
    with LslOutlets(LslSinkSettings(prefix=MINE, markers=False), "home", "carla", 30) as outlets:
        outlets.hear("carla", staged(0, "W", 30))
        outlets.hear("carla", event("mark", "hello"))
        assert pylsl.resolve_byprop("name", f"{MINE}-carla-hypnodensity", timeout=60)
        names = {stream.name() for stream in pylsl.resolve_streams(1.0)}
    assert f"{MINE}-carla-markers" not in names


def test_a_stale_stage_is_a_question_mark_now():
    with LslOutlets(LslSinkSettings(prefix=MINE), "home", "dora", 30) as outlets:
        inlets = Inlets("dora")
        outlets.hear("dora", staged(0, "N3", 30))
        before = pylsl.local_clock()
        outlets.hear("dora", staged(1, "no_signal", 9e6, latency_ms=None))
        after = pylsl.local_clock()
        inlets.markers.pull_sample(timeout=60)
        (text,), time = inlets.markers.pull_sample(timeout=60)
    assert text == "Sleep stage ?"
    assert before <= time <= after


def test_a_night_of_drift_and_delays_stays_in_step():
    clock, rng = SampleClock(), np.random.default_rng(1)
    for epoch in range(1, 961):
        true = 30.0 * epoch  # LSL seconds at which the device had taken the last sample
        end = BEGAN + true * (1 + 80e-6)  # its own clock is fast
        delay = 0.05 + rng.exponential(0.1)
        assert clock.push(end, true + delay) == pytest.approx(true + 0.05, abs=0.12)


def test_epochs_that_a_gap_brings_at_once_keep_their_own_times():
    clock = SampleClock()
    clock.push(BEGAN + 30, 130.1)
    times = [clock.push(BEGAN + 30 + 30 * n, 130.1 + 600) for n in range(1, 21)]
    np.testing.assert_allclose(np.diff(times), 30, atol=0.15)
    assert times[-1] == pytest.approx(730.1, abs=0.2)


def drain(inlet):
    """Everything until the outlet is withdrawn."""
    out = []
    while True:
        try:
            values, time = inlet.pull_sample(timeout=0.2)
        except pylsl.util.LostError:
            return out
        if values is not None:
            out.append((values, time))


def test_an_engine_sends_its_stages(tmp_path):
    source = {"kind": "simulated", "hours": 0.04, "speed": "max"}
    data = {
        "session_dir": str(tmp_path),
        "lsl": {"prefix": MINE},
        "stream": [{"name": "emma", "hop_s": 5, "source": source}],
    }

    async def scenario():
        go = asyncio.Event()
        engine = Engine(validate(data, "test"), SystemClock(), Witness(), sources=held(go.is_set))
        running = asyncio.create_task(engine.run())
        inlets = await asyncio.to_thread(Inlets, "emma", MINE, recover=False)
        reading = [asyncio.to_thread(drain, inlet) for inlet in (inlets.density, inlets.markers)]
        go.set()
        densities, markers, (outcome,) = await asyncio.wait_for(asyncio.gather(*reading, running), 60)
        assert outcome.error is None
        return densities, [text for (text,), _ in markers]

    densities, markers = asyncio.run(scenario())
    assert len(densities) >= 10
    assert all(np.isnan(row).all() or sum(row) == pytest.approx(1, abs=1e-3) for row, _ in densities)
    assert "Session ended: the source has ended" in markers


def test_the_table_is_validated():
    data = {"lsl": {"prefix": "x", "marker": True}, "stream": [{"source": {"kind": "simulated"}}]}
    with pytest.raises(SettingsError, match="did you mean 'markers'"):
        validate(data, "test")
