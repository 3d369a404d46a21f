"""Everything that sets the shape of the network, and the sizes that have a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Views = Literal["both", "raw", "spectrum"]
BANDS_HZ = (0.5, 4.0, 8.0, 12.0, 16.0, 30.0)  # delta, theta, alpha, sigma, beta


@dataclass(frozen=True)
class Size:
    """The shape of one network."""

    name: str
    width: int  # D, of every token
    channels: tuple[int, ...]  # of the raw blocks; (): the raw view has no waveform
    convolutions: tuple[int, ...]  # per raw block
    bins: int  # spectrum bins used, from the lowest (bin k is k * 100 / 256 Hz)
    spectrum_layers: int
    sequence_layers: int
    heads: int
    feedforward: int
    context: int = 40  # epochs each attention reaches back, its own included
    dropout: float = 0.1
    causal: bool = True  # False: attention reaches as far ahead as back; for measuring, it cannot be streamed
    views: Views = "both"
    level_hz: tuple[float, ...] = ()  # edges of the bands whose absolute power the raw view reads; (): none
    bands_hz: tuple[float, ...] = ()  # of those that the spectrum is pooled into; (): bins as they are
    frame_width: int = 0  # channels of the convolutions over the frames of the spectrum's view; 0: none
    trailing_epochs: int = 0  # over which the spectrum is standardised, as a time constant; 0: fixed scales

    @property
    def ahead(self) -> int:
        """Epochs of the future that attention sees."""
        return 0 if self.causal else self.context - 1


SIZES = {
    "base": Size("base", 128, (64, 128, 192, 256, 256), (2, 2, 3, 3, 3), 128, 4, 4, 8, 1024),
    "small": Size("small", 64, (8, 16, 32, 48, 64), (1, 1, 2, 2, 2), 90, 2, 2, 4, 192, bands_hz=BANDS_HZ),
}
