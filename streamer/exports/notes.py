"""A night's annotations: stages, lights, marks and gaps."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.messages import EPOCH_S, STAGES
from streamer.night.session import Night

NAMES = {"lights_off": "Lights off", "lights_on": "Lights on"}
TEXTS = ("mark", "marker", "trigger", "alarm")


@dataclass(frozen=True, slots=True)
class Note:
    """An annotation, at a time since sample 0."""

    onset_s: float
    duration_s: float | None
    text: str
    kind: str  # a stage ("W" ... "unscored"), an event's name, or "gap"


def list_notes(night: Night, *, stages: bool = True, events: bool = True) -> list[Note]:
    """All stages, events of the sleeper and gaps within the recording, sorted by onset."""
    found = _stages(night) if stages else []
    return sorted([*found, *(_happened(night) if events else [])], key=lambda note: note.onset_s)


def _stages(night: Night) -> list[Note]:
    return [
        Note(
            float(EPOCH_S * number),
            float(EPOCH_S),
            f"Sleep stage {label if label in STAGES else '?'}",
            label if label in STAGES else "unscored",
        )
        for number, label in enumerate(night.labels)
    ]


def _happened(night: Night) -> list[Note]:
    rate = night.meta.info.rate_hz
    found = [Note(gap.start / rate, (gap.stop - gap.start) / rate, "BAD_gap", "gap") for gap in night.gaps]
    for event in night.events:
        onset = night.seconds_of(event)
        if not 0 <= onset <= night.duration_s:
            continue
        if event.event in NAMES:
            found.append(Note(onset, None, NAMES[event.event], event.event))
        elif event.event in TEXTS:
            found.append(Note(onset, None, f"{event.event}: {event.text}".rstrip(": "), event.event))
    return found
