"""The channels beside the staged one: found, filtered, kept for 30 s, and shown as missing where they are."""

import asyncio
import base64
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.cli import main
from streamer.clock import SystemClock
from streamer.errors import SettingsError
from streamer.live.engine import Engine
from streamer.messages import Channel, Chunk, Gap, StreamInfo
from streamer.news import Sampled
from streamer.settings import validate
from streamer.web import traces
from streamer.web.page import Page
from streamer.web.traces import BINS_HZ, KEPT_S, Traces, kind_of
from tests.chunkings import SIZES, cut, stream
from tests.fakes import FakeClock, Witness
from tests.recording_files import eeg, signal, write_edf
from tests.web.montage import opened
from tests.web.pages import Bed

RATE_HZ = 200
CHANNELS = (
    *(Channel("Fz", "uV"), Channel("EOG L", "mV"), Channel("M2", "uV"), Channel("EMG chin", "uV")),
    *(Channel("SpO2", "%"), Channel("Thorax", "")),
)
INFO = StreamInfo("amplifier", RATE_HZ, CHANNELS, 0.0)
OFFSET = np.array([[0.0], [12.0], [-9000.0], [30_000.0], [97.0], [5.0]])  # an amplifier's, each in its unit


def flat(seconds):
    return np.repeat(OFFSET, seconds * RATE_HZ, axis=1)


def wave(hz, seconds, uv=1.0):
    return uv * np.sin(2 * np.pi * hz * np.arange(seconds * RATE_HZ) / RATE_HZ)


def numbers(window):
    found = np.frombuffer(base64.b64decode(window["data"]), "<i2").reshape(-1, 2)
    return np.where(found == traces.LOST, np.nan, window["offset"] + window["step"] * found)


def shown(samples, name, end_s=30, gaps=(), unit=None):
    """Least and greatest of each 20 ms of one trace: (1500, 2), and what is said of it."""
    made = Traces(INFO, [name], unit)
    for item in stream(samples, gaps):
        made.push(item)
    (found,) = made.window(end_s)
    return numbers(found), found


@pytest.mark.parametrize(
    ("label", "unit", "kind"),
    [
        *[("EMG chin", "uV", "emg"), ("Chin1-Chin2", "", "emg"), ("LLEG", "V", "emg"), ("RAT", "uV", "emg")],
        *[("EOG(L)", "uV", "eog"), ("E1-M2", "uV", "eog"), ("LOC", "", "eog"), ("E12", "uV", "eeg")],
        *[("ECG", "mV", "ecg"), ("EKG", "", "ecg"), ("C3-A2", "uV", "eeg"), ("AF7", "", "eeg")],
        *[("Thorax", "uV", "plain"), ("SpO2", "%", "plain"), ("Chin angle", "deg", "plain")],
    ],
)
def test_a_label_tells_what_is_measured(label, unit, kind):
    assert kind_of(label, unit).name == kind


@pytest.mark.parametrize(("name", "kept_hz", "lost_hz"), [("EOG L", 2.0, 0.02), ("EMG chin", 37.0, 1.0)])
def test_a_voltage_loses_its_offset_and_what_is_not_looked_at(name, kept_hz, lost_hz):
    row = [channel.label for channel in CHANNELS].index(name)
    per_uv = 1e-3 if name == "EOG L" else 1.0
    samples = flat(60)
    samples[row] += wave(kept_hz, 60, 50 * per_uv) + wave(lost_hz, 60, 200 * per_uv)
    found, said = shown(samples, name, 60)
    assert said["unit"] == "µV"
    assert np.nanmax(found) == pytest.approx(50, rel=0.1)
    assert np.nanmin(found) == pytest.approx(-50, rel=0.1)


def test_a_spike_of_one_sample_is_not_lost_between_the_pixels():
    samples = flat(30)
    samples[3, 20 * RATE_HZ + 1] += 80
    found, _ = shown(samples, "EMG chin")
    assert np.nanargmax(found[:, 1]) == 20 * BINS_HZ
    assert np.nanmax(found) > 40


def test_a_difference_is_one_trace_in_microvolts_whatever_its_channels_units_are():
    samples = flat(30)
    samples[1] += wave(2, 30, 0.030)
    samples[2] += wave(2, 30, -20)
    found, said = shown(samples, "EOG L-M2")
    assert (said["label"], said["kind"]) == ("EOG L-M2", "eog")
    assert np.nanmax(found) == pytest.approx(50, rel=0.05)


def test_what_is_no_voltage_is_shown_as_it_is():
    samples = flat(30)
    samples[4, 3000:] = 91.5
    found, said = shown(samples, "SpO2")
    assert (said["unit"], said["kind"]) == ("%", "plain")
    assert (found[0, 0], found[-1, 1]) == (pytest.approx(97, abs=1e-3), pytest.approx(91.5, abs=1e-3))
    assert shown(samples, "Thorax")[1]["unit"] == ""
    assert shown(samples, "Thorax")[0][0, 0] == pytest.approx(5)


