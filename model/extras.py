"""Names the extra to install when a command of the checkout lacks a library."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Final

EXTRAS: Final = {  # name in an import: extra in pyproject.toml
    **dict.fromkeys(("torch", "torchmetrics", "onnx", "onnxscript", "tqdm"), "train"),
    "yasa": "peers",
    "ray": "ray",
    "torchaudio": "torchaudio",
    **dict.fromkeys(("jsonschema", "mne"), "test"),
}


def name_missing() -> None:
    """End a command started with `python -m` with one line instead of a traceback if a library is missing.

    Called before the command is imported, because those imports fail.
    """
    if sys.argv[:1] == ["-m"]:  # as Python has it until the module that was asked for is found
        sys.excepthook = _say


def _say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if missing not in EXTRAS:
        sys.__excepthook__(kind, error, trace)
        return
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    command = spec.name.removesuffix(".__main__") if spec is not None else "this command"
    advice = f"run: pip install '.[{EXTRAS[missing]}]' in the checkout"
    print(f"{command}: needs {missing}, which is not installed; {advice}", file=sys.stderr)
