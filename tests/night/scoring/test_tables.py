"""Hypnograms in text files, as people and programs keep them."""

import datetime

import pytest
import yasa
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import RecordingError, ScoringError
from streamer.night.scoring import read_scoring
from tests.night import STARTED, stages

SIX = stages("W123R?")
BEFORE, AFTER = (
    f"by its clock it begins 1.0 min {side} the recording, and was placed there"
    for side in ("before", "after")
)
NAMES = ["W", "N1", "N2", "N3", "R", "unscored"]


def read(tmp_path, text, encoding="utf-8"):
    (tmp_path / "h.csv").write_bytes(text.encode(encoding))
    return read_scoring(tmp_path / "h.csv", STARTED)


def table(head, rows, delimiter=","):
    return "\n".join(delimiter.join(map(str, row)) for row in [head, *rows]) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        "W\nN1\nN2\nN3\nR\n?\n",
        "0\n1\n2\n3\n5\n9\n",
        "0\n1\n2\n4\n5\n9\n",  # Rechtschaffen and Kales: S4
        "0\n1\n2\n3\n4\n-2\n",  # YASA: -2 says so
        "0.0\n1.0\n2.0\n3.0\n4.0\n-2.0\n",  # as pandas writes them
        "0\n1\n2\n4\nR\n-1\n",  # R by name, so 4 is not REM
        "WAKE\nN1\nN2\nN3\nREM\nUNS\n",
        "WAKE\nN1\nN2\nN3\nREM\nART\n",
        "Sleep stage Wake\nSleep stage S1\nSleep stage S2\nSleep stage S4\nSleep stage REM\nSleep stage ?\n",
        "stage\nW\nN1\nN2\nN3\nR\n?\n",  # a heading
        "\n# by me\nW\nN1\nN2\nN3\nR\n?\n\n\n",
        "W\n\nN1\n\nN2\n\nN3\n\nR\n\n?\n\n",  # line ends changed twice
        "Stage,Confidence\nW,0.9\nN1,0.5\nN2,0.8\nN3,0.9\nR,0.7\nn/a,\n",  # YASA's own
        "Epoch,Stage\n0,W\n1,N1\n2,N2\n3,N3\n4,R\n5,UNS\n",
        "epoch;stage;confidence\n1;W;0,9\n2;N1;0,5\n3;N2;0,8\n4;N3;0,9\n5;R;0,7\n6;?;0,2\n",
        "1,W\n2,N1\n3,N2\n4,N3\n5,R\n6,?\n",
        table(["onset", "label", "duration"], [(30 * k, s, 30) for k, s in enumerate("W123R?")]),
        table(["onset", "duration", "label"], [(30 * k, 30, s) for k, s in enumerate("012349")]).replace(
            ",4", ",5"
        ),
        table(
            ["Onset", "Duration", "Annotation"],
            [(f"+{30 * k}.0", 30, f"Sleep stage {s}") for k, s in enumerate(NAMES)],
        ),
        table(["onset", "label", "duration"], [(f"{30 * k},0", s, "30,0") for k, s in enumerate(NAMES)], ";"),
        table(
            ["onset", "label", "duration"], [(f"{30 * k},0", s, "30,0") for k, s in enumerate(NAMES)], "\t"
        ),
        table(["onset", "label", "duration"], [(f'"{30 * k},0"', s, '"30,0"') for k, s in enumerate(NAMES)]),
        table(["onset", "label"], [(30 * k, s) for k, s in enumerate(NAMES)]),
        table(["onset", "duration", "label"], [(30 * k, 30, s) for k, s in reversed(list(enumerate(NAMES)))]),
        "W,\nN1,\nN2,\nN3,\nR,\n?,\n",
        "Start [s];End [s];Stage\n"
        + "".join(f"{30 * k},0;{30 * k + 30},0;{s}\n" for k, s in enumerate(NAMES)),
        "0,30,W\n30,30,N1\n60,30,N2\n90,30,N3\n120,30,R\n150,30,?\n",
        "onset\tduration\ttrial_type\n0\tn/a\tlights_off\n15\t3.2\tarousal\n"
        + "".join(f"{30 * k}\t30\t{s}\n" for k, s in enumerate(NAMES)),
        "onset\tduration\ttrial_type\tvalue\n"
        + "".join(f"{30 * k}\tn/a\tn/a\t{s}\n" for k, s in enumerate([0, 1, 2, 3, 4, -2])),
        "onset\tduration\ttrial_type\nn/a\tn/a\tN2\n0\t30\tW\n30\t30\tN1\n60\t30\tN2\n90\t30\tN3\n120\t30\tR\n",
    ],
)
def test_hypnograms_as_people_keep_them(tmp_path, text):
    found = read(tmp_path, text)
    assert list(found.labels(6)) == SIX
    assert not found.unknown
    assert not found.doubts


