"""Embedded nights: what the network would have made of the signal, cut as the signal would have been."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.augment import NONE, Augmentation
from model.data import Batch, Cut, targets, whole
from model.encoded import EncodedSequences, encode_night
from model.objectives import CrossMask, FineTune
from streamer.errors import RecordingError
from tests.model.nights import night
from tests.model.tiny import TINY, network

pytestmark = pytest.mark.train


def test_a_batch_of_embedded_epochs_teaches_what_the_epochs_themselves_would() -> None:
    net, made = network(), night(3)
    encoded = encode_night(net, made, 0.0, NONE, seed=0)
    raw, spectrum, present = whole(made, NONE)
    target = torch.from_numpy(targets(made, 0.0))[None]
    seen = Batch(raw, spectrum, target, present)
    before = Batch(raw[:, :, :0], spectrum[:, :, :0, 0], encoded.target[None], present, encoded.tokens[None])
    for objective in (CrossMask(net, TINY.width), FineTune(net, frozen=True)):
        objective.train(False)
        losses = []
        for batch in (seen, before):
            torch.manual_seed(0)
            losses.append(objective(batch.to(torch.device("cpu"))).item())
        assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_sequences_are_consecutive_epochs_and_follow_from_a_number() -> None:
    net, made = network(), night(3, epochs=20)
    encoded = encode_night(net, made, 0.0, Augmentation(gain=0.5), seed=0)
    cut = Cut(epochs=6, sequences=3, augmentation=Augmentation(lost_epochs=0.3))
    batch = EncodedSequences([encoded], cut, (1,), 5)[4]
    again = EncodedSequences([encoded], cut, (1,), 1, first=4)[0]
    there = [(one, other) for one, other in zip(batch, again, strict=True) if one is not None]
    assert len(there) == 5
    assert all(torch.equal(one, other) for one, other in there)
    assert batch.tokens is not None
    starts = [int(np.flatnonzero((encoded.tokens == row[0]).all((1, 2)))[0]) for row in batch.tokens]
    assert len(set(starts)) > 1
    for row, target, start in zip(batch.tokens, batch.target, starts, strict=True):
        assert torch.equal(row, encoded.tokens[start : start + 6])
        assert torch.equal(target, encoded.target[start : start + 6])
    assert not batch.present.all()
    plain = encode_night(net, made, 0.0, NONE, seed=0)
    assert not torch.allclose(plain.tokens, encoded.tokens, atol=1e-3)
    with pytest.raises(RecordingError, match="no embedded night has 21 epochs"):
        EncodedSequences([encoded], Cut(epochs=21), (1,), 1)
