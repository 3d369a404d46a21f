"""Which channel is meant, and what is said when that is not clear."""

import pytest

from streamer.channels import Pick, choose
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
        (["ECG", "EOG left"], None, "no channel is plainly EEG"),
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
