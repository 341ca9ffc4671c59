"""Give each xdist worker a GPU of its own, before TensorFlow starts.

CUDA reads ``CUDA_VISIBLE_DEVICES`` when it starts in a process, so a worker sets it
before its ``conftest.py`` is imported. If it is already set, the workers divide that
list among them: numbers, UUIDs of cards, or UUIDs of MIG slices.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from collections.abc import MutableMapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

VISIBLE = "CUDA_VISIBLE_DEVICES"
#: The environment variable that is set in a worker with a card of its own.
OWN = "PYTEST_TFLEAK_OWN_GPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The card of one worker."""

    card: str
    is_own: bool  # whether no other worker has it


def cards_in(visible: str) -> tuple[str, ...]:
    """Return the cards in a value of CUDA_VISIBLE_DEVICES, as CUDA reads it.

    CUDA stops at the first entry that names no card, such as ``-1``.
    """
    cards: list[str] = []
    for entry in visible.split(","):
        card = entry.strip()
        if not (card.isdigit() or card.startswith(("GPU-", "MIG-"))):
            break
        cards.append(card)
    return tuple(dict.fromkeys(cards))


def share_of(worker: str, workers: int, cards: Sequence[str]) -> Share | None:
    """Return the card of a worker, None if there is none or it has no number.

    ``worker`` is xdist's name for it, such as ``gw0``. If there are more workers than
    cards, they share. So does a worker that replaces a crashed one: its number is
    higher than the number of workers.
    """
    number = worker.removeprefix("gw")
    if not number.isdigit() or not cards:
        return None
    card = cards[int(number) % len(cards)]
    is_own = workers <= len(cards) and int(number) < workers
    return Share(card=card, is_own=is_own)


def take_card_if_asked(config: Any) -> None:
    """Take this worker's card if the command line or ini says so.

    Called before pytest has parsed all options; pytest reports mistakes in them later.
    """
    name = "tfleak_spread_gpus"
    asked = getattr(config.known_args_namespace, name, None)
    if asked is None:
        with suppress(Exception):
            asked = config.getini(name)
    if asked:
        take_card(os.environ)


def workers_of(config: Any) -> int:
    """Return how many workers xdist will start, 0 without xdist."""
    count = 0
    for spec in config.getoption("tx", default=None) or ():
        times, star, _ = str(spec).partition("*")
        count += int(times) if star and times.isdigit() else 1
    return count


def take_card(environment: MutableMapping[str, str]) -> None:
    """Set CUDA_VISIBLE_DEVICES to this worker's card; only workers do anything."""
    worker = environment.get("PYTEST_XDIST_WORKER")
    if worker is None:
        return
    workers = int(environment.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    share = share_of(worker, workers, _visible_cards(environment)[0])
    if share is None:
        return
    environment[VISIBLE] = share.card
    if share.is_own:
        environment[OWN] = share.card


def shares_card(environment: Mapping[str, str]) -> bool:
    """Return whether other xdist workers may use the card of this process."""
    if "PYTEST_XDIST_WORKER" not in environment:
        return False
    if environment.get("PYTEST_XDIST_WORKER_COUNT") == "1":
        return False
    own = environment.get(OWN)
    return own is None or own != environment.get(VISIBLE)


def describe(environment: Mapping[str, str], workers: int) -> str:
    """Return a line for pytest's header on how the workers divide the cards."""
    if workers < 1:
        return "GPUs: not spread: there are no xdist workers"
    cards, why = _visible_cards(environment)
    if not cards:
        return f"GPUs: not spread: {why}"
    names = ", ".join(card[:12] for card in cards)  # enough to recognise a UUID
    if workers <= len(cards):
        count = "the worker has" if workers == 1 else f"each of {workers} workers has"
        return f"GPUs: {count} a card of its own, of {names}"
    are = "card" if len(cards) == 1 else "cards"
    return (
        f"GPUs: {workers} workers share {len(cards)} {are} ({names}); gpu.device is off"
    )


def _visible_cards(environment: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    """Return the cards that may be used, and the reason if there is none."""
    visible = environment.get(VISIBLE)
    if visible is not None:
        return cards_in(visible), f"{VISIBLE}={visible!r} names no card"
    from pytest_tfleak.probes.gpu import driver

    try:
        return tuple(driver.visible_uuids()), "the NVIDIA driver shows no card"
    except driver.Refused as refused:
        return (), refused.why
