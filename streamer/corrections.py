"""Turns pydantic's errors into messages that say what is wrong with a settings file and how to correct it."""

from __future__ import annotations

import datetime
import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from streamer.host.printable import printable

MOST = 8  # problems listed; further ones are only counted
SHOWN_CHARS = 60  # longer values are cut
NAME_PATTERN = r"^[A-Za-z0-9_.-]{1,64}$"
# Several levels; no wildcards, spaces or control characters (a broker hangs up when it gets those).
TOPIC_PATTERN = r"^[^+#\s\x00-\x1f\x7f-\x9f]{1,256}$"
SHA256_PATTERN = "^[0-9a-f]{64}$"
OSC_PATTERN = r"^/[!-~]*$"
PATTERNS: Final = {  # how to describe a value that does not match a setting's pattern
    NAME_PATTERN: "is not a valid name: use 1 to 64 letters, digits, _ . and -",
    TOPIC_PATTERN: "is not a valid MQTT topic: use 1 to 256 characters without + # and spaces",
    SHA256_PATTERN: "is not a sha256: write its 64 digits, 0-9 and a-f",
    OSC_PATTERN: "is not an OSC address: start it with / and use no spaces, as in '/sleep/stage'",
}
TIME = re.compile(r"(\d{1,2})[:.hH]?(\d{2})?(?:[:.]\d{2})?\s*([aApP])?\.?[mM]?\.?\s*(?:Uhr|h)?")
TIMES = ("time_parsing", "time_type", "time_from_datetime_inexact")
DATES = ("datetime_parsing", "datetime_type", "datetime_from_date_parsing", "timezone_aware")

Problem = Mapping[str, Any]  # as pydantic lists them


def describe_problems(problems: Sequence[Problem], data: object, known_keys: Sequence[str]) -> str:
    """Describe every problem, in one line.

    Args:
        problems: as `ValidationError.errors()` gives them.
        data: what was validated.
        known_keys: every key that settings may have, to suggest one for a misspelt key.

    """
    said: dict[str, str] = {}
    meant: set[str] = set()  # keys that are present, but misspelt
    for problem in sorted(_causes(problems), key=lambda one: one["type"] != "extra_forbidden"):
        where = _where(problem, data, known_keys)
        if problem["type"] == "extra_forbidden":
            said[where], near = _unknown(where, str(problem["loc"][-1]), known_keys)
            meant.add(".".join((*where.split(".")[:-1], near)))
            continue
        if problem["type"] == "missing" and where in meant:
            continue
        words = _in_words(problem, where)
        if where not in said:
            said[where] = f"{where}: {words}" if where else words
        elif not said[where].endswith(
            words
        ):  # several types are allowed here, and the value has none of them
            said[where] += f", and {words.removeprefix(_short(problem['input']) + ' ')}"
    # Where several types are allowed, list only the problems inside the value.
    inner = {
        where for where in said for other in said if where and re.match(rf"{re.escape(where)}[ .]", other)
    }
    kinds = {_where(one, data, known_keys) for one in problems if one["type"].endswith("_type")}
    listed = [text for where, text in said.items() if where not in inner & kinds]
    if len(listed) == 1:
        return listed[0]
    lines = [f"({number}) {text}" for number, text in enumerate(listed[:MOST], 1)]
    more = [f"and {len(listed) - MOST} more"] if len(listed) > MOST else []
    return f"{len(listed)} problems: {'; '.join(lines + more)}"


def _causes(problems: Sequence[Problem]) -> list[Problem]:
    """Leave out "list too short" where the list's entries themselves are wrong."""
    return [
        one
        for one in problems
        if one["type"] != "too_short"
        or not any(len(other["loc"]) > len(one["loc"]) and _within(other, one) for other in problems)
    ]


def _within(one: Problem, other: Problem) -> bool:
    return bool(one["loc"][: len(other["loc"])] == other["loc"])


def _where(problem: Problem, data: object, known_keys: Sequence[str]) -> str:
    """The dotted path of a value as written in the file, without the parts that pydantic adds."""
    keys: list[str] = []
    at = data
    last = len(problem["loc"]) - 1
    for depth, part in enumerate(problem["loc"]):
        if isinstance(at, Mapping) and part in at:
            at = at[part]
            keys.append(str(part))
        elif isinstance(at, list | tuple) and isinstance(part, int) and part < len(at):
            if len(at) > 1 and keys:
                keys[-1] += f" {part + 1}"
            at = at[part]
        elif depth == last and isinstance(at, Mapping) and part in known_keys:  # a missing key
            keys.append(str(part))
    return ".".join(printable(key) for key in keys)