def test_a_first_line_that_is_no_stage_is_a_heading_only_where_that_is_said(tmp_path):
    assert list(read(tmp_path, "My scorer\nW\nN1\nN2\nN3\nR\n?\n").labels(6)) == SIX
    found = read(tmp_path, "Wkae\nN1\nN2\n")
    assert found.labels(2) == ("N1", "N2")
    assert "'Wkae', was read as a heading" in found.doubts[0]
    assert read(tmp_path, "0.5\nN1\nN2\n").unknown == {"0.5": 1}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_encodings(tmp_path, encoding):
    assert list(read(tmp_path, "W\r\nN1\r\nN2\r\nN3\r\nR\r\n?\r\n# für mich", encoding).labels(6)) == SIX


def test_yasa_s_own_files(tmp_path):
    hypnogram = yasa.Hypnogram(["WAKE", "N1", "N2", "N3", "REM", "UNS"], freq="30s")
    assert list(read(tmp_path, hypnogram.hypno.to_csv()).labels(6)) == SIX
    assert list(read(tmp_path, hypnogram.as_events().to_csv()).labels(6)) == SIX
    numbers = "\n".join(map(str, hypnogram.as_int()))
    assert list(read(tmp_path, numbers).labels(6)) == SIX


@pytest.mark.parametrize("text", ["2\n3\n4\n", "2\n3\n4\n-1\n", "0\n4\n-2\n9\n", "Stage\n2\n4\n"])
def test_a_4_that_may_be_rem_is_refused(tmp_path, text):
    with pytest.raises(ScoringError, match=r"found a 4.*REM in YASA's numbers"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hello\n", "'hello' is not a sleep stage"),
        ("stage\n", "has no sleep stages"),
        ("0.5\nN1\n", "'0.5' is not a sleep stage"),
        pytest.param("9" * 400 + "\n", "is not a sleep stage", id="a number beyond all bounds"),
        pytest.param("W\n" + "x" * 200_000 + "\n", "line 2 is not a row", id="a line beyond all bounds"),
        ("onset,duration\n0,30\n", "none named label or stage"),
        ("onset,duration,label\n0,30,foo\n", "no sleep stages"),
        ("duration,label\n30,W\n", "without onsets"),
        ("\n", "no sleep stages"),
        ("W\n\nN1\nN2\n", "line 2 is empty"),
        ("onset,duration,label\n0,0,30,0,W\n", "line 2 has 5 cells"),
        ("onset,duration,label\n22:30:00,30,W\nlater,30,W\n", "'22:30:00' is not a number"),
        ("onset,duration,label\n0,-30,W\n", "duration of -30"),
        ("epoch,stage\n5,W\n6,N1\n", "epoch '5', but 0 comes next"),
        ("epoch,stage\n0,W\n2,N1\n", "epoch '2', but 1 comes next"),
        ("[hypnogram]\n5\n4\n0\n", "numbers stages backwards"),
        ("a,b\nW,N1\n", "2 columns without a heading"),
        ("onset,duration,label\n0,20,W\n20,20,N1\n40,20,N2\n60,20,N2\n", r"2 of its 4 stages .* as 20 s"),
        ("onset,duration,label\n0,5,W\n5,5,N1\n10,5,N2\n", "such as 5 s"),
    ],
)
def test_what_is_no_hypnogram_is_refused_in_one_line(tmp_path, text, why):
    with pytest.raises(ScoringError, match=why) as caught:
        read(tmp_path, text)
    assert "h.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def clock(form, seconds):
    return datetime.datetime.fromtimestamp(STARTED + seconds, datetime.UTC).strftime(form)


