"""Train the network in its three stages; the same command on a laptop, on a GPU and under torchrun.

    python -m model.train model/configs/small.toml
    torchrun --nproc-per-node 8 -m model.train model/configs/base.toml

A run that was stopped goes on where it was and ends as if it had never stopped: batches, dropout and masks
follow from the seed and the number of the step alone.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from model.augment import NONE, Augmentation
from model.average import averaged
from model.checkpoint import Checkpoint, load_checkpoint, load_start, save_checkpoint
from model.data import Batch, Cut, PreparedNight, Sequences, load_nights, split, whole
from model.encoded import EncodedNight, EncodedSequences, embed
from model.lessons import Lessons, lesson_paths, networks_asked
from model.mc2sleepnet import MC2SleepNet
from model.metrics import CalibratedAgreement, agreement, calibrate
from model.objectives import Contrast, CrossMask, FineTune, Hints, Repeat
from model.rehearsal import Embedded, Rehearsal, embed_lessons, load_own
from model.settings import STAGED, Phase, Settings, load_settings
from model.spectra import SpectralSequences, amplitudes_of
from model.streamed import Reach, Streamed
from streamer.errors import RecordingError, SettingsError, SleepstreamError

EXAMPLES = 12  # lessons that tell the scale of the teacher's embeddings


def objective_of(
    phase: Phase, network: MC2SleepNet, settings: Settings, examples: Sequence[Batch] = ()
) -> nn.Module:
    """Return the objective of a phase, with scales from `examples`; what it does not freeze is trainable."""
    width = network.mask.size(1)
    network.requires_grad_(True)
    network.zero_grad(
        set_to_none=True
    )  # what is left of the phase before would count when gradients are clipped
    if phase.objective == "contrast":
        return Contrast(network, width, phase.supervised)
    if phase.objective == "cross_mask":
        return CrossMask(network, width)
    if phase.objective == "repeat":
        asked = networks_asked(settings.lessons)
        return Repeat(network, phase.frozen, settings.stage_weights, examples, asked)
    frozen = phase.frozen or phase.objective == "rehearse"
    return FineTune(network, frozen, settings.stage_weights)


class Run:
    """One training run: the network, the current phase and the steps done."""

    def __init__(
        self,
        settings: Settings,
        nights: Sequence[PreparedNight],
        device: torch.device,
        encoded: Sequence[EncodedNight] | None = None,
    ) -> None:
        """Begin a run; `encoded` are embedded training nights, for a run that keeps their backbones."""
        self.settings, self.device, self.encoded = settings, device, encoded
        self.rank = int(os.environ.get("RANK", "0"))
        self.learn, self.held_out = split(nights, settings.held_out_fold, settings.held_out)
        stride = max(1, len(self.held_out) // settings.validation_nights)
        self.validation = self.held_out[::stride][: settings.validation_nights]
        start = None if settings.start is None else load_start(settings.start)
        self.size = settings.shape(start.size if start else None)
        torch.manual_seed(settings.seed)
        self.network = MC2SleepNet(self.size).to(device)
        self.hints: Hints | None = None  # of the last phase that repeated a teacher
        self.embedded: Embedded | None = None  # lessons, once something rehearses
        self.phase = self.step = 0
        self.best = -math.inf
        if start is not None:
            self.network.load_state_dict(self._begun(start))
            self.network.temperature.fill_(1.0)
        elif settings.backbones is not None:
            self._take_backbones(settings.backbones)
        else:
            fit_scales(self.network, self._batches(settings.phases[0], 0, 16, NONE))
        self._enter()

    def _enter(self) -> None:
        """Set up the current phase from its start."""
        phase = self.settings.phases[self.phase]
        torch.manual_seed(self.settings.seed + 1000 * (self.phase + 1))
        repeats = phase.objective == "repeat"
        examples = list(self._batches(phase, 0, EXAMPLES, NONE)) if repeats else []
        self.objective = objective_of(phase, self.network, self.settings, examples).to(self.device)
        self.optimiser = torch.optim.AdamW(decayed(self.objective, self.settings.weight_decay))
        self.average = averaged(self.network, self.settings.average)

    def _begun(self, start: Checkpoint) -> dict[str, Tensor]:
        """Load the weights of another run; SettingsError if its network has another shape."""
        over = self.size.trailing_epochs  # has no weights, so a network can be taught to look further back
        same = (
            replace(start.size, trailing_epochs=over) if start.size.trailing_epochs and over else start.size
        )
        if same != self.size:
            raise SettingsError(
                f"start {self.settings.start}: holds {start.size}, this run has {self.size}; give another "
                "`start`, or leave out what changes the shape"
            )
        return start.network.state_dict()

    def _take_backbones(self, path: Path) -> None:
        """Start from the backbones and scales of another run's network.

        Raises:
            SettingsError: the networks differ in their backbones or scales, not only in what follows them.

        """
        saved = load_checkpoint(path, str(self.device))
        ours = replace(
            self.size, context=saved.size.context, causal=saved.size.causal, views=saved.size.views
        )
        if saved.size != ours:
            raise SettingsError(f"backbones {path}: of {saved.size}, this run has {self.size}; give others")
        parts = ("raw", "level", "bands.", "standard.", "spectrum.")
        weights = {
            name: kept
            for name, kept in saved.network.state_dict().items()
            if name.startswith(parts) and not name.startswith("raw_layers")
        }
        self.network.load_state_dict(weights, strict=False)

    def train(self, most_steps: int | None = None) -> None:
        """Train to the end, or for `most_steps` further steps."""
        done = 0
        if self.settings.start is not None and self.phase == self.step == 0:
            self._validate()  # what it begins with is the first to be kept: the run cannot end with worse
        while self.phase < len(self.settings.phases):
            phase = self.settings.phases[self.phase]
            left = phase.steps - self.step
            if most_steps is not None:
                left = min(left, most_steps - done)
            self._train_phase(phase, left)
            done += left
            if self.step < phase.steps:
                return
            if isinstance(self.objective, Repeat):
                self.hints = self.objective.maps()
            self.phase, self.step = self.phase + 1, 0
            if self.phase < len(self.settings.phases):
                if self.settings.phases[self.phase].objective == "rehearse":
                    self.best = -math.inf  # held-out nights hold too little of what it is for to choose
                self._enter()
            self.save()

    def _train_phase(self, phase: Phase, steps: int) -> None:
        self.objective.train()
        module = self.objective
        if dist.is_initialized():
            module = nn.parallel.DistributedDataParallel(module, find_unused_parameters=True)
        batches = self._batches(phase, self.step, steps, self.settings.augmentation)
        with tqdm(
            batches, desc=f"{self.phase + 1} {phase.objective}", total=steps, disable=self.rank > 0
        ) as bar:
            for batch in bar:
                bar.set_postfix(loss=f"{self._learn(module, phase, batch):.4f}", refresh=False)
                self.step += 1
                if self.step % self.settings.save_every == 0:
                    self.save()
                if phase.objective in STAGED and (
                    self.step % self.settings.validate_every == 0 or self.step == phase.steps
                ):
                    self._validate()

    def _learn(self, module: nn.Module, phase: Phase, batch: Batch) -> float:
        """Take one step of the optimiser."""
        torch.manual_seed(hash((self.settings.seed, self.phase, self.step, self.rank)))
        for group in self.optimiser.param_groups:
            group["lr"] = phase.learning_rate * pace(self.step, phase)
        # bfloat16 needs no loss scaling, and every GPU since 2020 has it
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = module(batch.to(self.device))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.objective.parameters(), 1.0)
        self.optimiser.step()
        self.average.update_parameters(self.network)
        return float(loss.detach())

    def _batches(self, phase: Phase, first: int, count: int, augmentation: Augmentation) -> Iterator[Batch]:
        cut = Cut(phase.epochs, phase.sequences, self.settings.soft_share, augmentation)
        seed = (self.settings.seed, self.phase, self.rank)
        if phase.objective == "rehearse":
            dataset: Dataset[Batch] = self._rehearsal(cut, seed, count, first)
        elif self.settings.lessons:
            dataset = Lessons(self.settings.lessons, self.settings.lesson_shares, cut, seed, count, first)
        elif self.encoded is not None:
            dataset = EncodedSequences(self.encoded, cut, seed, count, first)
        elif self.network.waves and self.size.views != "spectrum":
            dataset = Sequences(self.learn, cut, seed, count, first)
        else:
            columns = [amplitudes_of(night) for night in self.learn]
            dataset = SpectralSequences(self.learn, columns, cut, seed, count, first)
        return iter(DataLoader(dataset, batch_size=None, num_workers=self.settings.workers))

    def _rehearsal(self, cut: Cut, seed: Sequence[int], count: int, first: int) -> Rehearsal:
        assert self.hints is not None, "settings: a phase that repeats comes before"
        assert self.settings.teacher is not None, "settings: it is given"
        self.embedded = self.embedded or embed_lessons(self.network, lesson_paths(self.settings.lessons))
        teacher = Streamed.load(self.settings.teacher, Reach(self.settings.teacher_window))
        own = load_own(self.settings.network, self.settings.lesson_shares)
        return Rehearsal(self.embedded, self.hints, teacher, cut, seed, count, first, own)

    def _validate(self) -> None:
        """Score the averaged network on the held-out people, with clean and with degraded signals."""
        if self.rank > 0:
            return
        network = self.averaged()
        clean, rough = (
            evaluate(network, self.validation, how)[0] for how in (NONE, self.settings.augmentation)
        )
        figure = (clean.kappa + rough.kappa) / 2
        begins = self.phase == self.step == 0
        if begins and math.isnan(figure):  # one stage only: by chance, and what it begins with is still kept
            figure = 0.0
        tqdm.write(
            f"{self.phase + 1}.{self.step} held-out: {clean.line()}; augmented kappa {rough.kappa:.3f}"
        )
        with (self.settings.out / "log.jsonl").open("a", encoding="utf-8") as log:
            record = {
                "phase": self.phase,
                "step": self.step,
                "clean": clean.as_dict(),
                "rough": rough.as_dict(),
            }
            log.write(json.dumps(record) + "\n")
        if figure > self.best:
            self.best = figure
            self.keep(self.settings.out / "best.pt", network)

    def averaged(self) -> MC2SleepNet:
        """Return the averaged network, in evaluation mode."""
        network = self.average.module
        assert isinstance(network, MC2SleepNet)
        return network.eval()

    def keep(self, path: Path, network: MC2SleepNet) -> None:
        """Calibrate on the held-out people and write a network that can be exported."""
        network.temperature.fill_(1.0)
        nights = [evaluate(network, self.validation, how) for how in (NONE, self.settings.augmentation)]
        logits = torch.cat([logits for _, logits, _ in nights])
        stages = torch.cat([stages for _, _, stages in nights])
        network.temperature.fill_(calibrate(logits, stages))
        save_checkpoint(path, Checkpoint(self.size, network, self.settings.trained_on, {}))
        network.temperature.fill_(1.0)

    def save(self) -> None:
        """Write `last.pt`, from which `restore` goes on."""
        if self.rank > 0:
            return
        progress = {
            "settings": self.settings.model_dump_json(),
            "phase": self.phase,
            "step": self.step,
            "best": self.best,
            "hints": None if self.hints is None else tuple(self.hints),
            "objective": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state_dict(),
        }
        checkpoint = Checkpoint(self.size, self.network, self.settings.trained_on, progress)
        save_checkpoint(self.settings.out / "last.pt", checkpoint)

    def restore(self) -> None:
        """Restore the state that `save` wrote; SettingsError if it is of another run."""
        saved = load_checkpoint(self.settings.out / "last.pt", str(self.device))
        progress: dict[str, Any] = saved.progress
        if Settings.model_validate_json(progress["settings"]) != self.settings:
            raise SettingsError(
                f"{self.settings.out}: holds a run with other settings; give another `out` or delete it"
            )
        self.phase, self.step, self.best = progress["phase"], progress["step"], progress["best"]
        self.hints = None if progress["hints"] is None else Hints(*progress["hints"])
        if self.phase < len(self.settings.phases):
            self._enter()
            self.objective.load_state_dict(progress["objective"])
            self.optimiser.load_state_dict(progress["optimiser"])
        self.average.load_state_dict(progress["average"])


def decayed(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Group the trainable parameters: weight matrices decay; norms, biases, positions and masks do not."""
    free = ("bias", "place", "mask")
    named = [(name, one) for name, one in module.named_parameters() if one.requires_grad]
    decays = {name: one.ndim > 1 and not name.endswith(free) for name, one in named}
    return [
        {"params": [one for name, one in named if decays[name]], "weight_decay": weight_decay},
        {"params": [one for name, one in named if not decays[name]], "weight_decay": 0.0},
    ]


