"""`sleepstream run` with two things added: a wall clock that a file can set, and a witness of every sample.

The steps are faked at the engine's one clock seam, because setting the machine's clock would hit everyone.
The witness notes when each sample was handed to the journal, so that what a death may cost is judged by what
this very process had received, however fast or slow the machine is.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
from pathlib import Path
from types import ModuleType

from streamer import cli
from streamer.clock import SystemClock
from streamer.commands import driving
from streamer.journal import Journal
from streamer.live import sleeper
from streamer.messages import Chunk, Item
from streamer.sources import lsl
from tests.chaos.outlet import BUFFER_S

STEP_FILE = "clock-step"  # in the folder of the configuration: seconds by which the wall clock is wrong
STEADY_FILE = "steady-step"  # likewise: seconds by which the steady clock is ahead
WITNESS_FILE = "handed-{pid}"  # likewise: what the process with this number was given, and when
NOTE = struct.Struct("dd")  # the device's number of the newest sample; steady seconds
COUNTER = 1  # the channel in which every sample tells its number


class SteppedClock(SystemClock):
    """The machine's clocks, off by what the files say: time passes, or the wall clock alone is set."""

    folder: Path

    def wall(self) -> float:
        """Unix time, seconds."""
        return super().wall() + self._step(STEP_FILE) + self._step(STEADY_FILE)

    def monotonic(self) -> float:
        """Seconds that never jump, but here do: hours pass in no time."""
        return super().monotonic() + self._step(STEADY_FILE)

    def _step(self, name: str) -> float:
        try:
            return float((self.folder / name).read_text(encoding="ascii") or 0)
        except FileNotFoundError:
            return 0.0


class WitnessedJournal(Journal):
    """A journal whose samples are noted elsewhere, too, at the moment in which they are handed over."""

    descriptor: int

    def record(self, item: Item) -> None:
        """Take an item, and note its last sample; what `write` was given outlives the process."""
        super().record(item)
        if isinstance(item, Chunk) and item.samples.shape[1]:
            os.write(self.descriptor, NOTE.pack(item.samples[COUNTER, -1], SystemClock().monotonic()))


def _put(ours: type, module: ModuleType, name: str) -> None:
    """Have a module use a class of ours; it has to use the original, or nobody would be witnessed."""
    assert issubclass(ours, getattr(module, name))
    setattr(module, name, ours)


CLOCK = SteppedClock, driving, "SystemClock"
JOURNAL = WitnessedJournal, sleeper, "Journal"

if __name__ == "__main__":
    folder = Path(sys.argv[1]).parent
    SteppedClock.folder = folder
    _put(*CLOCK)
    witness = folder / WITNESS_FILE.format(pid=os.getpid())
    WitnessedJournal.descriptor = os.open(witness, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    _put(*JOURNAL)
    lsl.BUFFER_S = BUFFER_S
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever started the chaos may be under `nohup`
    sys.exit(cli.main(["run", sys.argv[1], *([] if sys.stdout.isatty() else ["--log", "json"])]))
