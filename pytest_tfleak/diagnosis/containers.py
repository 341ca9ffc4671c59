"""Which lists, dicts, sets and deques get longer, and what was added to them.

The collector tells what is new, but not of strings, numbers and arrays. A container
that is longer after one part of the iterations, and longer again after the other, piles
up. One that gets new things and is as long as before has let go of as many.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from pytest_tfleak.diagnosis.fields import last_of
from pytest_tfleak.diagnosis.fields import sized_among
from pytest_tfleak.diagnosis.fields import with_plain_dicts
from pytest_tfleak.loop import Loop


class Containers:
    """Looks at all containers there are: before some iterations, between, and after.

    Holds those that got longer from ``find_longer`` until ``forget``. ``plain=False``
    leaves out the dicts that the collector does not list: to find them takes a second.
    """

    def __init__(self, loop: Loop, *, plain: bool = True) -> None:
        self._loop = loop
        self._plain = plain
        self._since = 0
        self._sizes: dict[int, int] = {}
        self._longer: list[tuple[Any, int]] = []
        #: Containers, each with what was added to it last.
        self.grown: list[tuple[Any, list[Any]]] = []

    def remember(self) -> None:
        """Note how long each is. Lets go of garbage, as a refreeze does."""
        self._loop.refreeze(self._remember)
        self._since = self._loop.ran_again

    @property
    def iterations(self) -> int:
        """Return how many iterations have been run again since ``remember``."""
        return self._loop.ran_again - self._since

    def find_longer(self) -> None:
        """Find those that are longer than they were. Refreezes, too."""
        self._loop.refreeze(self._find_longer)

    def find_grown(self) -> None:
        """Find those that are longer again, and what was added to them."""
        longer, self._longer = self._longer, []
        for (container, len_), (_, size) in zip(
            sized_among([container for container, _ in longer]), longer, strict=True
        ):
            more = len_(container) - size
            if more > 1:
                with suppress(RuntimeError):  # a thread changes it
                    added = last_of(container, more)
                    if added:
                        self.grown.append((container, added))

    def is_known(self, container: object) -> bool:
        """Say whether a container was there before, and its length was noted."""
        return id(container) in self._sizes

    def is_as_long(self, container: object) -> bool:
        """Say whether a container was there before, and has not become longer."""
        size = self._sizes.get(id(container))
        return size is not None and any(
            len_(container) <= size for _, len_ in sized_among([container])
        )

    def forget(self) -> None:
        """Let go of what was found."""
        self._sizes, self._longer, self.grown = {}, [], []

    def _remember(self, objects: list[Any]) -> None:
        self._sizes = {id(o): len_(o) for o, len_ in self._sized(objects)}

    def _find_longer(self, objects: list[Any]) -> None:
        sizes, self._sizes = self._sizes, {}
        for container, len_ in self._sized(objects):
            size = self._sizes[id(container)] = len_(container)
            # one may have died since: then another one may have its id
            if size - sizes.get(id(container), size) > 1:
                self._longer.append((container, size))

    def _sized(self, objects: list[Any]) -> Iterator[tuple[Any, Callable[[Any], int]]]:
        return sized_among(with_plain_dicts(objects) if self._plain else objects)
