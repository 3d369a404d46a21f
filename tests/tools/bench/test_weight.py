"""What the bench weighs is what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.journal import JournalReader
from tools.bench import weight


def test_the_scripts_are_those_that_the_page_names_and_they_are_light():
    assert 10_000 < weight.script_bytes() <= 300_000


def test_the_size_of_a_folder_counts_links_as_such(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(bytes(1000))
    (tmp_path / "c").symlink_to(tmp_path / "a" / "b")
    assert 1000 < weight.size_of(tmp_path) < 1500


def test_the_night_that_is_written_is_one_that_a_journal_would_write(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(weight, "WRITTEN_H", 1 / 60)
    found = weight.write_night(tmp_path / "night.sqlite")
    assert float(found["written_mb"]) >= 0  # a disk in memory is written nothing to
    with JournalReader(tmp_path / "night.sqlite") as reader:
        assert reader.last().index == pytest.approx(60 * weight.RATE_HZ, abs=weight.RATE_HZ * 2)
        assert reader.holes() == 0


@pytest.mark.slow
def test_the_memory_of_the_command_is_measured(tmp_path: Path):
    found = weight.memory(tmp_path / "run", 0.05)
    assert 40 < float(found["run_mb"]) <= float(found["run_most_mb"]) < 400
