"""Who may see the page: on loopback every local user, beyond it clients with the token."""

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
TOKEN = re.compile(r"[A-Za-z0-9._~/=:@!$-]*")  # goes through an address line and a cookie as it is
TOKEN_VARIABLE = "SLEEPSTREAM_WEB_TOKEN"


class Access:
    """Decides by a request's headers.

    On loopback a web site elsewhere must not get in through the user's browser: neither by a name that it
    lets point here (the Host is checked), nor by a script of its own (the Origin is checked).

    Raises:
        SettingsError: the page would be open to the network without a token, or its token is too short or
            could never arrive.

    """

    def __init__(self, settings: WebSettings, token: str | None) -> None:
        if token is None and not settings.loopback:
            raise SettingsError(
                f"web.host {settings.host!r} shows the page to the network, which needs a token: set "
                f"{TOKEN_VARIABLE}, or leave out host"
            )
        if token is not None and not TOKEN.fullmatch(token):
            raise SettingsError(
                f"{TOKEN_VARIABLE} has a character that an address or a cookie cannot carry; give letters, "
                "digits and - . _ ~ only, such as `openssl rand -hex 16` prints"
            )
        if token is not None and len(token) < LEAST_TOKEN:
            raise SettingsError(
                f"{TOKEN_VARIABLE} has {len(token)} characters; give at least {LEAST_TOKEN}, at random"
            )
        self._token = token

    def refusal(self, host: str, origin: str | None, cookies: str) -> str | None:
        """Why a request is not answered, or None.

        Args:
            host: what the client called us.
            origin: of the script that asks, if a browser says it.
            cookies: as they came.

        """
        if self._token is None and _name(host) not in LOOPBACK:
            return f"this page is served to this machine only, not as {host!r}"
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return "another site's script may not read this page"
        if self._token is not None and not self._same(_cookie(cookies)):
            return "a token is needed: open the address with ?token=..."
        return None

    def cookie_for(self, target: str) -> str | None:
        """The Set-Cookie header for a request with the right token, or None."""
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
