"""Fitting the band: each fault is named with its remedy, and good is said when it is good."""

import asyncio
import io
import os

import numpy as np
import pytest
from rich.console import Console

from streamer.cli import main
from streamer.clock import SystemClock
from streamer.commands.fit import Fitting, fit, fit_stream, is_ready, make_table, verdict
from streamer.errors import SourceError
from streamer.messages import Channel, Chunk, Gap, StreamInfo
from streamer.settings import SignalSettings, StreamSettings
from tests.fakes import FakeClock, FakeSource

RATE_HZ = 256
LABELS = "TP9", "AF7", "AF8", "TP10"
INFO = StreamInfo("band", RATE_HZ, tuple(Channel(label, "uV") for label in LABELS), 0.0)
TIMES = np.arange(8 * RATE_HZ) / RATE_HZ
EEG = np.random.default_rng(1).normal(0, 1, (4, TIMES.size)).cumsum(axis=1)
EEG = (EEG - np.linspace(EEG[:, 0], EEG[:, -1], TIMES.size).T) * 20 / EEG.std(axis=1, keepdims=True)


def look(samples=EEG, channel="AF7", unit="uV", drop=None):
    """Contacts after these samples; `drop` is a range that is lost."""
    info = StreamInfo("band", RATE_HZ, tuple(Channel(label, unit) for label in LABELS), 0.0)
    fitting = Fitting(info, SignalSettings(channel=channel))
    for at in range(0, TIMES.size, 25):
        if drop is not None and at in drop:
            fitting.push(Gap(at, min(at + 25, TIMES.size), "radio"))
        else:
            fitting.push(Chunk(at, samples[:, at : at + 25], arrived=at / RATE_HZ))
    contacts = fitting.contacts(TIMES[-1])
    return {contact.label: contact for contact in contacts}, is_ready(contacts)


def test_a_good_band_is_good_to_go():
    contacts, good = look()
    assert good
    assert list(contacts) == list(LABELS)
    assert [contact.needed for contact in contacts.values()] == [False, True, False, False]
    assert {contact.quality.grade for contact in contacts.values()} == {"good"}
    assert all(1 < contact.amplitude_uv < 100 for contact in contacts.values())
    assert {contact.advice for contact in contacts.values()} == {""}


@pytest.mark.parametrize(
    ("fault", "reason", "advice"),
    [
        (np.zeros_like(TIMES), "flat", "plugged in"),
        (1000 * np.sign(np.sin(2 * np.pi * 2 * TIMES)), "railed", "press the electrode"),
        (60 * np.sin(2 * np.pi * 50 * TIMES), "line noise", "moisten"),
    ],
    ids=["flat", "railed", "hum"],
)
def test_a_fault_is_named_and_stands_in_the_way_only_where_it_matters(fault, reason, advice):
    samples = EEG.copy()
    samples[1] = fault if reason != "line noise" else EEG[1] + fault
    contacts, good = look(samples)
    assert reason in contacts["AF7"].quality.reasons
    assert advice in contacts["AF7"].advice
    assert not good
    assert look(samples, channel="AF8")[1]  # another electrode is staged
    assert not look(samples, channel="AF7-TP9")[1]


def test_loss_is_shown_on_every_channel():
    contacts, good = look(drop=range(5 * RATE_HZ, 7 * RATE_HZ))
    assert not good
    assert contacts["TP9"].quality.lost_fraction == pytest.approx(0.4, abs=0.05)
    assert "receiver" in contacts["TP9"].advice


def test_a_difference_is_a_row_of_its_own():
    contacts, good = look(channel="AF7-TP9")
    assert good
    assert list(contacts)[-1] == "AF7-TP9"
    assert [label for label, contact in contacts.items() if contact.needed] == ["TP9", "AF7", "AF7-TP9"]


def test_of_several_electrodes_to_fall_back_on_one_is_enough():
    samples = EEG.copy()
    samples[1] = 0
    contacts, good = look(samples, channel=("AF7", "AF8", "TP9-TP10"))
    assert good
    assert [label for label, contact in contacts.items() if contact.needed] == [*LABELS, "TP9-TP10"][:5]
    samples[2] = samples[3] = 0
    contacts, good = look(samples, channel=("AF7", "AF8", "TP9-TP10"))
    assert contacts["TP9-TP10"].good
    assert not good  # a difference needs both of its electrodes


