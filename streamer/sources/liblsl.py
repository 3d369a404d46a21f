"""Loads pylsl, only where LSL is used: its native library does not exist for every computer."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from streamer.errors import SourceError

INSTALL = (  # pylsl's wheel brings liblsl for Windows, macOS and Linux on x86-64
    "install liblsl (a package is at github.com/sccn/liblsl/releases; conda: conda-forge's liblsl), "
    "or set PYLSL_LIB to its path"
)


def load_pylsl(load: Callable[[str], Any] = importlib.import_module) -> Any:
    """Import the module `pylsl`, with its native library.

    Raises:
        SourceError: pylsl or its native library is missing.

    """
    try:
        return load("pylsl")
    except ImportError as error:
        raise SourceError(
            f"LSL cannot be used: pylsl is missing ({error}); run: pip install pylsl"
        ) from error
    except (RuntimeError, OSError) as error:  # pylsl found no liblsl, or none for this CPU
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else "liblsl was not found"
        raise SourceError(f"LSL cannot be used: {reason}; {INSTALL}") from error
