"""A training run as a TOML file: every number that shapes it, and nothing else."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model.augment import Augmentation
from model.size import SIZES, Size, Views
from streamer.errors import SettingsError

Strict = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


STAGED = ("fine_tune", "repeat", "rehearse")  # objectives after which there is something to judge


class Phase(BaseModel):
    """One stage of the training."""

    model_config = Strict

    objective: Literal["contrast", "cross_mask", "fine_tune", "repeat", "rehearse"]
    steps: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    epochs: int = Field(default=60, gt=0)  # per sequence
    sequences: int = Field(default=4, gt=0)  # per batch
    warm_up: int = Field(default=50, ge=0)  # steps until the full learning rate
    frozen: bool = False  # fine_tune: leave the backbones as they are
    supervised: bool = False  # contrast: epochs of the same stage are positives too


class Settings(BaseModel):
    """One run."""

    model_config = Strict

    nights: tuple[Path, ...]  # folders of prepared nights
    out: Path  # folder for checkpoints and the log
    trained_on: str = Field(min_length=1)  # goes into the artifact
    phases: tuple[Phase, ...] = Field(min_length=1)
    size: Literal["small", "base"] | None = None  # None: that of `start`; small, where nothing is begun with
    # The network to begin with: "packaged", best.pt of another run, or an exported artifact.
    start: Literal["packaged"] | Path | None = None
    backbones: Path | None = None  # checkpoint of which only the backbones are begun with
    context: int | None = Field(default=None, ge=1)  # epochs, its own included; None leaves the size's own
    causal: bool | None = (
        None  # False: attention sees as far ahead as back; for measuring, not to be exported
    )
    views: Views | None = None  # of one view, the other is always its mask token
    waveform: bool = True  # False: the raw view reads the absolute power of `level_hz` only
    level_hz: tuple[float, ...] | None = None  # see Size; None leaves the size's own, as above and below
    bands_hz: tuple[float, ...] | None = None
    trailing_epochs: int | None = Field(default=None, ge=0)
    spectrum_layers: int | None = Field(default=None, ge=0)  # 0: means over the frames instead
    frame_width: int | None = Field(default=None, ge=0)
    lessons: tuple[Path, ...] = ()  # folders of `model.lessons`, to learn from in place of the nights
    # In their targets: of the teacher, of networks of one's own, of the soft labels and of the experts.
    lesson_shares: tuple[float, float, float, float] = (0.5, 0.0, 0.5, 0.0)
    teacher: Path | None = None  # whose lessons they are, see model/streamed.py; "rehearse" asks it again
    teacher_window: int = Field(default=21, ge=1)  # epochs it sees at once when asked again, see `--window`
    network: Path | None = None  # of one's own, that was asked for the lessons; "rehearse" asks it again, too
    seed: int = 0
    # Whose nights choose checkpoint and temperature: these people or recordings, by name, or a fold's.
    held_out: tuple[str, ...] = ()
    held_out_fold: int = Field(default=0, ge=0, le=9)
    validation_nights: int = Field(default=8, gt=0)
    validate_every: int = Field(default=200, gt=0)  # steps
    save_every: int = Field(default=100, gt=0)  # steps
    soft_share: float = Field(default=0.5, ge=0, le=1)  # of the other scorer in the target
    stage_weights: tuple[float, float, float, float, float] = (
        1,
        1,
        1,
        1,
        1,
    )  # shift of the stages' frequency
    weight_decay: float = Field(default=0.01, ge=0)
    average: float = Field(default=0.998, ge=0, lt=1)  # decay of the averaged weights, which are what is kept
    workers: int = Field(default=0, ge=0)  # processes that make batches
    augmentation: Augmentation = Augmentation()

    def shape(self, start: Size | None = None) -> Size:
        """Return the network's size, changed as this run says; `start`: the size of what it begins with."""
        size = start if self.size is None and start is not None else SIZES[self.size or "small"]
        names = (
            "context",
            "causal",
            "views",
            "level_hz",
            "bands_hz",
            "trailing_epochs",
            "spectrum_layers",
            "frame_width",
        )
        given: dict[str, Any] = {name: getattr(self, name) for name in names}
        changed = {name: value for name, value in given.items() if value is not None}
        if not self.waveform:
            changed |= {"channels": (), "convolutions": ()}
        return replace(size, **changed)

    @model_validator(mode="after")
    def _phases_have_their_views(self) -> Self:
        """Contrast and cross-masking would teach the one view with the other that the run leaves out."""
        two = [phase.objective for phase in self.phases if phase.objective not in STAGED]
        if self.views not in (None, "both") and two:
            raise ValueError(f'views = "{self.views}" leaves nothing for {two[0]}, which needs both views')
        shape = self.shape()
        if self.views != "spectrum" and self.start is None and not (shape.channels or shape.level_hz):
            raise ValueError("waveform = false leaves the raw view nothing to read; give level_hz")
        if self.start is not None and self.backbones is not None:
            raise ValueError("start and backbones name two beginnings; give one")
        return self

    @model_validator(mode="after")
    def _lessons_are_given(self) -> Self:
        """What repeats a teacher needs its lessons, and what goes on from there the teacher too."""
        asked = [phase.objective for phase in self.phases]
        if not self.lessons and {"repeat", "rehearse"} & set(asked):
            raise ValueError('objectives "repeat" and "rehearse" learn from lessons; give `lessons`')
        if "rehearse" in asked and (self.teacher is None or "repeat" not in asked[: asked.index("rehearse")]):
            raise ValueError('objective "rehearse" needs `teacher`, and a phase "repeat" before it')
        return self


def load_settings(path: Path) -> Settings:
    """Read a run's TOML; SettingsError in one line, with the key at fault."""
    try:
        return Settings.model_validate(tomllib.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        raise SettingsError(f"settings {path}: no such file; see model/configs") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"settings {path}: not TOML ({error})") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"settings {path}: {where}: {first['msg']}") from None
