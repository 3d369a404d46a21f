"""What a `[model.remote]` table may say; a token comes from the environment only."""

from __future__ import annotations

from pydantic import Field, model_validator

from streamer.tables import Table, UserPath

TOKEN_VARIABLE = "SLEEPSTREAM_MODEL_TOKEN"


class RemoteSettings(Table):
    """A server that runs the network of `[model] path` in our stead."""

    url: str = Field(pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$", max_length=500)
    ca_file: UserPath | None = None  # for https; None: the certificates this system trusts
    timeout_s: float = Field(2, gt=0, le=30)  # of one answer; the window is then unscored
    retry_max_s: float = Field(30, ge=1)  # longest rest after a failure
    fallback: bool = False  # while it is away, run the network here

    @model_validator(mode="after")
    def _consistent(self) -> RemoteSettings:
        if self.ca_file is not None and not self.url.startswith("https:"):
            raise ValueError("ca_file needs an https url")
        return self
