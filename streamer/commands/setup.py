"""`sleepstream setup`: asks a few questions and writes the settings."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import re
import secrets
import shutil
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from streamer import settings
from streamer.channels import choose
from streamer.commands.discovery import LslStream, find_lsl_streams
from streamer.commands.interview import Interview
from streamer.commands.unit import NAME, USER_FOLDER, Kind, find_groups, list_next_steps, make_unit
from streamer.errors import SettingsError, SleepstreamError, SourceError, UsageError
from streamer.host import private
from streamer.host.printable import printable
from streamer.host.standard import hush
from streamer.messages import Channel
from streamer.settings import StreamSettings

CONFIG = Path("~/.config/sleepstream/sleepstream.toml")
SOURCES = "a number, lsl (any EEG stream), lsl:NAME, brainflow:BOARD, rda:HOST or simulated"
Table = dict[str, str | int | bool]


@dataclass(slots=True)
class Answers:
    """The answers to the questions."""

    name: str = ""
    source: Table = field(default_factory=dict)
    labels: tuple[str, ...] = ()  # of the source's channels, if known
    channel: str = ""  # "": chosen by the labels
    mqtt: Table | None = None
    homeassistant: bool = False
    alarm: str = ""  # time of day; "": no alarm


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sleepstream setup`."""
    parser.add_argument(
        "--config", type=Path, default=CONFIG, metavar="C.toml", help=f"file to write (default: {CONFIG})"
    )
    parser.add_argument("--name", help="name of the sleeper")
    parser.add_argument("--source", help=SOURCES.removeprefix("a number, "))
    parser.add_argument("--channel", help="a label, or a difference A-B; auto: chosen by the labels")
    parser.add_argument(
        "--broker", metavar="HOST[:PORT]", help="MQTT broker; embedded: one inside the engine; none"
    )
    parser.add_argument(
        "--homeassistant",
        action=argparse.BooleanOptionalAction,
        help="announce the sleeper to Home Assistant",
    )
    parser.add_argument(
        "--alarm", metavar="HH:MM", help="wake at this time or a little earlier, in light sleep; none"
    )
    parser.add_argument("--fit", action=argparse.BooleanOptionalAction, help="check every electrode now")
    parser.add_argument(
        "--service", choices=(*get_args(Kind), "none"), help="write a systemd unit that runs it every night"
    )
    parser.add_argument(
        "--yes", action="store_true", help="take the default for everything that is not given"
    )


def run(asked: argparse.Namespace) -> int:
    """Ask, write the settings, and print the next steps; return the exit code."""
    interview = Interview(input if _at_terminal() else None, asked.yes)
    config = Path(os.path.abspath(asked.config.expanduser()))
    _refuse_taken(config, "--config")
    text = write_toml(_ask(interview, asked, _found(asked)))
    fitted = interview.agreed("--fit", asked.fit, "Check every electrode afterwards", usual=False)
    every_night = "Run it every night as a service (user, system, none)"
    kind = interview.question("--service", asked.service, every_night, "none", _kind)
    unit_file = None if kind is None else _unit_file(kind, config)
    _write_new(config, text, "--config")  # only now, so that an interview that is cut short writes nothing
    print(f"written: {config}")
    if kind is not None and unit_file is not None:
        _serve(kind, config, unit_file)
    code = _fit(config) if fitted else 0
    print(f"next: sleepstream doctor {config}, then sleepstream run {config}")
    return code


def _at_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _found(asked: argparse.Namespace) -> Sequence[LslStream]:
    """List the LSL streams that answer now, unless the source is given already."""
    if asked.source is not None or asked.yes or not _at_terminal():
        return ()
    print("Looking for LSL streams ...")
    try:
        with hush():
            streams = [one for one in find_lsl_streams() if not one.note or "source_id" in one.note]
    except SourceError as error:
        print(f"  {error}")
        return ()
    for number, one in enumerate(streams, 1):
        labels = " ".join(one.labels[:8]) or f"{one.channels} channels"
        print(f"  {number}: {one.name} (type {one.type}, {one.rate_hz:g} Hz, {labels})")
    if not streams:
        print("  none found; is a device switched on?")
    return streams


