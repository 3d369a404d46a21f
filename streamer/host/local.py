"""Keeps everything local: switches off the usage reports of libraries before these are imported.

`streamer`, `model` and `tools` call `silence` when they are imported, before any library, also in the
processes that they start. ONNX Runtime is switched off through its own interface as well, by
`network/runtime.py`. `tests/host/test_local.py` checks that nothing is sent.
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

# Always set, whatever the environment says.
SILENT: Final = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime: usage reports, and a device id in the cache folder
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray: usage reports
    "DO_NOT_TRACK": "1",  # a convention of several other programs
}
# Cache folders of libraries that otherwise write below the home folder. Set only if the user has not set
# them.
CACHES: Final = {
    "MPLCONFIGDIR": "matplotlib",  # its list of fonts
    "NUMBA_CACHE_DIR": "numba",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "PYTORCH_KERNEL_CACHE_PATH": "torch",
    "CUDA_CACHE_PATH": "cuda",
}


def silence() -> None:
    """Switch off every library's reports; must be called before the first of them is imported."""
    os.environ.update(SILENT)


def keep_caches_temporary() -> None:
    """Move the caches of libraries to the temporary folder; must be called before they are imported."""
    missing = [variable for variable in CACHES if not os.environ.get(variable)]  # unset or empty
    for variable in missing:
        place = _cache_folder() / CACHES[variable]
        place.mkdir(mode=0o700, exist_ok=True)
        os.environ[variable] = str(place)


@cache
def _cache_folder() -> Path:
    """A folder that only this user can write: always the same, or a new one if its name is taken."""
    usual = Path(tempfile.gettempdir()) / f"sleepstream-{os.getuid()}"
    try:
        usual.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:  # a file, or a broken link
        return _fresh()
    found = usual.lstat()
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return usual if ours else _fresh()


def _fresh() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="sleepstream-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
