"""Causes that an error, an experiment or a scope that is still open proves.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable

from pytest_tfleak.diagnosis.cause import Cause
from pytest_tfleak.diagnosis.evidence import Evidence

_TAPES = "tensorflow.python.ops.script_ops.tape_cache"


def _is_known(name: str) -> Callable[[Evidence], bool]:
    return lambda evidence: evidence.known == name


def _is_memory(e: Evidence) -> bool:
    return not e.held and not any(s.startswith("tf.") for s in e.signals)


CAUSES = (
    Cause(
        slug="session-used-after-close",
        explains="A session is asked to run something after it was closed. It is "
        "closed at the end of its with block, and a tensor has no value without it.",
        remedy="Fetch the value inside the block and keep that: `with "
        "tf.compat.v1.Session() as session: value = session.run(y)`.",
        rule=lambda e: "use a closed Session" in e.error,
    ),
    Cause(
        slug="custom-gradient-registry",
        explains="TensorFlow registers the gradients of each traced train step and "
        "never forgets them. Each new model or traced step adds a whole graph.",
        remedy="Build and trace the model once; between runs reset its weights: "
        "`start = model.get_weights()`, then `model.set_weights(start)`.",
        rule=_is_known("custom-gradient-registry"),
    ),
    Cause(
        slug="keras-lookup-tables",
        explains="The table inside a StringLookup or TextVectorization layer outlives "
        "the layer. Each new layer leaves one more table behind.",
        remedy="Make the layer once and use it for every call; `keras.layers.Hashing` "
        "needs no table.",
        rule=_is_known("keras-lookup-tables"),
    ),
    Cause(
        slug="xla-executables",
        explains="XLA keeps the program that it compiled for each function. A new "
        "model or function with jit_compile is compiled and kept again.",
        remedy="Compile one model or function and use it again; reset its weights "
        "with `model.set_weights(start)`; or leave out `jit_compile=True`.",
        rule=_is_known("xla-executables"),
    ),
    Cause(
        slug="scalar-cache",
        explains="TensorFlow keeps a tensor for each Python number that it has turned "
        "into one. A number that is new in each call is one more.",
        remedy="Pass a NumPy number instead: `variable.assign(np.float32(value))`.",
        rule=_is_known("scalar-cache"),
    ),
    Cause(
        slug="tf-data-iterators",
        explains="TensorFlow leaves a little behind of each dataset that is made and "
        "each time one is iterated to its end. fit(), evaluate() and predict() make "
        "a dozen of them: 1 KB a call. A body that does so often adds up.",
        remedy="In a long-lived service call the model itself, `model(x)` or "
        "`model.predict_on_batch(x)`; make one loop of many, `for batch in "
        "dataset.repeat(epochs): ...`, or use one iterator, `iter(dataset.repeat())`.",
        rule=_is_known("tf-data-iterators"),
    ),
    Cause(
        slug="py-function-tape",
        explains="A py_function was called under a gradient tape, and its gradient was "
        "never asked for. TensorFlow waits for that and keeps the tape, the arguments "
        "and the results.",
        remedy="Call it outside the tape, or inside `with tape.stop_recording(): ...`; "
        "use `tf.numpy_function` where no gradient is needed.",
        rule=lambda e: e.path.startswith(_TAPES),
    ),
    Cause(
        slug="py-function-closures",
        explains="TensorFlow keeps each Python function that py_function, "
        "numpy_function or from_generator wraps, and all it refers to. A function "
        "that is new in each call is one more.",
        remedy="Make the function once, at module level, and hand it what changes as "
        "arguments. fit() and predict() make some for each generator or PyDataset: "
        "make one `tf.data.Dataset.from_generator(...)` before the loop and pass that; "
        "or call `keras.utils.clear_session()`.",
        rule=lambda e: (
            e.known == "py-function-closures"
            or (not e.known and e.has("tf.py_functions"))
            or e.path.startswith("TensorFlow's table of Python functions")
            or e.held.endswith("script_ops.EagerFunc")
        ),
    ),
    Cause(
        slug="lookup-tables",
        explains="A lookup table is shared by its name and outlives the Python object. "
        "Each new one stays in the process.",
        remedy="Make the table once; or make it with "
        "`experimental_is_anonymous=True`: then it goes with its object.",
        rule=_is_known("lookup-tables"),
    ),
    Cause(
        slug="keras-automatic-names",
        explains="Keras numbers the names of layers, and TensorFlow keeps a prepared "
        "kernel for each name of a variable. Each new model adds new ones.",
        remedy="Call `keras.utils.clear_session()` where a new model is made; or give "
        "the layers names of their own, the same in each model.",
        rule=_is_known("keras-automatic-names"),
    ),
    Cause(
        slug="eager-kernel-cache",
        explains="TensorFlow keeps a prepared kernel for each operation with new "
        "attributes. A variable name or a seed that is new in each call makes one "
        "more, 36 KB or so.",
        remedy="Use fixed names, and `tf.random.stateless_normal(shape, seed=seed)` "
        "with the seed as a tensor; or call `keras.utils.clear_session()`.",
        rule=lambda e: (
            e.known == "eager-kernel-cache"
            or (_is_memory(e) and any("KernelAndDevice" in f for f in e.native[:8]))
        ),
    ),
    Cause(
        slug="tape-never-left",
        explains="A gradient tape was entered and never left. It goes on recording, "
        "and keeps every tensor that is computed from then on.",
        remedy="Use a with statement: `with tf.GradientTape() as tape: ...`; or call "
        "`tape.__exit__(None, None, None)` in a `finally`.",
        rule=lambda e: e.has("tf.tapes", "tf.accumulators"),
    ),
    Cause(
        slug="scope-never-left",
        explains="A scope of TensorFlow's was entered and never left. All that runs "
        "later in this thread is inside it.",
        remedy="Use a with statement: `with strategy.scope(): ...`, `with "
        "tf.device(...): ...`. A generator that yields inside one keeps it open: "
        "close the generator.",
        rule=lambda e: e.has(
            "tf.strategy",
            "tf.creator_scope",
            "tf.control_scope",
            "tf.device_scope",
            "tf.name_scope",
        ),
    ),
    Cause(
        slug="eager-mode-switched",
        explains="The code switched eager execution on or off and did not switch it "
        "back. Code that runs later finds itself in the other mode.",
        remedy="Build graphs in a with statement: `with tf.Graph().as_default(): ...`; "
        "call `tf.compat.v1.disable_eager_execution()` once, when the program "
        "starts.",
        rule=lambda e: e.has("tf.eager_mode"),
    ),
)
