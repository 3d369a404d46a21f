"""Fits how the bands of drawn nights vary within an epoch, by gradient through a teacher.

    python -m tools.fit_texture FEATURES.npz --teacher TEACHER.py --out model/texture.json

Pieces of nights are drawn without texture, from people who are not held out. `model.texture` has a map
from the measurements of an epoch to how much its bands vary. It is fitted so that a scorer trained
on real nights finds the experts' stages in the pieces, and so that the second-to-second statistics of each
stage stay near those of real EEG (SPREAD_DB, TOGETHER). Stages are only targets, never inputs.

The teacher's file needs, besides what model/teacher.py asks for, `RATE_HZ` and a class `Teacher` with
`networks`: a dict of torch modules that turn samples (n, epochs, 1, 30 * RATE_HZ), of any scale, into logits
(n, epochs, 5).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.signal import resample_poly, sosfilt
from torch import Tensor, nn
from tqdm import tqdm

from model.data import FOLDS
from model.draw import OWN
from model.resynthesis import Derivation, Measurements
from model.teacher import load_networks
from model.texture import PARTS, Texture, modulated, quantities, split
from streamer.filters import BUTTERWORTH
from streamer.messages import RATE_HZ, STAGES
from streamer.sources.synthesis import DEFAULT, synthesise, varied
from tools.command import make_parser, run
from tools.judge import EDGES_HZ, measure_variation

# Of real EEG, by stage: s.d. in dB of the bands between EDGES_HZ over the seconds of an epoch, and
# correlations of PAIRS. Measured on the four excerpts and the nap of the model card under the teacher's
# stages; no label was read.
SPREAD_DB = (
    (5.7, 4.0, 3.1, 3.5, 3.5, 3.0, 2.7),
    (5.2, 3.6, 2.7, 3.3, 3.0, 2.8, 2.5),
    (5.8, 3.8, 2.8, 3.1, 3.6, 2.3, 2.0),
    (5.4, 3.4, 2.5, 2.8, 3.3, 1.9, 1.8),
    (4.3, 3.0, 2.8, 3.4, 3.0, 2.7, 2.4),
)
TOGETHER = (
    (0.25, 0.20, 0.48, 0.45, 0.44, 0.44, 0.28),
    (0.18, 0.18, 0.35, 0.22, 0.40, 0.48, 0.00),
    (0.25, 0.20, 0.47, 0.37, 0.35, 0.36, 0.15),
    (0.13, 0.14, 0.33, 0.18, 0.22, 0.25, 0.12),
    (0.16, 0.10, 0.38, 0.24, 0.40, 0.34, -0.05),
)
NEAR_DB, NEAR = 0.5, 0.1  # unit of distance, of SPREAD_DB and of TOGETHER
LEAST = 10  # fewer epochs of a stage in a batch are ignored in the statistics
SHARES = np.array([0.15, 0.1, 0.4, 0.2, 0.15])  # wanted shares of the stages in a piece
RATE = 0.03  # of learning, at first
MOMENTS = 0.1  # weight of the squared change of log kurtosis relative to the cross-entropy
BLUR = 0.3  # noise on the standardised inputs while fitting: the map must not know single people
UNITS = 12  # of the map's hidden layer
CUTS = ((81, 2), (21, 8), (21, 8))  # in turn: length of a cut in epochs, and number of cuts in a step


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Consecutive epochs of a drawn night without texture."""

    recording: str
    seen: Tensor  # (n, 45) INPUTS
    bands: Tensor  # (8, n * 30 * rate) µV, which add up to the signal
    stages: Tensor  # (n,)


