"""Workers on this machine: one process each, one torch thread each.

Not a pool of the standard library: there a process that dies (no memory, a fault in native code) takes every
recording that still waits with it, and does not say whose fault it was.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path

from streamer.errors import RunError, SleepstreamError
from streamer.network.stager import Model
from tools.score.manifest import Asked
from tools.score.night import Job, Outcomes, Result, Touched, failure, outcome


class Worker:
    """A process, the line to it, and what it is busy with."""

    def __init__(self, asked: Asked, model: Path | None) -> None:
        spawn = multiprocessing.get_context("spawn")  # a fork would copy torch's threads by half
        self.line, theirs = spawn.Pipe()
        self.process = spawn.Process(target=work, args=(theirs, asked, model), name="stager", daemon=True)
        self.process.start()
        theirs.close()  # so that the line breaks when the process does
        self.ready = False  # its model is loaded
        self.dead = False
        self.job: Job | None = None

    def take(self, job: Job) -> None:
        """Give it a recording."""
        self.job = job
        with suppress(OSError):  # it has just died: the line says so when it is read
            self.line.send(job)

    def hear(self) -> tuple[Job, Result | Touched] | None:
        """Take what it says, once there is something; None: nothing about a recording.

        Raises:
            ArtifactError: it cannot use the model.
            RunError: it died before it could do anything.

        """
        job, self.job = self.job, None
        try:
            said = self.line.recv()
        except (EOFError, OSError):
            self.dead = True
            self.process.join()
            why = _why(self.process.exitcode)
            if not self.ready:
                raise RunError(f"a worker process died at its start ({why}); try fewer --processes") from None
            said = (
                None
                if job is None
                else Result(failure(job.recording, f"the process that staged it died ({why})"), {})
            )
        if isinstance(said, SleepstreamError):
            raise said
        self.ready = True
        return None if job is None else (job, said)


def work(line: Connection, asked: Asked, model_path: Path | None) -> None:
    """Be a worker: load the model, then stage one recording after the other until the line breaks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: who leads it, ends it
    try:
        try:
            model = Model.load(model_path, sha256=asked.model_sha256)
        except SleepstreamError as error:
            line.send(error)
            return
        line.send(None)
        while True:
            line.send(outcome(line.recv(), asked, model))
    except (EOFError, OSError):  # who leads is gone, killed perhaps: nobody wants the rest
        return


def staged(jobs: Sequence[Job], asked: Asked, model: Path | None, processes: int) -> Outcomes:
    """Stage every recording, in whatever order they are done; at its end, however it ends, no worker is left.

    Raises:
        ArtifactError: the model cannot be used.
        RunError: a worker died at its start.

    """
    waiting = list(reversed(jobs))
    crew: list[Worker] = []
    try:
        while waiting or any(worker.job for worker in crew):
            busy = sum(worker.job is not None for worker in crew)
            while len(crew) < min(processes, len(waiting) + busy):
                crew.append(Worker(asked, model))
            for line in wait([worker.line for worker in crew]):
                worker = next(one for one in crew if one.line is line)
                done = worker.hear()
                if worker.dead:
                    crew.remove(worker)
                elif waiting:
                    worker.take(waiting.pop())
                if done is not None:
                    yield done
    finally:
        for worker in crew:
            worker.process.terminate()
        for worker in crew:
            worker.process.join()
            worker.line.close()


def _why(exit_code: int | None) -> str:
    """What an exit code says to a person."""
    if exit_code is not None and exit_code < 0:
        killed = signal.Signals(-exit_code).name
        return f"{killed}; too little memory?" if exit_code == -signal.SIGKILL else killed
    return f"exit code {exit_code}"
