"""A process that writes a night's report and the trend: `python -m streamer.report.write SESSION ...`.

It is a separate process with a lower priority, so that drawing neither blocks the engine nor takes its
memory. It prints one line of JSON, which `streamer/night/morning.py` reads.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from streamer.errors import SleepstreamError
from streamer.host.local import keep_caches_temporary


def main(arguments: Sequence[str]) -> int:
    """Write the report of the first session and the trend of all; return the exit code."""
    with contextlib.suppress(OSError):
        os.nice(5)  # lower priority than the engine, but not the lowest
    keep_caches_temporary()  # before matplotlib
    session, *earlier = map(Path, arguments)
    try:
        print(json.dumps(_written(session, earlier)))
    except (SleepstreamError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _written(session: Path, earlier: Sequence[Path]) -> dict[str, object]:
    from streamer.report import name_session, write_report, write_trend

    folder = session.parent
    report = write_report(name_session(session), folder)
    reports = [report]
    for path in earlier:
        with contextlib.suppress(SleepstreamError):  # the trend leaves out nights that cannot be read
            reports.append(write_report(name_session(path), folder))
    trend = None
    if len(reports) > 1:
        trend, _ = write_trend(reports, folder, f"trend-{report.night.meta.stream}")
    return {"html": report.html.name, "png": report.png.name, "trend": None if trend is None else trend.name}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
