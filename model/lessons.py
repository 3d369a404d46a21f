"""Lessons: batches of changed spectra, labelled by a causal teacher.

    python -m model.lessons NIGHTS ... OUT --teacher TEACHER.py --count 900
    python -m model.lessons NIGHTS ... OUT --teacher TEACHER.py --networks seed0/best.pt seed1/best.pt

Synthetic nights are changed far more than nights differ (`model.broad`, and `Augmentation` for the amplifier
and the electrode), and the teacher labels each changed sequence causally, as on a live stream
(`model.streamed`). Exported networks or checkpoints can label the sequences, too (`--networks`; one of them
is drawn for each lesson). A lesson also holds the labels of the unchanged epochs: the soft labels of the
nights (from YASA, for example) and the experts' stages. A training run uses lessons by its settings `lessons`
and `lesson_shares`.

Batch k depends only on the seed, k and the nights, so several processes can share the work (`--first`), and
a stopped one can be continued. Held-out people are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from model.augment import Augmentation, lose_epochs, response
from model.broad import gains, runs, shuffled, spread_over
from model.checkpoint import load_checkpoint
from model.data import UNSCORED, Batch, Cut, Draws, PreparedNight, fold_of, load_nights
from model.mc2sleepnet import MC2SleepNet
from model.size import SIZES
from model.spectra import FREQUENCY_HZ, NOISE_GAIN, amplitudes
from model.streamed import USUAL, Reach, Streamed
from streamer.errors import RecordingError, SleepstreamError
from streamer.messages import EPOCH_S
from streamer.window import FLOOR_UV, FRAMES

BINS = SIZES["small"].bins
HERE_HZ = FREQUENCY_HZ[:BINS]
SAYING = ("teacher", "networks", "soft", "experts")
ASKED = 2  # of the teacher's networks for each batch
SEQUENCES = 8  # of a batch
ALTERED = Augmentation(gain=0.5, tilt=0.25, wobble=0.15, low_pass=0.4, noise_uv=5.0)

Samples = NDArray[np.float32]


class Lesson(NamedTuple):
    """One batch, as it is stored in a file."""

    spectrum: Samples  # (B, T, 29, BINS) dB
    said: Samples  # (B, T, 4, 5): the words in the order of SAYING
    hints: Samples  # (B, T, n, e): how those of the teacher's networks that were asked embed each epoch
    tokens: Samples  # (B, T, 2, D'): how the network of ours that was asked embeds each epoch; D' = 0 if none
    asked: NDArray[np.integer]  # (n,) the numbers of the teacher's networks


@dataclass(frozen=True, slots=True, eq=False)
class LessonNight:
    """One night, ready to be cut: spectra in dB, one row per second."""

    ours: Samples  # (n * 30, BINS) float16, of the engine's spectrogram, without its floor
    theirs: Samples  # (n * 30, bins) float16, of the teacher's
    said: Samples  # (n, 2, 5): soft and experts, all zero where there is no word
    stages: NDArray[np.integer]  # (n,) of either, for runs


def learnable(nights: Sequence[PreparedNight], fold: int, epochs: int) -> list[PreparedNight]:
    """Return the long enough nights that the fold does not hold out; RecordingError if there are none."""
    ours = [one for one in nights if fold_of(one.subject) != fold and len(one.stages) > epochs]
    if not ours:
        raise RecordingError(
            f"none of {len(nights)} nights is of more than {epochs} epochs and outside fold {fold}"
        )
    return ours


def source(night: PreparedNight, teacher: Streamed, rng: np.random.Generator) -> LessonNight:
    """Prepare a night; at random, its runs of stages follow either the soft labels or the experts' stages."""
    ours = 20 * np.log10(amplitudes(night.samples)[:, :BINS].astype(np.float32) + 1e-3)
    known = (night.stages != UNSCORED)[:, None]
    experts = np.eye(5, dtype=np.float32)[np.maximum(night.stages, 0)] * known
    soft = experts if night.soft is None else night.soft * known
    stages = soft.argmax(1) if night.soft is not None and rng.random() < 0.5 else night.stages
    theirs = teacher.spectrum(night.samples)
    return LessonNight(
        ours.astype(np.float16), theirs.astype(np.float16), np.stack([soft, experts], 1), stages
    )


def lesson(
    sources: Sequence[LessonNight],
    teacher: Streamed,
    networks: Sequence[MC2SleepNet],
    cut: Cut,
    rng: np.random.Generator,
) -> Lesson:
    """Draw one batch."""
    lengths = np.array([len(one.stages) for one in sources], np.float64)
    chosen = rng.choice(len(sources), cut.sequences, p=lengths / lengths.sum())
    parts = [sequence(sources[one], teacher, cut, rng) for one in chosen]
    ours, theirs, known = (np.stack(column) for column in zip(*parts, strict=True))
    which = rng.choice(len(teacher.networks), min(ASKED, len(teacher.networks)), replace=False)
    causal, hints = teacher.told(theirs, which.tolist())
    said, tokens = np.zeros_like(causal), np.empty((*causal.shape[:2], 2, 0), np.float32)
    if networks:
        said, tokens = told(networks[int(rng.integers(len(networks)))], ours)
    words = np.concatenate([np.stack([causal, said], 2), known], 2)
    return Lesson(ours, words, hints, tokens, which)


