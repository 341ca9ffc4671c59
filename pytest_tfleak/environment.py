"""What the tests ran on: versions and devices, looked up and never imported."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

from pytest_tfleak.observed import initialised_context

_MODULES = ("pytest", "tensorflow", "keras", "numpy", "psutil")


def look_up() -> dict[str, Any]:
    """Return what this process knows by now; None for what it has not loaded."""
    versions = {name: _version(name) for name in _MODULES}
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **versions,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "gpu": _gpus(),
    }


def merge(known: dict[str, Any], new: dict[str, Any]) -> None:
    """Add what another process knows; lists add up, the first of other values stays."""
    for name, value in new.items():
        old = known.get(name)
        if isinstance(old, list) and isinstance(value, list):
            known[name] = old + [item for item in value if item not in old]
        elif old is None:
            known[name] = value


def _version(name: str) -> str | None:
    # not by getattr: modules may import more when they are asked for an attribute
    found = vars(sys.modules.get(name, object)).get("__version__")
    return None if found is None else str(found)


def _gpus() -> list[str] | None:
    """Return the names of TensorFlow's GPUs, None while its devices are not set up."""
    context = initialised_context()
    if context is None:
        return None
    return [_gpu_name(context, gpu) for gpu in context.list_physical_devices("GPU")]


def _gpu_name(context: Any, gpu: Any) -> str:
    name = str(gpu.name).rpartition("device:")[2]
    try:
        details = context.get_device_details(gpu)
    except Exception:  # a device that tells nothing about itself
        return name
    return f"{name} {details.get('device_name', '')}".rstrip()
