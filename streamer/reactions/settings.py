"""The settings tables `[[stream.trigger]]` and `[stream.alarm]`."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from streamer.corrections import NAME_PATTERN, OSC_PATTERN
from streamer.messages import Grade, Stage
from streamer.night.daytime import ClockTime, Zone
from streamer.tables import Table

FIRST_CODE, LAST_CODE = 100, 255  # of markers: a serial port takes a byte


def _address(host: str) -> str:
    try:
        ip_address(host)
    except ValueError:  # looking up a name may take seconds
        raise ValueError("no address; write one such as 192.168.1.20, not a name") from None
    return host


class ActionSettings(Table):
    """What a firing does on this machine: a command, a datagram, an OSC message, or several of them."""

    command: tuple[str, ...] | None = Field(None, min_length=1)  # a program and its arguments; no shell
    timeout_s: float = Field(30, gt=0, le=3600)  # after which the command is ended
    udp: str | None = Field(None, max_length=1024)  # text of a datagram; {name} and {stage} are filled in
    osc: str | None = Field(None, pattern=OSC_PATTERN)  # OSC address; arguments: name, stage, probability
    host: Annotated[str, AfterValidator(_address)] = "127.0.0.1"  # of udp and osc: an address, not a name
    port: int | None = Field(None, ge=1, le=65535)

    @model_validator(mode="after")
    def _whole(self) -> ActionSettings:
        if (self.udp is not None or self.osc is not None) and self.port is None:
            raise ValueError("udp and osc need a port")
        return self


class ArousalSettings(Table):
    """What counts as an arousal, which prevents a trigger from firing and restarts its dwell."""

    within_s: int = Field(10, ge=1, le=30)
    wake_rise: float = Field(0.2, gt=0, le=1)  # of the probability of wake, within that time
    fast_ratio: float = Field(3.0, gt=1)  # of 25-45 Hz in one of those seconds to the median of the 30 s
    fast_uv: float = Field(4.0, gt=0)  # r.m.s. below which such a rise is ignored


class PhaseSettings(Table):
    """At which phase of a slow wave a trigger fires, once its other rules allow it."""

    target_deg: float = Field(0, ge=-180, le=180)  # 0: the peak of the up-state; -90: on the way up to it
    min_uv: float = Field(30, gt=0, le=1000)  # of the slow wave, from its middle to its peak; in 0.5-2 Hz
    max_uv: float = Field(300, gt=0, le=5000)  # above it is an artefact
    lead_ms: float = Field(0, ge=0, le=300)  # how long a sound takes from the command to the ear

    @model_validator(mode="after")
    def _in_order(self) -> PhaseSettings:
        if self.max_uv <= self.min_uv:
            raise ValueError("max_uv is not above min_uv")
        return self


class TriggerSettings(Table):
    """One closed loop: when to fire, how often, and what to do."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    stages: tuple[Stage, ...] = Field(min_length=1)
    min_probability: float = Field(0.5, ge=0, le=1)  # of those stages together
    dwell_s: float = Field(0, ge=0, le=7200)  # time without interruption in them, hop by hop
    refractory_s: float = Field(0, ge=0, le=86400)  # least time between two firings
    max_per_hour: int | None = Field(None, ge=1)
    max_per_night: int | None = Field(None, ge=1)
    between: tuple[ClockTime, ClockTime] | None = None  # from, up to; may cross midnight
    zone: Zone | None = None  # of `between`; None: this machine's own
    since_onset_min: tuple[float, float] | None = None  # from, up to; minutes since the first epoch of sleep
    cycles: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(None, min_length=1)
    quality: Grade = "fair"  # at least
    warmup: bool = False  # whether it may fire before the network has its full context
    max_age_s: float = Field(2.0, gt=0, le=60)  # a score that is later than this does not fire
    arousal: ArousalSettings | None = ArousalSettings()
    armed: bool = True  # from the start
    sham: float = Field(0.0, ge=0, lt=1)  # share of firings, drawn at random, without a stimulus
    seed: int = Field(0, ge=0)
    blind: bool = False  # messages and markers do not show whether a firing is a sham
    action: ActionSettings | None = None
    phase: PhaseSettings | None = None  # None: at once
    code: int | None = Field(None, ge=40, le=254)  # of its markers; of shams one more; None: see `codes`

    @model_validator(mode="after")
    def _consistent(self) -> TriggerSettings:
        if self.since_onset_min is not None and not 0 <= self.since_onset_min[0] < self.since_onset_min[1]:
            raise ValueError("since_onset_min: give two minutes, the smaller first")
        if self.between is not None and self.between[0] == self.between[1]:
            raise ValueError("between: both times are the same")
        if self.zone is not None and self.between is None:
            raise ValueError("zone needs between")
        return self

    @property
    def tz(self) -> ZoneInfo | None:
        """The time zone of `between`; None: this machine's own."""
        return None if self.zone is None else ZoneInfo(self.zone)


def codes(triggers: Sequence[TriggerSettings]) -> dict[str, int]:
    """Return the marker code of each trigger by its name; the k-th has 100 + 2k unless it sets one.

    Raises:
        ValueError: two of them, shams included, have the same code, or there are too many.

    """
    found: dict[str, int] = {}
    owner: dict[int, str] = {}
    for place, one in enumerate(triggers):
        code = FIRST_CODE + 2 * place if one.code is None else one.code
        for used in (code, code + 1):
            if used in owner:
                raise ValueError(
                    f"triggers {owner[used]} and {one.name} would both mark with code {used}; "
                    "give each its own `code`, two apart"
                )
            owner[used] = one.name
        if code + 1 > LAST_CODE:
            raise ValueError(f"trigger {one.name} would need a code above {LAST_CODE}; give it a `code`")
        found[one.name] = code
    return found


class AlarmSettings(Table):
    """A wake-up window with a firm end. Armed by command, or by `armed`."""

    deadline: ClockTime  # it rings no later than this
    zone: Zone | None = None  # None: this machine's own
    window_min: float = Field(30, ge=0, le=180)  # before the deadline, in which the stage may ring it
    stages: tuple[Literal["W", "N1", "N2", "R"], ...] = ("W", "N1", "N2")  # never N3
    min_probability: float = Field(0.5, ge=0, le=1)  # of those stages together
    confirm_s: float = Field(60, ge=0, le=600)  # without interruption in them
    settle_min: float = Field(10, ge=0, le=60)  # sleep this soon after wake is falling asleep: no ringing
    snooze_min: float = Field(9, gt=0, le=60)
    max_snoozes: int = Field(3, ge=0, le=100)
    ring_s: float = Field(600, gt=0, le=7200)  # then it gives up
    armed: bool = False  # armed at the start, unless it was disarmed by command
    daily: bool = False  # arm for the next day once it has rung
    command: tuple[str, ...] | None = Field(None, min_length=1)  # repeated while it rings; None: a bell
    test_s: float = Field(5, gt=0, le=60)  # how long a test rings

    @property
    def tz(self) -> ZoneInfo | None:
        """The time zone of the deadline; None: this machine's own."""
        return None if self.zone is None else ZoneInfo(self.zone)