@torch.inference_mode()
def told(network: MC2SleepNet, spectrum: Samples) -> tuple[Samples, Samples]:
    """Return probabilities (B, T, 5) and tokens (B, T, 2, D) of one of our networks for whole sequences."""
    batch, epochs = spectrum.shape[:2]
    present = torch.ones(batch, epochs, 2, dtype=torch.bool)
    nothing = torch.empty(batch, epochs, 0)
    tokens = network.encode_all(nothing, torch.from_numpy(spectrum).float(), present)
    said = network.decode(tokens, present)[:, :, 0].softmax(-1)
    return said.numpy(), tokens.numpy()


def sequence(
    night: LessonNight, teacher: Streamed, cut: Cut, rng: np.random.Generator
) -> tuple[Samples, Samples, Samples]:
    """Cut and change a sequence.

    Returns:
        The engine's spectra (T, 29, BINS) and the teacher's (T * 30, bins), both in dB, and the labels of the
        unchanged epochs (T, 2, 5).

    """
    ours, theirs, known = (
        run(night, cut.epochs, rng) if rng.random() < 0.65 else stretch(night, cut.epochs, rng)
    )
    change = gains(ours, HERE_HZ, rng)
    octave = np.concatenate([HERE_HZ, np.maximum(teacher.frequency_hz, 1e-3)])
    curve = 20 * np.log10(response(octave, cut.augmentation, rng))
    ours = ours + change @ spread_over(HERE_HZ) + curve[:BINS]
    theirs = theirs + change @ spread_over(teacher.frequency_hz) + curve[BINS:]
    if rng.random() < 0.6:
        noise_uv = cut.augmentation.noise_uv * rng.random() ** 2  # little is likelier than much
        ours = noisy(ours, NOISE_GAIN * noise_uv, rng)
        theirs = noisy(theirs, teacher.noise_gain * noise_uv, rng)
    seen = 20 * np.log10(10 ** (ours / 20) + np.float32(FLOOR_UV))
    frames = seen.reshape(cut.epochs, EPOCH_S, BINS)[:, :FRAMES]
    return frames.astype(np.float32), theirs.astype(np.float32), known.astype(np.float32)


def stretch(night: LessonNight, epochs: int, rng: np.random.Generator) -> tuple[Samples, Samples, Samples]:
    """Choose consecutive epochs that begin at any second; for a quarter of the sequences, reorder parts."""
    start = int(rng.integers(len(night.stages) - epochs))
    phase = int(rng.integers(1, EPOCH_S)) if rng.random() < 0.7 else 0
    seconds = slice(start * EPOCH_S + phase, (start + epochs) * EPOCH_S + phase)
    share = phase / EPOCH_S
    before, after = night.said[start : start + epochs], night.said[start + 1 : start + epochs + 1]
    known = (1 - share) * before + share * after
    known[(before.sum(-1) == 0) | (after.sum(-1) == 0)] = 0
    order = shuffled(epochs, rng) if rng.random() < 0.25 else np.arange(epochs)
    ours, theirs = (
        one[seconds].reshape(epochs, EPOCH_S, -1)[order].reshape(epochs * EPOCH_S, -1).astype(np.float32)
        for one in (night.ours, night.theirs)
    )
    return ours, theirs, known[order]


def run(night: LessonNight, epochs: int, rng: np.random.Generator) -> tuple[Samples, Samples, Samples]:
    """Choose epochs in runs of one stage each, see `model.broad.runs`."""
    order = runs(night.stages, epochs, rng)
    ours, theirs = (
        one.reshape(len(night.stages), EPOCH_S, -1)[order].reshape(epochs * EPOCH_S, -1).astype(np.float32)
        for one in (night.ours, night.theirs)
    )
    return ours, theirs, night.said[order]


def noisy(decibel: Samples, spread: float, rng: np.random.Generator) -> Samples:
    """Add noise to every bin; its r.m.s. is that of the real part and of the imaginary part."""
    parts = spread * rng.standard_normal((2, *decibel.shape), np.float32)
    noisier: Samples = 20 * np.log10(np.hypot(10 ** (decibel / 20) + parts[0], parts[1]) + np.float32(1e-3))
    return noisier


