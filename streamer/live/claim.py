"""Refuses a second engine for the same node or the same sleepers.

The claim is a lock of the kernel, which ends with the process. So it cannot be stale, and of two engines that
start at once exactly one gets it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from streamer.errors import TakenError
from streamer.host import private
from streamer.host.printable import printable
from streamer.journal.lock import seize

SPACE = "SLEEPSTREAM_MACHINE"  # environment: engines with another one count as on another machine; for tests
CALLERS = 1024  # connections of second engines, which ask the kernel for the first one's process
TRIES, TRY_S = 20, 0.01  # to connect to one that has just begun
_CREDENTIALS = struct.Struct("3i")  # process, user, group
log = logging.getLogger(__name__)


class Claim:
    """The right to be this engine, held from entering to leaving, or until the process dies.

    Args:
        node: name of the engine, which may run once on a machine (Linux only); None: not checked.
        folder: of the session files.
        streams: sleepers that are recorded there, each by one engine.

    Raises:
        TakenError: on entering, if another process has the claim; the message names it.

    """

    def __init__(self, node: str | None, folder: Path, streams: Sequence[str]) -> None:
        self._node = node
        self._folder = folder
        self._streams = sorted(streams)  # in one order, so that two engines do not refuse each other
        self._stack = contextlib.ExitStack()
        self._held: dict[str, int] = {}  # stream -> descriptor of its lock file
        self._shared: set[str] = set()  # streams reported to be recorded by another process too

    def __enter__(self) -> Self:
        with self._stack:
            if self._node is not None:
                self._claim_node(self._node)
            for stream in self._streams:
                self._claim_stream(stream)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def mend(self) -> None:
        """Recreate lock files whose folder was deleted or moved. May block.

        If another process has taken one meanwhile, that is logged: both record that stream.
        """
        for stream, descriptor in self._held.items():
            path = self._lock(stream)
            if not path.parent.is_dir() or _in_place(path, descriptor):
                continue
            try:
                fresh = seize(path)
            except OSError as error:
                log.warning("cannot claim %s again: %s", path, error.strerror)
                continue
            if fresh is None and stream in self._shared:
                continue
            if fresh is None:
                self._shared.add(stream)
                log.error(
                    "stream %r in %s is recorded by another process too: %s",
                    *(stream, self._folder, _told(_noted(path))),
                )
                continue
            self._shared.discard(stream)
            _note(fresh)
            os.dup2(fresh, descriptor, inheritable=False)  # this closes the old file and its lock
            os.close(fresh)

    def _lock(self, stream: str) -> Path:
        return self._folder / f"{stream}.engine.lock"

    def _claim_node(self, node: str) -> None:
        """Take the name of an abstract socket, which all users and mount namespaces share."""
        if not sys.platform.startswith("linux"):
            return
        name = f"\0sleepstream/{os.environ.get(SPACE, '')}/{node}"
        held = self._stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            held.bind(name)
            held.listen(CALLERS)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:  # such as in a sandbox: that must not end the night
                log.warning("cannot claim node %s on this machine: %s", node, error.strerror)
                return
            raise TakenError(
                f"node {node!r} runs on this machine already: {_told(_listener(name))}; "
                "stop that first, or give this one another `node`"
            ) from error

    def _claim_stream(self, stream: str) -> None:
        path = self._lock(stream)
        try:
            private.make_folder(self._folder)
            descriptor = seize(path)
        except OSError as error:  # a full or read-only disk: the alarm rings all the same
            log.warning("cannot claim %s: %s", path, error.strerror)
            return
        if descriptor is None:
            raise TakenError(
                f"stream {stream!r} in {self._folder} is recorded already: {_told(_noted(path))}; "
                "stop that first, or give this one another `session_dir`"
            )
        self._stack.callback(os.close, descriptor)
        self._stack.callback(_remove, path, descriptor)  # runs before the close, while the lock is held
        self._held[stream] = descriptor
        _note(descriptor)


def _note(descriptor: int) -> None:
    """Write our process number into the file, for people; the lock itself is the kernel's."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)


def _in_place(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


def _remove(path: Path, descriptor: int) -> None:
    """Remove our lock files, never another's."""
    if _in_place(path, descriptor):
        path.unlink(missing_ok=True)


def _listener(name: str) -> int:
    """Return the process that has the node's name; 0 if unknown."""
    for _ in range(TRIES):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.setblocking(False)
            asking.connect(name)
            found = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            return int(_CREDENTIALS.unpack(found)[0])
        time.sleep(TRY_S)  # it has bound the name, and is about to listen
    return 0


def _noted(path: Path) -> int:
    """Return the process named in a lock file; 0 if it does not exist."""
    with contextlib.suppress(OSError, ValueError):
        process = int(path.read_bytes()[:20])
        os.kill(process, 0)
        return process
    return 0


def _told(process: int) -> str:
    if process <= 0:
        return "by another process"
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").split("\0")
        return f"by process {process} ({printable(' '.join(words).strip())[:120]})"
    return f"by process {process}"
