"""Query the NVIDIA driver: through NVML, and through CUDA if that is loaded.

Nothing is loaded or started before the first query.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from pytest_tfleak.probes.gpu.reasons import DRIVER_ERROR
from pytest_tfleak.probes.gpu.reasons import MAPPING_UNKNOWN
from pytest_tfleak.probes.gpu.reasons import NO_BINDING
from pytest_tfleak.probes.gpu.reasons import NO_DRIVER_LIBRARY
from pytest_tfleak.probes.gpu.reasons import OF_NVML
from pytest_tfleak.probes.gpu.reasons import GpuReason

_FUNCTION_NOT_FOUND = 13
_UNINITIALIZED = 1


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """The driver did not answer; ``reason`` and the text ``why`` tell the reason."""

    def __init__(self, reason: GpuReason, why: str, number: int | None = None) -> None:
        super().__init__(why)
        self.reason = reason
        self.why = why
        self.number = number  # NVML's error number


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A card, or a slice of one, as NVML knows it."""

    uuid: str  # GPU-… or MIG-…
    handle: Any
    is_assumed: bool = False


class _Nvml:
    """NVML, started once in each process, and again after a fork."""

    def __init__(self) -> None:
        self._pid: int | None = None

    @property
    def is_started(self) -> bool:
        return self._pid == os.getpid()

    def start(self) -> Any:
        """Return pynvml, initialised. Raises Refused."""
        if self.is_started:
            return sys.modules["pynvml"]
        if sys.platform.startswith("linux") and not _can_load("libnvidia-ml.so.1"):
            raise Refused(NO_DRIVER_LIBRARY, NO_DRIVER_LIBRARY.why)
        try:
            import pynvml
        except ImportError:
            raise Refused(NO_BINDING, NO_BINDING.why) from None
        _ask(pynvml.nvmlInit)
        self._pid = os.getpid()
        return pynvml

    def ask(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        """Call a function of pynvml. Raises Refused."""
        pynvml = self.start()
        try:
            return _ask(lambda: getattr(pynvml, name)(*arguments, **keywords))
        except Refused as refused:
            if refused.number == _UNINITIALIZED:  # the test shut NVML down
                self._pid = None
            raise


_nvml = _Nvml()


def is_started() -> bool:
    """Return whether this process has started NVML already."""
    return _nvml.is_started


def find_card(ordinal: int) -> Card:
    """Return the card that is CUDA's ``ordinal`` in this process. Raises Refused.

    Cards are matched by the UUID that CUDA returns, because NVML orders them
    differently. If CUDA is not loaded and there is only one card, that one is assumed.
    """
    uuid = _cuda_uuid(ordinal)
    if uuid is None:
        return _only_card()
    try:
        return _card_called(f"GPU-{uuid}")
    except Refused as refused:
        if refused.reason is not MAPPING_UNKNOWN:
            raise
    return _card_called(f"MIG-{uuid}")


def process_bytes(card: Card, pid: int) -> list[int | None]:
    """Return the figures that NVML lists for a process: none, one, or several.

    A figure is None if the driver does not provide it. Raises Refused.
    """
    list_processes = "nvmlDeviceGetComputeRunningProcesses_v"
    try:
        rows = _nvml.ask(list_processes + "3", card.handle)
    except Refused as refused:
        if refused.number != _FUNCTION_NOT_FOUND:
            raise
        rows = _nvml.ask(list_processes + "2", card.handle)  # for drivers before 510
    return [row.usedGpuMemory for row in rows if row.pid == pid]


def device_bytes(card: Card) -> int:
    """Return the bytes that all processes use on a card. Raises Refused."""
    return int(_memory_info(card).used)


def _memory_info(card: Card) -> Any:
    pynvml = _nvml.start()
    try:  # the second version excludes memory that the driver reserves
        return _nvml.ask(
            "nvmlDeviceGetMemoryInfo", card.handle, version=pynvml.nvmlMemory_v2
        )
    except Refused as refused:
        if refused.number != _FUNCTION_NOT_FOUND:
            raise
        return _nvml.ask("nvmlDeviceGetMemoryInfo", card.handle)


def free_bytes(card: Card) -> int:
    """Return the bytes that no process uses on a card. Raises Refused."""
    return int(_memory_info(card).free)


def visible_uuids() -> list[str]:
    """Return the UUIDs of all cards, or of the MIG slices of a split card.

    They are in the driver's order. Starts NVML, never CUDA. Raises Refused.
    """
    found: list[str] = []
    for index in range(_nvml.ask("nvmlDeviceGetCount")):
        handle = _nvml.ask("nvmlDeviceGetHandleByIndex", index)
        slices = list(_slices(handle))
        found += [_uuid(h) for h in slices or [handle]]
    return found


@cache
def why_no_gpu() -> str:
    """Return what the driver knows about why TensorFlow has found no GPU."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides every card"
    try:
        count = _nvml.ask("nvmlDeviceGetCount")
    except Refused as refused:
        return refused.why
    if not count:
        return "the NVIDIA driver shows no card"
    return (
        f"the NVIDIA driver shows {count}: is this TensorFlow built for CUDA, and does "
        "it find CUDA's libraries?"
    )


def _slices(handle: Any) -> list[Any]:
    try:
        if not _nvml.ask("nvmlDeviceGetMigMode", handle)[0]:
            return []
        places = range(_nvml.ask("nvmlDeviceGetMaxMigDeviceCount", handle))
    except Refused:
        return []  # the card does not support MIG
    found = []
    for place in places:
        try:
            found.append(
                _nvml.ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, place)
            )
        except Refused:
            continue  # the slot is empty
    return found


def _only_card() -> Card:
    if _nvml.ask("nvmlDeviceGetCount") != 1:
        raise Refused(MAPPING_UNKNOWN, MAPPING_UNKNOWN.why)
    handle = _nvml.ask("nvmlDeviceGetHandleByIndex", 0)
    return Card(uuid=_uuid(handle), handle=handle, is_assumed=True)


def _card_called(uuid: str) -> Card:
    handle = _nvml.ask("nvmlDeviceGetHandleByUUID", uuid)
    return Card(uuid=uuid, handle=handle)


def _uuid(handle: Any) -> str:
    return str(_nvml.ask("nvmlDeviceGetUUID", handle))


def _cuda_uuid(ordinal: int) -> str | None:
    """Return a card's UUID without the prefix, None if CUDA is not loaded."""
    cuda = _loaded_cuda()
    if cuda is None:
        return None
    import ctypes

    device, raw = ctypes.c_int(), (ctypes.c_ubyte * 16)()
    # only the second version distinguishes the MIG slices of a card
    read = getattr(cuda, "cuDeviceGetUuid_v2", None) or cuda.cuDeviceGetUuid
    if cuda.cuDeviceGet(ctypes.byref(device), ordinal) or read(raw, device):
        return None
    digits = bytes(raw).hex()
    cuts = (0, 8, 12, 16, 20, 32)
    return "-".join(digits[a:b] for a, b in pairwise(cuts))


def _loaded_cuda() -> Any:
    import ctypes

    only_if_loaded = getattr(os, "RTLD_NOLOAD", None)
    if only_if_loaded is None:  # Windows, where TensorFlow does not support GPUs
        return None
    try:
        return ctypes.CDLL("libcuda.so.1", mode=os.RTLD_NOW | only_if_loaded)
    except OSError:
        return None


def _can_load(library: str) -> bool:
    import ctypes

    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _ask(function: Callable[[], Any]) -> Any:
    number, text = None, ""
    try:
        return function()
    except Exception as error:
        # not chained: an NVMLError cannot be hashed, and printing it would fail
        number, text = getattr(error, "value", None), f"{error}"
        text = text or type(error).__name__
    reason = OF_NVML.get(number or 0, DRIVER_ERROR)
    raise Refused(reason, reason.why.format(text=text), number)