def test_a_unit_of_the_settings_is_for_the_voltages_alone():
    samples = flat(30) * 1e-6
    samples[3] += wave(37, 30, 50e-6)
    assert np.nanmax(shown(samples, "EMG chin", unit="V")[0]) == pytest.approx(50, rel=0.1)
    assert shown(flat(30), "SpO2", unit="V")[0][0, 0] == pytest.approx(97)


def test_losses_are_blank_and_poison_nothing():
    samples = flat(60)
    samples[3] += wave(37, 60, 50)
    samples[3, 40 * RATE_HZ : 42 * RATE_HZ] = np.nan
    samples[3, 45 * RATE_HZ] = np.inf
    samples[3, 46 * RATE_HZ] = 1e300
    found, _ = shown(samples, "EMG chin", 60, gaps=[(35 * RATE_HZ, 36 * RATE_HZ)])
    lost = np.isnan(found[:, 0])
    seconds = lost.reshape(30, BINS_HZ).all(axis=1)
    assert np.flatnonzero(seconds).tolist() == [5, 10, 11]
    assert np.nanmax(found[-500:]) == pytest.approx(50, rel=0.1), "the last ten seconds"


def test_what_has_not_come_is_blank():
    made = Traces(INFO, ["EMG chin"], None)
    assert np.isnan(numbers(made.window(30)[0])).all()
    made.push(Gap(0, 10 * RATE_HZ, "late"))
    made.push(Chunk(10 * RATE_HZ, flat(5)))
    found = numbers(made.window(30)[0])
    assert np.flatnonzero(~np.isnan(found[:, 0])).tolist() == list(range(10 * BINS_HZ, 15 * BINS_HZ))


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), sizes=SIZES)
def test_any_chunking_gives_the_same_trace(seed, sizes):
    rng = np.random.default_rng(seed)
    samples = OFFSET + rng.standard_normal((6, 1200))
    samples[3, rng.random(1200) < 0.01] = np.nan
    samples[3, 300:500] = np.nan
    items = stream(samples, [(800, 850)])
    names = ["EOG L", "EMG chin", "SpO2"]
    whole, parts = Traces(INFO, names, None), Traces(INFO, names, None)
    for item in items:
        whole.push(item)
    for item in cut(items, sizes):
        parts.push(item)
    assert whole.window(6) == parts.window(6)


@pytest.mark.parametrize("rate_hz", [50.0, 60.0, 99.7, 128.0, 250.0, 1024.0])
def test_at_any_rate_no_step_is_left_out_and_nothing_grows(rate_hz):
    info = StreamInfo("x", rate_hz, (Channel("EMG", "uV"),), 0.0)
    made = Traces(info, ["EMG"], None)
    made.push(Gap(0, round(50_000 * rate_hz), "a band that was off for half a day"))
    begin = round(50_000 * rate_hz)
    made.push(Chunk(begin, np.random.default_rng(1).standard_normal((1, round(121 * rate_hz)))))
    found = numbers(made.window(50_120)[0])
    assert not np.isnan(found).any()
    assert made._traces[0]._low.shape == (KEPT_S * BINS_HZ,)


def test_a_name_that_no_channel_has_is_said_with_what_there_is_and_shown_as_missing():
    made = Traces(INFO, ["EOG R", "EMG chin", "M2-SpO2"], None)
    made.push(Chunk(0, flat(30)))
    first, second, third = made.window(30)
    assert first == {"label": "EOG R", "missing": True}
    assert (second["label"], third["missing"]) == ("EMG chin", True)
    assert "no channel 'EOG R'; there are: EOG L (200 Hz, mV)" in made.complaints[0]
    assert "'%' is not a voltage" in made.complaints[1]


def test_of_a_recording_with_other_rates_that_is_said():
    info = StreamInfo("x", 100.0, (Channel("Fz", "uV", 0), Channel("EOG", "uV", 2)), 0.0)
    (said,) = Traces(info, ["EMG"], None).complaints
    assert "channels of another rate are not replayed" in said


def told(page):
    return json.loads(page.view().update())["streams"]


def test_the_page_tells_traces_with_their_window_and_only_then():
    page = Page(FakeClock())
    anna = Bed(page, traces=Traces(INFO, ["EMG chin", "EOG R"], None))
    page.hear("anna", Sampled(Chunk(0, flat(60))))
    assert "traces" not in told(page)[0]
    anna.stage("N2")
    view = page.view()
    first = json.loads(view.update())["streams"][0]
    assert [one["label"] for one in first["traces"]] == ["EMG chin", "EOG R"]
    assert first["end_s"] == 30
    assert "traces" not in json.loads(view.update())["streams"][0]
    assert told(Bed(Page(FakeClock())).page)[0].get("traces") is None


