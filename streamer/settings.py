"""Every table of a settings file, as frozen pydantic models, and `load`, which reads such a file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from streamer.corrections import NAME_PATTERN, SHA256_PATTERN, TOPIC_PATTERN, describe_problems
from streamer.errors import SettingsError
from streamer.journal.settings import StorageSettings
from streamer.night.settings import NightSettings
from streamer.reactions.settings import AlarmSettings, TriggerSettings, codes
from streamer.sinks.settings import JsonlSettings, LslSinkSettings, MqttSettings, TtlSettings
from streamer.sources.settings import SourceSettings
from streamer.tables import Table, UserPath
from streamer.web.settings import TraceNames, WebSettings

Name = Annotated[str, Field(pattern=NAME_PATTERN)]  # one MQTT topic level
Topic = Annotated[str, Field(pattern=TOPIC_PATTERN)]
SESSION_DIR = Path("~/.local/share/sleepstream")


Device = Literal["auto", "cpu", "cuda"]
Runtime = Literal["auto", "onnx", "torchscript"]
Precision = Literal["float32", "bfloat16", "float16"]


class ModelSettings(Table):
    """[model]: which network to use and where it runs; the arguments of `Model.load`."""

    path: UserPath | None = None  # None: the packaged artifact
    sha256: str | None = Field(None, pattern=SHA256_PATTERN)  # checksum that the file at `path` must have
    trusted: bool = False  # load `path` without a checksum, although a model file can run any code
    device: Device = "auto"  # auto: CUDA if torch is installed and finds a GPU, else the CPU
    threads: int = Field(1, ge=1, le=64)
    runtime: Runtime = "auto"  # auto: what docs/speed.md found the fastest
    precision: Precision = "float32"  # others with TorchScript only

    @model_validator(mode="after")
    def _vouched_for(self) -> ModelSettings:
        if self.path is None and (self.sha256 is not None or self.trusted):
            raise ValueError("sha256 and trusted belong to a path, but path is missing")
        if self.sha256 is not None and self.trusted:
            raise ValueError("sha256 and trusted are both set; give only one of them")
        return self


PHASE_HOP_S = 2  # longest hop at which the stage is recent enough for a trigger that waits for a phase


class SignalSettings(Table):
    """[stream.signal]: how the stream's samples become one channel in µV."""

    # A label, "#3", a difference "A-B", or a list, of which the best is staged; None: choose by the labels.
    channel: str | tuple[str, ...] | None = None
    unit: Literal["V", "mV", "uV", "nV"] | None = None  # None: as the source declares it
    bridge_s: float = Field(
        0.2, ge=0, le=2
    )  # gaps up to this length are interpolated, and still counted as lost
    mains_hz: Literal[50, 60] = 50

    @field_validator("channel")
    @classmethod
    def _each_once(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        if isinstance(value, tuple) and (not value or len(set(value)) < len(value)):
            raise ValueError("name at least one channel, and each one only once")
        return value


class StreamSettings(Table):
    """[[stream]]: one sleeper."""

    name: Name = "sleeper"
    hop_s: int = Field(30, ge=1, le=30)
    source: SourceSettings
    signal: SignalSettings = SignalSettings()
    silence_s: float = Field(10, gt=0, le=600)  # after this long without samples the stage is no_signal
    trigger: tuple[TriggerSettings, ...] = ()
    alarm: AlarmSettings | None = None
    ttl: TtlSettings | None = None
    traces: TraceNames | None = None  # further channels on the page; None: those of [web]

    @model_validator(mode="after")
    def _often_enough(self) -> StreamSettings:
        if self.hop_s > PHASE_HOP_S and any(one.phase is not None for one in self.trigger):
            raise ValueError(f"a trigger with a phase needs a recent stage: set hop_s to 1 or {PHASE_HOP_S}")
        return self

    @field_validator("trigger")
    @classmethod
    def _distinct(cls, value: tuple[TriggerSettings, ...]) -> tuple[TriggerSettings, ...]:
        if len({one.name for one in value}) < len(value):
            raise ValueError("two triggers have the same name; give each [[stream.trigger]] its own")
        codes(value)
        return value


class HomeAssistantSettings(Table):
    """[homeassistant]: MQTT discovery; needs [mqtt]."""

    enabled: bool = True  # False: remove every announced device
    prefix: Topic = "homeassistant"  # discovery prefix
    status_topic: Topic = "homeassistant/status"  # where Home Assistant publishes `online`


class SleepAsAndroidSettings(Table):
    """[sleep_as_android]: publish the night under the event names of Sleep as Android; needs [mqtt]."""

    topic: Topic = "SleepAsAndroid/{stream}"


class Settings(Table):
    """The whole settings file."""

    node: Name = "sleepstream"
    session_dir: UserPath = SESSION_DIR
    resume_min: float = Field(30, gt=0, le=1440)  # after a crash, continue a session that is at most this old
    model: ModelSettings = ModelSettings()
    mqtt: MqttSettings | None = None
    jsonl: JsonlSettings | None = None
    web: WebSettings | None = None
    night: NightSettings = NightSettings()
    storage: StorageSettings = StorageSettings()
    lsl: LslSinkSettings | None = None
    homeassistant: HomeAssistantSettings | None = None
    sleep_as_android: SleepAsAndroidSettings | None = None
    stream: tuple[StreamSettings, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_a_broker(self) -> Settings:
        if self.homeassistant is not None and self.mqtt is None:
            raise ValueError("[homeassistant] needs [mqtt]")
        if self.sleep_as_android is not None:
            if self.mqtt is None:
                raise ValueError("[sleep_as_android] needs [mqtt]")
            if len(self.stream) > 1 and "{stream}" not in self.sleep_as_android.topic:
                raise ValueError("sleep_as_android.topic would mix several streams; put {stream} into it")
        return self

    @model_validator(mode="after")
    def _unique_names(self) -> Settings:
        names = [stream.name for stream in self.stream]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two streams are named {twice[0]!r}; give each [[stream]] its own name")
        return self


def load(path: Path, stand_in: dict[str, object] | None = None) -> Settings:
    """Read and validate a TOML file.

    Args:
        path: of the file.
        stand_in: the stream to use when the file has no [[stream]]; None: that is an error.

    Raises:
        SettingsError: the file is missing, is not TOML, or does not validate; one line lists every problem.

    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"cannot read settings {path}: {reason}; give the path of a TOML file") from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error
    except RecursionError as error:
        raise SettingsError(f"{path} is not valid TOML: nested too deeply") from error
    if stand_in is not None:
        data.setdefault("stream", [stand_in])
    return validate(data, str(path))


def validate(data: dict[str, object], origin: str) -> Settings:
    """Validate parsed TOML; `origin` is the file's name for error messages."""
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        said = describe_problems(error.errors(), data, _known_keys())
        raise SettingsError(f"{origin}: {said}") from error


def _known_keys() -> list[str]:
    """Every key that any settings model accepts."""
    schema = Settings.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    return sorted({key for model in models for key in model.get("properties", {})})
