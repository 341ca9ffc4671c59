"""Have what each new dataset needs made once: its functions, and its operations.

TensorFlow keeps a little of each function that is traced or instantiated, its name and
what would publish its statistics, for ever. ``map()`` traces its function anew in each
call. An eager operation runs as a function, which is cached unless it makes a dataset;
and ``predict()`` makes a dozen of them in each call.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from collections.abc import Hashable
from contextlib import suppress
from typing import Any

from pytest_tfleak.census import full_name
from pytest_tfleak.diagnosis.fields import fields_of
from pytest_tfleak.diagnosis.neutraliser import module_of_tensorflow

# by id: a metaclass may have its own idea of what is equal
_PLAIN_IDS = frozenset(map(id, (type(None), bool, int, float, str, bytes)))
_SHARED = (type, types.ModuleType, types.BuiltinFunctionType)

Make = Callable[..., Any]


def traced_once(wrap: Make) -> Make:
    """Return what wraps a dataset's function, the same for an equal function again."""
    is_eager = module_of_tensorflow("eager.context").executing_eagerly
    wrapped: dict[Hashable, Any] = {}

    def wrap_once(*arguments: Any, **options: Any) -> Any:
        key = None
        if is_eager():  # each graph needs its own
            with suppress(Exception):
                key = tuple(map(_likeness, (*arguments, *options, *options.values())))
        if key is None:
            return wrap(*arguments, **options)
        if key not in wrapped:
            wrapped[key] = wrap(*arguments, **options)
        return wrapped[key]

    return wrap_once


def cached(operation: Make) -> Make:
    """Return an operation that runs in a function, which TensorFlow caches."""
    is_eager = module_of_tensorflow("eager.context").executing_eagerly
    module = module_of_tensorflow("eager.polymorphic_function.polymorphic_function")
    signature = inspect.signature(operation)
    functions: dict[Hashable, Any] = {}

    def run(*arguments: Any, **options: Any) -> Any:
        if not is_eager():
            return operation(*arguments, **options)
        fixed = signature.bind(*arguments, **options).arguments
        given = {n: v for n, v in fixed.items() if _are_tensors(v)}
        for name in given:
            del fixed[name]
        attributes = tuple((name, _text(value)) for name, value in fixed.items())
        key = attributes, tuple((name, _kinds(value)) for name, value in given.items())
        if key not in functions:

            def call(tensors: list[Any]) -> Any:
                return operation(**fixed, **dict(zip(given, tensors, strict=True)))

            function = module.function(call, autograph=False)
            functions[key] = function.get_concrete_function(list(given.values()))
        return functions[key](list(given.values()))

    return run


def _are_tensors(value: Any) -> bool:
    is_tensor = module_of_tensorflow("framework.tensor_util").is_tf_type
    flat = _flat(value)
    return bool(flat) and all(map(is_tensor, flat))


def _flat(value: Any) -> list[Any]:
    return list(value) if type(value) in (list, tuple) else [value]


def _kinds(tensors: Any) -> tuple[tuple[str, str], ...]:
    return tuple((str(t.dtype), str(t.shape)) for t in _flat(tensors))


def _text(value: Any) -> str:
    """Return what is equal for equal attributes of an operation."""
    kind = type(value)
    return f"{id(value)}" if hasattr(kind, "function_type") else f"{kind} {value!r}"


def _likeness(value: Any) -> Hashable:
    """Return what is equal for values that do the same, or raise an error."""
    kind = type(value)
    if id(kind) in _PLAIN_IDS:
        return kind, value
    if kind is tuple or kind is list:
        return kind, tuple(map(_likeness, value))
    if issubclass(kind, _SHARED):
        return kind, id(value)
    if kind is types.FunctionType:
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        named = sorted((value.__kwdefaults__ or {}).items())
        return value.__code__, _likeness([value.__defaults__, *named, *cells])
    if full_name(kind).startswith("keras."):  # what cuts arrays into batches, say
        fields = fields_of(value).items()
        plain = [(name, v) for name, v in fields if id(type(v)) in _PLAIN_IDS]
        return kind, tuple(plain)
    if hasattr(kind, "element_spec"):
        return repr(value.element_spec)
    raise TypeError(kind)
