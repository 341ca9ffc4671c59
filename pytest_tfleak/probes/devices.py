"""The logical GPUs of TensorFlow: on which card, of which allocator, how much in use.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalGpu:
    """One logical GPU; several may share a card."""

    name: str  # GPU:0
    ordinal: int | None  # CUDA's number of the card, None where it cannot be told
    on_card: int = 1  # how many logical GPUs that card has
    limit: int | None = None  # MiB, of a virtual device
    grows: bool | None = None
    allocator: str = ""

    def describe(self) -> str:
        """Return how its memory is managed, in one sentence."""
        parts = [f"{self.name}: allocator {self.allocator or 'BFC'}"]
        if self.allocator != "cuda_malloc":
            parts.append(
                "memory grows on demand" if self.grows else "memory is taken at once"
            )
        if self.on_card > 1 or self.limit is not None:
            limit = "" if self.limit is None else f" of {self.limit} MiB"
            parts.append(
                f"a virtual device{limit}, one of {self.on_card} on physical GPU "
                f"{self.ordinal}"
            )
        return ", ".join(parts) + "."


def logical_gpus(context: Any) -> tuple[LogicalGpu, ...]:
    """Return the logical GPUs of an initialised context, in TensorFlow's order."""
    names = [
        device.name.rpartition("device:")[2]
        for device in context.list_logical_devices("GPU")
    ]
    if not names:
        return ()
    places = _places(context)
    if len(places) != len(names):  # a TensorFlow that counts in another way
        places = [{"ordinal": None} for _ in names]
    allocator = os.environ.get("TF_GPU_ALLOCATOR", "")
    return tuple(
        LogicalGpu(name=name, allocator=allocator, **place)
        for name, place in zip(names, places, strict=True)
    )


def in_use(context: Any, gpu: str) -> int | None:
    """Return the bytes in use of a logical device, None without statistics."""
    try:
        return int(context.get_memory_info(gpu)["current"])
    except ValueError:
        return None


def _places(context: Any) -> list[dict[str, Any]]:
    places: list[dict[str, Any]] = []
    for card in context.get_visible_devices("GPU"):
        virtual = context.get_logical_device_configuration(card) or [None]
        ordinal = card.name.rpartition(":")[2]
        places += [
            {
                "ordinal": int(ordinal) if ordinal.isdigit() else None,
                "on_card": len(virtual),
                "limit": getattr(device, "memory_limit", None),
                "grows": _grows(context, card),
            }
            for device in virtual
        ]
    return places


def _grows(context: Any, card: Any) -> bool:
    forced = os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH", "").lower()
    if forced in ("true", "false"):
        return forced == "true"
    try:
        return bool(context.get_memory_growth(card))
    except ValueError:
        return False
