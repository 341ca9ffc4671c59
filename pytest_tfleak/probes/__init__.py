"""The probes that read the signals; the built-in ones are made here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_tfleak.census import Census
    from pytest_tfleak.probes.base import Probe


def make_probes(census: Census) -> list[Probe]:
    """Return the built-in probes, in the order in which they are read."""
    from pytest_tfleak.probes.allocator import AllocatorProbe
    from pytest_tfleak.probes.host import HostProbe
    from pytest_tfleak.probes.nvml import NvmlProbe
    from pytest_tfleak.probes.process import ProcessProbe
    from pytest_tfleak.probes.python import PythonProbe
    from pytest_tfleak.probes.tensorflow import TensorFlowProbe

    return [
        PythonProbe(census),  # first: what the others free stays in the free lists
        HostProbe(),
        AllocatorProbe(),
        NvmlProbe(),
        ProcessProbe(),
        TensorFlowProbe(census),
    ]
