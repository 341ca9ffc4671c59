"""Find memory and object leaks in TensorFlow code.

``find_leaks`` and ``assert_no_leaks`` repeat a callable in scripts, notebooks and other
runners; in pytest, use the marker ``tfleak`` or the fixture of the same name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_tfleak.measurement import LeakError
    from pytest_tfleak.measurement import assert_no_leaks
    from pytest_tfleak.measurement import find_leaks
    from pytest_tfleak.plan import PlanError
    from pytest_tfleak.plugin.failure import LeakFailed
    from pytest_tfleak.run.snapshot import MemorySnapshot
    from pytest_tfleak.verdict import Finding
    from pytest_tfleak.verdict import Reason
    from pytest_tfleak.verdict import SignalReport
    from pytest_tfleak.verdict import Status
    from pytest_tfleak.verdict import Verdict

__all__ = [
    "Finding",
    "LeakError",
    "LeakFailed",
    "MemorySnapshot",
    "PlanError",
    "Reason",
    "SignalReport",
    "Status",
    "Verdict",
    "assert_no_leaks",
    "find_leaks",
]

_HOMES = {
    "Finding": "verdict",
    "LeakError": "measurement",
    "LeakFailed": "plugin.failure",
    "MemorySnapshot": "run.snapshot",
    "PlanError": "plan",
    "Reason": "verdict",
    "SignalReport": "verdict",
    "Status": "verdict",
    "Verdict": "verdict",
    "assert_no_leaks": "measurement",
    "find_leaks": "measurement",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
