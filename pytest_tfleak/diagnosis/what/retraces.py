"""Explain why a tf.function is retraced: which argument is new each time.

Compare the signatures of its newest traces. Also find tf.functions that are created in
each call, and name the functions that libraries create.
"""

from __future__ import annotations

import re
import types
import weakref
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from typing import cast

from pytest_tfleak import object_facts as facts
from pytest_tfleak.diagnosis.safe_read import read_attribute
from pytest_tfleak.diagnosis.safe_read import read_field
from pytest_tfleak.diagnosis.safe_read import short_type_name
from pytest_tfleak.diagnosis.safe_read import type_name
from pytest_tfleak.diagnosis.safe_read import types_of
from pytest_tfleak.diagnosis.what.python_objects import facts_of_python
from pytest_tfleak.diagnosis.what.python_objects import file_name
from pytest_tfleak.diagnosis.what.python_objects import name_callable
from pytest_tfleak.diagnosis.what.wrapped import unwrap
from pytest_tfleak.diagnosis.what.wrapped import user_function_in
from pytest_tfleak.diagnosis.what.wrapped import user_parameter
from pytest_tfleak.object_facts import Remade
from pytest_tfleak.object_facts import Retrace
from pytest_tfleak.probes.census import is_exactly
from pytest_tfleak.reports.held_object import clip
from pytest_tfleak.reports.held_object import spec_of_array
from pytest_tfleak.reports.held_object import words_of
from pytest_tfleak.tf import names

_WINDOW = 12  # how many of the newest traces are compared
_FEWEST = 3  # with fewer new traces, older ones are compared, too
_SHOWN = 3  # values in one message
_OFTEN = 0.5  # an argument that changes less often, relative to others, is no cause
_DEEPEST = 6  # most levels of nested arguments
_MOST = 200  # most leaves of one signature
_LONGEST = 40  # most characters of one value
_SCALARS = (bool, int, float, complex, str, bytes, type(None))
_INFERENCE = re.compile(r"__(?:inference|forward|backward)_(.*?)(?:_\d+)*")
#: How tf.data names a function that it makes from the user's function.
_DATASET = re.compile(r"Dataset_(\w+?)_(\w+)")
_FIT = facts.KERAS_FIT
_PREDICT = facts.KERAS_PREDICT
#: Names that only Keras uses, alone or with the enclosing function.
_OF_KERAS = {
    "one_step_on_data": _FIT,
    "one_step_on_iterator": _FIT,
    "multi_step_on_iterator": _FIT,
    "one_step_on_data_distributed": _PREDICT,
    "multi_step_on_data": _PREDICT,
    "Model.make_train_function.<locals>.train_function": _FIT,
    "Model.make_test_function.<locals>.test_function": _FIT,
    "Model.make_predict_function.<locals>.predict_function": _PREDICT,
}


def explain_retraces(function: Any, since: int = 0) -> Retrace | None:
    """Return which argument makes a tf.function retrace, None if none does.

    Ignore the first ``since`` traces, unless there are too few others.
    """
    with suppress(Exception):  # other versions of TensorFlow may differ
        traces = _traces(function)
        first = since if len(traces) - since >= _FEWEST else 0
        return _explain(function, traces[first:][-_WINDOW:])
    return None


def count_traces(function: Any) -> int:
    """Return how many traces a tf.function keeps, 0 if that cannot be read."""
    with suppress(Exception):
        return len(_traces(function))
    return 0


def _traces(function: Any) -> list[tuple[Any, Any]]:
    """Return the context and the function type of each trace, oldest first."""
    return list(
        read_field(read_field(function, names.FUNCTION_CACHE), names.CACHED_TRACES)
    )


def _explain(function: Any, traces: list[Any]) -> Retrace | None:
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
        reason, kind = _changed_around([context for context, _ in traces]), ""
        if not reason:
            return None
        argument, values, sort = "", [], "context"
    else:
        argument = often[0]
        leaves = [leaves[argument] for leaves in signatures if argument in leaves]
        sort, reason, kind = _classify(leaves)
        values = _values(leaves, sort)
    rename = parameters_of(function)
    return Retrace(
        function=name,
        argument=rename(argument),
        values=tuple(values),
        sort=sort,
        reason=reason,
        kind=kind,
        file=file_name(file) if file else "",
        line=line,
        also=tuple(map(rename, often[1:_SHOWN])),
    )


