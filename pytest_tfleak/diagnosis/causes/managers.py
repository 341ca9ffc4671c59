"""Causes in context managers that do not clean up.

``origin/managers.py`` tells most of them, by the calls that a sweep of faults made to
fail: these have no rule for a test without one.
"""

from __future__ import annotations

from pytest_tfleak.diagnosis.causes.cause import Cause
from pytest_tfleak.diagnosis.causes.cause import Priority

CAUSES = (
    Cause(
        slug="exit-fails-before-closing",
        priority=Priority.MANAGERS,
        explains="An error is raised in {exit} before it has cleaned up, and the rest "
        "of it never runs.",
        remedy="Clean up in a `finally`, whatever else is done there: `try: ... "
        "finally: ...`.",
    ),
    Cause(
        slug="enter-fails-after-opening",
        priority=Priority.MANAGERS,
        explains="A call in {enter} fails after it has opened something. Python calls "
        "{exit} only if {enter} has returned, so nobody cleans up.",
        remedy="Let `{enter}` clean up itself: `except BaseException:`, the clean-up, "
        "`raise`; or do what may fail before anything is opened.",
    ),
    Cause(
        slug="fails-before-yield",
        priority=Priority.MANAGERS,
        explains="A call of this context manager fails after something was opened and "
        "before the yield, where no finally cleans up yet.",
        remedy="Begin the `try` directly after what its `finally` closes has been "
        "opened, so that all that may fail is inside: `try: ... finally: ...`.",
    ),
    Cause(
        slug="yield-without-finally",
        priority=Priority.MANAGERS,
        explains="The error of the block is raised at the yield of this context "
        "manager, and what follows the yield never runs.",
        remedy="Put the yield into a `try`, and the clean-up into its `finally`: "
        "`try: ... finally: ...`.",
    ),
    Cause(
        slug="cancelled-without-finally",
        priority=Priority.MANAGERS,
        explains="Another task failed, and this one was cancelled while it was in the "
        "block of this context manager. `CancelledError` does not derive from "
        "`Exception`, so its except clause does not see it.",
        remedy="Clean up in a `finally`: `try: ... finally: ...`; or catch it too: "
        "`except BaseException:`.",
    ),
    Cause(
        slug="exit-returns-true",
        priority=Priority.MANAGERS,
        explains="If the block has failed, {exit} returns True before it has cleaned "
        "up. This also hides the error, so the error goes unnoticed.",
        remedy="Clean up first, whatever the error is, and end with `return True`; or "
        "let the error through: `return False`, after the clean-up.",
    ),
    Cause(
        slug="exit-only-on-success",
        priority=Priority.MANAGERS,
        explains="The {exit} cleans up only if the block has not failed: it asks for "
        "the error first.",
        remedy="Clean up whatever the error is: move it out of the `if` in `{exit}`, "
        "or in front of it.",
    ),
    Cause(
        slug="exit-stack-half-filled",
        priority=Priority.MANAGERS,
        explains="An ExitStack is filled step by step. If a step fails, nobody closes "
        "what it holds by then.",
        remedy="Fill it in a with statement, and take over what it holds at its end: "
        "{in_with}, then {take_over}.",
    ),
    Cause(
        slug="guarded-too-late",
        priority=Priority.MANAGERS,
        explains="A call fails between the line that opens it and what makes sure that "
        "it is cleaned up.",
        remedy="Put {guard} directly after {opening}: what may fail comes after it, or "
        "before both.",
    ),
    Cause(
        slug="exit-hides-error",
        priority=Priority.MANAGERS,
        explains="The error ends at a with statement, whose {exit} returns True: what "
        "is left of the block never runs, and the code after it goes on as if it had.",
        remedy="Clean up in a `finally` inside of that block: `try: ... finally: ...`; "
        "or let the error through (`return False`) if code around the block cleans up.",
    ),
    Cause(
        slug="manager-entered-twice",
        priority=Priority.MANAGERS,
        explains="This context manager is entered again before it has been left. The "
        "second {enter} replaces what the first one opened, and nobody closes that.",
        remedy="Make a new `{manager}` for each with statement; or count in `{enter}` "
        "and `{exit}`, and open and close only the first time and the last time.",
        rule=lambda e: e.is_entered_twice,
    ),
)
