"""The Open Inference Protocol (KServe v2) over HTTP, for one model, without any web framework.

Whoever listens hands in a request and sends the reply: `tools.serve` from Ray Serve, the tests from a thread.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import numpy as np

from streamer import __version__
from streamer.errors import ModelServerError
from streamer.network.stager import Model
from streamer.remote import stateless
from streamer.remote.client import served_name
from streamer.remote.kserve import LENGTH_HEADER, Tensors, pack_response, unpack_request

Infer = Callable[[Tensors], Awaitable[Tensors]]


class Reply(NamedTuple):
    """What to send back."""

    status: int
    headers: dict[str, str]
    body: bytes


class Service:
    """Describes one model and passes requests for it on to `infer`.

    Args:
        model: that is served, under the name of its weights.
        infer: as `stateless.step`; given what it has to be given.
        token: that clients have to bear; None: whoever reaches us may ask.

    """

    def __init__(self, model: Model, infer: Infer, token: str | None = None) -> None:
        memory = stateless.memory_shape(model)
        self.name = served_name(model.contract.weights_sha256)
        self._inputs, self._outputs = stateless.inputs(memory), stateless.outputs(memory)
        self._infer = infer
        self._token = token

    async def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Answer one request; `headers` by names in small letters."""
        said = headers.get("authorization", "")
        if self._token is not None and not hmac.compare_digest(
            said.encode(), f"Bearer {self._token}".encode()
        ):
            return _error(401, "give the token that this server was started with")
        model = f"/v2/models/{self.name}"
        plain = path.rstrip("/").replace(f"{model}/versions/1", model)
        if plain == f"{model}/infer":
            return await self._answer_infer(headers, body) if method == "POST" else _error(405, "POST it")
        said_plainly = {
            "/v2": {"name": "sleepstream", "version": __version__, "extensions": ["binary_tensor_data"]},
            "/v2/health/live": {"live": True},
            "/v2/health/ready": {"ready": True},
            f"{model}/ready": {"name": self.name, "ready": True},
            model: self._metadata(),
        }
        if plain not in said_plainly:
            return _error(404, f"no {path!r} here; the model is {self.name}")
        return _json(200, said_plainly[plain])

    def _metadata(self) -> dict[str, object]:
        def listed(kinds: dict[str, stateless.Kind]) -> list[dict[str, object]]:
            return [
                {"name": name, "datatype": kind.datatype, "shape": [-1, *kind.shape]}
                for name, kind in kinds.items()
            ]

        return {
            "name": self.name,
            "versions": ["1"],
            "platform": "pytorch_torchscript",
            "inputs": listed(self._inputs),
            "outputs": listed(self._outputs),
        }

    async def _answer_infer(self, headers: Mapping[str, str], body: bytes) -> Reply:
        length = headers.get(LENGTH_HEADER.lower())
        try:
            if length is not None and not length.isdecimal():
                raise ModelServerError(f"{LENGTH_HEADER} is {length!r}")
            tensors, asked = unpack_request(body, None if length is None else int(length))
            unknown = [name for name in asked if name not in self._outputs]
            if unknown:
                raise ModelServerError(f"there is no output {unknown[0]!r}")
            answer = await self._infer(stateless.checked(tensors, self._inputs))
        except ModelServerError as error:
            return _error(400, str(error))
        packed = pack_response({name: answer[name] for name in asked or self._outputs}, self.name)
        return Reply(200, packed.headers, packed.body)


def together(model: Model, requests: list[Tensors]) -> list[Tensors]:
    """Answer requests of any number of streams each in one pass of the network; all have been `checked`."""
    merged = {name: np.concatenate([one[name] for one in requests]) for name in requests[0]}
    answer = stateless.step(model, merged)
    ends = np.cumsum([len(one[stateless.RAW]) for one in requests])[:-1]
    parts = {name: np.split(tensor, ends) for name, tensor in answer.items()}
    return [{name: parts[name][number] for name in parts} for number in range(len(requests))]


def _json(status: int, data: object) -> Reply:
    return Reply(status, {"Content-Type": "application/json"}, json.dumps(data).encode())


def _error(status: int, text: str) -> Reply:
    return _json(status, {"error": text})
