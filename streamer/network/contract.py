"""A model artifact's contract, and whether this engine can serve it.

The contract travels inside the artifact as `contract.json`, beside the weights it describes.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from streamer.conditioner import BAND_HZ, ORDER
from streamer.errors import ArtifactError
from streamer.messages import EPOCH_S, RATE_HZ, STAGES, Stage
from streamer.window import BINS, FFT_POINTS, FLOOR_UV, FRAME_S

FILE_NAME = "contract.json"
SCHEMA: Literal["sleepstream/model/2"] = "sleepstream/model/2"


class Signal(BaseModel):
    """The signal the network was trained on: the engine must serve exactly this."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    unit: Literal["uV"] = "uV"
    rate_hz: int = RATE_HZ
    band_hz: tuple[float, float] = BAND_HZ
    filter_order: int = ORDER  # causal Butterworth, of each edge
    window_s: int = EPOCH_S
    epoch_s: int = EPOCH_S
    frame_s: int = FRAME_S  # of the spectrogram, Hamming
    frame_hop_s: int = 1
    fft_points: int = FFT_POINTS
    bins: int = BINS  # without DC
    floor_uv: float = FLOOR_UV  # dB = 20 log10(|X| + floor)
    stages: tuple[Stage, ...] = STAGES


class Shape(BaseModel):
    """The shape of the state of one stream between epochs; at first it is zeros."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory: tuple[int, int, int, int, int, int, int]  # layers, views, attentions, key/value, H, P, D / H
    features: int = Field(gt=0)  # F: numbers per frame of the spectrum that is standardised over the past


class Contract(BaseModel):
    """One artifact, described."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    schema_: Literal["sleepstream/model/2"] = Field(default=SCHEMA, alias="schema")
    signal: Signal = Signal()
    size: str = Field(min_length=1)
    parameters: int = Field(gt=0)
    context_epochs: int = Field(gt=0)  # how far back each attention reaches, the present epoch included
    warmup_epochs: int = Field(ge=0)  # epochs until the probabilities have full confidence
    state: Shape
    temperature: float = Field(gt=0)  # applied in the network already
    trained_on: str = Field(min_length=1)
    created: AwareDatetime
    versions: dict[str, str]  # of what made it: sleepstream, torch
    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    graphs_sha256: dict[str, str] = {}  # of the ONNX graphs in the artifact, by name; see artifact.py


def read_contract(text: str | bytes, source: str) -> Contract:
    """Parse `contract.json`; `source` names the artifact in messages.

    Raises:
        ArtifactError: this engine cannot serve it; names the first field that does not fit.

    """
    try:
        contract = Contract.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or FILE_NAME
        raise ArtifactError(
            f"model {source}: its contract does not fit this engine at {where!r} ({first['msg']}); "
            f"export it again with this version of sleepstream"
        ) from None
    served = Signal()
    for name in Signal.model_fields:
        asked, found = getattr(contract.signal, name), getattr(served, name)
        if asked != found:
            raise ArtifactError(
                f"model {source}: was trained for {name} {asked}, this engine serves {found}; "
                f"use the version of sleepstream it was made for"
            )
    return contract


def weights_sha256(state: Mapping[str, Any]) -> str:
    """Return the digest of all tensors of a state dict: names, types, shapes and bytes, sorted by name."""
    import torch  # only for TorchScript; ONNX Runtime does not need it

    digest = sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
