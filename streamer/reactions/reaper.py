"""Waits for the end of its input, then kills the process groups that were added and not removed.

It is run as a separate program (see leash.py), so it imports nothing of sleepstream.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main() -> None:
    """Read lines of +GROUP and -GROUP until the writer has ended."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
