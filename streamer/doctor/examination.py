"""Examines the machine and the settings for everything that is known to have spoiled a night."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import aiomqtt
import numpy as np
from aiomqtt import MqttError, ProtocolVersion
from rich.console import Console

from streamer.clock import SystemClock
from streamer.doctor import checks, files
from streamer.doctor.checks import Finding
from streamer.doctor.listening import check_devices
from streamer.errors import SinkError, SourceError
from streamer.host import private
from streamer.messages import Channel, Chunk, Score, StreamInfo
from streamer.network.stager import Model, open_model
from streamer.pipeline import Pipeline
from streamer.settings import SESSION_DIR, ModelSettings, Settings, SignalSettings
from streamer.sinks.client import MAYBE_OLD, Client, explain, failure, tls_context
from streamer.sinks.settings import LOOPBACK, MqttSettings
from streamer.sources.board import board_id, load_brainflow
from streamer.sources.liblsl import load_pylsl
from streamer.sources.settings import BrainflowSettings, LslSettings

LIBRARIES = (
    "numpy",
    "scipy",
    "onnxruntime",
    "pydantic",
    "aiomqtt",
    "amqtt",
    "pylsl",
    "brainflow",
    "edfio",
    "pyxdf",
)
LSL_PORTS = range(16572, 16605)
LSL_GROUP = "224.0.0.183"  # liblsl's multicast group of link scope
RADIO = ("MUSE", "GANGLION_NATIVE", "BRAINBIT", "UNICORN", "CALLIBRI", "BRAINALIVE", "EXPLORE", "SYNCHRONI")
RATE_HZ = 256
SPEED_S = 120  # seconds of signal with which the pipeline is timed
WAIT_S = 3.0

STYLES = {"ok": "green", "warning": "yellow", "failed": "red"}


def examine(settings: Settings | None) -> Iterator[Finding]:
    """Run every check, or without settings those that need none; blocks for some seconds."""
    yield checks.check_python(tuple(sys.version_info[:3]))
    yield from checks.check_libraries({name: _version(name) for name in LIBRARIES})
    yield checks.check_native("BrainFlow", _brainflow, _wants(settings, BrainflowSettings))
    wants_lsl = _wants(settings, LslSettings) or (settings is not None and settings.lsl is not None)
    yield checks.check_native("LSL", _liblsl, wants_lsl)
    yield from _lsl(settings)
    if settings is not None and settings.mqtt is not None:
        yield from _broker(settings.mqtt, settings.node)
    folder = settings.session_dir if settings else SESSION_DIR.expanduser()
    streams = len(settings.stream) if settings else 1
    yield checks.check_folder_private(folder, folder.exists() and private.seen_by_others(folder))
    yield checks.check_disk(
        folder, _free_bytes(folder), streams, settings.storage if settings else checks.KEPT
    )
    yield checks.check_clock(_ask("timedatectl", "show", "-p", "NTPSynchronized", "--value"))
    masked = _ask("systemctl", "is-enabled", "sleep.target") == "masked"
    yield checks.check_suspend(_ask("systemd-inhibit", "--list", "--no-legend"), masked)
    yield from _devices(settings)
    yield from files.check_recordings(settings)
    if settings is not None:
        yield from check_devices(settings, SystemClock())
    yield from _model(settings, streams)


def show(console: Console, finding: Finding) -> None:
    """Print one line, and under it what to do."""
    style = STYLES[finding.status]
    console.print(
        f"[{style}]{finding.status:8}[/] {finding.check}: ", end="", highlight=False, soft_wrap=True
    )
    console.print(finding.found, highlight=False, markup=False, soft_wrap=True)
    if finding.status != "ok" and finding.advice:
        console.print(f"         -> {finding.advice}", highlight=False, markup=False, soft_wrap=True)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _wants(settings: Settings | None, kind: type) -> bool:
    """Whether a stream of the settings comes from such a source."""
    return settings is not None and any(isinstance(stream.source, kind) for stream in settings.stream)


def _liblsl() -> str:
    return f"loads, liblsl {load_pylsl().library_version() / 100:.2f}"


def _brainflow() -> str:
    load_brainflow()
    return f"loads, with setuptools {_version('setuptools') or 'missing'}"


def _lsl(settings: Settings | None) -> Iterator[Finding]:
    """Check LSL's ports and files; and its group, which other machines notice, only if LSL may be wanted."""
    yield checks.check_lsl_ports([port for port in LSL_PORTS if _is_free(port)], LSL_PORTS)
    firewall = "open UDP 16571 and multicast, or list KnownPeers in lsl_api.cfg"
    if settings is None or settings.lsl is not None or _wants(settings, LslSettings):
        yield checks.check_attempt("LSL multicast", _join, f"may join {LSL_GROUP}", "failed", firewall)
    disable = "put '[ports]' and 'IPv6 = disable' into lsl_api.cfg"
    yield checks.check_attempt("IPv6", _bind_six, "works", "warning", disable)
    named = os.environ.get("LSLAPICFG")
    paths = [Path("lsl_api.cfg"), Path.home() / "lsl_api/lsl_api.cfg", Path("/etc/lsl_api/lsl_api.cfg")]
    candidates = [Path(named), *paths] if named else paths
    yield checks.check_lsl_config(named, {path: path.is_file() for path in candidates})


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _join() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        member = socket.inet_aton(LSL_GROUP) + socket.inet_aton("0.0.0.0")
        probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)


def _bind_six() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::1", 0))


