"""The types of arguments that a tf.function was traced with.

They are TensorFlow's own objects: trace types and type specs, told by name.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from typing import cast

from pytest_tfleak.diagnosis.fields import read_attribute
from pytest_tfleak.diagnosis.fields import read_field
from pytest_tfleak.diagnosis.fields import short_type_name
from pytest_tfleak.diagnosis.fields import type_name
from pytest_tfleak.diagnosis.fields import types_of
from pytest_tfleak.diagnosis.folding import clip
from pytest_tfleak.diagnosis.phrase import array_spec
from pytest_tfleak.diagnosis.python_details import describe_python

_TRACE_TYPES = "tensorflow.core.function.trace_type.default_types"
_DEEPEST = 6  # levels of nested arguments
_MOST = 200  # leaves of one signature
_LONGEST = 40  # characters of one value
_SCALARS = (bool, int, float, complex, str, bytes, type(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One argument, or a part of a nested one, in text."""

    sort: str  # scalar | tensor | object | container | other
    text: str
    kind: str  # "int", "function", "list": what it is one of
    identity: int = 0  # of an object: what tells two of one text apart
    keys: str = ""  # of a dict
    dtype: str = ""
    shape: str = ""


def read_leaves(function_type: Any) -> dict[str, Leaf]:
    """Return the leaves of a function type by name: ``x``, ``batch['ids'][0]``."""
    leaves: dict[str, Leaf] = {}
    for name, parameter in function_type.parameters.items():
        _add(leaves, name, parameter.type_constraint, 0)
    for name, captured in (getattr(function_type, "captures", None) or {}).items():
        _add(leaves, f"captured {name}", captured, 0)
    return leaves


def describe_signature(function_type: Any) -> str:
    """Return the parameters as a reader writes them: ``x: float32[None], n=1``."""
    words = []
    for name, parameter in function_type.parameters.items():
        leaves: dict[str, Leaf] = {}
        _add(leaves, "", parameter.type_constraint, _DEEPEST - 1)
        leaf = leaves[""]
        words.append(
            f"{name}={leaf.text}" if leaf.sort == "scalar" else f"{name}: {leaf.text}"
        )
    return clip(", ".join(words))


def spec_text(spec: Any) -> str:
    """Return a type spec, or a nested structure of them, in a few words."""
    leaf = _leaf(spec)
    if leaf.sort != "container":
        return leaf.text
    inner = [spec_text(part) for _, part in _parts(spec)]
    return f"({', '.join(inner[:3])}{', …' * (len(inner) > 3)})"


def _add(leaves: dict[str, Leaf], path: str, node: Any, depth: int) -> None:
    leaves[path] = _leaf(node)
    if depth >= _DEEPEST:
        return
    for key, part in _parts(node):
        if len(leaves) >= _MOST:
            return
        _add(leaves, path + key, part, depth + 1)


def _parts(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the types inside a container's, with the index as a reader writes it."""
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
    elif type(node) in (tuple, list):
        yield from _numbered(node)
    elif type(node) is dict:
        yield from ((f"[{_literal(key)}]", part) for key, part in node.items())
    else:
        inner = _element(node)
        if type(inner) in (tuple, list, dict):
            yield from _parts(inner)
        elif inner is not None:
            yield "[0]", inner


def _numbered(parts: Any) -> Iterator[tuple[str, Any]]:
    yield from ((f"[{i}]", part) for i, part in enumerate(parts))


def _element(spec: Any) -> Any:
    """Return what an iterator, a dataset or an optional is said to hold."""
    for name in ("_element_spec", "_value_structure"):
        inner = read_field(spec, name)
        if inner is not None:
            return inner
    return None


def _leaf(node: Any) -> Leaf:
    name = _trace_type(node)
    if name == "Literal":
        value = node.value
        return Leaf(sort="scalar", text=_literal(value), kind=_kind(value))
    if name == "Weakref":
        return _object(node)
    if name == "Reference":  # to a variable: which one is part of the type
        inner = _leaf(node.base)
        return Leaf(
            sort="object",
            text=inner.text,
            kind="variable",
            identity=hash(node.identifier) if type(node.identifier) is int else 0,
        )
    length = sum(1 for _ in _parts(node))
    kind = ""
    if name in ("Tuple", "List", "Dict", "NamedTuple", "Attrs"):
        kind = "tuple" if name == "NamedTuple" else name.lower()
    elif type(node) in (tuple, list, dict):
        kind = type(node).__name__
    if not kind:
        return _spec(node)
    keys = ", ".join(key for key, _ in _parts(node)) if kind == "dict" else ""
    return Leaf(sort="container", text=f"{kind} of {length}", kind=kind, keys=keys)


def _spec(node: Any) -> Leaf:
    kind = short_type_name(node)
    shape, dtype = read_field(node, "_shape"), read_field(node, "_dtype")
    text = kind.removesuffix("Spec")
    if dtype is None:
        return Leaf(sort="other", text=text, kind=text)
    spec = array_spec(dtype_name(dtype), shape_of(shape))
    prefix = "" if text == "Tensor" else f"{text} "
    return Leaf(
        sort="tensor",
        text=prefix + spec,
        kind=text,
        dtype=dtype_name(dtype),
        shape=array_spec("", shape_of(shape)),
    )


def _object(node: Any) -> Leaf:
    reference = read_field(node, "_ref")
    # a subclass of weakref.ref may run code of its own
    value = reference() if type(reference) is weakref.ref else None
    kind = "" if value is None else _kind(value)
    phrase = describe_python(value) if value is not None else None
    text = "an object" if value is None else kind
    if phrase is not None:
        text = phrase.words()
    return Leaf(sort="object", text=text, kind=kind, identity=id(reference))


def _kind(value: object) -> str:
    return type_name(type(value))


def _literal(value: object) -> str:
    if type(value) in _SCALARS:
        return clip(repr(value), _LONGEST)
    if any(cls is type for _, cls in types_of(value)):
        return type_name(cast("type", value))
    return f"a {_kind(value)}"


def _trace_type(node: Any) -> str:
    for (module, name), _ in types_of(node):
        if module == _TRACE_TYPES:
            return name
    return ""


def dtype_name(dtype: Any) -> str:
    """Return ``float32`` for a dtype of TensorFlow's, of NumPy's or in text."""
    if type(dtype) is str:
        return dtype
    name = read_attribute(dtype, "name")
    return name.removesuffix("_ref") if type(name) is str else short_type_name(dtype)


def shape_of(shape: Any) -> tuple[object, ...] | None:
    """Return the dimensions of a shape, None where not even their number is known."""
    dims = shape if type(shape) in (tuple, list) else read_field(shape, "_dims")
    return tuple(dims) if type(dims) in (tuple, list) else None
