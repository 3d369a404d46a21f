"""Small prepared nights whose stage can be read off the signal."""

from __future__ import annotations

import numpy as np

from model.data import PreparedNight

HZ = (20.0, 6.0, 13.0, 1.5, 9.0)  # one rhythm per stage


def night(subject: int, epochs: int = 12, seed: int = 0, soft: bool = False) -> PreparedNight:
    rng = np.random.default_rng([seed, subject])
    stages = np.repeat(rng.integers(0, 5, epochs // 2 + 1), 2)[:epochs].astype(np.int8)
    t = np.arange(epochs * 3000) / 100
    rhythm = np.sin(2 * np.pi * np.repeat(np.array(HZ)[stages], 3000) * t)
    samples = (20 * rhythm + rng.normal(0, 5, t.size)).astype(np.float16)
    opinion = np.full((epochs, 5), 0.2, np.float32) if soft else None
    return PreparedNight(f"SC4{subject:02d}1E0", f"{subject:02d}", samples, stages, opinion)
