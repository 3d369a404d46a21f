"""Workers on this machine: processes with one thread each."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path

from tools.score.night import Job, Outcomes, Said, make_failure, run_all, stage
from tools.score.outcome import Options


def stage_all(jobs: Sequence[Job], asked: Options, model: Path | None, processes: int) -> Outcomes:
    """Stage every recording; yield results in the order in which they are done. No worker is left at the end.

    Each worker is a pool of one process: in a pool of several, one that dies (no memory, a fault in native
    code) takes all waiting recordings with it, and does not tell which recording was at fault.

    Raises:
        ArtifactError: the model cannot be loaded.

    """
    others = set(active_children())
    idle = [_open_worker() for _ in range(min(processes, len(jobs)))]
    busy: dict[Future[Said], ProcessPoolExecutor] = {}

    def submit(job: Job) -> Future[Said]:
        worker = idle.pop()
        try:
            given = worker.submit(stage, job, asked, model)
        except BrokenProcessPool:  # it has died since its last recording
            worker = _open_worker()
            given = worker.submit(stage, job, asked, model)
        busy[given] = worker
        return given

    def result(job: Job, given: Future[Said]) -> Said:
        idle.append(busy.pop(given))
        try:
            return given.result()
        except BrokenProcessPool:
            idle.pop().shutdown()
            idle.append(_open_worker())
            return make_failure(job.recording, "the process that staged it died; too little memory?")

    try:
        yield from run_all(jobs, submit, result, len(idle))
    finally:
        for process in set(active_children()) - others:
            process.terminate()
        for worker in (*idle, *busy.values()):
            worker.shutdown()


def _open_worker() -> ProcessPoolExecutor:
    spawn = get_context("spawn")  # a fork would not copy the threads of libraries
    return ProcessPoolExecutor(1, spawn, initializer=_begin)


def _begin() -> None:
    """In the worker: leave Ctrl-C, which reaches all processes, to the main one, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent watch", daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
