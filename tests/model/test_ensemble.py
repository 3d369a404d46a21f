"""Several networks as one: the mean of what each says, streamed as in parallel, exported as any other."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.checkpoint import Checkpoint, load_start, save_checkpoint
from model.ensemble import Ensemble
from model.export import export
from model.join import join, main
from model.size import BANDS_HZ
from streamer.errors import ArtifactError, UsageError
from streamer.network.stager import Model
from tests.model.tiny import TINY, network, signal

pytestmark = pytest.mark.train

# Of the shape of what ships, without its Transformer over the frames: tests/network/test_onnx.py exports one.
ABSOLUTE = replace(TINY, bins=90, bands_hz=BANDS_HZ, views="spectrum", spectrum_layers=0)
TWO_LOOKS = replace(
    ABSOLUTE,
    views="both",
    channels=(),
    convolutions=(),
    level_hz=BANDS_HZ,
    bands_hz=(),
    frame_width=4,
    trailing_epochs=4,
)
SIZES = [ABSOLUTE, replace(TWO_LOOKS, sequence_layers=2)]


WEIGHTS = (1.0, 1.5, 1.0, 1.0, 0.85)


def ensemble(
    shares: tuple[float, ...] = (0.25, 0.75), weights: tuple[float, ...] = (1,) * 5, settling: float = 0
) -> Ensemble:
    members = [network(size, seed) for seed, size in enumerate(SIZES)]
    return Ensemble(members, shares, weights, settling).eval()


def test_it_says_the_mean_of_what_its_members_say() -> None:
    joined, given = ensemble(), signal(9)
    with torch.no_grad():
        each = [torch.softmax(one(*given)[:, :, 0], -1) for one in joined.members]
        found = torch.softmax(joined(*given)[:, :, 0], -1)
    torch.testing.assert_close(found, 0.25 * each[0] + 0.75 * each[1])
    assert not torch.allclose(each[0], each[1], atol=1e-3)


def test_a_stage_that_is_more_frequent_is_more_probable_by_as_much() -> None:
    given = signal(9)
    with torch.no_grad():
        plain = torch.softmax(ensemble()(*given)[:, :, 0], -1)
        found = torch.softmax(ensemble(weights=WEIGHTS)(*given)[:, :, 0], -1)
    weighted = plain * torch.tensor(WEIGHTS)
    torch.testing.assert_close(found, weighted / weighted.sum(-1, keepdim=True))


def test_the_share_of_the_last_grows_with_what_it_has_heard_and_fades_when_it_hears_nothing() -> None:
    joined, (raw, spectrum, present) = ensemble(settling=1.0), signal(12)
    spectrum[:, :, :15] = torch.nan  # half of each epoch is lost, and counts half
    present[:, 6:] = False
    with torch.no_grad():
        each = [torch.softmax(one(raw, spectrum, present)[:, :, 0], -1) for one in joined.members]
        found = torch.softmax(joined(raw, spectrum, present)[:, :, 0], -1)
    weight, shares, heard = 0.0, [], present[0, :, 1].tolist()
    for epoch in range(12):
        weight = weight * math.exp(-1 / TWO_LOOKS.trailing_epochs) + (14 / 29 if heard[epoch] else 0)
        shares.append(0.75 * weight**2 / (weight**2 + 1))
    share = torch.tensor(shares)[None, :, None]
    assert shares[0] < 0.2 < 0.4 < shares[5]
    assert shares[11] < shares[6] < shares[5]
    torch.testing.assert_close(found, (1 - share) * each[0] + share * each[1])


def test_only_one_that_standardises_beside_others_can_settle() -> None:
    saved = [Checkpoint(TWO_LOOKS, network(TWO_LOOKS, seed), "noise", {}) for seed in range(2)]
    assert join(saved, (0.5, 0.5), settling_epochs=2).settling_epochs == 2
    with pytest.raises(ArtifactError, match="settling needs a last member"):
        join(saved[:1], (1.0,), settling_epochs=2)
    absolute = Checkpoint(ABSOLUTE, network(ABSOLUTE), "noise", {})
    with pytest.raises(ArtifactError, match="settling needs a last member"):
        join([absolute, absolute], (0.5, 0.5), settling_epochs=2)
    with pytest.raises(UsageError, match="--settling-epochs"):
        join(saved, (0.5, 0.5), settling_epochs=-1)


@pytest.mark.parametrize("block", [1, 3])
def test_streamed_it_says_what_it_says_in_parallel(block: int) -> None:
    joined, (raw, spectrum, present) = ensemble(weights=WEIGHTS, settling=2.0), signal(11, batch=2)
    with torch.no_grad():
        parallel = joined(raw, spectrum, present)[:, :, 0]
        state, rows = joined.initial_state(2), []
        for begin in range(0, 11, block):
            part = slice(begin, begin + block)
            logits, state = joined.advance(raw[:, part], spectrum[:, part], present[:, part], state)
            rows.append(logits)
    torch.testing.assert_close(torch.cat(rows, 1), parallel, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_it_is_exported_for_every_runtime_and_the_last_member_can_be_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, size in enumerate(SIZES):
        made = Checkpoint(size, network(size, number), f"noise {number}", {})
        save_checkpoint(tmp_path / f"{number}.pt", made)
    given = [str(tmp_path / name) for name in ("0.pt", "1.pt", "out.pt")]
    options = "--shares 0.25 0.75 --stage-weights 1 2 1 1 1 --temperature 1.5 --settling-epochs 2"
    main([*given, *options.split()])
    assert "tiny + tiny" in capsys.readouterr().out
    contract = Model.load(tmp_path / "out.pt", trusted=True).contract
    assert contract.trained_on == "noise 0 | noise 1"
    assert contract.temperature == 1.5
    last = load_start(tmp_path / "out.pt")
    assert last.size == SIZES[1]
    assert torch.equal(last.network.joint.weight, network(SIZES[1], 1).joint.weight)


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    saved = [Checkpoint(size, network(size), "noise", {}) for size in SIZES]
    with pytest.raises(UsageError, match="--shares"):
        join(saved, (0.5, 0.6))
    with pytest.raises(UsageError, match="--stage-weights"):
        join(saved, (0.5, 0.5), (1, 1, 0, 1, 1))
    with pytest.raises(ArtifactError, match="those over 0 first"):
        join(saved[::-1], (0.5, 0.5))
    other = replace(ABSOLUTE, context=3)
    with pytest.raises(ArtifactError, match="differ in width, heads or context"):
        join([Checkpoint(other, network(other), "noise", {}), saved[1]], (0.5, 0.5))
    ahead = replace(TWO_LOOKS, causal=False)
    pair = Ensemble([network(replace(ABSOLUTE, causal=False)), network(ahead)], (0.5, 0.5))
    with pytest.raises(ArtifactError, match="bidirectional"):
        export(pair, [replace(ABSOLUTE, causal=False), ahead], "noise", tmp_path / "x.pt", onnx=False)
