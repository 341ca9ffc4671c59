"""Causes that show in what is kept: models, data, tensors, buffers.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re

from pytest_tfleak.diagnosis.cause import Cause
from pytest_tfleak.diagnosis.evidence import Evidence

_LOSS = re.compile(r"(?i)loss|metric|accurac|\bacc\b|score|error")
_ITERATORS = (
    "iterator_ops.OwnedIterator",
    "dataset_ops._NumpyIterator",
    "input_lib.DistributedIterator",
)
_DATASETS = ("input_lib.DistributedDataset", "input_lib.DistributedDatasetV1")
_VIEWS = ("builtins.memoryview",)
_ALLOCATORS = ("host.allocator", "gpu.allocator")
_SCALAR = re.compile(r"EagerTensor float\d+\[\]")


def _is_loss(e: Evidence) -> bool:
    if not e.held.endswith("EagerTensor"):
        return False
    named = f"{e.path.partition(' > ')[0].rpartition('.')[2]} {e.line}"
    return bool(_SCALAR.search(e.what) or _LOSS.search(named))


def _is_closure(e: Evidence) -> bool:
    return e.held == "builtins.function" and "builtins.cell" in e.members


CAUSES = (
    Cause(
        slug="model-kept",
        explains="Each call makes a model or layers, and something keeps them, with "
        "variables and all.",
        remedy="Keep what you need of it: `model.get_weights()`, or its scores; make "
        "the model once and use `set_weights()`; take the old ones out of {holder}.",
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
        rule=lambda e: e.holds("RunMetadata") or "RunMetadata" in e.what,
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
        explains="A NumPy array is kept that shows the memory of a tensor or of a "
        "larger array. As long as it is there, all of that memory is.",
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
        rule=lambda e: e.held.endswith("PyCapsule") or "PyCapsule" in e.what,
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
        rule=lambda e: "closure" in e.clues or _is_closure(e),
    ),
    Cause(
        slug="tensor-kept",
        explains="A tensor of each call is put into {holder} and never taken out. Its "
        "memory stays in use.",
        remedy="Keep numbers (`float(x)`) or copies in NumPy (`x.numpy()`) of what you "
        "need; give the container an end: `collections.deque(maxlen=100)`, or "
        "`clear()` it.",
        rule=lambda e: bool(e.held) and e.has("tf.tensors", *_ALLOCATORS),
    ),
    Cause(
        slug="array-kept",
        explains="A NumPy array of each call is put into {holder} and never taken out.",
        remedy="Keep the figures that you need, not the arrays; give the container an "
        "end: `collections.deque(maxlen=100)`, or `clear()` it.",
        rule=lambda e: e.held == "numpy.ndarray",
    ),
)
GENERAL = (
    Cause(
        slug="class-attribute-grows",
        explains="A list or dict that belongs to a class gets an entry in each call. "
        "It is one for all instances, and lives as long as the process.",
        remedy="Make it in `__init__`: `self.items = []`; or take out of {holder} what "
        "is done with.",
        rule=lambda e: "old_class" in e.clues and bool(e.held),
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
        slug="object-kept",
        explains="An object of each call is put into {holder} and never taken out. It "
        "keeps all that it refers to.",
        remedy="Take out what is done with; give the container an end: "
        "`collections.deque(maxlen=100)`; or refer to it weakly: "
        "`weakref.WeakSet()`.",
        rule=lambda e: bool(e.held) and "native" not in e.clues,
    ),
)
