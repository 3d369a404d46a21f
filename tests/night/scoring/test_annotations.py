"""The expert's stages as they stand in files."""

import edfio
import pytest

from streamer.errors import RecordingError, ScoringError
from streamer.night.hypnogram import Scoring, stages_per_epoch
from streamer.night.scoring import read_annotated
from tests.recording_files import eeg, signal, write_edf


def _written(tmp_path, *notes, seconds=120):
    annotations = [edfio.EdfAnnotation(*note) for note in notes]
    return write_edf(tmp_path / "a.edf", [signal(eeg(seconds), 100)], annotations=annotations)


def test_every_spelling(tmp_path):
    texts = ["W", "N1", "N2", "N3", "R", "1", "2", "3", "4", "REM", "M", "?"]
    path = _written(tmp_path, *((30.0 * n, 30.0, f"Sleep stage {text}") for n, text in enumerate(texts)))
    stages = [stage for _, _, stage in read_annotated(path).stages]
    assert stages == ["W", "N1", "N2", "N3", "R", "N1", "N2", "N3", "N3", "R", "unscored", "unscored"]


@pytest.mark.parametrize(
    ("words", "known"),
    [
        ("Sleep stage W,Sleep stage N1,Sleep stage N2,Sleep stage N3,Sleep stage R", 5),
        ("Sleep stage Wake,Sleep stage N1,Sleep stage N2,Sleep stage N3,Sleep stage REM", 5),
        ("Sleep stage W,Sleep stage S1,Sleep stage S2,Sleep stage S4,Sleep stage R", 5),
        ("Sleep stage W@@C4,Sleep stage N1@@C4,Sleep stage N2@@C4,Sleep stage N3@@C4,Sleep stage R@@C4", 5),
        ("SLEEP-S0,SLEEP-S1,SLEEP-S2,SLEEP-S4,SLEEP-REM", 5),
        ("Wake,N1,N2,N3,REM", 5),
        ("Stage W,Stage 1,Stage 2,Stage 3,Stage R", 5),
        ("sleep_stage_w,sleep_stage_n1,sleep_stage_n2,sleep_stage_n3,sleep_stage_r", 5),
        ("Sleep stage W,Sleep stage Light,Sleep stage N2,Sleep stage Deep,Sleep stage R", 3),
    ],
)
def test_scorers_words(tmp_path, words, known):
    path = _written(
        tmp_path, *((30.0 * n, 30.0, text) for n, text in enumerate(words.split(","))), seconds=150
    )
    found = read_annotated(path)
    right = ["W", "N1", "N2", "N3", "R"]
    assert [one == other for one, other in zip(found.labels(5), right, strict=True)].count(True) == known
    assert sum(found.unknown.values()) == 5 - known


def test_markers_are_no_stages(tmp_path):
    path = _written(
        tmp_path, (0, None, "R"), (3, 1, "W"), (30, 30, "1"), (60, 30, "Lights off"), (70, 30, "")
    )
    found = read_annotated(path)
    assert (found.stages, found.unknown) == ((), {})


def test_an_unknown_stage_ends_the_one_in_front_of_it(tmp_path):
    path = _written(
        tmp_path, (0, None, "Sleep stage W"), (30, None, "Sleep stage X"), (90, 30, "Sleep stage R")
    )
    found = read_annotated(path)
    assert found.labels(4) == ("W", "unscored", "unscored", "R")
    assert found.unknown == {"Sleep stage X": 1}


def test_epochs_of_20_s_are_refused(tmp_path):
    path = _written(tmp_path, *((20.0 * n, 20.0, "Sleep stage N2") for n in range(6)))
    with pytest.raises(ScoringError, match="such as 20 s"):
        read_annotated(path)


def test_long_annotations_span_epochs_and_others_are_left_out(tmp_path):
    path = _written(
        tmp_path,
        (0, 60, "Sleep stage W"),
        (60, 30, "Sleep stage 2"),
        (70, None, "Lights on"),
        (90, None, "x"),
    )
    assert read_annotated(path).stages == ((0, 60, "W"), (60, 30, "N2"))
    assert stages_per_epoch(read_annotated(path).stages, 4) == ("W", "W", "N2", "unscored")


def test_without_durations_a_stage_lasts_until_the_next(tmp_path):
    path = _written(tmp_path, (0, None, "Sleep stage W"), (60, None, "Sleep stage R"))
    assert read_annotated(path).stages == ((0, 60, "W"), (60, 30, "R"))


def test_half_an_epoch_decides():
    scored = [(0.0, 14.9, "W"), (14.9, 30.1, "N1"), (45.0, 15.0, "N2"), (60.0, 14.0, "N3"), (76.0, 14.0, "R")]
    assert stages_per_epoch(scored, 3) == ("N1", "N1", "unscored")


def test_onsets_count_from_the_first_sample(tmp_path):
    import datetime

    path = write_edf(
        tmp_path / "a.edf",
        [signal(eeg(60), 100)],
        starttime=datetime.time(23, 0, 0, 500_000),
        annotations=[edfio.EdfAnnotation(0, 30, "Sleep stage N2")],
    )
    assert read_annotated(path).stages == ((0, 30, "N2"),)


def test_other_formats_have_none(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")
    assert read_annotated(path) == Scoring()


def test_a_missing_file(tmp_path):
    with pytest.raises(RecordingError, match="No such file"):
        read_annotated(tmp_path / "none.edf")
