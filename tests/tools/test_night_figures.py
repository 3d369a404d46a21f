"""From a tiny table of measurements to nights, the figures of simulated ones, and one-line errors."""

import json

import numpy as np
import pytest

from model.draw import draw_night
from model.resynthesis import FRONTAL, Derivation, Measurements, derived
from streamer.errors import RecordingError
from streamer.messages import EPOCH_SAMPLES
from streamer.sources.night import from_vectors, to_vectors
from streamer.sources.synthesis import ALPHA, BANDS_HZ, SIGMA, above, synthesise
from tools.night_figures import main

pytestmark = pytest.mark.train

NAMES = ("SC4001E0", "SC4012E0", "SC4021E0")
EPOCHS = 60


def table(seed=0):
    """Columns as the shared table has them, taken from coloured noise."""
    draw = np.random.default_rng(seed)
    n = len(NAMES) * EPOCHS
    stage = np.tile(np.repeat(np.arange(5), EPOCHS // 5), len(NAMES)).astype(np.int8)
    variance = 200 * np.exp(0.5 * draw.standard_normal(n)) * np.where(stage == 3, 3, 1)
    share = np.array([0.7, 0.12, 0.06, 0.06]) * np.exp(0.2 * draw.standard_normal((n, 4)))
    share /= share.sum(1, keepdims=True) / 0.9
    raw = np.zeros((n, 10))
    raw[:, 1] = np.sqrt(variance) * 1e-6
    raw[:, 5] = variance * EPOCH_SAMPLES * 1e-12
    raw[:, 6:10] = share * variance[:, None] * EPOCH_SAMPLES**2 / 2 * 1e-12
    time = np.abs(draw.standard_normal((n, 39)))
    time[:, 0] = np.sqrt(variance)
    time[:, 1] = 1.349 * 0.92 * time[:, 0]
    time[:, [2, 3]] = 0.3 * draw.standard_normal((n, 2)) + [0, 0.8]
    time[:, 5] = 0.4
    time[:, [13, 26]] = np.sqrt(variance)[:, None] * [0.5, 1.5]
    time[draw.random(n) < 0.12] = np.nan
    band = np.log(np.tile([0.7, 0.1, 0.06, 0.05, 0.05, 0.7, 0.1, 0.06, 0.05, 0.05], (n, 3)))
    band[:, [15, 25]] = 0.8
    band[3] = np.nan
    return {
        "recording": np.repeat(NAMES, EPOCHS),
        "epoch": np.tile(np.arange(EPOCHS, dtype=np.int32), len(NAMES)),
        "y": stage,
        "A_raw10": raw.astype(np.float32),
        "B_time39": time.astype(np.float32),
        "C_band30": band.astype(np.float32),
    }


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    path = tmp_path_factory.mktemp("features") / "features.npz"
    np.savez(path, **table())
    return path


@pytest.fixture(scope="module")
def nights(features):
    return Measurements.load(features)


def test_the_table_knows_its_nights(nights):
    assert nights.recordings == list(NAMES)
    assert [nights.subject(name) for name in NAMES] == [0, 1, 2]
    assert nights.stages("SC4012E0").dtype == np.int8
    assert len(nights.stages("SC4012E0")) == EPOCHS


def band_power(samples):
    """Power of each epoch in the measured bands from 0.5 to 30 Hz, µV²."""
    epochs = samples.reshape(-1, EPOCH_SAMPLES).astype(float)
    spectrum = np.abs(np.fft.rfft(epochs, axis=1)) ** 2 * 2 / EPOCH_SAMPLES**2
    edges = np.searchsorted(np.fft.rfftfreq(EPOCH_SAMPLES, 0.01), [low for low, _ in BANDS_HZ[1:]])
    return np.add.reduceat(spectrum, edges, axis=1)[:, :5]


def test_a_night_is_seeded_and_has_the_measured_power(nights):
    first, again, other = (draw_night(nights, "SC4001E0", seed).samples for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    samples = np.concatenate(list(synthesise(nights.measured("SC4001E0"), 1)))
    assert samples.shape == (EPOCHS * EPOCH_SAMPLES,)
    assert samples.dtype == np.float32
    asked, found = nights.measured("SC4001E0").power_uv2[:, 1:6], band_power(samples)
    assert np.median(found, 0) == pytest.approx(np.median(asked, 0), rel=0.2)
    assert np.corrcoef(asked.sum(1), found.sum(1))[0, 1] > 0.95


def test_two_recordings_share_no_noise(nights):
    a, b = (draw_night(nights, name, 1).samples.astype(float) for name in NAMES[:2])
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.05


def test_missing_measurements_are_taken_from_their_neighbours(nights):
    measured = nights.measured("SC4001E0")
    for values in (measured.power_uv2, measured.spread, measured.kurtosis, measured.skewness, measured.eye):
        assert np.isfinite(values).all()
    assert (measured.power_uv2 > 0).all()
    assert ((measured.eye >= 0) & (measured.eye <= 1)).all()


def test_the_stage_is_never_looked_at(features):
    columns = table()
    columns["y"] = np.roll(columns["y"], 17)
    before, after = Measurements.load(features), Measurements(columns)
    ours, theirs = (draw_night(one, NAMES[0], 5).samples for one in (before, after))
    assert np.array_equal(ours, theirs)


def test_the_frontal_derivation_is_what_was_measured(nights):
    measured = nights.measured("SC4001E0")
    same = derived(measured, nights.measured("SC4012E0"), FRONTAL)
    assert same.power_uv2 == pytest.approx(measured.power_uv2)
    assert same.eye == pytest.approx(measured.eye)
    assert same.spread == pytest.approx(measured.spread)
    assert same.kurtosis == pytest.approx(measured.kurtosis)


def test_the_parietal_derivation_has_the_power_of_pz_oz():
    columns = table()
    own = columns["recording"] == NAMES[0]
    columns["B_time39"][own, 18] = 0.05  # next to nothing above 30 Hz
    columns["C_band30"][own, 12] += np.linspace(0, 3, EPOCHS)  # alpha at Pz-Oz alone
    columns["B_time39"][own, 13] = np.sqrt(9 * np.exp(columns["C_band30"][own, 10:15]).sum(1))
    measured = Measurements(columns).measured(NAMES[0], Derivation(0.0, 1.0, 0.0, 0.0))
    whole = np.isfinite(columns["C_band30"][own, 12]) & np.isfinite(columns["B_time39"][own, 13])
    asked = 9 * np.exp(columns["C_band30"][own, 10:15])
    assert measured.power_uv2[whole, 1:6] == pytest.approx(asked[whole], rel=0.02)
    assert (measured.eye == 0).all()


def test_each_part_of_a_derivation_is_picked_up_by_itself(nights):
    frontal = nights.measured(NAMES[0])
    parts = [Derivation(*row) for row in np.eye(4)]
    brain, back, eyes, muscle = (nights.measured(NAMES[0], part).power_uv2 for part in parts)
    assert brain + eyes + muscle == pytest.approx(frontal.power_uv2)
    assert not np.allclose(back, brain)
    assert (eyes[:, 3:] == 0).all()
    assert (muscle[:, :2] == 0).all()
    still = nights.measured(NAMES[0], Derivation(eyes=0.1))
    assert (still.eye < frontal.eye).all()
    tilted = nights.measured(NAMES[0], Derivation(tilt=0.3)).power_uv2
    assert tilted[:, 5].mean() > frontal.power_uv2[:, 5].mean()
    assert tilted[:, 1].mean() < frontal.power_uv2[:, 1].mean()


def test_drawn_derivations_are_seeded():
    one, two = (Derivation.draw(np.random.default_rng(seed)) for seed in (1, 2))
    assert one == Derivation.draw(np.random.default_rng(1)) != two
    many = [Derivation.draw(np.random.default_rng(seed)) for seed in range(200)]
    assert sum(one.brain == 0 for one in many) == pytest.approx(25, abs=15)  # the back of the head
    assert sum(one.eyes > 0.5 for one in many) == pytest.approx(40, abs=20)  # the forehead


def test_vectors_come_back(nights):
    measured = nights.measured("SC4001E0")
    again = from_vectors(to_vectors(measured))
    assert again.power_uv2 == pytest.approx(measured.power_uv2)
    assert again.kurtosis == pytest.approx(np.clip(measured.kurtosis, -0.9, 20))


def test_figures_have_what_the_engine_reads(features, tmp_path):
    path = tmp_path / "figures.json"
    assert main([str(features), "--out", str(path)]) == 0
    known = json.loads(path.read_text(encoding="utf-8"))
    assert np.sum(known["transitions"], axis=1) == pytest.approx(np.ones(5), abs=1e-4)
    assert sum(known["priors"]) == pytest.approx(1, abs=1e-4)
    assert "ODC-By" in known["source"]
    assert set(known["stages"]) == {"W", "N1", "N2", "N3", "R"}


def test_one_restless_night_does_not_make_all_others_vary(features, tmp_path):
    columns = table()
    own = columns["recording"] == NAMES[0]
    columns["A_raw10"][own, 1:] *= np.exp(2 * np.random.default_rng(1).standard_normal((own.sum(), 1)))
    np.savez(tmp_path / "restless.npz", **columns)
    spread = []
    for given in (features, tmp_path / "restless.npz"):
        main([str(given), "--out", str(tmp_path / "figures.json")])
        known = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
        spread.append(np.array(known["stages"]["N2"]["covariance"])[1, 1])
        assert all(np.linalg.eigvalsh(one["covariance"]).min() > 0 for one in known["stages"].values())
    assert spread[1] < 2 * spread[0]


def test_a_missing_table_is_said_in_one_line(tmp_path, capsys):
    assert main(["nowhere.npz", "--out", str(tmp_path / "f.json")]) == 1
    error = capsys.readouterr().err
    assert "no such file" in error
    assert error.count("\n") == 1


def test_a_foreign_npz_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(RecordingError, match="found no recording"):
        Measurements.load(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("not an npz", encoding="utf-8")
    with pytest.raises(RecordingError, match="not an npz"):
        Measurements.load(tmp_path / "text.npz")


def test_rhythms_multiply_what_stands_above_the_smooth_spectrum(nights):
    usual, more = (nights.measured(NAMES[0], Derivation(rhythms=one)).power_uv2 for one in (1.0, 3.0))
    gained = more - usual
    _, alpha, sigma = above(usual)
    assert gained[:, SIGMA] == pytest.approx(2 * sigma)
    assert gained[:, ALPHA] == pytest.approx((3**0.4 - 1) * alpha)
    assert (sigma > 0).any()
    gained[:, [ALPHA, SIGMA]] = 0
    assert np.abs(gained).max() < 1e-9  # they are taken apart by another sum
