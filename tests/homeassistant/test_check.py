"""The check against a whole Home Assistant (`python -m tests.homeassistant`): what of it needs none."""

import base64
import hashlib
import hmac
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from streamer.errors import RunError
from streamer.settings import validate
from streamer.sinks.homeassistant import WORDS, device
from streamer.sources.rda_messages import HEADER, START, read_body, read_header
from tests.homeassistant import band, core, environment, expected
from tests.homeassistant.__main__ import DOCS, documented, main

ROOT = Path(__file__).parents[2]
STAGE = {
    "stage": "N3",
    "confidence": 0.914,
    "quality": {"grade": "good", "lost_fraction": 0.0},
    "stage_lasted_s": 90.0,
}
SHOWN = {
    "stage": "Deep sleep",
    "confidence": "91.4",
    "quality": "good",
    "lost": "0.0",
    "stage_duration": "1.5",
    "asleep": "on",
    "worn": "on",
}


def anna():
    stream = {"name": "anna", "source": {"kind": "rda"}, "alarm": {"deadline": "07:00"}}
    ready = validate({"stream": [stream | {"trigger": [{"name": "deep", "stages": ["N3"]}]}]}, "x")
    return device("check", ready.stream[0], 600)


def test_states_are_compared_with_what_was_published():
    assert expected.differing(SHOWN, {"stage": STAGE}) == []
    assert expected.differing(SHOWN, {"stage": STAGE | {"stage": "W"}}) == [
        "stage: Home Assistant shows 'Deep sleep', published was 'Awake'",
        "asleep: Home Assistant shows 'on', published was 'off'",
    ]
    (line,) = expected.differing(SHOWN | {"lost": "unavailable"}, {"stage": STAGE})
    assert line == "lost: Home Assistant shows 'unavailable', published was 0.0"
    assert expected.differing({}, {"stage": STAGE}, ("night",)) == []
    assert len(expected.differing({}, {"stage": STAGE})) == len(SHOWN)


@pytest.mark.parametrize(
    ("wanted", "shown", "same"),
    [
        (None, "unknown", True),
        (None, "0", False),
        (12.34, "12.3", True),
        (12.34, "12.5", False),
        (12.34, "unavailable", False),
        ("2026-01-02T07:00:00Z", "2026-01-02T07:00:00+00:00", True),
        ("2026-01-02T07:00:00Z", "2026-01-02T08:00:00+00:00", False),
        ("2026-01-02T07:00:00Z", "unknown", False),
        ("07:00", "07:00", True),
        ("good", "fair", False),
    ],
)
def test_a_state_says_what_was_published_or_not(wanted, shown, same):
    assert expected.alike(wanted, shown) is same


def test_every_component_of_a_device_is_looked_for_and_most_are_compared():
    device = anna()
    states = [
        {
            "entity_id": f"{one['platform']}.x{number}",
            "attributes": {"friendly_name": f"Sleep of anna {one['name']}"},
        }
        for number, one in enumerate(device["components"].values())
    ]
    found, missing = expected.entities(device, states)
    assert (set(found), missing) == (set(device["components"]), [])
    found, missing = expected.entities(device, states[1:])
    assert missing == ["sensor 'Sleep of anna Stage'"]
    apart = {"latency", "lights_off", "lights_on", "snooze", "dismiss", "trigger", "alarm_event"}
    assert set(device["components"]) - set(expected.SHOWN) == apart
    assert expected.STAGES == WORDS


def test_a_core_is_set_up_without_what_calls_its_maker():
    files = core.settings(8199, documented(DOCS.read_text(encoding="utf-8")))
    plain = files["configuration.yaml"]
    assert "default_config" not in plain
    assert "server_host: 127.0.0.1\n  server_port: 8199" in plain
    assert "action: input_boolean.turn_on" in plain
    assert "light." not in plain
    stored = {name: json.loads(text) for name, text in files.items() if name != "configuration.yaml"}
    assert set(stored[".storage/onboarding"]["data"]["done"]) == set(core.EVERYTHING)
    assert not any(stored[".storage/core.analytics"]["data"]["preferences"].values())
    (owner,) = stored[".storage/auth"]["data"]["users"]
    (token,) = stored[".storage/auth"]["data"]["refresh_tokens"]
    assert owner["is_owner"]
    assert token["user_id"] == owner["id"]
    head, body, mark = core.token(1e9).split(".")
    signed = hmac.new(token["jwt_key"].encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
    assert base64.urlsafe_b64decode(mark + "=") == signed
    assert json.loads(base64.urlsafe_b64decode(body + "==="))["iss"] == token["id"]


def test_a_page_without_an_automation_is_refused():
    with pytest.raises(RunError, match="shows no automation"):
        documented("# Home Assistant")


def test_what_integrations_need_is_found_through_those_they_need():
    said = {
        "mqtt": {"requirements": ["paho-mqtt==2"], "dependencies": ["http", "file_upload"]},
        "http": {"requirements": ["aiohttp==3"], "dependencies": ["mqtt"]},  # a circle does no harm
        "cloud": {"requirements": ["calls-home==1"]},
    }
    assert environment.requirements(said, ["mqtt", "gone"]) == ["aiohttp==3", "paho-mqtt==2"]


def test_manifests_are_read(tmp_path):
    folder = tmp_path / "components" / "mqtt"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"domain": "mqtt"}')
    assert environment.manifests(tmp_path) == {"mqtt": {"domain": "mqtt"}}


def test_the_newest_python_that_works_is_taken(tmp_path):
    for version, works in (("3.19", False), ("3.18", True)):
        program = tmp_path / f"{version}.0" / "bin" / f"python{version}"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\nexit {0 if works else 127}\n")
        program.chmod(0o755)
    assert environment.newest_python(tmp_path).endswith("python3.18")


def test_only_versions_with_device_discovery_will_do():
    assert [environment.new_enough(one) for one in ("2024.3.3", "2024.11.0", "2025.4.4")] == [
        False,
        True,
        True,
    ]


def test_what_cannot_be_installed_is_one_line(tmp_path, capsys):
    assert main(["--work", str(tmp_path), "--python", "/bin/false"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: /bin/false -m venv")
    assert said.count("\n") == 1


def test_the_band_says_what_the_engine_reads():
    samples = np.arange(20.0).reshape(2, 10)
    said = band.start(100.0, ["Fpz-Cz", "EOG"])
    kind, size = read_header(said[: HEADER.size])
    begun = read_body(kind, said[HEADER.size :], None)
    assert (kind, size) == (START, len(said) - HEADER.size)
    said = band.block(7, samples)
    kind, _ = read_header(said[: HEADER.size])
    read = read_body(kind, said[HEADER.size :], begun)
    assert np.array_equal(read.samples, samples)


def test_in_a_network_of_its_own_nobody_is_reached():
    code = (
        "import socket\n"
        "from tests.homeassistant.alone import shut_in\n"
        "shut_in(())\n"
        "print([name for _, name in socket.if_nameindex()])\n"
        "here = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(here.getsockname()).close()\n"
        "try: socket.create_connection(('192.0.2.1', 80), 5)\n"
        "except OSError as error: print(error.strerror)\n"
    )
    begun = "import sys; from tests.homeassistant.alone import shut_in; shut_in(('-c', sys.argv[1]))"
    said = subprocess.run(
        [sys.executable, "-c", begun, code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    assert said.stdout.splitlines() == ["['lo']", "Network is unreachable"]
