"""The network at work: `Model` holds weights that all streams share, `Session` the memory of one of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from streamer.errors import ArtifactError
from streamer.messages import EPOCH_SAMPLES, Window
from streamer.network.artifact import GRAPHS, WARMUP_CALLS, load_network
from streamer.network.contract import Contract, contract_inside
from streamer.network.onnx import OnnxNetwork, with_onnx
from streamer.network.staging import Staged, Together, softmax
from streamer.network.stepper import Stepper, TorchStepper
from streamer.network.torchscript import with_torch
from streamer.network.trust import PACKAGED, read_trusted
from streamer.settings import Precision, Runtime
from streamer.spectrogram import BINS, FRAMES

PRESENT = {
    usable: np.full((1, 2), usable) for usable in (False, True)
}  # both views; where not, they are masked


class Model:
    """A loaded artifact: network and contract. Holds no state of any stream."""

    def __init__(self, network: Any, contract: Contract, device: torch.device) -> None:
        self.network = network  # its methods come out of the artifact: no type checker knows them
        onnx = isinstance(network, OnnxNetwork)
        self.stepper: Stepper = network.stepper if onnx else TorchStepper(network, device)
        self.contract = contract
        self.device = device

    @classmethod
    def load(
        cls,
        path: Path | None = None,
        device: str = "cpu",
        threads: int = 1,
        runtime: Runtime = "auto",
        precision: Precision = "float32",
        *,
        sha256: str | None = None,
        trusted: bool = False,
    ) -> Model:
        """Load an artifact, the packaged one by default, check it against its contract and warm it up.

        Args:
            path: of the file; another than the packaged one needs one of the last two.
            device: cpu or cuda.
            threads: what the network may use in this process.
            runtime: of the live methods; auto: ONNX Runtime on a CPU if the artifact has graphs for it.
            precision: of products; other than float32 with TorchScript only.
            sha256: that the file must have.
            trusted: whether any file will do.

        Raises:
            ArtifactError: in one line; nothing in the file was run unless somebody vouches for it.

        """
        data, source = read_trusted(path, sha256, trusted), path or PACKAGED
        contract = contract_inside(data, source)
        where = _device(device)
        torch.set_num_threads(threads)
        network = load_network(data, source, contract, where)
        if runtime == "auto":
            graphs = set(contract.graphs_sha256) == set(GRAPHS)
            onnx = graphs and where.type == "cpu" and precision == "float32"
            runtime = "onnx" if onnx else "torchscript"
        if runtime == "torchscript":
            network = with_torch(network, where, precision)
        elif precision == "float32":
            network = with_onnx(network, data, source, contract, where, threads)
        else:
            raise ArtifactError(f"precision {precision!r}: runtime onnx has float32 only; use torchscript")
        model = cls(network, contract, where)
        model._warm_up()
        return model

    def session(self) -> Session:
        """Return the memory of a stream that has seen nothing."""
        return Session(self)

    def close(self) -> None:
        """Memory is all it holds."""

    def _warm_up(self) -> None:
        session = self.session()
        silence = np.zeros(EPOCH_SAMPLES, np.float32)
        columns = np.zeros((FRAMES, BINS), np.float32)
        for epoch in range(WARMUP_CALLS):
            session.score(Window(EPOCH_SAMPLES * (epoch + 1), epoch, silence, columns), usable=True)


class Session:
    """One sleeper's stream: the committed past of the network, fixed in size."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget the night so far."""
        self._past: Any = self._model.stepper.start()
        self.epochs_seen = 0  # committed with data, lost ones not counted

    def score(self, window: Window, usable: bool) -> Staged:
        """Stage the last 30 s.

        Off the 30 s grid (`window.epoch is None`) the committed past is read and left as it is. A window that
        is not `usable` gives no probabilities; on the grid it is committed as a lost epoch. Blocks for a
        millisecond or so: call it from a worker thread.
        """
        with self._lock:
            committed = window.epoch is not None
            probabilities = None
            if usable or committed:
                stepper = self._model.stepper
                tokens = stepper.encode(window.samples[None], window.spectrogram[None])
                logits, after = stepper.step(tokens, PRESENT[usable], self._past)
                if usable:
                    probabilities = softmax(logits[0].tolist())
                if committed:
                    self._past = after()
                    self.epochs_seen += usable
            return Staged(probabilities, self._warmup)

    @property
    def together(self) -> Together:
        """What stages windows of several streams in one pass."""
        return score_together

    @property
    def _warmup(self) -> bool:
        return self.epochs_seen < self._model.contract.warmup_epochs


def score_together(asked: Sequence[tuple[Session, Window]]) -> list[Staged]:
    """Stage usable windows off the 30 s grid, each of another stream of one model, in one pass.

    Probabilities differ from those of `Session.score` by the last bits, because matrix products add up in
    another order when there are more rows: by 3e-7 with the packaged model, 1e-5 is promised. No past is
    changed, so what is committed later is, to the bit, what it would have been.
    """
    stepper = asked[0][0]._model.stepper
    raw = np.stack([window.samples for _, window in asked])
    spectra = np.stack([window.spectrogram for _, window in asked])
    past = stepper.joined([session._past for session, _ in asked])
    logits, _ = stepper.step(stepper.encode(raw, spectra), np.ones((len(asked), 2), np.bool_), past)
    rows = map(softmax, logits.tolist())
    return [Staged(row, session._warmup) for row, (session, _) in zip(rows, asked, strict=True)]


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ArtifactError(f"device {name!r}: unknown; use cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ArtifactError(f"device {name!r}: torch finds no CUDA device here; use cpu")
    return device