class Lessons(Draws):
    """Batches from lesson files, or parts of lessons, shuffled by the seed; each is used once per round."""

    def __init__(
        self,
        folders: Sequence[Path],
        shares: Sequence[float],
        cut: Cut,
        seed: Sequence[int],
        batches: int,
        first: int = 0,
    ) -> None:
        super().__init__(cut, seed, batches, first)
        self.paths = lesson_paths(folders)
        self.shares = np.array(shares, np.float32)
        self.parts = max(1, SEQUENCES // cut.sequences)  # of a lesson, each a batch

    def __getitem__(self, index: int) -> Batch:
        """Read a batch and mix its labels by `shares`; an epoch that lacks one of them has no target."""
        if index >= self.batches:
            raise IndexError(index)
        again, place = divmod(self.first + index, len(self.paths) * self.parts)
        order = np.random.default_rng([*self.seed, again]).permutation(len(self.paths) * self.parts)
        number, part = divmod(int(order[place]), self.parts)
        found = load(self.paths[number], part, self.parts)
        known = (found.said.sum(-1) > 0) | (self.shares == 0)  # (B, T, words)
        target = np.einsum("btks,k->bts", found.said, self.shares) * known.all(-1, keepdims=True)
        rng = np.random.default_rng([*self.seed, self.first + index, 1])
        present = [lose_epochs(target.shape[1], self.cut.augmentation, rng) for _ in target]
        parts = (found.spectrum, target.astype(np.float32), np.stack(present), found.hints, found.asked)
        spectrum, wanted, there, hints, asked = map(torch.from_numpy, parts)
        nothing = torch.empty(*target.shape[:2], 0)
        own = torch.from_numpy(found.tokens) if found.tokens.size else None
        return Batch(nothing, spectrum, wanted, there, hints=hints, asked=asked, own=own)

    def draw(self, rng: np.random.Generator) -> Batch:
        """Any of them."""
        return self[int(rng.integers(self.batches))]


def lesson_paths(folders: Sequence[Path]) -> list[Path]:
    """Find the lesson files in the folders; RecordingError if there are none."""
    paths = [path for folder in folders for path in sorted(folder.glob("lesson-*.npz"))]
    if not paths:
        raise RecordingError(f"no lessons in {', '.join(map(str, folders))}; make some with model.lessons")
    return paths


def networks_asked(folders: Sequence[Path]) -> int:
    """Count the teacher's networks from the highest number that any lesson asked."""
    most = 0
    for path in lesson_paths(folders):
        with np.load(path, allow_pickle=False) as file:
            most = max(most, 1 + int(file["asked"].max()))
    return most


def load(path: Path, part: int = 0, parts: int = 1) -> Lesson:
    """Read a lesson, or one of several equal parts of its sequences."""
    with np.load(path, allow_pickle=False) as file:
        here = slice(part * SEQUENCES // parts, (part + 1) * SEQUENCES // parts)
        spectrum, said, hints, tokens = (file[name][here].astype(np.float32) for name in Lesson._fields[:4])
        return Lesson(spectrum, said, hints, tokens, file["asked"])


def main(arguments: list[str] | None = None) -> None:
    """Make the lessons that OUT does not hold yet."""
    parser = argparse.ArgumentParser(prog="python -m model.lessons", description=__doc__.split("\n", 1)[0])
    parser.add_argument("nights", type=Path, nargs="+", help="folders of drawn nights, and OUT at last")
    parser.add_argument(
        "--teacher", type=Path, required=True, metavar="FILE.py", help="see model/streamed.py"
    )
    parser.add_argument("--networks", type=Path, nargs="+", default=[], help="checkpoints to be asked too")
    parser.add_argument("--count", type=int, default=900, help="batches")
    parser.add_argument("--epochs", type=int, default=60, help="of each sequence")
    parser.add_argument("--noise-uv", type=float, default=ALTERED.noise_uv, help="most white noise")
    parser.add_argument("--window", type=int, default=USUAL.window, help="epochs the teacher sees at once")
    parser.add_argument(
        "--trailing", type=float, default=USUAL.trailing_epochs, help="epochs it standardises over"
    )
    parser.add_argument("--first", type=int, default=0, help="number of the first of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fold", type=int, default=0, help="whose people are left out")
    options = parser.parse_args(arguments)
    *folders, out = options.nights
    altered = replace(ALTERED, noise_uv=options.noise_uv)
    cut = Cut(epochs=options.epochs, sequences=SEQUENCES, augmentation=altered)
    try:
        teacher = Streamed.load(options.teacher, Reach(options.window, options.trailing))
        networks = [load_checkpoint(one).network.eval() for one in options.networks]
        learn = learnable(load_nights(folders), options.fold, cut.epochs)
    except SleepstreamError as error:
        parser.exit(error.exit_code, f"{error}\n")
    rng = np.random.default_rng(options.seed)
    sources = [source(night, teacher, rng) for night in tqdm(learn, unit="night")]
    out.mkdir(parents=True, exist_ok=True)
    for number in tqdm(range(options.first, options.first + options.count), unit="lesson"):
        path = out / f"lesson-{options.seed}-{number:05}.npz"
        if path.exists():
            continue
        rng = np.random.default_rng([options.seed, number])
        save(path, lesson(sources, teacher, networks, cut, rng))


def save(path: Path, made: Lesson) -> None:
    """Write a lesson in half precision, atomically."""
    partial = path.with_name(f".{path.name}")
    halves = {name: one.astype(np.float16) for name, one in made._asdict().items() if name != "asked"}
    np.savez(partial, asked=made.asked, **halves)
    partial.replace(path)


if __name__ == "__main__":
    main()
