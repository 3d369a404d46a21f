"""Judges facts about a machine before a night. The functions take facts; none collects any itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streamer.errors import SleepstreamError
from streamer.journal.disk import ENOUGH, PACKED
from streamer.journal.settings import StorageSettings
from streamer.sinks.settings import LOOPBACK

Status = Literal["ok", "warning", "failed"]

LEAST_PYTHON = (3, 11)
NIGHT_H = 10
BYTES_PER_S = 256 * 8 * 4  # of a large headband: 8 channels of float32 at 256 Hz
INDEX = 1.3  # size of the file relative to its samples
EXPIRY_DAYS = 30  # a certificate that expires sooner is a warning
KEPT = StorageSettings()
LOAD = 0.5  # share of one core for staging; the rest is for sinks, the system and peaks


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: what was checked, the result, what was found, and what to do."""

    check: str
    status: Status
    found: str
    advice: str = ""


def check_python(running: tuple[int, ...]) -> Finding:
    """Check the version of Python."""
    found = ".".join(map(str, running[:3]))
    if running[:2] < LEAST_PYTHON:
        return Finding("python", "failed", found, "install Python 3.11 or newer")
    return Finding("python", "ok", found)


def check_libraries(versions: Mapping[str, str | None]) -> list[Finding]:
    """Check that libraries are installed; `versions` by name, None if missing."""
    return [
        Finding(f"library {name}", "ok", found)
        if found
        else Finding(f"library {name}", "failed", "missing", f"pip install {name}")
        for name, found in versions.items()
    ]


def check_works(check: str, attempt: Callable[[], str], advice: str) -> Finding:
    """Call `attempt`, which returns a description, or raises an error if something does not work."""
    try:
        return Finding(check, "ok", attempt())
    except SleepstreamError as error:
        return Finding(check, "failed", str(error), advice)


def check_native(library: str, load: Callable[[], str], wanted: bool) -> Finding:
    """Check a library that drives devices; if it is missing, that is a failure only if it is `wanted`."""
    try:
        return Finding(library, "ok", load())
    except SleepstreamError as error:
        found, _, advice = str(error).partition("; ")
        rest = (
            "the settings need it" if wanted else "recordings, simulations and other devices work without it"
        )
        return Finding(library, "failed" if wanted else "warning", f"{found} ({rest})", advice)


def check_attempt(
    check: str, attempt: Callable[[], object], found: str, worse: Status, advice: str
) -> Finding:
    """Try something that the operating system may refuse with an OSError."""
    try:
        attempt()
    except OSError as error:
        return Finding(check, worse, error.strerror or str(error), advice)
    return Finding(check, "ok", found)


def check_lsl_ports(free: Sequence[int], wanted: range) -> Finding:
    """Check how many of liblsl's ports are free; every outlet and inlet needs two."""
    found = f"{len(free)} of {len(wanted)} ports free ({wanted.start}-{wanted.stop - 1})"
    if not free:
        return Finding(
            "LSL ports", "failed", found, "close other LSL programs, or set [ports] in lsl_api.cfg"
        )
    if len(free) < 8:
        return Finding(
            "LSL ports", "warning", found, "enough for a few streams only; close other LSL programs"
        )
    return Finding("LSL ports", "ok", found)


def check_lsl_config(named: str | None, candidates: Mapping[Path, bool]) -> Finding:
    """Check which lsl_api.cfg liblsl reads: the one named by LSLAPICFG, else the first that exists."""
    if named is not None:
        exists = candidates.get(Path(named), False)
        if exists:
            return Finding("LSL configuration", "ok", f"{named} (LSLAPICFG)")
        return Finding(
            "LSL configuration", "failed", f"LSLAPICFG names {named}, which does not exist", "unset LSLAPICFG"
        )
    used = next((path for path, exists in candidates.items() if exists), None)
    return Finding("LSL configuration", "ok", str(used) if used else "none; liblsl's defaults")


def check_broker_persistence(host: str, configurations: Mapping[Path, str]) -> Finding:
    """Check whether mosquitto keeps retained and queued messages over a restart; by default it does not."""
    check = "broker persistence"
    advice = "put 'persistence true' and 'autosave_interval 60' into mosquitto.conf"
    if host not in LOOPBACK:
        return Finding(check, "warning", f"unknown: {host} is another machine", advice)
    if not configurations:
        return Finding(check, "warning", "unknown: no mosquitto.conf can be read", advice)
    for path, text in configurations.items():
        if re.search(r"^\s*persistence\s+true\b", text, re.MULTILINE):
            return Finding(check, "ok", f"on in {path}")
    return Finding(check, "warning", "off: a restarted broker forgets retained stages", advice)


