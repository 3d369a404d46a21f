"""The lights count when they are said, also where the epochs come later: on a busy machine, for one."""

from contextlib import contextmanager

import numpy as np
import pytest

from streamer.journal import Journal, Meta
from streamer.messages import RATE_HZ, Channel, Chunk, StreamInfo
from streamer.night.session import read_night
from streamer.reactions.firings import FiringLog
from streamer.reactions.reflexes import Reflexes
from streamer.reactions.settings import TriggerSettings
from streamer.sinks.publisher import Publisher
from tests.fakes import FakeClock, Witness
from tests.reactions.test_triggers import score
from tests.sinks.samples import NIGHT

INFO = StreamInfo("test", RATE_HZ, (Channel("Fpz-Cz", "uV"),), NIGHT)


class Room:
    """A device whose samples are recorded as they come, and whose epochs are committed when the test says."""

    def __init__(self, journal, clock, late_after_s=60.0):
        self.clock = clock
        self.journal = journal
        self.publisher = Publisher("anna", "s", INFO, journal, [Witness()], clock, late_after_s)
        self.taken = self.epochs = 0

    def take(self, epochs):
        """Samples of so many epochs come."""
        samples = np.zeros((1, 30 * RATE_HZ), np.float32)
        for _ in range(epochs):
            self.clock.now += 30
            self.journal.record(Chunk(self.taken * 30 * RATE_HZ, samples, self.clock.now))
            self.taken += 1

    def commit(self, epochs):
        for _ in range(epochs):
            self.epochs += 1
            self.publisher.score(score(30 * self.epochs, "N2"))


@contextmanager
def room(path):
    clock = FakeClock(NIGHT)
    with Journal.create(path, Meta("s", "n", "anna", INFO), clock, deliver=False) as journal:
        yield Room(journal, clock)


def minutes(publisher):
    return publisher.night.statistics().tib_min


def test_lights_count_when_they_are_said_and_not_where_the_epochs_have_come_to(tmp_path):
    with room(tmp_path / "a.sqlite") as bed:
        bed.take(20)
        bed.commit(10)  # half of it waits for the network
        assert bed.publisher.command("lights_off", "") == 20
        bed.commit(20)  # 10 of them before the lights went off
        assert minutes(bed.publisher) == 5
        bed.take(30)
        assert bed.publisher.command("lights_on", "") == 50
        bed.commit(25)
        bed.publisher.conclude()
        live = bed.publisher.night.statistics()
    night = read_night(tmp_path / "a.sqlite")
    assert (night.lights_off, night.lights_on) == (20, 50)
    assert live == night.statistics()
    assert live.tib_min == 15


def test_lights_that_nobody_lived_to_see_are_followed_by_the_next_process(tmp_path):
    with room(tmp_path / "a.sqlite") as bed:
        bed.take(30)
        bed.commit(10)
        bed.publisher.command("lights_off", "")  # and it dies
    night = read_night(tmp_path / "a.sqlite")
    with room(tmp_path / "b.sqlite") as bed:
        bed.publisher.resume(night.epochs, night.events, {}, 0)
        bed.epochs = 10
        bed.commit(25)
        assert minutes(bed.publisher) == 2.5


@pytest.mark.parametrize(("silent_s", "on"), [(0, 20), (600, 40)])
def test_lights_on_after_the_last_sample_end_the_night_with_it(tmp_path, silent_s, on):
    with room(tmp_path / "a.sqlite") as bed:
        bed.take(20)
        bed.commit(20)
        bed.clock.now += silent_s
        assert bed.publisher.command("lights_on", "") == on
        bed.publisher.conclude(600.0)
        assert minutes(bed.publisher) == 10
        assert bed.publisher._lit  # and nobody has to guess it
    night = read_night(tmp_path / "a.sqlite")
    assert night.lights_on == 20
    assert not any(event.data.get("inferred") for event in night.events)


def test_triggers_count_from_where_the_lights_went_off(tmp_path):
    trigger = TriggerSettings.model_validate({"name": "t", "stages": ["N2"], "since_onset_min": [1, 5]})
    with room(tmp_path / "a.sqlite") as bed:
        firings = FiringLog(tmp_path / "a.firings", live=False)
        reflexes = Reflexes([trigger], bed.publisher, None, bed.clock, False, tmp_path / "a", firings)
        reflexes.lights_off(4)  # while the second epoch is looked at
        onsets = []
        for number in range(1, 7):
            reflexes.push(score(30 * number, "N2"), NIGHT + 30 * number)
            onsets.append(reflexes._course.onset)
    assert onsets == [0, 0, 0, 0, 4 * 3000, 4 * 3000]
