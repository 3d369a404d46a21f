"""A session file read back: places of epochs, lights and losses."""

import numpy as np
import pytest

from streamer.errors import JournalError
from streamer.messages import Channel, Chunk, Gap
from streamer.night.session import read_conditioned, read_items, read_night
from tests.night import session, stages


def test_the_ledger_and_the_samples_leave_no_hole(tmp_path):
    path = session(tmp_path / "a.sqlite", stages("WW2"), gaps=[(0, 50), (4000, 4100)])
    at = 0
    for item in read_items(path):
        assert item.start == at
        at = item.stop
    assert at == 9000
    assert sum(item.stop - item.start for item in read_items(path) if isinstance(item, Gap)) == 150
    assert read_night(path).lost_s == 1.5


def test_an_open_end_is_not_lost(tmp_path):
    path = session(tmp_path / "a.sqlite", stages("WW"), gaps=[(5000, 6000)])
    *_, last = read_items(path)
    assert (type(last), last.stop) == (Gap, 6000)


def test_lights_bound_the_night(tmp_path):
    events = [("lights_off", {"epoch": 1}), ("mark", {"epoch": 2}), ("lights_on", {"epoch": 4})]
    night = read_night(session(tmp_path / "a.sqlite", stages("W222WW"), events=events))
    assert (night.lights_off, night.lights_on) == (1, 4)
    assert night.statistics().tib_min == 1.5
    assert night.seconds_of(night.events[1]) == 60.0


def test_the_last_lights_off_begins_the_night_and_the_first_lights_on_ends_it(tmp_path):
    said = [("lights_on", 1), ("lights_off", 2), ("lights_off", 3), ("lights_on", 4), ("lights_on", 5)]
    events = [(name, {"epoch": number}) for name, number in said]
    night = read_night(session(tmp_path / "a.sqlite", stages("W22222"), events=events))
    assert (night.lights_off, night.lights_on) == (3, 4)


def test_without_lights_the_recording_stands_in(tmp_path):
    night = read_night(session(tmp_path / "a.sqlite", stages("W2"), ended=False))
    assert (night.lights_off, night.lights_on) == (0, 2)
    assert not night.ended
    assert not night.marked("lights_off")


def test_the_conditioned_signal_keeps_its_place(tmp_path):
    times = np.arange(256 * 90) / 256
    samples = 50 * np.sin(2 * np.pi * 10 * times)[None]
    path = session(tmp_path / "a.sqlite", stages("WWW"), rate_hz=256, samples=samples, gaps=[(7680, 10240)])
    out = read_conditioned(read_night(path))
    assert out.shape == (9000,)
    assert np.isnan(out[3010:3990]).all()
    assert np.isfinite(out[:2990]).all()
    assert np.isfinite(out[4010:]).all()
    assert 45 < np.abs(out[5000:8000]).max() < 55


def test_the_channel_that_took_over_is_what_is_shown(tmp_path):
    samples = np.random.default_rng(0).normal(0, 20, (2, 30_000))
    samples[0, 9000:] = 0  # the first electrode falls off
    channels = Channel("AF7", "uV"), Channel("AF8", "uV")
    labels = stages("2" * 10)
    path = session(tmp_path / "a.sqlite", labels, channels=channels, samples=samples, channel=["AF7", "AF8"])
    night = read_night(path)
    assert night.channel == "AF7"
    out = read_conditioned(night)
    assert np.abs(out[9500:11_500]).max() < 1
    assert np.nanstd(out[20_000:]) > 5


def test_the_probabilities_are_nan_where_nothing_was_scored(tmp_path):
    shares = read_night(session(tmp_path / "a.sqlite", stages("W?R"))).probabilities()
    assert np.isnan(shares[1]).all()
    assert np.allclose(shares[[0, 2]].sum(axis=1), 1)
    assert shares[2].argmax() == 4


def test_what_is_no_session_is_refused(tmp_path):
    with pytest.raises(JournalError, match="no session file"):
        read_night(tmp_path / "none.sqlite")
    (tmp_path / "x.sqlite").write_bytes(b"not a database, and long enough to be read as one" * 10)
    with pytest.raises(JournalError, match="damaged"):
        read_night(tmp_path / "x.sqlite")


def test_chunks_are_those_that_were_recorded(tmp_path):
    samples = np.arange(6000.0).reshape(1, 6000)
    path = session(tmp_path / "a.sqlite", stages("WW"), samples=samples)
    found = np.concatenate([item.samples[0] for item in read_items(path) if isinstance(item, Chunk)])
    assert (found == samples[0]).all()


def test_an_event_lies_where_it_says_not_at_the_hour_of_the_replay(tmp_path):
    path = session(tmp_path / "a.sqlite", stages("WW2"), events=[("trigger", {"end": 47.0}), ("mark", {})])
    trigger, mark, _ = read_night(path).events
    night = read_night(path)
    assert night.seconds_of(trigger) == 47.0  # of an older file: where its window ended
    assert night.seconds_of(mark) == 0.0  # likewise: by the clock of the host
    said = mark.model_copy(update={"at_s": 61.5, "data": {"epoch": 0}})
    assert night.seconds_of(said) == 61.5
