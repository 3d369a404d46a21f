"""The expert's stages as they stand in files."""

import edfio
import pytest

from streamer.errors import RecordingError
from streamer.hypnogram import sleep_stages, stages_per_epoch
from tests.recording_files import eeg, signal, write_edf


def _written(tmp_path, *notes, seconds=120):
    annotations = [edfio.EdfAnnotation(*note) for note in notes]
    return write_edf(tmp_path / "a.edf", [signal(eeg(seconds), 100)], annotations=annotations)


def test_every_spelling(tmp_path):
    texts = ["W", "N1", "N2", "N3", "R", "1", "2", "3", "4", "REM", "M", "?"]
    path = _written(tmp_path, *((30.0 * n, 30.0, f"Sleep stage {text}") for n, text in enumerate(texts)))
    stages = [stage for _, _, stage in sleep_stages(path)]
    assert stages == ["W", "N1", "N2", "N3", "R", "N1", "N2", "N3", "N3", "R", "unscored", "unscored"]


def test_long_annotations_span_epochs_and_others_are_left_out(tmp_path):
    path = _written(
        tmp_path,
        (0, 60, "Sleep stage W"),
        (60, 30, "Sleep stage 2"),
        (70, None, "Lights on"),
        (90, None, "x"),
    )
    assert sleep_stages(path) == [(0, 60, "W"), (60, 30, "N2")]
    assert stages_per_epoch(sleep_stages(path), 4) == ("W", "W", "N2", "unscored")


def test_without_durations_a_stage_lasts_until_the_next(tmp_path):
    path = _written(tmp_path, (0, None, "Sleep stage W"), (60, None, "Sleep stage R"))
    assert sleep_stages(path) == [(0, 60, "W"), (60, 30, "R")]


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
    assert sleep_stages(path) == [(0, 30, "N2")]


def test_other_formats_have_none(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")
    assert sleep_stages(path) == []


def test_a_missing_file(tmp_path):
    with pytest.raises(RecordingError, match="No such file"):
        sleep_stages(tmp_path / "none.edf")
