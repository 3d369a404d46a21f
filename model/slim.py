"""Make a smaller network that repeats a larger one, or the mean of several.

    python -m model.slim runs/small/best.pt runs/slim/best.pt --lessons runs/lessons
    python -m model.slim runs/seed*/best.pt runs/mean/best.pt --lessons runs/lessons

Convolutions (`Frames`) take the place of what embeds the spectrum of an epoch, and the sequence stack may
have fewer layers. Everything else is taken over. The smaller network first learns the spectrum's tokens of
the larger one, epoch by epoch, then the probabilities it gives to whole sequences (Hinton et al. 2015). Of
several, it begins as a smaller form of the first, and then learns the mean of the probabilities of all: what
seeds differ by is averaged away. It needs no stages: the lessons' spectra serve as inputs alone, so any
lessons will do (`model.lessons`).

Letters in the shapes: N sequences, T epochs, F features of a frame, D token width.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from model.average import averaged
from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.lessons import lesson_paths, load, told
from model.mc2sleepnet import MC2SleepNet
from streamer.errors import ArtifactError, SleepstreamError, UsageError

EPOCHS_AT_ONCE = 256  # of the first phase
SEQUENCES_AT_ONCE = 8  # of the second
LOUDER, BENT = 0.5, 0.4  # s.d. by which half of the epochs differ from any lesson: as a whole, and by band
TOKENS = 0.1  # weight of the tokens beside the probabilities
LEAST = 1e-4  # probability


class Known(NamedTuple):
    """What the larger networks make of the lessons; each in half as many bits."""

    frames: Tensor  # (N, T, frames, F) on the first network's scale
    tokens: Tensor  # (N, T, 2, D) of the first
    said: Tensor  # (N, T, 5) the mean of all


def smaller(large: Checkpoint, frame_width: int, sequence_layers: int) -> Checkpoint:
    """Return a network that begins with all weights of `large` that it has a place for.

    Raises:
        ArtifactError: `large` has fewer layers, or does not read the spectrum.

    """
    size = large.size
    if size.views == "raw" or not 0 < sequence_layers <= size.sequence_layers:
        raise ArtifactError(
            f"model.slim: needs a network that reads the spectrum and has at least {sequence_layers} "
            f"sequence layers; found {size}"
        )
    wanted = replace(size, frame_width=frame_width, sequence_layers=sequence_layers)
    if size.views == "spectrum":  # what the other view would read is not needed
        wanted = replace(wanted, spectrum_layers=0, channels=(), convolutions=(), level_hz=())
    network = MC2SleepNet(replace(wanted, dropout=0.0))  # a later training has it again
    own = network.state_dict()
    kept = {
        name: one
        for name, one in large.network.state_dict().items()
        if name in own and (frame_width == size.frame_width or not name.startswith("spectrum."))
    }
    network.load_state_dict({**own, **kept})
    return Checkpoint(wanted, network, large.trained_on, {})


@torch.inference_mode()
def ask(large: Sequence[MC2SleepNet], lessons: Sequence[Path]) -> Known:
    """Show the larger networks all sequences of the lessons; they have to read no waveform."""
    found: list[Known] = []
    first = large[0]
    for path in tqdm(lessons, unit="lesson"):
        spectrum = load(path).spectrum
        words = [told(one, spectrum) for one in large]
        said = torch.from_numpy(np.mean([probabilities for probabilities, _ in words], axis=0))
        tokens = torch.from_numpy(words[0][1])
        present = torch.ones(*spectrum.shape[:2], dtype=torch.bool)
        past = first.standard.blank(len(spectrum))
        frames, _ = first.standard(first.bands(torch.from_numpy(spectrum)), present, past)
        found.append(Known(frames.half(), tokens.half(), said.half()))
    return Known(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def stages(network: MC2SleepNet, tokens: Tensor) -> Tensor:
    """Tokens (N, T, 2, D) -> log-probabilities (N, T, 5)."""
    present = torch.ones(*tokens.shape[:2], 2, dtype=torch.bool)
    return network.decode(tokens, present)[:, :, 0].log_softmax(-1)


def token_losses(
    small: MC2SleepNet, large: MC2SleepNet, known: Known, rng: np.random.Generator
) -> Iterator[Tensor]:
    """First phase: mean squared errors of the tokens of single epochs, in units of their s.d."""
    frames, tokens = known.frames.flatten(0, 1), known.tokens[:, :, 1].flatten(0, 1)
    spread = tokens.float().std(0)
    while True:
        chosen = rng.integers(len(frames), size=EPOCHS_AT_ONCE)
        seen, wanted = frames[chosen].float(), tokens[chosen].float()
        half = len(seen) // 2
        moves = LOUDER * rng.standard_normal((half, 1, 1)) + BENT * rng.standard_normal(
            (half, 1, seen.size(2))
        )
        moved = (seen[:half] + torch.from_numpy(moves.astype(np.float32))).clamp(-6.0, 6.0)
        with torch.no_grad():
            wanted = torch.cat([wanted, large.spectrum(moved)])
        yield ((small.spectrum(torch.cat([seen, moved])) - wanted) / spread).square().mean()


def stage_losses(small: MC2SleepNet, known: Known, rng: np.random.Generator) -> Iterator[Tensor]:
    """Second phase: relative entropies of the probabilities, and a little of the first phase."""
    spread = known.tokens[:, :, 1].float().flatten(0, 1).std(0)
    while True:
        chosen = rng.integers(len(known.frames), size=SEQUENCES_AT_ONCE)
        frames, said = known.frames[chosen].float(), known.said[chosen].float()
        wanted = known.tokens[chosen].float()
        found = small.spectrum(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        error = ((found - wanted[:, :, 1]) / spread).square().mean()
        tokens = torch.stack([wanted[:, :, 0], found], 2)
        away = (said * (said.clamp(min=LEAST).log() - stages(small, tokens))).sum(-1).mean()
        yield away + TOKENS * error


def learn(
    network: MC2SleepNet, part: nn.Module, losses: Iterator[Tensor], steps: int, rate: float, decay: float
) -> float:
    """Train `part` of the network for `steps`; the network ends as its moving average.

    Returns:
        The mean loss of the last tenth.

    """
    optimiser = torch.optim.AdamW(part.parameters(), lr=rate, weight_decay=1e-4)
    average = averaged(network, decay)
    last: list[float] = []
    for step in tqdm(range(steps), unit="step"):
        fraction = step / steps
        optimiser.param_groups[0]["lr"] = rate * min(1, step / 100) * (0.52 + 0.48 * np.cos(np.pi * fraction))
        optimiser.zero_grad()
        loss = next(losses)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(part.parameters(), 1.0)
        optimiser.step()
        average.update_parameters(network)
        last.append(float(loss.detach()))
    network.load_state_dict(average.module.state_dict())
    return float(np.mean(last[-max(1, steps // 10) :]))


def main(arguments: list[str] | None = None) -> None:
    """Train the smaller network and save it as a checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m model.slim", description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "networks", type=Path, nargs="+", help="checkpoints of those to repeat, and the one to write at last"
    )
    parser.add_argument("--lessons", type=Path, nargs="+", required=True, help="folders of model.lessons")
    parser.add_argument("--frame-width", type=int, default=24, help="channels of the convolutions")
    parser.add_argument("--sequence-layers", type=int, default=1)
    parser.add_argument("--steps", type=int, nargs=2, default=(4000, 6000), help="of the two phases")
    parser.add_argument("--rates", type=float, nargs=2, default=(4e-3, 3e-3), help="of learning")
    parser.add_argument("--count", type=int, help="of the lessons at most (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    *asked, out = options.networks
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    try:
        if not asked:
            raise UsageError(f"model.slim: one network or more, and the file to write; found {out} alone")
        large = [load_checkpoint(one) for one in asked]
        small = smaller(large[0], options.frame_width, options.sequence_layers)
        networks = [one.network.eval() for one in large]
        known = ask(networks, lesson_paths(options.lessons)[: options.count])
    except SleepstreamError as error:
        parser.exit(error.exit_code, f"{error}\n")
    network = small.network.train()
    losses = token_losses(network, networks[0], known, rng)
    first = learn(network, network.spectrum, losses, options.steps[0], options.rates[0], 0.995)
    second = learn(
        network, network, stage_losses(network, known, rng), options.steps[1], options.rates[1], 0.99
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(out, replace(small, network=network.eval()))
    print(f"{out}: tokens within {first:.4f} s.d.² of the larger network's, stages {second:.4f} nats")


if __name__ == "__main__":
    main()
