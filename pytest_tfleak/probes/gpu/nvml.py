"""Read what the NVIDIA driver reports on the cards that TensorFlow uses.

The figure for this process is trusted only if the driver lists the process, provides a
value, and that is not less than what TensorFlow itself uses on the card. In containers,
some drivers report nothing, zero, or the figure of another process.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any

from pytest_tfleak.probes.allocator import in_use
from pytest_tfleak.probes.allocator import logical_gpus
from pytest_tfleak.probes.base import Probe
from pytest_tfleak.probes.gpu import driver
from pytest_tfleak.probes.gpu.per_worker import shares_card
from pytest_tfleak.probes.gpu.reasons import CONTRADICTS_TENSORFLOW
from pytest_tfleak.probes.gpu.reasons import GPU_LOST
from pytest_tfleak.probes.gpu.reasons import MAPPING_ASSUMED
from pytest_tfleak.probes.gpu.reasons import MAPPING_UNKNOWN
from pytest_tfleak.probes.gpu.reasons import NO_GPU
from pytest_tfleak.probes.gpu.reasons import NO_PROCESS_FIGURE
from pytest_tfleak.probes.gpu.reasons import NOT_IMPORTED
from pytest_tfleak.probes.gpu.reasons import NOT_INITIALISED
from pytest_tfleak.probes.gpu.reasons import PID_NOT_LISTED
from pytest_tfleak.probes.gpu.reasons import SHARED_CARD
from pytest_tfleak.probes.gpu.reasons import GpuReason
from pytest_tfleak.probes.room import Free
from pytest_tfleak.probes.room import Room
from pytest_tfleak.quantities import format_bytes
from pytest_tfleak.signals import make_signal
from pytest_tfleak.tf import names
from pytest_tfleak.tf.access import NOT_YET
from pytest_tfleak.tf.access import initialised_context
from pytest_tfleak.tf.access import is_imported
from pytest_tfleak.tf.names import MissingNameError
from pytest_tfleak.trace import Signal

PROCESS = "gpu.process"
DEVICE = "gpu.device"
#: The signals whose growth shows that memory of a card runs out.
_ON_CARD = (PROCESS, DEVICE, "gpu.allocator", "gpu.tensors")
#: The driver allocates memory in pieces of this many bytes; less is no growth.
PIECE = 2 * 1024 * 1024


@dataclass(slots=True, kw_only=True)
class _Card:
    """A card that TensorFlow uses, and what has been read on it."""

    label: str  # its UUID; if that is unknown, CUDA's number for it
    ordinal: int
    gpus: tuple[str, ...]  # TensorFlow's logical devices on it
    found: driver.Card | None = None
    pid: int = 0  # the process that found it
    #: Why a signal is missing or not trusted: the reason, and as text.
    doubts: dict[str, tuple[GpuReason, str]] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    #: First and last figure of the process, and TensorFlow's peaks at those times.
    process: array[int] = field(default_factory=lambda: array("q", [0, 0]))
    peak: array[int] = field(default_factory=lambda: array("q", [0, 0]))

    def name(self, signal: str) -> str:
        return f"{signal}[{self.label}]"


class NvmlProbe(Probe):
    """Reads GPU memory outside of TensorFlow: the figures of process and card."""

    name = "nvml"

    def __init__(self) -> None:
        self._cards: list[_Card] = []
        self._knew_devices = False

    def signals(self) -> Sequence[Signal]:
        """Return two signals for each card; start NVML if there is one."""
        context = initialised_context()
        self._knew_devices = context is not None
        if context is not None:
            self._cards = _cards(context)
        if not self._cards:
            return (make_signal(PROCESS), make_signal(DEVICE))
        return tuple(
            make_signal(kind, card.label)
            for card in self._cards
            for kind in (PROCESS, DEVICE)
        )

    def has_more_signals(self) -> bool:
        """Return whether TensorFlow has initialised its devices since then."""
        return not self._knew_devices and initialised_context() is not None

    def read(self, buffer: array[int], start: int, deep: bool) -> None:
        """Write the driver's figures for the process and the card."""
        context = initialised_context()
        if context is None:
            return
        for position, card in enumerate(self._cards):
            place = start + 2 * position
            for offset, kind in enumerate((PROCESS, DEVICE)):
                if _is_off(card, kind):
                    continue
                value = _figure(context, card, kind)
                if value is not None:
                    buffer[place + offset] = value
                    card.read.add(kind)

    def why_off(self) -> str | None:
        """Return why the driver is not queried yet; for a header, that is too slow."""
        context = initialised_context()
        if not is_imported("tensorflow"):
            return NOT_YET
        if context is None:
            return NOT_INITIALISED.why
        if not logical_gpus(context):
            return NO_GPU.why
        return None if driver.is_started() else "the first measured test loads NVML"

    def reasons(self) -> dict[str, str]:
        """Return which figures are missing or not trusted, and why."""
        if not self._cards:
            why = _why_no_card()
            words = f"{why.why} ({driver.why_no_gpu()})" if why is NO_GPU else why.why
            return {PROCESS: words, DEVICE: words}
        return {
            card.name(kind): words
            for card in self._cards
            for kind, (_, words) in card.doubts.items()
        }

    def codes(self) -> dict[str, str]:
        """Return the reasons as codes."""
        if not self._cards:
            return dict.fromkeys((PROCESS, DEVICE), _why_no_card().code)
        return {
            card.name(kind): why.code
            for card in self._cards
            for kind, (why, _) in card.doubts.items()
        }

    def untrusted(self) -> set[str]:
        """Return signals that were read but are in doubt, or ended before the run."""
        return {
            card.name(kind)
            for card in self._cards
            for kind, (why, _) in card.doubts.items()
            if why.status == "untrusted" or kind in card.read
        }

    def notes(self) -> list[str]:
        """Return a note for each card where memory outside of TensorFlow grew."""
        notes = []
        for card in self._cards:
            grown = card.process[1] - card.process[0]
            if PROCESS in card.doubts or grown < PIECE or card.peak[1] > card.peak[0]:
                continue
            notes.append(
                f"{card.name(PROCESS)} grew by {format_bytes(grown)} and TensorFlow's "
                "own peak on the card did not: that memory is outside TensorFlow's "
                "pool. CUDA modules, XLA executables, cuDNN's plans, NCCL and other "
                "libraries live there."
            )
        return notes

    def rooms(self) -> list[Room]:
        """Return the room for memory on each card."""
        context = initialised_context()
        rooms = []
        for card in self._cards if context is not None else ():
            if not _is_off(card, DEVICE):
                rooms.append(_room_on_card(context, card))
                rooms.append(_room_in_pool(context, card, rooms[-1]))
        return rooms


