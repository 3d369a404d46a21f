"""Writes the list of active and sham firings beside the session file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from streamer.errors import SinkError
from streamer.host import private
from streamer.news import Arm, News


def arm_path(session: Path) -> Path:
    """Return the path of a session's list of arms."""
    return session.with_suffix(".arms.jsonl")


class ArmList:
    """A sink that writes one line per firing. The session file has no arms, so its readers stay blind.

    Args:
        path: of the list.

    """

    wants: tuple[type, ...] = (Arm,)
    prompt = False

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path

    def hear(self, stream: str, news: News) -> None:
        """Append a firing's arm.

        Raises:
            SinkError: it cannot be written.

        """
        if not isinstance(news, Arm):
            return
        try:
            with open(self._path, "a", encoding="utf-8", opener=private.opener) as file:
                file.write(json.dumps(asdict(news)) + "\n")
        except OSError as error:
            reason = f"cannot write {self._path}: {error.strerror}; the arms follow from the seed"
            raise SinkError(reason) from error
