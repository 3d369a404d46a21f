"""What a program does to the world outside it, by its system calls: whom it addresses, what it writes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

STRACE = shutil.which("strace")
ADDRESSING = "connect", "sendto", "sendmsg", "sendmmsg", "setsockopt"  # the last one joins groups
ANY = "0.0.0.0"  # which nobody has: where a group is joined
WRITING = "open", "openat", "creat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "link", "linkat"
_CALL = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(?:\(| resumed>)")
_ADDRESS = re.compile(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')
_OPENED = re.compile(r"= \d+<([^>]*)>$")
_NAMED = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Doings:
    """Of a program and all its children."""

    addresses: frozenset[str]  # IPv4 and IPv6
    written: frozenset[Path]  # files opened for writing, folders made, targets of renames
    exit_code: int
    said: str


def traced(command: Sequence[str | Path], folder: Path, environment: dict[str, str]) -> Doings:
    """Run a command in `folder` under strace, with a umask that protects nothing."""
    assert STRACE
    log = folder / "calls.strace"
    calls = ",".join(f"?{name}" for name in (*ADDRESSING, *WRITING))
    strace = [STRACE, "-f", "--seccomp-bpf", "-y", "-s", "4096", "-o", str(log), "-e", f"trace={calls}"]
    ran = subprocess.run(
        [*strace, *map(str, command)],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        umask=0,
    )
    addresses, written = set(), set()
    for name, line in _whole_calls(log.read_text(encoding="utf-8", errors="replace")):
        if name in ADDRESSING:
            addresses.update({four or six for four, six in _ADDRESS.findall(line)} - {ANY})
        elif line.rpartition("= ")[2].startswith("-1"):
            continue
        elif "open" in name or name == "creat":
            opened = _OPENED.search(line)
            if opened and re.search(r"O_WRONLY|O_RDWR|O_CREAT|creat\(", line):
                written.add(Path(opened[1].removesuffix(" (deleted)")))
        else:
            written.add(folder / _NAMED.findall(line)[-1])
    log.unlink()
    return Doings(frozenset(addresses), frozenset(written), ran.returncode, ran.stdout + ran.stderr)


def _whole_calls(log: str) -> list[tuple[str, str]]:
    """Name and text of each call, put together where another thread's came between."""
    begun: dict[str, str] = {}
    calls = []
    for line in log.splitlines():
        found = _CALL.match(line)
        if found is None:
            continue
        thread, name = found.groups()
        if line.endswith("<unfinished ...>"):
            begun[thread] = line.removesuffix("<unfinished ...>")
        else:
            calls.append((name, begun.pop(thread, "") + line if "resumed>" in line else line))
    return calls