def _changed(old: dict[str, Leaf], new: dict[str, Leaf]) -> list[str]:
    """Return the innermost parts of arguments that differ between two traces."""
    changed = [p for p, leaf in new.items() if p in old and old[p] != leaf]
    return [
        p for p in changed if not any(q.startswith((f"{p}[", f"{p}.")) for q in changed)
    ]


def _classify(leaves: list[Leaf]) -> tuple[str, str, str]:
    """Return the sort of a change, the reason, and the type that it is about."""
    sorts = {leaf.sort for leaf in leaves}
    last = leaves[-1]
    if sorts == {"tensor"} and len({leaf.kind for leaf in leaves}) == 1:
        if len({leaf.dtype for leaf in leaves}) > 1:
            return "dtype", "dtype", ""
        if len({leaf.shape for leaf in leaves}) > 1:
            return "shape", "shape", ""
        return "structure", "spec", last.kind
    if "object" in sorts:
        kinds = {leaf.kind for leaf in leaves if leaf.sort == "object" and leaf.kind}
        return "object", "new-object", kinds.pop() if len(kinds) == 1 else ""
    if sorts == {"scalar"}:
        kinds = {leaf.kind for leaf in leaves if leaf.kind != "NoneType"}
        kind = kinds.pop() if len(kinds) == 1 else ""
        return "python_scalar", "python-value", kind
    if sorts == {"container"}:
        return "structure", "structure", ""
    return "structure", "kind-of-argument", ""


def _values(leaves: list[Leaf], sort: str) -> list[str]:
    if sort == "object":
        return []
    all_texts = [leaf.text for leaf in leaves]
    if len(set(all_texts)) == 1 and leaves[0].keys:
        all_texts = [f"a dict with {leaf.keys}" for leaf in leaves]
    # drop only repetitions: False → True → False stays
    texts = [all_texts[0]] + [new for old, new in pairwise(all_texts) if new != old]
    shown = [clip(text) for text in texts[:_SHOWN]]
    return shown + ["…"] * (len(texts) > _SHOWN)


def _changed_around(contexts: list[Any]) -> str:
    """Return what differs around calls whose arguments are equal, "" if nothing."""
    inner = [
        read_field(context, names.TRACING_CONTEXT) or context[0] for context in contexts
    ]
    if len({id(getattr(context, "parent_graph", None)) for context in inner}) > 1:
        return "graph"
    for name, reason in (
        ("device_functions", "device"),
        ("colocation_stack", "colocation"),
        ("in_cross_replica_context", "strategy"),
        ("xla_context_id", "xla"),
    ):
        if len({str(getattr(context, name, None)) for context in inner}) > 1:
            return reason
    return ""


def made_in_loop(functions: Sequence[Any]) -> list[Remade]:
    """Return the places that created several living tf.functions, most first."""
    places: Counter[tuple[str, str | None, int, bool]] = Counter()
    for function in functions:
        with suppress(Exception):
            name, file, line = _place(function)
            places[name, file, line, _is_method(function)] += 1
    return [
        Remade(
            function=_local(name),
            file=file_name(file) if file else "",
            line=line,
            count=count,
            owner=owner_of(name),
            method=method,
        )
        for (name, file, line, method), count in places.most_common()
        if count > 1
    ]


def locate_function(function: Any) -> tuple[str, str | None, int]:
    """Return a tf.function's name, and the file and line that define it."""
    with suppress(Exception):
        name, file, line = _place(function)
        return _local(name), file, line
    return short_type_name(function), None, 0


def _place(function: Any) -> tuple[str, str | None, int]:
    """Return the qualified name, file and line of the wrapped Python function."""
    python = _user_function(function) or unwrap(
        read_field(function, names.PYTHON_FUNCTION)
    )
    if type(python) is types.FunctionType:
        code = python.__code__
        return python.__qualname__, code.co_filename, code.co_firstlineno
    return name_callable(python), None, 0


