"""Runs the network for many engines, on Ray Serve: `python -m tools.serve` (needs the extra `ray`).

The artifact is the one that an engine loads, unchanged. Requests that come within `--wait-ms` of each other
are answered in one pass of the network; replicas, machines and GPUs are Ray's business.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import Any, get_args

from streamer.errors import SleepstreamError
from streamer.network.stager import Model
from streamer.remote.kserve import Tensors
from streamer.remote.settings import TOKEN_VARIABLE
from streamer.settings import Precision
from tools.model_service import Service, together


def application(
    load: dict[str, Any],
    token: str | None,
    replicas: int,
    cpus: float,
    gpus: float,
    batch: int,
    wait_s: float,
) -> Any:
    """Return the Ray Serve application; `load` are the arguments of `Model.load`."""
    from ray import serve
    from starlette.requests import Request
    from starlette.responses import Response

    @serve.deployment(
        num_replicas=replicas,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        max_ongoing_requests=4 * batch,
    )
    class Stager:
        """One replica: the network, and a queue in front of it."""

        def __init__(self) -> None:
            self._model = Model.load(**load)
            self._service = Service(self._model, self._infer, token)

        async def __call__(self, request: Request) -> Response:
            """Answer one HTTP request."""
            headers, body = dict(request.headers), await request.body()
            reply = await self._service.answer(request.method, request.url.path, headers, body)
            return Response(reply.body, reply.status, reply.headers)

        async def _infer(self, given: Tensors) -> Tensors:
            answer: Tensors = await self._batched(given)
            return answer

        @serve.batch(max_batch_size=batch, batch_wait_timeout_s=wait_s)
        async def _batched(self, requests: list[Tensors]) -> list[Tensors]:
            return await asyncio.to_thread(together, self._model, requests)

    return Stager.bind()


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM."""
    asked = _arguments(arguments)
    load = {"path": asked.model, "sha256": asked.sha256, "device": asked.device}
    load |= {"threads": asked.threads, "precision": asked.precision}
    try:
        contract = Model.load(**(load | {"device": "cpu"})).contract  # a wrong file is found out here
    except SleepstreamError as error:
        raise SystemExit(f"tools.serve: {error}") from None
    try:
        import ray
        from ray import serve
    except ImportError:
        raise SystemExit("tools.serve: needs Ray Serve; run: pip install 'sleepstream[ray]'") from None
    # "local": a cluster of our own, even if another one is or was on this machine, and for nobody else
    own = {} if asked.address else {"_node_ip_address": "127.0.0.1"}
    ray.init(
        asked.address or "local",
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        **own,
    )
    serve.start(http_options={"host": asked.host, "port": asked.port})
    app = application(
        load,
        os.environ.get(TOKEN_VARIABLE),
        asked.replicas,
        asked.cpus,
        asked.gpus if asked.gpus is not None else float(asked.device == "cuda"),
        asked.batch,
        asked.wait_ms / 1000,
    )
    serve.run(app, name="sleepstream", route_prefix="/")
    print(f"serving {contract.size}, weights {contract.weights_sha256}, at port {asked.port}", flush=True)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
    serve.shutdown()
    ray.shutdown()


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.serve", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", type=Path, help="an artifact (default: the packaged one)")
    parser.add_argument("--sha256", help="that the artifact must have; needed with --model")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=get_args(Precision), default="float32", help="of products")
    parser.add_argument("--threads", type=int, default=1, help="of torch, per replica (default: 1)")
    parser.add_argument("--host", default="127.0.0.1", help="to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="to listen on (default: 8000)")
    parser.add_argument("--address", help="of a Ray cluster (default: one of our own, on this machine)")
    parser.add_argument("--replicas", type=int, default=1, help="processes with the network (default: 1)")
    parser.add_argument("--cpus", type=float, default=1, help="that Ray counts per replica (default: 1)")
    parser.add_argument("--gpus", type=float, help="likewise (default: 1 with --device cuda, else 0)")
    parser.add_argument("--batch", type=int, default=32, help="most requests in one pass (default: 32)")
    parser.add_argument("--wait-ms", type=float, default=2.0, help="for a pass to fill up (default: 2)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
