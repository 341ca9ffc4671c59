"""Say why a tf.function is traced again, or that it is created in each call."""

from __future__ import annotations

from pytest_tfleak.object_facts import Remade
from pytest_tfleak.object_facts import Retrace
from pytest_tfleak.reports.held_object import STATES

#: Texts by reason; ``kind`` is the name of a type.
REASONS = {
    "dtype": "another dtype",
    "shape": "a new shape",
    "spec": "another {kind}",
    "new-object": "a new {kind} each call",
    "python-value": "a Python {kind}",
    "structure": "another structure",
    "kind-of-argument": "another kind of argument",
    "graph": "it is called inside a new tf.Graph each time",
    "device": "it is called under another tf.device scope each time",
    "colocation": "it is called under another colocation scope each time",
    "strategy": "it is called in another strategy's context each time",
    "xla": "it is called in another XLA context each time",
}
#: Types for which a message uses a word of its own.
OBJECTS = {
    "method": "bound method",
    "object": "object",
    "type": "class",
}
UNKNOWN_OBJECT = "a new object each call, such as a lambda or a bound method"
UNKNOWN_VALUE = "value"
RETRACED = "{function} is retraced: {why}"
CHANGE = "{argument}: {values}{reason}"
ALSO = "{words}; also {others}"
REMADE = "tf.function is created in each call: {function}"
REMADE_BY_LIBRARY = "{owner} is created in each call"
REMADE_METHOD = "a tf.function for each new instance: {function}"
PLACE = "{function} at {file}:{line}"


def words_of_retrace(retrace: Retrace) -> str:
    """Return ``f at app.py:12 is retraced: n: 1 → 2 → 3, a Python int``."""
    function = _placed(retrace.function, retrace.file, retrace.line)
    return RETRACED.format(function=function, why=why_retraced(retrace))


def why_retraced(retrace: Retrace) -> str:
    """Return ``n: 1 → 2 → 3, a Python int``."""
    reason = _reason(retrace)
    if not retrace.argument:
        return reason
    arrows = " → ".join(retrace.values)
    words = CHANGE.format(
        argument=retrace.argument,
        values=f"{arrows}, " if arrows else "",
        reason=reason,
    )
    if not retrace.also:
        return words
    return ALSO.format(words=words, others=", ".join(retrace.also))


def words_of_remade(remade: Remade) -> str:
    """Return ``tf.function is created in each call: f at app.py:12``."""
    if remade.owner:
        return REMADE_BY_LIBRARY.format(owner=STATES[remade.owner])
    function = _placed(remade.function, remade.file, remade.line)
    text = REMADE_METHOD if remade.method else REMADE
    return text.format(function=function)


def _reason(retrace: Retrace) -> str:
    kind = retrace.kind
    if retrace.reason == "new-object":
        if not kind:  # TensorFlow only keeps weak references to the objects
            return UNKNOWN_OBJECT
        kind = OBJECTS.get(kind, f"{kind} object")
    return REASONS[retrace.reason].format(kind=kind or UNKNOWN_VALUE)


def _placed(function: str, file: str, line: int) -> str:
    if not file:
        return function
    return PLACE.format(function=function, file=file, line=line)
