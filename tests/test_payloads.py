"""Payloads: the published schemas are those of the models, and the documented examples are valid."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, FormatChecker, ValidationError

from streamer.payloads import KINDS, CommandPayload, to_json, utc
from tests.sinks import samples
from tools import schemas

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLE = re.compile(r"^```json (\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def _validator(kind):
    schema = json.loads((DOCS / "schemas" / f"{kind}.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FormatChecker())


def test_the_committed_schemas_are_those_of_the_models():
    assert schemas.find_stale(schemas.FOLDER) == [], "run python -m tools.schemas"


def test_check_finds_what_is_changed_missing_or_too_many(tmp_path):
    for name, text in schemas.make_schemas().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert schemas.find_stale(tmp_path) == []
    (tmp_path / "stage.json").write_text("{}")
    (tmp_path / "epoch.json").unlink()
    (tmp_path / "extra.json").write_text("{}")
    assert schemas.find_stale(tmp_path) == ["epoch.json", "extra.json", "stage.json"]


def test_the_command_writes_the_schemas_and_removes_others(tmp_path, monkeypatch):
    monkeypatch.setattr(schemas, "FOLDER", tmp_path)
    (tmp_path / "extra.json").write_text("{}")
    schemas.main()
    assert schemas.find_stale(tmp_path) == []


@pytest.mark.parametrize("model", KINDS)
def test_every_payload_is_valid_under_its_schema_and_comes_back(model):
    kind = KINDS[model]
    payload = getattr(samples, kind)(7)
    text = to_json(payload)
    _validator(kind).validate(json.loads(text))
    assert model.model_validate_json(text) == payload
    assert json.loads(text)["schema"] == f"sleepstream/{kind}/1"


@pytest.mark.parametrize("model", KINDS)
def test_a_reader_must_bear_new_fields_but_not_miss_old_ones(model):
    kind = KINDS[model]
    payload = json.loads(to_json(getattr(samples, kind)(7)))
    _validator(kind).validate(payload | {"added_in_some_later_release": 1})
    for field in payload:
        with pytest.raises(ValidationError):
            _validator(kind).validate({key: value for key, value in payload.items() if key != field})


def test_every_documented_example_is_valid():
    examples = EXAMPLE.findall((DOCS / "mqtt.md").read_text(encoding="utf-8"))
    assert {kind for kind, _ in examples} == {*KINDS.values(), "command"}
    for kind, text in examples:
        _validator(kind).validate(json.loads(text))
        model = next((model for model, name in KINDS.items() if name == kind), CommandPayload)
        model.model_validate_json(text)


def test_every_schema_is_named_in_the_documentation():
    text = (DOCS / "mqtt.md").read_text(encoding="utf-8")
    for name in schemas.make_schemas():
        assert f"schemas/{name}" in text


def test_times_are_utc_to_the_millisecond():
    assert utc(samples.NIGHT + 0.0004) == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert json.loads(to_json(samples.event(1)))["t"] == "2025-12-31T23:00:01Z"
