"""`sleepstream doctor`: checks this machine and the settings for known problems."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from streamer import settings
from streamer.doctor.examination import examine, show


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sleepstream doctor`."""
    parser.add_argument("config", type=Path, metavar="CONFIG.toml", nargs="?", help="settings to check, too")
    parser.add_argument("--json", action="store_true", help="print the findings as a JSON array")


def run(asked: argparse.Namespace) -> int:
    """Show each finding; return the exit code, 1 if a check failed."""
    console = Console(file=sys.stdout)
    findings = []
    for finding in examine(settings.load(asked.config) if asked.config else None):
        findings.append(finding)
        if not asked.json:
            show(console, finding)
    if asked.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    return 1 if any(finding.status == "failed" for finding in findings) else 0