def _broker(settings: MqttSettings, node: str) -> Iterator[Finding]:
    if settings.embedded:
        yield Finding(
            "broker",
            "ok",
            f"embedded, on port {settings.port}; it forgets everything when the engine restarts",
        )
        return
    start = "start it (sudo systemctl start mosquitto), or set [mqtt] host and port"
    yield checks.check_works("broker", lambda: asyncio.run(greet(settings, f"doctor-{node}")), start)
    folder = Path("/etc/mosquitto")
    texts = {}
    if settings.host in LOOPBACK:
        for path in (folder / "mosquitto.conf", *sorted(folder.glob("conf.d/*.conf"))):
            if path.is_file() and os.access(path, os.R_OK):
                texts[path] = path.read_text(encoding="utf-8", errors="replace")
    yield checks.check_broker_persistence(settings.host, texts)
    if settings.tls:
        yield from check_certificates(settings)


async def greet(settings: MqttSettings, node: str) -> str:
    """Connect to the broker and disconnect again; return a description of it.

    Raises:
        SinkError: the broker cannot be reached, or refuses.

    """
    tls, will = tls_context(settings), aiomqtt.Will(f"sleepstream/{node}/availability", "offline")
    for protocol in (ProtocolVersion.V5, ProtocolVersion.V311):
        client = Client(settings, tls, node, will, protocol)
        try:
            async with client:
                spoken = "5" if protocol is ProtocolVersion.V5 else "3.1.1"
                return f"{settings.host}:{settings.port} answers, MQTT {spoken}"
        except MqttError as error:
            client.abandon()
            if protocol is ProtocolVersion.V311 or failure(error) not in MAYBE_OLD:
                raise SinkError(explain(error, settings)) from error
    raise AssertionError("one of the two protocols returned or raised")


def check_certificates(settings: MqttSettings) -> Iterator[Finding]:
    """Check when the broker's certificate and the authorities in `ca_file` expire."""
    context = tls_context(settings)
    assert context is not None
    try:
        with (
            socket.create_connection((settings.host, settings.port), WAIT_S) as plain,
            context.wrap_socket(plain, server_hostname=settings.host) as secure,
        ):
            held = secure.getpeercert() or {}
    except OSError as error:
        yield Finding("TLS: broker", "failed", str(error), "renew the broker's certificate, or set ca_file")
    else:
        yield checks.check_tls_expiry("broker", ssl.cert_time_to_seconds(str(held["notAfter"])), time.time())
    if settings.ca_file is not None:
        for authority in context.get_ca_certs():
            assert isinstance(authority, dict)
            until = ssl.cert_time_to_seconds(str(authority["notAfter"]))
            yield checks.check_tls_expiry(settings.ca_file.name, until, time.time())


def _free_bytes(folder: Path) -> int | None:
    """Free space where `folder` is or would be created; None if that cannot be written."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free if os.access(folder, os.W_OK) else None


def _ask(*command: str) -> str | None:
    """Run a program and return its output; None if it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    answer = done.stdout.strip()
    return answer if done.returncode == 0 or answer == "masked" else None


def _devices(settings: Settings | None) -> Iterator[Finding]:
    sources = [stream.source for stream in settings.stream] if settings else []
    boards = [source for source in sources if isinstance(source, BrainflowSettings)]
    adapters = sorted(path.name for path in Path("/sys/class/bluetooth").glob("hci*") if ":" not in path.name)
    wanted = False
    for board in boards:
        try:
            wanted = _needs_radio(board) or wanted
        except SourceError:  # an unknown board is reported by the check of its channels
            continue
    yield checks.check_bluetooth(adapters, _radio_blocked(), wanted)
    ttl = [stream.ttl.port for stream in settings.stream if stream.ttl is not None] if settings else []
    for port in [*(board.serial_port for board in boards), *ttl]:
        if port:
            yield checks.check_serial_port(port, os.path.exists(port), os.access(port, os.R_OK | os.W_OK))


def _needs_radio(board: BrainflowSettings) -> bool:
    """Whether a board needs this computer's Bluetooth adapter."""
    names = {one.name: int(one) for one in load_brainflow().BoardIds}
    wanted = board_id(board.board, names)
    name = next(name for name, number in names.items() if number == wanted)
    return name.startswith(RADIO) and not board.serial_port


def _radio_blocked() -> bool:
    for kind in Path("/sys/class/rfkill").glob("rfkill*/type"):
        states = [kind.with_name(name) for name in ("soft", "hard")]
        if kind.read_text().strip() == "bluetooth" and any(s.read_text().strip() == "1" for s in states):
            return True
    return False


def _model(settings: Settings | None, streams: int) -> Iterator[Finding]:
    wanted = settings.model if settings else ModelSettings()
    loaded: list[Model] = []

    def load() -> str:
        model = open_model(wanted)
        loaded.append(model)
        return f"intact, weights {model.contract.weights_sha256[:12]}"

    yield checks.check_works("model", load, "install sleepstream again, or correct [model]")
    if loaded:
        hop_s = min(stream.hop_s for stream in settings.stream) if settings else 5
        yield checks.check_speed(measure_busy_fraction(loaded[0], hop_s), streams, hop_s)


def measure_busy_fraction(model: Model, hop_s: int) -> float:
    """Measure the share of real time for which one stream keeps a core busy, all stages included."""
    pipeline = Pipeline(
        StreamInfo("doctor", RATE_HZ, (Channel("Fpz-Cz", "uV"),), 0.0), SignalSettings(), hop_s, model
    )
    rng = np.random.default_rng(0)
    scored, begun = 0, time.perf_counter()
    for second in range(SPEED_S):
        chunk = Chunk(second * RATE_HZ, rng.standard_normal((1, RATE_HZ)) * 20)
        scored += sum(isinstance(output, Score) for output in pipeline.push(chunk))
    # The first 30 s have no scores: count as if all seconds had.
    return (time.perf_counter() - begun) / max(1, scored * hop_s)
