"""Locks of files: one process at a time; and where the system has none, all else goes on."""

import os
import subprocess
import sys

from streamer.host.flock import is_locked, lock

WITHOUT = "import sys; sys.modules['fcntl'] = None; "  # as on Windows


def test_one_descriptor_keeps_the_others_out(tmp_path):
    path = tmp_path / "f.lock"
    one, other = (os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(2))
    assert not is_locked(other)
    assert lock(one)
    assert not lock(other)
    assert is_locked(other)
    os.close(one)
    assert not is_locked(other)
    assert lock(other)
    os.close(other)


def test_without_locks_everything_is_imported_and_a_session_is_written(tmp_path):
    code = WITHOUT + (
        "import pathlib, streamer.cli, streamer.live.engine, streamer.commands.status, tools.manifest\n"
        "from streamer.journal.lock import FileLock, held\n"
        "session = pathlib.Path(sys.argv[1])\n"
        "with FileLock(session):\n"
        "    print(held(session))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "s.sqlite"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"  # nobody can tell