def draw_piece(
    measurements: Measurements, recording: str, epochs: int, rate_hz: int, rng: np.random.Generator
) -> Piece:
    """Draw a part of a night, of three the one with the best balance of stages, at a random derivation."""
    stages = measurements.stages(recording)
    starts = rng.integers(max(1, len(stages) - epochs), size=3)
    shares = [np.bincount(stages[one : one + epochs], minlength=5) / epochs for one in starts]
    start = int(starts[np.argmin([np.abs(one - SHARES).sum() for one in shares])])
    stretch = slice(start, min(start + epochs, len(stages)))
    night = measurements.measured(recording, Derivation.draw(rng))
    seen = torch.from_numpy(quantities(night, measurements.beside(recording))[stretch]).float()
    measured = night.rows(stretch.start, stretch.stop)
    style = replace(varied(DEFAULT, int(rng.integers(2**31))), depth=float(rng.uniform(0, OWN)))
    samples = np.concatenate(list(synthesise(measured, int(rng.integers(2**31)), style)))
    samples = sosfilt(BUTTERWORTH, samples - samples[0]).astype(np.float32)
    bands = resample_poly(split(samples), rate_hz, RATE_HZ, axis=1).astype(np.float32)
    return Piece(recording, seen, torch.from_numpy(bands), torch.from_numpy(stages[stretch].astype(np.int64)))


def draw_pieces(
    measurements: Measurements, count: int, epochs: int, rate_hz: int, rng: np.random.Generator
) -> list[Piece]:
    """Draw `count` pieces of different recordings, none of people who are held out."""
    ours = [one for one in measurements.recordings if measurements.subject(one) not in FOLDS[0]]
    chosen = rng.permutation(ours)[:count].tolist()
    return [draw_piece(measurements, one, epochs, rate_hz, rng) for one in tqdm(chosen, unit="piece")]


def begin(seen: Tensor, units: int = UNITS) -> Texture:
    """A texture with a small constant modulation; `seen` (n, 45) are the inputs of all training epochs."""
    texture = Texture(units)
    texture.mean, texture.spread = seen.mean(0), seen.std(0) + 1e-2
    for name in (*PARTS, "shape"):
        nn.init.zeros_(texture.maps[name].weight)  # type: ignore[arg-type]
        nn.init.constant_(texture.maps[name].bias, 0.0 if name == "shape" else -1.5)  # type: ignore[arg-type]
    return texture


def textured(texture: Texture, piece: Piece, rng: np.random.Generator) -> Tensor:
    """A piece with its texture, and while fitting with BLUR: samples (n, 30 * rate)."""
    seen = texture.standardised(piece.seen)
    if texture.training:
        seen = seen + BLUR * torch.from_numpy(rng.standard_normal(seen.shape)).float()
    return modulated(piece.bands, texture.of(seen), rng).view(len(piece.seen), -1)


def variation(samples: Tensor, rate_hz: int) -> tuple[Tensor, Tensor]:
    """Like `tools.judge`, with gradients: (n, 7) s.d. in dB and (n, 7) correlations of the bands."""
    window = torch.hann_window(2 * rate_hz)
    power = torch.stft(samples, 2 * rate_hz, rate_hz, window=window, center=False, return_complex=True)
    hz = torch.linspace(0, rate_hz / 2, power.size(1))
    square = power.abs().square()
    bands = [square[:, (low <= hz) & (hz < high)].sum(1) for low, high in pairwise(EDGES_HZ)]
    return measure_variation(10 * torch.log10(torch.stack(bands, 2) + 1e-9))


def distance(samples: Tensor, stages: Tensor, rate_hz: int) -> Tensor:
    """The distance of each stage's statistics from those of real EEG; 0 if no stage occurs often enough."""
    spread, together = variation(samples, rate_hz)
    apart = torch.zeros(())
    for stage in range(len(STAGES)):
        ours = stages == stage
        if ours.sum() > LEAST:
            wide = (spread[ours].mean(0) - torch.tensor(SPREAD_DB[stage])) / NEAR_DB
            close = (together[ours].mean(0) - torch.tensor(TOGETHER[stage])) / NEAR
            apart = apart + wide.square().mean() + close.square().mean()
    return apart


def cut(piece: Piece, epochs: int, rng: np.random.Generator) -> Piece:
    """Cut a random part of a piece."""
    start = int(rng.integers(max(1, len(piece.seen) - epochs + 1)))
    part = slice(start, start + min(epochs, len(piece.seen)))
    samples = piece.bands.size(1) // len(piece.seen)
    bands = piece.bands[:, part.start * samples : part.stop * samples]
    return Piece(piece.recording, piece.seen[part], bands, piece.stages[part])