def _room_on_card(context: Any, card: _Card) -> Room:
    """Return the room outside of TensorFlow's pool, and for the pool to grow."""

    def read() -> int | None:
        return _figure(context, card, DEVICE if PROCESS in card.doubts else PROCESS)

    def free() -> Free | None:
        try:
            amount = driver.free_bytes(_found_in_this_process(card))
        except driver.Refused:
            return None
        return Free(amount, "the card")

    return Room(
        resource=f"memory of {card.label}",
        unit="B",
        signals=_ON_CARD,
        free=free,
        read=read,
        is_shared=shares_card(os.environ),
    )


def _room_in_pool(context: Any, card: _Card, on_card: Room) -> Room:
    """Return the room for tensors: in TensorFlow's pool, and where it may grow."""

    def read() -> int:
        return sum(in_use(context, gpu) or 0 for gpu in card.gpus)

    def free() -> Free | None:
        free, held = on_card.free(), _figure(context, card, PROCESS)
        if free is None or held is None:
            return None
        return Free(free.amount + max(0, held - read()), free.limit)

    resource = f"memory of tensors on {card.label}"
    return replace(on_card, resource=resource, free=free, read=read)


def _why_no_card() -> GpuReason:
    if not is_imported("tensorflow"):
        return NOT_IMPORTED
    return NOT_INITIALISED if initialised_context() is None else NO_GPU


