"""Makes the source that the settings name."""

from __future__ import annotations

from collections.abc import Callable

from streamer.channels import Wanted
from streamer.clock import Clock
from streamer.sources.settings import (
    BrainflowSettings,
    LslSettings,
    RdaSettings,
    ReplaySettings,
    SourceSettings,
)
from streamer.sources.source import Source

Opener = Callable[[SourceSettings, Wanted, Clock], Source]


def open_source(settings: SourceSettings, channel: Wanted, clock: Clock) -> Source:
    """Make the source that `settings.kind` names. Its module is imported only then.

    `channel` is the channel to be staged. Of a recording with several rates, the channels with the rate of
    that one are streamed.
    """
    if isinstance(settings, ReplaySettings):
        from streamer.sources.replay import ReplaySource

        return ReplaySource(settings, channel, clock)
    if isinstance(settings, LslSettings):
        from streamer.sources.lsl import LslSource

        return LslSource(settings, clock)
    if isinstance(settings, BrainflowSettings):
        from streamer.sources.brainflow import BrainflowSource

        return BrainflowSource(settings, clock)
    if isinstance(settings, RdaSettings):
        from streamer.sources.rda import RdaSource

        return RdaSource(settings, clock)
    from streamer.sources.simulated import SimulatedSource

    return SimulatedSource(settings, clock)
