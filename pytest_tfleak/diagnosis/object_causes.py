"""Causes that show in what is kept: models, data, tensors, buffers.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from pytest_tfleak.diagnosis.cause import Cause
from pytest_tfleak.diagnosis.evidence import Evidence

#: A name of which one word says so: ``train_losses``, ``valAcc``, not ``glossary``.
_LOSS = re.compile(
    r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))"
    r"(?i:loss(?:es)?|metrics?|accurac(?:y|ies)|accs?|scores?|errors?)(?![a-z])"
)
_TARGET = re.compile(r"\s*([\w.]+)\s*(?::[^=]+)?=(?!=)")  # of an assignment
_LOCAL = re.compile(r"local variable (\w+) of ")
_PLAIN = ("builtins.dict", "builtins.list", "builtins.tuple")
_CALLABLES = ("builtins.function", "builtins.method", "functools.partial")
#: What a path through a class, and no instance, goes through.
_OF_CLASSES = {
    *("old_class", "old_builtins.type", "old_abc.ABCMeta", "old_collections.Counter"),
    *("old_builtins.dict", "old_builtins.list", "old_builtins.set"),
    *("old_collections.deque", "old_collections.defaultdict"),
    *("old_collections.OrderedDict", "old_builtins.mappingproxy"),
}
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
#: What to do about a container that has an end.
_FURTHER = "if it has one that was not reached, raise `iterations`."
_VIEWS = ("builtins.memoryview",)
_ALLOCATORS = ("host.allocator", "gpu.allocator")
#: Of a tensor, in words.
_SHAPE = re.compile(r"\b(?:b?float|u?int|complex|bool)\d*\[([\d,]*)\]")
_FEW = 32  # numbers
_SCALAR = re.compile(r"EagerTensor b?float\d+\[\]")


def _is_loss(e: Evidence) -> bool:
    is_tensor = e.held.endswith("EagerTensor")
    is_large = any(size > _FEW for size in _sizes(e))
    if e.is_native or is_large or not (is_tensor or e.held in _PLAIN):
        return False
    if e.has("tf.tensors") and _SCALAR.search(e.what):
        return True
    return is_tensor and any(map(_LOSS.search, _names(e)))


def _sizes(e: Evidence) -> Iterator[int]:
    """Yield how many numbers the tensors have that are kept, as far as it is said."""
    for shape in _SHAPE.findall(" ".join([e.what, *e.holder[-1:]])):
        yield math.prod(int(size) for size in shape.split(",") if size)


def _names(e: Evidence) -> Iterator[str]:
    """Yield the names of the container and of what the line assigns to."""
    container = e.path.rpartition(" > ")[0].rpartition(" > ")[2]
    local = _LOCAL.match(container)
    yield local[1] if local is not None else container.rpartition(".")[2]
    target = _TARGET.match(e.line)
    yield target[1].rpartition(".")[2] if target is not None else ""


def _is_closure(e: Evidence) -> bool:
    has_cell = "closure" in e.clues or "builtins.cell" in e.members
    return e.held in _CALLABLES and has_cell


def _is_tensor(e: Evidence) -> bool:
    return _is_put(e) and "library" not in e.clues and e.has("tf.tensors", *_ALLOCATORS)


def _is_put(e: Evidence) -> bool:
    """Say whether something that is known was put into a container."""
    return bool(e.held) and not e.is_native


def _is_in_class(e: Evidence) -> bool:
    through = {clue for clue in e.clues if clue.startswith("old_")}
    is_class = "old_class" in through and through <= _OF_CLASSES
    return _is_put(e) and is_class and "library" not in e.clues


CAUSES = (
    Cause(
        slug="model-kept",
        explains="Each call makes a model or layers, and something keeps them, with "
        "variables and all.",
        remedy="Keep what you need of it: `model.get_weights()`, or its scores; make "
        "the model once and reset it: `model.set_weights(start)`; take the old ones "
        "out of {holder}.",
        rule=lambda e: e.has("keras.layers"),
    ),
    Cause(
        slug="optimizer-kept",
        explains="Each call makes an optimizer, and something keeps it. It has a "
        "variable or two for each weight that it trains.",
        remedy="Make the optimizer once; or keep the numbers only, and take the old "
        "ones out of {holder}.",
        rule=lambda e: e.has("keras.optimizers"),
    ),
    Cause(
        slug="run-metadata-kept",
        explains="The RunMetadata of each step is kept. With full tracing each one "
        "lists every operation, with its memory.",
        remedy="Write it down and let go of it: `writer.add_run_metadata(metadata, "
        "tag)`; or trace only every hundredth step.",
        rule=lambda e: e.holds("config_pb2.RunMetadata"),
    ),
)
OF_DATA = (
    Cause(
        slug="iterator-kept",
        explains="Each call makes an iterator of a dataset, and something keeps it. It "
        "keeps its buffers and its threads.",
        remedy="Iterate and let go: `for batch in dataset: ...`; of a preview keep the "
        "batch, not the iterator: `batch = next(iter(dataset))`.",
        rule=lambda e: e.has("tf.iterators") or e.holds(*_ITERATORS),
    ),
    Cause(
        slug="dataset-kept",
        explains="Each call makes a dataset, and something keeps it. With cache() or "
        "shuffle() it keeps its elements, too.",
        remedy="Make the dataset once, before the loop, and iterate over that one; "
        "take the old ones out of {holder}.",
        rule=lambda e: e.has("tf.datasets") or e.holds(*_DATASETS),
    ),
)
OF_TENSORS = (
    Cause(
        slug="variable-kept",
        explains="Each call makes variables, and something keeps them or the object "
        "that they belong to.",
        remedy="Make the variable once and assign to it: `variable.assign(value)`; "
        "keep values as `variable.numpy()`; take the old ones out of {holder}.",
        rule=lambda e: e.has("tf.variables") and bool(e.held),
    ),
    Cause(
        slug="array-view-kept",
        explains="A NumPy array or a memoryview is kept that shows the memory of a "
        "tensor or of a larger array. As long as it is there, all of that memory is.",
        remedy="Keep a copy of the part that you need: `array[:10].copy()`, "
        "`numpy.array(tensor)`.",
        rule=lambda e: "view" in e.clues or e.held in _VIEWS,
    ),
    Cause(
        slug="dlpack-capsule-kept",
        explains="A DLPack capsule keeps the memory of its tensor until a framework "
        "takes it over or the capsule goes.",
        remedy="Hand it over at once and keep no capsule: "
        "`torch.from_dlpack(capsule)`, `tf.experimental.dlpack.from_dlpack(capsule)`.",
        rule=lambda e: e.held == "builtins.PyCapsule",
    ),
    Cause(
        slug="loss-kept",
        explains="The loss or metric of each step is kept as a tensor. A tensor keeps "
        "its memory on the device, and a Python number is all you need.",
        remedy="Keep a number: `losses.append(float(loss))`; of several values "
        "`loss.numpy().tolist()`.",
        rule=_is_loss,
    ),
    Cause(
        slug="closure-keeps-variables",
        explains="Each call makes a function and something keeps it. A function keeps "
        "the variables of the code around it that it uses.",
        remedy="Make the function once, or hand it what it needs as arguments; take "
        "the old ones out of {holder}.",
        rule=_is_closure,
    ),
    Cause(
        slug="tensor-kept",
        explains="A tensor of each call is put into {holder} and never taken out. Its "
        "memory stays in use.",
        remedy="Keep numbers (`float(x)`) or copies in NumPy (`x.numpy()`) of what you "
        "need; give the container an end: `collections.deque(maxlen=100)`, or "
        f"`clear()` it; {_FURTHER}",
        rule=_is_tensor,
    ),
    Cause(
        slug="array-kept",
        explains="A NumPy array of each call is put into {holder} and never taken out.",
        remedy="Keep the figures that you need, not the arrays; give the container an "
        f"end: `collections.deque(maxlen=100)`, or `clear()` it; {_FURTHER}",
        rule=lambda e: _is_put(e) and e.held == "numpy.ndarray",
    ),
)
GENERAL = (
    Cause(
        slug="class-attribute-grows",
        explains="A list or dict that belongs to a class gets an entry in each call. "
        "It is one for all instances, and lives as long as the process.",
        remedy="Make it in `__init__`: `self.items = []`; or take out of {holder} what "
        "is done with.",
        rule=_is_in_class,
    ),
    Cause(
        slug="kept-by-library",
        explains="A store inside TensorFlow, Keras or another library keeps something "
        "of each call: {holder}.",
        remedy="Make once what is registered or cached there, outside the loop; try "
        "`keras.utils.clear_session()`.",
        rule=lambda e: "library" in e.clues,
    ),
    Cause(
        slug="values-pile-up",
        explains="Numbers or texts of each call are put into {holder} and never taken "
        "out. Each is small, and they add up.",
        remedy="Give it an end: `collections.deque(maxlen=1000)`, "
        "`functools.lru_cache(maxsize=1000)`, or `clear()` it; write to a file what "
        f"is to be kept; or keep a count and a sum; {_FURTHER}",
        rule=lambda e: _is_put(e) and e.held in _VALUES,
    ),
    Cause(
        slug="object-kept",
        explains="An object of each call is put into {holder} and never taken out. It "
        "keeps all that it refers to.",
        remedy="Take out what is done with; give the container an end: "
        "`collections.deque(maxlen=100)`; or refer to it weakly: "
        f"`weakref.WeakSet()`; {_FURTHER}",
        rule=_is_put,
    ),
    Cause(
        slug="kept-by-native-code",
        explains="What each call makes is kept, and no Python object refers to it: C "
        "or C++ code holds a reference.",
        remedy="Look at what the line hands to a library: a callback, a buffer, a "
        "context variable. Take it back there, `unregister()` or `close()`; or make "
        "it once, outside the loop.",
        rule=lambda e: bool(e.held) and e.is_native,
        is_vague=True,
    ),
)
