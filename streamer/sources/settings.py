"""The settings of a `[stream.source]` table, by its `kind`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from streamer.tables import Table, UserPath

Speed = Annotated[float, Field(gt=0, le=100_000)] | Literal["max"]


class ReplaySettings(Table):
    """A recording, played as if it were live."""

    kind: Literal["replay"] = "replay"
    path: UserPath
    speed: Speed = 1.0  # times real time, or "max": as fast as the machine can
    rate_hz: float | None = Field(None, gt=0)  # only for a CSV without times
    chunk_s: float = Field(1.0, gt=0, le=60)


class SimulatedSettings(Table):
    """A night from a seed."""

    kind: Literal["simulated"] = "simulated"
    seed: int = Field(0, ge=0)
    hours: float = Field(8.0, gt=0, le=24)
    rate_hz: float = Field(100.0, ge=50, le=1024)
    speed: Speed = 1.0
    chunk_s: float = Field(1.0, gt=0, le=60)
    started: AwareDatetime | None = None  # None: now
    gain: float = Field(1.0, gt=0, le=100)
    artefacts_per_hour: float = Field(0.0, ge=0, le=60)
    dropouts_per_hour: float = Field(0.0, ge=0, le=60)
    dropout_s: float = Field(20.0, gt=0, le=3600)  # mean length


class LslSettings(Table):
    """A stream of the lab streaming layer, found by name, type, source_id and predicate, as far as given."""

    kind: Literal["lsl"] = "lsl"
    name: str | None = None
    type: str | None = None
    source_id: str | None = None
    predicate: str | None = None  # XPath 1.0, as in "starts-with(name, 'Muse') and channel_count=4"
    resolve_s: float = Field(10.0, gt=0, le=600)  # longest search, and longest wait for the first samples
    silence_s: float = Field(10, gt=0, le=600)  # no samples for this long: reconnect


class CounterSettings(Table):
    """How an unknown board numbers its packets: 0, step, 2 * step ... below wrap."""

    wrap: int = Field(gt=1)
    rows: int = Field(1, ge=1)  # samples per packet
    step: int = Field(1, ge=1)


class BrainflowSettings(Table):
    """A board that BrainFlow drives. Which of the settings it needs depends on the board."""

    kind: Literal["brainflow"] = "brainflow"
    board: int | str  # an id or a name: 38, "MUSE_2_BOARD", "muse 2"
    serial_port: str = ""
    mac_address: str = ""
    serial_number: str = ""  # for Bluetooth boards: the name under which the device advertises itself
    ip_address: str = ""
    ip_port: int = Field(0, ge=0, le=65535)
    ip_protocol: Literal["none", "udp", "tcp"] = "none"
    other_info: str = ""
    timeout_s: int = Field(0, ge=0, le=600)  # to find the device; 0: BrainFlow's default
    file: UserPath | None = None  # for the playback board: a CSV file that BrainFlow recorded
    loop: bool = False  # start again at its end
    master_board: int | str | None = None  # which board the playback or streaming board stands for
    labels: tuple[str, ...] = ()  # where the electrodes sit, in the board's order; default: BrainFlow's names
    commands: tuple[str, ...] = ()  # sent to the board before it streams
    counter: CounterSettings | None = None
    silence_s: float = Field(10, gt=0, le=600)  # no samples for this long: close the board and reconnect
    log: bool = False  # BrainFlow's own messages on stderr


class RdaSettings(Table):
    """A BrainVision Recorder that sends its samples through remote data access (RDA)."""

    kind: Literal["rda"] = "rda"
    host: str = Field("127.0.0.1", min_length=1, max_length=253)  # of the computer that Recorder runs on
    port: int = Field(51244, ge=1, le=65535)  # 51244: 32-bit floats; 51234: 16-bit integers
    resolve_s: float = Field(10.0, gt=0, le=600)  # how long to wait for the first samples
    silence_s: float = Field(10, gt=0, le=600)  # no message for this long: reconnect


LIVE = LslSettings, BrainflowSettings, RdaSettings  # devices: they send in real time and cannot be paused
SourceSettings = Annotated[
    ReplaySettings | SimulatedSettings | LslSettings | BrainflowSettings | RdaSettings,
    Field(discriminator="kind"),
]
