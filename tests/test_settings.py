"""TOML files: what is accepted, and the one line that says what is wrong with the rest."""

import typing
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest
from hypothesis import given
from pydantic import BaseModel, TypeAdapter

from streamer.corrections import PATTERNS
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
        ('path = "night.edf"', "", "stream.source.path: missing"),
        ("hop_s = 5", "hop_s = 31", "stream.hop_s: 31 is too large; the maximum is 30"),
        ("hop_s = 5", "hop_s = 2.5", "hop_s"),
        ('name = "anna"', 'name = "a/b"', "a/b"),
        ('name = "anna"', 'name = "#"', "#"),
        ('node = "bedroom"', 'node = ""', "node"),
        *(
            ('name = "anna"', f'name = "{name}"', "stream.name")
            for name in ("+", "a+", "a\\u0000", "a\\n", "$a")
        ),
        *(('node = "bedroom"', f'node = "{name}"', "node") for name in ("+", "a/b", "#", "a\\u0000", "$SYS")),
        *(
            ("[mqtt]", f'[{table}]\n{key} = "{topic}"\n[mqtt]', f"{table}.{key}")
            for table, key in TOPICS
            for topic in ("+", "a/#", "a\\u0000b", "a b", "a\\n", "", "a" * 257)
        ),
        ('speed = "max"', "speed = -1", "speed"),
        ("[[stream]]", "[stream]", "double brackets, [[stream]]"),
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
    with pytest.raises(SettingsError, match="stream: missing; each sleeper needs"):
        validate({}, "test")


def wrong(tmp_path, tail):
    """What is said of a good file with more at its end, without the file's name."""
    return _said(tmp_path, GOOD + tail).partition(": ")[2]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("'7:00'", "07:00"),
        ("'7'", "07:00"),
        ("'7.30'", "07:30"),
        ("'7h05'", "07:05"),
        ("'2315'", "23:15"),
        ("'7:30 pm'", "19:30"),
        ("'12:15 a.m.'", "00:15"),
        ("'25:00'", "07:00"),  # no time at all: an example
        ("7", "07:00"),  # seconds, for pydantic
        ("true", "07:00"),
    ],
)
def test_a_time_of_day_is_shown_as_it_has_to_be_written(tmp_path, written, meant):
    said = wrong(tmp_path, f"[stream.alarm]\ndeadline = {written}\n")
    assert said == f"stream.alarm.deadline: {written} is not a time of day; write it as '{meant}'"


def test_everything_that_is_wrong_is_listed_in_one_line(tmp_path):
    said = wrong(
        tmp_path,
        "mains_hz = 55\n[stream.alarm]\ndeadline = '7:00'\nwindow_mn = 3\n[web]\nport = 99999\n",
    )
    assert said == (
        "4 problems: (1) unknown key 'stream.alarm.window_mn'; did you mean 'window_min'?; "
        "(2) web.port: 99999 is too large; the maximum is 65535; "
        "(3) stream.signal.mains_hz: 55 is not one of 50, 60; "
        "(4) stream.alarm.deadline: '7:00' is not a time of day; write it as '07:00'"
    )
    many = "".join(f"x{number} = 1\n" for number in range(30))
    assert "30 problems" in (said := _said(tmp_path, many + GOOD))
    assert "and 22 more" in said


def test_a_misspelt_key_is_not_also_missing(tmp_path):
    said = _said(tmp_path, GOOD.replace('path = "night.edf"', 'pth = "night.edf"'))
    assert said.endswith("unknown key 'stream.source.pth'; did you mean 'path'?")


def test_with_several_sleepers_it_is_said_which(tmp_path):
    second = '[[stream]]\nname = "ben"\nhop_s = 0\nsource = {kind = "lsl", resolve_s = "1m"}\n'
    assert wrong(tmp_path, second) == (
        "2 problems: (1) stream 2.hop_s: 0 is too small; the minimum is 1; "
        "(2) stream 2.source.resolve_s: '1m' is not a number"
    )


def test_a_value_of_several_kinds_is_told_once(tmp_path):
    assert "(2)" not in (said := _said(tmp_path, GOOD.replace('"max"', '"fast"')))
    assert "'fast' is not a number, and is not one of 'max'" in said
    said = _said(tmp_path, GOOD.replace('"AF7-TP9"', '["AF7", 3]'))
    assert said.endswith("stream.signal.channel 2: 3 is not text; put it in quotes")


def _patterns(schema):
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from _patterns(part)


def test_every_pattern_has_words():
    assert set(_patterns(Settings.model_json_schema())) == set(PATTERNS)


@pytest.mark.slow
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.times() | st.datetimes(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
        max_leaves=5,
    ),
    key=st.sampled_from([*Settings.model_fields, "alarm", "source", "signal", "trigger", "name", "x"]),
)
@hypothesis.settings(max_examples=150, deadline=None)
def test_whatever_a_file_says_the_answer_is_one_line_in_words(value, key):
    stream = {"source": {"kind": "simulated"}}
    data = {"stream": [stream]}
    (data if key in Settings.model_fields else stream)[key] = value
    said = ""
    try:
        validate(data, "c.toml")
    except SettingsError as error:
        said = str(error)
    assert said.isprintable()
    assert "ydantic" not in said


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
    with pytest.raises(
        SettingsError, match="session_dir: ~ cannot be used here, as this user has no home folder"
    ):
        validate({"stream": [{"source": {"kind": "simulated"}}]}, "here")
