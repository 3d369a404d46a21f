"""Judges whether a night is a valid result: a sensor problem must never look like sleep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from streamer.messages import EPOCH_S, STAGES
from streamer.night.session import Night

FAILED_SHARE = 0.5  # of the time in bed without a stage: the night has failed
PARTIAL_SHARE = 0.1  # of the time in bed without a stage: the night is partial
SHORT_S = 3 * 3600.0  # less time in bed is mentioned


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far the figures can be trusted, with the reasons if not fully."""

    grade: Literal["whole", "partial", "failed"]
    reasons: tuple[str, ...]

    @property
    def headline(self) -> str:
        """One line for the top of a page."""
        return {
            "whole": "The night was recorded and scored.",
            "partial": "Part of the night is missing: read the figures with care.",
            "failed": "This night failed. The figures below are not a result.",
        }[self.grade]


def verdict(night: Night) -> Verdict:
    """Judge a night by the share of it that could be scored."""
    labels = night.labels[night.lights_off : night.lights_on]
    scored = sum(label in STAGES for label in labels)
    if not scored:
        why = "no epoch was committed" if not labels else "none of the epochs could be scored"
        return Verdict("failed", (why, *_circumstances(night)))
    missing = 1 - scored / len(labels)
    reasons = _circumstances(night)
    if missing > PARTIAL_SHARE:
        reasons = (
            f"{missing:.0%} of the time in bed ({(len(labels) - scored) * EPOCH_S / 60:.0f} min) could not "
            "be scored",
            *reasons,
        )
    if missing >= FAILED_SHARE:
        return Verdict("failed", reasons)
    return Verdict("partial" if reasons else "whole", reasons)


def _circumstances(night: Night) -> tuple[str, ...]:
    found = []
    in_bed_s = (night.lights_on - night.lights_off) * EPOCH_S
    if in_bed_s < SHORT_S:
        found.append(f"only {in_bed_s / 60:.0f} min in bed")
    if not night.ended:
        found.append("the recording was not closed: it was cut off, or is still going on")
    errors = [event.text for event in night.events if event.event == "error"]
    if errors:
        found.append(f"an error: {errors[0]}" + (f" (and {len(errors) - 1} more)" if errors[1:] else ""))
    return tuple(found)
