"""Prepared nights, and batches of sequences of epochs cut from them at any phase of the scoring grid."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from model.augment import NONE, Augmentation, augment, begin, lose_epochs
from streamer.errors import RecordingError
from streamer.messages import EPOCH_SAMPLES, RATE_HZ, STAGES
from streamer.quality import LEAST_REAL
from streamer.window import BINS, FFT_POINTS, FLOOR_UV, FRAME_SAMPLES, FRAMES, HAMMING

UNSCORED = -1
# SleePyCo's subject-wise test folds of Sleep-EDF-78 (Lee et al. 2024).
FOLDS = (
    (0, 1, 2, 3, 4, 5, 6, 7),
    (8, 9, 10, 11, 12, 13, 14, 15),
    (16, 17, 18, 19, 20, 21, 22, 23),
    (24, 25, 26, 27, 28, 29, 30, 31),
    (32, 33, 34, 35, 36, 37, 38, 40),
    (41, 42, 43, 44, 45, 46, 47, 48),
    (49, 50, 51, 52, 53, 54, 55, 56),
    (57, 58, 59, 60, 61, 62, 63, 64),
    (65, 66, 67, 70, 71, 72, 73),
    (74, 75, 76, 77, 80, 81, 82),
)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class PreparedNight:
    """One night behind the engine's conditioner: 100 Hz, 0.3-35 Hz, µV."""

    recording: str
    subject: str
    samples: NDArray[np.float16]  # (n_epochs * 3000,) µV
    stages: NDArray[np.int8]  # (n_epochs,) index into STAGES, -1 where nobody could score
    soft: NDArray[np.float32] | None = None  # (n_epochs, 5) another scorer's probabilities


def save_night(path: Path, night: PreparedNight) -> None:
    """Write a prepared night; it appears whole or not at all."""
    columns = {
        "recording": np.array(night.recording),
        "subject": np.array(night.subject),
        "samples": night.samples,
        "stages": night.stages,
    }
    if night.soft is not None:
        columns["soft"] = night.soft
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **columns)  # type: ignore[arg-type]  # its stub takes the names for options
    partial.replace(path)


def load_night(path: Path) -> PreparedNight:
    """Read a prepared night; RecordingError when columns are missing or do not belong together."""
    with np.load(path, allow_pickle=False) as file:
        missing = {"samples", "stages", "recording", "subject"} - set(file)
        if missing:
            raise RecordingError(f"prepared night {path}: found no {', '.join(sorted(missing))}")
        samples, stages = file["samples"].astype(np.float16), file["stages"].astype(np.int8)
        soft = file["soft"].astype(np.float32) if "soft" in file else None
        if samples.shape != (stages.size * EPOCH_SAMPLES,) or (
            soft is not None and soft.shape != (stages.size, len(STAGES))
        ):
            raise RecordingError(f"prepared night {path}: {samples.shape} samples, {stages.shape} stages")
        return PreparedNight(str(file["recording"]), str(file["subject"]), samples, stages, soft)


def load_nights(folders: Iterable[Path]) -> list[PreparedNight]:
    """Read every night of the folders, in the order of their names."""
    paths = [
        path for folder in folders for path in sorted(folder.glob("*.npz")) if ".partial" not in path.name
    ]
    return [load_night(path) for path in paths]


def fold_of(subject: str) -> int:
    """The fold that tests a person: SleePyCo's for Sleep-EDF's people, for others drawn from their name."""
    for number, subjects in enumerate(FOLDS):
        if subject in {f"{one:02d}" for one in subjects}:
            return number
    return int.from_bytes(sha256(subject.encode()).digest()[:8], "big") % len(FOLDS)


def split(
    nights: Sequence[PreparedNight], fold: int, named: Sequence[str] = ()
) -> tuple[list[PreparedNight], list[PreparedNight]]:
    """Return the nights to train on and the held-out nights.

    Held out are the nights of the fold's test subjects, so that no person is on both sides; or, whatever the
    fold, those `named` by person or recording, which may be only some of a person's nights.

    Raises:
        RecordingError: one of the sides is empty, or a name is unknown.

    """
    known = {name for night in nights for name in (night.subject, night.recording)}
    unknown = [name for name in named if name not in known]
    if unknown:
        there = ", ".join(sorted({f"{night.recording} of {night.subject}" for night in nights})[:8])
        raise RecordingError(
            f"held_out: no prepared night is {', '.join(unknown)}; there are {there or 'none'}"
        )
    chosen = [
        night.subject in named or night.recording in named if named else fold_of(night.subject) == fold
        for night in nights
    ]
    learn = [night for night, out in zip(nights, chosen, strict=True) if not out]
    held_out = [night for night, out in zip(nights, chosen, strict=True) if out]
    if not learn or not held_out:
        what = f"held_out {', '.join(named)}" if named else f"fold {fold}"
        raise RecordingError(
            f"{what}: {len(learn)} prepared nights to learn from, {len(held_out)} held out; training needs "
            "both: give more nights, or name a person or a recording in held_out"
        )
    return learn, held_out


