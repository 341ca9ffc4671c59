"""Causes that show in how it grows: chains, longer values, classes, callbacks.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re

from pytest_tfleak.diagnosis.cause import Cause
from pytest_tfleak.diagnosis.evidence import FUNCTION_CACHE
from pytest_tfleak.diagnosis.evidence import Evidence

#: Some of these may be made anew with the old ones in it, which is no chain.
_PLAIN = ("builtins.dict", "builtins.list", "builtins.set", "builtins.tuple")
_METHODS = ("builtins.method",)
_CALLABLES = (*_METHODS, "builtins.function", "functools.partial")
#: A name of what is called back: ``_subscribers``, ``forwardHooks``.
_CALLED_BACK = re.compile(
    r"(?i)callback|hook|handler|listener|subscri|observer|receiver|(?<![a-z_])on_\w+"
)
_SIZED = re.compile(r" of \d+\)$")


def _is_chain(e: Evidence) -> bool:
    if "chain" not in e.clues or e.held in _PLAIN:
        return False
    return not e.is_native or e.held in _CALLABLES


def _is_class(e: Evidence) -> bool:
    return "class" in e.clues and bool(e.held) and not e.is_native


def _is_callback(e: Evidence) -> bool:
    if e.held not in _CALLABLES or e.is_native or FUNCTION_CACHE in e.clues:
        return False
    container = e.holder[0] if e.holder else ""
    if not _SIZED.search(container):
        return False
    name = _SIZED.split(container)[0].rpartition(" (")[0].rpartition(".")[2]
    return e.held in _METHODS or _CALLED_BACK.search(name) is not None


CAUSES = (
    Cause(
        slug="value-grows",
        explains="One array, text, buffer or tensor is replaced in each call by a "
        "longer one, or is appended to, and never gets shorter.",
        remedy="Keep the last part only: `x = x[-1000:]`; collect pieces in "
        "`collections.deque(maxlen=100)`; of a buffer write out what is there and "
        "empty it: `buffer.seek(0)`, `buffer.truncate()`.",
        rule=lambda e: "longer_value" in e.clues,
    ),
    Cause(
        slug="chain-grows",
        explains="Each call makes an object that refers to the one of the call before. "
        "So the last one keeps them all.",
        remedy="Cut the link when the next one is made: `state.previous = None`; keep "
        "numbers of the one before, not the object. A hook put back in a `finally` "
        "keeps no chain: `sys.excepthook = previous`, `signal.signal(number, "
        "previous)`.",
        rule=_is_chain,
    ),
    Cause(
        slug="class-made-in-loop",
        explains="Each call defines a class anew, and something keeps each of them "
        "with its attributes: a registry, a list of subclasses, a cache by type.",
        remedy="Define the class once, at module level, and make instances of it in "
        "the loop; hand what differs to `__init__` instead; or take the old ones out "
        "of {holder}.",
        rule=_is_class,
    ),
    Cause(
        slug="callback-registered-in-loop",
        explains="Each call registers a function or method to be called back, and "
        "nothing takes it out again. It keeps the object that it belongs to and the "
        "variables that it uses.",
        remedy="Take it out of {holder} in a `finally`: `callbacks.remove(self.f)`; "
        "or register once, before the loop; or keep a "
        "`weakref.WeakMethod(self.f)` there.",
        rule=_is_callback,
    ),
)
