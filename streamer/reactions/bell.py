"""The terminal's bell, rung in its own thread: a stopped terminal must not block the alarm."""

from __future__ import annotations

import sys
import threading

from streamer.errors import OutputError
from streamer.host.standard import unbuffer

_ringing = threading.Lock()


def ring() -> None:
    """Ring once, without waiting. Does nothing while the last ring is stuck in a stopped terminal."""
    if _ringing.acquire(blocking=False):
        try:
            threading.Thread(target=_ring, name="bell", daemon=True).start()
        except RuntimeError:  # no thread is to be had
            _ringing.release()


def _ring() -> None:
    try:
        unbuffer(sys.stderr).write("\a")
    except (OSError, ValueError, OutputError):  # the terminal is gone, or closed
        return
    finally:
        _ringing.release()
