"""Whatever a file or a client brings: our own error or an answer, and never a crash or a hang.

A few hundred inputs in the daily run; each of the five readers gets 25,000 with
`SLEEPSTREAM_FUZZ=25000 pytest tests/test_fuzz.py --timeout 0`.
"""

import json
import os
import tomllib
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamer.errors import SleepstreamError
from streamer.messages import Chunk
from streamer.recordings import open_recording
from streamer.settings import load
from streamer.sinks.commands import MAX_BYTES, CommandInbox
from tests.journals import HandClock
from tests.paths import run, scores
from tests.recording_files import eeg, signal, write_edf, write_xdf

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


@cache
def sound(folder, kind):
    path = folder / f"sound.{kind}"
    if kind == "edf":
        write_edf(path, [signal(eeg(6), 100), signal(eeg(6, seed=1), 100, "EEG Fpz-Cz")])
    elif kind == "xdf":
        write_xdf(path, 1000 + np.arange(600) / 100, np.tile(eeg(6), (1, 1)), 100, ["Fpz-Cz"])
    else:
        path.write_bytes(CSV)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["edf", "xdf", "csv"])
@pytest.mark.filterwarnings("ignore")  # what libraries say about broken files is their affair
def test_recordings(tmp_path_factory, kind):
    folder = tmp_path_factory.mktemp(kind)
    path = folder / f"fuzzed.{kind}"

    @fuzzed
    @given(damaged(sound(folder, kind)))
    def read(data):
        path.write_bytes(data)
        said = ""
        try:
            items = open_recording(path, None).items([0])
            at = 0
            for _, item in zip(range(MOST_ITEMS), items, strict=False):
                assert item.start >= at
                at = item.stop
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
