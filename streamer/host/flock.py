"""File locks between processes; without an effect where the system has none."""

from __future__ import annotations

try:
    import fcntl
except ImportError:  # Windows
    LOCKS = False
else:
    LOCKS = True  # the kernel keeps them, and frees them when their process dies


def lock(descriptor: int) -> bool:
    """Lock an open file for as long as it is open; False if another process has it.

    Where there are no locks it is always True: whoever starts two engines has to keep them apart.

    Raises:
        OSError: the file's disk knows no locks.

    """
    if not LOCKS:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def locked(descriptor: int) -> bool:
    """Whether another process has an open file locked."""
    if not LOCKS:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