def check_tls_expiry(what: str, not_after: float, now: float) -> Finding:
    """Check how long a certificate is valid; both times in Unix seconds."""
    days = (not_after - now) / 86_400
    if days <= 0:
        return Finding(f"TLS: {what}", "failed", f"expired {-days:.0f} days ago", "renew it")
    if days < EXPIRY_DAYS:
        return Finding(f"TLS: {what}", "warning", f"expires in {days:.0f} days", "renew it")
    return Finding(f"TLS: {what}", "ok", f"valid for {days:.0f} days")


def check_folder_private(folder: Path, seen: bool) -> Finding:
    """Check whether other users of this machine can read the folder with the nights."""
    if seen:
        found = f"{folder}: other users of this machine can read it"
        return Finding("session folder", "warning", found, f"unless you want that, run: chmod 700 {folder}")
    return Finding("session folder", "ok", f"{folder}: only you can read it")


def check_disk(folder: Path, free_bytes: int | None, streams: int, rule: StorageSettings = KEPT) -> Finding:
    """Check the space for the nights of `streams`; `free_bytes` is None if the folder cannot be written."""
    if free_bytes is None:
        return Finding("disk", "failed", f"{folder} cannot be written", "choose another session_dir")
    needed = int(streams * NIGHT_H * 3600 * BYTES_PER_S * INDEX)
    found = f"{free_bytes / 1e9:.1f} GB free in {folder}, a night needs up to {needed / 1e9:.1f} GB"
    if free_bytes < needed:
        return Finding("disk", "failed", found, "free some space, or choose another session_dir")
    if free_bytes < 3 * needed:
        return Finding("disk", "warning", found, "free some space before the next nights")
    if not rule.bounded and free_bytes < ENOUGH * needed * (PACKED if rule.pack else 1.0):
        advice = "free some space, or set in [storage] of how many nights to keep the raw samples"
        return Finding("disk", "warning", f"{found}: fewer than {ENOUGH} more nights fit", advice)
    return Finding("disk", "ok", found)


def check_clock(answer: str | None) -> Finding:
    """Check the output of `timedatectl show -p NTPSynchronized --value`; None if there is no timedatectl."""
    if answer == "yes":
        return Finding("clock", "ok", "synchronised")
    if answer == "no":
        return Finding("clock", "warning", "not synchronised", "run: timedatectl set-ntp true")
    return Finding("clock", "warning", "unknown: no timedatectl here", "make sure that NTP runs")


def check_suspend(inhibitors: str | None, masked: bool) -> Finding:
    """Check whether the computer may suspend; `inhibitors` is the output of `systemd-inhibit --list`."""
    advice = "start with: systemd-inhibit --what=sleep:idle --why='sleep staging' sleepstream run CONFIG.toml"
    if masked:
        return Finding("suspend", "ok", "masked: this computer never suspends")
    if inhibitors is None:
        return Finding("suspend", "warning", "unknown: no systemd here", "turn suspend off for the night")
    for line in inhibitors.splitlines():
        fields = line.split()
        if fields and fields[-1] == "block" and any("sleep" in field.split(":") for field in fields):
            return Finding("suspend", "ok", f"inhibited by {fields[0]}")
    return Finding("suspend", "warning", "not inhibited: this computer may suspend during the night", advice)


def check_bluetooth(adapters: Sequence[str], blocked: bool, wanted: bool) -> Finding:
    """Check for an adapter that is switched on; `wanted`: a board in the settings needs it."""
    if adapters and not blocked:
        return Finding("bluetooth", "ok", ", ".join(adapters))
    found = f"{', '.join(adapters)} is blocked" if adapters else "no adapter"
    advice = "run: rfkill unblock bluetooth" if adapters else "plug one in, if your band needs it"
    if not wanted:
        return Finding("bluetooth", "warning", found, advice)
    return Finding("bluetooth", "failed", f"{found}, but a board in the settings needs it", advice)


def check_serial_port(path: str, exists: bool, writable: bool) -> Finding:
    """Check the port of a dongle."""
    if not exists:
        return Finding("serial port", "failed", f"{path} is missing", "plug the dongle in; see: ls /dev/tty*")
    if not writable:
        return Finding(
            "serial port",
            "failed",
            f"no permission to open {path}",
            "run: sudo usermod -aG dialout $USER; then log in again",
        )
    return Finding("serial port", "ok", path)


def check_speed(busy_fraction: float, streams: int, hop_s: int) -> Finding:
    """Check how many streams one core carries, from the share of real time that one stream needs."""
    carried = int(LOAD / busy_fraction)
    found = f"carries {carried} streams at a hop of {hop_s} s; one keeps a core busy for {busy_fraction:.1%}"
    if carried < streams:
        return Finding("speed", "failed", found, f"{streams} are configured: raise hop_s, or configure fewer")
    if carried < 2 * streams:
        return Finding("speed", "warning", found, "little is left for peaks: raise hop_s")
    return Finding("speed", "ok", found)
