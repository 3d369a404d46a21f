"""The network on a server: `RemoteModel` knows which and where, `RemoteSession` keeps one stream's past here.

The server remembers nothing. What it has not been told while it was away is kept and told first, so that the
past, and all that is staged from then on, is what it would have been had the server never been away.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from streamer.errors import ModelServerError
from streamer.messages import EPOCH_SAMPLES, Window
from streamer.network.contract import Contract
from streamer.network.staging import Staged, softmax
from streamer.remote import stateless
from streamer.remote.client import ModelServer
from streamer.remote.kserve import Tensors
from streamer.remote.settings import RemoteSettings
from streamer.spectrogram import BINS
from streamer.window import COLUMNS

if TYPE_CHECKING:
    from streamer.network.stager import Model

# What the network remembers reaches back through at most 4 layers of 39 epochs: after this many, what lies
# before makes no difference. 4.3 MB.
OWED_EPOCHS = 160
_LOST = np.zeros(EPOCH_SAMPLES, np.float32), np.zeros((COLUMNS, BINS), np.float32)


class RemoteModel:
    """The weights that `contract` describes, on a server; with `local` here too, for when that is away."""

    def __init__(
        self, contract: Contract, server: ModelServer, settings: RemoteSettings, local: Model | None = None
    ) -> None:
        self.contract = contract
        self.server = server
        self.patience_s = settings.timeout_s  # for what is owed, before a window is due
        self._local = local

    def session(self) -> RemoteSession:
        """Return the memory of a stream that has seen nothing."""
        return RemoteSession(self)

    def close(self) -> None:
        """Let go of the connection."""
        self.server.close()

    def memory_shape(self) -> tuple[int, ...]:
        """One stream's memory.

        Raises:
            ModelServerError: the server is away, and there is no local model.

        """
        return self.server.memory_shape() if self._local is None else stateless.memory_shape(self._local)

    def step(self, given: Tensors, wanted: tuple[str, ...]) -> tuple[Tensors, str]:
        """Take one step of one stream; and what was wrong with the server, if it was taken here.

        Raises:
            ModelServerError: the server is away, and there is no local model.

        """
        try:
            self.server.memory_shape()
            return self.server.infer(given, wanted), ""
        except ModelServerError as error:
            if self._local is None:
                raise
            return stateless.step(self._local, given), f"{error}; the network runs here meanwhile"


class RemoteSession:
    """One sleeper's stream.

    Attributes:
        memory: the committed past as the server gave it, 160 kB for the packaged model; empty at first.
        epochs_seen: committed with data, lost ones not counted.

    """

    def __init__(self, model: RemoteModel) -> None:
        self._model = model
        self.together = None  # the server sees to that
        self.memory = np.zeros(0, np.float32)  # (1, ...) of the model's shape, once that is known
        self._seen = np.zeros((1, 1), np.int64)
        self._owed: deque[Window | None] = deque(maxlen=OWED_EPOCHS)  # committed, not yet told; None: lost
        self._trouble = ""  # at the last step
        self.epochs_seen = 0

    def score(self, window: Window, usable: bool) -> Staged:
        """Stage the last 30 s; see `StagingSession`. Blocks for at most twice the server's `timeout_s`."""
        committed = window.epoch is not None
        if committed:
            self._owed.append(window if usable else None)
        logits = None
        try:
            if committed or usable:
                logits = self._tell()
            if usable and not committed:
                logits = self._step(window, (stateless.LOGITS,))[stateless.LOGITS]
        except ModelServerError as error:
            logits, self._trouble = None, str(error)
        warmup = self.epochs_seen < self._model.contract.warmup_epochs
        return Staged(
            softmax(logits[0].tolist()) if logits is not None and usable else None, warmup, self._trouble
        )

    def _tell(self) -> NDArray[np.float32] | None:
        """Commit what is owed, oldest first; the logits of the last, or None where nothing is owed."""
        until = time.monotonic() + self._model.patience_s
        logits = None
        while self._owed:
            if logits is not None and time.monotonic() > until:
                raise ModelServerError(f"the model server is back; {len(self._owed)} epochs to catch up")
            answer = self._step(self._owed[0], (stateless.LOGITS, stateless.MEMORY, stateless.SEEN))
            self.memory, self._seen = answer[stateless.MEMORY], answer[stateless.SEEN]
            logits = answer[stateless.LOGITS]
            self.epochs_seen += self._owed.popleft() is not None
        return logits

    def _step(self, window: Window | None, wanted: tuple[str, ...]) -> Tensors:
        if not self.memory.size:
            self.memory = np.zeros((1, *self._model.memory_shape()), np.float32)
        samples, spectrogram = _LOST if window is None else (window.samples, window.spectrogram)
        given = {
            stateless.RAW: samples[None],
            stateless.SPECTRUM: spectrogram[None],
            stateless.PRESENT: np.full((1, 2), window is not None),
            stateless.MEMORY_IN: self.memory,
            stateless.SEEN_IN: self._seen,
        }
        answer, self._trouble = self._model.step(given, wanted)
        return answer
