"""Standard output that is gone, full, slow or of another alphabet: said as an error, and nothing stays."""

import contextlib
import os
import subprocess
import sys
import threading

import pytest

from streamer.errors import OutputError
from streamer.host.standard import LAST_S, Unbuffered, complain, safe, take_over_stderr, unbuffer


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(end)


def test_a_full_disk_a_reader_that_is_gone_and_a_closed_descriptor_are_errors_of_the_family(pipe):
    reader, writer = pipe
    out = Unbuffered(writer, "utf-8")
    out.write("good\n")
    assert os.read(reader, 100) == b"good\n"
    os.close(reader)
    with pytest.raises(OutputError, match="Broken pipe"):
        out.write("bad\n")
    os.close(writer)
    with pytest.raises(OutputError, match="Bad file descriptor"):
        out.write("bad\n")
    with open("/dev/full", "w") as full, pytest.raises(OutputError, match="No space left"):
        unbuffer(full).write("bad\n")


def test_what_the_alphabet_lacks_is_written_as_an_escape(pipe):
    reader, writer = pipe
    Unbuffered(writer, "latin-1").write("für 🌙 \ud83d\n")
    assert os.read(reader, 100) == b"f\xfcr \\U0001f319 \\ud83d\n"


def test_a_line_that_was_cut_off_is_ended_before_the_next(pipe, monkeypatch):
    reader, writer = pipe
    real, room = os.write, [3, 0, 100]

    def write(descriptor, data):
        size = room.pop(0)
        if not size:
            raise OSError(28, "No space left on device")
        return real(descriptor, bytes(data[:size]))

    monkeypatch.setattr(os, "write", write)
    out = Unbuffered(writer, "utf-8")
    with pytest.raises(OutputError):
        out.write("torn line\n")
    out.write("whole\n")
    assert os.read(reader, 100) == b"tor\nwhole\n"


def test_a_pipe_that_somebody_made_non_blocking_gets_all(pipe):
    reader, writer = pipe
    os.set_blocking(writer, False)
    text, got = "x" * (1 << 20), []

    def read():
        while sum(map(len, got)) < len(text):
            got.append(os.read(reader, 1 << 16))

    reading = threading.Thread(target=read)
    reading.start()
    Unbuffered(writer, "utf-8").write(text)
    reading.join(60)
    assert b"".join(got).decode() == text


def test_closed_descriptors_are_not_given_to_the_next_file():
    code = (
        "import sys, os; from streamer.host.standard import safe\n"
        "with safe():\n"
        "    print('nowhere'); print('nowhere', file=sys.stderr)\n"
        "    found = os.open('/dev/zero', os.O_RDONLY)\n"
        "sys.exit(found)\n"
    )

    def close():
        for descriptor in (0, 1, 2):
            os.close(descriptor)

    done = subprocess.run([sys.executable, "-c", code], preexec_fn=close, check=False)
    assert done.returncode > 2


def test_last_words_do_not_wait_for_a_terminal_that_is_stopped(monkeypatch):
    begun, over = threading.Event(), threading.Event()

    class Stopped:
        def write(self, text):
            begun.set()
            over.wait(60)
            return len(text)

    monkeypatch.setattr(sys, "stderr", Stopped())
    monkeypatch.setattr("streamer.host.standard.LAST_S", 0.01)
    complain("it has ended")
    assert begun.wait(60)
    over.set()
    assert LAST_S > 0.01


def test_afterwards_all_is_as_before():
    before = sys.stdout, sys.stderr
    with safe():
        pass
    assert (sys.stdout, sys.stderr) == before


def write_for_ever(descriptor):
    while True:
        os.write(descriptor, bytes(1 << 16))


def test_what_a_library_in_c_writes_to_a_pipe_is_told_and_no_write_of_it_waits(monkeypatch):
    reader, writer = os.pipe()
    before, told, over = os.dup(2), [], threading.Event()
    os.dup2(writer, 2)
    monkeypatch.setattr(sys, "stderr", Unbuffered(2, "utf-8"))
    try:
        with take_over_stderr(lambda line: (told.append(line), over.wait(60))):
            os.write(2, b"a warning\n")
            with pytest.raises(BlockingIOError):  # to a library: a text that is lost
                write_for_ever(2)
            sys.stderr.write("\a")
            over.set()
        os.write(2, b"as before")
        assert os.read(reader, 100) == b"\aas before"
    finally:
        os.dup2(before, 2)
        for descriptor in (before, reader, writer):
            os.close(descriptor)
    assert told[0] == "a warning"
