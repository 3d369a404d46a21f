"""Bands and scales: the right bins, the past only, and blind to gain and tilt where that is promised."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.scaled_epoch import ScaledEpoch
from model.size import BANDS_HZ
from model.standard import Bands, Past, Standard

pytestmark = pytest.mark.train

FEATURES = 3
ALL = torch.ones(1, 40, dtype=torch.bool)


def power(epochs: int = 40, seed: int = 0) -> torch.Tensor:
    """(1, epochs, 29, 3) dB with levels and spreads of their own, and a drift."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(1, epochs, 29, FEATURES, generator=generator)
    drift = torch.linspace(0, 6, epochs)[None, :, None, None]
    return drawn * torch.tensor([3.0, 5.0, 8.0]) + torch.tensor([50.0, 30.0, 10.0]) + drift


def test_bands_hold_the_power_of_their_bins_and_of_the_whole_epoch() -> None:
    spectrum = torch.full((1, 29, 128), 7.0)
    spectrum[0, 14, 19:31] = 27.0  # one frame, within 8-12 Hz
    seen = Bands(BANDS_HZ, 90)(spectrum)[0]
    counts = torch.tensor([9.0, 10.0, 10.0, 10.0, 36.0])  # bins of 100 / 256 Hz in each band
    assert seen.shape == (30, 5)
    torch.testing.assert_close(seen[0], 7.0 + 10 * counts.log10())
    rise = (seen[14] - seen[0]).round(decimals=1)
    assert rise[2] == pytest.approx(20.0, abs=0.1)
    assert (rise[[0, 4]] == 0).all()
    torch.testing.assert_close(seen[29, 2], 7.0 + 10 * (10 * (28 + 100) / 29 * torch.ones(())).log10())


def test_a_band_that_lost_frames_goes_on_with_the_others() -> None:
    spectrum = torch.full((2, 29, 128), 7.0)
    spectrum[0, :9] = torch.nan
    spectrum[1] = torch.nan
    seen = Bands(BANDS_HZ, 90)(spectrum)
    assert seen[0, :9].isnan().all()
    torch.testing.assert_close(seen[0, 29], seen[0, 20])
    assert seen[1].isnan().all()


def test_without_edges_the_lowest_bins_pass_as_they_are() -> None:
    spectrum = torch.randn(2, 29, 128)
    assert torch.equal(Bands((), 40)(spectrum), spectrum[..., :40])


def test_gain_and_tilt_have_no_influence_from_the_first_epoch_on() -> None:
    scale = Standard(FEATURES, 20)
    plain, _ = scale(power(), ALL, scale.blank(1))
    other, _ = scale(power() + torch.tensor([6.0, -3.0, 12.0]), ALL, scale.blank(1))
    torch.testing.assert_close(other, plain, atol=1e-4, rtol=0)
    assert plain[0, 0].abs().max() > 0.5


def test_fixed_scales_know_the_level() -> None:
    scale = Standard(FEATURES, 0)
    plain, _ = scale(power(), ALL, scale.blank(1))
    other, _ = scale(power() + 6.0, ALL, scale.blank(1))
    inside = (plain.abs() < 5) & (other.abs() < 5)
    torch.testing.assert_close(other[inside], plain[inside] + 0.6)


def test_it_converges_on_mean_and_spread_of_the_trailing_past() -> None:
    scale = Standard(FEATURES, 1000)
    steady = power(400) - torch.linspace(0, 6, 400)[None, :, None, None]  # no: a drift of its own
    steady = steady - steady.mean((1, 2), keepdim=True)
    found, past = scale(steady, torch.ones(1, 400, dtype=torch.bool), scale.blank(1))
    late = found[0, 200:]
    assert late.mean().abs() < 0.1
    assert late.std() == pytest.approx(1.0, abs=0.1)
    assert float(past.weight) == pytest.approx(1000 * (1 - 2.718281828 ** (-0.4)), rel=0.01)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(0, 5))
