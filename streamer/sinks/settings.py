"""The settings tables `[mqtt]`, `[jsonl]`, `[lsl]` and `[stream.ttl]`; secrets come from the environment."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from streamer.tables import Table, UserPath

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class MqttSettings(Table):
    """One broker. User and password: SLEEPSTREAM_MQTT_USER and SLEEPSTREAM_MQTT_PASSWORD."""

    host: str = Field("127.0.0.1", min_length=1, max_length=253)
    port: int = Field(1883, ge=1, le=65535)
    embedded: bool = False  # run a broker inside this process, on loopback, at `port`
    tls: bool = False
    ca_file: UserPath | None = None  # None: the certificates this system trusts
    client_certificate: UserPath | None = None
    client_key: UserPath | None = None  # None: the key is in the certificate's file
    stage_expiry_s: int = Field(120, ge=1)
    late_after_s: float = Field(60, gt=0)  # an epoch delivered later than this is marked historical
    retry_min_s: float = Field(0.5, gt=0)
    retry_max_s: float = Field(30, gt=0)
    timeout_s: float = Field(10, gt=0)  # for the broker's answer to a connection or a message

    @field_validator("host")
    @classmethod
    def _a_host(cls, value: str) -> str:
        try:
            value.encode("idna")
        except UnicodeError as error:
            raise ValueError("not a host name or address") from error
        if not value.isprintable() or " " in value:
            raise ValueError("not a host name or address")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> MqttSettings:
        if not self.tls and (self.ca_file or self.client_certificate or self.client_key):
            raise ValueError("ca_file, client_certificate and client_key need tls = true")
        if self.client_key and not self.client_certificate:
            raise ValueError("client_key needs client_certificate")
        if self.embedded and (self.tls or self.host not in LOOPBACK):
            raise ValueError("the embedded broker is on loopback and without TLS: leave out host and tls")
        if self.retry_min_s > self.retry_max_s:
            raise ValueError("retry_min_s is above retry_max_s")
        return self


class JsonlSettings(Table):
    """Committed epochs, one JSON object a line."""

    path: UserPath


class LslSinkSettings(Table):
    """Stages back into the lab streaming layer, for recorders."""

    prefix: str = Field("sleepstream", min_length=1, max_length=64)  # of the outlets' names
    markers: bool = True
    codes: bool = True  # markers as numbers
    hypnodensity: bool = True


class TtlSettings(Table):
    """Triggers as bytes on a serial port, into a file, or both."""

    port: str | None = Field(None, min_length=1, max_length=256)  # such as /dev/ttyUSB0
    baud: int = Field(115200, ge=300, le=4_000_000)
    pulse_ms: float = Field(10, ge=0, le=1000)  # until a zero is written; 0: no zero
    file: UserPath | None = None  # one JSON object per trigger

    @model_validator(mode="after")
    def _somewhere(self) -> TtlSettings:
        if self.port is None and self.file is None:
            raise ValueError("name a port, a file, or both")
        return self
