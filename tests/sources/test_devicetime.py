"""Whatever times are: they are believed as far as the host's own clock, or the file, can bear them."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.messages import Chunk, Gap
from streamer.sources.devicetime import BEARS, LEAP_S, SLACK_S, FileChecked, HostChecked, scale_named
from streamer.sources.timeline import Timeline
from tests.chunkings import SIZES

RATE = 64.0
PULL_S = 0.125  # eight samples


def live(times, checked=None, rate=RATE, pauses=()):
    """Eight samples a pull, in real time but for (pull, seconds) of pauses; items and remarks."""
    checked = checked or HostChecked(rate)
    timeline = Timeline(rate, checked)
    items, now, paused = [], 100.0, dict(pauses)
    for pull, at in enumerate(range(0, len(times) - 7, 8)):
        now += 8 / rate + paused.get(pull, 0.0)
        items += timeline.push(np.asarray(times[at : at + 8], float), np.full((1, 8), at / 8), now)
        passed = now - 100.0
        assert (items[-1].stop if items else 0) / rate <= 1.3 * passed + SLACK_S + 1
    return items, checked.remarks


def lost_s(items, rate=RATE):
    return sum(item.stop - item.start for item in items if isinstance(item, Gap)) / rate


def seconds(count, begun=1000.0):
    return begun + np.arange(int(count * RATE)) / RATE


SCALES = [
    (1e3, "run 1000 times too fast"),
    (1e6, "run 1000000 times too fast"),
    (1e9, "run 1000000000 times too fast"),
    (1e-3, "run 1000 times too slow"),
    (RATE, "run 64 times too fast: they count samples"),
    (0.0, "stand still"),
    (-2e-5, "stand still"),
    (-1.0, "run backwards"),
    (7.0, "run 7 times too fast"),
]


@pytest.mark.parametrize(("scale", "named"), SCALES)
def test_a_clock_on_another_scale_is_named_once_and_arrival_takes_its_place(scale, named):
    items, remarks = live(seconds(20, 0.0) * scale + 5.0)
    (said,) = remarks
    assert f"its times {named}" in said
    assert lost_s(items) == 0
    assert items[-1].stop > 18 * RATE


def test_samples_that_are_timed_by_arrival_are_counted_ever_more_rarely():
    checked, pull = HostChecked(RATE), np.full(64, 7.0)
    for second in range(5000):
        checked.push(pull, float(second))
    said = [int(one.split()[0]) for one in checked.remarks[1:]]
    assert [round(count / RATE) for count in said] == [600, 1200, 2400, 4800]
    assert "timed by their arrival so far" in checked.remarks[-1]


def test_a_pause_is_found_by_arrival_where_the_device_s_times_are_not_believed():
    times = np.delete(seconds(60), slice(int(20 * RATE), int(30 * RATE)))
    items, _ = live(times * 1e3, pauses=[(160, 10.0)])
    assert lost_s(items) == pytest.approx(10.0, abs=0.3)


def test_a_night_that_is_played_fast_may_have_long_gaps():
    """Samples run ahead of this computer's clock, and while there are none, that clock alone tells."""
    checked, speed = HostChecked(RATE), 60
    for gap in range(4):
        for second in range(300):
            at = seconds(speed, (300 * gap + second) * speed + 7200.0 * gap)
            given = checked.push(at, 100.0 + 300 * gap + second + 7200.0 * gap)
        assert abs(given[-1] - at[-1]) < speed * (gap + 1)  # each begins that much before the host's second
    assert not any("not believed" in said for said in checked.remarks)
    assert checked.doubted <= 3 * speed * RATE


