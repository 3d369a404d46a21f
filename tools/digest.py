"""The digest of a file, by which archives and prepared nights recognise it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from streamer.errors import RecordingError


def digest_of(path: Path) -> tuple[str, os.stat_result]:
    """Return the sha256 of a file's content, and its stat.

    Raises:
        RecordingError: the file cannot be read.

    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), path.stat()
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror}; check the path") from error
