"""Labels, units and scales: distinct in 16 characters, never cut, the same in every file."""

from decimal import ROUND_CEILING, ROUND_FLOOR

import mne
import numpy as np
import pyedflib
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.exports import export
from streamer.exports.edf import write_continuous
from streamer.exports.signals import DIGITAL, choose_scales, describe_columns, format_number, make_labels
from streamer.messages import Channel
from streamer.night.session import ignore_progress, read_night
from tests.night import session, stages

LABELS = st.lists(
    st.text(max_size=24) | st.sampled_from(["C4", "C4#2", "EDF Annotations", "a" * 20]), max_size=8
)


@given(labels=LABELS)
@example(labels=["OpenBCI_Cyton_8ch 0", "OpenBCI_Cyton_8ch 1", "OpenBCI_Cyton_8ch 2"])
@example(labels=["", "", "C4", "C4", "C4#2", "EDF Annotations", "Zürich µV", "tab\there"])
@example(labels=[f"EEG electrode number {n} left" for n in range(12)])
def test_labels_stay_distinct(labels):
    found = make_labels([Channel(label, "uV") for label in labels])
    assert len(set(found)) == len(labels)
    assert all(0 < len(one) <= 16 and one.isascii() and one.isprintable() for one in found)
    assert "EDF Annotations" not in found
    for label, one in zip(labels, found, strict=True):
        fits = (
            label.isascii() and label.isprintable() and label == " ".join(label.split()) and len(label) <= 16
        )
        assert one == label or not fits or labels.count(label) > 1 or label == "EDF Annotations" or not label


@given(value=st.floats(-9_999_999, 9_999_999))
def test_numbers_are_rounded_to_their_side_and_never_cut(value):
    low, high = format_number(value, ROUND_FLOOR), format_number(value, ROUND_CEILING)
    assert max(len(low), len(high)) <= 8
    assert "e" not in (low + high).lower()
    assert float(low) <= value <= float(high)
    assert float(high) - float(low) <= max(1e-5 * abs(value), 1.01e-5)


@pytest.mark.parametrize("value", [1e9, -1e8, 123_456_789.0, float("inf"), float("nan")])
def test_a_number_that_does_not_fit_is_refused(value):
    with pytest.raises(ValueError, match="does not fit"):
        format_number(value)


def exported(path, out):
    """(channels, n) by MNE in µV or as they are, by pyedflib, and half a digital step of each channel."""
    night = read_night(path)
    write_continuous(night, out, ignore_progress)
    raw = mne.io.read_raw_edf(out, preload=True, verbose="error")
    with pyedflib.EdfReader(str(out)) as file:
        other = np.stack([file.readSignal(k) for k in range(file.signals_in_file)])
        units = [file.getPhysicalDimension(k) for k in range(file.signals_in_file)]
    half = [(scale.high - scale.low) / (2 * DIGITAL) / 2 * 1.001 for scale in choose_scales(night)[0]]
    return raw, other, units, np.array(half)[:, None]


CASES = [
    ("V", "V", 1e-6),
    ("", "V", 1e-6),
    ("uV", "V", 1e-6),  # a header that is wrong
    ("nanovolts", None, 1e3),
    ("10^-6V", None, 1.0),
    ("mV", None, 1e-3),
    ("V", "uV", 1.0),
]


@pytest.mark.parametrize(("declared", "told", "factor"), CASES)
def test_what_staging_was_told_of_the_unit_holds(tmp_path, declared, told, factor):
    samples = np.random.default_rng(0).normal(0, 36, (2, 6000))
    channels = Channel("C4", declared), Channel("EXT", declared)
    path = session(
        tmp_path / "s.sqlite",
        stages("W2"),
        channels=channels,
        samples=samples * factor,
        channel="C4",
        unit=told,
    )
    raw, other, units, half = exported(path, tmp_path / "n.edf")
    assert units == ["uV", "uV"]
    assert np.abs(raw.get_data() * 1e6 - samples).max() <= half.max() + 1e-5
    assert np.abs(other - samples).max() <= half.max() + 1e-5
    assert abs(other[0].std() - 36) < 1
    _, remarks = export(path, "edf", tmp_path / "m.edf")
    assert bool(remarks) == (told is not None)
    assert all("EXT: taken as" in remark for remark in remarks)


def test_a_unit_that_was_told_is_not_one_of_what_declares_another(tmp_path):
    channels = Channel("C4", ""), Channel("F4", "uV"), Channel("ACC x", ""), Channel("x", "g")
    path = session(tmp_path / "s.sqlite", stages("W"), channels=channels, channel="C4", unit="V")
    found, remarks = describe_columns(read_night(path))
    assert [(one.voltage, one.factor) for one in found] == [(True, 1e6), (True, 1), (False, 1), (False, 1)]
    assert remarks == []


def test_the_parts_of_a_derivation_are_named(tmp_path):
    channels = Channel("C4", "uV"), Channel("M1", "uV"), Channel("C4-M1", "uV"), Channel("AF7", "uV")
    path = session(tmp_path / "s.sqlite", stages("W"), channels=channels, channel=["C4-M1", "AF7-M1"])
    assert [one.staged for one in describe_columns(read_night(path))[0]] == [
        "",
        "fallback, as AF7-M1, subtracted",
        "staged as C4-M1",
        "fallback, as AF7-M1",
    ]


WILD = {
    "time": ("s", 1.7e9 + np.arange(3000) / 100),
    "count": ("", np.arange(3000) % 256.0),
    "huge": ("cd", np.linspace(-3e15, 9e12, 3000)),
    "tiny": ("T", np.linspace(-2e-13, 5e-13, 3000)),
    "small": ("g", np.linspace(-0.98123, 1.02, 3000)),
    "constant": ("degC", np.full(3000, 36.6)),
    "zero": ("x", np.zeros(3000)),
    "wide": ("uV", np.linspace(-2e7, 2e7, 3000)),
    "quiet": ("uV", np.random.default_rng(1).normal(0, 0.3, 3000)),
    "silent": ("uV", np.random.default_rng(1).normal(0, 1e-4, 3000)),
    "offset": ("uV", 187_500 + np.random.default_rng(1).normal(0, 20, 3000)),
    "infinite": ("bar", np.where(np.arange(3000) == 77, np.inf, 2.0 + np.arange(3000))),
}


def test_samples_of_any_size_are_within_half_a_step(tmp_path):
    samples = np.stack(
        [np.random.default_rng(0).normal(0, 30, 3000), *(values for _, values in WILD.values())]
    )
    channels = [Channel("C4", "uV"), *(Channel(name, unit) for name, (unit, _) in WILD.items())]
    path = session(tmp_path / "s.sqlite", stages("W"), channels=channels, samples=samples, channel="C4")
    raw, other, units, half = exported(path, tmp_path / "n.edf")
    assert raw.ch_names == ["C4", *WILD]
    found, _ = choose_scales(read_night(path))
    kept = samples.astype(np.float32) * np.array([scale.factor for scale in found])[:, None]
    real = np.isfinite(kept)
    assert (np.abs(other - kept)[real] <= np.broadcast_to(half + 1e-9, kept.shape)[real]).all()
    for row, name in enumerate(raw.ch_names):
        resolution = np.ptp(kept[row][real[row]]) / 1000
        assert half[row] <= max(resolution, np.abs(kept[row][real[row]]).max() * 1e-6, 1e-6) or name == "zero"
    assert units[1:4] == ["10^9s", "", "10^15cd"]
    head = (tmp_path / "n.edf").read_bytes()[: 256 * (len(channels) + 2)]
    assert head.isascii()
