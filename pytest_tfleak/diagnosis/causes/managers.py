"""Causes in context managers that do not clean up when a call fails.

``origin/managers.py`` tells which one it is, by the calls that a sweep of faults made
to fail. So no rule applies to a test without one.
"""

from __future__ import annotations

from pytest_tfleak.diagnosis.causes.cause import Cause
from pytest_tfleak.diagnosis.causes.cause import Evidence
from pytest_tfleak.diagnosis.causes.cause import Priority


def _of_a_sweep(_: Evidence) -> bool:
    return False


CAUSES = (
    Cause(
        slug="exit-fails-before-closing",
        priority=Priority.MANAGERS,
        explains="A call in __exit__ fails before it has cleaned up, and the rest of "
        "__exit__ never runs.",
        remedy="Clean up in a `finally`, whatever else `__exit__` does: "
        "`try: ... finally: ...`.",
        rule=_of_a_sweep,
    ),
    Cause(
        slug="enter-fails-after-opening",
        priority=Priority.MANAGERS,
        explains="A call in __enter__ fails after it has opened something. Python "
        "calls __exit__ only if __enter__ has returned, so nobody cleans up.",
        remedy="Do it before anything is opened; or let `__enter__` clean up itself: "
        "`except BaseException:`, the clean-up, `raise`.",
        rule=_of_a_sweep,
    ),
    Cause(
        slug="yield-without-finally",
        priority=Priority.MANAGERS,
        explains="The error of the block is raised at the yield of this context "
        "manager, and what follows the yield never runs.",
        remedy="Put the yield into a `try`, and the clean-up into its `finally`.",
        rule=_of_a_sweep,
    ),
    Cause(
        slug="exit-only-on-success",
        priority=Priority.MANAGERS,
        explains="The __exit__ cleans up only if the block has not failed: it asks for "
        "the error first.",
        remedy="Clean up whatever the error is: move it out of the `if` in `__exit__`, "
        "or in front of it.",
        rule=_of_a_sweep,
    ),
    Cause(
        slug="exit-stack-half-filled",
        priority=Priority.MANAGERS,
        explains="An ExitStack is filled step by step. If a step fails, nobody closes "
        "what it holds by then.",
        remedy="Fill it in a with statement, and take over what it holds at its end: "
        "`with ExitStack() as stack: ...`, then `self.stack = stack.pop_all()`.",
        rule=_of_a_sweep,
    ),
)
