"""The model server on a real Ray Serve: what many clients get is what each would get at home."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from streamer.network.staging import opened
from streamer.remote.settings import TOKEN_VARIABLE, RemoteSettings
from streamer.settings import ModelSettings
from tests.mosquitto import free_port
from tests.network.test_stager import windows
from tests.paths import default_model
from tests.remote.test_model import assert_same

CLIENTS = 6


def night(url: str, seed: int):
    """One client's epochs, through a connection of its own."""
    model = opened(ModelSettings(remote=RemoteSettings(url=url, timeout_s=30)))
    session = model.session()
    found = [session.score(window, window.epoch % 4 != 2) for window in windows(8, seed)]
    model.close()
    return found


@pytest.mark.slow
def test_clients_of_ray_serve_get_what_they_would_get_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "moonlight")
    port = free_port()
    command = [sys.executable, "-m", "tools.serve", "--port", str(port), "--wait-ms", "20"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stdout
            said = next((line for line in server.stdout if line.startswith("serving")), "")
            assert default_model().contract.weights_sha256 in said
            url = f"http://127.0.0.1:{port}"
            with ThreadPoolExecutor(CLIENTS) as clients:  # at once: they share passes
                nights = list(clients.map(night, [url] * CLIENTS, range(CLIENTS)))
            monkeypatch.setenv(TOKEN_VARIABLE, "sunlight")
            assert "HTTP 401" in night(url, 0)[0].trouble
        finally:
            server.send_signal(signal.SIGTERM)
    assert server.returncode == 0
    for seed, found in enumerate(nights):
        assert not any(one.trouble for one in found)
        session = default_model().session()
        assert_same(found, [session.score(one, one.epoch % 4 != 2) for one in windows(8, seed)])
