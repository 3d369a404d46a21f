"""A recording as a live LSL stream: what comes out at the other end is the file."""

import asyncio
import signal as signals
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from streamer.messages import Chunk, Gap
from streamer.sources.replay import ReplaySource
from streamer.sources.settings import ReplaySettings
from tests.outlet import source
from tests.recording_files import eeg, signal, write_edf, write_edf_d
from tools import replay

ROOT = Path(__file__).parents[2]


def _start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-Werror", "-m", "tools.replay", *map(str, arguments)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


async def _taken(asked, until):
    items = []
    async with asked as opened:
        async for item in opened:
            items.append(item)
            if item.stop >= until:
                break
        return items, opened.info


def _rows(items):
    return np.concatenate([item.samples for item in items if isinstance(item, Chunk)], axis=1)


def _gaps(items):
    return [(item.start, item.stop) for item in items if isinstance(item, Gap)]


@pytest.mark.slow
def test_live_through_lsl_is_the_file_to_the_bit(tmp_path):
    """Samples cross as 64-bit floats, so EDF's scaled integers arrive exactly."""
    rate, seconds = 128, 90
    pair = [signal(eeg(seconds, rate, seed), rate, label) for seed, label in enumerate(("C4", "M1"))]
    onsets = [n + 7 * (n >= 40) + 100 * (n >= 70) for n in range(seconds)]
    path = write_edf_d(tmp_path / "a.edf", pair, onsets)
    until = (seconds + 107) * rate

    async def main():
        file = await _taken(ReplaySource(ReplaySettings(path=path, speed="max"), None), until)
        process = _start(path, "--wait", "--speed", 100, "--name", "night", "--all-channels")
        try:
            live = await _taken(source(100, name="night", resolve_s=30), until)
            assert await asyncio.to_thread(process.wait, 20) == 0
        finally:
            process.kill()
            process.communicate(timeout=60)
        return file, live

    (file, file_info), (live, live_info) = asyncio.run(asyncio.wait_for(main(), 90))
    assert _gaps(live) == _gaps(file) == [(40 * rate, 47 * rate), (77 * rate, 177 * rate)]
    np.testing.assert_array_equal(_rows(live), _rows(file))
    assert live_info.channels == file_info.channels
    assert live_info.rate_hz == file_info.rate_hz


def test_ctrl_c_is_clean(tmp_path):
    path = write_edf(tmp_path / "a.edf", [signal(eeg(10), 100)])
    process = _start(path, "--loop")
    try:
        assert process.stderr is not None
        assert "EEG C3-A1 at 100 Hz" in process.stderr.readline()
        process.send_signal(signals.SIGINT)
        _, said = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "Traceback" not in said


def test_ctrl_c_is_seen_even_where_python_cannot_raise_it(tmp_path, monkeypatch, capsys):
    path = write_edf(tmp_path / "a.edf", [signal(eeg(10), 100)])
    pieces = replay.rechunk

    class Fleeting:
        def __del__(self):
            signals.raise_signal(signals.SIGINT)  # what it raises here is ignored

    def interrupted(item, size):
        Fleeting()
        yield from pieces(item, size)

    monkeypatch.setattr(replay, "rechunk", interrupted)
    assert replay.main([str(path), "--loop", "--speed", "100"]) == 0
    assert "interrupted" in capsys.readouterr().err


def test_it_ends_by_itself_when_nobody_listens(tmp_path):
    path = write_edf(tmp_path / "a.edf", [signal(eeg(10), 100)])
    assert replay.main([str(path), "--speed", "1000"]) == 0


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        ([], 1, "No such file"),
        (["--channel", "Q"], 2, "no channel 'Q'"),
        (["--speed", "0"], 2, "not above 0"),
    ],
)
def test_errors_are_one_line(tmp_path, capsys, more, code, says):
    path = tmp_path / "a.edf"
    if more:
        write_edf(path, [signal(eeg(10), 100)])
    try:
        found = replay.main([str(path), *more])
    except SystemExit as exit_:  # argparse's way
        found = exit_.code
    assert found == code
    assert says in capsys.readouterr().err
