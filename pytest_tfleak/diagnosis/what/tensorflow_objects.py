"""Read the facts of objects of TensorFlow, Keras and NumPy, and a graph's operations.

Only fields and attributes that these libraries define are read, and never one that a
subclass in user code redefines. A table has a row for each type, with the function that
reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from math import prod
from typing import Any

from pytest_tfleak import object_facts as facts
from pytest_tfleak.diagnosis.safe_read import read_attribute
from pytest_tfleak.diagnosis.safe_read import read_field
from pytest_tfleak.diagnosis.safe_read import read_text
from pytest_tfleak.diagnosis.safe_read import short_type_name
from pytest_tfleak.diagnosis.safe_read import types_of
from pytest_tfleak.diagnosis.what.retraces import describe_signature
from pytest_tfleak.diagnosis.what.retraces import dtype_name
from pytest_tfleak.diagnosis.what.retraces import locate_function
from pytest_tfleak.diagnosis.what.retraces import owner_of
from pytest_tfleak.diagnosis.what.retraces import plain_function_name
from pytest_tfleak.diagnosis.what.retraces import shape_of
from pytest_tfleak.diagnosis.what.retraces import spec_text
from pytest_tfleak.object_facts import ObjectFacts
from pytest_tfleak.retaining_path import Array
from pytest_tfleak.run.own_bytes import keeper_of
from pytest_tfleak.signals import TypeName
from pytest_tfleak.tf import names
from pytest_tfleak.tf.names import Name
from pytest_tfleak.user_code import Frame

#: Fields with a variable's name, the most informative first.
_NAMED_BY = (names.VARIABLE_PATH, names.HANDLE_NAME, names.OBJECT_NAME)
_TYPED = 2_000  # of how many operations to read the type, which takes 0.4 ms
_TRACED = 300  # of how many operations to read the stack, which takes 8 ms


def facts_of_tensorflow(o: object) -> ObjectFacts | None:
    """Return the facts of an object of these libraries, None for any other.

    Raises what a library raises on an object in an unexpected state.
    """
    for name, cls in types_of(o):
        read = _TABLE.get(name)
        if read is not None:
            return read(o, cls)
    return None


def count_operations(graph: Any) -> int:
    """Return how many operations a graph has, 0 if that cannot be read."""
    with suppress(Exception):
        return int(read_attribute(graph, "num_operations")())
    return 0


def operations_made(graph: Any, since: int) -> dict[str, int]:
    """Count the operations added since a graph had ``since``, commonest type first.

    If a graph grew by thousands, count only the newest.
    """
    types: Counter[str] = Counter()
    for op in _newest(graph, since, _TYPED):
        with suppress(Exception):
            types[str(op.type)] += 1
    return dict(sorted(types.items(), key=lambda item: (-item[1], item[0])))


def stacks_of_operations(graph: Any, since: int) -> Counter[tuple[Frame, ...]]:
    """Count the stacks that made the newest operations of a graph."""
    stacks = map(stack_of_operation, _newest(graph, since, _TRACED))
    return Counter(stack for stack in stacks if stack)


def stack_of_operation(op: Any) -> tuple[Frame, ...]:
    """Return the Python stack that made an operation, innermost frame first.

    It is empty for an operation of an imported graph.
    """
    frames: list[Frame] = []
    with suppress(Exception):
        # copied at once, as TensorFlow's stack object does not outlive the operation
        frames += [(str(f.filename), int(f.lineno)) for f in op.traceback]
    return tuple(reversed(frames))


def _newest(graph: Any, since: int, most: int) -> list[Any]:
    operations: list[Any] = []
    with suppress(Exception):
        operations += read_attribute(graph, "get_operations")()
    return operations[max(since, len(operations) - most) :]


def _eager_tensor(o: Any, cls: Any) -> ObjectFacts:
    dtype = _dtype(names.TENSOR_DTYPE_NUMBER.of(cls)(o))
    shape = names.TENSOR_SHAPE.of(cls)(o)
    device = cls.device.__get__(o).rpartition("/device:")[2]
    return _facts_of_array(
        short_type_name(o),
        dtype_name(dtype),
        shape,
        size=_size(dtype, shape),
        device="" if device.startswith("CPU") else device,
    )


def _tensor(o: Any, _: type) -> ObjectFacts:
    """Describe a symbolic tensor, or a composite one."""
    dtype = dtype_name(read_attribute(o, "dtype"))
    return _facts_of_array(short_type_name(o), dtype, _shape(o), name=_name(o))


def _variable(o: Any, _: type) -> ObjectFacts:
    dtype, shape = read_field(o, names.DTYPE), shape_of(read_field(o, names.SHAPE))
    if dtype is None:  # a variable in a graph or of a strategy keeps it elsewhere
        dtype, shape = read_attribute(o, "dtype"), _shape(o)
    name = read_text(o, *_NAMED_BY) or _name(o)
    return _facts_of_array(
        short_type_name(o),
        dtype_name(dtype),
        shape,
        name=name,
        size=_size(dtype, shape),
    )


def _keras_variable(o: Any, cls: type) -> ObjectFacts:
    return replace(_variable(o, cls), form=facts.KERAS_VARIABLE)


def _array(o: Any, cls: Any) -> ObjectFacts:
    base, size = cls.base.__get__(o), cls.nbytes.__get__(o)
    is_view = type(base) is cls and base.nbytes > size
    view_of = base.nbytes if is_view else None
    dtype, shape = str(cls.dtype.__get__(o)), cls.shape.__get__(o)
    keeper = keeper_of(o)
    known = _facts_of_array(
        short_type_name(o), dtype, shape, size=size, view_of=view_of
    )
    return replace(known, kept_by="" if keeper is None else short_type_name(keeper))


def _function(o: Any, _: type) -> ObjectFacts:
    name = locate_function(o)[0]
    owner = owner_of(name)
    states = (facts.TF_FUNCTION, owner) if owner else (facts.TF_FUNCTION,)
    return ObjectFacts(type="Function", name=name, states=states)


def _concrete(o: Any, _: type) -> ObjectFacts:
    name = plain_function_name(read_attribute(o, "name"))
    owner = owner_of(name)
    if not owner and not name.startswith("Dataset."):
        name += f"({describe_signature(read_attribute(o, 'function_type'))})"
    states = (owner,) if owner else ()
    return ObjectFacts(type="ConcreteFunction", name=name, states=states)


def _atomic(o: Any, _: type) -> ObjectFacts:
    name = plain_function_name(read_attribute(o, "name"))
    return ObjectFacts(type=short_type_name(o), name=name)


def _session(o: Any, _: type) -> ObjectFacts:
    closed = read_field(o, names.SESSION_CLOSED) is True
    return ObjectFacts(type=short_type_name(o), states=_open_or_closed(closed))


def _monitored_session(o: Any, _: type) -> ObjectFacts:
    creator = read_field(o, names.MONITORED_CREATOR)
    inner = read_field(o, names.MONITORED_INNER)
    closed = inner is None or read_field(creator, names.CREATED_SESSION) is None
    return ObjectFacts(type=short_type_name(o), states=_open_or_closed(closed))


def _graph(o: Any, _: type) -> ObjectFacts:
    count = count_operations(o)
    return ObjectFacts(
        type=short_type_name(o),
        length=count,
        counts=facts.OPERATIONS,
        parts=tuple(operations_made(o, 0).items()),
    )


def _function_graph(o: Any, _: type) -> ObjectFacts:
    name = read_text(o, "name") or _name(o)
    return ObjectFacts(type=short_type_name(o), name=name)


def _operation(o: Any, _: type) -> ObjectFacts:
    kind = read_attribute(o, "type")
    return ObjectFacts(type="Operation", name=_name(o), operation=str(kind))


def _dataset(o: Any, _: type) -> ObjectFacts:
    element = read_attribute(o, "element_spec")
    kind = short_type_name(o).lstrip("_")
    elements = "" if element is None else spec_text(element)
    return ObjectFacts(type=kind, elements=elements)


def _iterator(o: Any, _: type) -> ObjectFacts:
    element = read_field(o, names.ELEMENT_SPEC)
    kind = short_type_name(o)
    elements = "" if element is None else spec_text(element)
    return ObjectFacts(type=kind, elements=elements)


def _named(o: Any, _: type) -> ObjectFacts:
    return ObjectFacts(
        type=short_type_name(o), name=read_text(o, "name", names.OBJECT_NAME)
    )


def _tape(o: Any, _: type) -> ObjectFacts:
    states = [facts.PERSISTENT] if read_field(o, names.PERSISTENT) is True else []
    states += [facts.RECORDING] if read_field(o, names.RECORDING) is True else []
    return ObjectFacts(type=short_type_name(o), states=tuple(states))


def _file(o: Any, _: type) -> ObjectFacts:
    parts = (names.READ_BUFFER, names.WRITABLE_FILE)
    closed = all(read_field(o, part) is None for part in parts)
    name = read_text(o, names.FILE_NAME)
    return ObjectFacts(
        type=short_type_name(o), name=name, states=_open_or_closed(closed)
    )


def _writer(o: Any, _: type) -> ObjectFacts:
    closed = read_field(o, names.WRITER_CLOSED) is True
    return ObjectFacts(
        type=short_type_name(o).lstrip("_"), states=_open_or_closed(closed)
    )


def _open_or_closed(closed: bool) -> tuple[str]:
    return (facts.CLOSED if closed else facts.OPEN,)


def _facts_of_array(
    kind: str, dtype: str, shape: Iterable[object] | None, **more: Any
) -> ObjectFacts:
    """Return the facts of an array, a tensor or a variable."""
    dims, known = None, None
    if shape is not None:
        sizes = tuple(shape)
        dims = tuple(map(str, sizes))
        known = tuple(size if isinstance(size, int) else None for size in sizes)
    is_part = more.get("view_of") is not None
    array = Array(type=kind, dtype=dtype, shape=known, is_part=is_part)
    return ObjectFacts(type=kind, array=array, dims=dims, **more)


def _dtype(number: int) -> Any:
    return names.AS_DTYPE.get()(number)


def _size(dtype: Any, shape: tuple[object, ...] | None) -> int | None:
    """Return the bytes of an array, None if dtype or shape do not tell."""
    size = None
    with suppress(Exception):  # the dtype may be a string, a resource or only a name
        size = _dtype(dtype).size
    if not size or shape is None or not all(type(dim) is int for dim in shape):
        return None
    if dtype_name(dtype) in ("string", "resource", "variant"):
        return None
    # all of them are ints, as checked
    return int(size * prod(shape))  # type: ignore[arg-type]


def _shape(o: object) -> tuple[object, ...] | None:
    with suppress(Exception):
        return shape_of(read_attribute(o, "shape"))
    return None


def _name(o: object) -> str:
    name = None
    with suppress(Exception):  # the graph of an eager variable may be gone
        name = read_attribute(o, "name")
    return name if type(name) is str else ""


_READ: tuple[tuple[Name, Callable[[Any, Any], ObjectFacts]], ...] = (
    (names.EAGER_TENSOR, _eager_tensor),
    (names.TENSOR, _tensor),
    (names.COMPOSITE_TENSOR, _tensor),
    (names.VARIABLE, _variable),
    (names.FUNCTION, _function),
    (names.CONCRETE_FUNCTION, _concrete),
    (names.ATOMIC_FUNCTION, _atomic),
    (names.SESSION, _session),
    (names.MONITORED_SESSION, _monitored_session),
    (names.FUNCTION_GRAPH, _function_graph),
    (names.DEFUN_GRAPH, _function_graph),
    (names.GRAPH, _graph),
    (names.OPERATION, _operation),
    (names.DATASET, _dataset),
    (names.ITERATOR, _iterator),
    (names.ITERATOR_1, _iterator),
    (names.GRADIENT_TAPE, _tape),
    (names.FILE, _file),
    (names.SUMMARY_WRITER, _writer),
    (names.KERAS_VARIABLE, _keras_variable),
    (names.KERAS_TENSOR, _variable),
    (names.LAYER, _named),
    (names.OPTIMIZER, _named),
    (names.METRIC, _named),
)
_TABLE: dict[TypeName, Callable[[Any, Any], ObjectFacts]] = {
    name: read for cls, read in _READ for name in cls.types
}
_TABLE["numpy", "ndarray"] = _array
