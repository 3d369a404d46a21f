"""Every check of the doctor's: how it looks when all is well, and when it is not; then the whole command."""

import asyncio
import json
import shutil
import subprocess
from collections import deque
from pathlib import Path

import numpy as np
import pytest

from streamer.cli import main
from streamer.doctor import checks, files, listening
from streamer.doctor import examination as doctor
from streamer.doctor.listening import listen_to
from streamer.errors import ArtifactError, SinkError, SourceError
from streamer.journal.settings import StorageSettings
from streamer.messages import Channel, Chunk, StreamInfo
from streamer.settings import SignalSettings, validate
from streamer.sinks.broker import Broker
from streamer.sinks.settings import MqttSettings
from tests.fakes import FakeClock
from tests.mosquitto import Mosquitto, free_port, needs_mosquitto
from tests.paths import default_model
from tests.recording_files import eeg, signal, write_edf

DAY = 86_400
INHIBITED = "sleepstream 1000 anna 4242 systemd-inhibit sleep:idle sleep staging block"
DELAYED = "NetworkManager 0 root 700 NetworkManager sleep NetworkManager needs to turn off networks delay"


def refuse():
    raise OSError(1, "Operation not permitted")


def broken():
    raise ArtifactError("model default.pt: its weights are not those its contract describes")


MOSQUITTO = Path("/etc/mosquitto/mosquitto.conf")


@pytest.mark.parametrize(
    ("finding", "status", "said"),
    [
        (checks.check_python((3, 12, 1)), "ok", "3.12.1"),
        (checks.check_python((3, 10, 0)), "failed", "3.10.0"),
        (checks.check_libraries({"torch": "2.9"})[0], "ok", "2.9"),
        (checks.check_libraries({"pylsl": None})[0], "failed", "missing"),
        (checks.check_works("model", lambda: "intact", "x"), "ok", "intact"),
        (checks.check_works("model", broken, "x"), "failed", "weights are not those"),
        (checks.check_attempt("IPv6", lambda: None, "works", "warning", "x"), "ok", "works"),
        (checks.check_attempt("IPv6", refuse, "works", "warning", "x"), "warning", "not permitted"),
        (checks.check_attempt("LSL multicast", refuse, "works", "failed", "x"), "failed", "not permitted"),
        (checks.check_lsl_ports(range(10, 43), range(10, 43)), "ok", "33 of 33"),
        (checks.check_lsl_ports([10, 11], range(10, 43)), "warning", "2 of 33"),
        (checks.check_lsl_ports([], range(10, 43)), "failed", "0 of 33"),
        (checks.check_lsl_config(None, {Path("a"): False}), "ok", "defaults"),
        (checks.check_lsl_config(None, {Path("a"): False, Path("b"): True}), "ok", "b"),
        (checks.check_lsl_config("c", {Path("c"): True}), "ok", "c (LSLAPICFG)"),
        (checks.check_lsl_config("c", {Path("c"): False, Path("b"): True}), "failed", "does not exist"),
        (
            checks.check_broker_persistence("localhost", {MOSQUITTO: "persistence true\n"}),
            "ok",
            "mosquitto.conf",
        ),
        (
            checks.check_broker_persistence("localhost", {MOSQUITTO: "#persistence true"}),
            "warning",
            "forgets",
        ),
        (checks.check_broker_persistence("localhost", {}), "warning", "no mosquitto.conf"),
        (checks.check_broker_persistence("10.0.0.2", {}), "warning", "another machine"),
        (checks.check_tls_expiry("broker", 90 * DAY, 0), "ok", "90 days"),
        (checks.check_tls_expiry("broker", 10 * DAY, 0), "warning", "expires in 10 days"),
        (checks.check_tls_expiry("broker", 0, 2 * DAY), "failed", "expired 2 days ago"),
        (checks.check_folder_private(Path("/x"), False), "ok", "only you can read it"),
        (checks.check_folder_private(Path("/x"), True), "warning", "other users of this machine can read it"),
        (checks.check_disk(Path("/x"), int(1e11), 4), "ok", "100.0 GB free"),
        (checks.check_disk(Path("/x"), int(3e9), 4), "warning", "3.0 GB free"),
        (checks.check_disk(Path("/x"), int(2e10), 4), "warning", "fewer than 30 more nights fit"),
        (checks.check_disk(Path("/x"), int(2e10), 4, StorageSettings(nights=9)), "ok", "20.0 GB free"),
        (
            checks.check_disk(Path("/x"), int(3e10), 4, StorageSettings(pack=False)),
            "warning",
            "fewer than 30",
        ),
        (checks.check_disk(Path("/x"), int(1e8), 4), "failed", "0.1 GB free"),
        (checks.check_disk(Path("/x"), None, 1), "failed", "cannot be written"),
        (checks.check_clock("yes"), "ok", "synchronised"),
        (checks.check_clock("no"), "warning", "not synchronised"),
        (checks.check_clock(None), "warning", "unknown"),
        (checks.check_suspend(INHIBITED, False), "ok", "inhibited by sleepstream"),
        (checks.check_suspend(DELAYED, False), "warning", "may suspend"),
        (checks.check_suspend("", False), "warning", "may suspend"),
        (checks.check_suspend(None, False), "warning", "no systemd"),
        (checks.check_suspend(None, True), "ok", "never suspends"),
        (checks.check_bluetooth(["hci0"], False, True), "ok", "hci0"),
        (checks.check_bluetooth([], False, False), "warning", "no adapter"),
        (checks.check_bluetooth([], False, True), "failed", "a board in the settings needs it"),
        (checks.check_bluetooth(["hci0"], True, True), "failed", "hci0 is blocked"),
        (checks.check_serial_port("/dev/ttyUSB0", True, True), "ok", "/dev/ttyUSB0"),
        (checks.check_serial_port("/dev/ttyUSB0", False, False), "failed", "missing"),
        (checks.check_serial_port("/dev/ttyUSB0", True, False), "failed", "no permission to open"),
        (checks.check_speed(0.01, 4, 5), "ok", "carries 50 streams"),
        (checks.check_speed(0.1, 4, 5), "warning", "carries 5 streams"),
        (checks.check_speed(0.3, 4, 5), "failed", "carries 1 streams"),
    ],
    ids=lambda value: f"{value.check}: {value.found}"[:40] if isinstance(value, checks.Finding) else None,
)
def test_each_check(finding, status, said):
    assert finding.status == status
    assert said in finding.found
    assert finding.advice or status == "ok"


