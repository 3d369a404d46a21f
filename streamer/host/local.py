"""Everything stays local: libraries that would report home are told not to, before they are imported.

`streamer`, `model` and `tools` call `silence` at their import, and so does every process that they start: no
library is imported earlier. ONNX Runtime is told through its own interface, too, by the one module that has
it (`network/runtime.py`). `tests/host/test_local.py` holds the promise.
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

# Forced, not proposed: nothing is sent, whatever the machine's environment says.
SILENT: Final = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime: usage to its maker, and a device id in the cache folder
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray: usage to its makers
    "DO_NOT_TRACK": "1",  # what others agreed on
}
# Folders of libraries that else write below the home folder. Only proposed: who names one has asked for it.
CACHES: Final = {
    "MPLCONFIGDIR": "matplotlib",  # its list of fonts
    "NUMBA_CACHE_DIR": "numba",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "PYTORCH_KERNEL_CACHE_PATH": "torch",
    "CUDA_CACHE_PATH": "cuda",
}


def silence() -> None:
    """Switch every library's reports off; has to run before the first of them is imported."""
    os.environ.update(SILENT)


def keep_caches_temporary() -> None:
    """Have libraries keep their caches in the temporary folder; has to run before they are imported."""
    missing = [variable for variable in CACHES if not os.environ.get(variable)]  # empty is not named
    for variable in missing:
        place = _cache_folder() / CACHES[variable]
        place.mkdir(mode=0o700, exist_ok=True)
        os.environ[variable] = str(place)


@cache
def _cache_folder() -> Path:
    """A folder that only we can write: always the same, or a fresh one if someone took its name."""
    usual = Path(tempfile.gettempdir()) / f"sleepstream-{os.getuid()}"
    try:
        usual.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:  # it is a file, or a link to nowhere
        return _fresh()
    found = usual.lstat()
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return usual if ours else _fresh()


def _fresh() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="sleepstream-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
