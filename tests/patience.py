"""Deadlines after which the engine gives up on a disk, a broker or a thread, or thins its stages: far off.

They are chosen for machines that work and people who wait. A machine that tests may stand still for seconds,
and a test that is about something else must not fail of that. A test of a deadline sets it itself.
"""

from __future__ import annotations

from importlib import import_module

PATIENCE_S = 60.0
DEADLINES = (
    "streamer.doctor.examination.WAIT_S",
    "streamer.host.standard.LAST_S",
    "streamer.journal.recorder.CLOSE_S",
    "streamer.live.overload.LATE_S",
    "streamer.live.engine.DELIVERY_S",
    "streamer.live.hearers.OUTLETS_S",
    "streamer.live.sleeper.FLUSH_S",
    "streamer.live.supervisor.FLUSH_S",
    "streamer.reactions.alarm_clock.LAST_WRITE_S",
    "streamer.sinks.broker.STALLED_S",
    "streamer.sinks.client.CONNECT_S",
    "streamer.sinks.handover.DRAIN_S",
    "streamer.sinks.mqtt.DRAIN_S",
    "streamer.sinks.mqtt.GOODBYE_S",
    "streamer.sinks.mqtt.STOP_S",
    "streamer.sources.brainflow.CLOSE_S",
    "streamer.sources.lsl.CLOSE_S",
    "streamer.sources.lsl.OPEN_S",
    "streamer.web.server.PATIENCE_S",
)
PROMISED_S: dict[str, float] = {}  # what people get


def be_patient() -> None:
    """Put all of them off, in this process."""
    for path in DEADLINES:
        module, _, name = path.rpartition(".")
        try:
            found = import_module(module)
        except ImportError:  # of an extra that is not installed
            continue
        PROMISED_S[path] = getattr(found, name)
        setattr(found, name, PATIENCE_S)
