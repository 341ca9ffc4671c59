"""The probes, which read the signals; this module makes the built-in ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_tfleak.probes.base import Probe
    from pytest_tfleak.probes.census import Census


def make_probes(census: Census) -> list[Probe]:
    """Return the built-in probes, in the order in which they are read."""
    from pytest_tfleak.probes.allocator import AllocatorProbe
    from pytest_tfleak.probes.gpu.nvml import NvmlProbe
    from pytest_tfleak.probes.host import HostProbe
    from pytest_tfleak.probes.process import ProcessProbe
    from pytest_tfleak.probes.python import PythonProbe
    from pytest_tfleak.probes.tensorflow import TensorFlowProbe

    return [
        # First: objects that other probes free go to Python's free lists, where they
        # would count as blocks.
        PythonProbe(census),
        HostProbe(),
        AllocatorProbe(),
        NvmlProbe(),
        ProcessProbe(),
        TensorFlowProbe(census),
    ]
