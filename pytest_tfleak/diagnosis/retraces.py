"""What forces a tf.function to be traced again: the argument that is new each time.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import functools
import types
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pytest_tfleak.diagnosis.fields import read_field
from pytest_tfleak.diagnosis.fields import short_type_name
from pytest_tfleak.diagnosis.fields import types_of
from pytest_tfleak.diagnosis.folding import clip
from pytest_tfleak.diagnosis.libraries import owner_of
from pytest_tfleak.diagnosis.python_details import file_name
from pytest_tfleak.diagnosis.python_details import name_callable
from pytest_tfleak.diagnosis.signatures import Leaf
from pytest_tfleak.diagnosis.signatures import read_leaves

_WINDOW = 12  # of the newest traces are compared
_FEWEST = 3  # traces that say enough without older ones
_SHOWN = 3  # values in one message
_OFTEN = 0.5  # of the newest traces: what changes less often is not the cause
_WRAPPED = 20  # layers of decorators


#: Types whose objects have a name of their own in a message.
_OBJECTS = {
    "method": "bound method",
    "object": "object",
    "type": "class",
    "variable": "variable",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrace:
    """Why one tf.function is traced again and again. Text and numbers only."""

    function: str
    argument: str  # as the function calls it, with the index of a nested part
    values: tuple[str, ...]  # the first ones of the newest traces
    sort: str  # python_scalar | shape | dtype | object | structure | context
    reason: str  # in words: "a Python int", "a new shape"
    file: str | None  # where the Python function is written
    line: int
    traces: int  # in the function's cache
    also: tuple[str, ...] = ()  # other arguments that change as often

    def told(self) -> str:
        """Return ``f at app.py:12 is traced anew: n: 1 → 2 → 3, a Python int``."""
        where = _where(self.file, self.line)
        return f"{self.function}{where} is traced anew: {self.words()}"

    def words(self) -> str:
        """Return ``n: 1 → 2 → 3, a Python int``."""
        if not self.argument:
            return self.reason
        arrows = " → ".join(self.values)
        words = f"{self.argument}: {arrows}{', ' if arrows else ''}{self.reason}"
        return f"{words}; also {', '.join(self.also)}" if self.also else words


@dataclass(frozen=True, slots=True, kw_only=True)
class Remade:
    """Several tf.functions that are made of one place in the code."""

    function: str
    file: str | None
    line: int
    count: int
    owner: str = ""  # of a library's function: what it is
    method: bool = False  # of instances: each has a tf.function of its own

    def words(self) -> str:
        """Return ``tf.function is made anew in each call: f at app.py:12``."""
        if self.owner:
            return f"{self.owner} is made anew in each call"
        where = _where(self.file, self.line)
        if self.method:
            return f"a tf.function for each new instance: {self.function}{where}"
        return f"tf.function is made anew in each call: {self.function}{where}"


def _where(file: str | None, line: int) -> str:
    return f" at {file_name(file)}:{line}" if file else ""


def explain_retraces(function: Any, since: int = 0) -> Retrace | None:
    """Say which argument makes a tf.function trace again, None where it does not.

    ``since``: so many traces came before; they count where there are few others.
    """
    with suppress(Exception):  # another TensorFlow keeps its traces elsewhere
        traces = _traces(function)
        first = since if len(traces) - since >= _FEWEST else 0
        return _explain(function, traces[first:][-_WINDOW:], len(traces))
    return None


def count_traces(function: Any) -> int:
    """Return how many traces a tf.function keeps; 0 where it does not say."""
    with suppress(Exception):
        return len(_traces(function))
    return 0


def made_in_loop(functions: Sequence[Any]) -> list[Remade]:
    """Return the places that several living tf.functions come from, the most first."""
    places: Counter[tuple[str, str | None, int, bool]] = Counter()
    for function in functions:
        with suppress(Exception):
            name, file, line = _place(function)
            places[name, file, line, _is_method(function)] += 1
    return [
        Remade(
            function=_local(name),
            file=file,
            line=line,
            count=count,
            owner=owner_of(name),
            method=method,
        )
        for (name, file, line, method), count in places.most_common()
        if count > 1
    ]


def locate_function(function: Any) -> tuple[str, str | None, int]:
    """Return a tf.function's name, and the file and line that it is written in."""
    with suppress(Exception):
        name, file, line = _place(function)
        return _local(name), file, line
    return short_type_name(function), None, 0


def _traces(function: Any) -> list[tuple[Any, Any]]:
    """Return the context and the function type of each trace, the oldest first."""
    return list(read_field(read_field(function, "_function_cache"), "_primary"))