def _cards(context: Any) -> list[_Card]:
    """Return the cards that TensorFlow uses, with doubts on those not found."""
    on_card: dict[int | None, list[str]] = {}
    for gpu in logical_gpus(context):
        on_card.setdefault(gpu.ordinal, []).append(gpu.name)
    cards = []
    for ordinal, gpus in on_card.items():
        label = gpus[0] if ordinal is None else f"card {ordinal}"
        card = _Card(label=label, ordinal=ordinal or 0, gpus=tuple(gpus))
        try:
            card.found, card.pid = _find(ordinal), os.getpid()
            card.label = card.found.uuid
        except driver.Refused as refused:
            _doubt(card, (PROCESS, DEVICE), refused.reason, refused.why)
        else:
            if card.found.is_assumed:
                kinds = (PROCESS, DEVICE)
                _doubt(card, kinds, MAPPING_ASSUMED, MAPPING_ASSUMED.why)
            if shares_card(os.environ):
                _doubt(card, (DEVICE,), SHARED_CARD, SHARED_CARD.why)
        cards.append(card)
    return cards


def _find(ordinal: int | None) -> driver.Card:
    if ordinal is None:
        raise driver.Refused(MAPPING_UNKNOWN, MAPPING_UNKNOWN.why)
    return driver.find_card(ordinal)


def _is_off(card: _Card, kind: str) -> bool:
    why = card.doubts.get(kind, (None, ""))[0]
    return card.found is None or why in (GPU_LOST, SHARED_CARD)


def _figure(context: Any, card: _Card, kind: str) -> int | None:
    """Return a figure of the driver, None if it is missing or in doubt."""
    try:
        found = _found_in_this_process(card)
        if kind == DEVICE:
            return driver.device_bytes(found)
        value = _process_figure(context, card, found)
    except driver.Refused as refused:
        _doubt(card, (kind,), refused.reason, refused.why)
        return None
    _remember(context, card, value)
    return value


def _process_figure(context: Any, card: _Card, found: driver.Card) -> int:
    """Return the driver's figure for this process. Raises Refused if in doubt."""
    pid = os.getpid()
    listed = driver.process_bytes(found, pid)
    if not listed:
        raise driver.Refused(PID_NOT_LISTED, PID_NOT_LISTED.why.format(pid=pid))
    # a process may be listed twice, with the same memory
    value = max((figure for figure in listed if figure is not None), default=None)
    if value is None:
        raise driver.Refused(NO_PROCESS_FIGURE, NO_PROCESS_FIGURE.why)
    held = sum(in_use(context, gpu) or 0 for gpu in card.gpus)
    if value == 0 or value < held:
        # shown to the byte, because rounded figures may look the same
        has = f"has {held:,} B in use on it" if held else "has the card open"
        words = CONTRADICTS_TENSORFLOW.why.format(figure=f"{value:,} B", has=has)
        raise driver.Refused(CONTRADICTS_TENSORFLOW, words)
    return value


def _found_in_this_process(card: _Card) -> driver.Card:
    assert card.found is not None
    if card.pid != os.getpid():  # handles become invalid after a fork
        card.found, card.pid = driver.find_card(card.ordinal), os.getpid()
    return card.found


def _remember(context: Any, card: _Card, value: int) -> None:
    peak = sum(_peak(context, gpu) for gpu in card.gpus)
    if PROCESS not in card.read:
        card.process[0], card.peak[0] = value, peak
    card.process[1], card.peak[1] = value, peak


def _peak(context: Any, gpu: str) -> int:
    try:
        return int(names.MEMORY_FIGURES.of(context)(gpu)["peak"])
    except (MissingNameError, ValueError):
        return 0


def _doubt(card: _Card, kinds: Sequence[str], why: GpuReason, words: str) -> None:
    for kind in kinds:
        card.doubts[kind] = why, words
