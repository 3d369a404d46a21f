"""What there is to stage: real LSL outlets on the loopback, and the boards that BrainFlow knows."""

import asyncio
import io
import json
import threading

import pylsl
import pytest
from rich.console import Console

from streamer.cli import main
from streamer.commands import discovery
from streamer.errors import UsageError
from tests.rda import Server, block, start

MINE = "discovery"


def outlet(name, rate_hz=256.0, form=pylsl.cf_float32, source_id="d1", labels=("AF7", "AF8")):
    info = pylsl.StreamInfo(f"{MINE}-{name}", "EEG", 2, rate_hz, form, source_id)
    if labels:
        info.set_channel_labels(list(labels))
    return pylsl.StreamOutlet(info)


def find(streams, name):
    return next(stream for stream in streams if stream.name == f"{MINE}-{name}")


def look(names):
    """Look until all of these were heard, with what they carry; a busy machine may need several looks."""
    for _ in range(30):
        streams = discovery.find_lsl_streams(1.0)
        heard = {one.name for one in streams if "does not answer" not in one.note}
        if {f"{MINE}-{name}" for name in names} <= heard:
            break
    return streams


def test_streams_are_told_with_what_they_carry_and_what_is_wrong_with_them():
    outlets = [
        outlet("band"),
        outlet("fast", 2000.0),
        outlet("irregular", 0.0),
        outlet("words", 0.0, pylsl.cf_string),
        outlet("nameless", source_id="", labels=()),
    ]
    streams = look(["band", "fast", "irregular", "words", "nameless"])
    band = find(streams, "band")
    assert (band.type, band.channels, band.labels, band.rate_hz) == ("EEG", 2, ("AF7", "AF8"), 256.0)
    assert (band.source_id, band.note) == ("d1", "")
    assert band.host
    assert "2000 Hz" in find(streams, "fast").note
    assert "0 Hz" in find(streams, "irregular").note
    assert find(streams, "words").note == "text, not samples"
    assert find(streams, "nameless").note.startswith("no source_id")
    assert find(streams, "nameless").labels == ()
    assert [stream.name for stream in streams] == sorted(stream.name for stream in streams)
    del outlets


@pytest.mark.parametrize("name", ["SYNTHETIC_BOARD", "CYTON_BOARD", "MUSE_2_BOARD", "MUSE_S_ATHENA_BOARD"])
def test_boards_are_told_by_name(name):
    assert name in {kind.name for kind in discovery.find_boards()}


def test_boards_say_how_their_losses_are_found():
    kinds = {kind.name: kind for kind in discovery.find_boards()}
    assert kinds["MUSE_2_BOARD"].losses == "counter"
    assert kinds["GANGLION_NATIVE_BOARD"].losses == "time"
    assert "EMOTIBIT_BOARD" not in kinds  # no EEG
    assert "ANT_NEURO_EE_221_BOARD" not in kinds  # 16 kHz
    assert "NO_BOARD" not in kinds


def test_the_table_and_its_empty_case():
    stream = discovery.LslStream("Muse", "EEG", 4, ("TP9",) * 20, 256.0, "attic", "m1", "a note")
    out = io.StringIO()
    discovery.show_streams(Console(file=out, width=160), [stream])
    assert "Muse" in out.getvalue()
    assert "and 12 more" in out.getvalue()
    out = io.StringIO()
    discovery.show_streams(Console(file=out, width=160), [])
    assert "no LSL stream answers" in out.getvalue()
    out = io.StringIO()
    discovery.show_boards(Console(file=out, width=160), discovery.find_boards()[:3])
    assert "Hz" in out.getvalue()


def test_the_command(capfd):
    held = outlet("command")
    for _ in range(20):  # looks: a busy machine may not answer in one
        assert main(["sources", "--json"]) == 0
        said = capfd.readouterr()
        assert said.err == ""  # not even liblsl's own remarks
        found = json.loads(said.out)
        names = {stream["name"] for stream in found["lsl"]}
        if f"{MINE}-command" in names:
            break
    assert f"{MINE}-command" in names
    assert set(found) == {"lsl"}  # what answers, and nothing else
    assert main(["sources", "--boards", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert 38 in {board["id"] for board in found["brainflow"]}
    del held


def test_a_stream_that_does_not_say_its_labels_holds_up_no_other(monkeypatch):
    asked = []

    class Info:
        def name(self):
            return "mute"

        type = source_id = hostname = name

        def channel_count(self):
            return 1

        def nominal_srate(self):
            return 256.0

        def channel_format(self):
            return 1

    meeting = threading.Barrier(3, timeout=60)  # broken unless all three are asked at the same time

    def inlet(found, recover):
        meeting.wait()
        asked.append(found)
        raise pylsl.util.TimeoutError

    monkeypatch.setattr(pylsl, "resolve_streams", lambda _look_s: [Info(), Info(), Info()])
    monkeypatch.setattr(pylsl, "StreamInlet", inlet)
    assert ["does not answer" in one.note for one in discovery.find_lsl_streams()] == [True] * 3


def test_a_recorder_is_asked_by_its_address(capsys):
    async def main():
        async with Server() as server:
            asking = asyncio.create_task(discovery.find_rda_stream(f"127.0.0.1:{server.port}"))
            (await server.client()).write(start() + block(0))
            return await asking

    info = asyncio.run(main())
    assert discovery._show_rda(info, False) == 0
    assert "3 channels at 500 Hz: Fp1 C3 EOG" in capsys.readouterr().out
    with pytest.raises(UsageError, match="HOST"):
        asyncio.run(discovery.find_rda_stream("somewhere:port"))
