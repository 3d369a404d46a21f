"""Fills a folder with the results of an archive: stages what is due, keeps the rest, notes failures."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from streamer.errors import SinkError
from streamer.host import private
from tools.manifest import Failed, Manifest, is_complete, is_untouched
from tools.score.night import FILES, Job, Outcomes, Result, Touched
from tools.score.outcome import Done, Options
from tools.score.recordings import ArchivedRecording

PARTIAL = ".partial"  # folder below DIR for files that are being written
Crew = Callable[[Sequence[Job]], Outcomes]  # stages every job, in any order


@dataclass(slots=True)
class Tally:
    """The numbers of recordings, by outcome."""

    there: int = 0  # staged before, and unchanged
    staged: int = 0
    failed: int = 0


def fill(
    manifest: Manifest[Done],
    recordings: Sequence[ArchivedRecording],
    refused: Mapping[str, str],
    asked: Options,
    crew: Crew,
    console: Console,
) -> Tally:
    """Stage every recording that is due; each result is in the manifest before the next one begins.

    Args:
        manifest: the folder's manifest, open.
        recordings: all recordings of the archive.
        refused: names that cannot be staged, each with the reason.
        asked: the options that determine a result.
        crew: the workers.
        console: for the progress bar, and a line for each failure.

    Raises:
        SinkError: the folder cannot be written.
        ArtifactError: the model cannot be loaded.
        RunError: the workers cannot be started.

    """
    jobs = find_due(manifest, recordings, asked)
    tally = Tally(there=len(recordings) - len(jobs))
    columns = TextColumn("recordings"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=len(recordings) + len(refused), completed=tally.there)

        def note(entry: Done | Failed) -> None:
            manifest.add(entry)
            progress.advance(bar)
            if isinstance(entry, Failed):
                tally.failed += 1
                console.print(entry.error, soft_wrap=True, markup=False, highlight=False)

        for name, why in refused.items():
            note(Failed(recording=name, error=why))
        if not jobs:
            return tally
        with closing(crew(jobs)) as outcomes:
            for job, said in outcomes:
                if isinstance(said, Touched):
                    before = manifest.entries[job.recording.name]
                    note(before.model_copy(update={"inputs": said.inputs}))
                    tally.there += 1
                else:
                    write(manifest.folder, said)
                    note(said.entry)
                    tally.staged += isinstance(said.entry, Done)
    return tally


def find_due(manifest: Manifest[Done], recordings: Sequence[ArchivedRecording], asked: Options) -> list[Job]:
    """List the recordings without a complete result of their present files with the same options."""
    jobs = []
    for recording in recordings:
        before = manifest.entries.get(recording.name)
        if not isinstance(before, Done):
            jobs.append(Job(recording))
            continue
        keep = before.asked == asked and is_complete(before.outputs, manifest.folder / recording.name)
        if not (keep and is_untouched(before.inputs, recording.inputs)):
            jobs.append(Job(recording, before.inputs, keep))
    return jobs


def write(folder: Path, result: Result) -> None:
    """Write the files of a result, each completely or not at all, and remove older ones.

    Raises:
        SinkError: the folder cannot be written.

    """
    if not result.files:
        return
    place, partial = folder / result.entry.recording, folder / PARTIAL
    try:
        private.make_folder(place)
        private.make_folder(partial)
        for name, data in result.files.items():
            private.write(partial / name, data)
        for name in FILES:
            if name in result.files:
                (partial / name).replace(place / name)
            else:
                (place / name).unlink(missing_ok=True)
        shutil.rmtree(partial)  # and what a killed run left in it
    except OSError as error:
        raise SinkError(
            f"cannot write {place}: {error.strerror}; free some space, or choose another --out"
        ) from error
