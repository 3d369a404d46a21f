"""What a damaged session file still holds is saved, what is missing is listed, and nothing is overwritten."""

import random
import sqlite3

import pytest

from streamer.cli import main
from streamer.commands.recover import UNREADABLE, recover
from streamer.errors import JournalError, UsageError
from streamer.journal import Journal, JournalReader
from streamer.journal import file as session_file
from streamer.journal.file import Batch, Block
from tests.journals import META, HastyClock, chunk, epoch, event


def session(folder, seconds=600):
    """A session file with a transaction for each second, as a night makes them."""
    path = folder / "s.sqlite"
    db = session_file.create(path, META)
    db.execute("PRAGMA synchronous = OFF")  # it is only a test
    for second in range(seconds):
        batch = Batch()
        if second == 100:
            gap = "INSERT INTO gaps(start, stop, reason, wall, monotonic) VALUES (?, ?, 'radio', 0, 0)"
            batch.rows.append((gap, (25600, 25856)))
        else:
            samples = chunk(second * 256, 256).samples.astype("<f4")
            batch.blocks.append(Block(second * 256, 0.0, 0.0, samples))
        session_file.write(db.cursor(), batch)
    db.close()
    with Journal.resume(path, HastyClock()) as journal:
        for number in range(seconds // 30):
            journal.epoch(epoch(number))
            journal.event(event(number))
    return path


def holds(path):
    with JournalReader(path) as reader:
        spans = [(one.start, one.stop) for one in (*reader.samples(), *reader.gaps())]
        return sorted(spans), list(reader.epochs()), list(reader.gaps()), list(reader.parcels())


def whole(spans, stop):
    at = 0
    for start, end in spans:
        if start > at:
            return False
        at = max(at, end)
    return at >= stop


def test_a_sound_file_is_copied_row_by_row(tmp_path):
    path = session(tmp_path)
    saved = recover(path, tmp_path / "new.sqlite")
    assert holds(saved.path) == holds(path)
    assert (saved.breaks, saved.lost_samples) == (0, 0)
    with JournalReader(saved.path) as reader:
        assert reader.meta.info == META.info


@pytest.mark.parametrize("seed", range(8))
def test_pages_overwritten_at_random_cost_their_own_rows_and_no_others(tmp_path, seed):
    path = session(tmp_path)
    before = holds(path)
    db = sqlite3.connect(path)
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    kept = {page for (page,) in db.execute("SELECT rootpage FROM sqlite_schema")} | {1}
    db.close()
    draw = random.Random(seed)
    raw = bytearray(path.read_bytes())
    for page in draw.sample([page for page in range(2, pages + 1) if page not in kept], 3):
        raw[(page - 1) * 4096 : page * 4096] = draw.randbytes(4096)
    path.write_bytes(raw)
    saved = recover(path, tmp_path / "new.sqlite")
    assert path.read_bytes() == bytes(raw), "the damaged file is left as it is"
    spans, epochs, gaps, _ = holds(saved.path)
    assert whole(spans, spans[-1][1])
    assert [one for one in epochs if one not in before[1]] == []
    assert sum(gap.stop - gap.start for gap in gaps if gap.reason == UNREADABLE) == saved.lost_samples
    assert len(spans) > len(before[0]) / 2


def test_what_cannot_be_saved_is_said_and_nothing_is_overwritten(tmp_path, capsys):
    path = session(tmp_path, 5)
    with pytest.raises(UsageError, match="no such file"):
        recover(tmp_path / "none.sqlite", tmp_path / "new.sqlite")
    with pytest.raises(UsageError, match="not overwritten"):
        recover(path, path)
    text = tmp_path / "text.sqlite"
    text.write_text("this is not a session at all")
    with pytest.raises(JournalError, match="nothing can be saved"):
        recover(text, tmp_path / "new.sqlite")
    foreign = tmp_path / "foreign.sqlite"
    db = sqlite3.connect(foreign)
    db.execute("CREATE TABLE t (x)")
    db.commit()
    db.close()
    with pytest.raises(JournalError, match="nothing can be saved"):
        recover(foreign, tmp_path / "new.sqlite")
    assert not (tmp_path / "new.sqlite").exists()
    assert main(["recover", str(path)]) == 0
    assert "0 samples are lost" in capsys.readouterr().out
    assert (tmp_path / "s.recovered.sqlite").exists()
