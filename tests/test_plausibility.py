"""Wrong units are noticed, right ones are not, and it is said once."""

import numpy as np
import pytest

from streamer.quality import Plausibility
from tests.chunkings import cut, stream

EEG_UV = np.random.default_rng(8).standard_normal((1, 20_000)) * 25


def _complaints(samples, sizes=(1,), unit=""):
    check = Plausibility(256, "Cz", unit)
    return [said for item in cut(stream(samples), [*sizes, 977]) if (said := check.push(item))]


@pytest.mark.parametrize(("factor", "unit"), [(1e-6, "V"), (1e-3, "mV"), (1e3, "nV")])
def test_another_unit_is_recognised_and_named_once(factor, unit):
    (said,) = _complaints(EEG_UV * factor)
    assert "'Cz'" in said
    assert f"unit {unit}" in said


@pytest.mark.parametrize(
    ("said_unit", "factor", "meant"), [("V", 1e6, "uV"), ("mV", 1e3, "uV"), ("V", 1e3, "mV")]
)
def test_a_unit_that_was_said_and_is_too_large_is_recognised_too(said_unit, factor, meant):
    (said,) = _complaints(EEG_UV * factor, unit=said_unit)  # µV that the wrong unit makes of it
    assert f"{said_unit}, too large for EEG; it looks like {meant}: say so with unit {meant}" in said
    assert _complaints(EEG_UV, unit=said_unit) == []


@pytest.mark.parametrize("factor", [0.0, 0.1, 0.5, 1, 4, 40])
def test_eeg_and_flat_channels_pass(factor):
    assert _complaints(EEG_UV * factor) == []


def test_the_chunking_does_not_matter():
    assert _complaints(EEG_UV * 1e-6, [1, 0, 13]) == _complaints(EEG_UV * 1e-6, [20_000])


def test_a_single_movement_is_not_taken_for_a_wrong_unit():
    samples = EEG_UV.copy()
    samples[0, 1000:2000] *= 1e4
    assert _complaints(samples) == []
