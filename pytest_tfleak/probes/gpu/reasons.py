"""The reasons why GPU memory was not measured or is not trusted, as data.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReason:
    """One reason; ``why`` is the clause that reports show, possibly with fields."""

    code: str
    why: str
    status: Literal["unavailable", "untrusted"] = "unavailable"


NOT_IMPORTED = GpuReason(code="tf_not_imported", why="TensorFlow is not imported")
NOT_INITIALISED = GpuReason(
    code="tf_not_initialised", why="TensorFlow has not initialised its devices"
)
NO_GPU = GpuReason(code="no_gpu", why="TensorFlow has found no GPU")
NO_STATISTICS = GpuReason(code="no_statistics", why="the allocator keeps no statistics")
NOTHING_ALLOCATED = GpuReason(
    code="nothing_allocated", why="nothing was allocated from it"
)
NO_DRIVER_LIBRARY = GpuReason(
    code="no_driver_library",
    why="the NVIDIA driver's library libnvidia-ml.so.1 is not here",
)
DRIVER_NOT_LOADED = GpuReason(
    code="driver_not_loaded", why="the NVIDIA driver is not loaded"
)
VERSION_MISMATCH = GpuReason(
    code="version_mismatch",
    why="the NVIDIA driver's library and its kernel module are of different versions",
)
NO_PERMISSION = GpuReason(
    code="no_permission",
    why="the NVIDIA driver does not permit it; on a card split by MIG, only a slice "
    "may be queried",
)
NO_PROCESS_FIGURE = GpuReason(
    code="no_process_figure",
    why="the NVIDIA driver gives no figure for a process here, as under WSL2 and WDDM",
)
PID_NOT_LISTED = GpuReason(
    code="pid_not_listed",
    why="process {pid} is not among those that the NVIDIA driver lists, as in a "
    "container with a PID namespace of its own",
)
CONTRADICTS_TENSORFLOW = GpuReason(
    code="contradicts_tensorflow",
    why="the NVIDIA driver says {figure} for this process, and TensorFlow {has}",
    status="untrusted",
)
GPU_LOST = GpuReason(code="gpu_lost", why="the card was lost")
MAPPING_ASSUMED = GpuReason(
    code="mapping_assumed",
    why="CUDA did not name the card, so the only one present was assumed",
    status="untrusted",
)
MAPPING_UNKNOWN = GpuReason(
    code="mapping_unknown", why="the driver's card for this GPU could not be determined"
)
SHARED_CARD = GpuReason(
    code="shared_card",
    why="xdist workers share the card; --tfleak-spread-gpus gives each its own",
)
NO_BINDING = GpuReason(
    code="no_binding", why="the package nvidia-ml-py cannot be imported"
)
DRIVER_ERROR = GpuReason(code="driver_error", why="the NVIDIA driver says: {text}")

REASONS: tuple[GpuReason, ...] = (
    NOT_IMPORTED,
    NOT_INITIALISED,
    NO_GPU,
    NO_STATISTICS,
    NOTHING_ALLOCATED,
    NO_DRIVER_LIBRARY,
    DRIVER_NOT_LOADED,
    VERSION_MISMATCH,
    NO_PERMISSION,
    NO_PROCESS_FIGURE,
    PID_NOT_LISTED,
    CONTRADICTS_TENSORFLOW,
    GPU_LOST,
    MAPPING_ASSUMED,
    MAPPING_UNKNOWN,
    SHARED_CARD,
    NO_BINDING,
    DRIVER_ERROR,
)

#: The reasons for NVML's error numbers.
OF_NVML: dict[int, GpuReason] = {
    3: NO_PROCESS_FIGURE,  # not supported
    4: NO_PERMISSION,
    6: MAPPING_UNKNOWN,  # not found: no card has that UUID
    9: DRIVER_NOT_LOADED,
    12: NO_DRIVER_LIBRARY,
    15: GPU_LOST,
    16: GPU_LOST,  # reset required
    18: VERSION_MISMATCH,
}
