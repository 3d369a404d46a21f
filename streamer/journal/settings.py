"""What the `[storage]` table may say."""

from __future__ import annotations

from pydantic import Field

from streamer.tables import Table


class StorageSettings(Table):
    """Scores, events and reports are kept for ever; raw samples as long as this says, for ever by default."""

    pack: bool = True  # the samples of nights that have ended, without loss
    nights: int | None = Field(None, ge=1, le=36_600)  # of each sleeper, whose samples are kept
    gb: float | None = Field(None, gt=0, le=1e6)  # of samples of all sleepers together; the newest are kept

    @property
    def bounded(self) -> bool:
        """Whether samples are let go some day."""
        return self.nights is not None or self.gb is not None
