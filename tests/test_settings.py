"""TOML files: what is accepted, and the one line that says what is wrong with the rest."""

import typing
from pathlib import Path

import pytest
from pydantic import BaseModel, TypeAdapter

from streamer.errors import SettingsError
from streamer.settings import Settings, load, validate
from streamer.sources.settings import ReplaySettings
from streamer.tables import Table

GOOD = """
node = "bedroom"
[mqtt]
embedded = true
[[stream]]
name = "anna"
hop_s = 5
[stream.source]
kind = "replay"
path = "night.edf"
speed = "max"
[stream.signal]
channel = "AF7-TP9"
"""


TOPICS = (("homeassistant", "prefix"), ("homeassistant", "status_topic"), ("sleep_as_android", "topic"))


def _said(tmp_path, text):
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_good_file_is_read(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(GOOD)
    settings = load(path)
    (stream,) = settings.stream
    assert isinstance(stream.source, ReplaySettings)
    assert (stream.name, stream.hop_s, stream.source.speed, stream.signal.channel) == (
        "anna",
        5,
        "max",
        "AF7-TP9",
    )


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("hop_s = 5", "hop = 5"),
        ("[mqtt]", "[mqqt]"),
        ("embedded = true", "embeded = true"),
        ("channel", "chanel"),
    ],
)
def test_a_misspelt_key_is_named_with_the_nearest_right_one(tmp_path, wrong, right):
    said = _said(tmp_path, GOOD.replace(wrong, right))
    assert "did you mean" in said
    assert wrong.strip("[]").split(" ")[0] in said


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('kind = "replay"', 'kind = "tape"', "'tape'"),
        ('path = "night.edf"', "", "stream.0.source.replay.path"),
        ("hop_s = 5", "hop_s = 31", "less than or equal to 30"),
        ("hop_s = 5", "hop_s = 2.5", "hop_s"),
        ('name = "anna"', 'name = "a/b"', "a/b"),
        ('name = "anna"', 'name = "#"', "#"),
        ('node = "bedroom"', 'node = ""', "node"),
        *(
            ('name = "anna"', f'name = "{name}"', "stream.0.name")
            for name in ("+", "a+", "a\\u0000", "a\\n", "$a")
        ),
        *(('node = "bedroom"', f'node = "{name}"', "node") for name in ("+", "a/b", "#", "a\\u0000", "$SYS")),
        *(
            ("[mqtt]", f'[{table}]\n{key} = "{topic}"\n[mqtt]', f"{table}.{key}")
            for table, key in TOPICS
            for topic in ("+", "a/#", "a\\u0000b", "a b", "a\\n", "", "a" * 257)
        ),
        ('speed = "max"', "speed = -1", "speed"),
        ("[[stream]]", "[stream]", "stream"),
        ("[mqtt]", "[mqtt", "not valid TOML"),
    ],
)
def test_a_wrong_value_is_named(tmp_path, old, new, expected):
    assert expected in _said(tmp_path, GOOD.replace(old, new))


def test_who_brings_a_stream_of_their_own_needs_none_in_the_file(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[model]\nthreads = 2\n")
    with pytest.raises(SettingsError, match="stream"):
        load(path)
    assert load(path, {"name": "x", "source": {"kind": "simulated"}}).model.threads == 2
    path.write_text('[[stream]]\nname = "anna"\nsource = {kind = "simulated"}\n')
    assert load(path, {"name": "x", "source": {"kind": "simulated"}}).stream[0].name == "anna"


def test_two_streams_of_one_name_are_refused(tmp_path):
    stream = GOOD[GOOD.index("[[stream]]") :]
    assert "two streams are named 'anna'" in _said(tmp_path, GOOD + stream)


def test_a_missing_file_a_folder_and_a_binary_are_refused(tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.toml", tmp_path, tmp_path / "binary.toml"):
        with pytest.raises(SettingsError, match="cannot read settings"):
            load(path)


def test_nothing_at_all_names_what_is_missing():
    with pytest.raises(SettingsError, match="stream: Field required"):
        validate({}, "test")


def models():
    """Every model of the settings, however deep."""
    todo, seen = [Settings], set()
    while todo:
        model = todo.pop()
        if model not in seen:
            seen.add(model)
            for field in model.model_fields.values():
                todo += [
                    one
                    for one in inside(field.annotation)
                    if isinstance(one, type) and issubclass(one, BaseModel)
                ]
    return sorted(seen, key=lambda model: model.__name__)


def inside(annotation):
    """What a type is made of."""
    parts = typing.get_args(annotation)
    return [annotation] if not parts else [deeper for part in parts for deeper in inside(part)]


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_every_table_is_strict_and_its_defaults_are_held_to_its_own_rules(model):
    assert issubclass(model, Table)
    assert model.model_config["validate_default"]
    assert model.model_config["extra"] == "forbid"
    for name, field in model.model_fields.items():
        if Path in inside(field.annotation):
            rule = TypeAdapter(
                typing.Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
            )
            assert rule.validate_python("~/x") == Path.home() / "x", name


def test_without_a_session_dir_no_folder_named_tilde_is_made(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    ready = validate({"stream": [{"source": {"kind": "simulated"}}]}, "here")
    assert ready.session_dir == tmp_path / ".local/share/sleepstream"


def test_without_a_home_the_user_is_told_what_to_write(monkeypatch):
    def homeless(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(SettingsError, match="session_dir: no home folder is known here"):
        validate({"stream": [{"source": {"kind": "simulated"}}]}, "here")
