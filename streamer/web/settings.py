"""What the `[web]` table may say. The token comes from the environment: SLEEPSTREAM_WEB_TOKEN."""

from __future__ import annotations

from pydantic import Field

from streamer.sinks.settings import LOOPBACK
from streamer.tables import Table

PORT = 8421


class WebSettings(Table):
    """The live page; on loopback unless told otherwise, and beyond it only with a token."""

    host: str = Field("127.0.0.1", min_length=1, max_length=253)
    port: int = Field(PORT, ge=0, le=65535)  # 0: any free one

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOOPBACK

    @property
    def url(self) -> str:
        """Where the page is, if `port` is not 0."""
        return url_of(self.host, self.port)


def url_of(host: str, port: int) -> str:
    """The page's address."""
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
