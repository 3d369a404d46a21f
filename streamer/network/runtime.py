"""ONNX Runtime, told to report nothing to its maker: no other module imports it.

The environment says so already (`streamer/host/local.py`); its own interface says it again, for a version
that would ignore the one or the other.
"""

from __future__ import annotations

import onnxruntime
from onnxruntime import InferenceSession, SessionOptions

__all__ = ["InferenceSession", "SessionOptions"]

onnxruntime.disable_telemetry_events()
