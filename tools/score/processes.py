"""Workers on this machine: processes with one thread each.

The standard library's pool is not used, because there a process that dies (no memory, a fault in native code)
takes all waiting recordings with it, and does not tell which recording was at fault.
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
from tools.score.manifest import Options
from tools.score.night import Job, Outcomes, Result, Touched, make_failure, stage_recording


class WorkerProcess:
    """A process, the connection to it, and its present job."""

    def __init__(self, asked: Options, model: Path | None) -> None:
        spawn = multiprocessing.get_context("spawn")  # a fork would not copy the threads of libraries
        self.line, theirs = spawn.Pipe()
        self.process = spawn.Process(target=work, args=(theirs, asked, model), name="stager", daemon=True)
        self.process.start()
        theirs.close()  # so that the connection ends with the process
        self.ready = False  # whether its model is loaded
        self.dead = False
        self.job: Job | None = None

    def take(self, job: Job) -> None:
        """Send it a recording."""
        self.job = job
        with suppress(OSError):  # if it has just died, `hear` finds out
            self.line.send(job)

    def hear(self) -> tuple[Job, Result | Touched] | None:
        """Receive its message; None if it is not about a recording.

        Raises:
            ArtifactError: it cannot load the model.
            RunError: it died before it was ready.

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
                else Result(make_failure(job.recording, f"the process that staged it died ({why})"), {})
            )
        if isinstance(said, SleepstreamError):
            raise said
        self.ready = True
        return None if job is None else (job, said)


def work(line: Connection, asked: Options, model_path: Path | None) -> None:
    """The worker: load the model, then stage one recording after the other until the connection ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the main one ends them
    try:
        try:
            model = Model.load(model_path, sha256=asked.model_sha256)
        except SleepstreamError as error:
            line.send(error)
            return
        line.send(None)
        while True:
            line.send(stage_recording(line.recv(), asked, model))
    except (EOFError, OSError):  # the main process is gone
        return


def stage_all(jobs: Sequence[Job], asked: Options, model: Path | None, processes: int) -> Outcomes:
    """Stage every recording; yield results in the order in which they are done. No worker is left at the end.

    Raises:
        ArtifactError: the model cannot be loaded.
        RunError: a worker died at its start.

    """
    waiting = list(reversed(jobs))
    crew: list[WorkerProcess] = []
    try:
        while waiting or any(worker.job for worker in crew):
            busy = sum(worker.job is not None for worker in crew)
            while len(crew) < min(processes, len(waiting) + busy):
                crew.append(WorkerProcess(asked, model))
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
    """Explain an exit code."""
    if exit_code is not None and exit_code < 0:
        killed = signal.Signals(-exit_code).name
        return f"{killed}; too little memory?" if exit_code == -signal.SIGKILL else killed
    return f"exit code {exit_code}"
