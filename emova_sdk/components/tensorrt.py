"""Moved to `components.onnx_slots`: here until the entry points are installed anew."""

from emova_sdk.components.onnx_slots import __getattr__  # noqa: F401
