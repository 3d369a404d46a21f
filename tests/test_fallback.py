"""Which of several electrodes is staged: the best that is usable, changed seldom, whatever the cuts."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.conditioner import Conditioner
from streamer.errors import SettingsError, UsageError
from streamer.fallback import OFF_S, POOR_S, SPAN_S, Fallback, make_derivation
from streamer.journal import Journal
from streamer.journal.file import Meta
from streamer.live.batching import Batcher
from streamer.live.intake import Intake
from streamer.live.stream import Stream
from streamer.messages import Chunk, Gap, Quality, Switch
from streamer.night.session import read_conditioned, read_night
from streamer.pipeline import Pipeline
from streamer.quality import CHANGED, grade_mixed
from streamer.resampler import Resampler
from streamer.settings import SignalSettings, validate
from streamer.sinks.publisher import Publisher
from tests.chunkings import SIZES, cut, joined, stream
from tests.fakes import FakeClock, FakeSource, Witness
from tests.paths import default_model, eeg, info, scores

LABELS = ("AF7", "AF8", "TP9", "TP10")
RATE = 128
WORST_S = SPAN_S // 2 + OFF_S  # from falling off to the change


def _night(seconds, rate=RATE, count=4):
    """(count, n): every electrode sees something else, all of it good."""
    return np.concatenate([eeg(seconds, rate, seed) for seed in range(count)])


def _off(samples, channel, start_s, stop_s, rate=RATE):
    samples[channel, int(start_s * rate) : int(stop_s * rate)] = 0.0
    return samples


def _derived(items, channels=LABELS, rate=RATE, flush=True):
    stage = make_derivation(info(rate, LABELS), SignalSettings(channel=channels))
    out = [made for item in items for made in stage.push(item)]
    return [*out, *stage.flush()] if flush else out


def _changes(items, rate=RATE):
    return [(item.before, item.after, item.at / rate) for item in items if isinstance(item, Switch)]


def _split(items):
    """Everything that is comparable, however it was cut: changes, and what lies between them."""
    runs, at = [], 0
    for number, item in enumerate(items):
        if isinstance(item, Switch):
            runs += [joined(items[at:number]), item]
            at = number + 1
    return [*runs, joined(items[at:])]


def _run(items, rate=RATE, hop_s=30, flush=True, channels=LABELS):
    pipeline = Pipeline(info(rate, LABELS), SignalSettings(channel=channels), hop_s, default_model())
    out = [output for item in items for output in pipeline.push(item)]
    return [*out, *pipeline.flush()] if flush else out


def test_the_first_that_is_good_is_taken_and_kept():
    samples = _night(200)
    out = _derived(stream(samples))
    assert _changes(out) == []
    np.testing.assert_array_equal(
        np.concatenate([item.samples[0] for item in out]), samples[0].astype(np.float32)
    )


def test_at_the_start_the_best_is_taken_as_soon_as_it_can_be_judged():
    night = _off(_off(_night(60), 0, 0, 60), 1, 0, 60)
    assert _changes(_derived(stream(night))) == [("AF7", "TP9", SPAN_S - 1)]
    nothing_on = _night(120) * (np.arange(120 * RATE) > 70 * RATE)
    nothing_on[0] = 0
    ((before, after, at_s),) = _changes(_derived(stream(nothing_on)))
    assert (before, after) == ("AF7", "AF8")
    assert 70 + SPAN_S - 2 <= at_s <= 70 + SPAN_S


def test_one_that_falls_off_is_left_after_half_a_minute_and_not_gone_back_to():
    out = _derived(stream(_off(_night(400), 0, 100, 200)))
    ((before, after, at_s),) = _changes(out)
    assert (before, after) == ("AF7", "AF8")
    assert 100 + OFF_S <= at_s <= 100 + WORST_S
    (switch,) = [item for item in out if isinstance(item, Switch)]
    assert switch.reason.startswith("AF7 was off (flat) for 3")
    assert switch.reason.endswith(" s, AF8 is good")


def test_a_short_trouble_changes_nothing():
    assert _changes(_derived(stream(_off(_night(300), 0, 100, 100 + OFF_S - 10)))) == []


def test_one_that_is_poor_is_left_after_two_minutes():
    night = _night(400)
    times = np.arange(300 * RATE) / RATE
    night[0, 100 * RATE :] += 400 * np.sin(2 * np.pi * times)  # movement, or a loose contact
    ((_, after, at_s),) = _changes(_derived(stream(night)))
    assert after == "AF8"
    assert 100 + POOR_S <= at_s <= 100 + POOR_S + SPAN_S


def test_nobody_takes_over_who_was_not_well_all_the_time():
    night = _off(_off(_night(300), 0, 100, 300), 1, 115, 125)
    ((_, after, _),) = _changes(_derived(stream(night)))
    assert after == "TP9"
    for channel in (1, 2, 3):
        _off(night, channel, 100, 300)
    assert _changes(_derived(stream(night))) == []


def test_what_is_lost_for_all_is_no_reason():
    night = _night(400)
    assert _changes(_derived(stream(night, [(100 * RATE, 300 * RATE)]))) == []
    assert _changes(_derived([Gap(0, 90 * RATE + 5, "late"), Chunk(90 * RATE + 5, night)])) == []


@pytest.mark.parametrize("every_s", [7, 20, 45, 90])
def test_two_that_fail_in_turn_cannot_make_it_flap(every_s):
    night = _night(900, count=2)
    for number in range(900 // every_s):
        _off(night, number % 2, number * every_s, (number + 1) * every_s)
    padded = np.concatenate([night, night * 0])
    times = [at_s for _, _, at_s in _changes(_derived(stream(padded)))][1:]
    assert np.all(np.diff(times) >= OFF_S)
    assert len(times) <= (0 if every_s < OFF_S else 900 // every_s)


def test_a_loss_on_one_channel_is_in_the_ledger_only_while_it_is_staged():
    night = _night(300)
    night[1, 90 * RATE : 120 * RATE] = np.nan
    night[0, 100 * RATE :] = np.nan
    out = _derived(stream(night))
    ((_, after, at_s),) = _changes(out)
    assert after == "TP9"
    gaps = [(item.start, item.stop) for item in out if isinstance(item, Gap)]
    assert gaps == [(100 * RATE, at_s * RATE)]
    at = 0
    for item in out:
        if not isinstance(item, Switch):
            assert item.start == at
            at = item.stop
    assert at == night.shape[1]


def _troubled(rate, seconds=190):
    night = _off(_night(seconds, rate), 0, 40.3, 200, rate)
    night[1, 95 * rate :] = np.nan
    night[2, 100 * rate : 101 * rate] = np.nan
    return night


@settings(max_examples=15)
@given(rate=st.sampled_from([50, 100, 128, 256]), sizes=SIZES)
def test_any_chunking_gives_the_same_derivation_to_the_bit(rate, sizes):
    items = stream(_troubled(rate), [(90 * rate + 3, 91 * rate + 7)])
    whole = _derived(items, rate=rate)
    assert len(_changes(whole)) == 2
    sizes = [max(size, 7) if size else 0 for size in sizes]
    assert _split(_derived(cut(items, sizes), rate=rate)) == _split(whole)


@settings(max_examples=6)
@given(rate=st.sampled_from([100, 128, 256]), hop_s=st.sampled_from([5, 30]), sizes=SIZES)
def test_any_chunking_gives_the_same_scores_to_the_bit(rate, hop_s, sizes):
    items = stream(_troubled(rate), [(30 * rate + 3, 31 * rate + 7)])
    whole = _run(items, rate, hop_s)
    assert len(_changes(whole, rate)) == 2
    assert _run(cut(items, [max(size, 97) if size else 0 for size in sizes]), rate, hop_s) == whole


@settings(max_examples=8)
@given(rate=st.sampled_from([100, 256]), at_s=st.floats(41, 180))
def test_nothing_depends_on_the_future(rate, at_s):
    at = int(at_s * rate)
    one, other = _troubled(rate), _troubled(rate)
    other[:, at:] = 0.0
    horizon_s = at_s - Resampler(rate).delay_s - 0.02

    def past(outputs):
        found = [score for score in scores(outputs) if score.end <= horizon_s * 100]
        return found, [change for change in _changes(outputs, rate) if change[2] <= at_s]

    assert past(_run(stream(one), rate, 5)) == past(_run(stream(other), rate, 5))


def test_the_filters_start_anew_and_the_window_that_mixes_says_so():
    night = _night(240)
    night[1] += 400.0  # another electrode, another offset: without a restart it rings for seconds
    night = _off(night, 0, 61, 240)
    out = _run(stream(night), hop_s=1)
    ((_, _, at_s),) = _changes(out)
    for score in scores(out):
        inside = at_s < score.end / 100 < at_s + 30
        assert (CHANGED in score.quality.reasons) == inside
        assert score.quality.lost_fraction == 0
    assert [score.end for score in scores(out)] == [100 * s for s in range(30, 241)]
    after = _run(stream(night[:, int(at_s * RATE) :]), hop_s=1, channels="AF8")
    late = [score.stage == "unscored" for score in scores(out) if score.end / 100 >= at_s + 30]
    assert late == [False] * len(scores(after))


def test_a_restart_loses_nothing_and_forgets_everything():
    samples = eeg(20, RATE)
    conditioner, fresh = Conditioner(RATE), Conditioner(RATE)
    before = [*conditioner.push(Chunk(0, samples[:, : 10 * RATE])), *conditioner.restart()]
    after = [*conditioner.push(Chunk(10 * RATE, samples[:, 10 * RATE :])), *conditioner.flush()]
    alone = [*fresh.push(Chunk(0, samples[:, 10 * RATE :])), *fresh.flush()]
    assert sum(item.stop - item.start for item in before) == 1000
    assert after[0].start == 1000
    assert all(isinstance(item, Chunk) for item in (*before, *after))
    assert [one[3] for one in joined(after)] == [one[3] for one in joined(alone)]


def test_mixed_says_so_only_inside_the_window():
    good = Quality("good")
    assert grade_mixed(good, 0) == grade_mixed(good, 30) == grade_mixed(good, float("inf")) == good
    assert grade_mixed(good, 1) == Quality("fair", (CHANGED,))
    assert grade_mixed(Quality("off", ("flat",)), 29.5) == Quality("off", ("flat", CHANGED))


def test_one_channel_needs_no_fallback_and_a_list_is_checked():
    assert not isinstance(make_derivation(info(RATE, LABELS), SignalSettings(channel=("TP9",))), Fallback)
    several = make_derivation(info(RATE, LABELS), SignalSettings(channel=("AF7-TP9", "#1")))
    assert several.label == "AF7-TP9"
    with pytest.raises(UsageError, match="no channel 'Q'"):
        make_derivation(info(RATE, LABELS), SignalSettings(channel=("AF7", "Q")))
    with pytest.raises(UsageError, match="AF7, #0 are AF7, AF7: name each one only once"):
        make_derivation(info(RATE, LABELS), SignalSettings(channel=("AF7", "#0")))
    for bad in ([], ["AF7", "AF7"]):
        source = {"kind": "simulated"}
        with pytest.raises(SettingsError, match="each one only once"):
            validate({"stream": [{"source": source, "signal": {"channel": bad}}]}, "test")


def test_a_change_is_an_event_and_part_of_the_night_as_it_is_read_again(tmp_path):
    night = _off(_night(150), 0, 60, 150)

    async def scenario():
        clock, witness, source = FakeClock(), Witness(), FakeSource(info(RATE, LABELS))
        signal = SignalSettings(channel=LABELS)
        meta = Meta("s", "node", "anna", source.info, settings={"signal": signal.model_dump(mode="json")})
        with (
            Journal.create(tmp_path / "s.sqlite", meta, clock, deliver=False) as journal,
            ThreadPoolExecutor(1) as worker,
        ):
            pipeline = Pipeline(source.info, signal, 30, default_model())
            publisher = Publisher("anna", "s", source.info, journal, [witness], clock, None)
            source.give(Chunk(0, night), None)
            async with Intake(source, journal, False, clock) as intake:
                lane = Batcher(worker, clock).lane(live=False)
                running = Stream(intake, pipeline, journal, publisher, lane, clock, 10)
                await running.run(asyncio.Event())
        return [event for event in witness.events if event.event == "channel_changed"]

    (event,) = asyncio.run(asyncio.wait_for(scenario(), 60))
    assert event.text.startswith("channel AF8 instead of AF7: AF7 was off (flat)")
    assert (event.data["from"], event.data["to"]) == ("AF7", "AF8")
    assert "t_start" in event.data
    seen = read_conditioned(read_night(tmp_path / "s.sqlite"))
    assert not np.isnan(seen).any()
    assert seen[80 * 100 : 90 * 100].std() < 1e-3 < 1 < seen[110 * 100 :].std()
