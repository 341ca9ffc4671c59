"""What each iteration puts in the place of something older: it piles up nowhere.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
from typing import Any

from pytest_tfleak.diagnosis.containers import Containers
from pytest_tfleak.diagnosis.fields import content_of
from pytest_tfleak.diagnosis.holders import AT_ROOT
from pytest_tfleak.diagnosis.places import Members

_MOST_LOST = 0.8  # of what iterations brought; with less than that left, it is a window


class Turnover:
    """Tells a full cache, a window or a state from what piles up.

    ``fresh`` are the ids of what the last ``runs`` iterations made, of ``every`` one
    that there was.
    """

    def __init__(
        self, containers: Containers, fresh: set[int], runs: int, every: int
    ) -> None:
        self._containers = containers
        self._fresh = fresh
        self._runs = runs
        self._every = every

    def is_replaced(self, members: Members) -> bool:
        """Say whether as much went as came: a cache, a window, a ring of buffers."""
        held = members.held
        if not members.chain or any(id(o) not in self._fresh for o in held):
            return False
        if len(held) == 1 < self._runs:
            return self._is_window(held[0]) or self._is_state(members)
        if len(held) < self._runs:
            return False
        kinds, tops = {id(type(o)) for o in held}, {id(o) for o in held}
        if any(id(type(o)) in kinds and id(o) not in tops for o in members.all):
            return False  # what piles up hangs below
        if any(self._has_older(o) and not self._is_window(o) for o in held):
            return False
        return self._containers.is_as_long(members.chain[-2])

    def _is_state(self, members: Members) -> bool:
        """Say whether each call makes all of it anew, with nothing of the last one."""
        holder = members.chain[-2]
        if not self._containers.is_known(holder):
            if len(members.chain) == AT_ROOT:
                return False  # a variable of a thread, which may be one of many
        elif not self._containers.is_as_long(holder):
            return False
        kinds = {id(type(o)) for o in members.all}
        return not any(
            id(type(o)) in kinds and id(o) not in self._fresh
            for o in gc.get_referents(*members.all)
        )

    def _has_older(self, made: Any) -> bool:
        """Say whether a list made anew has something in it that was there before."""
        items = content_of(made)
        return any(gc.is_tracked(o) and id(o) not in self._fresh for o in items)

    def _is_window(self, made: Any) -> bool:
        """Say whether a list made anew is too short for what all iterations brought."""
        items = content_of(made)
        added = sum(id(item) in self._fresh for item in items)
        brought = added / self._runs * self._every
        return added < len(items) < _MOST_LOST * brought
