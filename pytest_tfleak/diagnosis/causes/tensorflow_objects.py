"""Causes in objects of TensorFlow, Keras and NumPy, and in objects of any type."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pytest_tfleak.diagnosis.causes.cause import Cause
from pytest_tfleak.diagnosis.causes.cause import Evidence
from pytest_tfleak.diagnosis.causes.cause import Priority
from pytest_tfleak.diagnosis.causes.python import is_compiled
from pytest_tfleak.retaining_path import ATTRIBUTE
from pytest_tfleak.retaining_path import VIEW
from pytest_tfleak.retaining_path import Array
from pytest_tfleak.signals import names_of

#: A name that contains the word for a loss or metric: ``train_losses``, ``valAcc``, but
#: not ``glossary``.
_LOSS = re.compile(
    r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))"
    r"(?i:loss(?:es)?|metrics?|accurac(?:y|ies)|accs?|scores?|errors?)(?![a-z])"
)
_TARGET = re.compile(r"\s*([\w.]+)\s*(?::[^=]+)?=(?!=)")  # the target of an assignment
_PLAIN = ("builtins.dict", "builtins.list", "builtins.tuple")
_CALLABLES = ("builtins.function", "builtins.method", "functools.partial")
#: Types on a path that leads through a class but not through an instance.
_OF_CLASSES = frozenset(
    {
        *("builtins.type", "abc.ABCMeta", "collections.Counter", "builtins.dict"),
        *("builtins.list", "builtins.set", "builtins.mappingproxy"),
        *("collections.deque", "collections.defaultdict", "collections.OrderedDict"),
    }
)
_RESTORES = ("tensorflow.python.checkpoint.restore.CheckpointPosition",)
_FIGURES = "matplotlib._pylab_helpers.Gcf.figs"
_TAPES = ("backprop.GradientTape", "forwardprop.ForwardAccumulator")
_HISTORIES = (
    "keras.src.callbacks.history.History",
    "tf_keras.src.callbacks.History",
)
_CALLBACKS = (
    "keras.src.callbacks.callback.Callback",
    "tf_keras.src.callbacks.Callback",
)
_LAYERS = (
    "keras.src.layers.layer.Layer",
    "tf_keras.src.engine.base_layer.Layer",
)
#: Attributes in which a Keras layer keeps objects assigned to it, losses from
#: add_loss(), and its calls on symbolic tensors.
_GIVEN = (
    *("_layers", "_metrics", "_seed_generators", "_self_tracked_trackables"),
    *("_trainable_variables", "_trainable_weights"),
    *("_non_trainable_variables", "_non_trainable_weights"),
)
_TRACKER = "_tracker"
_LOSSES = ("_losses",)
_NODES = ("_inbound_nodes", "_outbound_nodes")
#: Signals of things for which Keras or TensorFlow register gradients themselves.
_TRACED = names_of("keras", "function", "context")
_ITERATORS = (
    "iterator_ops.OwnedIterator",
    "dataset_ops._NumpyIterator",
    "input_lib.DistributedIterator",
)
_DATASETS = ("input_lib.DistributedDataset", "input_lib.DistributedDatasetV1")
_VALUES = (
    *("builtins.int", "builtins.float", "builtins.complex"),
    *("builtins.str", "builtins.bytes", "builtins.bytearray"),
)
#: How to limit a container, and what to do if it is bounded already.
_LIMIT = (
    "{limit}. If the holder does have a limit and just was not full yet, raise "
    "`iterations`."
)
_VIEWS = ("builtins.memoryview",)
_ALLOCATORS = ("host.allocator", "gpu.allocator")
_FEW = 32  # most numbers in a loss


def _is_gradient(e: Evidence) -> bool:
    if e.is_stored_in("gradients"):
        return True
    if "RegisterGradient(" in e.line:
        return not e.goes_through("builtins.type")
    return e.has("tf.custom_gradients") and e.failing.isdisjoint(_TRACED)


def _is_callback(e: Evidence) -> bool:
    # if it only leaves a file open, as a CSVLogger does, another cause fits better
    return e.adds(*_CALLBACKS) and e.signals != {"process.fds"}


def _is_kept_by_layer(e: Evidence, *attributes: str) -> bool:
    """Return whether one of these attributes of an older Keras layer grows."""
    expressions = list(e.path.expressions()) if e.path is not None else []
    ends = [expression.steps[-1] for expression in expressions if expression.steps]
    is_there = any(step.kind == ATTRIBUTE and step.name in attributes for step in ends)
    return e.goes_through(*_LAYERS) and is_there


def _is_given_to_layer(e: Evidence) -> bool:
    tracked = e.path.steps if e.path is not None else ()
    is_tracked = any(step.name == _TRACKER for step in tracked)
    return _is_kept_by_layer(e, *_GIVEN) or (e.goes_through(*_LAYERS) and is_tracked)


def _is_tape(e: Evidence) -> bool:
    steps = [step for path in e.paths for step in path.steps if step.is_new]
    is_on_path = any(name.endswith(_TAPES) for step in steps for name in step.types)
    is_beside = any(name.endswith(_TAPES) for name in e.beside)
    return is_on_path or e.holds(*_TAPES) or (e.root.kind == "native" and is_beside)


def _is_keras_state(e: Evidence) -> bool:
    if any(path.store == "keras-state" for path in e.paths):
        return True
    # models that stay after clear_session() are held by something else
    kept = (e.failing - e.signals).intersection(names_of("keras"))
    return e.is_released and not e.held and not kept


def _is_loss(e: Evidence) -> bool:
    is_tensor = e.held.endswith("EagerTensor")
    if e.is_native or _is_large(e) or not (is_tensor or e.held in _PLAIN):
        return False
    if e.has("tf.tensors") and any(map(_is_figure, e.arrays)):
        return True
    return is_tensor and any(map(_LOSS.search, _names(e)))


def _is_large(e: Evidence) -> bool:
    """Return whether one of the tensors has more numbers than a loss would have."""
    at_end = e.holder.array if e.holder is not None else None
    sizes = [array.size for array in (*e.arrays, at_end) if array is not None]
    return any(size is not None and size > _FEW for size in sizes)


def _is_figure(array: Array) -> bool:
    """Return whether an array is a tensor of a single floating-point number."""
    is_float = array.dtype.startswith(("float", "bfloat"))
    return array.type == "EagerTensor" and is_float and array.shape == ()


def _names(e: Evidence) -> Iterator[str]:
    """Yield the names of the container and of what the line assigns to."""
    expressions = list(e.path.expressions()) if e.path is not None else []
    if expressions:
        yield from expressions[-1].name
    target = _TARGET.match(e.line)
    yield target[1].rpartition(".")[2] if target is not None else ""


def _is_view(e: Evidence) -> bool:
    return e.adds(VIEW) or e.goes_through(VIEW) or e.held in _VIEWS


def _is_closure(e: Evidence) -> bool:
    has_cell = e.adds("builtins.cell") or "builtins.cell" in e.members
    return e.held in _CALLABLES and has_cell


def _is_tensor(e: Evidence) -> bool:
    is_counted = e.has("tf.tensors", *_ALLOCATORS)
    return _is_put(e) and not e.is_in_library and is_counted


def _is_put(e: Evidence) -> bool:
    """Return whether Python code put an object of a known type into a container."""
    return bool(e.held) and not e.is_native


def _is_in_class(e: Evidence) -> bool:
    if not _is_put(e) or e.is_in_library:
        return False
    before = [step for path in e.paths for step in path.steps if not step.is_new]
    through = frozenset(name for step in before for name in step.types)
    return "builtins.type" in through and through <= _OF_CLASSES


CAUSES = (
    Cause(
        slug="gradient-registered-in-loop",
        priority=Priority.HELD_BY_LIBRARY,
        explains="Each call registers a gradient under a new name. TensorFlow's "
        "registry keeps the function, and all that it refers to, until the process "
        "ends.",
        remedy="Register it once, at module level, under one name; or write "
        "`@tf.custom_gradient` on a function at module level.",
        rule=_is_gradient,
    ),
    Cause(
        slug="registered-in-loop",
        priority=Priority.HELD_BY_LIBRARY,
        explains="Each call registers something with TensorFlow under a new name or "
        "type. Its registry keeps that until the process ends.",
        remedy="Make the class or function once, at module level, and register it "
        "there.",
        rule=lambda e: e.is_stored_in("registry", "conversions"),
    ),
    Cause(
        slug="keras-custom-object",
        priority=Priority.HELD_BY_LIBRARY,
        explains="Each call defines a class or function and registers it with Keras. "
        "The registry keeps each of them until the process ends.",
        remedy="Define the class at module level, where "
        "`@keras.saving.register_keras_serializable()` runs once; or load it with "
        "`custom_objects={...}`.",
        rule=lambda e: e.is_stored_in("keras-objects"),
    ),
    Cause(
        slug="code-compiled-in-loop",
        priority=Priority.HELD_BY_LIBRARY,
        explains="Each call makes new code, by exec(), by importing a file or by "
        "loading a function, and its module is kept. For a function in graph mode, "
        "AutoGraph keeps a translated copy as a module.",
        remedy="Compile or import it once, outside the loop; for a function in graph "
        "mode, `@tf.autograph.experimental.do_not_convert` makes no copy.",
        rule=is_compiled,
    ),
    Cause(
        slug="history-kept",
        priority=Priority.HELD_BY_LIBRARY,
        explains="fit() returns a History object, which keeps the whole model. "
        "Something keeps the History of each run.",
        remedy="Keep only its numbers: {keep_numbers}; or limit {holder}: {limit}.",
        rule=lambda e: e.adds(*_HISTORIES),
    ),
    Cause(
        slug="callback-kept",
        priority=Priority.HELD_BY_LIBRARY,
        explains="Each call makes a Keras callback, and something keeps it. A callback "
        "keeps its model.",
        remedy="Limit {holder}: {limit}; or make the callback once, before the loop, "
        "or keep only its figures.",
        rule=_is_callback,
    ),
    Cause(
        slug="restore-deferred",
        priority=Priority.HELD_BY_LIBRARY,
        explains="A checkpoint is restored into an object that does not have all of "
        "its variables yet. TensorFlow keeps each restore until it has them.",
        remedy="Make {missing_part} before you restore; or restore once.",
        rule=lambda e: e.adds(*_RESTORES),
    ),
    Cause(
        slug="figure-not-closed",
        priority=Priority.HELD_BY_LIBRARY,
        explains="Matplotlib's pyplot keeps each figure that it makes until it is "
        "closed.",
        remedy="Close it when it is drawn: `plt.close({figure})`.",
        rule=lambda e: any(path.starts_with(_FIGURES) for path in e.paths),
    ),
    Cause(
        slug="losses-pile-up",
        priority=Priority.HELD_BY_LIBRARY,
        explains="add_loss() was called on a layer outside of its call(). Keras clears "
        "these losses when the layer itself is called, but it never is.",
        remedy="Add the loss inside the layer's `call()`, and call the layer; or keep "
        "the loss in a variable of your loop.",
        rule=lambda e: _is_kept_by_layer(e, *_LOSSES),
    ),
    Cause(
        slug="layer-added-to-shared-model",
        priority=Priority.HELD_BY_LIBRARY,
        explains="Each call adds a layer on the symbolic output of the same model or "
        "layer. Keras records that there, and so keeps each of these layers.",
        remedy="Call it on data, which records nothing: {call_on_data}; or build the "
        "head once, before the loop.",
        rule=lambda e: _is_kept_by_layer(e, *_NODES),
    ),
    Cause(
        slug="layer-replaced",
        priority=Priority.HELD_BY_LIBRARY,
        explains="A layer or variable is assigned to an attribute of a Keras layer "
        "again and again. Keras keeps each one that was ever assigned.",
        remedy="{reset_weights}; or make a new outer model, too.",
        rule=_is_given_to_layer,
    ),
    Cause(
        slug="tape-kept",
        priority=Priority.HELD_BY_LIBRARY,
        explains="A gradient tape or a forward accumulator is kept. It keeps the "
        "tensors that it has recorded.",
        remedy="Limit {holder}: {limit}; or keep numbers of the gradients, not the "
        "tape; drop a persistent tape after the last gradient.",
        rule=_is_tape,
    ),
    Cause(
        slug="keras-global-state",
        priority=Priority.HELD_BY_LIBRARY,
        explains="Keras keeps state of each model for the whole process: names, "
        "graphs, kernels. It grows with each new model.",
        remedy="Call `{clear_session}` between models, or make the model "
        "once and reset its weights: `model.set_weights(start)`.",
        rule=_is_keras_state,
    ),
    Cause(
        slug="model-kept",
        priority=Priority.OBJECTS,
        explains="Each call makes a model or layers, and something keeps them with all "
        "their variables.",
        remedy="Limit {holder}: {limit}; or keep only what you need of each, its "
        "weights or its scores; or make the model once and reset its weights.",
        rule=lambda e: e.has("keras.layers"),
    ),
    Cause(
        slug="optimizer-kept",
        priority=Priority.OBJECTS,
        explains="Each call makes an optimizer, and something keeps it. It has one or "
        "two variables for each weight that it trains.",
        remedy="Limit {holder}: {limit}; or make the optimizer once, before the loop.",
        rule=lambda e: e.has("keras.optimizers"),
    ),
    Cause(
        slug="run-metadata-kept",
        priority=Priority.OBJECTS,
        explains="The RunMetadata of each step is kept. With full tracing, it lists "
        "every operation with its memory.",
        remedy="Limit {holder}: {limit}; or write it to a file and drop it: "
        "`writer.add_run_metadata({object}, tag)`; or trace only every hundredth step.",
        rule=lambda e: e.holds("config_pb2.RunMetadata"),
    ),
    Cause(
        slug="iterator-kept",
        priority=Priority.DATA,
        explains="Each call makes an iterator of a dataset, and something keeps it. It "
        "keeps its buffers and its threads.",
        remedy="Limit {holder}: {limit}; or use a loop, which drops it: `for batch in "
        "{iterated}: ...`.",
        rule=lambda e: e.has("tf.iterators") or e.holds(*_ITERATORS),
    ),
    Cause(
        slug="dataset-kept",
        priority=Priority.DATA,
        explains="Each call makes a dataset, and something keeps it. With cache() or "
        "shuffle() it keeps its elements, too.",
        remedy="Limit {holder}: {limit}; or make the dataset once, before the loop, "
        "and iterate over it again.",
        rule=lambda e: e.has("tf.datasets") or e.holds(*_DATASETS),
    ),
    Cause(
        slug="variable-kept",
        priority=Priority.TENSORS,
        explains="Each call makes variables, and something keeps them or the object "
        "that they belong to.",
        remedy="Limit {holder}: {limit}; or make the variable once and assign to it.",
        rule=lambda e: e.has("tf.variables") and bool(e.held),
    ),
    Cause(
        slug="array-view-kept",
        priority=Priority.TENSORS,
        explains="A NumPy array or a memoryview is kept that is a view of a tensor, a "
        "larger array or another object's memory. It keeps all of that alive.",
        remedy="Keep a copy of the part that you need: {copy_part}; or limit "
        "{holder}: {limit}.",
        rule=_is_view,
    ),
    Cause(
        slug="dlpack-capsule-kept",
        priority=Priority.TENSORS,
        explains="A DLPack capsule keeps the memory of its tensor until a framework "
        "takes it over or the capsule is freed.",
        remedy="Limit {holder}: {limit}; or pass each capsule on at once, to "
        "`from_dlpack()`.",
        rule=lambda e: e.held == "builtins.PyCapsule",
    ),
    Cause(
        slug="loss-kept",
        priority=Priority.TENSORS,
        explains="The loss or metric of each step is kept as a tensor. A tensor keeps "
        "memory on the device, although you only need a Python number.",
        remedy="Keep a number, not the tensor: {number}.",
        rule=_is_loss,
    ),
    Cause(
        slug="closure-keeps-variables",
        priority=Priority.TENSORS,
        explains="Each call makes a function, and something keeps it. A function keeps "
        "the variables of the enclosing code that it uses.",
        remedy="Limit {holder}: {limit}; or make the function once, and pass what it "
        "needs as arguments.",
        rule=_is_closure,
    ),
    Cause(
        slug="tensor-kept",
        priority=Priority.TENSORS,
        explains="A tensor of each call is put into {holder} and never removed. Its "
        "memory stays in use.",
        remedy=f"Limit it: {_LIMIT}",
        rule=_is_tensor,
    ),
    Cause(
        slug="array-kept",
        priority=Priority.TENSORS,
        explains="A NumPy array of each call is put into {holder} and never removed.",
        remedy=f"Limit it: {_LIMIT}",
        rule=lambda e: _is_put(e) and e.held == "numpy.ndarray",
    ),
    Cause(
        slug="class-attribute-grows",
        priority=Priority.GENERAL,
        explains="A list or dict that belongs to a class gets an entry in each call. "
        "All instances share it, and it lives as long as the process.",
        remedy="When you are done with one, {ending}; remove from {holder} what is no "
        "longer needed: {limit}.",
        rule=_is_in_class,
    ),
    Cause(
        slug="kept-by-library",
        priority=Priority.GENERAL,
        explains="A store inside TensorFlow, Keras or another library keeps something "
        "from each call: {holder}.",
        remedy="Take it out again, in a `finally`: {remove}; or make what is kept "
        "there only once, before the loop.",
        rule=lambda e: e.is_in_library,
    ),
    Cause(
        slug="values-pile-up",
        priority=Priority.GENERAL,
        explains="Numbers, texts or bytes of each call are put into {holder} and "
        "never removed.",
        remedy=f"Limit it: {_LIMIT}",
        rule=lambda e: _is_put(e) and e.held in _VALUES,
    ),
    Cause(
        slug="object-kept",
        priority=Priority.GENERAL,
        explains="An object of each call is put into {holder} and never removed. It "
        "keeps all that it refers to.",
        remedy="When you are done with one, {ending}; remove what is no longer needed: "
        f"{_LIMIT}",
        rule=_is_put,
    ),
    Cause(
        slug="kept-by-native-code",
        priority=Priority.GENERAL,
        explains="Objects of each call are kept, but no Python object refers to them: "
        "C or C++ code holds a reference.",
        remedy="",
        rule=lambda e: bool(e.held) and e.is_native and e.root.kind == "native",
        is_vague=True,
    ),
)