def test_an_embedded_broker_answers_in_the_older_protocol():
    async def scenario():
        port = free_port()
        async with Broker(port, "127.0.0.1"):
            return await doctor.greet(MqttSettings(port=port, timeout_s=30), "doctor-test")

    assert asyncio.run(scenario()).endswith("answers, MQTT 3.1.1")


@needs_mosquitto
def test_a_real_broker_answers():
    with Mosquitto() as broker:
        said = asyncio.run(doctor.greet(MqttSettings(port=broker.port), "doctor-test"))
    assert said.endswith("answers, MQTT 5")


@needs_mosquitto
@pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl program is not installed")
def test_certificates_that_end_soon_are_told(tmp_path):
    key, paper = tmp_path / "key.pem", tmp_path / "paper.pem"
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 10 -subj /CN=broker"
    names = [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "keyUsage=critical,keyCertSign,digitalSignature",
    ]
    subprocess.run([*words.split(), "-keyout", key, "-out", paper, *names], check=True, capture_output=True)
    with Mosquitto(f"certfile {paper}", f"keyfile {key}") as broker:
        settings = MqttSettings(port=broker.port, tls=True, ca_file=paper)
        found = list(doctor.check_certificates(settings))
        (refused,) = doctor.check_certificates(MqttSettings(port=broker.port, tls=True))
    assert [(one.check, one.status) for one in found] == [
        ("TLS: broker", "warning"),
        ("TLS: paper.pem", "warning"),
    ]
    assert "expires in 10 days" in found[0].found
    assert refused.status == "failed"
    assert "self-signed" in refused.found


def test_a_broker_that_is_not_there_is_one_line():
    with pytest.raises(SinkError, match=r"127\.0\.0\.1:") as caught:
        asyncio.run(doctor.greet(MqttSettings(port=free_port()), "doctor-test"))
    assert "\n" not in str(caught.value)


def test_the_whole_command(tmp_path, capsys):
    config = tmp_path / "c.toml"
    source = '[stream.source]\nkind = "simulated"\n'
    config.write_text(f'session_dir = "{tmp_path}"\n[[stream]]\nname = "anna"\n{source}')
    assert main(["doctor", str(config), "--json"]) == 0
    found = {line["check"]: line for line in json.loads(capsys.readouterr().out)}
    assert found["model"]["status"] == found["BrainFlow"]["status"] == found["speed"]["status"] == "ok"
    assert {"python", "LSL ports", "IPv6", "disk", "clock", "suspend", "bluetooth"} <= set(found)
    assert "LSL multicast" not in found  # the network would hear of it, and no LSL was asked for
    assert "broker" not in found


def test_what_has_failed_makes_the_exit_code(tmp_path, capsys):
    config = tmp_path / "c.toml"
    config.write_text(
        f'session_dir = "{tmp_path}"\n[mqtt]\nport = {free_port()}\n[model]\npath = "none.pt"\n'
        '[[stream]]\nname = "anna"\n[stream.source]\nkind = "brainflow"\nboard = "cyten"\n'
        '[[stream]]\nname = "ben"\n[stream.source]\nkind = "brainflow"\nboard = "muse 2"\n'
        '[[stream]]\nname = "cleo"\n[stream.source]\nkind = "brainflow"\nboard = 0\n'
        'serial_port = "/dev/none"\n[stream.signal]\nchannel = "AF7"\n'
    )
    assert main(["doctor", str(config)]) == 1
    out = capsys.readouterr().out
    for line in (
        "failed   broker:",
        "failed   model:",
        "failed   device of anna: no BrainFlow board is called 'cyten'",
        "ok       device of ben: Muse2 (BrainFlow",
        "failed   device of cleo: no channel 'AF7'; there are",
    ):
        assert line in out
    assert "failed   serial port: /dev/none is missing" in out
    assert "-> plug the dongle in" in out


