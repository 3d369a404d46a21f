"""Imports ONNX Runtime with its telemetry off; no other module imports it.

The environment switches telemetry off too (`streamer/host/local.py`), in case a version ignores one of them.
"""

from __future__ import annotations

import onnxruntime
from onnxruntime import InferenceSession, SessionOptions

__all__ = ["InferenceSession", "SessionOptions"]

onnxruntime.disable_telemetry_events()
