"""Workers on a Ray cluster, or on a local Ray that is started for the command (extra `ray`)."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from streamer.errors import RunError, UsageError
from tools.score.night import Job, Outcomes, Said, make_failure, run_all, stage
from tools.score.outcome import Options

CODE = Path(__file__).parents[2]  # workers run this code, whatever is installed on their machine
AHEAD = 2  # recordings sent per processor: one in work, one waiting
STARTS = 3  # of a Ray of our own: a busy machine may be too slow for the first
UNREACHED = OSError, RuntimeError, ValueError  # from ray.init if no Ray is there; or a bare Exception
SLOW = "timed out during startup"  # as Ray says that
RETRIES = 2  # for a recording whose worker or machine died


def stage_all(
    jobs: Sequence[Job], asked: Options, model: Path | None, address: str, processes: int
) -> Outcomes:
    """Stage every recording; yield results in the order in which they are done.

    Args:
        jobs: recordings, with paths that every machine of the cluster can read.
        asked: the options that determine a result.
        model: path of an artifact that every machine can read; None: the packaged one.
        address: of the cluster ("auto", "ray://head:10001", "10.0.0.1:6379"); "local": start a Ray here, and
            end it.
        processes: number of processors, for "local".

    Raises:
        UsageError: Ray is not installed.
        RunError: the cluster cannot be reached, or its workers cannot run this code.
        ArtifactError: the model cannot be loaded.

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

        def submit(job: Job) -> Future[Said]:
            given: Future[Said] = task.remote(job, asked, model).future()
            return given

        def result(job: Job, given: Future[Said]) -> Said:
            try:
                return given.result()
            except (
                exceptions.WorkerCrashedError,
                exceptions.OutOfMemoryError,
                exceptions.NodeDiedError,
            ) as error:
                died = f"the worker that staged it died ({_first_line(error)})"
                return make_failure(job.recording, died)
            except exceptions.RayError as error:
                raise RunError(
                    f"the workers of the Ray at {address} cannot run this ({_last_line(error)}); give every "
                    "machine the dependencies of sleepstream, and the same versions of Python and Ray"
                ) from error

        yield from run_all(jobs, submit, result, room)
    finally:
        ray.shutdown()


def _connect(address: str, processes: int) -> None:
    import ray

    own: dict[str, Any] = {"num_cpus": processes, "include_dashboard": False}
    local = own if address == "local" else {}
    for left in reversed(range(STARTS)):
        try:
            ray.init(
                address=address,
                runtime_env={"py_modules": [str(CODE / "streamer"), str(CODE / "tools")]},
                log_to_driver=False,
                logging_level=logging.ERROR,
                **local,
            )
            return
        except Exception as error:
            if not isinstance(error, UNREACHED) and type(error) is not Exception:
                raise  # a mistake of ours
            if left and SLOW in str(error):
                continue
            raise RunError(
                f"no Ray at {address} ({_first_line(error)}); start one: `ray start --head`, "
                "or give --ray local"
            ) from error


@contextmanager
def _alone() -> Iterator[None]:
    """Keep a Ray that is started now on this machine, by environment variables for its processes.

    Otherwise it would look for a route to a name server, ask whether it is in a cloud, even with usage
    statistics off, and leave a token below the home folder. Some variables are read when Ray is imported.
    """
    ours = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # use the loopback address, on Linux too
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "http_proxy": "http://127.0.0.1:9",  # where nothing listens
        "no_proxy": "127.0.0.1,localhost,::1",
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ("http_proxy", "no_proxy"):  # the others stay, because Ray reads them later, too
            if (value := before[name]) is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), repr(error))


def _last_line(error: Exception) -> str:
    """The last line of a traceback, which is the error itself."""
    return ([repr(error), *str(error).strip().splitlines()])[-1]
