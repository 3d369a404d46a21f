"""The protocol's bodies: what is packed comes back to the bit, and no rubbish is taken for tensors."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from streamer.errors import ModelServerError
from streamer.remote.kserve import (
    DATATYPES,
    LENGTH_HEADER,
    pack_request,
    pack_response,
    unpack_request,
    unpack_response,
)

TENSORS = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.sampled_from(sorted(DATATYPES.values())).flatmap(
        lambda code: arrays(np.dtype(code), array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    ),
    max_size=4,
)


@given(TENSORS, st.lists(st.text(max_size=8)))
def test_what_is_packed_comes_back_to_the_bit(tensors, wanted):
    packed = pack_request(tensors, wanted)
    assert int(packed.headers[LENGTH_HEADER]) == packed.json_bytes
    found, asked = unpack_request(packed.body, packed.json_bytes)
    assert asked == wanted
    answer = pack_response(tensors, "m")
    for back in (found, unpack_response(answer.body, answer.json_bytes)):
        assert list(back) == list(tensors)
        for name, tensor in tensors.items():
            assert back[name].dtype == tensor.dtype
            assert back[name].shape == tensor.shape
            assert back[name].tobytes() == tensor.tobytes()  # NaN and -0.0 too


def test_a_request_as_the_extension_documents_it():
    packed = pack_request({"input0": np.array([[1, 0]], np.uint8)}, ["output0"])
    assert json.loads(packed.body[: packed.json_bytes]) == {
        "inputs": [
            {
                "name": "input0",
                "shape": [1, 2],
                "datatype": "UINT8",
                "parameters": {"binary_data_size": 2},
            }
        ],
        "outputs": [{"name": "output0", "parameters": {"binary_data": True}}],
    }
    assert packed.body[packed.json_bytes :] == b"\x01\x00"


def test_an_answer_in_json_is_understood_too():
    body = {"model_name": "m", "outputs": [{"name": "a", "shape": [2], "datatype": "FP32", "data": [1, 2.5]}]}
    found = unpack_response(json.dumps(body).encode(), None)
    assert found["a"].tolist() == [1, 2.5]
    assert found["a"].dtype == np.float32


@given(st.binary(max_size=200), st.one_of(st.none(), st.integers(0, 300)))
def test_rubbish_is_refused(body, length):
    with pytest.raises(ModelServerError):
        unpack_response(body, length)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner)),
    max_leaves=8,
)
LOOKALIKE = st.fixed_dictionaries(
    {},
    optional={
        "name": JSON,
        "shape": st.one_of(JSON, st.lists(st.integers(-2, 10**12), max_size=3)),
        "datatype": st.one_of(JSON, st.sampled_from([*DATATYPES, "BYTES"])),
        "parameters": st.one_of(
            JSON, st.fixed_dictionaries({"binary_data_size": st.one_of(JSON, st.integers())})
        ),
        "data": JSON,
    },
)


@given(st.lists(st.one_of(LOOKALIKE, JSON), max_size=3), st.binary(max_size=16))
def test_what_only_looks_like_tensors_is_refused_or_is_some(listed, tail):
    head = json.dumps({"outputs": listed}).encode()
    with contextlib.suppress(ModelServerError):
        assert len(unpack_response(head + tail, len(head))) <= len(listed)
