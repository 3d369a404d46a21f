"""Decides when a night is over, without clock or I/O."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import tzinfo

from streamer.messages import EPOCH_S
from streamer.news import News
from streamer.night.daytime import next_time
from streamer.night.settings import NightSettings
from streamer.payloads import EpochPayload, EventPayload

LIGHTS_ON = "lights on"


class Ending:
    """Decides when a session's night is over; a sink of the session's epochs and lights.

    Positions are seconds of the session, by a steady clock. The wall clock is used for the time of day only,
    and the night's start is computed from the present wall clock. So setting the clock during a night does
    not end it.

    Args:
        settings: the [night] table.
        zone: time zone of the time of day; None: this machine's.

    """

    name = "the night's end"
    wants: tuple[type, ...] = (EpochPayload, EventPayload)
    prompt = True

    def __init__(self, settings: NightSettings, zone: tzinfo | None = None) -> None:
        self._settings = settings
        self._zone = zone
        self._worn_s = 0.0  # seconds of the recording with a signal
        self._last_worn_s = 0.0  # end of the last epoch with a signal
        self._lights_on_s: float | None = None  # when lights on was marked

    def hear(self, stream: str, news: News) -> None:
        """Note an epoch or an event."""
        if isinstance(news, EpochPayload):
            if news.quality.grade != "off":
                self._worn_s += EPOCH_S
                self._last_worn_s = max(self._last_worn_s, float((news.epoch + 1) * EPOCH_S))
        elif isinstance(news, EventPayload) and news.event == "lights_on":
            self._lights_on_s = news.at_s or 0.0
        elif isinstance(news, EventPayload) and news.event == "lights_off":
            self._lights_on_s = None

    @property
    def worn_s(self) -> float:
        """End of the last epoch with a signal, in seconds after sample 0."""
        return self._last_worn_s

    def restore(self, epochs: Iterable[EpochPayload], events: Iterable[EventPayload]) -> None:
        """Note the epochs and events of a session that an earlier process began."""
        for epoch in epochs:
            self.hear("", epoch)
        for event in events:
            self.hear("", event)

    def due(self, at_s: float, wall: float) -> str:
        """Return why the night is over, or "" if it is not.

        Args:
            at_s: present position of the session, in seconds after sample 0.
            wall: present Unix time, s.

        """
        wants = self._settings
        lit_s = self._lights_on_s
        if wants.lights_on and lit_s is not None and lit_s >= 60 * wants.lights_on_after_min:
            return LIGHTS_ON
        off_s = at_s - self._last_worn_s
        enough = self._worn_s >= 3600 * wants.after_h
        if wants.off_min and enough and off_s >= 60 * wants.off_min:
            return f"the band was off or silent for {wants.off_min:g} min"
        if wants.off_anyway_h and off_s >= 3600 * wants.off_anyway_h:
            return f"the band was off or silent for {wants.off_anyway_h:g} h"
        if wants.at != "never" and wall >= self._closing(wall - at_s):
            return f"it is {wants.at:%H:%M}"
        return ""

    def _closing(self, began: float) -> float:
        """Unix time at which the configured time of day ends a night that began at `began`."""
        assert self._settings.at != "never"
        return next_time(self._settings.at, began + 3600 * self._settings.after_h, self._zone)
