"""How a body ends early, and how messages say so.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from unittest import SkipTest

from pytest_tfleak.probes.base import in_words
from pytest_tfleak.probes.census import type_name_of
from pytest_tfleak.verdict import Reason

SKIPS: tuple[type[BaseException], ...] = (SkipTest,)
INTERRUPTS: tuple[type[BaseException], ...] = (
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
)


def _is_ctrl_c(error: BaseException) -> bool:
    return isinstance(error, KeyboardInterrupt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endings:
    """Which exceptions mean something other than a failure of the body.

    They are classes, which the caller extends by those of pytest: names may mislead.
    """

    #: The body says that it does not apply here.
    skips: tuple[type[BaseException], ...] = SKIPS
    #: The body fails, by an exception that is none of Python's ordinary ones.
    failures: tuple[type[BaseException], ...] = ()
    #: The whole run is to end.
    interrupts: tuple[type[BaseException], ...] = INTERRUPTS
    #: Whether an error came from outside, such as a timeout: then what the body did up
    #: to that point is not judged.
    is_from_outside: Callable[[BaseException], bool] = _is_ctrl_c

    def is_skip(self, error: BaseException) -> bool:
        """Return whether the body skips itself."""
        return isinstance(error, self.skips)

    def passes_through(self, error: BaseException) -> bool:
        """Return whether no stage may catch an error, as it is no failure of the body.

        Examples are Ctrl-C and a timeout of the test.
        """
        if isinstance(error, self.failures) and not self.is_from_outside(error):
            return False
        return not (isinstance(error, Exception) or self.is_skip(error))

    def why_it_ended(self, error: BaseException) -> tuple[Reason, str]:
        """Return why the body ended early, as a reason and as text."""
        if self.is_skip(error):
            return Reason.BODY_SKIPPED, "the test was skipped"
        if isinstance(error, self.interrupts):
            return Reason.INTERRUPTED, "the run was interrupted"
        return Reason.BODY_FAILED, f"the test ended with {type(error).__name__}"

    def in_words(self, error: BaseException) -> str:
        """Return how the body ended early, as text."""
        return "the test was skipped" if self.is_skip(error) else in_words(error)

    def cut_short(self, what: str, error: BaseException) -> str:
        """Return the note about a stage in which the body ended early."""
        return f"{what} was cut short: {self.in_words(error)}."


def used_up(error: BaseException) -> str | None:
    """Return which resource an error says is exhausted, None for any other error."""
    for raised in _chain(error):
        if isinstance(raised, MemoryError) or _is_of_tensorflow(raised):
            return "memory"
        if isinstance(raised, OSError) and raised.errno in _RESOURCES:
            return _RESOURCES[raised.errno]
        if isinstance(raised, RuntimeError) and "start new thread" in str(raised):
            return "threads"
    return None


_RESOURCES = {
    errno.ENOMEM: "memory",
    errno.EMFILE: "file descriptors",
    errno.ENFILE: "file descriptors",
}
_MOST_RAISED = 8


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(_MOST_RAISED):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _is_of_tensorflow(error: BaseException) -> bool:
    names = map(type_name_of, type(error).__mro__)
    return any(
        name == "ResourceExhaustedError" and module.startswith("tensorflow.")
        for module, name in names
    )
