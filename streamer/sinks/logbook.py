"""Writes one log line per event, for services: plain text or JSON, on standard output."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal, TextIO

from streamer.errors import explain
from streamer.host.printable import printable
from streamer.news import MqttStatus, News, Opened, Remark
from streamer.payloads import EventPayload
from streamer.sinks.handover import Aside

Style = Literal["text", "json"]
BAD = {"error": "ERROR", "warning": "WARNING", "no_signal": "WARNING", "refused": "WARNING", "gap": "WARNING"}
log = logging.getLogger(__name__)


class Logbook:
    """A sink that writes a line for each event and each remark. It does not rotate the log.

    Stages are left out: there are too many of them. Control characters in any text are escaped.

    Args:
        out: where the lines go.
        style: "text", or "json" with one object a line: t, level, stream, event, text, and the event's data.

    """

    name = "the log"
    wants: tuple[type, ...] = (Opened, EventPayload, MqttStatus, Remark)
    prompt = False

    def __init__(self, out: TextIO, style: Style) -> None:
        self._out = out
        self._style = style
        self._utf8 = (out.encoding or "utf-8").lower().replace("-", "") == "utf8"

    def hear(self, stream: str, news: News) -> None:
        """Write a line for the news.

        Raises:
            OutputError: the line could not be written.

        """
        match news:
            case EventPayload():
                level = BAD.get(news.event, "INFO")
                self._line(level, stream, news.event, news.text, {"seq": news.seq, **news.data})
            case Remark():
                self._line(news.level, stream, news.name, news.text, {}, news.trace)
            case Opened(info, channel, session):
                self._line(
                    "INFO", stream, "open", f"{info.name}, channel {channel}", {"session": str(session)}
                )
            case MqttStatus():
                text = news.last_error or f"connected, MQTT {news.protocol}"
                more = {"connected": news.connected, "backlog": news.backlog}
                self._line("WARNING" if news.last_error else "INFO", stream, "broker", text, more)
            case _:
                pass

    def _line(
        self, level: str, stream: str, event: str, text: str, data: Mapping[str, object], trace: str = ""
    ) -> None:
        if self._style == "json":
            line = self._object(level, stream, event, f"{text}\n{trace}" if trace else text, data)
        else:
            more = " ".join(f"{key}={value}" for key, value in data.items())
            parts = (level, stream, f"{event}:", text, f"({more})" * bool(more))
            line = printable(" ".join(part for part in parts if part))
            for part in trace.splitlines():  # indented, to show that it belongs to the line above
                line += f"\n  {printable(part)}"
        self._out.write(line + "\n")
        self._out.flush()

    def _object(self, level: str, stream: str, event: str, text: str, data: Mapping[str, object]) -> str:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        fields = {"t": now, "level": level, "stream": stream, "event": event, "text": text}
        # Given twice: they come first, and the data of an event cannot replace them.
        line = json.dumps({**fields, **data, **fields}, ensure_ascii=not self._utf8)
        return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in line)


class Remarks(logging.Handler):
    """Passes Python's log records to a sink with its own thread, so that logging never blocks."""

    def __init__(self, out: Aside) -> None:
        super().__init__()
        self._out = out
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand over a record, or the error of formatting it."""
        trace = ""
        try:
            text = record.getMessage()
            if record.exc_info:
                trace = self._formatter.formatException(record.exc_info)
        except Exception as error:  # a record's arguments may be anything
            text = f"a remark that cannot be formatted: {explain(error)}"
        self._out.hear("", Remark(record.levelname, record.name, text, trace))

    def handleError(self, record: logging.LogRecord) -> None:  # its name is Python's
        """Do nothing: standard error may be what failed."""


@contextmanager
def collect_remarks(out: Aside) -> Iterator[None]:
    """Send Python's logging, warnings and uncaught errors to a sink instead of standard error."""
    root, shown = logging.getLogger(), Remarks(out)
    before, hooks = root.handlers[:], (threading.excepthook, sys.unraisablehook)
    root.handlers[:] = [shown]
    logging.captureWarnings(True)
    threading.excepthook, sys.unraisablehook = _thread_failed, _unraisable
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = hooks
        logging.captureWarnings(False)
        root.handlers[:] = before


def _thread_failed(what: threading.ExceptHookArgs) -> None:
    if what.exc_value is not None:
        name = what.thread.name if what.thread is not None else "?"
        log.error("thread %s has ended: %s", name, explain(what.exc_value), exc_info=what.exc_value)


def _unraisable(what: sys.UnraisableHookArgs) -> None:
    if what.exc_value is not None:
        log.error("ignored in %r: %s", what.object, explain(what.exc_value), exc_info=what.exc_value)