@pytest.mark.parametrize("late_s", [0, 60, -60])
@pytest.mark.parametrize("form", ["%H:%M:%S", "%H.%M.%S", "%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M:%S"])
def test_times_of_a_clock_lay_it_on_the_recording(tmp_path, form, late_s):
    rows = [(clock(form, late_s + 30 * k), s, clock(form, late_s + 30 * k + 30)) for k, s in enumerate(NAMES)]
    found = read(tmp_path, table(["Start Time", "Event", "End Time"], rows))
    shift = late_s // 30
    assert found.labels(8)[max(0, shift) : 6 + shift] == tuple(SIX[max(0, -shift) :])
    assert found.doubts == (() if late_s == 0 else (AFTER if late_s > 0 else BEFORE,))


def test_a_clock_goes_over_midnight(tmp_path):
    midnight = 1_750_032_000.0 - STARTED
    rows = [(clock("%H:%M:%S", midnight - 75 + 30 * k), s) for k, s in enumerate(NAMES)]
    found = read(tmp_path, table(["time", "stage"], rows))
    assert [onset - found.stages[0][0] for onset, *_ in found.stages] == [0, 30, 60, 90, 120, 150]


def test_remlogic_s_export(tmp_path):
    head = ["Sleep Stage", "Position", "Time [hh:mm:ss]", "Event", "Duration[s]", "Location"]
    names = zip(["W", "S1", "S2", "S4", "R", "UNS"], ["S0", "S1", "S2", "S4", "REM", "UNSCORED"], strict=True)
    rows = [
        (one, "Back", clock("%H:%M:%S", 30 * k), f"SLEEP-{s}", 30, "C4") for k, (one, s) in enumerate(names)
    ]
    rows.insert(3, ("S2", "Back", clock("%H:%M:%S", 71), "MCAP-A1", 7, "C4"))
    text = "RemLogic Event Export\nPatient:\tx\n\nScorer Name:\ty\n\n" + table(head, rows, "\t")
    found = read(tmp_path, text)
    assert (found.labels(6), found.doubts, found.unknown) == (tuple(SIX), (), {"MCAP-A1": 1})


def test_bytes_are_no_text(tmp_path):
    (tmp_path / "h.csv").write_bytes(b"W\0\x01\n")
    with pytest.raises(RecordingError, match="nor text"):
        read_scoring(tmp_path / "h.csv", STARTED)


def test_multiples_of_an_epoch_are_expanded_and_the_edges_may_be_cut(tmp_path):
    found = read(tmp_path, "onset,duration,label\n0,12,W\n12,3600,N2\n3612,90.05,R\n3702,17,W\n")
    labels = found.labels(124)
    assert labels[:2] == ("N2", "N2")
    assert labels[120:124] == ("R", "R", "R", "W")


def test_a_word_that_is_not_understood_is_counted_and_leaves_its_epochs_unscored(tmp_path):
    found = read(tmp_path, "W\nLIGHT\nN2\nLIGHT\nDEEP\nR\nR\n")
    assert found.labels(7) == ("W", "unscored", "N2", "unscored", "unscored", "R", "R")
    assert found.unknown == {"LIGHT": 2, "DEEP": 1}
    found = read(tmp_path, "onset,duration,label\n0,30,W\n30,n/a,Stadium X\n60,30,N2\n70,2,spindle\n")
    assert found.labels(3) == ("W", "unscored", "N2")
    assert found.unknown == {"Stadium X": 1, "spindle": 1}


def test_stages_that_contradict_each_other_are_counted(tmp_path):
    text = "onset,duration,label\n0,30,W\n0,30,W\n30,60,N2\n60,30,R\n"
    found = read(tmp_path, text)
    assert found.contradictions == 1
    assert found.labels(3) == ("W", "N2", "N2")


@settings(max_examples=50)
@given(text=st.text(max_size=100))
def test_whatever_the_text_it_is_a_hypnogram_or_one_line(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text("W\n" + text, encoding="utf-8", newline="")
    said = ""
    try:
        read_scoring(path, STARTED).labels(10)
    except RecordingError as error:
        said = str(error)
    assert "\n" not in said
