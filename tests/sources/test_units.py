"""One table of units, under every spelling that devices and files use."""

import re
from pathlib import Path

import pytest

import streamer
from streamer.errors import UsageError
from streamer.sources.units import SUGGESTED, is_voltage, microvolts_in, microvolts_per

SPELLINGS = {
    1e6: ["V", "v", "volt", "Volts", "VOLTS", "10^0 V", "1e0V"],
    1e3: ["mV", "MV", "millivolt", "milliVolts", "milli volts", "10^-3V", "1E-3 V", "mVolt"],
    1.0: [
        *(
            "uV",
            "UV",
            "µV",
            "μV",
            "microvolt",
            "Microvolts",
            "micro-volts".replace("-", " "),
            "uVolts",
            "muV",
        ),
        *("10^-6V", "10^-6 V", "1e-6V", "10**-6 V", "10^−6V", "[uV]", "(µV)", " uV ", "uV\0\0"),
        *("?V", "\ufffdV", "ÂµV", "Î¼V", "æV"),  # a mu that went through another encoding
        *("", " ", "none", "None", "n/a", "N/A", "unknown", "-"),  # nothing said: µV
    ],
    1e-3: ["nV", "NV", "nanovolt", "nanovolts", "Nano Volts", "10^-9V", "1e-9 V"],
}


@pytest.mark.parametrize(("factor", "unit"), [(f, unit) for f, units in SPELLINGS.items() for unit in units])
def test_voltages_under_their_spellings(unit, factor):
    assert microvolts_per(unit) == factor
    assert is_voltage(unit)


@pytest.mark.parametrize(
    "unit",
    ["Ohm", "kOhm", "V/s", "uV/Hz", "%", "g", "C", "DegC", "bpm", "10^-5V", "10e-6V", "dV", "counts", "raw"],
)
def test_what_is_no_voltage_is_refused(unit):
    assert microvolts_in(unit) is None
    assert not is_voltage(unit)
    with pytest.raises(UsageError, match=f"{re.escape(repr(unit))} is not a voltage"):
        microvolts_per(unit)


def test_the_units_that_are_suggested_are_known():
    assert [microvolts_per(unit) for unit in SUGGESTED] == [1.0, 1e6, 1e3, 1e-3]


def test_there_is_no_second_table():
    """A unit that one place knows and another does not stages a night that no export can write."""
    house = Path(streamer.__file__).parent
    tables = [
        path.name
        for path in house.rglob("*.py")
        if path.name != "units.py" and re.search(r"""["']n(ano)?v(olts?)?["']\s*:""", path.read_text(), re.I)
    ]
    assert tables == []