def pace(step: int, phase: Phase) -> float:
    """Return the learning rate as a share of the highest: a linear warm-up, then half a cosine."""
    if step < phase.warm_up:
        return (step + 1) / phase.warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - phase.warm_up) / max(1, phase.steps - phase.warm_up)))


def fit_scales(network: MC2SleepNet, batches: Iterator[Batch]) -> None:
    """Set the fixed scales of both views from the present epochs of training signals."""
    parts = list(batches)
    raw = torch.cat([batch.raw.flatten() for batch in parts])
    if raw.numel():
        network.raw_scale_uv.fill_(raw[~raw.isnan()].std())
    for bands, scale in ((network.level_bands, network.level_scale), (network.bands, network.standard)):
        frames = torch.cat([bands(batch.spectrum).flatten(0, 2) for batch in parts])
        there = frames[~frames.isnan().any(1)]
        if not len(there):
            raise RecordingError("prepared nights: nothing but losses where training looked; give others")
        scale.centre_db.copy_(there.mean(0))
        scale.spread_db.copy_(there.std(0))


@torch.inference_mode()
def evaluate(
    network: MC2SleepNet, nights: Sequence[PreparedNight], augmentation: Augmentation
) -> tuple[CalibratedAgreement, Tensor, Tensor]:
    """Return the agreement pooled over whole nights, logits (n, 5) and stages (n,) of the epochs there.

    The parallel pass over a whole night equals streaming it, which export verifies.
    """
    logits, stages = [], []
    for number, night in enumerate(nights):
        raw, spectrum, present = whole(night, augmentation, seed=number)
        tokens = embed(network, raw, spectrum, present)
        found = network.decode(tokens, present.to(tokens.device))[0, :, 0].float().cpu()
        there = present[0].any(-1)
        logits.append(found[there])
        stages.append(torch.from_numpy(night.stages)[there])
    given, stage = torch.cat(logits), torch.cat(stages)
    return agreement(given.softmax(-1), stage), given, stage


def trained(
    settings: Settings,
    nights: Sequence[PreparedNight],
    device: torch.device,
    encoded: Sequence[EncodedNight] | None = None,
) -> Run:
    """Train a run to its end; an interrupted run is resumed.

    Raises:
        SettingsError: the folder holds a run with other settings.
        RecordingError: the nights are too short, or from too few people.

    """
    settings.out.mkdir(parents=True, exist_ok=True)
    run = Run(settings, nights, device, encoded)
    if (settings.out / "last.pt").exists():
        run.restore()
    run.train()
    return run


def main(arguments: list[str] | None = None) -> None:
    """Train as the TOML says, or go on with it."""
    parser = argparse.ArgumentParser(prog="python -m model.train", description=__doc__.split("\n", 1)[0])
    parser.add_argument("settings", type=Path, help="TOML of the run, see model/configs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="of torch on the CPU")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    if "RANK" in os.environ:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    try:
        settings = load_settings(options.settings)
        trained(settings, load_nights(settings.nights), device)
    except SleepstreamError as error:
        parser.exit(error.exit_code, f"{error}\n")
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


if __name__ == "__main__":
    main()
