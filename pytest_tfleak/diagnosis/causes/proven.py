"""Causes that are proven by an experiment or by a scope that is still open."""

from __future__ import annotations

from collections.abc import Callable

from pytest_tfleak.diagnosis.causes.cause import Cause
from pytest_tfleak.diagnosis.causes.cause import Evidence
from pytest_tfleak.diagnosis.causes.cause import Priority


def _is_known(name: str) -> Callable[[Evidence], bool]:
    return lambda evidence: evidence.known == name


def _keeps_datasets(e: Evidence) -> bool:
    """Return whether datasets pile up, which keep the functions that they call."""
    return not e.failing.isdisjoint(("tf.datasets", "tf.iterators"))


def _is_new_kernel(function: str) -> bool:
    """Return whether a C++ function makes a kernel. Another runs the kernel's code."""
    return "KernelAndDevice" in function and "::Init" in function


def _is_memory(e: Evidence) -> bool:
    return not e.held and not any(s.startswith("tf.") for s in e.signals)


def _is_scope(*signals: str) -> Callable[[Evidence], bool]:
    """Return a rule for scopes, unless more is known of what entered them."""
    return lambda e: e.has(*signals) and not e.is_entered_twice


CAUSES = (
    Cause(
        slug="custom-gradient-registry",
        priority=Priority.PROVEN,
        explains="TensorFlow registers the gradients of each traced train step and "
        "never forgets them. Each new model or traced step adds a whole graph.",
        remedy="Build and trace one model, and reset its weights between the runs: "
        "`start = model.get_weights()`, then `model.set_weights(start)`.",
        rule=_is_known("custom-gradient-registry"),
    ),
    Cause(
        slug="keras-lookup-tables",
        priority=Priority.PROVEN,
        explains="The table inside a StringLookup or TextVectorization layer outlives "
        "the layer. Each new layer leaves one more table behind.",
        remedy="Make the layer once and use it for every call; or use "
        "`keras.layers.Hashing`, which needs no table.",
        rule=_is_known("keras-lookup-tables"),
    ),
    Cause(
        slug="xla-executables",
        priority=Priority.PROVEN,
        explains="XLA keeps the program that it compiled for each function. Each new "
        "model or function with jit_compile adds one.",
        remedy="Compile one model or function and use it again; reset its weights "
        "with `model.set_weights(start)`; or leave out `jit_compile=True`.",
        rule=_is_known("xla-executables"),
    ),
    Cause(
        slug="scalar-cache",
        priority=Priority.PROVEN,
        explains="TensorFlow keeps a tensor for each Python number that it has turned "
        "into one. Each number that it has not seen before adds one.",
        remedy="Pass a NumPy number instead: `variable.assign(np.float32(value))`.",
        rule=_is_known("scalar-cache"),
    ),
    Cause(
        slug="tf-data-functions",
        priority=Priority.PROVEN,
        explains="Dataset.reduce(), scan(), save() and some other methods put the "
        "function that they trace into TensorFlow's default graph. It stays there, "
        "though eager code never needs it.",
        remedy="Call `{clear_session}` between the calls; or make a dataset with "
        "scan() once and iterate over it again.",
        rule=_is_known("tf-data-functions"),
    ),
    Cause(
        slug="py-function-wrappers",
        priority=Priority.PROVEN,
        explains="Each operation that py_function or numpy_function makes has a new "
        "wrapper of the function, which keeps the previous wrapper. All of them stay "
        "as long as the function.",
        remedy="Make the dataset or the `tf.function` that calls it once, and reuse "
        "it.",
        rule=_is_known("py-function-wrappers"),
    ),
    Cause(
        slug="tf-data-iterators",
        priority=Priority.PROVEN,
        explains="TensorFlow never frees a small part of each dataset, and of each "
        "iteration to the end of one. fit(), evaluate() and predict() make a dozen "
        "datasets: 1 KB per call, which adds up over many calls.",
        remedy="Use one iterator for all calls: `iter(dataset.repeat())`, or one loop "
        "instead of many: `for batch in dataset.repeat(epochs): ...`; in a long-lived "
        "service, call the model itself: `model(x)` or `model.predict_on_batch(x)`.",
        rule=_is_known("tf-data-iterators"),
    ),
    Cause(
        slug="nest-types",
        priority=Priority.PROVEN,
        explains="TensorFlow keeps each type that tf.nest has looked at, with all that "
        "the type holds, up to 1,024 of them. Each call that makes a new named tuple "
        "or class adds one.",
        remedy="Make the type once, at module level, and not in each call.",
        rule=_is_known("nest-types"),
    ),
    Cause(
        slug="traceback-code",
        priority=Priority.PROVEN,
        explains="TensorFlow keeps the code of each Python function that has added an "
        "operation to a graph, for tracebacks. Each call that makes new code adds "
        "some: one that loads a model with a Lambda layer, unpickles a function or "
        "runs exec().",
        remedy="Load the model once, or make the function once, and call that.",
        rule=_is_known("traceback-code"),
    ),
    Cause(
        slug="py-function-tape",
        priority=Priority.PROVEN,
        explains="A py_function was called under a gradient tape, and its gradient was "
        "never computed. Until then, TensorFlow keeps the tape, the arguments and the "
        "results.",
        remedy="Call the function itself, where code is eager: {call_itself}; or use "
        "`tf.numpy_function` if no gradient is needed; or make the `tf.function` that "
        "calls it once.",
        rule=lambda e: e.is_stored_in("py-function-tapes"),
    ),
    Cause(
        slug="py-function-closures",
        priority=Priority.PROVEN,
        explains="TensorFlow keeps each Python function that py_function, "
        "numpy_function or from_generator wraps, and all it refers to. Each call that "
        "makes a new function adds one.",
        remedy="Call `{clear_session}` between the calls; or make the function once, "
        "at module level, and pass what changes as arguments. from_generator() makes "
        "functions, too, and so do fit() and predict() for a generator or PyDataset: "
        "make one `tf.data.Dataset.from_generator(...)` before the loop and pass that.",
        rule=lambda e: (
            e.known == "py-function-closures"
            or (not e.known and e.has("tf.py_functions") and not _keeps_datasets(e))
            or e.is_stored_in("py-functions")
            or e.held.endswith("script_ops.EagerFunc")
        ),
    ),
    Cause(
        slug="lookup-tables",
        priority=Priority.PROVEN,
        explains="A lookup table is shared by its name and outlives the Python object. "
        "Each new one stays in the process.",
        remedy="Make it with `experimental_is_anonymous=True`: then it is freed with "
        "its object; or make the table once.",
        rule=_is_known("lookup-tables"),
    ),
    Cause(
        slug="keras-automatic-names",
        priority=Priority.PROVEN,
        explains="Keras numbers the names of layers, and TensorFlow keeps a prepared "
        "kernel for each name of a variable. Each new model adds new ones.",
        remedy="Call `{clear_session}` before a new model is made; or give "
        "the layers fixed names, the same in each model.",
        rule=_is_known("keras-automatic-names"),
    ),
    Cause(
        slug="kernels-made-again",
        priority=Priority.PROVEN,
        explains="set_seed() and clear_session() empty TensorFlow's cache of kernels. "
        "Each kernel that is made again after that leaves some bytes.",
        remedy="Call set_seed() and clear_session() once, before the loop, and not in "
        "each call.",
        rule=_is_known("kernels-made-again"),
    ),
    Cause(
        slug="eager-kernel-cache",
        priority=Priority.PROVEN,
        explains="TensorFlow keeps a prepared kernel for each operation with new "
        "attributes. A variable name or a seed that is new in each call adds one, of "
        "about 36 KB.",
        remedy="Call `{clear_session}` between the calls; or use fixed names, and "
        "`tf.random.stateless_*` with the seed as a tensor.",
        rule=lambda e: (
            e.known == "eager-kernel-cache"
            or (_is_memory(e) and any(map(_is_new_kernel, e.native[:8])))
        ),
    ),
    Cause(
        slug="tape-never-left",
        priority=Priority.PROVEN,
        explains="A gradient tape was entered and never exited. It continues to "
        "record, and keeps every tensor that is computed from then on.",
        remedy="Use a with statement: `with tf.GradientTape() as tape: ...`; or call "
        "`tape.__exit__(None, None, None)` in a `finally`.",
        rule=_is_scope("tf.tapes", "tf.accumulators"),
    ),
    Cause(
        slug="scope-never-left",
        priority=Priority.PROVEN,
        explains="A TensorFlow scope was entered and never exited. All code that runs "
        "later in this thread is inside it.",
        remedy="Use a with statement: {scope}.",
        rule=_is_scope(
            "tf.strategy",
            "tf.creator_scope",
            "tf.control_scope",
            "tf.device_scope",
            "tf.name_scope",
        ),
    ),
    Cause(
        slug="summary-writer-left",
        priority=Priority.PROVEN,
        explains="A summary writer was made the default, and this was never undone. It "
        "stays open, and what other code writes later in this thread goes into its "
        "file.",
        remedy="Use a with statement: `with writer.as_default(): ...`.",
        rule=_is_scope("tf.summary_writer"),
    ),
    Cause(
        slug="eager-mode-switched",
        priority=Priority.PROVEN,
        explains="The code switched eager execution on or off and did not switch it "
        "back. Code that runs later finds itself in the other mode.",
        remedy="Build graphs in a with statement: `with tf.Graph().as_default(): ...`; "
        "call `tf.compat.v1.disable_eager_execution()` once, when the program "
        "starts.",
        rule=lambda e: e.has("tf.eager_mode"),
    ),
)
