"""The base of every settings table: strict, frozen, with checked defaults and expanded paths."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(
            "~ cannot be used here, as this user has no home folder; write the path in full"
        ) from None


UserPath = Annotated[Path, AfterValidator(_expanded)]  # `~` is the user's home


class Table(BaseModel):
    """Refuses unknown keys, is immutable, and validates its defaults as well."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
