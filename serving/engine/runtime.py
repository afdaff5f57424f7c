"""The one place that imports onnxruntime; its neighbours take it from here."""

import os

# onnxruntime reports home from its import on (since 1.29) unless this is set before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["onnxruntime"]
