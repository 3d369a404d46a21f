"""One line of log for each event, for services: plain text or JSON, on standard output."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Literal

from streamer.messages import StreamInfo
from streamer.payloads import EventPayload, StagePayload
from streamer.sinks.mqtt import MqttStatus

Style = Literal["text", "json"]
BAD = {"error": "ERROR", "warning": "WARNING", "no_signal": "WARNING", "refused": "WARNING", "gap": "WARNING"}


class Logbook(logging.Handler):
    """Watches an engine, and takes Python's own log records; rotation is left to who reads the lines.

    Args:
        out: where the lines go.
        style: "text", or "json" with one object a line: t, level, stream, event, text, and the event's data.

    """

    def __init__(self, out: IO[str], style: Style) -> None:
        super().__init__()
        self._out = out
        self._style = style

    def started(self, stream: str, info: StreamInfo, channel: str, session: Path) -> None:
        """A stream is open."""
        self._line("INFO", stream, "open", f"{info.name}, channel {channel}", {"session": str(session)})

    def staged(self, stream: str, payload: StagePayload) -> None:
        """Stages are for MQTT; a log of them would hide everything else."""

    def happened(self, stream: str, payload: EventPayload) -> None:
        """Write an event."""
        level = BAD.get(payload.event, "INFO")
        self._line(level, stream, payload.event, payload.text, {"seq": payload.seq, **payload.data})

    def broker(self, status: MqttStatus) -> None:
        """The connection to the broker has come, gone or failed."""
        text = f"connected, MQTT {status.protocol}" if status.connected else status.last_error
        more = {"connected": status.connected, "backlog": status.backlog}
        self._line("INFO" if status.connected else "WARNING", "", "broker", text, more)

    def emit(self, record: logging.LogRecord) -> None:
        """Write what the program itself has to say, with its traceback."""
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        self._line(record.levelname, "", record.name, text, {})

    def _line(self, level: str, stream: str, event: str, text: str, data: Mapping[str, object]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        if self._style == "json":
            fields = {"t": now, "level": level, "stream": stream, "event": event, "text": text}
            line = json.dumps(
                {**fields, **data, **fields}, ensure_ascii=False
            )  # those first, and as said here
        else:
            more = " ".join(f"{key}={value}" for key, value in data.items())
            line = " ".join(
                part for part in (level, stream, f"{event}:", text, f"({more})" * bool(more)) if part
            )
        print(line, file=self._out, flush=True)