def _user_function(function: Any) -> types.FunctionType | None:
    """Return the user's function that a library's tf.function calls, if there is one.

    The train and test steps of Keras models are known by their own names.
    """
    python = unwrap(read_field(function, names.PYTHON_FUNCTION))
    if type(python) is types.FunctionType and owner_of(python.__qualname__):
        return None
    return user_function_in(python)


def parameters_of(function: Any) -> Callable[[str], str]:
    """Return what turns the argument of a trace into the name that the user gave it."""
    user = _user_function(function)
    return lambda argument: user_parameter(argument, user)


def _is_method(function: Any) -> bool:
    """Return whether a tf.function belongs to one instance, as a decorated method."""
    python = read_field(function, names.PYTHON_FUNCTION)
    original = read_field(python, names.ORIGINAL_FUNCTION)
    target = original.__self__ if type(original) is types.MethodType else None
    return types_of(target)[0][0] in names.METHOD_TARGET.types


def _local(qualname: str) -> str:
    if qualname.endswith("<lambda>"):
        return "<lambda>"
    return qualname.rpartition("<locals>.")[2]


def owner_of(qualname: str) -> str:
    """Return what a library's function is, ``""`` for one of user code."""
    around, _, name = qualname.rpartition("<locals>.")
    if around and qualname in _OF_KERAS:
        return _OF_KERAS[qualname]
    return _OF_KERAS.get(name, "")


def plain_function_name(name: object) -> str:
    """Return a function's name in user code: ``step`` for ``__inference_step_12``.

    A function from tf.data is named after its method: ``Dataset.map(lambda)``.
    """
    text = name.decode(errors="replace") if type(name) is bytes else name
    if type(text) is not str:
        return ""
    match = _INFERENCE.fullmatch(text)
    plain = match[1] if match else text
    made = _DATASET.fullmatch(plain)
    return f"Dataset.{made[1]}({made[2]})" if made else plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One argument of a signature, or a part of a nested one, as text."""

    sort: str  # scalar | tensor | object | container | other
    text: str
    kind: str  # the name of its type: "int", "function", "list"
    identity: int = 0  # tells apart objects with the same text
    keys: str = ""  # the keys of a dict
    dtype: str = ""
    shape: str = ""
    dims: tuple[str, ...] | None = None  # of the shape, None if its rank is unknown


def read_leaves(function_type: Any) -> dict[str, Leaf]:
    """Return the leaves of a function type by name: ``x``, ``batch['ids'][0]``."""
    leaves: dict[str, Leaf] = {}
    for name, parameter in function_type.parameters.items():
        _add(leaves, name, parameter.type_constraint, 0)
    for name, captured in (getattr(function_type, "captures", None) or {}).items():
        _add(leaves, f"captured {name}", captured, 0)
    return leaves


def read_leaf(parameter: Any) -> Leaf:
    """Return a parameter of a function type, without its parts."""
    return _leaf(parameter.type_constraint)


def newest_types(function: Any) -> list[Any]:
    """Return the function types of a tf.function's newest traces, oldest first."""
    return [function_type for _, function_type in _traces(function)[-_WINDOW:]]


def describe_signature(function_type: Any) -> str:
    """Return the parameters of a signature as text: ``x: float32[None], n=1``."""
    words = []
    for name, parameter in function_type.parameters.items():
        leaves: dict[str, Leaf] = {}
        _add(leaves, "", parameter.type_constraint, _DEEPEST - 1)
        leaf = leaves[""]
        words.append(
            f"{name}={leaf.text}" if leaf.sort == "scalar" else f"{name}: {leaf.text}"
        )
    return clip(", ".join(words))


def _add(leaves: dict[str, Leaf], path: str, node: Any, depth: int) -> None:
    leaves[path] = _leaf(node)
    if depth >= _DEEPEST:
        return
    for key, part in _parts(node):
        if len(leaves) >= _MOST:
            return
        _add(leaves, path + key, part, depth + 1)


def spec_text(spec: Any) -> str:
    """Return a short text for a type spec or a nested structure of type specs."""
    leaf = _leaf(spec)
    if leaf.sort != "container":
        return leaf.text
    inner = [spec_text(part) for _, part in _parts(spec)]
    return f"({', '.join(inner[:3])}{', …' * (len(inner) > 3)})"


