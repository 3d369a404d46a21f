"""Asks a server to run the network, checks what it answers, and leaves it alone when it fails."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import urllib3
from urllib3 import exceptions

from streamer.errors import ModelServerError, SettingsError
from streamer.remote import stateless
from streamer.remote.kserve import LENGTH_HEADER, Packed, Tensors, pack_request, unpack_response
from streamer.remote.settings import TOKEN_VARIABLE, RemoteSettings

RETRY_MIN_S = 1.0  # after a first failure; doubles up to the settings' `retry_max_s`
MAX_BYTES = 64 * 2**20  # of an answer
PART_BYTES = 2**16
T = TypeVar("T")


def served_name(weights_sha256: str) -> str:
    """Under which name a server offers these weights: two sets of them can be served side by side."""
    return f"sleepstream-{weights_sha256[:12]}"


class ModelServer:
    """One server, which may be away at any time. Blocks for up to `timeout_s`: call it from a worker thread.

    After a failure it is not asked again for a while, so that a server that does not answer costs the streams
    of an engine one time-out and not one for each of their windows.

    Args:
        settings: where it is.
        weights_sha256: of the weights that it must have.
        monotonic: time in seconds, for the rests between attempts.

    Attributes:
        resting_until: on that clock; before, it is not asked again.

    """

    def __init__(
        self,
        settings: RemoteSettings,
        weights_sha256: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._weights = weights_sha256
        self._monotonic = monotonic
        self._url = f"{settings.url.rstrip('/')}/v2/models/{served_name(weights_sha256)}"
        token = os.environ.get(TOKEN_VARIABLE)
        if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
            raise SettingsError(
                f"{TOKEN_VARIABLE} cannot be sent: give printable ASCII characters without spaces"
            )
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        ca_file = None if settings.ca_file is None else str(settings.ca_file)
        self._pool = urllib3.PoolManager(num_pools=1, maxsize=1, retries=False, ca_certs=ca_file)
        self._memory: tuple[int, ...] | None = None
        self._failures = 0  # in a row
        self.resting_until = float("-inf")
        self._trouble = ""

    def close(self) -> None:
        """Let go of the connection."""
        self._pool.clear()

    def memory_shape(self) -> tuple[int, ...]:
        """One stream's memory, as the server's model takes it.

        Raises:
            ModelServerError: it is away, or has no such model.

        """
        if self._memory is None:
            self._memory = self._attempt(self._look)
        return self._memory

    def infer(self, given: Tensors, wanted: Sequence[str]) -> Tensors:
        """Take one step of one stream on the server; see `stateless`.

        Raises:
            ModelServerError: it is away, did not answer in time, has other weights, or answers nonsense.

        """
        return self._attempt(lambda: self._infer(given, wanted))

    def _attempt(self, work: Callable[[], T]) -> T:
        if self._monotonic() < self.resting_until:
            raise ModelServerError(self._trouble)
        try:
            result = work()
        except ModelServerError as error:
            self._failures += 1
            longest_s = min(self._settings.retry_max_s, RETRY_MIN_S * 2.0 ** min(self._failures - 1, 16))
            # jitter, so that a house full of clients does not return at the same moment
            self.resting_until = self._monotonic() + random.uniform(longest_s / 2, longest_s)
            self._trouble = f"model server {self._settings.url}: {error}"
            raise ModelServerError(self._trouble) from error
        self._failures = 0
        return result

    def _look(self) -> tuple[int, ...]:
        body, _ = self._ask("GET", self._url, None)
        try:
            listed = {one["name"]: one["shape"] for one in json.loads(body)["inputs"]}
            memory = tuple(int(size) for size in listed[stateless.MEMORY_IN][1:])
        except (ValueError, TypeError, KeyError) as error:
            raise ModelServerError(f"does not describe its model as expected ({error!r})") from None
        return memory

    def _infer(self, given: Tensors, wanted: Sequence[str]) -> Tensors:
        assert self._memory is not None
        asked = (*wanted, stateless.WEIGHTS)
        body, json_bytes = self._ask("POST", f"{self._url}/infer", pack_request(given, asked))
        kinds = {name: kind for name, kind in stateless.outputs(self._memory).items() if name in asked}
        answer = stateless.checked(unpack_response(body, json_bytes), kinds)
        found = answer[stateless.WEIGHTS].tobytes().hex()
        if found != self._weights:
            raise ModelServerError(
                f"has other weights (sha256 {found[:12]}...) than ours ({self._weights[:12]}...); give both "
                "the same artifact"
            )
        return answer

    def _ask(self, method: str, url: str, packed: Packed | None) -> tuple[bytes, int | None]:
        """Body of the answer, and how much of it is JSON (None: all)."""
        try:
            try:
                return self._exchange(method, url, packed)
            except (
                exceptions.ProtocolError
            ):  # it had closed the connection since the last time; nothing is done twice
                return self._exchange(method, url, packed)
        except exceptions.HTTPError as error:
            raise ModelServerError(_plain(error, self._settings.timeout_s)) from error

    def _exchange(self, method: str, url: str, packed: Packed | None) -> tuple[bytes, int | None]:
        until = time.monotonic() + self._settings.timeout_s
        response = self._pool.request(
            method,
            url,
            body=None if packed is None else packed.body,
            headers=self._headers | ({} if packed is None else packed.headers),
            timeout=urllib3.Timeout(total=self._settings.timeout_s),
            redirect=False,
            preload_content=False,
        )
        body = bytearray()
        while part := response.read1(PART_BYTES):
            body += part
            if len(body) > MAX_BYTES or time.monotonic() > until:
                response.close()
                raise ModelServerError(f"has not finished its answer of {len(body)} bytes in time")
        response.release_conn()
        if response.status != 200:
            raise ModelServerError(f"refuses, HTTP {response.status}: {_one_line(bytes(body))}")
        length = response.headers.get(LENGTH_HEADER)
        if length is not None and not length.isdecimal():
            raise ModelServerError(f"its {LENGTH_HEADER} is {length!r}")
        return bytes(body), None if length is None else int(length)


def _plain(error: exceptions.HTTPError, timeout_s: float) -> str:
    if isinstance(error, exceptions.NewConnectionError):  # which to urllib3 is a kind of time-out
        return "is not there (nothing listens, or the name is unknown)"
    if isinstance(error, exceptions.TimeoutError):
        return f"does not answer within {timeout_s:g} s"
    return " ".join(str(error).split()) or type(error).__name__


def _one_line(body: bytes) -> str:
    return " ".join(body.decode("utf-8", "replace").split())[:200]
