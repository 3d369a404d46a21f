"""Serves the page from the engine's event loop: a few files, and updates over one WebSocket per client."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from streamer.errors import SinkError
from streamer.web.access import Access
from streamer.web.page import Page
from streamer.web.settings import WebSettings, url_of
from streamer.web.view import View

MAX_CLIENTS = 16  # that watch the page
MAX_NEWCOMERS = 32  # connections without a request yet, or whose request is being answered
PATIENCE_S = 5.0  # a connection that sends no request for so long is closed
BACKLOG = 16  # connections that the loop accepts at once
PERIOD_S = 1.0  # shortest time between two updates to one client
BEAT_S = 10.0  # longest time between two updates, so that a client knows that the engine lives
MAX_BYTES = 4096  # in a client's message
STATIC = Path(__file__).parent / "static"
FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/charts.js": ("charts.js", "text/javascript; charset=utf-8"),
}
LIVE = "/live"
REPORTS = "/reports/"
# The page loads from and connects to its own address only; the icon is an empty data image.
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class WebServer:
    """`async with WebServer(settings, page, token) as server:` serves `server.url`.

    A client has one connection and at most one update under way, so a slow client costs no more than a fast
    one. More than MAX_CLIENTS are refused. A client that is silent for 40 s is disconnected. A connection
    without a request is closed after 5 s, or sooner when many new ones come. So connections cannot use up the
    process's file descriptors or keep others out.

    Args:
        settings: the address to listen on.
        page: the content.
        token: that every client must bring; None: no token, which only loopback allows.
        period_s: shortest time between two updates to a client.

    Raises:
        SettingsError: the page would be open to the network without a valid token.
        SinkError: the port is in use or not allowed.

    """

    def __init__(
        self, settings: WebSettings, page: Page, token: str | None = None, period_s: float = PERIOD_S
    ) -> None:
        self._settings = settings
        self._page = page
        self._access = Access(settings, token)
        self._period_s = period_s
        self._server: Server | None = None
        self.clients = 0  # number that watch now
        self._newcomers: dict[ServerConnection, None] = {}  # oldest first
        self.port = settings.port

    @property
    def url(self) -> str:
        """The page's address."""
        return url_of(self._settings.host, self.port)

    async def __aenter__(self) -> Self:
        try:
            self._server = await serve(
                self._live,
                self._settings.host,
                self._settings.port,
                process_request=self._answer,
                create_connection=_counting(self._newcomers),
                open_timeout=PATIENCE_S,
                backlog=BACKLOG,
                compression=None,
                max_size=MAX_BYTES,
                max_queue=4,
                close_timeout=1,
                server_header=None,
                logger=logging.getLogger("websockets"),
            )
        except OSError as error:
            raise SinkError(
                f"the live page cannot listen on port {self._settings.port} of {self._settings.host}: "
                f"{error.strerror}; set another web.port"
            ) from error
        self.port = next(iter(self._server.sockets)).getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer a plain request; return None to let a WebSocket through."""
        path = urlsplit(request.path).path
        cookie = self._access.cookie_for(request.path)
        if cookie is not None:  # redirect, so that the token leaves the address line and the history
            return _response(HTTPStatus.SEE_OTHER, b"", {"Location": path, "Set-Cookie": cookie})
        hosts = request.headers.get_all("Host")
        refusal = self._access.refusal(
            hosts[0] if len(hosts) == 1 else "",
            request.headers.get("Origin"),
            "; ".join(request.headers.get_all("Cookie")),
        )
        if refusal is not None:
            return _response(HTTPStatus.FORBIDDEN, refusal.encode(), {"Content-Type": "text/plain"})
        if path == LIVE:
            return self._admit()
        if path.startswith(REPORTS):
            return await self._report(unquote(path.removeprefix(REPORTS)))
        if path not in FILES:
            return _response(HTTPStatus.NOT_FOUND, b"no such page", {"Content-Type": "text/plain"})
        name, kind = FILES[path]
        return _response(HTTPStatus.OK, (STATIC / name).read_bytes(), {"Content-Type": kind})

    def _admit(self) -> Response | None:
        if self.clients < MAX_CLIENTS:
            return None
        text = f"{MAX_CLIENTS} clients are watching already; close one of them".encode()
        return _response(HTTPStatus.SERVICE_UNAVAILABLE, text, {"Content-Type": "text/plain"})

    async def _report(self, name: str) -> Response:
        """Answer with a report that the page links to; it is self-contained and has no script."""
        path = self._page.report(name)
        try:
            body = None if path is None else await asyncio.to_thread(path.read_bytes)
        except OSError:
            body = None
        if body is None:
            text = b"no such report"
            return _response(HTTPStatus.NOT_FOUND, text, {"Content-Type": "text/plain"})
        kind = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": REPORT_POLICY}
        return _response(HTTPStatus.OK, body, kind)

    async def _live(self, connection: ServerConnection) -> None:
        """Serve one client until it leaves."""
        self.clients += 1
        self._newcomers.pop(connection, None)
        view = self._page.view()
        sender = asyncio.create_task(self._send(connection, view), name="page client")
        try:
            async for message in connection:
                if isinstance(message, str):
                    self._page.command(message)
        except ConnectionClosed:
            pass  # the client has left
        finally:
            self._page.leave(view)
            self.clients -= 1
            sender.cancel()
            await asyncio.wait([sender])

    async def _send(self, connection: ServerConnection, view: View) -> None:
        """Send updates as fast as the client reads them, at most one every `_period_s`."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.send(view.update())
                await asyncio.sleep(self._period_s)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_S):
                        await view.changed.wait()


def _counting(newcomers: dict[ServerConnection, None]) -> type[ServerConnection]:
    """Make a connection class that registers in `newcomers`.

    When too many wait there, the oldest is closed.
    """

    class Counted(ServerConnection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            if len(newcomers) >= MAX_NEWCOMERS:
                oldest = next(iter(newcomers))
                del newcomers[oldest]
                oldest.transport.abort()
            newcomers[self] = None

        def connection_lost(self, exc: Exception | None) -> None:
            newcomers.pop(self, None)
            super().connection_lost(exc)

    return Counted


def _response(status: HTTPStatus, body: bytes, extra: Mapping[str, str]) -> Response:
    headers = Headers(
        {
            "Content-Length": str(len(body)),
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }
    )
    for name, value in extra.items():
        if name in headers:
            del headers[name]
        headers[name] = value
    return Response(int(status), status.phrase, headers, body)
