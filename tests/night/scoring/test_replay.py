"""What `replay` says of the stages in a recording's own annotations."""

import json

import edfio
import numpy as np

from streamer.cli import main
from tests.paths import eeg
from tests.recording_files import signal, write_edf


def replayed(tmp_path, capsys, *notes):
    annotations = [edfio.EdfAnnotation(*note) for note in notes]
    file = write_edf(tmp_path / "n.edf", [signal(np.ravel(eeg(90, 100)), 100)], annotations=annotations)
    assert main(["replay", str(file), "--out", str(tmp_path / "out")]) == 0
    compared = tmp_path / "out" / "agreement.json"
    return capsys.readouterr().out, json.loads(compared.read_text()) if compared.exists() else None


def test_a_word_that_is_not_understood_is_said(tmp_path, capsys):
    texts = "Sleep stage Wake", "Sleep stage Light", "Sleep stage REM"
    said, found = replayed(tmp_path, capsys, *((30 * k, 30, text) for k, text in enumerate(texts)))
    assert found["not_understood"] == {"Sleep stage Light": 1}
    assert "not understood as a sleep stage, and left out: 'Sleep stage Light' (1)" in said
    assert found["n"] == 2


def test_stages_that_cannot_be_compared_do_not_stop_the_night(tmp_path, capsys):
    said, found = replayed(tmp_path, capsys, *((20 * k, 20, "Sleep stage N2") for k in range(4)))
    assert found is None
    assert "not compared: " in said
    assert "such as 20 s" in said
