"""The bell: a terminal that is stopped, closed or gone holds up nobody who rings."""

import sys
import threading

import pytest

from streamer.errors import OutputError
from streamer.reactions import bell


class Terminal:
    """Takes a bell when it is let go on."""

    def __init__(self):
        self.rung, self.goes_on = threading.Semaphore(0), threading.Event()

    def write(self, text):
        assert self.goes_on.wait(60)
        assert text == "\a"
        self.rung.release()

    def flush(self):
        pass

    def fileno(self):
        raise OSError


def free():
    """Wait until no bell is stuck."""
    assert bell._ringing.acquire(timeout=60)
    bell._ringing.release()


def test_a_stopped_terminal_holds_up_nobody_and_rings_once_when_it_goes_on(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for _ in range(5):
        bell.ring()
    terminal.goes_on.set()
    assert terminal.rung.acquire(timeout=60)
    free()
    assert not terminal.rung.acquire(blocking=False)
    bell.ring()
    assert terminal.rung.acquire(timeout=60)
    free()


@pytest.mark.parametrize("error", [OutputError("no reader"), OSError(5, "gone"), ValueError("closed")])
def test_a_terminal_that_is_gone_is_nobody_s_trouble(monkeypatch, error):
    class Gone(Terminal):
        def write(self, text):
            raise error

    monkeypatch.setattr(sys, "stderr", Gone())
    for _ in range(2):
        bell.ring()
        free()
