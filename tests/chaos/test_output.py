"""What chaos does to the engine's output: a pipe breaks, a terminal is stopped or closed, a disk is full."""

import os

import pytest

from tests.chaos.output import Output


def heard(folder):
    return (folder / "engine.log").read_bytes() if (folder / "engine.log").exists() else b""


def write_for_ever(descriptor):
    while True:
        os.write(descriptor, bytes(4096))


@pytest.mark.parametrize("kind", ["log", "terminal"])
def test_what_is_written_is_kept_until_nobody_reads_any_more(tmp_path, kind):
    output = Output(tmp_path)
    output.wanted = kind
    descriptor = output.open()
    assert os.isatty(descriptor) == (kind == "terminal")
    os.write(descriptor, b"a line\n")
    while not heard(tmp_path):
        pass
    output.end()
    with pytest.raises(OSError, match=r"Broken pipe|Input/output error"):
        os.write(descriptor, b"nobody\n")
    os.close(descriptor)
    assert heard(tmp_path).startswith(b"a line")


def test_a_terminal_is_stopped_and_goes_on(tmp_path):
    output = Output(tmp_path)
    output.wanted = "terminal"
    descriptor = output.open()
    os.set_blocking(descriptor, False)
    output.stop()
    with pytest.raises(BlockingIOError):
        os.write(descriptor, b"stopped\n")
    output.go_on()
    assert os.write(descriptor, b"goes on\n") == 8
    os.close(descriptor)
    output.close()


def test_a_disk_is_filled_and_given_room(tmp_path):
    output = Output(tmp_path)
    output.mount()
    if not output.mounted:  # only root may; the kind is then left out of chaos
        return
    try:
        output.wanted = "file"
        descriptor = output.open()
        output.fill()
        with pytest.raises(OSError, match="No space left"):
            write_for_ever(descriptor)
        output.make_room()
        assert os.write(descriptor, b"room\n") == 5
        os.close(descriptor)
    finally:
        output.close()
