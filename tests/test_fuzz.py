"""Whatever a file or a client brings: our own error or an answer, and never a crash or a hang.

A few hundred inputs in the daily run; each reader gets 25,000 with
`SLEEPSTREAM_FUZZ=25000 pytest tests/test_fuzz.py --timeout 0`.
"""

import gzip
import json
import os
import sqlite3
import tomllib
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta

import edfio
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamer.commands.recover import recover
from streamer.errors import SleepstreamError
from streamer.journal import Journal, JournalReader
from streamer.journal.candidates import find
from streamer.journal.packing import pack
from streamer.messages import Chunk, Gap
from streamer.night.scoring import read_annotated
from streamer.settings import load
from streamer.sinks.commands import MAX_BYTES, CommandInbox
from streamer.sources.recordings import open_recording
from tests.journals import META, HandClock, chunk, epoch, event
from tests.paths import run, scores
from tests.recording_files import eeg, signal, write_bdf, write_edf, write_edf_d, write_xdf

EXAMPLES = int(os.environ.get("SLEEPSTREAM_FUZZ", "60"))
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 60,
    database=None,
    suppress_health_check=list(HealthCheck),
)
MOST_ITEMS = 50  # of a recording that opens
CSV = b"time,EEG Fpz-Cz,label\n" + b"".join(b"%.2f,%d,x\n" % (n / 100, n % 40) for n in range(300))
TOML = b"""
node = "bedroom"
session_dir = "/tmp/x"
resume_min = 30
[mqtt]
host = "127.0.0.1"
[[stream]]
name = "anna"
hop_s = 5
[stream.source]
kind = "lsl"
type = "EEG"
[stream.signal]
channel = "AF7-TP9"
"""
NASTY = [
    b"",
    b"\0",
    b"\xff\xfe",
    b"-1",
    b"1e999",
    b"nan",
    b"99999999",
    b"\n",
    b'"',
    b"{",
    b"[" * 2000,
    b"EDF+D",
    b"\x14",
    b"<info>",
    b"</info>",
    b"inf",
    b"1e300",
    b" " * 300,
]


