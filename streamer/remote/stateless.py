"""One step of the network with the state handed in and out: what a model server does, for any stream.

The server keeps nothing between two requests, so any replica serves any of them and no night hangs on one.
The names of the tensors end in their position, as Triton's PyTorch backend wants them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streamer.errors import ModelServerError
from streamer.messages import EPOCH_SAMPLES
from streamer.remote.kserve import DATATYPES, Tensors
from streamer.spectrogram import BINS
from streamer.window import COLUMNS

if TYPE_CHECKING:
    from streamer.network.stager import Model

RAW, SPECTRUM, PRESENT, MEMORY_IN, SEEN_IN = "raw__0", "spectrum__1", "present__2", "memory__3", "seen__4"
LOGITS, MEMORY, SEEN, WEIGHTS = "logits__0", "memory__1", "seen__2", "weights__3"
STAGE_COUNT, DIGEST_BYTES = 5, 32


class Kind(NamedTuple):
    """What a tensor must be, of one stream: the first axis, of the batch, is left out."""

    datatype: str  # as the protocol names it
    shape: tuple[int, ...]


def inputs(memory: tuple[int, ...]) -> dict[str, Kind]:
    """What a step takes, in order; `memory` is the shape of one stream's."""
    return {
        RAW: Kind("FP32", (EPOCH_SAMPLES,)),  # µV, NaN where lost
        SPECTRUM: Kind("FP32", (COLUMNS, BINS)),  # dB, NaN where lost
        PRESENT: Kind("BOOL", (2,)),  # whether each view is there; False: the epoch is lost
        MEMORY_IN: Kind("FP32", memory),
        SEEN_IN: Kind("INT64", (1,)),
    }


def outputs(memory: tuple[int, ...]) -> dict[str, Kind]:
    """What a step gives, in order."""
    return {
        LOGITS: Kind("FP32", (STAGE_COUNT,)),
        MEMORY: Kind("FP32", memory),
        SEEN: Kind("INT64", (1,)),
        WEIGHTS: Kind("UINT8", (DIGEST_BYTES,)),  # sha256 of the weights that gave this answer
    }


def memory_shape(model: Model) -> tuple[int, ...]:
    """One stream's memory, as its step takes and gives it."""
    return tuple(model.network.initial_state(1).memory.shape[1:])


def checked(tensors: Tensors, kinds: dict[str, Kind]) -> Tensors:
    """These tensors in the order of `kinds`, if they are what `kinds` says, of one number of streams.

    Raises:
        ModelServerError: one is missing, or of another kind.

    """
    for name, kind in kinds.items():
        if name not in tensors:
            raise ModelServerError(f"there is no tensor {name!r}; there are: {', '.join(tensors) or 'none'}")
        tensor = tensors[name]
        if tensor.dtype != DATATYPES[kind.datatype] or tensor.shape[1:] != kind.shape or tensor.ndim < 1:
            raise ModelServerError(
                f"{name} is {tensor.dtype} of shape {tensor.shape}, not {kind.datatype} of (streams, "
                f"{', '.join(map(str, kind.shape))})"
            )
    if len({len(tensors[name]) for name in kinds}) > 1:
        raise ModelServerError("the tensors are of different numbers of streams")
    return {name: tensors[name] for name in kinds}


def step(model: Model, given: Tensors) -> Tensors:
    """Encode the epochs of B streams and take each one's next step.

    Args:
        model: with its weights.
        given: as `inputs` says, with B first.

    Returns:
        as `outputs` says, with B first.

    Raises:
        ModelServerError: the inputs are something else.

    """
    import torch  # not for those who only want the names

    given = checked(given, inputs(memory_shape(model)))
    with torch.inference_mode():
        raw, spectrum, present, memory, seen = (
            torch.from_numpy(np.array(tensor)).to(model.device) for tensor in given.values()
        )
        network = model.network
        logits, state = network.step(network.encode(raw, spectrum), present, (memory, seen[:, 0]))
    digest = np.frombuffer(bytes.fromhex(model.contract.weights_sha256), np.uint8)
    return {
        LOGITS: logits.cpu().numpy(),
        MEMORY: state.memory.cpu().numpy(),
        SEEN: state.seen[:, None].cpu().numpy(),
        WEIGHTS: np.tile(digest, (len(raw), 1)),
    }
