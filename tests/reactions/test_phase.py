"""Slow waves whose phase is known: predicted at any rate, cut anyhow, acted upon only where allowed."""

import asyncio
import math

import numpy as np
import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from streamer.errors import SettingsError
from streamer.journal import Journal, Meta
from streamer.live.bedside import Bedside
from streamer.messages import Channel, Chunk, Gap, StreamInfo
from streamer.payloads import EventPayload
from streamer.reactions.actions import Actions
from streamer.reactions.phase import UpStates
from streamer.reactions.reflexes import Reflexes
from streamer.reactions.settings import PhaseSettings, TriggerSettings
from streamer.reactions.triggers import READY, Course, Trigger, is_sham
from streamer.settings import SignalSettings, StreamSettings, validate
from streamer.sinks.publisher import Publisher
from tests.chunkings import SIZES, cut, stream
from tests.fakes import FakeClock, Witness
from tests.reactions.phase import met, simulated
from tests.reactions.test_firings import Disk
from tests.reactions.test_triggers import EVENING, score

HZ = 0.8


def info(rate_hz=100.0):
    return StreamInfo("test", rate_hz, (Channel("C3", "uV"),), EVENING)


def wave(seconds, rate_hz=100.0, hz=HZ, uv=60.0):
    return uv * np.cos(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def dues(samples, rate_hz=100.0, **wanted):
    made = UpStates(info(rate_hz), SignalSettings(), PhaseSettings(**wanted))
    return made.push(Chunk(0, samples[None])), made


@pytest.mark.parametrize("rate_hz", [100.0, 128.0, 250.0, 256.0, 500.0, 1000.0])
@pytest.mark.parametrize("target_deg", [0, -90, 135])
def test_a_pure_wave_is_met_at_any_rate(rate_hz, target_deg):
    found, made = dues(wave(30, rate_hz), rate_hz, target_deg=target_deg)
    errors = [(360 * HZ * due.at / 100 - target_deg + 180) % 360 - 180 for due in found]
    assert len(found) >= 15  # of the waves of the last 24 s
    assert np.abs(errors).max() < 25
    assert np.std(errors) < 8
    assert all(abs(due.hz - HZ) < 0.1 for due in found)
    assert all(due.uv == pytest.approx(60, rel=0.25) for due in found)
    assert made.lead_s >= 0.05


@settings(max_examples=8, deadline=None)
@given(SIZES)
def test_nothing_depends_on_how_the_stream_is_cut(sizes):
    samples = simulated(128.0, 0.3, 3)
    items = stream(samples[None], [(1500, 1520)])
    whole, parts = (UpStates(info(128.0), SignalSettings(), PhaseSettings()) for _ in range(2))
    expected = [due for item in items for due in whole.push(item)]
    assert expected
    assert [due for item in cut(items, sizes) for due in parts.push(item)] == expected


def test_it_looks_at_nothing_that_comes_later():
    samples = simulated(100.0, 1.0, 1)
    before, _ = dues(samples[:4000])
    other = np.concatenate([samples[:4000], -samples[4000:]])
    after, _ = dues(other)
    assert after[: len(before)] == before


@pytest.mark.parametrize(
    "samples",
    [np.zeros(3000), wave(30, uv=10.0), wave(30, uv=900.0), wave(30, hz=4.0), np.full(3000, 1e9)],
    ids=["flat", "low", "too high", "too fast", "railed"],
)
def test_what_is_no_slow_wave_is_no_reason(samples):
    assert dues(samples)[0] == []


def test_after_a_loss_six_seconds_have_to_be_heard_again():
    made = UpStates(info(), SignalSettings(), PhaseSettings())
    made.push(Chunk(0, wave(20)[None]))
    made.push(Gap(2000, 3000, "lost"))
    found = made.push(Chunk(3000, wave(20)[None]))
    assert min(due.at for due in found) > 3600


def test_a_stream_may_begin_anywhere():
    made = UpStates(info(), SignalSettings(), PhaseSettings())
    found = made.push(Chunk(700_000, wave(20)[None]))
    assert min(due.at for due in found) > 700_600


def test_a_sound_that_takes_longer_is_begun_earlier():
    _, slow = dues(wave(1), lead_ms=200)
    _, quick = dues(wave(1))
    assert slow.lead_s - quick.lead_s == pytest.approx(0.2)


@pytest.mark.slow
def test_simulated_slow_waves_are_met_as_well_as_the_docs_say():
    errors = met(simulated(256.0, 5, 1)[None], info(256.0), SignalSettings(), None)
    mean = np.exp(1j * np.radians(errors)).mean()
    assert errors.size > 60
    assert abs(math.degrees(np.angle(mean))) < 10
    assert math.degrees(math.sqrt(-2 * math.log(abs(mean)))) < 35


# ---- the trigger


def waiting(**more):
    return TriggerSettings.model_validate({"name": "t", "stages": ["N3"], "phase": {}, **more})


def test_it_strikes_only_where_stage_and_dwell_allow_it():
    trigger, course = Trigger(waiting(dwell_s=4, refractory_s=2), "n"), Course()
    for end in (2, 4):
        assert trigger.push(score(end), EVENING, course) is None
        assert trigger.strike(end * 100 + 50) is None
    assert trigger.push(score(6), EVENING, course) is None, "a phase is waited for"
    first = trigger.strike(650, 7.0)
    assert (first.number, first.score.end, first.score.arrived, first.dwelt_s) == (0, 650, 7.0, 4)
    assert trigger.strike(840) is None, "refractory"
    trigger.push(score(8), EVENING, course)
    assert trigger.strike(860).number == 1
    assert trigger.strike(800 + READY + 1) is None, "that stage is old"
    trigger.push(score(10, "N2"), EVENING, course)
    assert not trigger.ready
    assert trigger.strike(1100) is None


def test_it_strikes_no_more_than_it_may_and_not_while_disarmed():
    trigger, course = Trigger(waiting(max_per_night=1), "n"), Course()
    trigger.push(score(2), EVENING, course)
    trigger.armed = False
    assert trigger.strike(250) is None
    trigger.armed = True
    assert trigger.strike(260) is not None
    assert trigger.strike(360) is None


def test_it_needs_a_stage_that_is_new():
    data = {"source": {"kind": "lsl"}, "hop_s": 5, "trigger": [{"name": "a", "stages": ["N3"], "phase": {}}]}
    with pytest.raises(SettingsError, match="set hop_s to 1 or 2"):
        validate({"stream": [data]}, "test")
    with pytest.raises(ValidationError, match="max_uv is not above min_uv"):
        PhaseSettings(min_uv=50, max_uv=40)


# ---- at work


class Bed:
    """Reflexes of a device that sends pieces of 50 ms, each at its time."""

    def __init__(self, folder, disk, clock, **more):
        self.clock, self.witness = clock, Witness()
        path = folder / "s.sqlite"
        self.journal = Journal.create(path, Meta("s", "n", "anna", info()), clock, deliver=False)
        self.publisher = Publisher("anna", "s", info(), self.journal, [self.witness], clock, 60.0)
        self.actions = Actions(self.witness.problems.append if hasattr(self.witness, "problems") else print)
        self.done = []
        self.actions.carry_out = lambda action, facts: self.done.append(clock.now)
        self.settings = waiting(action={"command": ["true"]}, refractory_s=2.5, **more)
        self.made = Reflexes(
            [self.settings], self.publisher, self.actions, clock, True, path, disk, None, SignalSettings()
        )
        self.samples = wave(60)

    async def run(self, begin_s, stop_s, late_s=0.0):
        for at in range(round(begin_s * 20), round(stop_s * 20)):
            await self.clock.advance(0.05)
            now = self.clock.monotonic()
            if at % 40 == 0:
                one = score(at // 20)
                object.__setattr__(one, "arrived", now)
                self.made.push(one, EVENING + at / 20)
            piece = self.samples[None, 5 * at : 5 * at + 5]
            self.made.hear(Chunk(5 * at, piece, now - late_s))

    @property
    def fired(self):
        return [one for one in self.witness.events if one.event == "trigger"]

    @property
    def warnings(self):
        return [one for one in self.witness.events if one.event == "warning"]


class Prompt(Disk):
    """A disk that has it at once."""

    def keep(self, firing, done):
        super().keep(firing, done)
        done("")


def at_night(tmp_path, disk, main, **more):
    async def night():
        bed = Bed(tmp_path, disk, FakeClock(EVENING), **more)
        async with bed.actions:
            await main(bed)
        bed.journal.close()
        return bed

    return asyncio.run(night())


@pytest.mark.parametrize("sham", [0.0, 0.5])
def test_it_acts_at_the_peak_and_not_before_the_disk_has_it(tmp_path, sham):
    disk = Prompt()

    async def main(bed):
        await bed.run(0, 40)
        await bed.clock.advance(1)

    bed = at_night(tmp_path, disk, main, sham=sham)
    assert len(bed.fired) >= 10
    for one in bed.fired:
        phase = (360 * HZ * one.data["end"] + 180) % 360 - 180
        assert abs(phase) < 15
        assert isinstance(one, EventPayload)
        assert one.data["phase_hz"] == pytest.approx(HZ, abs=0.1)
        assert one.data["late_ms"] == pytest.approx(0, abs=1)
    shams = [is_sham(bed.settings, "s", number) for number in range(len(bed.fired))]
    assert [one.data["arm"] == "sham" for one in bed.fired] == shams
    assert len(bed.done) == shams.count(False)
    acted = [(360 * HZ * (at - 0.05) + 180) % 360 - 180 for at in bed.done]  # a piece comes at its end
    assert np.abs(acted).max() < 25


def test_what_the_disk_has_too_late_does_not_happen_and_is_said(tmp_path):
    disk = Disk()

    async def main(bed):
        await bed.run(0, 20)
        assert disk.due
        _, done = disk.due[0]
        done("")

    bed = at_night(tmp_path, disk, main)
    assert (bed.fired, bed.done) == ([], [])
    assert "ms after it was due; it counts as fired" in bed.warnings[-1].text


def test_samples_that_come_late_are_no_reason(tmp_path):
    disk = Prompt()

    async def main(bed):
        await bed.run(0, 20)
        bed.before = len(disk.due)
        bed.samples = np.concatenate([bed.samples, bed.samples])
        bed.clock.now += 3  # a stall; then all comes 3 s late
        await bed.run(20, 35)

    bed = at_night(tmp_path, disk, main)
    assert bed.before
    assert len(disk.due) == bed.before


def test_samples_of_the_next_session_are_not_for_the_triggers_of_this_one(tmp_path):
    async def main(bed):
        await bed.run(0, 1)
        settings = StreamSettings.model_validate({"source": {"kind": "lsl"}})
        bedside = Bedside(settings, tmp_path, "n", bed.clock, lambda: None)
        bedside.hear("s", Chunk(0, bed.samples[None, :5]))  # nobody hears yet
        bedside.reflexes = bed.made
        bedside.hear("the next", Chunk(0, bed.samples[None, :5]))
        assert [one for one in bed.witness.events if one.event == "error"] == []
        bedside.hear("s", Chunk(100, bed.samples[None, 100:105]))
        bedside.hear("s", Chunk(0, bed.samples[None, :5]))  # what cannot be is said once
        bedside.hear("s", Chunk(5, bed.samples[None, 5:10]))

    bed = at_night(tmp_path, Prompt(), main)
    (told,) = (one.text for one in bed.witness.events if one.event == "error")
    assert "trigger t is off: the phase cannot be followed" in told
