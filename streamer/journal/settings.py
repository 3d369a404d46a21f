"""The `[storage]` table."""

from __future__ import annotations

from pydantic import Field

from streamer.tables import Table


class StorageSettings(Table):
    """How long raw samples are kept: for ever by default. Scores, events and reports are always kept."""

    pack: bool = True  # pack the samples of ended nights, without loss
    nights: int | None = Field(None, ge=1, le=36_600)  # keep the samples of so many nights of each sleeper
    gb: float | None = Field(None, gt=0, le=1e6)  # keep so many GB of samples of all sleepers, the newest

    @property
    def bounded(self) -> bool:
        """Whether samples are deleted at some time."""
        return self.nights is not None or self.gb is not None
