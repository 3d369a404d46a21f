"""Decides who may see the page: on loopback every local user, over the network clients with the token."""

from __future__ import annotations

import hmac
import re
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from streamer.errors import SettingsError
from streamer.sinks.settings import LOOPBACK
from streamer.web.settings import WebSettings

COOKIE = "sleepstream"
LEAST_TOKEN = 16  # characters
TOKEN = re.compile(r"[A-Za-z0-9._~/=:@!$-]*")  # characters that an address and a cookie can carry
TOKEN_VARIABLE = "SLEEPSTREAM_WEB_TOKEN"


class Access:
    """Decides by a request's headers whether to answer it.

    On loopback, another web site must not get in through the user's browser: neither by a host name of its
    own that points here (so the Host is checked), nor by a script (so the Origin is checked).

    Args:
        settings: where the page listens.
        token: that a client must bring; None: no token, which only loopback allows.

    Raises:
        SettingsError: the page would be open to the network without a token, or the token is too short or has
            characters that do not fit into an address.

    """

    def __init__(self, settings: WebSettings, token: str | None) -> None:
        if token is None and not settings.loopback:
            raise SettingsError(
                f"web.host {settings.host!r} opens the page to the network, which needs a token: set "
                f"{TOKEN_VARIABLE}, or leave out web.host"
            )
        if token is not None and not TOKEN.fullmatch(token):
            raise SettingsError(
                f"{TOKEN_VARIABLE} has a character that does not fit into a web address; use letters, "
                "digits and - . _ ~ only, as `openssl rand -hex 16` prints"
            )
        if token is not None and len(token) < LEAST_TOKEN:
            raise SettingsError(
                f"{TOKEN_VARIABLE} has {len(token)} characters; use at least {LEAST_TOKEN} random ones"
            )
        self._token = token

    def refusal(self, host: str, origin: str | None, cookies: str) -> str | None:
        """Return why a request is refused, or None if it may be answered.

        Args:
            host: the request's Host header.
            origin: the request's Origin header, if any.
            cookies: the request's Cookie header.

        """
        if self._token is None and _name(host) not in LOOPBACK:
            return f"this page is served to this machine only, not as {host!r}"
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return "another site's script may not read this page"
        if self._token is not None and not self._same(_cookie(cookies)):
            return "a token is needed: add ?token=... to the address"
        return None

    def cookie_for(self, target: str) -> str | None:
        """Return the Set-Cookie header for a request with the right token, else None."""
        brought = parse_qs(urlsplit(target).query).get("token", [""])[0]
        if self._token is None or not self._same(brought):
            return None
        return f"{COOKIE}={self._token}; HttpOnly; SameSite=Strict; Path=/; Max-Age=31536000"

    def _same(self, brought: str) -> bool:
        return self._token is not None and hmac.compare_digest(brought.encode(), self._token.encode())


def _name(host: str) -> str:
    return urlsplit(f"//{host}").hostname or ""


def _cookie(cookies: str) -> str:
    try:
        found = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value
