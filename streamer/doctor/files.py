"""Checks a recording before it is staged: its channel, its unit, and what will be left out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile

from streamer.doctor.checks import Finding
from streamer.errors import SleepstreamError
from streamer.frontend import FrontEnd
from streamer.messages import Doubt
from streamer.settings import Settings, SignalSettings
from streamer.sources.recordings import open_recording
from streamer.sources.replay import pick
from streamer.sources.settings import ReplaySettings

LOOKED_S = 120  # seconds at its beginning that are read
HOUR_S = 3600


def check_recordings(settings: Settings | None) -> Iterator[Finding]:
    """Check each recording that is a source in the settings."""
    for stream in settings.stream if settings else ():
        if isinstance(stream.source, ReplaySettings):
            yield check_recording(stream.source, stream.signal)


def check_recording(source: ReplaySettings, signal: SignalSettings) -> Finding:
    """Open a recording, and process its first two minutes as the engine will."""
    check = f"recording {source.path.name}"
    try:
        opened = open_recording(source.path, source.rate_hz)
        picked, info = pick(opened, signal.channel)
        front = FrontEnd(info, signal, 30)
        doubts: list[str] = []
        stop = round(LOOKED_S * info.rate_hz)
        for item in takewhile(lambda item: item.start < stop, opened.items(picked)):
            doubts += [out.text for out in front.push(item) if isinstance(out, Doubt)]
    except SleepstreamError as error:
        return Finding(check, "failed", str(error), "correct the stream's settings, or the file")
    hours = f", {opened.duration_s / HOUR_S:.1f} h" if opened.duration_s else ""
    found = f"{front.label}, {info.rate_hz:g} Hz{hours}"
    if doubts:
        return Finding(check, "failed", f"{found}; {doubts[0]}", "set unit under [stream.signal]")
    if opened.remarks:
        return Finding(
            check, "warning", f"{found}; {'; '.join(opened.remarks)}", "it can be staged nevertheless"
        )
    return Finding(check, "ok", found)
