"""Draw training nights from measurements, band-passed as in the engine, with others' opinion.

    python -m model.draw FEATURES.npz OUT --seed 0 --soft --teacher TEACHER.py

writes one prepared night per recording. Every (recording, seed) has its own place on the head, its own style
of events and its own texture, because what the measurements leave open must not become something to rely on.
`--soft` adds YASA's probabilities (Vallat & Walker 2021, BSD-3) for the same samples: YASA was trained on
AASM-scored nights, the experts behind the measurements scored by older rules and called far less N3.
`--teacher` adds those of any other scorer, see `model.teacher`; of two, the geometric mean is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
from scipy.signal import sosfilt
from tqdm import tqdm

from model.data import FOLDS, PreparedNight, fold_of, save_night
from model.resynthesis import CENTRAL, FRONTAL, PARIETAL, Derivation, Measurements, Samples
from model.teacher import Scorer, load_teacher
from model.texture import PACE_S, Texture, textured
from streamer.filters import BUTTERWORTH
from streamer.messages import RATE_HZ
from streamer.sources.synthesis import DEFAULT, synthesise, varied

PLACES = {"frontal": FRONTAL, "central": CENTRAL, "parietal": PARIETAL}
OWN = 0.15  # largest depth of the bands' own waxing and waning beside their texture
YASA_STAGES = ("WAKE", "N1", "N2", "N3", "REM")  # its names, in the order of ours
UNLIKELY = 1e-3  # added to probabilities before their geometric mean: no scorer excludes a stage alone


def draw_night(
    measurements: Measurements,
    recording: str,
    seed: int,
    scorers: Sequence[Scorer] = (),
    at: Derivation | None = None,
    own_style: bool = False,
) -> PreparedNight:
    """Synthesise one night behind the engine's band-pass, with the scorers' soft labels.

    With `at`, a fixed derivation in the default style, or in a random one with `own_style`. Without, the
    derivation, the amplifier and the style are random.
    """
    rng = np.random.default_rng([seed, measurements.recordings.index(recording)])
    derivation, style, pace_s, strength = at or Derivation.draw(rng), DEFAULT, PACE_S, 1.0
    if own_style or at is None:
        style = varied(DEFAULT, int(rng.integers(2**31)))
        pace_s, strength = PACE_S * float(np.exp(0.3 * rng.normal())), float(np.exp(0.15 * rng.normal()))
    measured = measurements.measured(recording, derivation)
    style = replace(style, depth=float(rng.uniform(0, OWN)))
    samples = np.concatenate(list(synthesise(measured, int(rng.integers(2**31)), style)))
    strengths = Texture.load().strengths(measured, measurements.beside(recording)).scaled(strength)
    samples = textured(samples, strengths, rng, pace_s)
    samples = sosfilt(BUTTERWORTH, samples - samples[0]).astype(np.float32)
    return PreparedNight(
        recording=recording,
        subject=person(measurements, recording),
        samples=samples.astype(np.float16),
        stages=measurements.stages(recording),
        soft=opinion(samples, scorers),
    )


def opinion(samples: Samples, scorers: Sequence[Scorer]) -> Samples | None:
    """Return the geometric mean (n_epochs, 5) of the scorers' probabilities; None without a scorer."""
    if not scorers:
        return None
    logarithms = [np.log(scorer(samples) + UNLIKELY) for scorer in scorers]
    mean = np.exp(np.mean(logarithms, axis=0))
    shares: Samples = (mean / mean.sum(1, keepdims=True)).astype(np.float32)
    return shares


def person(measurements: Measurements, recording: str) -> str:
    """Return the person's name, as in prepared nights and folds."""
    return f"{measurements.subject(recording):02d}"


def yasa(samples: Samples) -> Samples:
    """Return YASA's probabilities (n_epochs, 5) for (n_epochs * 3000,) µV; needs the extra `peers`."""
    mne, yasa = import_module("mne"), import_module("yasa")  # seconds to import, and optional

    info = mne.create_info(["EEG"], RATE_HZ, "eeg", verbose="error")
    raw = mne.io.RawArray(samples[None].astype(np.float64) * 1e-6, info, verbose="error")
    hypnogram = yasa.SleepStaging(raw, eeg_name="EEG").predict()
    probabilities: Samples = hypnogram.proba[list(YASA_STAGES)].to_numpy(np.float32)
    return probabilities


def main(arguments: list[str] | None = None) -> None:
    """Synthesise every night that is not yet in OUT, with the subjects mixed."""
    parser = argparse.ArgumentParser(prog="python -m model.draw", description=__doc__.split("\n", 1)[0])
    parser.add_argument("features", type=Path, help="the npz of per-epoch measurements")
    parser.add_argument("out", type=Path, help="folder for the nights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--soft", action="store_true", help="add YASA's probabilities (slow)")
    parser.add_argument("--teacher", type=Path, metavar="FILE.py", help="add those of its class Teacher")
    parser.add_argument(
        "--at", choices=PLACES, help="every night there, in the default style (default: somewhere else each)"
    )
    parser.add_argument(
        "--own-style", action="store_true", help="with --at: rhythms and events of each night's own"
    )
    parser.add_argument(
        "--fold", type=int, choices=range(len(FOLDS)), help="the test subjects of one fold only"
    )
    options = parser.parse_args(arguments)
    measurements = Measurements.load(options.features)
    options.out.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(0).permutation(measurements.recordings).tolist()
    if options.fold is not None:
        order = [one for one in order if fold_of(person(measurements, one)) == options.fold]
    at = PLACES.get(options.at)
    scorers: list[Scorer] = [yasa] if options.soft else []
    if options.teacher is not None:
        scorers.append(load_teacher(options.teacher))
    for recording in tqdm(order, unit="night"):
        path = options.out / f"{recording}-{options.seed}.npz"
        if not path.exists():
            night = draw_night(measurements, recording, options.seed, scorers, at, options.own_style)
            save_night(path, night)


if __name__ == "__main__":
    main()
