"""A model server on loopback: the service of `tools.serve` behind the standard library's HTTP server."""

from __future__ import annotations

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from streamer.network.stager import Model
from streamer.remote.kserve import Tensors
from tools.model_service import Reply, Service, together


class ModelServerThread:
    """`with ModelServerThread(model) as server:` serves `server.url`; `server.fault` makes it misbehave.

    Attributes:
        fault: "" answers; "hang" never does while it is set; "garbage"; "close" hangs up.
        asked: how many requests came.

    """

    def __init__(self, model: Model, token: str | None = None) -> None:
        self.fault = ""
        self.asked = 0
        self._model = model
        self._service = Service(model, self._infer, token)
        self._go_on = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    async def _infer(self, given: Tensors) -> Tensors:
        return together(self._model, [given])[0]

    def reply(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply | None:
        """What to answer now; None: hang up."""
        self.asked += 1
        if self.fault == "hang":
            self._go_on.wait()
        if self.fault == "garbage":
            return Reply(200, {"Inference-Header-Content-Length": "7"}, b"\\xff\\x00rubbish")
        if self.fault in ("hang", "close"):
            return None
        return asyncio.run(self._service.answer(method, path, headers, body))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # connections stay open
            timeout = 5

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                reply = outer.reply(self.command, self.path, headers, body)
                if reply is None:
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                for name, value in (reply.headers | {"Content-Length": str(len(reply.body))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body)

            do_GET = do_POST = _answer

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        return Handler