def _explain(function: Any, traces: list[Any], count: int) -> Retrace | None:
    if len(traces) < 2:
        return None
    signatures = [read_leaves(function_type) for _, function_type in traces]
    changes: Counter[str] = Counter()
    for old, new in pairwise(signatures):
        changes.update(_changed(old, new))
    name, file, line = locate_function(function)
    least = _OFTEN * max(changes.values(), default=0)
    often = [path for path, times in changes.most_common() if times > least]
    if not often:
        reason = _context_reason([context for context, _ in traces])
        if reason is None:
            return None
        argument, values, sort = "", [], "context"
    else:
        argument = often[0]
        leaves = [leaves[argument] for leaves in signatures if argument in leaves]
        sort, reason = _classify(leaves)
        values = _values(leaves, sort)
    return Retrace(
        function=name,
        argument=argument,
        values=tuple(values),
        sort=sort,
        reason=reason,
        file=file,
        line=line,
        traces=count,
        also=tuple(often[1:_SHOWN]),
    )


def _changed(old: dict[str, Leaf], new: dict[str, Leaf]) -> list[str]:
    """Return the innermost paths that differ between two traces."""
    changed = [p for p, leaf in new.items() if p in old and old[p] != leaf]
    return [
        p for p in changed if not any(q.startswith((f"{p}[", f"{p}.")) for q in changed)
    ]


def _classify(leaves: list[Leaf]) -> tuple[str, str]:
    """Return the sort of a change, and words for it."""
    sorts = {leaf.sort for leaf in leaves}
    last = leaves[-1]
    if sorts == {"tensor"} and len({leaf.kind for leaf in leaves}) == 1:
        if len({leaf.dtype for leaf in leaves}) > 1:
            return "dtype", "another dtype"
        if len({leaf.shape for leaf in leaves}) > 1:
            return "shape", "a new shape"
        return "structure", f"another {last.kind}"
    if "object" in sorts:
        kinds = {leaf.kind for leaf in leaves if leaf.sort == "object" and leaf.kind}
        return "object", _object_words(kinds)
    if sorts == {"scalar"}:
        kinds = {leaf.kind for leaf in leaves if leaf.kind != "NoneType"}
        kind = kinds.pop() if len(kinds) == 1 else "value"
        return "python_scalar", f"a Python {kind}"
    if sorts == {"container"}:
        return "structure", "another structure"
    return "structure", "another kind of argument"


def _object_words(kinds: set[str]) -> str:
    if len(kinds) != 1:  # they are gone by now: TensorFlow refers to them weakly
        return "a new object each call, such as a lambda or a bound method"
    kind = next(iter(kinds))
    return f"a new {_OBJECTS.get(kind, f'{kind} object')} each call"


def _values(leaves: list[Leaf], sort: str) -> list[str]:
    if sort == "object":
        return []
    said = [leaf.text for leaf in leaves]
    if len(set(said)) == 1 and leaves[0].keys:
        said = [f"a dict with {leaf.keys}" for leaf in leaves]
    # by neighbours: False → True → False is three values
    texts = [said[0]] + [new for old, new in pairwise(said) if new != old]
    shown = [clip(text) for text in texts[:_SHOWN]]
    return shown + ["…"] * (len(texts) > _SHOWN)


def _context_reason(contexts: list[Any]) -> str | None:
    """Return what differs in the surroundings of equal calls."""
    inner = [read_field(context, "context") or context[0] for context in contexts]
    if len({id(getattr(context, "parent_graph", None)) for context in inner}) > 1:
        return "it is called inside a new tf.Graph each time"
    for name, words in (
        ("device_functions", "under another tf.device scope"),
        ("colocation_stack", "under another colocation scope"),
        ("in_cross_replica_context", "in another strategy's context"),
        ("xla_context_id", "in another XLA context"),
    ):
        if len({str(getattr(context, name, None)) for context in inner}) > 1:
            return f"it is called {words} each time"
    return None


def _place(function: Any) -> tuple[str, str | None, int]:
    """Return the qualified name, file and line of the Python function underneath."""
    python = _unwrap(read_field(function, "_python_function"))
    if type(python) is types.FunctionType:
        code = python.__code__
        return python.__qualname__, code.co_filename, code.co_firstlineno
    return name_callable(python), None, 0


def _unwrap(o: Any) -> Any:
    for _ in range(_WRAPPED):
        if type(o) is types.MethodType:
            o = o.__func__
        elif functools.partial in (cls for _, cls in types_of(o)):
            o = functools.partial.func.__get__(o)
        else:
            inner = read_field(o, "__wrapped__")
            if inner is None:
                break
            o = inner
    return o


def _is_method(function: Any) -> bool:
    """Say whether a tf.function was made for an instance of a decorated class."""
    python = read_field(function, "_python_function")
    original = read_field(python, "__original_wrapped__")
    target = original.__self__ if type(original) is types.MethodType else None
    return short_type_name(target) == "TfMethodTarget"


def _local(qualname: str) -> str:
    if qualname.endswith("<lambda>"):
        return "<lambda>"
    return qualname.rpartition("<locals>.")[2]
