"""Tensors as HTTP bodies, in the Open Inference Protocol (KServe v2) with its binary extension.

A body is a JSON object that names the tensors, then their bytes: little-endian, row by row. Triton, KServe
and OpenVINO model servers speak it. Nothing in here knows what the tensors mean, or opens a connection.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.errors import ModelServerError

Tensors = dict[str, NDArray[Any]]

LENGTH_HEADER = "Inference-Header-Content-Length"  # of the JSON at the beginning of the body
CONTENT_TYPE = "application/octet-stream"
DATATYPES = {"FP32": "<f4", "INT64": "<i8", "UINT8": "u1", "BOOL": "?"}
_NAMES = {np.dtype(code): name for name, code in DATATYPES.items()}


class Packed(NamedTuple):
    """A body ready to be sent, and the length of the JSON in it."""

    body: bytes
    json_bytes: int

    @property
    def headers(self) -> dict[str, str]:
        """What has to go along with it."""
        return {"Content-Type": CONTENT_TYPE, LENGTH_HEADER: str(self.json_bytes)}


def pack_request(inputs: Mapping[str, NDArray[Any]], wanted: Sequence[str]) -> Packed:
    """Ask for the outputs `wanted`, as bytes, of these inputs."""
    asked = [{"name": name, "parameters": {"binary_data": True}} for name in wanted]
    return _pack("inputs", inputs, {"outputs": asked})


def pack_response(outputs: Mapping[str, NDArray[Any]], model: str) -> Packed:
    """Answer with these outputs."""
    return _pack("outputs", outputs, {"model_name": model})


def unpack_request(body: bytes, json_bytes: int | None) -> tuple[Tensors, list[str]]:
    """Return the inputs, and the names of the outputs that are asked for (all of them: none).

    Raises:
        ModelServerError: the body is no such request.

    """
    header, tensors = _unpack("inputs", body, json_bytes)
    asked = header.get("outputs", [])
    if not isinstance(asked, list) or not all(isinstance(one, dict) for one in asked):
        raise ModelServerError("its 'outputs' are no list of objects")
    return tensors, [str(one.get("name")) for one in asked]


def unpack_response(body: bytes, json_bytes: int | None) -> Tensors:
    """Return the outputs.

    Raises:
        ModelServerError: the body is no such response.

    """
    return _unpack("outputs", body, json_bytes)[1]


def _pack(kind: str, tensors: Mapping[str, NDArray[Any]], header: dict[str, Any]) -> Packed:
    parts, described = [], []
    for name, tensor in tensors.items():
        datatype = _NAMES[tensor.dtype]
        parts.append(np.ascontiguousarray(tensor, DATATYPES[datatype]).tobytes())
        size = {"binary_data_size": len(parts[-1])}
        described.append(
            {"name": name, "shape": list(tensor.shape), "datatype": datatype, "parameters": size}
        )
    text = json.dumps({kind: described, **header}, separators=(",", ":")).encode()
    return Packed(b"".join((text, *parts)), len(text))


def _unpack(kind: str, body: bytes, json_bytes: int | None) -> tuple[dict[str, Any], Tensors]:
    at = len(body) if json_bytes is None else json_bytes
    try:
        header = json.loads(body[:at])
    except (ValueError, RecursionError) as error:
        raise ModelServerError(f"its head is not JSON ({error})") from None
    listed = header.get(kind) if isinstance(header, dict) else None
    if not isinstance(listed, list):
        raise ModelServerError(f"it has no list of {kind}")
    tensors: Tensors = {}
    for one in listed:
        name, tensor, at = _tensor(one, body, at)
        tensors[name] = tensor
    if at != len(body):
        raise ModelServerError(f"{len(body) - at} bytes belong to none of its tensors")
    return header, tensors


def _tensor(one: Any, body: bytes, at: int) -> tuple[str, NDArray[Any], int]:
    """Read the tensor that `one` describes; its bytes, if it has any, begin at `at`. And where they end."""
    try:
        name, shape = str(one["name"]), tuple(int(size) for size in one["shape"])
        dtype = np.dtype(DATATYPES[one["datatype"]])
        size = one.get("parameters", {}).get("binary_data_size")
        if size is None:  # a server is free to answer in JSON
            return name, np.array(one["data"], dtype).reshape(shape), at
        count = math.prod(shape)
        if min(shape, default=0) < 0 or size != count * dtype.itemsize or at + size > len(body):
            raise ValueError(f"{size} bytes for {shape} of {dtype}, {len(body) - at} are left")
        return name, np.frombuffer(body, dtype, count, at).reshape(shape), at + size
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModelServerError(f"one of its tensors is not what it says ({error})") from None
