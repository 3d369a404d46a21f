"""The model server's side: one pass for many requests, and plain words for what cannot be answered."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
import tritonclient.http as triton

from streamer.network.stager import Model
from streamer.remote import stateless
from streamer.remote.kserve import LENGTH_HEADER, pack_request, unpack_response
from tests.model_server import ModelServerThread
from tests.paths import default_model
from tools.model_service import Service, together


def inputs(model: Model, streams: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    memory = stateless.memory_shape(model)
    raw = rng.normal(0, 20, (streams, 3000)).astype(np.float32)
    raw[:, 5:9] = np.nan
    return {
        stateless.RAW: raw,
        stateless.SPECTRUM: rng.normal(35, 10, (streams, 29, 128)).astype(np.float32),
        stateless.PRESENT: np.arange(2 * streams).reshape(streams, 2) % 5 != 3,
        stateless.MEMORY_IN: rng.standard_normal((streams, *memory)).astype(np.float32),
        stateless.SEEN_IN: rng.integers(0, 40, (streams, 1)),
    }


def test_requests_that_share_a_pass_get_what_each_would_get_alone() -> None:
    model = default_model()
    requests = [inputs(model, streams, seed) for seed, streams in enumerate((1, 3, 1, 2))]
    for given, found in zip(requests, together(model, requests), strict=True):
        alone = stateless.step(model, given)
        assert list(found) == list(alone)
        for name in alone:
            assert found[name].shape == alone[name].shape
            np.testing.assert_allclose(found[name], alone[name], rtol=0, atol=1e-5)


def test_a_step_is_as_the_specification_says() -> None:
    model = default_model()
    found = stateless.step(model, inputs(model, 2, 0))
    kinds = stateless.outputs(stateless.memory_shape(model))
    assert stateless.checked(found, kinds).keys() == found.keys()
    assert found[stateless.WEIGHTS][1].tobytes().hex() == model.contract.weights_sha256


def service(model: Model) -> Service:
    async def infer(given):
        return together(model, [given])[0]

    return Service(model, infer)


def ask(method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None):
    return asyncio.run(service(default_model()).answer(method, path, headers or {}, body))


NAME = f"sleepstream-{default_model().contract.weights_sha256[:12]}"


def test_it_describes_itself_as_the_protocol_wants() -> None:
    for path in ("/v2/health/live", "/v2/health/ready", f"/v2/models/{NAME}/ready"):
        assert ask("GET", path).status == 200
    assert "binary_tensor_data" in json.loads(ask("GET", "/v2").body)["extensions"]
    described = json.loads(ask("GET", f"/v2/models/{NAME}").body)
    assert described == json.loads(ask("GET", f"/v2/models/{NAME}/versions/1").body)
    assert described["name"] == NAME
    assert {one["name"]: one["datatype"] for one in described["inputs"]} == {
        "raw__0": "FP32",
        "spectrum__1": "FP32",
        "present__2": "BOOL",
        "memory__3": "FP32",
        "seen__4": "INT64",
    }
    assert described["inputs"][1]["shape"] == [-1, 29, 128]


def test_only_the_outputs_that_are_asked_for_are_sent() -> None:
    packed = pack_request(inputs(default_model(), 1, 0), [stateless.LOGITS])
    headers = {name.lower(): value for name, value in packed.headers.items()}
    reply = ask("POST", f"/v2/models/{NAME}/infer", packed.body, headers)
    assert reply.status == 200
    assert list(unpack_response(reply.body, int(reply.headers[LENGTH_HEADER]))) == [stateless.LOGITS]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda given: given.pop(stateless.SEEN_IN), "no tensor 'seen__4'"),
        (lambda given: given.update({stateless.RAW: np.zeros((1, 2999), np.float32)}), "raw__0 is float32"),
        (lambda given: given.update({stateless.RAW: np.zeros((2, 3000), np.float32)}), "different numbers"),
        (lambda given: given.update({stateless.SEEN_IN: np.zeros((1, 1), np.uint8)}), "seen__4 is uint8"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_in_one_line(change, said: str) -> None:
    given = inputs(default_model(), 1, 0)
    change(given)
    packed = pack_request(given, [stateless.LOGITS])
    headers = {name.lower(): value for name, value in packed.headers.items()}
    reply = ask("POST", f"/v2/models/{NAME}/infer", packed.body, headers)
    assert reply.status == 400
    assert said in json.loads(reply.body)["error"]


def test_rubbish_and_wrong_addresses_are_refused() -> None:
    for headers in ({}, {LENGTH_HEADER.lower(): "-3"}, {LENGTH_HEADER.lower(): "9999"}):
        assert ask("POST", f"/v2/models/{NAME}/infer", b"\x00rubbish", headers).status == 400
    assert ask("GET", f"/v2/models/{NAME}/infer").status == 405
    assert NAME in json.loads(ask("GET", "/v2/models/other").body)["error"]
    packed = pack_request(inputs(default_model(), 1, 0), ["nonsense"])
    headers = {name.lower(): value for name, value in packed.headers.items()}
    assert ask("POST", f"/v2/models/{NAME}/infer", packed.body, headers).status == 400


def test_nvidias_own_client_understands_the_server() -> None:
    model = default_model()
    given = inputs(model, 2, 0)
    with ModelServerThread(model) as server, triton.InferenceServerClient(server.url[7:]) as client:
        assert client.is_server_live()
        assert client.is_model_ready(NAME)
        asked = []
        for one in client.get_model_metadata(NAME)["inputs"]:
            asked.append(triton.InferInput(one["name"], given[one["name"]].shape, one["datatype"]))
            asked[-1].set_data_from_numpy(given[one["name"]])
        wanted = [
            triton.InferRequestedOutput(stateless.LOGITS),
            triton.InferRequestedOutput(stateless.MEMORY),
        ]
        answer = client.infer(NAME, asked, outputs=wanted)
        for name in (stateless.LOGITS, stateless.MEMORY):
            np.testing.assert_allclose(answer.as_numpy(name), stateless.step(model, given)[name], atol=1e-6)
        with pytest.raises(triton.InferenceServerException, match="no tensor"):
            client.infer(NAME, asked[1:])
