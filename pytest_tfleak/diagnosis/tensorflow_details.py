"""What objects of TensorFlow, Keras and NumPy are, in words.

Only fields and what these libraries define themselves are read; an attribute that a
subclass of the user's redefines is not asked.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from math import prod
from typing import Any

from pytest_tfleak.census import TypeName
from pytest_tfleak.diagnosis.fields import read_attribute
from pytest_tfleak.diagnosis.fields import read_field
from pytest_tfleak.diagnosis.fields import read_text
from pytest_tfleak.diagnosis.fields import short_type_name
from pytest_tfleak.diagnosis.fields import types_of
from pytest_tfleak.diagnosis.libraries import owner_of
from pytest_tfleak.diagnosis.libraries import plain_function_name
from pytest_tfleak.diagnosis.operations import count_operations
from pytest_tfleak.diagnosis.operations import list_types
from pytest_tfleak.diagnosis.operations import operations_made
from pytest_tfleak.diagnosis.phrase import Phrase
from pytest_tfleak.diagnosis.phrase import array_spec
from pytest_tfleak.diagnosis.retraces import locate_function
from pytest_tfleak.diagnosis.signatures import describe_signature
from pytest_tfleak.diagnosis.signatures import dtype_name
from pytest_tfleak.diagnosis.signatures import shape_of
from pytest_tfleak.diagnosis.signatures import spec_text

_PYTHON = "tensorflow.python."


def _eager_tensor(o: Any, cls: Any) -> Phrase:
    dtype = _dtype(cls._datatype_enum(o))
    shape = cls._shape_tuple(o)
    device = cls.device.__get__(o).rpartition("/device:")[2]
    return Phrase(
        kind=short_type_name(o),
        spec=array_spec(dtype_name(dtype), shape),
        size=_size(dtype, shape),
        note="" if device.startswith("CPU") else f"on {device}",
    )


def _tensor(o: Any, _: type) -> Phrase:
    """Describe a symbolic tensor, or a composite one."""
    spec = array_spec(dtype_name(read_attribute(o, "dtype")), _shape(o))
    return Phrase(kind=short_type_name(o), name=_name(o), spec=spec)


def _variable(o: Any, _: type) -> Phrase:
    dtype, shape = read_field(o, "_dtype"), shape_of(read_field(o, "_shape"))
    if dtype is None:  # kept elsewhere: in a graph, or with a strategy
        dtype, shape = read_attribute(o, "dtype"), _shape(o)
    name = read_text(o, "_path", "_handle_name", "_name") or _name(o)
    return Phrase(
        kind=short_type_name(o),
        name=name,
        spec=array_spec(dtype_name(dtype), shape),
        size=_size(dtype, shape),
    )


def _keras_variable(o: Any, cls: type) -> Phrase:
    phrase = _variable(o, cls)
    return Phrase(
        kind="Keras Variable", name=phrase.name, spec=phrase.spec, size=phrase.size
    )


def _array(o: Any, cls: Any) -> Phrase:
    base, size = cls.base.__get__(o), cls.nbytes.__get__(o)
    note = ""
    if type(base) is cls and base.nbytes > size:
        note = f"(a view of {Phrase(kind='', size=base.nbytes).words()[1:-1]})"
    spec = array_spec(str(cls.dtype.__get__(o)), cls.shape.__get__(o))
    return Phrase(kind=short_type_name(o), spec=spec, size=size, note=note)


def _function(o: Any, _: type) -> Phrase:
    name = locate_function(o)[0]
    owner = owner_of(name)
    note = f"(tf.function, {owner})" if owner else "(tf.function)"
    return Phrase(kind="Function", name=name, note=note)


def _concrete(o: Any, _: type) -> Phrase:
    name = plain_function_name(read_attribute(o, "name"))
    owner = owner_of(name)
    if not owner and not name.startswith("Dataset."):
        name += f"({describe_signature(read_attribute(o, 'function_type'))})"
    note = f"({owner})" if owner else ""
    return Phrase(kind="ConcreteFunction", name=name, note=note)


def _atomic(o: Any, _: type) -> Phrase:
    name = plain_function_name(read_attribute(o, "name"))
    return Phrase(kind=short_type_name(o), name=name)


def _session(o: Any, _: type) -> Phrase:
    closed = read_field(o, "_closed") is True
    return Phrase(kind=short_type_name(o), note="(closed)" if closed else "(open)")


def _monitored_session(o: Any, _: type) -> Phrase:
    creator = read_field(o, "_coordinated_creator")
    closed = read_field(o, "_sess") is None or read_field(creator, "tf_sess") is None
    return Phrase(kind=short_type_name(o), note="(closed)" if closed else "(open)")


def _graph(o: Any, _: type) -> Phrase:
    count = count_operations(o)
    types = list_types(operations_made(o, 0))
    noun = "operation" if count == 1 else "operations"
    spec = f"of {count:,} {noun}" + (f": {types}" if types else "")
    return Phrase(kind=short_type_name(o), spec=spec)


def _function_graph(o: Any, _: type) -> Phrase:
    name = read_text(o, "name") or _name(o)
    return Phrase(kind=short_type_name(o), name=name)


def _operation(o: Any, _: type) -> Phrase:
    kind = read_attribute(o, "type")
    return Phrase(kind="Operation", name=_name(o), note=f"({kind})")


def _dataset(o: Any, _: type) -> Phrase:
    element = read_attribute(o, "element_spec")
    kind = short_type_name(o).lstrip("_")
    return Phrase(kind=kind, spec="" if element is None else f"of {spec_text(element)}")


def _iterator(o: Any, _: type) -> Phrase:
    element = read_field(o, "_element_spec")
    kind = short_type_name(o)
    return Phrase(kind=kind, spec="" if element is None else f"of {spec_text(element)}")


def _named(o: Any, _: type) -> Phrase:
    return Phrase(kind=short_type_name(o), name=read_text(o, "name", "_name"))


def _tape(o: Any, _: type) -> Phrase:
    words = ["persistent"] if read_field(o, "_persistent") is True else []
    words += ["recording"] if read_field(o, "_recording") is True else []
    return Phrase(
        kind=short_type_name(o), note=f"({', '.join(words)})" if words else ""
    )


def _file(o: Any, _: type) -> Phrase:
    opened = any(
        read_field(o, name) is not None for name in ("_read_buf", "_writable_file")
    )
    name = read_text(o, "_FileIO__name")
    return Phrase(
        kind=short_type_name(o), name=name, note="(open)" if opened else "(closed)"
    )


def _writer(o: Any, _: type) -> Phrase:
    closed = read_field(o, "_closed") is True
    return Phrase(
        kind=short_type_name(o).lstrip("_"), note="(closed)" if closed else "(open)"
    )


def _in(module: str, name: str) -> TypeName:
    return (_PYTHON + module, name)


_TABLE: dict[TypeName, Callable[[Any, Any], Phrase]] = {
    _in("framework.ops", "EagerTensor"): _eager_tensor,
    _in("framework.tensor", "Tensor"): _tensor,
    _in("framework.composite_tensor", "CompositeTensor"): _tensor,
    _in("ops.variables", "Variable"): _variable,
    _in("eager.polymorphic_function.polymorphic_function", "Function"): _function,
    _in("eager.polymorphic_function.concrete_function", "ConcreteFunction"): _concrete,
    _in("eager.polymorphic_function.atomic_function", "AtomicFunction"): _atomic,
    _in("client.session", "BaseSession"): _session,
    _in("training.monitored_session", "_MonitoredSession"): _monitored_session,
    _in("framework.func_graph", "FuncGraph"): _function_graph,
    _in("framework.function", "_FuncGraph"): _function_graph,
    _in("framework.ops", "Graph"): _graph,
    _in("framework.ops", "Operation"): _operation,
    _in("data.ops.dataset_ops", "DatasetV2"): _dataset,
    _in("data.ops.iterator_ops", "IteratorBase"): _iterator,
    _in("data.ops.iterator_ops", "Iterator"): _iterator,
    _in("eager.backprop", "GradientTape"): _tape,
    _in("lib.io.file_io", "FileIO"): _file,
    _in("ops.summary_ops_v2", "SummaryWriter"): _writer,
    ("keras.src.backend.common.variables", "Variable"): _keras_variable,
    ("keras.src.backend.common.keras_tensor", "KerasTensor"): _variable,
    ("keras.src.layers.layer", "Layer"): _named,
    ("keras.src.optimizers.base_optimizer", "BaseOptimizer"): _named,
    ("keras.src.metrics.metric", "Metric"): _named,
    ("tf_keras.src.engine.base_layer", "Layer"): _named,
    ("tf_keras.src.optimizers.optimizer", "_BaseOptimizer"): _named,
    ("numpy", "ndarray"): _array,
}


def describe_tensorflow(o: object) -> Phrase | None:
    """Return the words for an object of these libraries' types, None for any other.

    Raises what a library raises on an object in a state that it does not expect.
    """
    for name, cls in types_of(o):
        describe = _TABLE.get(name)
        if describe is not None:
            return describe(o, cls)
    return None


def _dtype(number: int) -> Any:
    module: Any = sys.modules.get(_PYTHON + "framework.dtypes")
    return module.as_dtype(number)


def _size(dtype: Any, shape: tuple[object, ...] | None) -> int | None:
    """Return bytes where the dtype has a size and the shape is known."""
    size = None
    with suppress(Exception):  # a string, a resource; a dtype in text
        size = _dtype(dtype).size
    if not size or shape is None or not all(type(dim) is int for dim in shape):
        return None
    if dtype_name(dtype) in ("string", "resource", "variant"):
        return None
    return int(size * prod(shape))  # type: ignore[arg-type]


def _shape(o: object) -> tuple[object, ...] | None:
    with suppress(Exception):
        return shape_of(read_attribute(o, "shape"))
    return None


def _name(o: object) -> str:
    name = None
    with suppress(Exception):  # an eager variable of a graph that is gone
        name = read_attribute(o, "name")
    return name if type(name) is str else ""
