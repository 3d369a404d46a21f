"""Training data: the spectrogram the engine serves, people kept apart, batches that follow from a number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.augment import NONE, Augmentation, augment, lose_epochs, response
from model.data import (
    FOLDS,
    Cut,
    Sequences,
    cut_sequence,
    fold_of,
    load_night,
    load_nights,
    save_night,
    spectrograms,
    split,
    targets,
    whole,
)
from streamer.errors import RecordingError
from streamer.window import spectrogram
from tests.model.nights import night

pytestmark = pytest.mark.train

STRONG = Augmentation(0.3, 0.2, 0.1, 1.0, 0.5, 2.0, 1.0, 0.2, 0.1)


def test_spectrograms_are_the_engines() -> None:
    samples = np.random.default_rng(0).normal(0, 20, (2, 3000)).astype(np.float32)
    samples[1, 500:520] = np.nan
    made = spectrograms(samples)
    for epoch in range(2):
        np.testing.assert_allclose(made[epoch], spectrogram(samples[epoch].astype(np.float64)), atol=2e-3)


def test_a_night_survives_the_disk(tmp_path: Path) -> None:
    for soft in (False, True):
        made = night(7, soft=soft)
        save_night(tmp_path / "one.npz", made)
        read = load_night(tmp_path / "one.npz")
        assert (read.recording, read.subject) == (made.recording, made.subject)
        np.testing.assert_array_equal(read.samples, made.samples)
        np.testing.assert_array_equal(read.stages, made.stages)
        assert (read.soft is None) is (made.soft is None)
    assert [path.name for path in tmp_path.iterdir()] == ["one.npz"]
    assert len(load_nights([tmp_path])) == 1


def test_a_night_that_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    save_night(tmp_path / "one.npz", replace(night(1), stages=np.zeros(3, np.int8)))
    with pytest.raises(RecordingError, match=r"\(36000,\) samples, \(3,\) stages"):
        load_night(tmp_path / "one.npz")
    np.savez(tmp_path / "two.npz", samples=np.zeros(3))
    with pytest.raises(RecordingError, match="found no recording, stages, subject"):
        load_night(tmp_path / "two.npz")


def test_nobody_is_on_both_sides_and_every_one_is_held_out_once() -> None:
    assert len({subject for fold in FOLDS for subject in fold}) == sum(map(len, FOLDS)) == 78
    nights = [night(subject, 4) for fold in FOLDS for subject in fold]
    for fold in range(10):
        learn, held_out = split(nights, fold)
        assert not {one.subject for one in learn} & {one.subject for one in held_out}
        assert len(learn) + len(held_out) == 78
        assert {int(one.subject) for one in held_out} == set(FOLDS[fold])


def test_people_of_other_studies_have_a_fold_too_and_always_the_same() -> None:
    nights = [replace(night(0, 4), subject=f"shhs1-{number}") for number in range(200001, 200101)]
    sizes = [len(split(nights, fold)[1]) for fold in range(10)]
    assert sum(sizes) == 100
    assert min(sizes) > 2
    assert fold_of("shhs1-200001") == 7  # a fold that changed would test on people who were trained on


def test_a_fold_without_people_is_refused() -> None:
    with pytest.raises(RecordingError, match="fold 1: 1 prepared nights to learn from, 0 held out"):
        split([night(0)], 1)


def test_people_or_nights_can_be_held_out_by_name() -> None:
    nights = [night(0), replace(night(0), recording="second"), night(3)]
    learn, held_out = split(nights, 0, ["second"])
    assert [one.recording for one in held_out] == ["second"]
    assert [one.subject for one in learn] == ["00", "03"]
    assert [one.subject for one in split(nights, 0, ["00"])[1]] == ["00", "00"]
    with pytest.raises(
        RecordingError, match=r"no prepared night is anna; there are SC4001E0 of 00, SC4031E0"
    ):
        split(nights, 0, ["anna", "00"])
    with pytest.raises(RecordingError, match="0 prepared nights to learn from, 3 held out"):
        split(nights, 0, ["00", "03"])


def test_what_is_lost_is_seen_in_the_samples_as_the_engine_sees_it() -> None:
    made = night(1, 8)
    made.samples[2 * 3000 : 2 * 3000 + 301] = np.nan  # a tenth, and one more
    made.samples[4 * 3000 : 4 * 3000 + 300] = np.nan
    _, _, present = whole(made, NONE)
    assert present[0, :, 0].tolist() == [True, True, False, *[True] * 5]
    cut = Cut(epochs=7, sequences=1)
    raw, _, present = cut_sequence(made.samples, targets(made, 0), cut, np.random.default_rng(0))
    assert present.all(1).tolist() == (np.isfinite(raw).mean(1) >= 0.9).tolist()
    assert not present.all()


def test_a_change_of_the_signal_does_not_spread_a_loss() -> None:
    samples = np.random.default_rng(0).normal(0, 20, 9000).astype(np.float32)
    samples[3000:3100] = np.nan
    changed = augment(samples, Augmentation(gain=0.3, tilt=0.2), np.random.default_rng(1))
    np.testing.assert_array_equal(np.isnan(changed), np.isnan(samples))


def test_one_view_may_be_lost_from_end_to_end() -> None:
    drawn = [
        lose_epochs(6, Augmentation(lost_sequences=0.5), np.random.default_rng(seed)) for seed in range(40)
    ]
    lost = [tuple((~one).all(0)) for one in drawn]
    assert {(True, False), (False, True), (False, False)} == set(lost)


def test_targets_mix_and_leave_out_the_unscored() -> None:
    made = night(1, 4, soft=True)
    made.stages[:] = (0, 3, -1, 4)
    mixed = targets(made, 0.5)
    np.testing.assert_allclose(mixed.sum(1), [1, 1, 0, 1], rtol=1e-6)
    np.testing.assert_allclose(mixed[1], [0.1, 0.1, 0.1, 0.6, 0.1], rtol=1e-6)


def test_a_window_off_the_grid_has_both_stages_by_overlap() -> None:
    made = night(1, 6)
    made.stages[:] = (0, 0, 1, 1, -1, 2)
    off = Cut(epochs=5, sequences=1, augmentation=Augmentation(phase=1.0))
    for seed in range(5):
        raw, target, present = cut_sequence(made.samples, targets(made, 0), off, np.random.default_rng(seed))
        assert present.all()
        lag = int(np.argmin([np.abs(raw[0, :99] - made.samples[k : k + 99]).sum() for k in range(3000)]))
        share = lag / 3000
        expected = [[1, 0], [1 - share, share], [0, 1], [0, 0], [0, 0]]
        np.testing.assert_allclose(target[:, :2], expected, atol=1e-6)


def test_a_batch_follows_from_its_number() -> None:
    nights = [night(subject) for subject in range(3)]
    cut = Cut(5, 2, 0.0, STRONG)
    whole_run, resumed = Sequences(nights, cut, (0, 1), 4), Sequences(nights, cut, (0, 1), 2, first=2)
    for one, other in zip(whole_run[3][:4], resumed[1][:4], strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert not np.array_equal(whole_run[0].raw.numpy(), whole_run[1].raw.numpy())
    with pytest.raises(IndexError):
        resumed[2]
    with pytest.raises(RecordingError, match="longer than 99 epochs"):
        Sequences(nights, Cut(epochs=99), (0,), 1)


def test_no_augmentation_changes_nothing() -> None:
    samples = np.random.default_rng(0).normal(0, 20, 3000).astype(np.float32)
    assert augment(samples, NONE, np.random.default_rng(0)) is samples
    assert lose_epochs(50, NONE, np.random.default_rng(0)).all()
    flat = response(np.linspace(0, 50, 11), NONE, np.random.default_rng(0))
    np.testing.assert_allclose(flat, 1)


def test_fixed_gain_and_tilt_do_what_they_say() -> None:
    hz = np.array([1.0, 6.0, 24.0])
    shape = response(hz, Augmentation(fixed_gain=2.0, fixed_tilt=0.5), np.random.default_rng(0))
    np.testing.assert_allclose(shape, 2.0 * (hz / 6.0) ** 0.5, rtol=1e-6)


def test_losses_are_nan_and_never_zero() -> None:
    samples = np.full(30000, 7.0, np.float32)
    lossy = augment(samples, Augmentation(dropouts=1.0), np.random.default_rng(1))
    assert np.isnan(lossy).any()
    np.testing.assert_allclose(lossy[~np.isnan(lossy)], 7.0, rtol=1e-4)


def test_a_whole_night_is_the_same_every_time() -> None:
    first, second = whole(night(1), STRONG, 3), whole(night(1), STRONG, 3)
    assert [tuple(part.shape) for part in first] == [(1, 12, 3000), (1, 12, 29, 128), (1, 12, 2)]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
