"""Plays a recording as a live LSL stream: `python -m tools.replay FILE`.

Sample k of the recording is sent with the time t0 + k / rate, at that time (or N times as fast), as 64-bit
floats, so a receiver gets the file's samples to the bit. Samples in a gap are not sent. At speeds above 1 the
times run ahead of the clock: an engine that listens accepts them for the samples that come, but does not
derive gaps of more than half a second from them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pylsl
from rich.console import Console
from rich.progress import Progress

from streamer.clock import SystemClock
from streamer.messages import Chunk, Gap, Item, StreamInfo
from streamer.sources.recordings import open_recording
from streamer.sources.replay import pick, play, rechunk, single
from streamer.sources.source import Recording
from tools.command import make_parser, run

CHUNK_S = 0.1  # length of a chunk, in seconds of real time
MOST_S = 10.0  # longest chunk, in seconds of the recording
WAIT_S = 0.1  # between two looks at whether someone listens
FLUSH_S = 5.0  # liblsl sends in its own thread; closing the outlet at once would lose the end


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("replay", __doc__)
    parser.add_argument("file", type=Path, help="EDF, BDF, XDF or CSV recording")
    parser.add_argument("--channel", help="a label, a position such as #3, or a difference such as AF7-TP9")
    parser.add_argument("--all-channels", action="store_true", help="send all channels of the same rate")
    parser.add_argument("--speed", type=_positive, default=1.0, help="times real time (default 1)")
    parser.add_argument("--rate", type=_positive, help="sampling rate in Hz, for a CSV without times")
    parser.add_argument("--loop", action="store_true", help="start again at the end, until interrupted")
    parser.add_argument("--name", help="name of the LSL stream (default: the file's)")
    parser.add_argument("--wait", action="store_true", help="start when someone listens")
    return parser.parse_args(arguments)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def main(arguments: list[str] | None = None) -> int:
    """Play a recording; return 0 when it ended or was interrupted, else the error's exit code."""
    options = parse(arguments)
    try:
        return run(lambda asked: asyncio.run(send(asked)), options)
    except KeyboardInterrupt:  # from asyncio, which notices Ctrl-C even where Python cannot raise it
        print("interrupted", file=sys.stderr)
        return 0


def outlet(info: StreamInfo, name: str) -> pylsl.StreamOutlet:
    """Make an EEG outlet with channel labels.

    Its source_id is always the same, so a receiver finds it again.
    """
    described = pylsl.StreamInfo(
        name, "EEG", len(info.channels), info.rate_hz, pylsl.cf_double64, f"sleepstream-replay-{name}"
    )
    channels = described.desc().append_child("channels")
    for channel in info.channels:
        entry = channels.append_child("channel")
        entry.append_child_value("label", channel.label)
        entry.append_child_value("unit", channel.unit)
        entry.append_child_value("type", "EEG")
    return pylsl.StreamOutlet(described)


async def send(options: argparse.Namespace) -> str:
    """Send everything on an absolute schedule: delays do not add up. Returns "" at the end.

    Raises:
        RecordingError: the file is missing, damaged or of no known kind.
        UsageError: the channel is unknown or ambiguous.

    """
    recording = open_recording(options.file, options.rate)
    if options.all_channels:
        picked, info = pick(recording, options.channel)
    else:
        picked, info, _ = single(recording, [options.channel] if options.channel else [])
    name = options.name or info.name
    out = outlet(info, name)
    console = Console(stderr=True)
    named = ", ".join(channel.label for channel in info.channels[:8])
    console.print(f"LSL stream {name}: {named} at {info.rate_hz:g} Hz", markup=False)
    while options.wait and not await asyncio.to_thread(out.wait_for_consumers, WAIT_S):
        pass
    size = max(1, round(min(CHUNK_S * options.speed, MOST_S) * info.rate_hz))
    items = _endless(recording, picked) if options.loop else recording.items(picked)
    pieces = (piece for item in items for piece in rechunk(item, size))
    begun = pylsl.local_clock()
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("playing (s)", total=None)
        async for piece in play(pieces, info.rate_hz, options.speed, SystemClock()):
            if isinstance(piece, Chunk):
                stamps = begun + np.arange(piece.start, piece.stop) / info.rate_hz
                out.push_chunk(np.ascontiguousarray(piece.samples.T), stamps)
            progress.update(task, completed=piece.stop / info.rate_hz)
    for _ in range(round(FLUSH_S / WAIT_S)):
        if out.have_consumers():
            await asyncio.sleep(WAIT_S)
    return ""


def _endless(recording: Recording, picked: list[int]) -> Iterator[Item]:
    """Repeat the recording for ever, with increasing indices."""
    base = 0
    while True:
        stop = base
        for item in recording.items(picked):
            start, stop = base + item.start, base + item.stop
            yield Gap(start, stop, item.reason) if isinstance(item, Gap) else replace(item, start=start)
        base = stop


if __name__ == "__main__":
    sys.exit(main())
