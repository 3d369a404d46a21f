"""Every transaction waits for the disk: counted by the system calls themselves."""

import re
import shutil
import subprocess
import sys

import pytest

from streamer.journal import file as session_file
from streamer.journal.file import Batch, Block
from tests.journals import META, chunk

TRANSACTIONS = 6
STRACE = shutil.which("strace")


def transactions(path, synchronous):
    """What the child does: a session file, and some transactions of a second each."""
    db = session_file.create(path, META)
    if synchronous is not None:
        db.execute(f"PRAGMA synchronous = {synchronous}")
    pen = db.cursor()
    for second in range(TRANSACTIONS):
        samples = chunk(second * 256, 256).samples.astype("<f4")
        session_file.write(pen, Batch(blocks=[Block(second * 256, 0.0, 0.0, samples)]))
        print(f"committed {second}", flush=True)
    db.close()


def traced(folder, synchronous=""):
    """For each transaction, the writes to the log that no sync followed before it counted as committed."""
    assert STRACE
    path = folder / f"s{synchronous}.sqlite"
    command = [sys.executable, "-m", "tests.journal.test_fsync", str(path), synchronous]
    calls = "trace=write,pwrite64,fsync,fdatasync"
    ran = subprocess.run(
        [STRACE, "-f", "-y", "-e", calls, *command], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    unsynced, found = 0, []
    for line in ran.stderr.splitlines():
        if re.search(r"pwrite64\(\d+<[^>]*-wal>", line):
            unsynced += 1
        elif re.search(r"f(data)?sync\(\d+<[^>]*-wal>", line):
            unsynced = 0
        elif "committed" in line:
            found.append(unsynced)
    return found


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_no_transaction_is_done_before_its_bytes_are_on_disk(tmp_path):
    assert traced(tmp_path) == [0] * TRANSACTIONS
    careless = traced(tmp_path, "NORMAL")
    assert len(careless) == TRANSACTIONS
    assert all(careless), "the test would see a commit without a sync"


if __name__ == "__main__":
    from pathlib import Path

    transactions(Path(sys.argv[1]), sys.argv[2] or None)