@st.composite
def damaged(draw, sound):
    """A sound file with pieces overwritten, cut out, doubled or put in; or anything at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=2000))
    data = bytearray(sound)
    for _ in range(draw(st.integers(1, 4))):
        # Near the beginning most is decided.
        at = draw(st.integers(0, min(len(data), draw(st.sampled_from([64, 600, 10**9])))))
        size = draw(st.integers(0, 40))
        piece = draw(st.one_of(st.binary(max_size=40), st.sampled_from(NASTY)))
        match draw(st.integers(0, 3)):
            case 0:
                data[at : at + len(piece)] = piece
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = piece
            case _:
                data[at:at] = data[at : at + size]
    if draw(st.integers(0, 4)) == 0:
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


def write_sound(kind, path):
    """A recording of a few seconds, with all that its format knows."""
    match kind:
        case "edf":
            notes = [edfio.EdfAnnotation(n, 1, f"Sleep stage {n}") for n in range(5)]
            write_edf(path, [signal(eeg(6), 100), signal(eeg(6, 50), 50, "EMG")], annotations=notes)
        case "d.edf":
            write_edf_d(path, [signal(eeg(4), 100), signal(eeg(4, seed=1), 100, "Fpz-Cz")], [0, 1, 7, 8])
        case "bdf":
            write_bdf(path, eeg(6), 100)
        case "xdf" | "xdf.gz":
            write_xdf(path, 1000 + np.arange(600) / 100, eeg(6)[None], 100, ["Fpz-Cz"])
            if kind == "xdf.gz":
                path.write_bytes(gzip.compress(path.read_bytes()))
        case "csv":
            path.write_bytes(CSV)
        case "iso.csv":
            begun = datetime(2026, 1, 1, tzinfo=UTC)
            rows = (f"{begun + timedelta(seconds=n / 100)};{n % 40}" for n in range(300))
            path.write_text("\n".join(["Time;C3", *rows]))


@pytest.mark.parametrize("kind", ["edf", "d.edf", "bdf", "xdf", "xdf.gz", "csv", "iso.csv"])
@pytest.mark.filterwarnings("ignore")  # what libraries say about broken files is their affair
def test_recordings(tmp_path, kind):
    path = tmp_path / f"fuzzed.{kind}"
    write_sound(kind, path)

    @fuzzed
    @given(damaged(path.read_bytes()))
    def read(data):
        path.write_bytes(data)
        said = ""
        try:
            recording = open_recording(path)
            at = 0
            for _, item in zip(range(MOST_ITEMS), recording.items([0]), strict=False):
                assert item.start >= at
                assert not isinstance(item, Gap) or item.stop - item.start <= 90_000 * recording.rates_hz[0]
                at = item.stop
            read_annotated(path)
        except SleepstreamError as error:
            said = str(error)
        assert "\n" not in said

    read()


def test_settings(tmp_path):
    path = tmp_path / "c.toml"

    @fuzzed
    @given(damaged(TOML))
    @example(b"a = " + b"[" * 5000)
    @example(b"a" + b".a" * 5000 + b" = 1")
    def read(data):
        path.write_bytes(data)
        said = ""
        try:
            load(path)
        except SleepstreamError as error:
            said = str(error)
        assert "\n" not in said

    read()
    assert tomllib.loads(TOML.decode())
    path.write_bytes(TOML)
    assert load(path).node == "bedroom"


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")  # a signalling NaN
@pytest.mark.parametrize("packed", [False, True])
def test_sessions(tmp_path, packed):
    """A session file whose pages or rows are damaged is told apart, and saved as far as it can be."""
    path, saved = tmp_path / "x-sleeper-y.sqlite", tmp_path / "saved.sqlite"
    with Journal.create(path, META, HandClock()) as journal:
        journal.record(chunk(0, 500))
        journal.record(Gap(500, 600, "radio"))
        journal.epoch(epoch(0))
        journal.event(event(0).model_copy(update={"event": "session_ended"}))
    if packed:
        pack(path)
    whole = path.read_bytes()

    @fuzzed
    @given(
        st.lists(st.tuples(st.integers(0, len(whole)), st.binary(max_size=40)), max_size=5),
        st.lists(st.tuples(st.sampled_from(CELLS), CELL), max_size=2),
        st.integers(0, len(whole)) | st.just(len(whole)),
    )
    def read(scrawls, cells, size):
        path.write_bytes(whole)
        for cell, value in cells:
            change(path, cell, value)
        data = bytearray(path.read_bytes())
        for at, scrawl in scrawls:
            data[at : at + len(scrawl)] = scrawl
        path.write_bytes(data[:size])
        for attempt in (
            look,
            lambda path: find(tmp_path, META, HandClock(), 1e9),
            lambda path: recover(path, saved),
        ):
            said = ""
            try:
                attempt(path)
            except SleepstreamError as error:
                said = str(error)
            assert "\n" not in said
        saved.unlink(missing_ok=True)

    read()


CELLS = [
    (table, column)
    for table, columns in {
        "meta": ["value"],
        "samples": ["start", "n", "wall", "monotonic", "data"],
        "packed": ["start", "stop", "wall", "monotonic", "rows", "data"],
        "gaps": ["start", "stop", "reason", "wall", "monotonic"],
        "epochs": ["seq", "body"],
        "events": ["seq", "body"],
        "clocks": ["sample", "wall", "monotonic"],
        "outbox": ["kind", "body", "created"],
    }.items()
    for column in columns
]
CELL = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=50),
    st.binary(max_size=50),
    st.sampled_from(NASTY),
)


def change(path, cell, value):
    """Write anything into one column, as no engine would."""
    table, column = cell
    with closing(sqlite3.connect(path)) as db, db, suppress(sqlite3.IntegrityError):
        db.execute(f"UPDATE {table} SET {column} = ?", (value,))


def look(path):
    with JournalReader(path) as reader:
        reader.position()
        for rows in (reader.samples, reader.gaps, reader.epochs, reader.events):
            list(rows())


KEYS = st.one_of(st.sampled_from(["command", "text", "at", "schema"]), st.text(max_size=20))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=300)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)
NAMES = st.sampled_from(["mark", "lights_off", "lights_on", "stop", "arm_alarm"])
COMMANDS = st.fixed_dictionaries({"command": NAMES}, optional={"text": st.text(max_size=300), "x": VALUES})


def test_commands():
    clock, obeyed, refused = HandClock(), [], []
    inbox = CommandInbox(obeyed.append, refused.append, clock)

    @fuzzed
    @given(
        st.one_of(
            st.binary(max_size=200),
            VALUES.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
            COMMANDS.map(lambda value: json.dumps(value).encode()),
        ),
        st.booleans(),
    )
    @example(b"[" * MAX_BYTES, False)
    @example(b'{"command":' * 300 + b"1" + b"}" * 300, False)
    @example(b'{"command": "mark", "text": "' + b"\xff" * 20 + b'"}', False)
    @example(b" " * (MAX_BYTES + 1), False)
    def receive(body, retained):
        clock.now += 10.0
        before = len(obeyed) + len(refused)
        inbox.receive(body, retained)
        assert len(obeyed) + len(refused) == before + 1
        assert all("\n" not in line and len(line) <= 300 for line in refused[-1:])

    receive()
    assert obeyed


@pytest.mark.filterwarnings("ignore:.*overflow encountered.*:RuntimeWarning")  # and no more than that
def test_samples_of_any_kind_never_break_the_path():
    """The live path takes whatever numbers a device sends."""
    draw = np.random.default_rng(1)
    strange = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 0.0, 1e-45])
    samples = draw.choice(strange, (1, 4000))
    out = scores(run([Chunk(0, samples)], 100))
    assert all(one.stage == "unscored" for one in out)
