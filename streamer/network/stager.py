"""Stages windows with the network: `Model` holds the weights of all streams, `Session` a stream's state."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from streamer.errors import ArtifactError
from streamer.messages import EPOCH_SAMPLES, Window
from streamer.network.artifact import GRAPHS, contract_inside, graphs_inside
from streamer.network.contract import Contract
from streamer.network.onnx import OnnxRunner
from streamer.network.runner import WARMUP_CALLS, Given, Runner
from streamer.network.trust import PACKAGED, read_trusted
from streamer.settings import Device, ModelSettings, Precision, Runtime
from streamer.window import BINS, FRAMES

NVIDIA = (Path("/dev/nvidiactl"), Path("/dev/dxg"))  # CUDA needs one of these devices; WSL has the second


class Staged(NamedTuple):
    """The network's output for one window."""

    probabilities: tuple[float, ...] | None  # in the order of STAGES; None: unscored
    warmup: bool  # the network has had fewer epochs than it needs for full confidence


class Model:
    """A loaded artifact: its runner and its contract. Holds no stream's state."""

    def __init__(self, runner: Runner, contract: Contract) -> None:
        self.runner = runner
        self.contract = contract

    @classmethod
    def load(
        cls,
        path: Path | None = None,
        device: Device = "auto",
        threads: int = 1,
        runtime: Runtime = "auto",
        precision: Precision = "float32",
        *,
        sha256: str | None = None,
        trusted: bool = False,
    ) -> Model:
        """Load an artifact, the packaged one by default, check it against its contract and warm it up.

        Args:
            path: of the file; None: the packaged one. Any other needs `sha256` or `trusted`.
            device: auto: CUDA if torch is installed and finds a GPU, else the CPU.
            threads: the most that the network may use in this process.
            runtime: auto: ONNX Runtime on a CPU if the artifact has graphs for it, else TorchScript.
            precision: of matrix products; other than float32 with TorchScript only.
            sha256: that the file must have.
            trusted: accept any file.

        Raises:
            ArtifactError: the artifact cannot be used. Nothing in an untrusted file is run.

        """
        data, source = read_trusted(path, sha256, trusted), path or PACKAGED
        contract = contract_inside(data, source)
        if device == "auto":
            device = "cuda" if runtime != "onnx" and cuda_is_here() else "cpu"
        if runtime == "auto":
            graphs = set(contract.graphs_sha256) == set(GRAPHS)
            onnx = graphs and device == "cpu" and precision == "float32"
            runtime = "onnx" if onnx else "torchscript"
        if runtime == "torchscript":
            model = cls(_torch(data, source, contract, device, precision, threads), contract)
        else:
            _refuse_beside_onnx(device, precision)
            files = graphs_inside(data, source, contract)
            step, block = (files[name] for name in GRAPHS)
            model = cls(OnnxRunner(step, block, contract.state, threads), contract)
        model._warm_up()
        return model

    def session(self) -> Session:
        """Return a new stream's session."""
        return Session(self)

    def _warm_up(self) -> None:
        session = self.session()
        silence = np.zeros(EPOCH_SAMPLES, np.float32)
        columns = np.zeros((FRAMES, BINS), np.float32)
        for epoch in range(WARMUP_CALLS):
            session.score(Window(EPOCH_SAMPLES * (epoch + 1), epoch, silence, columns), usable=True)