def test_volts_are_read_as_such():
    contacts, good = look(EEG * 1e-6, unit="V")
    assert good
    assert contacts["AF7"].amplitude_uv > 1


def test_an_awake_face_is_no_fault():
    muscle = np.random.default_rng(2).normal(0, 40, EEG.shape)
    contacts, good = look(EEG + muscle)
    assert contacts["AF7"].quality.reasons == ("muscle",)
    assert good


def test_silence_is_no_contact():
    fitting = Fitting(INFO, SignalSettings())
    assert not is_ready(fitting.contacts(0.0))
    fitting.push(Chunk(0, EEG, arrived=8.0))
    assert is_ready(fitting.contacts(9.0))
    contacts = fitting.contacts(12.0)
    assert {contact.quality.grade for contact in contacts} == {"off"}
    assert contacts[0].amplitude_uv is None


def test_the_first_seconds_are_no_loss_and_no_verdict():
    fitting = Fitting(INFO, SignalSettings(channel="AF7"))
    assert verdict(fitting.contacts(0.0)) == "measuring"  # nothing has come yet
    for second in range(4):
        at = slice(second * RATE_HZ, (second + 1) * RATE_HZ)
        fitting.push(Chunk(second * RATE_HZ, EEG[:, at], arrived=second + 1.0))
        contacts = fitting.contacts(second + 1.0)
        assert {contact.quality.lost_fraction for contact in contacts} == {0.0}
        assert (verdict(contacts), is_ready(contacts)) == ("measuring", False)
    fitting.push(Chunk(4 * RATE_HZ, EEG[:, 4 * RATE_HZ : 5 * RATE_HZ], arrived=5.0))
    assert verdict(fitting.contacts(5.0)) == "good to go"
    silent = Fitting(INFO, SignalSettings())
    silent.contacts(0.0)
    assert verdict(silent.contacts(3.5)) == "not yet"  # but that nothing comes at all is said


def test_the_table_says_it_all():
    samples = EEG.copy()
    samples[1] = 0
    contacts, _ = look(samples)
    out = io.StringIO()
    Console(file=out, width=140).print(make_table(list(contacts.values())))
    assert "not yet" in out.getvalue()
    assert "is it plugged in" in out.getvalue()
    assert "µV" in out.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_it_runs_until_stopped_and_tells_the_verdict(terminal):
    async def scenario():
        clock, source, stop = FakeClock(), FakeSource(INFO), asyncio.Event()
        out = io.StringIO()
        console = Console(file=out, width=140, force_terminal=terminal)
        task = asyncio.create_task(fit(source, SignalSettings(), clock, console, stop))
        source.give(Chunk(0, EEG, arrived=0.0))
        await clock.advance(0)
        if not terminal:
            await clock.advance(1)
        stop.set()
        assert await asyncio.wait_for(task, 60)
        return out.getvalue()

    out = asyncio.run(scenario())
    assert "band, 256 Hz" in out
    assert "good to go" in out
    if not terminal:
        assert out.count("good to go") == 1
        assert out.splitlines()[-1] == "good to go"


def test_a_device_that_breaks_is_an_error():
    async def scenario():
        source = FakeSource(INFO)
        source.give(SourceError("unplugged"))
        console = Console(file=io.StringIO())
        await asyncio.wait_for(fit(source, SignalSettings(), FakeClock(), console, asyncio.Event()), 60)

    with pytest.raises(SourceError, match="unplugged"):
        asyncio.run(scenario())


@pytest.mark.slow
def test_it_ends_by_itself_on_a_real_board():
    settings = StreamSettings.model_validate(
        {
            "source": {"kind": "brainflow", "board": "synthetic", "other_info": f"fit-{os.getpid()}"},
            "signal": {"channel": "C3"},
        }
    )
    out = io.StringIO()
    assert asyncio.run(fit_stream(settings, SystemClock(), Console(file=out, width=140), 6.5))
    assert "C3: good" in out.getvalue()


def test_the_command_refuses_an_unknown_sleeper(tmp_path, capsys):
    config = tmp_path / "c.toml"
    config.write_text('[[stream]]\nname = "anna"\n[stream.source]\nkind = "simulated"\n')
    assert main(["fit", str(config), "--stream", "ben"]) == 2
    assert "there are: anna" in capsys.readouterr().err
