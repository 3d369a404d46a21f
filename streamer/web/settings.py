"""The [web] table. The token is not in it: it comes from the environment, as SLEEPSTREAM_WEB_TOKEN."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from streamer.sinks.settings import LOOPBACK
from streamer.tables import Table

PORT = 8421
MOST_TRACES = 8  # that fit on a screen below the staged channel


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"trace {twice[0]!r} is named twice; name each one only once")
    return names


TraceName = Annotated[str, Field(min_length=1, max_length=80)]  # like stream.signal.channel: "EOG L", "E1-M2"
TraceNames = Annotated[tuple[TraceName, ...], Field(max_length=MOST_TRACES), AfterValidator(_each_once)]


class WebSettings(Table):
    """[web]: the live page, on loopback by default; on another address it needs a token."""

    host: str = Field("127.0.0.1", min_length=1, max_length=253)
    port: int = Field(PORT, ge=0, le=65535)  # 0: any free port
    traces: TraceNames = ()  # further channels to show, for each stream without a list of its own

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the page."""
        return self.host in LOOPBACK

    @property
    def url(self) -> str:
        """The page's address, if `port` is not 0."""
        return url_of(self.host, self.port)


def url_of(host: str, port: int) -> str:
    """The page's address."""
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
