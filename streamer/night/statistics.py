"""The statistics of a night, by the definitions of the AASM Manual for the Scoring of Sleep.

An unscored epoch is neither sleep nor wake. It counts for no stage, and it interrupts persistent sleep.
`unscored_min` is the part of the night that is missing in the other figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from streamer.messages import EPOCH_S, STAGES, Stage
from streamer.payloads import PublishedStage

SLEEP: tuple[Stage, ...] = ("N1", "N2", "N3", "R")
EPOCHS_PER_MIN = 60 / EPOCH_S
PERSISTENT = round(10 * EPOCHS_PER_MIN)  # epochs of sleep that count as persistent
CYCLE_NREM = round(15 * EPOCHS_PER_MIN)  # shortest NREM part of a cycle, in epochs


@dataclass(frozen=True, slots=True)
class Statistics:
    """The statistics of one night, see DEFINITIONS.

    None if there is no value, as for the latency of a missing stage.
    """

    tib_min: float
    spt_min: float | None
    tst_min: float
    se_percent: float | None
    sol_min: float | None
    sol_persistent_min: float | None
    waso_min: float | None
    latency_n1_min: float | None
    latency_n2_min: float | None
    latency_n3_min: float | None
    latency_r_min: float | None
    rem_latency_min: float | None
    w_min: float
    n1_min: float
    n2_min: float
    n3_min: float
    r_min: float
    n1_percent: float | None
    n2_percent: float | None
    n3_percent: float | None
    r_percent: float | None
    awakenings: float | None
    shifts_per_hour: float | None
    cycles: float
    unscored_min: float
    no_signal_min: float

    def to_json(self) -> dict[str, float | None]:
        """Convert to JSON values with two decimals."""
        values = {name: getattr(self, name) for name in DEFINITIONS}
        return {name: None if value is None else round(value, 2) for name, value in values.items()}

    def described(self) -> dict[str, dict[str, str | float | None]]:
        """Convert to JSON values, each with its unit and definition."""
        values = self.to_json()
        return {
            name: {"value": values[name], "unit": unit, "definition": meaning}
            for name, (unit, meaning) in DEFINITIONS.items()
        }


# name -> (unit, definition)
DEFINITIONS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "tib_min": (
            "min",
            "time in bed: lights off to lights on, or the whole recording if neither is marked",
        ),
        "spt_min": ("min", "sleep period: start of the first epoch of sleep to end of the last"),
        "tst_min": ("min", "total sleep time: all epochs of N1, N2, N3 and R"),
        "se_percent": ("%", "sleep efficiency: total sleep time as a share of time in bed"),
        "sol_min": ("min", "sleep onset latency: lights off to the first epoch of any sleep"),
        "sol_persistent_min": ("min", "lights off to the start of the first 10 min of uninterrupted sleep"),
        "waso_min": (
            "min",
            "wake after sleep onset: epochs of W between the first epoch of sleep and lights on",
        ),
        "latency_n1_min": ("min", "lights off to the first epoch of N1"),
        "latency_n2_min": ("min", "lights off to the first epoch of N2"),
        "latency_n3_min": ("min", "lights off to the first epoch of N3"),
        "latency_r_min": ("min", "lights off to the first epoch of R"),
        "rem_latency_min": ("min", "REM latency: sleep onset to the first epoch of R"),
        "w_min": ("min", "epochs of W between lights off and lights on"),
        "n1_min": ("min", "epochs of N1"),
        "n2_min": ("min", "epochs of N2"),
        "n3_min": ("min", "epochs of N3"),
        "r_min": ("min", "epochs of R"),
        "n1_percent": ("%", "N1 as a share of total sleep time"),
        "n2_percent": ("%", "N2 as a share of total sleep time"),
        "n3_percent": ("%", "N3 as a share of total sleep time"),
        "r_percent": ("%", "R as a share of total sleep time"),
        "awakenings": (
            "",
            "number of times that W came after sleep onset and sleep came back; not the final awakening",
        ),
        "shifts_per_hour": (
            "/h",
            "changes between two adjacent scored epochs of the sleep period, per hour of sleep",
        ),
        "cycles": ("", "NREM-REM cycles: R after at least 15 min of NREM since sleep onset or the last R"),
        "unscored_min": (
            "min",
            "epochs between lights off and lights on that could not be scored, for any reason",
        ),
        "no_signal_min": ("min", "the part of these in which no signal arrived"),
    }
)


def compute_statistics(
    hypnogram: Sequence[PublishedStage], lights_off: int = 0, lights_on: int | None = None
) -> Statistics:
    """Compute the statistics of a night.

    Args:
        hypnogram: one label per 30 s epoch.
        lights_off: the first epoch in bed.
        lights_on: one past the last epoch in bed; None: to the end.

    Raises:
        ValueError: lights on comes before lights off, or either lies outside the hypnogram.

    """
    end = len(hypnogram) if lights_on is None else lights_on
    if not 0 <= lights_off <= end <= len(hypnogram):
        raise ValueError(f"lights off at epoch {lights_off} and on at {end} of {len(hypnogram)}")
    night = RunningStatistics()
    for label in hypnogram[lights_off:end]:
        night.push(label)
    return night.statistics()


class RunningStatistics:
    """The statistics of a night in progress: a few counters, so that each epoch costs the same.

    All definitions are computed here; `compute_statistics` runs a whole night through it.
    """

    def __init__(self) -> None:
        self._in_bed = True
        self._reset()

    def _reset(self) -> None:
        self._epochs = 0  # since lights off
        self._counts: dict[PublishedStage, int] = dict.fromkeys((*STAGES, "unscored", "no_signal"), 0)
        self._first: dict[PublishedStage, int] = {}  # label -> its first epoch
        self._previous: PublishedStage = "unscored"
        self._onset: int | None = None  # first epoch of sleep
        self._wake_before_onset = 0
        self._sleep_end = 0  # one past the last epoch of sleep
        self._unbroken = 0  # epochs of sleep since the last interruption
        self._persistent: int | None = None  # first epoch of persistent sleep
        self._awake = False  # whether W came since the last epoch of sleep
        self._awakenings = 0
        self._shifts = 0
        self._shifts_open = 0  # shifts not yet followed by sleep, so perhaps after the sleep period
        self._nrem = 0  # epochs since the last R
        self._cycles = 0

    def lights_off(self) -> None:
        """Begin the night with the next epoch; earlier epochs do not count."""
        self._in_bed = True
        self._reset()

    def lights_on(self) -> None:
        """End the night with the last epoch; later epochs do not count."""
        self._in_bed = False

    def push(self, label: PublishedStage) -> None:
        """Count the next epoch."""
        if not self._in_bed:
            return
        self._counts[label] += 1
        self._first.setdefault(label, self._epochs)
        if self._onset is not None and label in STAGES and self._previous in STAGES:
            self._shifts_open += label != self._previous
        if label in SLEEP:
            self._sleep(label)
        else:
            self._unbroken = 0
            self._awake |= label == "W" and self._onset is not None
        self._previous = label
        self._epochs += 1

    def _sleep(self, label: PublishedStage) -> None:
        if self._onset is None:
            self._onset = self._epochs
            self._wake_before_onset = self._counts["W"]
        self._sleep_end = self._epochs + 1
        self._unbroken += 1
        if self._unbroken == PERSISTENT and self._persistent is None:
            self._persistent = self._sleep_end - PERSISTENT
        self._awakenings += self._awake
        self._awake = False
        self._shifts += self._shifts_open
        self._shifts_open = 0
        if label == "R":
            self._cycles += self._nrem >= CYCLE_NREM
            self._nrem = 0
        else:
            self._nrem += 1

    def statistics(self) -> Statistics:
        """Return the statistics of the night so far."""
        count, onset = self._counts, self._onset
        tst = sum(count[stage] for stage in SLEEP)
        first_r = self._first.get("R")
        slept = onset is not None
        return Statistics(
            tib_min=_minutes(self._epochs),
            spt_min=None if onset is None else _minutes(self._sleep_end - onset),
            tst_min=_minutes(tst),
            se_percent=_percent(tst, self._epochs),
            sol_min=_latency(onset),
            sol_persistent_min=_latency(self._persistent),
            waso_min=_minutes(count["W"] - self._wake_before_onset) if slept else None,
            latency_n1_min=_latency(self._first.get("N1")),
            latency_n2_min=_latency(self._first.get("N2")),
            latency_n3_min=_latency(self._first.get("N3")),
            latency_r_min=_latency(first_r),
            rem_latency_min=None if onset is None or first_r is None else _minutes(first_r - onset),
            w_min=_minutes(count["W"]),
            n1_min=_minutes(count["N1"]),
            n2_min=_minutes(count["N2"]),
            n3_min=_minutes(count["N3"]),
            r_min=_minutes(count["R"]),
            n1_percent=_percent(count["N1"], tst),
            n2_percent=_percent(count["N2"], tst),
            n3_percent=_percent(count["N3"], tst),
            r_percent=_percent(count["R"], tst),
            awakenings=float(self._awakenings) if slept else None,
            shifts_per_hour=self._shifts / (_minutes(tst) / 60) if slept else None,
            cycles=float(self._cycles),
            unscored_min=_minutes(count["unscored"] + count["no_signal"]),
            no_signal_min=_minutes(count["no_signal"]),
        )


def _minutes(epochs: int) -> float:
    return epochs / EPOCHS_PER_MIN


def _latency(epoch: int | None) -> float | None:
    return None if epoch is None else _minutes(epoch)


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None
