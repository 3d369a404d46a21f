"""BrainFlow as a source: a stand-in board that misbehaves, and two real ones: synthetic and playback."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from streamer.clock import SystemClock
from streamer.errors import SettingsError, SignalError, SourceError
from streamer.messages import Gap
from streamer.settings import validate
from streamer.sources.board import BrainflowBoard, board_id, load_brainflow
from streamer.sources.brainflow import BrainflowSource
from streamer.sources.opener import open_source
from streamer.sources.packets import Numbering
from streamer.sources.settings import BrainflowSettings
from tests.boards import ManualClock, StandInBoard
from tests.fakes import none_left

MUSE, CYTON = Numbering(1 << 16, rows=12), Numbering(256)
SETTINGS = BrainflowSettings(board="synthetic")


def collect(board, until_s, settings=SETTINGS):
    """All items up to a time of the stand-in's, and the source's info."""

    async def scenario():
        items = []
        async with BrainflowSource(settings, board.clock, board) as source:
            async for item in source:
                items.append(item)
                if board.clock.now - 1000 >= until_s:
                    break
        return source.info, items

    return asyncio.run(scenario())


def gaps(items):
    return [(item.start, item.stop) for item in items if isinstance(item, Gap)]


def check_places(items, off=0):
    """Every sample within `off` of its true place; nothing left out or told twice."""
    at = 0
    for item in items:
        assert item.start == at
        at = item.stop
        if not isinstance(item, Gap) and item.samples.shape[1]:
            true = item.samples[0] - first(items)
            assert np.abs(true - np.arange(item.start, item.stop)).max() <= off


def first(items):
    return next(item.samples[0, 0] for item in items if not isinstance(item, Gap))


@pytest.mark.parametrize("numbering", [MUSE, CYTON, None], ids=["muse", "cyton", "by time"])
def test_two_clean_minutes_have_no_gap(numbering):
    board = StandInBoard(ManualClock(), numbering)
    info, items = collect(board, 120)
    assert gaps(items) == []
    check_places(items)
    assert info.rate_hz == 256
    assert [channel.unit for channel in info.channels] == ["uV", "uV"]
    assert info.started == pytest.approx(1_700_001_000.1, abs=0.11)


@pytest.mark.parametrize("numbering", [MUSE, CYTON], ids=["muse", "cyton"])
@pytest.mark.parametrize("lost", [12, 252, 256 * 12, 7500])
def test_a_loss_below_the_watchdogs_patience_is_found_to_the_sample(numbering, lost):
    lost = lost // 12 * 12
    board = StandInBoard(ManualClock(), numbering, drops=((2400, 2400 + lost),))
    _, items = collect(board, 60, BrainflowSettings(board=0, silence_s=60))
    assert [stop - start for start, stop in gaps(items)] == [lost]
    check_places(items)


@pytest.mark.parametrize("lost_s", [0.5, 3, 7, 9.5, 300])
def test_a_muses_drawn_out_times_hide_no_loss(lost_s):
    lost = int(lost_s * 256) // 12 * 12
    board = StandInBoard(ManualClock(), MUSE, drops=((4800, 4800 + lost),), drawn_out=True)
    _, items = collect(board, 60 + 1.1 * lost_s, BrainflowSettings(board=38, silence_s=600))
    assert gaps(items) == [(4800 - int(first(items)), 4800 + lost - int(first(items)))]
    check_places(items)


def test_silence_makes_the_board_be_opened_again_and_becomes_a_gap():
    clock = ManualClock()
    board = StandInBoard(clock, MUSE, gone=((30, 120), (200, 500)))
    _, items = collect(board, 600)
    found = gaps(items)
    assert len(found) == 2
    for (start, stop), (begin, end) in zip(found, board.gone, strict=True):
        assert start / 256 == pytest.approx(begin, abs=0.2)
        assert end <= stop / 256 < end + 31  # the longest pause between two tries
    check_places(items, off=1)
    assert "opened again at try" in next(item.reason for item in items if isinstance(item, Gap))
    opened = [call for call in board.calls if call != "read"]
    assert opened[:4] == ["describe", "open", "close", "open"]
    assert opened[-1] == "close"


def test_tries_become_rarer():
    board = StandInBoard(ManualClock(), CYTON, gone=((30, 3630),))
    collect(board, 3700)
    assert 120 < board.calls.count("open") < 300


def test_an_overflow_of_the_ring_buffer_is_a_gap():
    clock = ManualClock()
    board = StandInBoard(clock, CYTON, ring=1000)

    async def scenario():
        items = []
        async with BrainflowSource(SETTINGS, clock, board) as source:
            async for item in source:
                items.append(item)
                if 20 < clock.now - 1000 < 20.2:
                    await clock.sleep(60)  # nobody reads
                if clock.now - 1000 > 100:
                    break
        return items

    items = asyncio.run(scenario())
    (gap,) = gaps(items)
    assert gap[1] - gap[0] == pytest.approx(60 * 256 - 1000, abs=60)
    check_places(items)


@pytest.mark.parametrize("numbering", [CYTON, None], ids=["cyton", "by time"])
def test_a_computer_that_sleeps_an_hour_lists_the_hour_as_lost(numbering):
    clock = ManualClock()
    lost = 40 * 256, 3640 * 256
    board = StandInBoard(clock, numbering, drops=(lost,))

    async def scenario():
        items = []
        async with BrainflowSource(SETTINGS, clock, board) as source:
            async for item in source:
                items.append(item)
                if 40 < clock.now - 1000 < 41:
                    await clock.sleep(3600 - clock.now + 1040)  # the steady clock goes on, nobody reads
                if clock.now - 1000 > 3700:
                    break
        return items

    items = asyncio.run(scenario())
    (gap,) = gaps(items)
    assert gap[1] - gap[0] == pytest.approx(3600 * 256, abs=0 if numbering else 1)
    check_places(items, off=0 if numbering else 1)


@pytest.mark.parametrize("numbering", [MUSE, CYTON, None], ids=["muse", "cyton", "by time"])
@pytest.mark.parametrize("by_s", [3600, -3600, 1.5])
def test_a_wall_clock_that_is_set_moves_nothing(numbering, by_s):
    clock = ManualClock()
    board = StandInBoard(clock, numbering)

    async def scenario():
        items = []
        async with BrainflowSource(SETTINGS, clock, board) as source:
            async for item in source:
                items.append(item)
                if clock.now - 1000 > 40:
                    clock.set_by = by_s
                if clock.now - 1000 > 80:
                    break
        return items

    items = asyncio.run(scenario())
    assert gaps(items) == []
    check_places(items)


@pytest.mark.parametrize("numbering", [MUSE, CYTON], ids=["muse", "cyton"])
def test_a_radio_that_stalls_and_catches_up_loses_nothing(numbering):
    board = StandInBoard(ManualClock(), numbering, stalls=((10, 12), (20, 20.7), (30, 34)))
    _, items = collect(board, 60)
    assert gaps(items) == []
    check_places(items)


def test_a_recording_ends_when_all_its_rows_have_come():
    board = StandInBoard(ManualClock(), CYTON, rows=2560)

    async def scenario():
        async with BrainflowSource(SETTINGS, board.clock, board) as source:
            return [item async for item in source]

    items = asyncio.run(asyncio.wait_for(scenario(), 60))
    assert items[-1].stop >= 2560


def test_every_call_is_made_on_the_one_worker_thread():
    board = StandInBoard(ManualClock(), CYTON)
    collect(board, 5)
    assert {name.rsplit("_", 1)[0] for name in board.threads} == {"brainflow"}
    assert len(board.threads) == 1


def test_cancelling_while_the_board_opens_releases_it():
    async def scenario():
        board = StandInBoard(ManualClock(), CYTON)
        board.may_open.clear()
        task = asyncio.create_task(BrainflowSource(SETTINGS, SystemClock(), board).__aenter__())
        await asyncio.to_thread(board.opening.wait, 60)
        task.cancel()
        board.may_open.set()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 60)
        assert board.closed.is_set()
        assert board.calls == ["describe", "open", "close"]

    asyncio.run(scenario())
    none_left("brainflow")


def test_a_board_that_sends_nothing_is_refused_and_released():
    board = StandInBoard(ManualClock(), CYTON, stalls=((0, 1e9),))
    with pytest.raises(SourceError, match="sends nothing"):
        collect(board, 5)
    assert board.closed.is_set()


def test_a_board_too_fast_for_sleep_is_refused():
    with pytest.raises(SignalError, match="2000 Hz"):
        collect(StandInBoard(ManualClock(), CYTON, rate_hz=2000.0), 5)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("MUSE_2_BOARD", 38),
        ("muse 2", 38),
        ("Muse2", 38),
        (38, 38),
        ("muse_s", 39),
        ("Muse S Athena", 67),
        ("athena", 67),
        ("synthetic", -1),
        (-1, -1),
        ("playback", -3),
        ("streaming", -2),
        ("Cyton", 0),
        ("ganglion native", 46),
        (46, 46),
        ("46", 46),
        ("-1", -1),
    ],
)
def test_boards_go_by_many_names(asked, found):
    assert board_id(asked, names()) == found


@pytest.mark.parametrize(
    ("asked", "said"),
    [("muse", "several boards are called 'muse'; is it"), ("cyten", "CYTON_BOARD"), (999, "no board 999")],
)
def test_an_unknown_board_is_one_line_with_the_nearest(asked, said):
    with pytest.raises(SourceError, match=said):
        board_id(asked, names())


def names():
    return {board.name: int(board) for board in load_brainflow().BoardIds}


@pytest.mark.parametrize(
    ("board", "rate_hz", "labels"),
    [
        ("muse 2", 256, "TP9 AF7 AF8 TP10"),
        (39, 256, "TP9 AF7 AF8 TP10"),
        (67, 256, "TP9 AF7 AF8 TP10"),
        (0, 250, "Fp1 Fp2 C3 C4 P7 P8 O1 O2"),
        (46, 200, "EEG1 EEG2 EEG3 EEG4"),
    ],
)
def test_boards_describe_themselves_without_being_there(board, rate_hz, labels):
    described = BrainflowBoard(BrainflowSettings(board=board)).describe()
    assert described.rate_hz == rate_hz
    assert [channel.label for channel in described.channels] == labels.split()
    assert {channel.unit for channel in described.channels} == {"uV"}
    assert "BrainFlow 5." in described.name


def test_electrodes_can_be_named_in_the_settings():
    described = BrainflowBoard(BrainflowSettings(board=46, labels=("Fpz", "Cz", "O1", "O2"))).describe()
    assert [channel.label for channel in described.channels] == ["Fpz", "Cz", "O1", "O2"]
    with pytest.raises(SourceError, match="labels names 1 channels, but the board has 4"):
        BrainflowBoard(BrainflowSettings(board=46, labels=("Fpz",))).describe()


def test_a_board_without_eeg_is_refused():
    with pytest.raises(SourceError, match="EMOTIBIT_BOARD has no EEG"):
        BrainflowBoard(BrainflowSettings(board="emotibit")).describe()


def test_playback_needs_a_file_and_the_board_that_made_it(tmp_path):
    with pytest.raises(SourceError, match="needs master_board"):
        BrainflowBoard(BrainflowSettings(board=-3)).describe()
    with pytest.raises(SourceError, match="needs file"):
        BrainflowBoard(BrainflowSettings(board=-3, master_board=38)).describe()
    with pytest.raises(SourceError, match="cannot read"):
        BrainflowBoard(BrainflowSettings(board=-3, master_board=38, file=tmp_path / "none.csv")).describe()


@pytest.mark.parametrize(
    ("missing", "said"), [("pkg_resources", "setuptools<82"), ("brainflow", "pip install brainflow")]
)
def test_what_brainflow_lacks_is_said_in_one_line(missing, said):
    def load(name):
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    with pytest.raises(SourceError, match=said) as caught:
        load_brainflow(load)
    assert "\n" not in str(caught.value)


def test_a_missing_pkg_resources_is_found_at_the_first_call_too():
    class Library:
        @classmethod
        def get_instance(cls):
            raise ModuleNotFoundError("No module named 'pkg_resources'", name="pkg_resources")

    with pytest.raises(SourceError, match="setuptools<82"):
        load_brainflow(lambda name: SimpleNamespace(BoardControllerDLL=Library))


def test_settings_from_toml():
    data = {
        "stream": [{"source": {"kind": "brainflow", "board": "muse 2", "mac_address": "00:55:da:b0:00:01"}}]
    }
    (stream,) = validate(data, "test").stream
    source = open_source(stream.source, None, SystemClock())
    assert isinstance(source, BrainflowSource)
    with pytest.raises(SettingsError, match="did you mean 'mac_address'"):
        validate({"stream": [{"source": {"kind": "brainflow", "board": 38, "mac_adress": "x"}}]}, "test")


def test_a_serial_port_that_is_not_there_is_one_clear_line():
    async def scenario():
        async with BrainflowSource(BrainflowSettings(board="cyton", serial_port="/dev/no-such-port")):
            pass

    with pytest.raises(SourceError, match=r"'cyton' does not open .*UNABLE_TO_OPEN_PORT_ERROR"):
        asyncio.run(scenario())


def test_the_synthetic_board_streams_quietly(capfd):
    async def scenario():
        items = []
        async with BrainflowSource(BrainflowSettings(board="synthetic", other_info="streams")) as source:
            async for item in source:
                items.append(item)
                if item.stop > 250:
                    break
        return source.info, items

    asyncio.run(asyncio.wait_for(scenario(), 60))
    info, items = asyncio.run(asyncio.wait_for(scenario(), 60))  # it was let go
    assert capfd.readouterr() == ("", "")
    assert len(info.channels) == 16
    assert info.rate_hz == 250
    assert gaps(items) == []


def test_a_board_that_is_in_use_is_refused():
    settings = BrainflowSettings(board="synthetic", other_info="twice")

    async def scenario():
        async with BrainflowSource(settings), BrainflowSource(settings):
            pass

    with pytest.raises(SourceError, match="not in use elsewhere"):
        asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.slow
def test_the_playback_board_gives_what_was_recorded(tmp_path):
    path = tmp_path / "muse.csv"
    count = 768
    table = np.zeros((count, 8))
    table[:, 0] = np.arange(count) // 12 % 65536
    table[:, 1:5] = np.arange(count)[:, None] / 8 + np.arange(4)
    table[:, 6] = 1.7e9 + np.arange(count) / 256
    np.savetxt(path, table, fmt="%.6f", delimiter="\t")
    settings = BrainflowSettings(board="playback", master_board="muse 2", file=path)

    async def scenario():
        async with BrainflowSource(settings) as source:
            return source.info, [item async for item in source]

    info, items = asyncio.run(asyncio.wait_for(scenario(), 60))
    assert gaps(items) == []
    assert info.name.startswith("Muse2 played back")
    np.testing.assert_array_equal(np.concatenate([item.samples for item in items], axis=1), table[:, 1:5].T)
