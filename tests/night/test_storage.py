"""Which samples may go: only of nights that were ended, of this node's sleepers, and that a rule names."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.cli import main
from streamer.errors import SettingsError
from streamer.journal import JournalReader, disk, packing
from streamer.journal.lock import FileLock
from streamer.journal.settings import StorageSettings
from streamer.live import packer as keeping
from streamer.live.packer import Packer
from streamer.night.storage import Stored, find_stored, find_superfluous
from streamer.settings import validate
from tests.fakes import FakeClock
from tests.journals import INFO
from tests.night import STARTED, session, stages

DAY_S = 86_400
NIGHTS = st.lists(
    st.builds(
        Stored,
        path=st.integers(0, 10**6).map(lambda number: Path(f"{number}.sqlite")),
        stream=st.sampled_from(["anna", "ben"]),
        evening=st.one_of(st.none(), st.dates()),
        started=st.floats(0, 2e9),
        sample_bytes=st.integers(1, 10**9),
        loose=st.booleans(),
    ),
    max_size=12,
).map(lambda nights: sorted(nights, key=lambda one: one.started, reverse=True))


def folder_of(folder: Path, nights: int = 4) -> Path:
    for number in range(nights):
        session(folder / f"{number}.sqlite", stages("W12"), started=STARTED + number * DAY_S)
    return folder


def written(folder: Path, storage: str = "") -> Path:
    path = folder / "settings.toml"
    stream = '[[stream]]\nname = "anna"\nsource = { kind = "simulated" }'
    path.write_text(f'node = "node"\nsession_dir = "{folder}"\n[storage]\n{storage}\n{stream}\n')
    return path


def with_samples(folder: Path) -> list[str]:
    return sorted(one.path.name for one in find_stored(folder, "node", {"anna"}))


@given(NIGHTS)
def test_without_a_rule_nothing_goes(nights):
    assert find_superfluous(nights, StorageSettings()) == []


@given(NIGHTS, st.integers(1, 5))
def test_so_many_evenings_of_each_sleeper_stay_and_no_night_without_a_date_goes(nights, count):
    gone = [one for one, _ in find_superfluous(nights, StorageSettings(nights=count))]
    for stream in ("anna", "ben"):
        kept = {one.evening for one in nights if one.stream == stream and one not in gone} - {None}
        had = {one.evening for one in nights if one.stream == stream} - {None}
        assert len(kept) == min(count, len(had))
    assert all(one.evening is not None for one in gone)


@given(NIGHTS, st.floats(0.1, 5))
def test_so_many_bytes_stay_and_the_oldest_go(nights, gb):
    gone = [one for one, _ in find_superfluous(nights, StorageSettings(gb=gb))]
    kept = nights[: len(nights) - len(gone)]
    assert gone == nights[len(kept) :][::-1]
    assert sum(one.sample_bytes for one in kept) <= gb * 1e9


def test_only_what_was_ended_and_nobody_holds_and_is_ours_is_listed(tmp_path):
    folder_of(tmp_path, 2)
    session(tmp_path / "died.sqlite", stages("W12"), ended=False)
    session(tmp_path / "ben.sqlite", stages("W12"), stream="ben")
    (tmp_path / "damaged.sqlite").write_bytes(b"SQLite format 3\0" + bytes(5000))
    packing.prune(session(tmp_path / "gone.sqlite", stages("W12")))
    assert with_samples(tmp_path) == ["0.sqlite", "1.sqlite"]
    assert find_stored(tmp_path, "another", {"anna"}) == []
    with FileLock(tmp_path / "1.sqlite"):
        assert with_samples(tmp_path) == ["0.sqlite"]


def test_prune_shows_first_and_does_it_when_told(tmp_path, capsys):
    folder_of(tmp_path)
    config = written(tmp_path, "nights = 3")
    assert main(["prune", str(config)]) == 0
    said = capsys.readouterr().out
    assert "0.sqlite" in said
    assert "the samples of 1 session, 0.0 MB; add --yes to do it" in said
    assert "3 sessions would keep their samples" in said
    assert len(with_samples(tmp_path)) == 4
    assert main(["prune", str(config), "--nights", "1", "--yes"]) == 0
    assert "MB freed; 1 session still with samples" in capsys.readouterr().out
    assert main(["prune", str(config), "--nights", "1", "--yes"]) == 0
    assert "nothing to delete" in capsys.readouterr().out
    assert with_samples(tmp_path) == ["3.sqlite"]
    with JournalReader(tmp_path / "0.sqlite") as reader:
        assert len(list(reader.epochs())) == 3
    assert main(["report", str(tmp_path / "0.sqlite"), "--out", str(tmp_path / "report")]) == 0
    assert "raw samples were deleted" in capsys.readouterr().out
    assert main(["status", str(config)]) == 0


def test_prune_needs_a_rule(tmp_path, capsys):
    folder_of(tmp_path, 1)
    assert main(["prune", str(written(tmp_path)), "--yes"]) == 2
    assert "there is no rule" in capsys.readouterr().err
    assert main(["prune", str(written(tmp_path)), "--nights", "0", "--yes"]) == 2
    assert len(with_samples(tmp_path)) == 1


@pytest.mark.parametrize("wrong", ["nights = 0", "gb = 0", "gb = -1", "nigths = 3"])
def test_a_rule_that_is_none_is_refused(tmp_path, wrong, capsys):
    assert main(["prune", str(written(tmp_path, wrong)), "--yes"]) == 2
    assert "storage" in capsys.readouterr().err


def test_a_table_storage_that_says_nothing_keeps_all_and_packs():
    found = validate({"stream": [{"source": {"kind": "simulated"}}]}, "x").storage
    assert (found.pack, found.bounded) == (True, False)
    with pytest.raises(SettingsError):
        validate({"storage": {"pack": 3}, "stream": [{"source": {"kind": "simulated"}}]}, "x")


def settings(folder: Path, **storage: object):
    source = {"name": "anna", "source": {"kind": "simulated"}}
    data = {"node": "node", "session_dir": str(folder), "storage": storage, "stream": [source]}
    return validate(data, "test")


def loose(folder: Path) -> list[bool]:
    return [one.loose for one in find_stored(folder, "node", {"anna"})]


@pytest.fixture
def here(monkeypatch):
    """Packs in this process, and remembers what was asked for."""
    asked = []

    async def work(path, *how):
        asked.append((path.name, *how))
        return packing.prune(path) if how else packing.pack(path)

    monkeypatch.setattr(keeping, "_apart", work)
    return asked


def test_a_round_packs_the_oldest_first_and_then_lets_go_what_the_rule_names(tmp_path, here):
    folder_of(tmp_path, 3)
    asyncio.run(Packer(settings(tmp_path), FakeClock()).round())
    assert here == [("0.sqlite",), ("1.sqlite",), ("2.sqlite",)]
    assert loose(tmp_path) == [False] * 3
    here.clear()
    asyncio.run(Packer(settings(tmp_path, nights=2), FakeClock()).round())
    assert here == [("0.sqlite", "--prune")]
    assert with_samples(tmp_path) == ["1.sqlite", "2.sqlite"]
    session(tmp_path / "new.sqlite", stages("W1"), started=STARTED + 9 * DAY_S)
    here.clear()
    asyncio.run(Packer(settings(tmp_path, pack=False), FakeClock()).round())
    assert here == []


def test_a_round_removes_what_a_killed_process_left_but_not_what_is_being_packed(tmp_path, here):
    left, busy = (tmp_path / f"{name}.sqlite{packing.NEW}" for name in ("left", "busy"))
    left.write_bytes(b"half of it")
    busy.write_bytes(b"half of it")
    with FileLock(tmp_path / "busy.sqlite"):
        asyncio.run(Packer(settings(tmp_path), FakeClock()).round())
        assert sorted(path.name for path in tmp_path.iterdir()) == ["busy.sqlite.lock", busy.name]
    asyncio.run(Packer(settings(tmp_path), FakeClock()).round())
    assert list(tmp_path.iterdir()) == []


def test_a_night_that_ends_is_looked_at_once_and_a_failure_ends_nothing(tmp_path, monkeypatch, caplog):
    class Still(FakeClock):
        async def sleep(self, seconds):
            await asyncio.Event().wait()

    async def run():
        rounds = asyncio.Queue()

        async def failing():
            await rounds.put(None)
            raise OSError("the folder is away")

        async with Packer(settings(tmp_path), Still()) as keeper:
            monkeypatch.setattr(keeper, "round", failing)
            for _ in range(3):
                keeper.night_ended()
                await rounds.get()
        assert rounds.empty()

    asyncio.run(asyncio.wait_for(run(), 60))
    assert "the folder is away" in caplog.text


@pytest.mark.slow
def test_a_process_of_its_own_packs(tmp_path):
    folder_of(tmp_path, 1)
    asyncio.run(Packer(settings(tmp_path), FakeClock()).round())
    assert loose(tmp_path) == [False]
    assert os.listdir(tmp_path) == ["0.sqlite"]


def test_few_nights_are_said(tmp_path, monkeypatch):
    night = 8 * 3600 * INFO.rate_hz * 2 * 4
    usage = type("Usage", (), {"free": 0})
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage)
    for free, streams, packed, few in [
        (31 * night, 1, False, False),
        (29 * night, 1, False, True),
        (29 * night, 1, True, False),
        (59 * night, 2, False, True),
    ]:
        usage.free = int(free)
        said = disk.few_nights(tmp_path, INFO, streams, packed)
        assert bool(said) == few
        assert not few or "about 29 more nights" in said
