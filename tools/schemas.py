"""Writes the JSON schemas of everything published or received: `python -m tools.schemas`."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel

from streamer.payloads import KINDS, CommandPayload

FOLDER = Path(__file__).parents[1] / "docs" / "schemas"


def make_schemas() -> dict[str, str]:
    """Make the schemas: file name -> JSON text, one per topic."""
    published = {f"{kind}.json": _text(model, received=False) for model, kind in KINDS.items()}
    return {**published, "command.json": _text(CommandPayload, received=True)}


def _text(model: type[BaseModel], received: bool) -> str:
    """The schema of what we publish, as it is written, or of what we receive, as it is read.

    A published message has every field, and readers must accept further ones, since version 1 may grow. A
    command must not have unknown fields.
    """
    schema = model.model_json_schema(by_alias=True, mode="validation" if received else "serialization")
    if not received:
        for part in (schema, *schema.get("$defs", {}).values()):
            part.pop("additionalProperties", None)
            part["required"] = list(part["properties"])
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps({"$schema": dialect, **schema}, indent=2, ensure_ascii=False) + "\n"


def find_stale(folder: Path) -> list[str]:
    """List the files in `folder` that differ from the models, are missing, or do not belong there."""
    wanted = make_schemas()
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def main() -> None:
    """Write the schemas that are out of date, and remove files that do not belong there."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in find_stale(FOLDER):
        (FOLDER / name).unlink(missing_ok=True)
        if name in (made := make_schemas()):
            (FOLDER / name).write_text(made[name], encoding="utf-8")


if __name__ == "__main__":
    main()