def _ask(interview: Interview, asked: argparse.Namespace, streams: Sequence[LslStream]) -> Answers:
    out = Answers()
    out.name = interview.question("--name", asked.name, "Name of the sleeper", _usual_name(), _name)
    usual = "1" if streams else "lsl"
    text = f"Source: {SOURCES if streams else SOURCES.removeprefix('a number, ')}"
    out.source, out.labels = interview.question(
        "--source", asked.source, text, usual, lambda answer: parse_source(answer, streams), needed=True
    )
    known = f" ({', '.join(out.labels)})" if out.labels else ""
    out.channel = interview.question(
        "--channel",
        asked.channel,
        f"Channel{known}",
        "auto",
        lambda answer: parse_channel(answer, out.labels),
    )
    out.mqtt = interview.question(
        "--broker", asked.broker, "MQTT broker (host, host:port, embedded, none)", "none", parse_broker
    )
    if out.mqtt is not None:
        out.homeassistant = interview.agreed(
            "--homeassistant", asked.homeassistant, "Announce it to Home Assistant", usual=True
        )
    elif asked.homeassistant:
        raise UsageError("--homeassistant needs a broker; give --broker")
    out.alarm = interview.question("--alarm", asked.alarm, "Wake by (HH:MM, none)", "none", parse_alarm)
    return out


def parse_source(answer: str, streams: Sequence[LslStream] = ()) -> tuple[Table, tuple[str, ...]]:
    """Parse the answer for the source: its table and, if known, the labels of its channels.

    Raises:
        UsageError: the answer is not valid.

    """
    if answer.isdecimal() and 1 <= int(answer) <= len(streams):
        one = streams[int(answer) - 1]
        table: Table = {"kind": "lsl", "name": one.name, "type": one.type}
        if sum(other.name == one.name for other in streams) > 1 and one.source_id:
            table["source_id"] = one.source_id
        return table, one.labels
    kind, _, what = answer.partition(":")
    tables: dict[str, Table] = {
        "lsl": {"kind": "lsl", "name": what} if what else {"kind": "lsl", "type": "EEG"},
        "simulated": {"kind": "simulated"},
    }
    if what:
        host, _, port = what.partition(":")
        tables["brainflow"] = {"kind": "brainflow", "board": what}
        tables["rda"] = {"kind": "rda", "host": host} | ({"port": int(port)} if port.isdecimal() else {})
    if kind not in tables or (kind == "simulated" and what):
        raise UsageError(f"{answer!r} is not a source: give {SOURCES}")
    _valid({"source": tables[kind]})
    return tables[kind], ()


def parse_channel(answer: str, labels: Sequence[str]) -> str:
    """Parse the answer for the channel; "" means chosen by the labels.

    Raises:
        UsageError: the source has no channel of that name.

    """
    if answer == "auto":
        return ""
    if labels:
        choose([Channel(label, "uV") for label in labels], answer)
    return answer


def parse_broker(answer: str) -> Table | None:
    """Parse the answer for the broker: its table, or None for no broker.

    Raises:
        UsageError: the answer is not valid.

    """
    if answer == "none":
        return None
    table: Table = {"embedded": True}
    if answer != "embedded":
        found = re.fullmatch(r"\[?([^\s\[\]]+?)\]?(?::(\d{1,5}))?", answer)
        if found is None:
            raise UsageError(f"{answer!r} is not a host or host:port")
        table = {"host": found[1]} | ({"port": int(found[2])} if found[2] else {})
    _valid({"source": {"kind": "simulated"}}, {"mqtt": table})
    return table


def parse_alarm(answer: str) -> str:
    """Parse the answer for the alarm: a time of day, or "" for none.

    Raises:
        UsageError: the answer is not a time of day.

    """
    if answer == "none":
        return ""
    _valid({"source": {"kind": "simulated"}, "alarm": {"deadline": answer}})
    return answer


