"""A Home Assistant core as a process: its settings written, nobody asked anything, its REST interface."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

from streamer.errors import RunError

START_S = 300.0
KEY, TOKEN_ID, USER_ID = secrets.token_hex(32), secrets.token_hex(16), secrets.token_hex(16)
EVERYTHING = ["user", "core_config", "analytics", "integration"]  # steps of the onboarding, all done
CONFIGURATION = """\
homeassistant:
  name: check
  latitude: 0
  longitude: 0
  elevation: 0
  unit_system: metric
  time_zone: UTC
  country: DE
  currency: EUR
http:
  server_host: 127.0.0.1
  server_port: {port}
api:
logger:
  default: warning
input_boolean:
  bedroom:
    name: bedroom
"""


def settings(port: int, automation: str) -> dict[str, str]:
    """The files of a core that has been set up, by their names in its folder.

    No `default_config`: that would bring what looks for devices and calls its maker.

    Args:
        port: of its web server, on loopback.
        automation: the YAML of `automation:`, as the documentation has it for `light.bedroom`.

    """
    ours = automation.replace("light.turn_on", "input_boolean.turn_on")
    ours = ours.replace("light.bedroom", "input_boolean.bedroom")
    quiet = {"base": False, "diagnostics": False, "statistics": False, "usage": False}
    return {
        "configuration.yaml": CONFIGURATION.format(port=port) + ours,
        ".storage/onboarding": _stored("onboarding", 4, {"done": EVERYTHING}),
        ".storage/auth": _stored("auth", 1, _auth()),
        ".storage/core.analytics": _stored(
            "core.analytics", 1, {"onboarded": True, "preferences": quiet, "uuid": None}
        ),
    }


def _stored(key: str, version: int, data: dict[str, Any]) -> str:
    return json.dumps({"version": version, "minor_version": 1, "key": key, "data": data})


def _auth() -> dict[str, Any]:
    """One owner, and one long-lived token."""
    user = {
        "id": USER_ID,
        "group_ids": ["system-admin"],
        "is_owner": True,
        "is_active": True,
        "name": "check",
        "system_generated": False,
        "local_only": True,
    }
    token = {
        "id": TOKEN_ID,
        "user_id": USER_ID,
        "client_id": None,
        "client_name": "check",
        "client_icon": None,
        "token_type": "long_lived_access_token",
        "created_at": "2026-01-01T00:00:00+00:00",
        "access_token_expiration": 315360000.0,
        "token": secrets.token_hex(64),
        "jwt_key": KEY,
        "last_used_at": None,
        "last_used_ip": None,
        "expire_at": None,
        "credential_id": None,
        "version": None,
    }
    return {"users": [user], "groups": [], "credentials": [], "refresh_tokens": [token]}


def token(now: float) -> str:
    """What the REST interface takes for the owner's word: a JSON web token."""
    parts = [{"alg": "HS256", "typ": "JWT"}, {"iss": TOKEN_ID, "iat": int(now), "exp": int(now) + 86400}]
    signed = ".".join(_base64(json.dumps(part).encode()) for part in parts)
    mark = hmac.new(KEY.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{_base64(mark)}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Core:
    """`with Core(...) as core:` runs one; `stop` and `start` start it anew.

    Args:
        hass: the program.
        folder: for its settings and its log.
        port: of its web server.
        automation: see `settings`.

    """

    def __init__(self, hass: Path, folder: Path, port: int, automation: str) -> None:
        self._hass = hass
        self._folder = folder
        self._url = f"http://127.0.0.1:{port}/api/"
        self._process: subprocess.Popen[bytes] | None = None
        for name, text in settings(port, automation).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return once it runs.

        Raises:
            RunError: it does not.

        """
        command = [str(self._hass), "--skip-pip", "--config", str(self._folder)]
        with (self._folder / "output.txt").open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        end = time.monotonic() + START_S
        while time.monotonic() < end and self._process.poll() is None:
            if self._state() == "RUNNING":
                return
            time.sleep(0.5)
        raise RunError(
            f"Home Assistant did not start; see output.txt and home-assistant.log in {self._folder}"
        )

    def stop(self) -> None:
        """As a person's restart does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(120)
            self._process = None

    def _state(self) -> str:
        try:
            return str(self.ask("config")["state"])
        except (RunError, OSError):
            return ""

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """GET, or POST a body; the answer.

        Raises:
            RunError: it was refused.
            OSError: nobody listens.

        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data)
        request.add_header("Authorization", f"Bearer {token(time.time() - 60)}")
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise RunError(f"Home Assistant refused {path}: {error.code} {error.read()[:300]!r}") from None

    def do(self, domain: str, service: str, entity: str, **more: object) -> None:
        """Call a service on an entity, as a button on a dashboard does."""
        self.ask(f"services/{domain}/{service}", {"entity_id": entity, **more})

    def integrate_mqtt(self, port: int) -> None:
        """Set up the MQTT integration, as the page for it does."""
        begun = self.ask("config/config_entries/flow", {"handler": "mqtt"})
        asked = {"broker": "127.0.0.1", "port": port}
        done = self.ask(f"config/config_entries/flow/{begun['flow_id']}", asked)
        if done.get("type") != "create_entry":
            raise RunError(f"the MQTT integration was not set up: {json.dumps(done)[:300]}")

    def states(self) -> list[dict[str, Any]]:
        """Of every entity."""
        found: list[dict[str, Any]] = self.ask("states")
        return found

    def complaints(self) -> list[str]:
        """What its log says of us or of MQTT, a line each."""
        log = self._folder / "home-assistant.log"
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
        return [line for line in lines if "sleepstream" in line or "components.mqtt" in line]
