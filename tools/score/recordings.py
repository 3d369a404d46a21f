"""Finds the recordings of an archive, and the name of each result."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streamer.errors import UsageError
from tools.prepare.datasets import SCORING_KINDS, find_scoring_beside


@dataclass(frozen=True, slots=True)
class ArchivedRecording:
    """One file to stage."""

    name: str  # of the results: the path from the pattern's first wildcard on, without suffix
    path: Path
    scoring: Path | None  # file with an expert's stages beside it

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Every file that the result depends on."""
        return (self.path,) if self.scoring is None else (self.path, self.scoring)


def find(patterns: Sequence[str], out: Path) -> tuple[list[ArchivedRecording], dict[str, str]]:
    """Find every file that matches a pattern, without files in `out` and scorings of other files.

    Returns:
        The recordings sorted by name, and names that several have, each with an error message.

    Raises:
        UsageError: no file matches a pattern.

    """
    named: dict[Path, str] = {}
    for pattern in patterns:
        root = _root(pattern)
        # Do not resolve links: in an archive of links (git-annex) the files lie elsewhere, with other names.
        found = [_absolute(one) for one in glob.glob(pattern, recursive=True)]
        files = [one for one in found if one.is_file() and not one.is_relative_to(_absolute(out))]
        if not files:
            raise UsageError(f"no file matches {pattern}; give a quoted pattern such as 'archive/**/*.edf'")
        named |= {path: path.relative_to(root).with_suffix("").as_posix() for path in files}
    scorings = {path: find_scoring_beside(path) for path in named}
    taken = {one for path, one in scorings.items() if path.suffix.lower() not in SCORING_KINDS}
    recordings = [
        ArchivedRecording(name, path, scorings[path]) for path, name in named.items() if path not in taken
    ]
    recordings.sort(key=lambda one: (one.name, one.path))
    counts = Counter(one.name for one in recordings)
    several = {name: _several(name, recordings) for name, count in counts.items() if count > 1}
    return [one for one in recordings if one.name not in several], several


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(path))


def _root(pattern: str) -> Path:
    """The folder of the pattern's first wildcard, below which results are named."""
    parts = Path(pattern).parts
    fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return _absolute(Path(*parts[:fixed]))


def _several(name: str, recordings: Sequence[ArchivedRecording]) -> str:
    files = ", ".join(str(one.path) for one in recordings if one.name == name)
    return f"{name} would be the result of several files ({files}); stage them into different folders"