def _name(answer: str) -> str:
    _valid({"name": answer, "source": {"kind": "simulated"}})
    return answer


def _kind(answer: str) -> Kind | None:
    for kind in get_args(Kind):
        if answer == kind:
            return kind  # type: ignore[no-any-return]  # what `get_args` gives has no type
    if answer == "none":
        return None
    raise UsageError(f"{answer!r} is neither user, system nor none")


def _valid(stream: dict[str, object], more: dict[str, object] | None = None) -> None:
    """Check an answer with the rules for settings."""
    try:
        settings.validate({"stream": [stream], **(more or {})}, "")
    except SettingsError as error:
        raise UsageError(str(error).removeprefix(": ")) from error


def _usual_name() -> str:
    """The user's login name, if it can be a stream's name."""
    try:
        name = re.sub(r"[^A-Za-z0-9_.-]", "", getpass.getuser())[:64]
    except (KeyError, OSError):
        name = ""
    return name or str(StreamSettings.model_fields["name"].default)


def write_toml(answers: Answers) -> str:
    """Write the answers as a settings file.

    Raises:
        SettingsError: the answers contradict each other.

    """
    lines = ["# Written by `sleepstream setup`. For every key see docs/ and examples/ in the source code."]
    if answers.mqtt is not None:
        lines += ["", "[mqtt]", *_keys(answers.mqtt)]
    if answers.mqtt is not None and "host" in answers.mqtt:
        lines += ["# user and password: SLEEPSTREAM_MQTT_USER, SLEEPSTREAM_MQTT_PASSWORD in the environment"]
    if answers.homeassistant:
        lines += ["", "[homeassistant]"]
    lines += ["", "[[stream]]", *_keys({"name": answers.name, "hop_s": 5})]
    lines += ["[stream.source]", *_keys(answers.source)]
    if answers.channel:
        lines += ["[stream.signal]", *_keys({"channel": answers.channel})]
    if answers.alarm:
        lines += ["[stream.alarm]", *_keys({"deadline": answers.alarm, "armed": True, "daily": True})]
    text = "\n".join(lines) + "\n"
    settings.validate(tomllib.loads(text), "these answers")
    return text


def _keys(table: Table) -> list[str]:
    """Format keys and values; JSON's values are valid TOML but for one character."""
    return [
        f"{key} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")
        for key, value in table.items()
    ]


def _refuse_taken(path: Path, option: str) -> None:
    if path.exists():
        raise UsageError(f"{path} exists and is not overwritten; move it, or give another {option}")


def _write_new(path: Path, text: str, option: str) -> None:
    """Write a new private file, completely or not at all.

    Raises:
        UsageError: the file exists, or cannot be written.

    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        private.make_folder(path.parent)
        private.write(part, text)
        os.link(part, path)  # fails if the file exists by now
    except FileExistsError:
        _refuse_taken(path, option)
        raise
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; give another {option}") from error
    finally:
        part.unlink(missing_ok=True)


def _fit(config: Path) -> int:
    """Run `fit`; a device that is not on yet is not an error of the setup."""
    from streamer.commands.fit import run as fit

    print("Press Ctrl-C when it shows: good to go")
    try:
        return fit(argparse.Namespace(config=config, stream=None, seconds=None))
    except SleepstreamError as error:
        print(printable(str(error)))
        return 1


def _unit_file(kind: Kind, config: Path) -> Path:
    """Path of the unit: among the user's units, or beside the settings, for root to install.

    Raises:
        UsageError: the file exists.

    """
    file = USER_FOLDER.expanduser() / NAME if kind == "user" else config.with_name(NAME)
    _refuse_taken(file, "--service")
    return file


def _serve(kind: Kind, config: Path, file: Path) -> None:
    """Write the unit, and print the commands that start it."""
    there, missing = find_groups()
    _write_new(file, make_unit(kind, config, there), "--service")
    print(f"written: {file}; to start it:")
    for line in list_next_steps(kind, file, missing):
        print(f"  {line}")
    if shutil.which("systemctl") is None:
        print("(this machine has no systemd)")
