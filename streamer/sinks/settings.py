"""What the `[mqtt]` and `[jsonl]` tables may say. Secrets are never here: they come from the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MqttSettings(_Settings):
    """One broker. User and password: SLEEPSTREAM_MQTT_USER and SLEEPSTREAM_MQTT_PASSWORD."""

    host: str = "127.0.0.1"
    port: int = Field(1883, ge=1, le=65535)
    embedded: bool = False  # run a broker inside this process, on loopback, at `port`
    tls: bool = False
    ca_file: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    stage_expiry_s: int = Field(120, ge=1)
    late_after_s: float = Field(60, gt=0)  # an epoch delivered later than this is marked historical
    retry_min_s: float = Field(0.5, gt=0)
    retry_max_s: float = Field(30, gt=0)
    timeout_s: float = Field(10, gt=0)  # for a connection, an acknowledgement, a goodbye


class JsonlSettings(_Settings):
    """Committed epochs, one JSON object a line."""

    path: Path
