"""The network: the past only, streamed as trained, nothing that grows, losses survived."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.mc2sleepnet import HEADS, MC2SleepNet, parameter_count
from model.size import BANDS_HZ, SIZES, Size, Views
from tests.model.tiny import TINY, network, signal

pytestmark = pytest.mark.train

EPOCHS = 11  # more than twice the context
POOLED = replace(TINY, bins=90, bands_hz=BANDS_HZ)
TWO_LOOKS = replace(POOLED, channels=(), convolutions=(), level_hz=BANDS_HZ, trailing_epochs=4)


@pytest.mark.parametrize("block", [1, 2, 5])
@pytest.mark.parametrize("size", [TINY, POOLED, TWO_LOOKS, replace(TINY, level_hz=BANDS_HZ)])
def test_streaming_equals_parallel(size: Size, block: int) -> None:
    net, (raw, spectrum, present) = network(size), signal(EPOCHS)
    with torch.no_grad():
        parallel = net(raw, spectrum, present)
        state, rows = net.initial_state(1), []
        for begin in range(0, EPOCHS, block):
            part = slice(begin, begin + block)
            logits, state = net.advance(raw[:, part], spectrum[:, part], present[:, part], state)
            rows.append(logits)
    assert parallel.shape == (1, EPOCHS, len(HEADS), 5)
    assert parallel.isfinite().all()
    torch.testing.assert_close(torch.cat(rows, 1), parallel[:, :, 0], atol=1e-5, rtol=0)


def test_streams_of_a_batch_do_not_mix() -> None:
    net, (raw, spectrum, present) = network(), signal(EPOCHS, batch=3)
    with torch.no_grad():
        together = net(raw, spectrum, present)
        alone = net(raw[1:2], spectrum[1:2], present[1:2])
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("at", [0, 5, EPOCHS - 1])
def test_nothing_depends_on_the_future(at: int) -> None:
    net, (raw, spectrum, present) = network(), signal(EPOCHS)
    with torch.no_grad():
        before = net(raw, spectrum, present)
        raw[:, at:], spectrum[:, at:], present[:, at:] = 300.0, 90.0, True
        after = net(raw, spectrum, present)
    torch.testing.assert_close(after[:, :at], before[:, :at], atol=1e-6, rtol=0)
    assert not torch.allclose(after[:, at], before[:, at], atol=1e-4)


def test_the_past_matters_as_far_as_the_context_and_no_further() -> None:
    net, (raw, spectrum, present) = network(), signal(EPOCHS)
    reach = TINY.sequence_layers * (TINY.context - 1)
    with torch.no_grad():
        before = net(raw, spectrum, present)[:, :, 0]
        spectrum[:, 0] += 30
        after = net(raw, spectrum, present)[:, :, 0]
    changed = (after - before).abs().amax((0, 2))
    assert changed[0] > 1e-4
    assert changed[TINY.context - 1] > 1e-6
    assert changed[reach + 1 :].max() == 0


def test_state_is_fixed_in_size_and_step_leaves_the_old_one_alone() -> None:
    net, (raw, spectrum, present) = network(), signal(EPOCHS)
    state = net.initial_state(1)
    with torch.no_grad():
        for epoch in range(EPOCHS):
            kept = [tensor.clone() for tensor in state]
            now = slice(epoch, epoch + 1)
            _, following = net.advance(raw[:, now], spectrum[:, now], present[:, now], state)
            assert all(torch.equal(old, new) for old, new in zip(kept, state, strict=True))
            assert [tensor.shape for tensor in following] == [tensor.shape for tensor in state]
            state = following
    assert int(state.seen) == TINY.context - 1


def test_a_lost_epoch_is_the_mask_whatever_it_held() -> None:
    net, (raw, spectrum, present) = network(), signal(EPOCHS)
    with torch.no_grad():
        before = net(raw, spectrum, present)
        raw[:, 4], spectrum[:, 4], raw[:, 2] = 0.0, 0.0, torch.nan
        torch.testing.assert_close(net(raw, spectrum, present), before, atol=1e-6, rtol=0)


def test_lost_samples_are_neutral() -> None:
    net, (raw, spectrum, present) = network(), signal(2)
    present[:] = True
    with torch.no_grad():
        lost = net.encode_all(raw, spectrum, present)
        raw[:, 1, 100:400] = 0
        spectrum[:, 1, :4, : TINY.bins] = net.standard.centre_db
        assert lost.isfinite().all()
        torch.testing.assert_close(net.encode_all(raw, spectrum, present), lost)


@pytest.mark.parametrize("size", [TINY, TWO_LOOKS])
def test_nothing_at_all_is_survived(size: Size) -> None:
    net, (raw, spectrum, present) = network(size), signal(3)
    with torch.no_grad():
        raw[:], spectrum[:] = torch.nan, torch.nan
        assert net(raw, spectrum, present).isfinite().all()


def test_temperature_divides_the_logits() -> None:
    net, (raw, spectrum, present) = network(), signal(3)
    with torch.no_grad():
        sharp = net(raw, spectrum, present)
        net.temperature.fill_(2.0)
        torch.testing.assert_close(net(raw, spectrum, present), sharp / 2)


def test_sizes_are_what_they_claim() -> None:
    assert 5.5e6 < parameter_count(MC2SleepNet(SIZES["base"])) < 6.5e6
    assert parameter_count(MC2SleepNet(SIZES["small"])) <= 1e6


def test_the_bidirectional_twin_sees_as_far_ahead_as_back_and_no_further() -> None:
    size = replace(TINY, causal=False, context=3, sequence_layers=1)
    net, (raw, spectrum, present) = network(size), signal(EPOCHS)
    with torch.no_grad():
        before = net(raw, spectrum, present)[:, :, 0]
        spectrum[:, 6] += 30
        after = net(raw, spectrum, present)[:, :, 0]
    changed = (after - before).abs().amax((0, 2))
    assert changed[4:9].min() > 1e-6
    assert changed[:4].max() == changed[9:].max() == 0


def test_the_bidirectional_twin_can_learn_to_tell_before_from_after() -> None:
    net, (raw, spectrum, _) = network(replace(TINY, causal=False)), signal(3)
    present = torch.ones(1, 3, 2, dtype=torch.bool)

    def middle_forth_and_back() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return net(raw, spectrum, present)[:, 1], net(raw.flip(1), spectrum.flip(1), present)[:, 1]

    torch.testing.assert_close(*middle_forth_and_back())
    for name, bias in net.named_parameters():
        if name.endswith("bias") and bias.shape[-1] == 2 * TINY.context - 1:
            bias.data[:, : TINY.context - 1] = -4.0  # the future counts less
    forth, back = middle_forth_and_back()
    assert not torch.allclose(forth, back, atol=1e-4)


def test_the_bidirectional_twin_cannot_be_streamed() -> None:
    net = network(replace(TINY, causal=False))
    with pytest.raises(AssertionError, match="cannot be streamed"):
        net.advance(*signal(3), net.initial_state(1))


@pytest.mark.parametrize(("views", "seen", "hidden"), [("raw", 0, 1), ("spectrum", 1, 0)])
def test_a_view_left_out_has_no_influence(views: Views, seen: int, hidden: int) -> None:
    net, (raw, spectrum, present) = network(replace(TINY, views=views)), signal(EPOCHS)
    signals = [raw, spectrum]
    with torch.no_grad():
        before = net(*signals, present)
        signals[hidden] = torch.full_like(signals[hidden], 50.0)
        torch.testing.assert_close(net(*signals, present), before, atol=0, rtol=0)
        signals[seen] = torch.full_like(signals[seen], 50.0)
        assert not torch.allclose(net(*signals, present)[:, :, 0], before[:, :, 0], atol=1e-4)


def test_without_context_every_epoch_stands_alone() -> None:
    net, (raw, spectrum, present) = network(replace(TINY, context=1)), signal(EPOCHS)
    with torch.no_grad():
        whole = net(raw, spectrum, present)[:, 7]
        torch.testing.assert_close(net(raw[:, 7:8], spectrum[:, 7:8], present[:, 7:8])[:, 0], whole)
