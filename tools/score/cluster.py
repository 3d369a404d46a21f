"""Workers on a Ray cluster, or on a Ray of one's own on this machine (extra `ray`)."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

from streamer.errors import RunError, SleepstreamError, UsageError
from streamer.network.stager import Model
from tools.score.manifest import Asked
from tools.score.night import Job, Outcomes, Result, Touched, failure, outcome

CODE = Path(__file__).parents[2]  # what the workers run is what runs here, whatever is installed there
AHEAD = 2  # recordings handed out per processor: one that is staged, one that waits for it
RETRIES = 2  # of a recording whose worker or machine died


@cache
def loaded(path: Path | None, sha256: str) -> Model:
    """The model, once per worker process; a worker has one processor, and torch one thread."""
    return Model.load(path, sha256=sha256)


def stage(job: Job, asked: Asked, model: Path | None) -> Result | Touched | SleepstreamError:
    """Be a task: the result, or why the model cannot be used."""
    try:
        ready = loaded(model, asked.model_sha256)
    except SleepstreamError as error:
        return error
    return outcome(job, asked, ready)


def staged(jobs: Sequence[Job], asked: Asked, model: Path | None, address: str, processes: int) -> Outcomes:
    """Stage every recording, in whatever order they are done.

    Args:
        jobs: recordings, under paths that every machine of the cluster can read.
        asked: what decides their results.
        model: an artifact under such a path; None: the packaged one.
        address: of the cluster ("auto", "ray://head:10001", "10.0.0.1:6379"), or "local": a Ray of
            `processes` processors is begun here, and ended.
        processes: for "local".

    Raises:
        UsageError: Ray is not installed.
        RunError: the cluster cannot be reached, or its workers cannot run this code.
        ArtifactError: the model cannot be used.

    """
    with _alone() if address == "local" else nullcontext():
        try:
            import ray
            from ray import exceptions
        except ImportError:
            raise UsageError("--ray needs Ray: pip install '.[ray]'") from None
        _connect(address, processes)
    try:
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(stage)
        room = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting = list(reversed(jobs))
        running: dict[ray.ObjectRef[Result | Touched | SleepstreamError], Job] = {}
        while waiting or running:
            while waiting and len(running) < room:
                job = waiting.pop()
                running[task.remote(job, asked, model)] = job
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            job = running.pop(done)
            try:
                said = ray.get(done)
            except (
                exceptions.WorkerCrashedError,
                exceptions.OutOfMemoryError,
                exceptions.NodeDiedError,
            ) as error:
                died = f"the worker that staged it died ({_first_line(error)})"
                said = Result(failure(job.recording, died), {})
            except exceptions.RayError as error:
                raise RunError(
                    f"the workers of the Ray at {address} cannot run this ({_last_line(error)}); give every "
                    "machine this version of sleepstream with what it needs, and of Python and Ray"
                ) from error
            if isinstance(said, SleepstreamError):
                raise said
            yield job, said
    finally:
        ray.shutdown()


def _connect(address: str, processes: int) -> None:
    import ray

    own: dict[str, Any] = {"num_cpus": processes, "include_dashboard": False}
    local = own if address == "local" else {}
    try:
        ray.init(
            address=address,
            runtime_env={"py_modules": [str(CODE / "streamer"), str(CODE / "tools")]},
            log_to_driver=False,
            logging_level=logging.ERROR,
            **local,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise RunError(
            f"no Ray at {address} ({_first_line(error)}); begin one with `ray start --head`, or give local"
        ) from error


@contextmanager
def _alone() -> Iterator[None]:
    """Have a Ray that is begun now keep to this machine: its processes take over our environment.

    It would else look which way a name server lies, ask the cloud that it might be in, even with usage
    statistics off, and leave a token below the home folder. Some of it is read when Ray is imported.
    """
    ours = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the loopback address, here too
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "http_proxy": "http://127.0.0.1:9",  # where nobody answers
        "no_proxy": "127.0.0.1,localhost,::1",
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ("http_proxy", "no_proxy"):  # what Ray reads later, too, stays
            if (value := before[name]) is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), repr(error))


def _last_line(error: Exception) -> str:
    """Of a traceback, which ends with the error itself."""
    return ([repr(error), *str(error).strip().splitlines()])[-1]
