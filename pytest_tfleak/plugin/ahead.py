"""Import before a test runs what is needed after it.

A leaking body may use up all descriptors or memory, and time until the test's timeout
runs short: by then it is too late to import a module.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from pytest_tfleak.plugin.shapes import SHAPES

if TYPE_CHECKING:
    import pytest

_MODULES = (
    "pytest_tfleak.plugin.item",
    *(f"pytest_tfleak.plugin.shapes.{name}" for name in SHAPES),
    "pytest_tfleak.probes.allocator",
    "pytest_tfleak.probes.gpu.nvml",
    "pytest_tfleak.probes.host",
    "pytest_tfleak.probes.process",
    "pytest_tfleak.probes.python",
    "pytest_tfleak.probes.tensorflow",
    "pytest_tfleak.reports.document",
    "pytest_tfleak.reports.terminal",
    "pytest_tfleak.reports.text",
    "pytest_tfleak.run.environment",
    "pytest_tfleak.run.snapshot",
)
#: Modules that are needed only if an option of pytest or another plugin is set.
_MODULE_OF_OPTION = {"xmlpath": "pytest_tfleak.reports.junit"}


def import_ahead(config: pytest.Config) -> None:
    """Import what a measured test and its report need."""
    with _without_collections():
        for module in _MODULES:
            import_module(module)
        for option, module in _MODULE_OF_OPTION.items():
            if config.getoption(option, None):
                import_module(module)
    look_up = import_module("pytest_tfleak.run.environment").look_up
    look_up()  # for its side effect: Python caches what it finds out on the platform


@contextmanager
def _without_collections() -> Generator[None, None, None]:
    """Keep the collector from looking through all of TensorFlow while modules load."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
