"""From the start of a process to its first score; the system has the files in its cache.

`cpu_s` is what the process has used by then: a busy machine makes the others longer.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

from tools.bench.figures import Asked, Figures

CHILD = """
import json, sys, time
from pathlib import Path
marks = [("interpreter_s", time.time())]
from streamer.network.stager import Model
from tools.bench.signals import pipeline, seconds_of_eeg
marks.append(("import_engine_s", time.time()))
model = Model.load(Path(sys.argv[2]) if sys.argv[2] else None, runtime=sys.argv[3], trusted=True)
marks.append(("load_model_s", time.time()))
path = pipeline(model, 30)
assert [score for chunk in seconds_of_eeg(31) for score in path.push(chunk)]
marks.append(("first_score_s", time.time()))
cpu_s = time.process_time()
before, out = float(sys.argv[1]), {}
for name, at in marks:
    out[name], before = at - before, at
print(json.dumps({**out, "start_to_first_score_s": sum(out.values()), "cpu_s": cpu_s}))
"""


def measure(asked: Asked) -> Figures:
    """Start a fresh interpreter; the model is the packaged one, or the one asked for."""
    path = "" if asked.model is None else str(asked.model)
    command = [sys.executable, "-c", CHILD, repr(time.time()), path, asked.runtime]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    figures: Figures = json.loads(done.stdout)
    return figures
