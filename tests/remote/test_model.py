"""The network on a server: the same stages as here, and a night that goes on whatever the server does."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.export import export
from model.mc2sleepnet import SIZES
from streamer.clock import SystemClock
from streamer.errors import ModelServerError
from streamer.journal import Journal
from streamer.live.engine import Engine
from streamer.network.stager import Model
from streamer.network.staging import opened
from streamer.pipeline import NO_NETWORK
from streamer.remote.client import ModelServer
from streamer.remote.model import OWED_EPOCHS, RemoteModel
from streamer.remote.settings import TOKEN_VARIABLE, RemoteSettings
from streamer.settings import ModelSettings, validate
from tests.fakes import Witness
from tests.model.tiny import TINY, network
from tests.model_server import ModelServerThread
from tests.mosquitto import free_port
from tests.network.test_stager import windows


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("model") / "tiny.pt"
    export(network(), TINY, "noise", path, onnx=False)
    return Model.load(path, trusted=True)


class HandTime:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def remote(model: Model, url: str, time: HandTime | None = None, **more: object) -> RemoteModel:
    settings = RemoteSettings(url=url, **({"timeout_s": 5} | more))
    server = ModelServer(settings, model.contract.weights_sha256, time or HandTime())
    return RemoteModel(model.contract, server, settings, model if settings.fallback else None)


def night(count: int):
    """Epochs, some of them lost, with a provisional window before each."""
    for window, between in zip(windows(count), windows(count, seed=1), strict=True):
        yield replace(between, epoch=None), window.epoch % 7 != 5
        yield window, window.epoch % 5 != 3


def staged(session, count: int = 24):
    return [session.score(window, usable) for window, usable in night(count)]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.warmup == other.warmup
        assert (one.probabilities is None) == (other.probabilities is None)
        if one.probabilities is not None:
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)


def test_a_server_stages_what_this_process_would(model: Model) -> None:
    with ModelServerThread(model) as server:
        ours = remote(model, server.url)
        found = staged(ours.session())
        assert_same(found, staged(model.session()))
        assert not any(one.trouble for one in found)
        ours.close()


def test_two_streams_do_not_mix_and_the_server_remembers_neither(model: Model) -> None:
    with ModelServerThread(model) as server:
        ours = remote(model, server.url)
        one, other = ours.session(), ours.session()
        for window, usable in night(6):
            one.score(window, usable)
        assert_same(staged(other, 6), staged(model.session(), 6))
        ours.close()


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["hang", "garbage", "close"])
def test_while_the_server_fails_windows_are_unscored_and_afterwards_nothing_is_missing(
    model: Model, fault: str
) -> None:
    time, expected = HandTime(), staged(model.session())
    with ModelServerThread(model) as server:
        ours = remote(model, server.url, time, timeout_s=0.2)
        session, found = ours.session(), []
        for number, (window, usable) in enumerate(night(24)):
            server.fault = fault if 12 <= number < 20 else ""
            if number == 20:
                time.now += 60  # its rest is over
            found.append(session.score(window, usable))
        assert server.asked < 2 * len(found)  # a server that fails is left alone
        undisturbed = ours.session()
        staged(undisturbed)
        assert np.array_equal(session.memory, undisturbed.memory)  # what a resumed session comes to
        ours.close()
    assert all(one.probabilities is None and server.url in one.trouble for one in found[12:20])
    assert "\n" not in found[13].trouble
    assert_same(found[:12] + found[20:], expected[:12] + expected[20:])
    assert not any(one.trouble for one in found[:12] + found[20:])


def test_after_an_outage_longer_than_what_is_kept_the_past_is_the_same_as_ever(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(size.sequence_layers * (size.context - 1) < OWED_EPOCHS for size in SIZES.values())
    kept = TINY.sequence_layers * (TINY.context - 1) + 1
    monkeypatch.setattr("streamer.remote.model.OWED_EPOCHS", kept)
    time, count = HandTime(), kept + 20
    with ModelServerThread(model) as server:
        ours = remote(model, server.url, time, timeout_s=30)
        session = ours.session()
        server.fault = "close"
        for window in windows(count)[:-1]:
            assert session.score(window, True).probabilities is None
        server.fault, time.now = "", 60.0
        found = session.score(windows(count)[-1], True)
        ours.close()
    local = model.session()
    expected = [local.score(window, True) for window in windows(count)][-1]
    assert_same([found], [expected])


def test_what_is_owed_never_holds_a_window_up_for_longer_than_a_time_out(model: Model) -> None:
    time = HandTime()
    with ModelServerThread(model) as server:
        ours = remote(model, server.url, time)
        session = ours.session()
        server.fault = "close"
        for window in windows(9):
            session.score(window, True)
        server.fault, time.now = "", 60.0
        ours.patience_s = -1.0  # every answer comes later than that
        found = [session.score(replace(window, epoch=None), True) for window in windows(10)]
        ours.close()
    assert "8 epochs to catch up" in found[0].trouble
    assert [one.probabilities is None for one in found] == [True] * 8 + [False] * 2


def test_a_server_that_is_not_there_is_asked_ever_more_rarely(model: Model) -> None:
    time, port = HandTime(), free_port()
    ours = remote(model, f"http://127.0.0.1:{port}", time, retry_max_s=8)
    rests = []
    for _ in range(6):
        with pytest.raises(ModelServerError, match="is not there"):
            ours.memory_shape()
        rests.append(ours.server.resting_until - time.now)
        time.now = ours.server.resting_until
    for rest, longest in zip(rests, (1, 2, 4, 8, 8, 8), strict=True):
        assert longest / 2 <= rest <= longest
    ours.close()


def test_other_weights_under_our_name_are_found_out(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    export(network(seed=1), TINY, "noise", path, onnx=False)
    other = Model.load(path, trusted=True)
    forged = Model(other.network, model.contract.model_copy(), other.device)
    with ModelServerThread(forged) as server:
        forged.contract = other.contract  # after it has taken its name from ours
        ours = remote(model, server.url)
        found = ours.session().score(windows(1)[0], True)
        ours.close()
    assert found.probabilities is None
    assert "has other weights" in found.trouble
    assert other.contract.weights_sha256[:12] in found.trouble


def test_a_server_of_another_model_says_which_it_has(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    export(network(seed=1), TINY, "noise", path, onnx=False)
    other = Model.load(path, trusted=True)
    with ModelServerThread(other) as server:
        ours = remote(model, server.url)
        trouble = ours.session().score(windows(1)[0], True).trouble
        ours.close()
    assert "HTTP 404" in trouble
    assert f"sleepstream-{other.contract.weights_sha256[:12]}" in trouble


def test_with_a_fallback_the_network_runs_here_meanwhile(model: Model) -> None:
    time = HandTime()
    with ModelServerThread(model) as server:
        ours = remote(model, server.url, time, fallback=True)
        session, found = ours.session(), []
        for number, (window, usable) in enumerate(night(24)):
            server.fault = "close" if number < 8 or 20 <= number < 30 else ""
            time.now += 100
            found.append(session.score(window, usable))
        ours.close()
    assert_same(found, staged(model.session()))
    away = [number for number, one in enumerate(found) if "the network runs here meanwhile" in one.trouble]
    assert set(away) == {*range(8), *range(20, 30)}


def test_a_token_is_asked_for_and_given(model: Model, monkeypatch) -> None:
    with ModelServerThread(model, token="moonlight") as server:
        for token, works in (("sunlight", False), ("moonlight", True), ("", False)):
            monkeypatch.setenv(TOKEN_VARIABLE, token)
            ours = remote(model, server.url)
            found = ours.session().score(windows(1)[0], True)
            assert (found.probabilities is not None) == works
            assert ("HTTP 401" in found.trouble) != works
            ours.close()


def engine(tmp_path: Path, **model) -> tuple[Engine, Witness]:
    source = {"kind": "simulated", "hours": 0.05, "speed": "max", "started": "2026-01-01T23:00:00Z"}
    data = {"session_dir": str(tmp_path), "model": model, "stream": [{"source": source}]}
    witness = Witness()
    return Engine(validate(data, "test"), SystemClock(), witness), witness


def test_an_engine_stages_a_night_on_a_server(tmp_path: Path) -> None:
    with ModelServerThread(Model.load()) as server:
        running, _ = engine(tmp_path / "remote", remote={"url": server.url})
        (outcome,) = asyncio.run(running.run())
        assert server.asked >= 6
    local, _ = engine(tmp_path / "local")
    (expected,) = asyncio.run(local.run())
    assert outcome.error is None
    assert outcome.labels == expected.labels
    assert set(outcome.labels) != {"unscored"}


def test_a_night_without_its_server_is_recorded_and_says_why_it_is_unscored(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    running, witness = engine(tmp_path, remote={"url": url})
    (outcome,) = asyncio.run(running.run())
    assert outcome.error is None
    assert outcome.labels == ("unscored",) * 6
    (said,) = [event.text for event in witness.events if event.event == "warning"]
    assert url in said
    with Journal.open(outcome.session) as session:
        epochs = list(session.epochs())
    assert all(epoch.quality.reasons == (NO_NETWORK,) for epoch in epochs)
    assert {epoch.quality.grade for epoch in epochs} == {"good"}


def test_a_client_of_a_server_needs_no_torch() -> None:
    code = (
        "import sys, streamer.live.engine, streamer.cli\n"
        "from streamer.settings import ModelSettings\n"
        "from streamer.network.staging import opened\n"
        "model = opened(ModelSettings(remote={'url': 'http://127.0.0.1:9'}))\n"
        "model.session()\n"
        "print('torch' in sys.modules, model.contract.size)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split()[0] == "False"


def test_settings_and_addresses() -> None:
    for url in ("gpu:8000", "ftp://gpu", "http://", "http://a b"):
        with pytest.raises(ValueError, match="url"):
            RemoteSettings(url=url)
    with pytest.raises(ValueError, match="ca_file needs an https url"):
        RemoteSettings(url="http://gpu", ca_file="ca.pem")
    kept = opened(ModelSettings(remote=RemoteSettings(url="http://127.0.0.1:9", fallback=True)))
    found = kept.session().score(windows(1)[0], True)
    assert found.probabilities is not None
    assert np.isfinite(found.probabilities).all()
    kept.close()