def _parts(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the types inside a container's type, with their indexes as code."""
    name = _trace_type(node)
    if name == "Tuple":
        yield from _numbered(node.components)
    elif name == "List":
        yield from _numbered(node.components_tuple.components)
    elif name == "Dict":
        for key, part in node.mapping.items():
            yield f"[{_literal(key)}]", part
    elif name in ("NamedTuple", "Attrs"):
        named = node.named_attributes if name == "Attrs" else node
        parts = zip(named.attribute_names, named.attributes.components, strict=False)
        yield from ((f".{attribute}", part) for attribute, part in parts)
    elif is_exactly(node, tuple, list):
        yield from _numbered(node)
    elif type(node) is dict:
        yield from ((f"[{_literal(key)}]", part) for key, part in node.items())
    else:
        inner = _element(node)
        if is_exactly(inner, tuple, list, dict):
            yield from _parts(inner)
        elif inner is not None:
            yield "[0]", inner


def _numbered(parts: Any) -> Iterator[tuple[str, Any]]:
    yield from ((f"[{i}]", part) for i, part in enumerate(parts))


def _element(spec: Any) -> Any:
    """Return the element spec of an iterator, a dataset or an optional."""
    return read_field(spec, names.ELEMENT_SPEC)


def _leaf(node: Any) -> Leaf:
    name = _trace_type(node)
    if name == "Literal":
        value = node.value
        return Leaf(sort="scalar", text=_literal(value), kind=_kind(value))
    if name == "Weakref":
        return _object(node)
    length = sum(1 for _ in _parts(node))
    kind = ""
    if name in ("Tuple", "List", "Dict", "NamedTuple", "Attrs"):
        kind = "tuple" if name == "NamedTuple" else name.lower()
    elif is_exactly(node, tuple, list, dict):
        kind = type(node).__name__
    if not kind:
        return _spec(node)
    keys = ", ".join(key for key, _ in _parts(node)) if kind == "dict" else ""
    return Leaf(sort="container", text=f"{kind} of {length}", kind=kind, keys=keys)


def _object(node: Any) -> Leaf:
    reference = read_field(node, names.TRACED_REFERENCE)
    # not a subclass of weakref.ref, which may run code of its own
    value = reference() if type(reference) is weakref.ref else None
    kind = "" if value is None else _kind(value)
    known = facts_of_python(value) if value is not None else None
    text = "an object" if value is None else kind
    if known is not None:
        text = words_of(known)
    return Leaf(sort="object", text=text, kind=kind, identity=id(reference))


def _spec(node: Any) -> Leaf:
    kind = short_type_name(node)
    shape, dtype = read_field(node, names.SHAPE), read_field(node, names.DTYPE)
    text = kind.removesuffix("Spec")
    if dtype is None:
        return Leaf(sort="other", text=text, kind=text)
    dims = shape_of(shape)
    texts = None if dims is None else tuple(map(str, dims))
    spec = spec_of_array(dtype_name(dtype), texts)
    prefix = "" if text == "Tensor" else f"{text} "
    return Leaf(
        sort="tensor",
        text=prefix + spec,
        kind=text,
        dtype=dtype_name(dtype),
        shape=spec_of_array("", texts),
        dims=texts,
    )


def _literal(value: object) -> str:
    if is_exactly(value, *_SCALARS):
        return clip(repr(value), _LONGEST)
    if any(cls is type for _, cls in types_of(value)):
        return type_name(cast("type", value))
    return f"a {_kind(value)}"


def _kind(value: object) -> str:
    return type_name(type(value))


def _trace_type(node: Any) -> str:
    for (module, name), _ in types_of(node):
        if module in names.TRACE_TYPES.dotted:
            return name
    return ""


def dtype_name(dtype: Any) -> str:
    """Return ``float32`` for a dtype of TensorFlow or NumPy, or for its name."""
    if type(dtype) is str:
        return dtype
    name = read_attribute(dtype, "name")
    return name.removesuffix("_ref") if type(name) is str else short_type_name(dtype)


def shape_of(shape: Any) -> tuple[object, ...] | None:
    """Return the dimensions of a shape, None if its rank is unknown."""
    dims = (
        shape if is_exactly(shape, tuple, list) else read_field(shape, names.DIMENSIONS)
    )
    return tuple(dims) if is_exactly(dims, tuple, list) else None