class Session:
    """One stream's state: the network's past of committed epochs, fixed in size."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget the night so far."""
        self._past: Any = self._model.runner.start()
        self.epochs_seen = 0  # committed with data, lost ones not counted

    def score(self, window: Window, usable: bool) -> Staged:
        """Stage the last 30 s.

        Off the 30 s grid (`window.epoch is None`) the past is not changed. A window that is not `usable` gets
        no probabilities; on the grid it is committed as a lost epoch. Blocks for about a millisecond, so it
        belongs in a worker thread.
        """
        with self._lock:
            committed = window.epoch is not None
            probabilities = None
            if usable or committed:
                logits, after = self._model.runner.step(_given([window], [usable]), self._past)
                if usable:
                    probabilities = softmax(logits[0].tolist())
                if committed:
                    self._past = after()
                    self.epochs_seen += usable
            return Staged(probabilities, self._warmup)

    def commit(self, past: Any, usable: bool) -> None:
        """Take the past with an epoch of the 30 s grid in it, which was staged beside other streams'."""
        with self._lock:
            self._past = past
            self.epochs_seen += usable

    def score_block(self, windows: Sequence[Window], usable: Sequence[bool]) -> list[Staged]:
        """Stage consecutive epochs of the 30 s grid at once, as `score` would one by one.

        Probabilities differ from those of `score` in the last bits (by at most 1e-5), because sums over a
        block are added up in another order.
        """
        if not windows:
            return []
        with self._lock:
            logits, self._past = self._model.runner.block(_given(windows, usable), self._past)
            staged = []
            for row, real in zip(logits.tolist(), usable, strict=True):
                self.epochs_seen += real
                staged.append(Staged(softmax(row) if real else None, self._warmup))
            return staged

    @property
    def _warmup(self) -> bool:
        return self.epochs_seen < self._model.contract.warmup_epochs


def score_together(asked: Sequence[tuple[Session, Window, bool]]) -> list[Staged]:
    """Stage windows, each of another stream of one model, in one pass; otherwise as `Session.score`.

    Probabilities differ from those of `Session.score` in the last bits, because matrix products of more rows
    are added up in another order: by 3e-7 with the packaged model, by at most 1e-5. So do the pasts of
    windows on the 30 s grid; all other pasts are not changed.
    """
    runner = asked[0][0]._model.runner
    order = runner.order([session._past for session, _, _ in asked])
    sessions, windows, usable = zip(*[asked[at] for at in order], strict=True)
    logits, after = runner.together(_given(windows, usable), [session._past for session in sessions])
    staged: dict[int, Staged] = {}
    for row, (at, found) in enumerate(zip(order, logits.tolist(), strict=True)):
        session, window, real = asked[at]
        if window.epoch is not None:
            session.commit(after(row), real)
        staged[at] = Staged(softmax(found) if real else None, session._warmup)
    return [staged[at] for at in range(len(asked))]


def open_model(settings: ModelSettings) -> Model:
    """Load the network that the settings ask for. Blocks for a second or so.

    Raises:
        ArtifactError: the artifact cannot be used, or the device or runtime is missing.

    """
    return Model.load(**settings.model_dump())


def softmax(logits: Sequence[float]) -> tuple[float, ...]:
    """Return the probabilities of one window. For five numbers this is faster than numpy."""
    largest = max(logits)
    odds = [math.exp(logit - largest) for logit in logits]
    total = sum(odds)
    return tuple([odd / total for odd in odds])


def cuda_is_here(devices: Sequence[Path] = NVIDIA) -> bool:
    """Return whether torch finds a GPU; torch is imported only if it is installed and a driver is there."""
    if not any(device.exists() for device in devices) or find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def _given(windows: Sequence[Window], usable: Sequence[bool]) -> Given:
    """Stack windows; both views of one that is not usable are masked."""
    present = np.repeat(np.array(usable, np.bool_)[:, None], 2, axis=1)
    if len(windows) == 1:  # the usual case, without a copy
        return Given(windows[0].samples[None], windows[0].spectrogram[None], present)
    samples = np.stack([window.samples for window in windows])
    return Given(samples, np.stack([window.spectrogram for window in windows]), present)


def _torch(
    data: bytes, path: Path, contract: Contract, device: Device, precision: Precision, threads: int
) -> Runner:
    if find_spec("torch") is None:
        asked = "device 'cuda'" if device == "cuda" else f"model {path}: runtime 'torchscript'"
        raise ArtifactError(
            f"{asked}: needs torch, which is not installed; install the extra gpu (in the checkout: "
            "pip install '.[gpu]'), or use device cpu and runtime onnx"
        )
    from streamer.network.torch_loader import find_device, load_runner

    return load_runner(data, path, contract, find_device(device), precision, threads)


def _refuse_beside_onnx(device: Device, precision: Precision) -> None:
    if device != "cpu":
        raise ArtifactError(f"runtime 'onnx' serves the CPU, not {device}; use runtime torchscript")
    if precision != "float32":
        raise ArtifactError(f"precision {precision!r}: runtime onnx has float32 only; use torchscript")
