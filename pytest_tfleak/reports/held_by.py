"""Turn a retaining path into text: ``app.cache.HISTORY (list of 55)``, ``EagerTensor``.

This text is only for readers: causes and fingerprints depend on the path's values.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_tfleak.retaining_path import WITHOUT_HOLDER
from pytest_tfleak.retaining_path import Expression
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import Root
from pytest_tfleak.retaining_path import Step

#: Texts by kind of root.
ROOTS = {
    "module": "{name}",
    "fixture": "fixture {name}",
    "parameter": "parameter {name}",
    "body": "the body",
    "function": "the checked function",
    "local": "{name}()",
    "exception": "sys.{name}",
    "signal": "signal handler of {name}",
    "context": "context variable {name}",
    "threads": "Python's table of running threads",
    "atexit": "atexit ({size} functions)",
    "loose": "a list of {size} that only the interpreter or C code refers to",
    "graph": "a graph made earlier ({size} operations)",
    "default-graph": "TensorFlow's default graph ({size} operations)",
    "native": "C or C++ code: no Python object holds it",
    "unsought": "unknown: there was no time to search all Python objects",
}
LOCAL = "local variable {name} of {function}()"
IN_THREAD = "{where} in thread {thread!r}"
THREAD = "thread {name!r}"
#: Texts by kind of step: ``.name`` and ``[key]`` continue an expression.
STEPS = {
    "attribute": ".{name}",
    "item": "[{name}]",
    "index": "[{name}]",
    "key": "[a key]",
    "member": "[...]",
    "closure": "variable {name} of its closure",
    "cell": "a variable of a closure",
    "default": "default of its argument {name}",
    "suspended": "local variable {name} of the suspended {function}()",
}
#: Texts for stores of TensorFlow and Keras, instead of the names that lead to them.
STORES = {
    "graph-stack": "TensorFlow's stack of default graphs",
    "session-stack": "TensorFlow's stack of default sessions",
    "gradients": "TensorFlow's custom-gradient registry",
    "registry": "a registry of TensorFlow",
    "py-functions": "TensorFlow's table of Python functions",
    "keras-state": "Keras' global state",
    "keras-objects": "Keras' registry of custom objects",
}
SIZE = "{text} ({container} of {size})"
NATIVE_PART = "its C++ part"
MANY = "..."
_LONGEST = 6  # edges


def edges_of(path: RetainingPath) -> tuple[str, ...]:
    """Return a path as text, from the root to the object, one text for each edge."""
    if path.root.kind in WITHOUT_HOLDER and not path.in_native_part:
        return (ROOTS[path.root.kind],)
    edges = list(_expressions(path))
    if path.target:
        edges.append(path.target)
    if len(edges) > _LONGEST:
        edges = [*edges[: _LONGEST - 2], MANY, edges[-1]]
    if path.in_native_part:
        edges.append(NATIVE_PART)
    return tuple(edges)


def name_holder(path: RetainingPath) -> str:
    """Return a path down to the container that grows, without its length."""
    sized = [expression.is_sized for expression in path.expressions()]
    last = sized.index(True) if True in sized else 0
    return " → ".join(list(_expressions(path, sizes=False))[: last + 1])


def _expressions(path: RetainingPath, *, sizes: bool = True) -> Iterator[str]:
    for place, expression in enumerate(path.expressions()):
        text = _words(expression)
        if place == 0 and path.store in STORES:
            words = STORES[path.store]
            text = words if expression.is_sized else f"{words} ({text})"
        if sizes and expression.is_sized:
            last = expression.steps[-1]
            text = SIZE.format(text=text, container=_container(last), size=last.size)
        yield text


def _words(expression: Expression) -> str:
    first, *rest = expression.steps or (None,)
    if expression.root is not None:
        text = _start(expression.root, first)
    elif first is None or expression.starts_with_type:
        text = first.short_type if first is not None else ""
    else:
        text = _step(first)
    return text + "".join(map(_step, rest))


def _start(root: Root, first: Step | None) -> str:
    """Return the root as text, together with the first step."""
    if first is not None and first.kind == "unknown":
        return root.name
    if root.kind == "local" and first is not None:
        text = LOCAL.format(name=first.name, function=root.name)
        if root.thread:
            return IN_THREAD.format(where=text, thread=root.thread)
        return text
    if root.kind == "threads" and first is not None and first.name:
        return THREAD.format(name=first.name)
    text = ROOTS[root.kind].format(name=root.name, size=root.size)
    if root.kind == "fixture" and root.name == "self":
        text = root.name  # the instance of a test class, as its methods write it
    return text if first is None or first.kind == "value" else text + _step(first)


def _step(step: Step) -> str:
    if not step.is_shown:
        return ""
    if step.kind == "local":
        where = f"{step.function}() ({step.file}:{step.line})"
        return f"local variable {step.name} of {where}" if step.name else where
    return STEPS[step.kind].format(name=step.name, function=step.function)


def _container(step: Step) -> str:
    return step.container if step.container == "lru_cache" else step.short_type
