"""Causes that show in how the number of objects or their size grows."""

from __future__ import annotations

import re

from pytest_tfleak.diagnosis.causes.cause import FUNCTION_CACHE
from pytest_tfleak.diagnosis.causes.cause import Cause
from pytest_tfleak.diagnosis.causes.cause import Evidence
from pytest_tfleak.diagnosis.causes.cause import Priority
from pytest_tfleak.diagnosis.survivors.groups import CHAIN
from pytest_tfleak.diagnosis.survivors.groups import LONGER_VALUE

#: Containers that may be rebuilt with the old one inside, which is no chain.
_PLAIN = ("builtins.dict", "builtins.list", "builtins.set", "builtins.tuple")
_METHODS = ("builtins.method",)
_CALLABLES = (*_METHODS, "builtins.function", "functools.partial")
#: Names of collections of callbacks: ``_subscribers``, ``forwardHooks``.
_CALLED_BACK = re.compile(
    r"(?i)callback|hook|handler|listener|subscri|observer|receiver|(?<![a-z_])on_\w+"
)


def _is_chain(e: Evidence) -> bool:
    if e.growth != CHAIN or e.held in _PLAIN:
        return False
    return not e.is_native or e.held in _CALLABLES


def _is_class(e: Evidence) -> bool:
    return e.adds("builtins.type") and bool(e.held) and not e.is_native


def _is_callback(e: Evidence) -> bool:
    is_kept = e.held in _CALLABLES and not e.is_native
    if e.holder is None or not is_kept or e.goes_through(FUNCTION_CACHE):
        return False
    if e.root.kind == "loose":
        return True
    container = next(e.holder.expressions())
    if not container.is_sized:
        return False
    return e.held in _METHODS or any(map(_CALLED_BACK.search, container.name))


CAUSES = (
    Cause(
        slug="value-grows",
        priority=Priority.GROWTH,
        explains="In each call, a value is replaced by a longer one or appended to: an "
        "array, tensor, table, text or buffer, or an object with some. It never gets "
        "shorter.",
        remedy="Keep only the last part: `{value} = {value}[-100:]`; write out what it "
        "has, then empty it: {emptied}.",
        rule=lambda e: e.growth == LONGER_VALUE,
    ),
    Cause(
        slug="chain-grows",
        priority=Priority.GROWTH,
        explains="Each call makes an object that refers to that of the previous call. "
        "So the last one keeps them all alive.",
        remedy="{cut_link}.",
        rule=_is_chain,
    ),
    Cause(
        slug="class-made-in-loop",
        priority=Priority.GROWTH,
        explains="Each call defines a class, and something keeps it with its "
        "attributes: a registry, a list of subclasses, a cache by type.",
        remedy="Define the class once, at module level, and make instances of it in "
        "the loop; pass what differs to `__init__`; or limit {holder}: {limit}.",
        rule=_is_class,
    ),
    Cause(
        slug="callback-registered-in-loop",
        priority=Priority.GROWTH,
        explains="Each call registers a function or method as a callback, and nothing "
        "removes it. It keeps the object that it belongs to and the variables that it "
        "uses.",
        remedy="Remove it from {holder} in a `finally`: {remove}; or {register_once}; "
        "or keep a `weakref.WeakMethod({method})` there.",
        rule=_is_callback,
    ),
)