def spectrograms(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute `streamer.window.spectrogram` for many epochs at once: (..., 3000) µV -> (..., 29, 128) dB."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME_SAMPLES, axis=-1)[..., ::RATE_HZ, :]
    spectrum = torch.fft.rfft(torch.from_numpy(frames * HAMMING.astype(np.float32)), FFT_POINTS)[..., 1:]
    decibel: NDArray[np.float32] = (20.0 * torch.log10(spectrum.abs() + FLOOR_UV)).numpy()
    assert decibel.shape[-2:] == (FRAMES, BINS)
    return decibel


def targets(night: PreparedNight, share: float) -> NDArray[np.float32]:
    """Return targets (n_epochs, 5): the expert's, mixed with `share` of the other scorer's; 0 if unscored."""
    hard = np.eye(len(STAGES), dtype=np.float32)[np.maximum(night.stages, 0)]
    mixed = hard if night.soft is None else (1 - share) * hard + share * night.soft
    return np.where(night.stages[:, None] == UNSCORED, np.float32(0), mixed)


class Batch(NamedTuple):
    """Sequences of consecutive epochs; lost samples and frames are NaN."""

    raw: Tensor  # (B, T, 3000) µV
    spectrum: Tensor  # (B, T, 29, 128) dB
    target: Tensor  # (B, T, 5) probabilities, all zero where there is no stage to learn
    present: Tensor  # (B, T, 2) bool, False where an epoch was lost
    tokens: Tensor | None = (
        None  # (B, T, 2, D), where the epochs were embedded before; then no raw, no spectrum
    )
    # (B, T, n, e) how n networks of a teacher embed each epoch, and (n,) which of them these are.
    hints: Tensor | None = None
    asked: Tensor | None = None
    own: Tensor | None = None  # (B, T, 2, D') how a network of ours embeds each epoch

    def to(self, device: torch.device) -> Batch:
        """Move all of it."""
        there = {name: one for name, one in self._asdict().items() if one is not None}
        return Batch(**{name: one.to(device, non_blocking=True) for name, one in there.items()})


@dataclass(frozen=True)
class Cut:
    """How sequences are cut from the nights."""

    epochs: int = 60  # T
    sequences: int = 4  # B
    soft_share: float = 0.5  # of the other scorer in the target
    augmentation: Augmentation = NONE


class Draws(Dataset[Batch]):
    """Random batches by number; batch i depends only on the seed and i, so that a resumed run sees the same.

    `draw` makes a batch with a given generator; numbering starts at `first`.
    """

    def __init__(self, cut: Cut, seed: Sequence[int], batches: int, first: int = 0) -> None:
        self.cut, self.seed, self.batches, self.first = cut, seed, batches, first

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> Batch:
        if index >= self.batches:
            raise IndexError(index)
        return self.draw(np.random.default_rng([*self.seed, self.first + index]))

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Batch:
        """Draw one batch."""


class Sequences(Draws):
    """Batches cut from prepared nights; a night is chosen in proportion to its length."""

    def __init__(
        self, nights: Sequence[PreparedNight], cut: Cut, seed: Sequence[int], batches: int, first: int = 0
    ) -> None:
        super().__init__(cut, seed, batches, first)
        self.nights = [night for night in nights if night.stages.size > cut.epochs]
        if not self.nights:
            raise RecordingError(
                f"no prepared night is longer than {cut.epochs} epochs; draw or prepare some"
            )
        self.targets = [targets(night, cut.soft_share) for night in self.nights]
        lengths = np.array([night.stages.size for night in self.nights], dtype=np.float64)
        self.weights = lengths / lengths.sum()

    def draw(self, rng: np.random.Generator) -> Batch:
        """Draw one batch, with the augmentation of the cut."""
        chosen = rng.choice(len(self.nights), self.cut.sequences, p=self.weights)
        parts = [
            cut_sequence(self.nights[which].samples, self.targets[which], self.cut, rng) for which in chosen
        ]
        raw, target, present = (np.stack(column) for column in zip(*parts, strict=True))
        return Batch(*map(torch.from_numpy, (raw, spectrograms(raw), target, present)))


def cut_sequence(
    samples: NDArray[np.float16], target: NDArray[np.float32], cut: Cut, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Cut T windows (T, 3000), their targets (T, 5) and presence (T, 2) from a night at a random place."""
    start = begin(len(target) - cut.epochs, cut.augmentation, rng)
    phase = int(rng.integers(1, EPOCH_SAMPLES)) if rng.random() < cut.augmentation.phase else 0
    first = start * EPOCH_SAMPLES + phase
    part = samples[first : first + cut.epochs * EPOCH_SAMPLES].astype(np.float32)
    mixed = straddle(target, start, cut.epochs, phase / EPOCH_SAMPLES)
    raw = augment(part, cut.augmentation, rng).reshape(cut.epochs, EPOCH_SAMPLES)
    return raw, mixed, lose_epochs(cut.epochs, cut.augmentation, rng) & real(raw)


def straddle(target: NDArray[np.float32], start: int, epochs: int, share: float) -> NDArray[np.float32]:
    """Return targets (epochs, 5) of windows that begin after a `share` of an epoch.

    A window that straddles two scored epochs has both stages as its target, by overlap; none if either is
    unscored.
    """
    before, after = target[start : start + epochs], target[start + 1 : start + epochs + 1]
    mixed: NDArray[np.float32] = np.float32(1 - np.float32(share)) * before + np.float32(share) * after
    mixed[(before.sum(1) == 0) | ((after.sum(1) == 0) & (share > 0))] = 0
    return mixed


def real(epochs: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which epochs (..., 3000) have few enough lost samples for the engine to score: (..., 1) bool."""
    there: NDArray[np.bool_] = np.isfinite(epochs).mean(-1, keepdims=True) >= LEAST_REAL - 1e-9
    return there


def whole(night: PreparedNight, augmentation: Augmentation, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return a night for evaluation: raw (1, n, 3000) µV, spectrum (1, n, 29, 128) dB, present (1, n, 2)."""
    rng = np.random.default_rng(seed)
    samples = augment(night.samples.astype(np.float32), augmentation, rng)
    epochs = samples.reshape(1, night.stages.size, EPOCH_SAMPLES)
    present = lose_epochs(night.stages.size, augmentation, rng)[None] & real(epochs)
    return torch.from_numpy(epochs), torch.from_numpy(spectrograms(epochs)), torch.from_numpy(present)