def _unknown(where: str, key: str, known_keys: Sequence[str]) -> tuple[str, str]:
    """Describe an unknown key; return that and the key that was probably meant, or ""."""
    near = difflib.get_close_matches(key, known_keys, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown key {where!r}{hint}", near[0] if near else ""


def _in_words(problem: Problem, where: str) -> str:
    kind, value, context = str(problem["type"]), problem["input"], problem.get("ctx", {})
    if kind == "missing" and where == "stream":
        return "missing; each sleeper needs a [[stream]] with a [stream.source]"
    if kind == "tuple_type" and isinstance(value, Mapping):
        return f"this table can occur several times; write its heading with double brackets, [[{where}]]"
    if isinstance(value, float) and math.isnan(value):
        return "nan is not a number"
    if kind in WORDS:
        return WORDS[kind](_short(value), context)
    if kind in TIMES:
        return f"{_short(value)} is not a time of day; write it as {_time(value)}"
    if kind in DATES:
        return f"{_short(value)} is not a time with a UTC offset; write it as '2026-01-31T23:00:00+01:00'"
    if kind == "value_error":
        text = str(problem["msg"]).removeprefix("Value error, ")
        return (
            text if isinstance(value, Mapping) or _short(value) in text else f"{text}, found {_short(value)}"
        )
    return f"{str(problem['msg'])[:1].lower()}{str(problem['msg'])[1:]}, found {_short(value)}"


def _short(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    text = printable(repr(str(value) if isinstance(value, Path) else value))
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "..."


def _time(value: object) -> str:
    """The time of day that was probably meant, correctly written, or else an example."""
    found = TIME.fullmatch(str(value).strip())
    if found:
        hour, minute = int(found[1]), int(found[2] or 0)
        if found[3] and 1 <= hour <= 12:
            hour = hour % 12 + (12 if found[3] in "pP" else 0)
        if hour < 24 and minute < 60:
            return f"'{hour:02d}:{minute:02d}'"
    return "'07:00'"


def _choice(value: str, context: Mapping[str, Any]) -> str:
    return f"{value} is not one of {context['expected']}".replace(" or ", ", ")


def _pattern(value: str, context: Mapping[str, Any]) -> str:
    return f"{value} {PATTERNS.get(context['pattern'], 'has the wrong form')}"


def _tag(value: str, context: Mapping[str, Any]) -> str:
    return f"kind = {context['tag']!r} is not one of {context['expected_tags']}"


def _fixed(text: str) -> Callable[[str, Mapping[str, Any]], str]:
    return lambda value, context: text.format(value=value, **context)


_WHOLE = _fixed("{value} is not a whole number")
_NUMBER = _fixed("{value} is not a number")
_SWITCH = _fixed("{value} is not a switch; write true or false")
_TEXT = _fixed("{value} is not text; put it in quotes")
_LIST = _fixed("{value} is not a list; put it in [ ]")
_TABLE = _fixed("{value} is not a table; write a heading in [ ] and the keys below it")
WORDS: Final[dict[str, Callable[[str, Mapping[str, Any]], str]]] = {
    "missing": _fixed("missing"),
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "bool_type": _SWITCH,
    "bool_parsing": _SWITCH,
    "string_type": _TEXT,
    "path_type": _TEXT,
    "tuple_type": _LIST,
    "model_type": _TABLE,
    "model_attributes_type": _TABLE,
    "greater_than": _fixed("{value} is too small; it must be above {gt:g}"),
    "greater_than_equal": _fixed("{value} is too small; the minimum is {ge:g}"),
    "less_than": _fixed("{value} is too large; it must be below {lt:g}"),
    "less_than_equal": _fixed("{value} is too large; the maximum is {le:g}"),
    "string_too_short": _fixed("{value} is too short; write at least {min_length} character"),
    "string_too_long": _fixed("{value} is too long; the maximum is {max_length} characters"),
    "too_short": _fixed("it has {actual_length} entries, but needs at least {min_length}"),
    "too_long": _fixed("it has {actual_length} entries, but may have at most {max_length}"),
    "literal_error": _choice,
    "string_pattern_mismatch": _pattern,
    "union_tag_invalid": _tag,
    "union_tag_not_found": _fixed(
        "kind is missing; write kind = 'lsl', 'brainflow', 'rda', 'replay' or 'simulated'"
    ),
}