def test_in_any_pieces_it_is_the_same(pieces: list[int], seed: int) -> None:
    scale, epochs = Standard(FEATURES, 7), sum(pieces)
    given_power = power(epochs, seed)
    given_power[0, epochs // 2, :11] = torch.nan
    present = torch.rand(1, epochs, generator=torch.Generator().manual_seed(seed)) > 0.2
    whole, after = scale(given_power, present, scale.blank(1))
    past, rows, at = scale.blank(1), [], 0
    for piece in pieces:
        some, past = scale(given_power[:, at : at + piece], present[:, at : at + piece], past)
        rows.append(some)
        at += piece
    torch.testing.assert_close(torch.cat(rows, 1), whole, atol=1e-4, rtol=0)
    for one, other in zip(past, after, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-5)


def test_nothing_depends_on_the_future() -> None:
    scale = Standard(FEATURES, 10)
    given_power = power()
    before, _ = scale(given_power, ALL, scale.blank(1))
    given_power[:, 20:] += 30
    after, _ = scale(given_power, ALL, scale.blank(1))
    torch.testing.assert_close(after[:, :20], before[:, :20], atol=0, rtol=0)


def test_what_is_not_present_does_not_count() -> None:
    scale, present = Standard(FEATURES, 10), ALL.clone()
    present[:, 5:9] = False
    before, past = scale(power(), present, scale.blank(1))
    changed = power()
    changed[:, 5:9] = 90.0
    after, other = scale(changed, present, scale.blank(1))
    torch.testing.assert_close(after[:, 9:], before[:, 9:], atol=0, rtol=0)
    assert all(torch.equal(one, two) for one, two in zip(past, other, strict=True))


def test_a_long_absence_leaves_a_past_that_works() -> None:
    scale = Standard(FEATURES, 5)
    _, past = scale(power(), ALL, scale.blank(1))
    for _ in range(40):
        lost = torch.full((1, 40, 29, FEATURES), torch.nan)
        found, past = scale(lost, torch.zeros(1, 40, dtype=torch.bool), past)
        assert (found == 0).all()
    found, _ = scale(power(seed=1), ALL, past)
    fresh, _ = scale(power(seed=1), ALL, scale.blank(1))
    torch.testing.assert_close(found, fresh, atol=1e-3, rtol=0)


def test_an_artefact_counts_no_more_than_the_farthest_there_is() -> None:
    scale = Standard(FEATURES, 10)
    wild = power()
    wild[0, 3] = 1e9
    found, past = scale(wild, ALL, scale.blank(1))
    assert found.isfinite().all()
    assert found.abs().max() <= 6.0
    assert isinstance(past, Past)
    assert all(one.isfinite().all() for one in past)


@pytest.mark.parametrize(("edges_hz", "trailing"), [((), 40), (BANDS_HZ, 40), (BANDS_HZ, 0)])
def test_one_epoch_at_a_time_is_scaled_as_all_at_once(edges_hz: tuple[float, ...], trailing: int) -> None:
    generator = torch.Generator().manual_seed(3)
    spectrum = 35 + 8 * torch.randn(2, 12, 29, 128, generator=generator)
    spectrum[0, 2, 5:9] = torch.nan
    spectrum[1, 0] = spectrum[0, 4] = torch.nan  # all is lost, once before anything was heard
    present = torch.ones(2, 12, dtype=torch.bool)
    present[0, 7] = False
    bands = Bands(edges_hz, 90)
    standard = Standard(bands.features, trailing)
    scaled, after = standard(bands(spectrum), present, standard.blank(2))
    one, past, found = ScaledEpoch(bands, standard), standard.blank(2), []
    for epoch in range(12):
        frames, past = one(spectrum[:, epoch], present[:, epoch], past)
        found.append(frames)
    torch.testing.assert_close(torch.stack(found, 1), scaled, atol=2e-5, rtol=0)
    torch.testing.assert_close(past, after, atol=2e-4, rtol=1e-5)
