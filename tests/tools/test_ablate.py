"""Ablations and folds on small nights: every variant is what it says, and nothing is done twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.data import save_night
from model.settings import Settings, load_settings
from model.size import SIZES
from streamer.network.stager import Model
from tests.model.nights import night
from tests.model.tiny import TINY, network
from tools import ablate, folds
from tools.evaluate import Rows, StagedNight
from tools.runs import change_settings, write_result

pytestmark = pytest.mark.train

TOML = """
nights = ["{folder}/nights"]
out = "unused"
trained_on = "rhythms"
context = 4
held_out_fold = 2
[[phases]]
objective = "contrast"
steps = 2
learning_rate = 1e-3
epochs = 5
sequences = 2
[[phases]]
objective = "cross_mask"
steps = 2
learning_rate = 1e-3
epochs = 5
sequences = 2
[[phases]]
objective = "fine_tune"
steps = 4
learning_rate = 1e-3
epochs = 5
sequences = 2
[[phases]]
objective = "fine_tune"
frozen = true
steps = 2
learning_rate = 1e-3
epochs = 5
sequences = 2
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings of a run on nights of three people, of folds 0 and 2; one night was drawn twice."""
    monkeypatch.setitem(SIZES, "small", TINY)
    (tmp_path / "nights").mkdir()
    for subject, seed in ((0, 0), (20, 0), (20, 1), (21, 0)):
        save_night(tmp_path / "nights" / f"{subject}-{seed}.npz", night(subject, seed=seed))
    (tmp_path / "run.toml").write_text(TOML.format(folder=tmp_path))
    return tmp_path / "run.toml"


def refused(main: Callable[[list[str]], int], *arguments: str) -> int:
    try:
        return main([*arguments])
    except SystemExit as ended:  # of the parser
        return int(str(ended.code))


def objectives(settings: Settings) -> list[str]:
    return [phase.objective + " frozen" * phase.frozen for phase in settings.phases]


def test_every_variant_takes_as_many_steps_and_differs_in_what_it_is_named_for(config: Path) -> None:
    made = ablate.plan(load_settings(config), Path("out"), seed=3)
    assert {sum(phase.steps for phase in one.phases) for one in made.values()} == {10}
    assert {one.seed for one in made.values()} == {3}
    assert len({one.out for one in made.values()}) == len(made)
    assert objectives(made["without contrast"]) == ["cross_mask", "fine_tune", "fine_tune frozen"]
    assert objectives(made["without cross-masking"]) == ["contrast", "fine_tune", "fine_tune frozen"]
    assert [phase.steps for phase in made["without contrast"].phases] == [2, 6, 2]
    for name, views in (("raw signal", "raw"), ("spectrogram", "spectrum")):
        one = made[f"fine-tuning only, {name} only"]
        assert (objectives(one), one.views) == (["fine_tune", "fine_tune frozen"], views)
    contexts = [one.shape().context for name, one in made.items() if name.startswith("context")]
    assert contexts == [1, 5, 10, 20, 60]
    assert not made["bidirectional, 4 each way"].causal
    assert made["size base"].size == "base"
    rates = [made[name].phases[0].learning_rate for name in ("size base", ablate.REFERENCE)]
    assert rates[0] == rates[1] / 4


def test_on_given_backbones_only_the_sequence_stage_differs(config: Path) -> None:
    settings = load_settings(config)
    given = change_settings(settings, phases=settings.phases[1:2] + settings.phases[3:], backbones=Path("a"))
    made = ablate.plan(given, Path("out"), seed=0)
    assert not {"size base", "without contrast"} & set(made)
    assert {one.backbones for one in made.values()} == {Path("a")}
    assert objectives(made["fine-tuning only"]) == ["fine_tune frozen"]


@pytest.mark.slow
def test_ablation_from_settings_to_table(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = config.parent / "out"
    bidirectional = "bidirectional, 4 each way"
    ask = [str(config), "--out", str(out), "--seeds", "2", "--device", "cpu", "--only"]
    ablate.main([*ask, "reference"])
    written = (out / "reference-0" / "result.json").stat().st_mtime_ns
    ablate.main([*ask, bidirectional])
    assert (out / "reference-0" / "result.json").stat().st_mtime_ns == written
    table = json.loads((out / "ablation.json").read_text())
    assert [(row["name"], row["seeds"]) for row in table["rows"]] == [
        ("reference", [0, 1]),
        (bidirectional, [0, 1]),
    ]
    # two of the three nights of the fold's people are draws of one sleep
    assert {run["agreement"]["epochs"] for run in table["runs"]} == {24}
    assert table["rows"][0]["beside_reference"] == 0
    kappa = {(run["name"], run["seed"]): run["agreement"]["kappa"] for run in table["runs"]}
    gains = [kappa[bidirectional, seed] - kappa["reference", seed] for seed in (0, 1)]
    assert table["rows"][1]["beside_reference"] == pytest.approx(np.mean(gains))
    assert f"| {bidirectional} |" in capsys.readouterr().out
    assert not load_checkpoint(out / "bidirectional-4-each-way-1" / ablate.NETWORK).size.causal


@pytest.mark.slow
def test_given_backbones_stay_as_they_are_and_nights_are_embedded_once(config: Path) -> None:
    net = network(seed=5)
    save_checkpoint(config.parent / "given.pt", Checkpoint(TINY, net, "rhythms", {}))
    frozen = config.read_text().replace('"fine_tune"\nsteps = 4', '"fine_tune"\nfrozen = true\nsteps = 4')
    begun = f'backbones = "{config.parent / "given.pt"}"\n'
    config.write_text(begun + frozen.replace('"contrast"', '"cross_mask"'))
    out = config.parent / "out"
    ablate.main([str(config), "--out", str(out), "--device", "cpu", "--only", "reference", "context 1"])
    made = load_checkpoint(out / "context-1-0" / ablate.NETWORK).network
    given = net.raw.state_dict()
    assert all(given[name].equal(kept) for name, kept in made.raw.state_dict().items())
    assert not made.joint.weight.equal(
        load_checkpoint(out / "reference-0" / ablate.NETWORK).network.joint.weight
    )


@pytest.mark.parametrize(
    ("change", "only", "reason"),
    [
        (("fine_tune", "cross_mask"), "reference", "it learns no stages"),
        (("context = 4", "causal = false"), "reference", "take start, views and causal out"),
        (("", ""), "colour", "variant 'colour': unknown; there are 'reference', "),
        (("context", 'backbones = "gone.pt"\ncontext'), "reference", "gone.pt: no such file"),
    ],
)
def test_what_cannot_be_ablated_is_one_line(
    config: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], only: str, reason: str
) -> None:
    config.write_text(config.read_text().replace(*change))
    assert refused(ablate.main, str(config), "--out", str(config.parent / "out"), "--only", only) != 0
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1


@pytest.mark.slow
def test_folds_are_trained_without_their_people_streamed_and_pooled(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = config.parent / "out"
    folds.main([str(config), "--out", str(out), "--device", "cpu"])
    first = json.loads((out / "folds.json").read_text())
    assert {fold: one["subjects"] for fold, one in first["folds"].items()} == {"0": 1, "2": 2}
    assert first["pool"]["pooled"]["epochs"] == 36
    correct = sum(one["pooled"]["accuracy"] * one["pooled"]["epochs"] for one in first["folds"].values())
    assert first["pool"]["pooled"]["accuracy"] == pytest.approx(correct / 36)
    assert "# Folds: 2 of 10, 3 people" in capsys.readouterr().out
    assert Model.load(out / "2" / "model.pt", trusted=True).contract.temperature == 1
    (out / "2" / "model.pt").unlink()
    folds.main([str(config), "--out", str(out), "--device", "cpu"])  # nothing is trained or staged again
    assert not (out / "2" / "model.pt").exists()
    assert json.loads((out / "folds.json").read_text()) == first


def test_a_folder_with_folds_of_another_run_is_refused(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings(config).model_copy(update={"out": config.parent / "out" / "2"})
    settings.out.mkdir(parents=True)
    grid = Rows(np.full((2, 5), np.nan), np.zeros(2, np.int64), np.zeros(2, np.int64))
    write_result(settings, {"nights": [folds.pack(StagedNight("a", "20", grid))]})
    (kept,) = folds.stage_fold(settings, [], torch.device("cpu"))
    assert (kept.grid.truth.size, kept.grid.stages.tolist()) == (2, [-1, -1])
    assert refused(folds.main, str(config), "--out", str(config.parent / "out"), "--only", "2") != 0
    assert "another --out" in capsys.readouterr().err
    assert refused(folds.main, str(config), "--out", str(config.parent / "out"), "--only", "5") != 0
    assert "none of the prepared nights" in capsys.readouterr().err


def test_the_settings_of_the_tables_are_references() -> None:
    for name in ("ablation", "ablation_sequence"):
        ablate.check(load_settings(Path(__file__).parents[2] / "model" / "configs" / f"{name}.toml"))
