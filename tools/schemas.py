"""Writes the JSON schemas of everything published or received: `python -m tools.schemas [--check]`."""

from __future__ import annotations

import json
import sys
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


def main(arguments: list[str]) -> int:
    """Write the schemas, or with `--check` only report which are out of date; return the exit code."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m tools.schemas [--check]", file=sys.stderr)
        return 2
    out_of_date = find_stale(FOLDER)
    if arguments:
        if out_of_date:
            names = ", ".join(out_of_date)
            print(f"docs/schemas is out of date ({names}); run python -m tools.schemas", file=sys.stderr)
        return 1 if out_of_date else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in out_of_date:
        (FOLDER / name).unlink(missing_ok=True)
    for name, text in make_schemas().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
