"""How many files a sample passes between a recording and its publication: few enough to be read."""

import inspect
import sys
import threading
from collections import Counter
from pathlib import Path

from streamer.cli import main
from tests.paths import eeg
from tests.test_cli import write_edf

ROOT = Path(__file__).parents[1] / "streamer"
WAITS = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR  # these only drive what handles the sample
FIRST, LAST = 10, 40  # windows between which is counted: past the start, before the end
DISK = "journal"  # in the name of the thread that writes: how often depends on the time, not on the samples


class Way:
    """Counts calls of the engine's functions while windows are scored: file -> calls."""

    def __init__(self):
        self.calls = Counter()
        self.windows = 0

    def __call__(self, frame, event, _):
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(str(ROOT)) or code.co_flags & WAITS:
            return
        self.windows += code.co_qualname == "Publisher.score"
        if FIRST <= self.windows < LAST and DISK not in threading.current_thread().name:
            self.calls[Path(code.co_filename).relative_to(ROOT)] += 1

    def files(self):
        """Those that are passed for at least every other window; others are there for a clock's sake."""
        return sorted(path for path, calls in self.calls.items() if 2 * calls >= LAST - FIRST)


def test_a_sample_passes_fewer_than_thirty_files_in_six_folders_and_the_top(tmp_path):
    recording = write_edf(tmp_path / "night.edf", eeg(30 * (LAST + 5), 100))
    way = Way()
    before = sys.getprofile()
    threading.setprofile(way)
    sys.setprofile(way)
    try:
        assert main(["replay", str(recording), "--out", str(tmp_path / "out")]) == 0
    finally:
        sys.setprofile(before)
        threading.setprofile(before)
    assert way.windows > LAST
    files = way.files()
    assert {Path("pipeline.py"), Path("sinks/publisher.py")} <= set(files)
    assert len(files) < 30, "\n".join(map(str, files))
    assert len({path.parent for path in files} - {Path()}) <= 6, "\n".join(map(str, files))
