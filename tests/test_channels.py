"""Which channel is meant, and what is said when that is not clear."""

import pytest

from streamer.channels import Pick, choose, doubt_name
from streamer.errors import UsageError
from streamer.messages import Channel


def _channels(*labels, unit="uV"):
    return tuple(Channel(label, unit) for label in labels)


@pytest.mark.parametrize(
    ("labels", "wanted", "pick"),
    [
        (["EOG", "EEG C3-A1"], "c3-a1", Pick(1, None, "EEG C3-A1")),
        (["EOG", "C3-A1"], "EEG C3-A1", Pick(1, None, "C3-A1")),
        (["AF7", "TP9"], "AF7-TP9", Pick(0, 1, "AF7-TP9")),
        (["C3", "A1", "C3-A1"], "C3-A1", Pick(2, None, "C3-A1")),
        (["C3-A1", "C3-A2"], "C3-A1-C3-A2", Pick(0, 1, "C3-A1-C3-A2")),
        (["eeg c3", "C3"], "C3", Pick(1, None, "C3")),
        (["1 Impédance", "2"], "1 IMPE\u0301DANCE", Pick(0, None, "1 Impédance")),
        (["a", "b"], "#1", Pick(1, None, "b")),
        (["a", "b"], "#1-#0", Pick(1, 0, "b-a")),
        (["C4", "EOG", "C4"], "C4#2", Pick(2, None, "C4")),  # a device may have two; counted from 1
        (["C4#1", "C4#2"], "c4#2", Pick(1, None, "C4#2")),
        (["RAW_TP9", "Delta_TP9"], "TP9", Pick(0, None, "RAW_TP9")),
        (["#1", "b"], "#1", Pick(0, None, "#1")),
    ],
)
def test_a_named_channel(labels, wanted, pick):
    assert choose(_channels(*labels), wanted) == pick


@pytest.mark.parametrize(
    ("labels", "label"),
    [
        (["ECG", "C3-M2", "C4-M1", "F4-M1"], "C4-M1"),
        (["EEG Fpz-Cz", "EEG Pz-Oz", "EOG"], "EEG Fpz-Cz"),
        (["C4", "M1", "ECG"], "C4-M1"),
        (["TP9", "AF7", "AF8", "TP10", "Right AUX"], "AF7"),
        (["ECG", "EEG C3-REF"], "EEG C3-REF"),
        (["whatever"], "whatever"),
        (["C4#1", "M1#1", "C4#2", "M1#2"], "C4#1-M1#1"),
        (["Delta_AF7", "RAW_TP9", "RAW_AF7", "HSI_AF7"], "RAW_AF7"),
    ],
)
def test_a_sensible_channel_when_none_is_named(labels, label):
    assert choose(_channels(*labels), None).label == label


def test_a_sensible_channel_has_the_right_rate_and_unit():
    channels = (Channel("C4-M1", "Ohm"), Channel("C3-M2", "V"), Channel("F4-M1", "mV"))
    assert choose(channels, None, (200, 1, 200)).plus == 2


@pytest.mark.parametrize(
    ("labels", "wanted", "says"),
    [
        (["C3-M2", "ECG"], "C3", "no channel 'C3'; there are: C3-M2 .uV., ECG"),
        (["EEG C3", "eeg c3"], "C3", "ambiguous: #0 'EEG C3', #1 'eeg c3'"),
        (["Cz", "Cz", "A1"], "Cz-A1", "ambiguous"),
        (["a", "b-c", "a-b", "c"], "a-b-c", "2 ways"),
        (["ECG", "EOG left"], None, "no channel is clearly EEG"),
        ([], None, "none"),
        (["a"], "#7", "no channel '#7'"),
    ],
)
def test_what_cannot_be_meant_is_said(labels, wanted, says):
    with pytest.raises(UsageError, match=says):
        choose(_channels(*labels), wanted)


def test_a_difference_needs_one_rate():
    with pytest.raises(UsageError, match="100 and 200 Hz"):
        choose(_channels("a", "b"), "a-b", (100, 200))


BIOSEMI = [f"{bank}{n}" for bank in "ABCD" for n in range(1, 33)]
PSG = ["F4-M1", "C4-M1", "O2-M1", "E1-M2", "E2-M2", "Chin1-Chin2", "1", "2", "3", "4", "DC5", "ECG I"]


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (BIOSEMI, "most labels are BioSemi's .* C4 is A23 on its cap of 32 .*; name one of: A1 "),
        (BIOSEMI[:64], "BioSemi's"),
        (BIOSEMI[:32], "BioSemi's"),
        ([f"EEG {label}" for label in BIOSEMI], "BioSemi's"),
        (["C4-A1", *(f"{one}-A1" for one in BIOSEMI if one not in ("A1", "C4"))], "BioSemi's"),
        ([*BIOSEMI, "EXG1", "EXG2", "Status"], "BioSemi's"),
        ([*(f"E{n}" for n in range(1, 129)), "Cz"], "EGI's"),
        ([*(str(n) for n in range(1, 33)), "C4", "M1"], "plain numbers"),
        ([*(f"EEG {n:03}" for n in range(1, 61)), "Cz"], "plain numbers"),
        ([f"EXG Channel {n}" for n in range(8)], "plain numbers"),
    ],
)
def test_a_cap_of_another_naming_system_is_doubted(labels, says):
    with pytest.raises(UsageError, match=f"no channel is clearly EEG: .*{says}"):
        choose(_channels(*labels), None)
    assert choose(_channels(*labels), labels[0]).label == labels[0]  # whoever names one means it


@pytest.mark.parametrize(
    ("labels", "label"),
    [
        (PSG, "C4-M1"),
        (["C3", "C4", "A1", "A2", "F3", "F4", "O1", "O2", "E1", "E2"], "C4-A1"),
        (
            ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "F7", "A1", "A2", "B1", "D1"],
            "C4-A1",
        ),
        (["EEG F3", "EEG C3", "EEG O1", "EEG A2", "1", "2"], "EEG C3-EEG A2"),
    ],
)
def test_a_few_other_labels_do_not_make_another_system(labels, label):
    assert choose(_channels(*labels), None).label == label


@pytest.mark.parametrize(
    ("labels", "wanted", "doubt"),
    [
        (BIOSEMI, "C4-A1", True),
        (BIOSEMI, "C4", True),
        (BIOSEMI, "A23", False),  # whoever says so knows the cap
        (BIOSEMI, "A23-B7", False),
        (PSG, "C4-M1", False),
        (["C3", "C4", "A1", "A2", "O1"], "C4-A1", False),
    ],
)
def test_a_name_of_the_10_20_system_on_another_cap_is_doubted_aloud(labels, wanted, doubt):
    channels = _channels(*labels)
    said = doubt_name(channels, (), choose(channels, wanted))
    assert (said is not None) == doubt
    assert said is None or "may not be C4" in said


def test_where_c4_lies_on_biosemi_caps():
    """What the message says, against MNE's montages."""
    mne = pytest.importorskip("mne")
    for count, label in ((32, "A23"), (64, "B18")):
        names = mne.channels.make_standard_montage(f"biosemi{count}").ch_names
        assert BIOSEMI[names.index("C4")] == label
    places = mne.channels.make_standard_montage("biosemi128").get_positions()["ch_pos"]
    c4 = mne.channels.make_standard_montage("biosemi64").get_positions()["ch_pos"]["C4"]
    assert min(places, key=lambda name: float(((places[name] - c4) ** 2).sum())) == "B22"
