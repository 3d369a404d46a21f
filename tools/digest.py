"""A file's digest, by which archives and prepared nights know it again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from streamer.errors import RecordingError


def digest_of(path: Path) -> tuple[str, os.stat_result]:
    """The sha256 of what a file holds, and what its folder says of it.

    Raises:
        RecordingError: it cannot be read.

    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), path.stat()
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror}; check the path") from error
