"""What the tests ran on: versions and devices, found without importing anything."""

from __future__ import annotations

import os
import platform
import re
import sys
from types import ModuleType
from typing import Any

from pytest_tfleak.tf import names
from pytest_tfleak.tf.access import initialised_context
from pytest_tfleak.tf.access import is_imported

_MODULES = ("pytest", "tensorflow", "keras", "numpy", "psutil")


WITHOUT_GIL = (
    "free-threaded Python is not supported, as its collector and its counts of memory "
    "are others: use a build with the GIL"
)


#: Before it, what is counted is not where it is since then.
_OLDEST = (2, 13)


def too_old(tensorflow: str | None) -> str | None:
    """Return that a version of TensorFlow is not supported, or None."""
    number = tuple(map(int, re.findall(r"\d+", tensorflow or "")[:2]))
    if not number or number >= _OLDEST:
        return None
    return (
        f"TensorFlow {tensorflow} is not supported, {'.'.join(map(str, _OLDEST))} and "
        "later are: leaks may be missed; -vv lists what is not measured"
    )


def without_gil() -> bool:
    """Return whether this Python is built to run without its global lock."""
    is_on = getattr(sys, "_is_gil_enabled", None)  # since 3.13
    return "free-threading" in sys.version or (is_on is not None and not is_on())


def look_up() -> dict[str, Any]:
    """Return what this process knows so far; None for what it has not imported."""
    versions = {name: imported_version(name) for name in _MODULES}
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **versions,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "gpu": _gpus(),
        "lacks": _lacks(),
    }


def merge(known: dict[str, Any], new: dict[str, Any]) -> None:
    """Add what another process knows: extend lists, keep the first of other values."""
    for name, value in new.items():
        old = known.get(name)
        if isinstance(old, list) and isinstance(value, list):
            known[name] = old + [item for item in value if item not in old]
        elif old is None:
            known[name] = value


def imported_version(name: str) -> str | None:
    """Return the version of a package, None if it is not imported."""
    module = sys.modules.get(name)
    if not isinstance(module, ModuleType):  # sys.modules may hold None to block imports
        return None
    # not getattr: asking a lazy module for an attribute may import more
    found = vars(module).get("__version__")
    return None if found is None else str(found)


def _lacks() -> list[str] | None:
    """Return the private names that TensorFlow and Keras lack, and what that costs.

    None if TensorFlow is not imported yet.
    """
    if not is_imported("tensorflow"):
        return None
    return [f"{name} ({name.use})" for name in names.missing()]


def _gpus() -> list[str] | None:
    """Return the names of TensorFlow's GPUs, None before it sets up its devices."""
    context = initialised_context()
    if context is None:
        return None
    listed = getattr(context, names.PHYSICAL_DEVICES, lambda _: ())("GPU")
    return [_gpu_name(context, gpu) for gpu in listed]


def _gpu_name(context: Any, gpu: Any) -> str:
    name = str(gpu.name).rpartition("device:")[2]
    try:
        details = names.DEVICE_DETAILS.of(context)(gpu)
    except Exception:  # the device has no details
        return name
    return f"{name} {details.get('device_name', '')}".rstrip()