def test_marks_have_their_place_in_the_signal():
    anna = Bed(Page(FakeClock()))
    anna.event("marker", "Stimulus: S  1", at_s=12.25, description="S  1")
    anna.event("trigger", "click (sham): N3 for 60 s", at_s=20.0, trigger="click")
    anna.event("mark", "", at_s=21.0)
    anna.event("mark", "a very long remark of somebody in bed", at_s=22.0)
    anna.event("lights_off", at_s=23.0)
    anna.event("warning", "no mark", at_s=24.0)
    found = told(anna.page)[0]["events"]
    assert [(one.get("at_s"), one.get("mark")) for one in found] == [
        *[(12.25, "S  1"), (20.0, "click"), (21.0, "mark"), (22.0, "a very long remark of so")],
        *[(23.0, "lights off"), (None, None)],
    ]


def test_a_trigger_that_waited_for_a_phase_is_marked_where_it_was_due():
    anna = Bed(Page(FakeClock()))
    started = anna.page.streams[0].info.started
    anna.event("trigger", "click", at_s=20.0, trigger="click", due=started + 21.5)
    anna.event("trigger", "click", at_s=20.0, trigger="click", due=started + 90_000)  # the clock was set
    assert [one["at_s"] for one in told(anna.page)[0]["events"]] == [21.5, 20.0]


def engine(tmp_path, web, **stream):
    data = {"session_dir": str(tmp_path), "web": {"port": 0, **web}, "stream": [{"name": "anna", **stream}]}
    return validate(data, "test")


def run_engine(ready, sources=None):
    witness = Witness()
    made = Engine(ready, SystemClock(), witness, sources=sources)
    (outcome,) = asyncio.run(made.run())
    assert outcome.error is None
    return told(made._page)[0], [one.text for one in witness.events if one.event == "warning"]


def test_an_engine_shows_what_web_or_its_stream_names(tmp_path):
    source = {"kind": "simulated", "hours": 0.02, "speed": "max"}
    ready = engine(tmp_path / "a", {"traces": ["EMG chin"]}, source=source)
    found, warnings = run_engine(ready, opened)
    (emg,) = found["traces"]
    assert 3 < np.nanstd(numbers(emg)) < 40
    assert found["end_s"] == 60
    assert not np.isnan(numbers(emg)).any()
    assert warnings == []
    ready = engine(tmp_path / "b", {"traces": ["EMG chin"]}, source=source, traces=["EOG L", "EOG X"])
    found, (warning,) = run_engine(ready, opened)
    assert [(one["label"], "data" in one) for one in found["traces"]] == [("EOG L", True), ("EOG X", False)]
    assert "no channel 'EOG X'; there are: EOG L" in warning


def test_a_recording_of_several_channels_is_shown_by_replay(tmp_path, capsys):
    signals = [
        signal(eeg(90, 128, seed), 128, label) for seed, label in enumerate(("Fz-M2", "EOG E1", "EMG"))
    ]
    path = write_edf(tmp_path / "lab.edf", [*signals, signal(eeg(90, 1), 1, "SpO2", "%")])
    found, _ = run_engine(
        engine(
            tmp_path, {"traces": ["EOG E1", "EMG"]}, source={"kind": "replay", "path": path, "speed": "max"}
        )
    )
    assert [one["kind"] for one in found["traces"]] == ["eog", "emg"]
    assert not any(np.isnan(numbers(one)).any() for one in found["traces"])
    config = tmp_path / "lab.toml"
    config.write_text("[web]\nport = 0\ntraces = ['EOG E1', 'Chin']\n")
    out = str(tmp_path / "out")
    assert main(["replay", str(path), "--config", str(config), "--out", out]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "a trace of the page is missing: no channel 'Chin'; there are:" in said
    assert "EOG E1" in said


def test_traces_that_break_harm_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(Traces, "push", lambda *_: 1 / 0)
    source = {"kind": "simulated", "hours": 0.02, "speed": "max"}
    found, _ = run_engine(engine(tmp_path, {"traces": ["EEG Fpz-Cz"]}, source=source))
    assert len(found["labels"]) == 2


@pytest.mark.parametrize(
    ("traces", "said"),
    [
        ("EOG L", "web.traces: "),
        (["EOG L", "EOG L"], "'EOG L' is named twice; name each one only once"),
        ([""], "is too short"),
        ([f"E{k}" for k in range(9)], "it has 9 entries, but may have at most 8"),
        ([1], "web.traces"),
    ],
)
def test_names_that_cannot_be_meant_are_refused_with_the_settings(traces, said):
    with pytest.raises(SettingsError, match=r"web\.traces") as error:
        validate({"web": {"traces": traces}, "stream": [{"source": {"kind": "simulated"}}]}, "x")
    assert said in str(error.value)
    print(error.value)
