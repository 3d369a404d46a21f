"""Training: the same seed gives the same network, and a run that was stopped ends as if it had not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.augment import NONE, Augmentation
from model.checkpoint import Checkpoint, load_checkpoint, load_start, save_checkpoint
from model.data import Cut, Sequences, save_night
from model.export import export
from model.export import main as export_main
from model.settings import Phase, Settings, load_settings
from model.size import SIZES
from model.train import Run, decayed, evaluate, fit_scales, main, pace, trained
from streamer.errors import ArtifactError, SettingsError
from streamer.network.stager import Model
from tests.model.nights import night
from tests.model.tiny import TINY, network, signal

pytestmark = pytest.mark.train

CPU = torch.device("cpu")
NIGHTS = [night(0), night(20), night(21)]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "small", TINY)


def settings(out: Path, **changed: object) -> Settings:
    out.mkdir(exist_ok=True)
    phases = [
        {"objective": "contrast", "steps": 3, "learning_rate": 1e-3},
        {"objective": "cross_mask", "steps": 3, "learning_rate": 1e-3},
        {"objective": "fine_tune", "frozen": True, "steps": 3, "learning_rate": 1e-3},
        {"objective": "fine_tune", "steps": 3, "learning_rate": 1e-3},
    ]
    common = {"epochs": 5, "sequences": 2, "warm_up": 2}
    made = {
        "nights": [out],
        "out": out,
        "trained_on": "rhythms",
        "phases": [phase | common for phase in phases],
        "average": 0.5,
        "save_every": 2,
        "validate_every": 2,
        "augmentation": Augmentation(0.2, 0.1, 0.1, 0.5, 0.2, 1.0, 0.5, 0.1, 0.1),
    }
    return Settings.model_validate(made | changed)


def weights(run: Run) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.averaged().state_dict().items()}


@pytest.mark.slow
def test_same_seed_same_result_and_another_seed_another(tmp_path: Path) -> None:
    runs = []
    for number, seed in enumerate((0, 0, 1)):
        run = Run(settings(tmp_path / str(number), seed=seed), NIGHTS, CPU)
        run.train()
        runs.append(weights(run))
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert not torch.equal(runs[0]["joint.weight"], runs[2]["joint.weight"])


@pytest.mark.slow
@pytest.mark.parametrize("stopped_after", [4, 10])  # within a phase with and without a frozen part
def test_a_resumed_run_ends_as_if_it_had_never_stopped(tmp_path: Path, stopped_after: int) -> None:
    through = Run(settings(tmp_path / "a"), NIGHTS, CPU)
    through.train()
    first = Run(settings(tmp_path / "b"), NIGHTS, CPU)
    first.train(most_steps=stopped_after)
    first.save()
    second = Run(settings(tmp_path / "b"), NIGHTS, CPU)
    second.restore()
    second.train()
    ours, theirs = weights(second), weights(through)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert second.best == through.best


@pytest.mark.slow
def test_a_run_that_has_ended_is_restored_with_its_averages(tmp_path: Path) -> None:
    run = trained(settings(tmp_path), NIGHTS, CPU)
    again = trained(settings(tmp_path), NIGHTS, CPU)
    theirs = weights(run)
    assert all(torch.equal(kept, theirs[name]) for name, kept in weights(again).items())


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    Run(settings(tmp_path), NIGHTS, CPU).save()
    with pytest.raises(SettingsError, match="other settings"):
        Run(settings(tmp_path, seed=3), NIGHTS, CPU).restore()


def test_a_run_can_begin_with_the_network_of_another(tmp_path: Path) -> None:
    net = network(seed=5)
    net.temperature.fill_(2.0)
    save_checkpoint(tmp_path / "best.pt", Checkpoint(TINY, net, "rhythms", {}))
    run = Run(settings(tmp_path / "a", start=tmp_path / "best.pt"), NIGHTS, CPU)
    assert torch.equal(run.network.joint.weight, net.joint.weight)
    assert float(run.network.temperature) == 1
    with pytest.raises(SettingsError, match="holds Size"):
        Run(settings(tmp_path / "b", start=tmp_path / "best.pt", context=3), NIGHTS, CPU)


def test_a_run_can_look_further_back_than_what_it_begins_with(tmp_path: Path) -> None:
    size = replace(TINY, trailing_epochs=5)
    save_checkpoint(tmp_path / "best.pt", Checkpoint(size, network(size, seed=5), "rhythms", {}))
    run = Run(settings(tmp_path / "a", start=tmp_path / "best.pt", trailing_epochs=9), NIGHTS, CPU)
    assert run.size == replace(TINY, trailing_epochs=9)
    assert torch.equal(run.network.joint.weight, network(size, seed=5).joint.weight)
    with pytest.raises(SettingsError, match="holds Size"):  # scales that are fixed are learnt
        Run(settings(tmp_path / "b", start=tmp_path / "best.pt", trailing_epochs=0), NIGHTS, CPU)


def test_a_run_can_begin_with_the_packaged_model_and_ends_with_no_worse(tmp_path: Path) -> None:
    phase = {"objective": "fine_tune", "steps": 1, "learning_rate": 1.0, "epochs": 5, "sequences": 1}
    network = load_start("packaged").network.eval()
    nights = [  # it could not do better
        replace(one, stages=evaluate(network, [one], NONE)[1].argmax(1).numpy().astype(np.int8))
        for one in NIGHTS
    ]
    run = Run(settings(tmp_path, start="packaged", phases=[phase]), nights, CPU)
    assert run.size == load_start("packaged").size
    run.train()  # one wild step
    kept = load_checkpoint(tmp_path / "best.pt").network.state_dict()
    given = load_start("packaged").network.state_dict()
    assert all(torch.equal(kept[name], one) for name, one in given.items() if name != "temperature")


def test_a_run_can_begin_with_an_artifact(tmp_path: Path) -> None:
    net = network(seed=5)
    export(net, TINY, "rhythms", tmp_path / "tiny.pt", onnx=False)
    run = Run(settings(tmp_path / "a", start=tmp_path / "tiny.pt"), NIGHTS, CPU)
    assert run.size == TINY
    assert torch.equal(run.network.joint.weight, net.joint.weight)
    with pytest.raises(ArtifactError, match=r"other\.pt: no such file"):
        Run(settings(tmp_path / "b", start=tmp_path / "other.pt"), NIGHTS, CPU)


def test_norms_biases_places_and_masks_do_not_decay() -> None:
    net = network()
    decay, free = ({id(one) for one in group["params"]} for group in decayed(net, 0.1))
    named = dict(net.named_parameters())
    assert len(decay) + len(free) == len(named)
    for name, one in named.items():
        kept = one.ndim < 2 or name.endswith(("bias", "place", "mask"))
        assert (id(one) in free) is kept
    assert id(net.joint.weight) in decay
    assert id(net.raw_layers[0].self_attention.bias) in free


def test_a_run_can_begin_with_the_backbones_of_another(tmp_path: Path) -> None:
    net = network(seed=5)
    net.raw_scale_uv.fill_(33.0)
    save_checkpoint(tmp_path / "best.pt", Checkpoint(TINY, net, "rhythms", {}))
    begun = {"backbones": tmp_path / "best.pt", "context": 3, "causal": False}
    run = Run(settings(tmp_path / "a", **begun), NIGHTS, CPU)
    tokens = [one.eval().encode_all(*signal(2)) for one in (run.network, net)]
    assert torch.equal(*tokens)
    assert not torch.equal(run.network.joint.weight, net.joint.weight)
    asked = settings(tmp_path / "b", backbones=tmp_path / "best.pt")
    save_checkpoint(
        tmp_path / "best.pt", Checkpoint(replace(TINY, bins=41), network(replace(TINY, bins=41)), "", {})
    )
    with pytest.raises(SettingsError, match="bins=41"):
        Run(asked, NIGHTS, CPU)


def test_a_run_from_before_a_setting_existed_goes_on(tmp_path: Path) -> None:
    run = Run(settings(tmp_path), NIGHTS, CPU)
    run.save()
    saved = torch.load(tmp_path / "last.pt", weights_only=True)
    old = json.loads(saved["progress"]["settings"])
    del old["views"], old["causal"], old["backbones"]
    saved["progress"]["settings"] = json.dumps(old)
    torch.save(saved, tmp_path / "last.pt")
    run.restore()


def test_settings_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contrast, which needs both views"):
        settings(tmp_path, views="raw")
    with pytest.raises(ValueError, match="two beginnings"):
        settings(tmp_path, start=tmp_path, backbones=tmp_path)


@pytest.mark.parametrize("changed", [{"views": "spectrum"}, {"causal": False}, {"context": 1}])
def test_every_kind_of_network_can_be_trained(tmp_path: Path, changed: dict[str, object]) -> None:
    phase = {"objective": "fine_tune", "steps": 2, "learning_rate": 1e-3, "epochs": 5, "sequences": 2}
    run = Run(settings(tmp_path, phases=[phase], **changed), NIGHTS, CPU)
    run.train()
    kept = load_checkpoint(tmp_path / "best.pt")
    assert kept.size == run.size == replace(TINY, **changed)


def test_scales_come_from_the_training_nights() -> None:
    net = network()
    batches = Sequences(NIGHTS, Cut(5, 2), (0,), 3)
    fit_scales(net, iter([batches[k] for k in range(3)]))
    assert 10 < float(net.raw_scale_uv) < 20  # a sine of 20 µV in noise of 5 µV
    assert float(net.standard.centre_db.max()) > float(net.standard.centre_db.min()) + 3


def test_pace_rises_then_falls() -> None:
    phase = Phase(objective="contrast", steps=100, learning_rate=1.0, warm_up=10)
    rates = [pace(step, phase) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == pytest.approx(1.0)
    assert rates[-1] < 0.01


def test_evaluation_leaves_out_what_is_lost() -> None:
    everything, logits, stages = evaluate(network(), NIGHTS, NONE)
    assert everything.epochs == len(logits) == len(stages) == 36
    assert evaluate(network(), NIGHTS, Augmentation(lost_epochs=0.3))[0].epochs < 36


TOML = """
nights = ["{folder}/nights"]
out = "{folder}/run"
trained_on = "rhythms"
[[phases]]
objective = "fine_tune"
steps = 4
learning_rate = 3e-3
epochs = 5
sequences = 2
"""


@pytest.mark.slow
def test_from_toml_to_artifact(tmp_path: Path) -> None:
    (tmp_path / "nights").mkdir()
    for one in NIGHTS:
        save_night(tmp_path / "nights" / f"{one.recording}.npz", one)
    (tmp_path / "run.toml").write_text(TOML.format(folder=tmp_path))
    main([str(tmp_path / "run.toml"), "--device", "cpu"])
    assert load_checkpoint(tmp_path / "run" / "best.pt").trained_on == "rhythms"
    export_main([str(tmp_path / "run" / "best.pt"), str(tmp_path / "model.pt"), "--no-onnx"])
    assert Model.load(tmp_path / "model.pt", trusted=True).contract.trained_on == "rhythms"
    main([str(tmp_path / "run.toml"), "--device", "cpu"])  # finished already: nothing left to do


@pytest.mark.parametrize(
    ("text", "reason"),
    [("steps = ", "not TOML"), ("speed = 1", "nights"), (TOML + "speed = 1", "phases.0.speed")],
)
def test_bad_settings_are_one_line(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(SettingsError, match=reason):
        load_settings(tmp_path / "run.toml")
    with pytest.raises(SettingsError, match="no such file"):
        load_settings(tmp_path / "other.toml")


def test_configs_of_the_project_are_valid() -> None:
    for path in (Path(__file__).parents[2] / "model" / "configs").glob("*.toml"):
        load_settings(path)
