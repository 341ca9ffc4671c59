"""Take away what TensorFlow keeps of each dataset, and of each iterator over one.

When a dataset ends, an error in C++ leaves a rendezvous behind that is never freed. A
dataset that is tuned leaves a model in the metrics. Each function that is wrapped, and
each operation that makes a dataset, leaves a kernel, so equal ones are made only once.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable
from collections.abc import Hashable
from contextlib import suppress
from functools import partial
from typing import Any

from pytest_tfleak.diagnosis.experiments.intervention import Intervention
from pytest_tfleak.diagnosis.safe_read import fields_of
from pytest_tfleak.probes.census import full_name
from pytest_tfleak.probes.census import is_exactly
from pytest_tfleak.tf import names

#: The names of the operations that make a dataset.
_MAKES = re.compile(r"(?!(initialize|reduce|register|save)_)[a-z]\w*dataset(_v\d)?")

Make = Callable[..., Any]


class QuietIterators(Intervention):
    """Find the end of a dataset without an error in C++, tune nothing, make once."""

    name = "quiet-iterators"
    words = "with datasets made once, not tuned, and ended without an error"

    def _begin(self) -> None:
        iterator_type = names.OWNED_ITERATOR.get()
        untuned = names.DATASET_OPTIONS.get()()
        untuned.autotune.enabled = False
        create = partial(self._untuned, untuned)
        self._patch(iterator_type, names.CREATE_ITERATOR, create)
        module = names.DATASET_FUNCTION.owner()
        self._patch(module, names.DATASET_FUNCTION.attribute, self._wrapping)
        if not self.acts:
            return
        self._patch(iterator_type, names.NEXT_ELEMENT, self._following)
        modules = (names.DATASET_OPERATIONS, names.MORE_DATASET_OPERATIONS)
        for operations in (module.get() for module in modules):
            for name in filter(_MAKES.fullmatch, list(vars(operations))):
                self._patch(operations, name, cached)

    def _wrapping(self, wrap: Make) -> Make:
        """Count the functions: reduce() and save() make no iterator in Python."""
        wrap_once = traced_once(wrap) if self.acts else wrap

        def count_and_wrap(*arguments: Any, **options: Any) -> Any:
            self.seen += 1
            return wrap_once(*arguments, **options)

        return count_and_wrap

    def _untuned(self, untuned: Any, create: Make) -> Make:
        is_eager = names.EXECUTING_EAGERLY.get()

        def create_iterator(iterator: Any, dataset: Any) -> None:
            self.seen += 1
            if self.acts and is_eager():
                dataset = dataset.with_options(untuned)
            create(iterator, dataset)

        return create_iterator

    def _following(self, original: Make) -> Make:
        """Return a function for the next element, which raises an error at the end."""
        is_eager = names.EXECUTING_EAGERLY.get()
        execution_mode, sync = names.EXECUTION_MODE.get(), names.SYNC.get()
        get_next = names.NEXT_AS_OPTIONAL.get()
        has_value = names.OPTIONAL_HAS_VALUE.get()
        get_value = names.OPTIONAL_GET_VALUE.get()
        out_of_range, unflatten = names.OUT_OF_RANGE.get(), names.UNFLATTEN.get()

        def next_internal(iterator: Any) -> Any:
            parts = None
            if is_eager():
                with self._guarded():
                    parts = _parts_of(iterator)
            if parts is None:
                return original(iterator)
            resource, spec, kinds = parts
            with execution_mode(sync):
                element = get_next(resource, **kinds)
                if not has_value(element):
                    raise out_of_range(None, None, "End of sequence")
                values = get_value(element, **kinds)
            return unflatten(spec, values)

        return next_internal


def _parts_of(iterator: Any) -> tuple[Any, Any, dict[str, Any]]:
    kinds = {
        "output_types": names.ITERATOR_TYPES.of(iterator),
        "output_shapes": names.ITERATOR_SHAPES.of(iterator),
    }
    resource = names.ITERATOR_RESOURCE.of(iterator)
    return resource, names.ELEMENT_SPEC.of(iterator), kinds


# by id: a metaclass may define its own equality
_PLAIN_IDS = frozenset(map(id, (type(None), bool, int, float, str, bytes)))
_KERAS = ("keras.", "tf_keras.")
_SHARED = (type, types.ModuleType, types.BuiltinFunctionType)


def traced_once(wrap: Make) -> Make:
    """Return ``wrap`` with a memory: an equal function gets the same wrapper."""
    is_eager = names.EXECUTING_EAGERLY.get()
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
    is_eager, make_function = names.EXECUTING_EAGERLY.get(), names.MAKE_FUNCTION.get()
    signature = inspect.signature(operation)
    functions: dict[Hashable, Any] = {}
    is_tensor = names.IS_TENSOR.get()

    def are_tensors(value: Any) -> bool:
        flat = _flat(value)
        return bool(flat) and all(map(is_tensor, flat))

    def run(*arguments: Any, **options: Any) -> Any:
        if not is_eager():
            return operation(*arguments, **options)
        fixed = signature.bind(*arguments, **options).arguments
        given = {n: v for n, v in fixed.items() if are_tensors(v)}
        for name in given:
            del fixed[name]
        attributes = tuple((name, _text(value)) for name, value in fixed.items())
        key = attributes, tuple((name, _kinds(value)) for name, value in given.items())
        if key not in functions:

            def call(tensors: list[Any]) -> Any:
                return operation(**fixed, **dict(zip(given, tensors, strict=True)))

            function = make_function(call, autograph=False)
            functions[key] = function.get_concrete_function(list(given.values()))
        return functions[key](list(given.values()))

    return run


def _flat(value: Any) -> list[Any]:
    return list(value) if is_exactly(value, list, tuple) else [value]


def _kinds(tensors: Any) -> tuple[tuple[str, str], ...]:
    return tuple((str(t.dtype), str(t.shape)) for t in _flat(tensors))


def _text(value: Any) -> str:
    """Return a text that is equal for equal attributes of an operation."""
    kind = type(value)
    return f"{id(value)}" if hasattr(kind, "function_type") else f"{kind} {value!r}"


def _likeness(value: Any) -> Hashable:
    """Return a key that is equal for values that do the same, or raise an error."""
    kind = type(value)
    if id(kind) in _PLAIN_IDS:
        return kind, value
    if kind is dict:
        return kind, tuple(map(_likeness, value.items()))
    if kind is list or issubclass(kind, tuple):
        return kind, tuple(map(_likeness, value))
    if issubclass(kind, names.TYPE_SPEC.get()):
        return kind, repr(value)
    if issubclass(kind, _SHARED):
        return kind, id(value)
    if kind is types.FunctionType:
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        named = sorted((value.__kwdefaults__ or {}).items())
        return value.__code__, _likeness([value.__defaults__, *named, *cells])
    if full_name(kind).startswith(_KERAS):  # such as those that cut arrays into batches
        fields = fields_of(value).items()
        plain = [(name, v) for name, v in fields if id(type(v)) in _PLAIN_IDS]
        return kind, tuple(plain)
    if hasattr(kind, "element_spec"):
        return repr(value.element_spec)
    raise TypeError(kind)
