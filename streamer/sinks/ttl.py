"""Writes triggers as bytes to a serial port, for an amplifier's trigger input, or to a file.

A USB adapter or trigger box puts each byte on its output lines; after `pulse_ms` a zero follows. A port that
hangs blocks only the sink's own thread.
"""

from __future__ import annotations

import json
import time
from collections import deque
from io import FileIO
from pathlib import Path
from typing import Any, Self

from streamer.errors import SinkError
from streamer.host import private
from streamer.news import News
from streamer.payloads import EventPayload
from streamer.sinks.codes import encode_event
from streamer.sinks.settings import TtlSettings

KEPT = 4096  # latencies that are kept
WRITE_S = 1.0  # longest time to write a byte


class TtlSink:
    """A sink, and a context manager that closes port and file.

    Attributes:
        late_ms: of the last bytes, how long after it was due each was written.

    """

    name = "TTL"
    wants: tuple[type, ...] = (EventPayload,)
    prompt = False

    def __init__(self, settings: TtlSettings) -> None:
        self._settings = settings
        self._port: Any = None  # serial.Serial; pyserial is untyped
        self._file: FileIO | None = None
        self.late_ms: deque[float] = deque(maxlen=KEPT)

    def __enter__(self) -> Self:
        """Open port and file now, not only at the first trigger.

        Raises:
            SinkError: the port or the file cannot be opened; each trigger tries again.

        """
        self._open()
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def hear(self, stream: str, news: News) -> None:
        """Write a trigger's code.

        Raises:
            SinkError: it cannot be written; it is not written later, because it would be too late.

        """
        if not isinstance(news, EventPayload) or news.event != "trigger":
            return
        self._open()
        made = encode_event(news)
        self._write(made.code)
        written = time.time()
        late_ms = round((written - made.due) * 1000, 3)
        self.late_ms.append(late_ms)
        if self._file is not None:
            line = {"t": written, "code": made.code, "number": made.number, "condition": made.condition}
            self._file.write((json.dumps({**line, "due": made.due, "late_ms": late_ms}) + "\n").encode())
        if self._port is not None and self._settings.pulse_ms:
            time.sleep(self._settings.pulse_ms / 1000)
            self._write(0)

    def _write(self, code: int) -> None:
        """Write a byte to the port, if there is one."""
        if self._port is None:
            return
        try:
            self._port.write(bytes([code]))
            self._port.flush()
        except OSError as error:  # pyserial's exceptions are OSErrors
            self._close()
            raise SinkError(f"cannot write to {self._settings.port}: {error}; plug it in again") from error

    def _open(self) -> None:
        settings = self._settings
        if settings.port is not None and self._port is None:
            self._port = _opened(settings.port, settings.baud)
        if settings.file is not None and self._file is None:
            self._file = _created(settings.file)

    def _close(self) -> None:
        port, self._port = self._port, None
        file, self._file = self._file, None
        if port is not None:
            port.close()
        if file is not None:
            file.close()


def _opened(port: str, baud: int) -> Any:
    try:
        import serial  # optional, so imported only when a port is used
    except ImportError as error:
        raise SinkError(
            "[stream.ttl] port needs pyserial, which is not installed; install the extra serial (in the "
            "checkout: pip install '.[serial]')"
        ) from error
    try:
        return serial.Serial(port, baud, timeout=0, write_timeout=WRITE_S, exclusive=True)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise SinkError(
            f"cannot open serial port {port}: {why}; is it plugged in, and are you in the group dialout?"
        ) from error


def _created(path: Path) -> FileIO:
    try:
        private.make_folder(path.parent)
        return FileIO(path, "a", opener=private.opener)
    except OSError as error:
        raise SinkError(f"cannot open {path}: {error.strerror}; choose another file") from error
