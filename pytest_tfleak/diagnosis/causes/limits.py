"""How to limit a container that grows: code for its type, under its own name."""

from __future__ import annotations

import ast
from dataclasses import replace

from pytest_tfleak.diagnosis.origin.source_hints import Filling
from pytest_tfleak.retaining_path import ATTRIBUTE
from pytest_tfleak.retaining_path import CLOSURE
from pytest_tfleak.retaining_path import DEFAULT
from pytest_tfleak.retaining_path import INDEX
from pytest_tfleak.retaining_path import ITEM
from pytest_tfleak.retaining_path import LOCAL
from pytest_tfleak.retaining_path import SUSPENDED
from pytest_tfleak.retaining_path import UNKNOWN
from pytest_tfleak.retaining_path import Expression
from pytest_tfleak.retaining_path import RetainingPath

#: Code by type of container (retaining_path.Step); {name} stands for the container.
_LIMITS = {
    "list": "`del {name}[:-10]` after each append",
    "deque": "make it a `collections.deque(maxlen=10)`",
    "dict": "`while len({name}) > 10: {name}.pop(next(iter({name})))` after each new "
    "entry, or `{name}.clear()`",
    "set": "`{name}.discard({x})` when `{x}` is done, or `{name}.clear()`",
    "tuple": "`{name} = {name}[-10:]`",
    "TrackedList": "`del {name}[:-10]` after each append",  # of Keras' layers
}
#: For a list to which items are only appended, and of which no slice is taken.
_AS_DEQUE = ", or make it a `collections.deque(maxlen=10)`"
#: For a list in which the newest item is the first one.
_FROM_END = "`del {name}[10:]` after each insert"
_FROM_HEAP = "`while len({name}) > 10: {pops}({name})` after each push"
#: For a set, if the object has no name.
_EMPTIED = "`{name}.clear()` when its items are done"
#: For a dict whose length is a key: with fewer entries, it would be an older one's.
_EMPTIED_ENTRIES = "`{name}.clear()` when its entries are done"
#: For containers of other types, and where no container is known.
_OTHER = "remove the old ones from it, or empty it"
_VARIABLES = (CLOSURE, DEFAULT, LOCAL, SUSPENDED)
_CLASS = "builtins.type"
_CACHE = "functools._lru_cache_wrapper"
#: Modules whose objects get attributes from anywhere, without ``self``.
_PLAIN = ("builtins.", "types.", "_thread.", "threading.", "functools.")
_CUT = "..."  # in names and keys that are not known in full


def limit_of(path: RetainingPath | None, name: str, x: str, filling: Filling) -> str:
    """Return how to limit the container on a path that grows.

    ``name`` is how the code calls it, and ``x`` the object that it puts there, "" if
    that is unknown. ``filling`` is how it does so.
    """
    grown = grown_on(path)
    if grown is None or not name:
        return _OTHER
    words = _words_for(grown.steps[-1].container, x, filling)
    for place, value in (("name", name), ("x", x), ("pops", filling.pops)):
        words = words.replace(f"{{{place}}}", value)
    return words


def _words_for(container: str, x: str, filling: Filling) -> str:
    words = _LIMITS.get(container, _OTHER)
    match container:
        case "list" if filling.pops:
            return _FROM_HEAP
        case "list" if filling.is_at_start:
            return _FROM_END
        case "list" if filling.is_appended:
            return f"{words}{_AS_DEQUE}"
        case "dict" if filling.is_by_length:
            return _EMPTIED_ENTRIES
        case "set" if not x:
            return _EMPTIED
    return words


def container_code(path: RetainingPath | None) -> str:
    """Return the container that grows as the code that fills it may write it."""
    grown = grown_on(path) or _cache_on(path)
    return expression_code(grown) if grown is not None else ""


def owner_code(path: RetainingPath | None) -> str:
    """Return the object of which the container that grows is an attribute."""
    grown = grown_on(path)
    if grown is None or grown.steps[-1].kind != ATTRIBUTE:
        return ""
    return expression_code(replace(grown, steps=grown.steps[:-1]))


def grown_on(path: RetainingPath | None) -> Expression | None:
    """Return the part of a path that ends at the container that grows."""
    expressions = path.expressions() if path is not None else ()
    return next((each for each in expressions if each.is_sized), None)


def is_in_cache(path: RetainingPath | None) -> bool:
    """Return whether a path ends at the dict in which a functools.cache keeps all."""
    *_, cache, held = (None, None, *(path.steps if path is not None else ()))
    if cache is None or held is None:
        return False
    is_its_own = held.kind == UNKNOWN and held.is_a("builtins.dict")
    return cache.is_a(_CACHE) and is_its_own


def _cache_on(path: RetainingPath | None) -> Expression | None:
    if path is None or not is_in_cache(path):
        return None
    return list(replace(path, steps=path.steps[:-1]).expressions())[-1]


def expression_code(grown: Expression) -> str:
    """Return an object as the code that uses it may write it: ``self.items``.

    Return "" if that is unknown.
    """
    steps = grown.steps
    named = [k for k, step in enumerate(steps) if step.kind in (ATTRIBUTE, *_VARIABLES)]
    is_handed = grown.root is not None and grown.root.kind in ("fixture", "parameter")
    if not named and not is_handed:
        return ""
    at = named[-1] if named else 0
    start = _start(grown, at) if named else str(grown.root and grown.root.name)
    keys = [step for step in steps[at + 1 :] if step.is_shown]
    code = start + "".join(f"[{step.name}]" for step in keys)
    is_known = all(step.kind in (ITEM, INDEX) for step in keys)
    return code if start and is_known and _is_code(code) else ""


def _is_code(text: str) -> bool:
    """Return whether a text can be typed in: a key like ``<Color.RED: 1>`` cannot."""
    try:
        ast.parse(text, mode="eval")
    except (SyntaxError, ValueError):
        return False
    return _CUT not in text


def _start(grown: Expression, at: int) -> str:
    """Return the attribute or variable at a step, with its owner."""
    steps, name = grown.steps, grown.steps[at].name
    if steps[at].kind != ATTRIBUTE or (at == 0 and not grown.starts_with_type):
        return name
    if at == 0:
        return ""
    owner = steps[at - 1]
    if not (owner.is_a(_CLASS) or owner.type.startswith(_PLAIN)):
        return f"self.{name}"
    # as in ``STATE['job'].seen`` or ``self.state.seen``
    start = expression_code(replace(grown, steps=steps[:at]))
    return f"{start}.{name}" if start else ""