def fit(
    pieces: Sequence[Piece],
    networks: Sequence[nn.Module],
    rate_hz: int,
    steps: int,
    rng: np.random.Generator,
    statistics: float = 0.04,
    cuts: Sequence[tuple[int, int]] = CUTS,
) -> Texture:
    """Fit a texture; `statistics` is the weight of `distance` relative to the cross-entropy."""
    texture = begin(torch.cat([one.seen for one in pieces]))
    optimiser = torch.optim.Adam(texture.parameters())
    shortest = min(len(one.seen) for one in pieces)
    with tqdm(range(steps), unit="step") as bar:
        for step in bar:
            optimiser.param_groups[0]["lr"] = RATE * (1 - step / steps)
            epochs, count = cuts[step % len(cuts)]
            epochs = min(epochs, shortest)
            parts = [cut(pieces[int(rng.integers(len(pieces)))], epochs, rng) for _ in range(count)]
            network = networks[int(rng.integers(len(networks)))]
            drawn = [textured(texture, one, rng) for one in parts]
            logits = network(torch.stack([scaled(one) for one in drawn])[:, :, None]).flatten(0, 1)
            stages = torch.cat([one.stages for one in parts])
            loss = F.cross_entropy(logits, stages)
            weights = torch.stack([one.square().sum() for one in texture.parameters() if one.ndim == 2]).sum()
            apart = distance(torch.cat(drawn), stages, rate_hz)
            peaks = torch.cat(
                [peaked(one) - peaked(whole_of(part)) for one, part in zip(drawn, parts, strict=True)]
            )
            whole: Tensor = loss + statistics * apart + MOMENTS * peaks.square().mean() + 1e-3 * weights
            optimiser.zero_grad()
            whole.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return texture.eval().requires_grad_(False)


def whole_of(piece: Piece) -> Tensor:
    """Return a piece's signal without texture: (n, 30 * rate)."""
    return piece.bands.sum(0).view(len(piece.seen), -1)


def peaked(samples: Tensor) -> Tensor:
    """Return the logarithm of the kurtosis of epochs (n, samples), excess kurtosis from -0.5 to 8: (n,)."""
    away = (samples - samples.mean(1, keepdim=True)).square()
    excess = away.square().mean(1) / (away.mean(1).square() + 1e-9) - 3
    return torch.log1p(excess.clamp(-0.5, 8))


def scaled(samples: Tensor) -> Tensor:
    """Scale samples to an interquartile range of 1, as scorers of real nights expect."""
    low, high = torch.quantile(samples.detach().flatten()[::7], torch.tensor([0.25, 0.75]))
    scaled_to_one: Tensor = samples / (high - low)
    return scaled_to_one


def write_texture(asked: argparse.Namespace) -> str:
    """Draw, fit and write the texture; return where it is."""
    rng = np.random.default_rng(asked.seed)
    torch.manual_seed(asked.seed)
    networks, rate_hz = load_networks(asked.teacher)
    pieces = draw_pieces(Measurements.load(asked.features), asked.pieces, asked.epochs, rate_hz, rng)
    texture = fit(pieces, networks, rate_hz, asked.steps, rng)
    numbers = ("pieces", "epochs", "steps", "seed")
    source = "python -m tools.fit_texture " + " ".join(f"--{one} {getattr(asked, one)}" for one in numbers)
    asked.out.write_text(json.dumps(texture.saved(source)) + "\n", encoding="utf-8")
    return f"wrote {asked.out}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = make_parser("fit_texture", __doc__)
    parser.add_argument("features", type=Path, help="npz of per-epoch measurements")
    parser.add_argument("--teacher", type=Path, required=True, metavar="FILE.py", help="a scorer, see above")
    parser.add_argument("--out", type=Path, required=True, help="the json to write")
    parser.add_argument("--pieces", type=int, default=96, help="number of parts of nights to train on")
    parser.add_argument("--epochs", type=int, default=84, help="length of each part")
    parser.add_argument("--steps", type=int, default=550, help="of the optimiser")
    parser.add_argument("--seed", type=int, default=1, help="of pieces and fit")
    return run(write_texture, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