@pytest.mark.parametrize("leap_s", [3600.0, -3600.0, 1e7, -1e7, 5.0])
def test_a_clock_that_is_set_loses_nothing_and_is_believed_again(leap_s):
    times = seconds(60)
    times[int(20 * RATE) :] += leap_s
    times = np.delete(times, slice(int(40 * RATE), int(45 * RATE)))  # a true loss, by the clock as it now is
    items, remarks = live(times, pauses=[(320, 5.0)])
    assert lost_s(items) == pytest.approx(5.0, abs=0.1)
    assert len(remarks) == 1
    assert "has leapt, once so far" in remarks[0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("share", [0.01, 1.0])
def test_times_that_are_no_numbers_are_never_used(value, share):
    times = seconds(30)
    times[np.random.default_rng(0).random(len(times)) < share] = value
    items, remarks = live(times)
    assert lost_s(items) == 0
    assert items[-1].stop > 28 * RATE
    assert remarks


def test_a_true_gap_of_hours_is_believed_and_silence_is_said_of_an_honest_clock():
    times = np.concatenate([seconds(30), seconds(30) + 30 + 20 * 3600])
    items, remarks = live(times, pauses=[(240, 20 * 3600.0)])
    assert lost_s(items) == pytest.approx(20 * 3600, abs=0.1)
    assert remarks == []


def test_late_samples_and_a_device_that_drifts_are_believed():
    times = np.arange(int(200 * RATE)) / (RATE * 0.9998) + 77.0
    checked = HostChecked(RATE)
    _, remarks = live(times, checked)
    assert (remarks, checked.doubted) == ([], 0)
    held = seconds(60)  # ten seconds of them come at once
    checked, now = HostChecked(RATE), 0.0
    timeline = Timeline(RATE, checked)
    for at in range(0, len(held), 8):
        now = max(now, held[at + 7] if not 20 * RATE <= at < 30 * RATE else held[int(30 * RATE)])
        assert not any(
            isinstance(item, Gap) for item in timeline.push(held[at : at + 8], np.zeros((1, 8)), now)
        )
    assert checked.remarks == []


@pytest.mark.parametrize("begun", [0.0, 1e7], ids=["earlier", "later"])
@pytest.mark.parametrize("at_once", [1, 100], ids=lambda count: f"{count} at once")
@pytest.mark.parametrize("stall_s", [0.3, 5.0])
@pytest.mark.parametrize("stalled_at", [0, 1, 5])
def test_a_device_reborn_with_another_clock_has_one_loss_wherever_this_computer_stands_still(
    begun, at_once, stall_s, stalled_at
):
    rate, count, away_s, timeline = 256.0, 5120, 20.0, Timeline(256.0, HostChecked(256.0))
    row, items, now = np.arange(count, dtype=float)[None], [], 1000.0
    for at in range(0, count, 16):
        now += 16 / rate
        items += timeline.push(1e5 + (at + np.arange(16)) / rate, row[:, at : at + 16], now)
    timeline.reconnected()
    now = reborn = now + away_s
    at = pull = 0
    while at < count:
        now += stall_s if pull == stalled_at else 0.05
        pull += 1
        while size := min(256, at_once + int((now - reborn) * rate) - at, count - at):  # a pull takes no more
            items += timeline.push(begun + (at + np.arange(size)) / rate, row[:, at : at + size], now)
            at += size
    items += timeline.flush()
    (gap,) = [item for item in items if isinstance(item, Gap)]
    assert gap.start == count
    assert (gap.stop - gap.start) / rate == pytest.approx(away_s, abs=stall_s + 0.1)


def test_a_device_that_comes_back_is_judged_anew():
    checked = HostChecked(RATE)
    live(seconds(10) * 1000, checked)
    timeline = Timeline(RATE, checked)
    assert len(checked.remarks) == 1
    timeline.reconnected()
    before = checked.doubted
    for pull in range(80):
        at = 500.0 + pull * PULL_S
        checked.push(at - PULL_S + np.arange(1, 9) / RATE, at)
    assert checked.doubted - before <= 8  # one arrival to find out how its clock stands now


PIECES = st.lists(
    st.tuples(
        st.sampled_from(["scale", "leap", "constant", "back", "nan", "repeat", "wrap", "good"]),
        st.integers(1, 400),
        st.floats(-1e13, 1e13, allow_nan=False),
        st.sampled_from([1e-3, 1.0, 64.0, 1e3, 1e6, 1e9]),
    ),
    min_size=1,
    max_size=6,
)


def mixed(pieces):
    """A device's clock that does one thing after the other."""
    out, at = [], 0.0
    for kind, count, by, scale in pieces:
        steps = np.full(count, 1 / RATE)
        if kind == "scale":
            steps *= scale
        elif kind == "leap":
            steps[0] = by
        elif kind == "constant":
            steps[:] = 0
        elif kind == "back":
            steps = -steps
        times = at + np.cumsum(steps)
        if kind == "nan":
            times[:: 1 + count // 7] = [np.nan, np.inf, -np.inf][count % 3]
        elif kind == "repeat":
            times = times[np.arange(count) // 5 * 5]
        elif kind == "wrap":
            times = np.mod(times, max(abs(by) / 1e10, 1e-3))
        out.append(times)
        at = float(times[np.isfinite(times)][-1]) if np.isfinite(times).any() else at
    return np.concatenate(out)


@given(PIECES, st.lists(st.tuples(st.integers(0, 100), st.floats(0, 1e5)), max_size=3))
@example([("scale", 400, 0.0, 1e9)] * 6, [])
@example([("constant", 400, 0.0, 1.0), ("leap", 400, 1e13, 1.0)], [])
def test_whatever_a_device_says_no_more_is_computed_than_the_host_saw_pass(pieces, pauses):
    times = mixed(pieces)
    items, _ = live(times, pauses=pauses)  # holds every bound
    assert [item.start for item in items] == [0, *(item.stop for item in items[:-1])][: len(items)]
    rows = np.concatenate([item.samples[0] for item in items if isinstance(item, Chunk)] or [np.empty(0)])
    np.testing.assert_array_equal(rows, np.repeat(np.arange(len(times) // 8), 8)[: len(rows)])


@given(PIECES, SIZES)
def test_whatever_a_file_says_no_more_is_computed_than_it_can_bear(pieces, sizes):
    times = mixed(pieces)

    def run(sizes):
        timeline, out, at, turn = Timeline(RATE), [], 0, 0
        while at < len(times):
            size = sizes[turn % len(sizes)] if any(sizes) else len(times)
            out += timeline.push(times[at : at + size], np.zeros((1, len(times[at : at + size]))))
            at, turn = at + size, turn + 1
        return out + timeline.flush()

    items = run(())
    assert sum(item.stop - item.start for item in items if isinstance(item, Chunk)) == len(times)
    assert items[-1].stop / RATE <= 1.3 * (LEAP_S + (BEARS + 1) * len(times) / RATE + 1)
    if np.isfinite(times[0]):
        ends = [(type(item), item.stop) for item in run(sizes) if isinstance(item, Gap)]
        assert ends == [(type(item), item.stop) for item in items if isinstance(item, Gap)]


def test_what_of_a_file_is_not_believed_is_said_at_its_end():
    checked = FileChecked(RATE)
    timeline = Timeline(RATE, checked)
    times = seconds(60)
    times[1000:] += 3600
    times[2000:] += 3e5
    times[3000:] -= 1e5
    times[100] = np.nan
    items = [*timeline.push(times, np.zeros((1, len(times)))), *timeline.flush()]
    assert lost_s(items) == pytest.approx(3600)
    (said,) = checked.remarks
    assert "not believed in 3 places" in said
    assert "300000 s" in said


def test_a_stretch_of_a_file_on_another_clock_is_no_loss_where_the_clock_is_again_what_it_was():
    checked, times = FileChecked(RATE), seconds(60)
    timeline = Timeline(RATE, checked)
    times[1000:1050] -= 1000.0
    items = [*timeline.push(times, np.zeros((1, len(times)))), *timeline.flush()]
    assert [(type(item), item.start, item.stop) for item in items] == [(Chunk, 0, len(times))]
    assert checked.doubted == 1


@given(st.integers(-9, 9).filter(bool), st.floats(0.97, 1.03))
def test_every_power_of_ten_has_a_name(power, off):
    named = scale_named(10.0**power * off, 256.0)
    assert named.startswith(f"run {10 ** abs(power)} times too {'fast' if power > 0 else 'slow'}")


@given(st.floats(0.8, 1.25))
def test_a_rate_that_is_a_little_off_is_no_scale(off):
    assert scale_named(off, 256.0) == ""
