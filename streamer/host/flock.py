"""File locks between processes; they have no effect on systems without them."""

from __future__ import annotations

try:
    import fcntl
except ImportError:  # Windows
    LOCKS = False
else:
    LOCKS = True  # kept by the kernel, which frees them when their process dies


def lock(descriptor: int) -> bool:
    """Lock an open file for as long as it is open; return False if another process has locked it.

    On a system without locks it is always True: there the user must not start an engine twice.

    Raises:
        OSError: the file's disk does not support locks.

    """
    if not LOCKS:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(descriptor: int) -> bool:
    """Whether another process has locked an open file."""
    if not LOCKS:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
