"""The least that the network can cost: its multiply-adds at the speed of this machine's matrix products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model.size import FRAMES, Size
from streamer.messages import EPOCH_SAMPLES
from streamer.spectrogram import BINS
from tools.bench.figures import Figures, cpu_s

FASTEST = 0.2  # quantile of the times of a product: a floor is not what a neighbour slows down


def floor(network: Any, size: Size) -> Figures:
    """Millions of multiply-adds (M), their speed (G/s), and what that comes to for one epoch (µs).

    `size` says which products are typical.
    """
    encode, step = multiply_adds(network)
    speed = gemm_speed(size)
    return {
        "encode_macs_m": encode / 1e6,
        "step_macs_m": step / 1e6,
        "gemm_gmac_s": speed / 1e9,
        "encode_floor_us": encode / speed * 1e6,
        "step_floor_us": step / speed * 1e6,
    }


def multiply_adds(network: Any) -> tuple[int, int]:
    """Count those of `encode` and of `step` for one epoch: convolutions, linear maps and attention.

    The network is one that torch runs, scripted or not.
    """
    raw, spectrum = torch.zeros(1, EPOCH_SAMPLES), torch.zeros(1, FRAMES, BINS)
    present = torch.ones(1, 2, dtype=torch.bool)
    counts = []
    # The mathematical form of attention: the counter does not know the one that is fused for CPUs.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as counter:
            tokens = network.encode(raw, spectrum)
        counts.append(counter.get_total_flops() // 2)
        with FlopCounterMode(display=False) as counter:
            network.step(tokens, present, network.initial_state(1))
        counts.append(counter.get_total_flops() // 2)
    return counts[0], counts[1]


def gemm_speed(size: Size, repeats: int = 60) -> float:
    """Multiply-adds per second of the fastest product among those that the network consists of."""
    places = EPOCH_SAMPLES // 5
    channels = size.channels
    shapes = [
        (FRAMES, size.width, 3 * size.width),
        (FRAMES, size.width, size.feedforward),
        (EPOCH_SAMPLES, 3 * channels[0], channels[0]),
        (places, 3 * channels[1], channels[1]),
        (places // 5, 3 * channels[2], channels[2]),
    ]
    return max(
        rows * inner * columns / _product_s(rows, inner, columns, repeats) for rows, inner, columns in shapes
    )


def _product_s(rows: int, inner: int, columns: int, repeats: int) -> float:
    left, right = torch.randn(rows, inner), torch.randn(inner, columns)
    out: Tensor = torch.empty(rows, columns)
    return cpu_s(lambda: torch.mm(left, right, out=out), repeats, FASTEST)