def test_the_configured_stream_is_looked_for_as_long_as_the_settings_say(monkeypatch):
    looked = []

    class Missing(Sending):
        async def __aenter__(self):
            raise SourceError("no LSL stream matches name 'Muse' within 33 s; there are: none")

    def opened(source, channel, clock):
        looked.append(source.resolve_s)
        return Missing(clock)

    monkeypatch.setattr(listening, "open_source", opened)
    data = {"stream": [{"name": "anna", "source": {"kind": "lsl", "name": "Muse", "resolve_s": 33}}]}
    (finding,) = listening.check_devices(validate(data, "test"), FakeClock())
    assert looked == [33]
    assert (finding.status, finding.advice) == ("warning", "switch it on, and run doctor again")
    assert "within 33 s; there are: none" in finding.found


def test_an_embedded_broker_needs_no_visit():
    data = {"mqtt": {"embedded": True}, "stream": [{"source": {"kind": "simulated"}}]}
    (finding,) = doctor._broker(validate(data, "test").mqtt, "node")
    assert finding.status == "ok"


def test_speed_is_a_share_of_real_time():

    assert 0 < doctor.measure_busy_fraction(default_model(), 30) < 1


def recording_in(path, **signal):
    settings = validate(
        {"stream": [{"name": "a", "source": {"kind": "replay", "path": path}, "signal": signal}]}, "test"
    )
    (finding,) = files.check_recordings(settings)
    assert finding.check == f"recording {path.name}"
    return finding.status, finding.found


def test_a_recording_is_looked_into(tmp_path):
    rows = [f"{n / 100:.2f},{value:.3f},x" for n, value in enumerate(eeg(60))]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["time,C4,note", *rows]) + "\n")
    status, found = recording_in(path)
    assert (status, found) == (
        "warning",
        "C4, 100 Hz; columns left out because they do not hold numbers: 'note'",
    )
    status, found = recording_in(path, unit="V")
    assert status == "failed"
    assert "too large for EEG" in found
    status, found = recording_in(path, channel="C3")
    assert status == "failed"
    assert "no channel 'C3'" in found
    path = write_edf(tmp_path / "a.edf", [signal(eeg(7200), 100, "C4-M1")])
    assert recording_in(path) == ("ok", "C4-M1, 100 Hz, 2.0 h")
    assert recording_in(tmp_path / "none.edf")[0] == "failed"


class Sending:
    """A device whose samples come in time, with what its source has to say of them."""

    def __init__(self, clock, remark="", samples=10, rate_hz=256.0):
        self.remarks = deque([remark] if remark else [])
        self.info = StreamInfo("Muse", rate_hz, (Channel("C3", "uV"),), 0.0)
        self._clock, self._samples = clock, samples

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exception):
        pass

    async def __aiter__(self):
        at = 0
        while True:
            await self._clock.sleep(1.0 if self._samples else 1e6)
            yield Chunk(at, np.zeros((1, self._samples)))
            at += self._samples


@pytest.mark.parametrize(
    ("made", "channel", "status", "said"),
    [
        (
            {},
            "C3",
            "ok",
            "Muse, channel C3, 256 Hz: 50 samples came, and its clock agrees with this computer's",
        ),
        ({"remark": "its times run 1000 times too fast"}, None, "warning", "run 1000 times too fast"),
        ({"samples": 0}, None, "warning", "it sends nothing"),
        ({}, "AF7-TP9", "failed", "Muse: no channel 'AF7-TP9'; there are: C3"),
        ({"rate_hz": 2000.0}, "C3", "failed", "has 2000 Hz; sleep staging needs 50 to 1024 Hz"),
    ],
)
def test_a_device_is_listened_to(made, channel, status, said):
    async def scenario():
        clock = FakeClock()
        hearing = asyncio.create_task(
            listen_to("anna", Sending(clock, **made), SignalSettings(channel=channel), clock)
        )
        for _ in range(20):
            await clock.advance(0.5)
        return await asyncio.wait_for(hearing, 60)

    finding = asyncio.run(scenario())
    assert (finding.check, finding.status) == ("device of anna", status)
    assert said in finding.found


def test_channels_that_the_page_is_to_show_are_looked_for_too():
    async def scenario():
        clock = FakeClock()
        sending, staged = Sending(clock), SignalSettings(channel="C3")
        hearing = asyncio.create_task(listen_to("anna", sending, staged, clock, ("C3", "EOG L")))
        for _ in range(20):
            await clock.advance(0.5)
        return await asyncio.wait_for(hearing, 60)

    finding = asyncio.run(scenario())
    assert finding.status == "warning"
    assert finding.found.startswith("Muse: a trace of the page is missing: no channel 'EOG L'; there are: C3")
    source = {"kind": "brainflow", "board": -1}
    lacking = validate({"web": {"traces": ["EOG L"]}, "stream": [{"name": "ben", "source": source}]}, "test")
    (finding,) = listening.check_devices(lacking, FakeClock())
    assert "no channel 'EOG L'" in finding.found
