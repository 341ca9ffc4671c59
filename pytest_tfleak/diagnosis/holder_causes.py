"""Causes that show in what stands between the root and the object.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re

from pytest_tfleak.diagnosis.cause import Cause
from pytest_tfleak.diagnosis.evidence import Evidence

_TAPES = ("backprop.GradientTape", "forwardprop.ForwardAccumulator")
_HISTORIES = {
    "keras.src.callbacks.history.History",
    "tf_keras.src.callbacks.History",
}
_CALLBACKS = {
    "keras.src.callbacks.callback.Callback",
    "tf_keras.src.callbacks.Callback",
}
#: A Keras layer that was there before.
_LAYERS = {
    "old_keras.src.layers.layer.Layer",
    "old_tf_keras.src.engine.base_layer.Layer",
}
#: Where a Keras layer keeps what it was given, and what add_loss() was given.
_GIVEN = re.compile(
    r"\._(layers|metrics|(non_)?trainable_(variables|weights)|seed_generators"
    r"|tracker\.\S+|self_tracked_trackables)( >|$)"
)
_LOSSES = re.compile(r"\._losses( >|$)")
_TASKS = {"_asyncio.Task", "asyncio.tasks.Task"}
#: What the event loop keeps of a task that waits.
_HANDLES = ("asyncio.events.Handle", "asyncio.events.TimerHandle")
_GENERATORS = {"generator", "builtins.async_generator"}
#: Where a Keras layer keeps the calls on symbolic tensors that it took part in.
_NODES = re.compile(r"\._(in|out)bound_nodes( >|$)")
#: What makes Keras or TensorFlow register gradients by itself.
_TRACED = {"keras.layers", "keras.optimizers", "tf.functions", "tf.traces"}
_REGISTRIES = (
    "a registry of TensorFlow",
    "tensorflow.python.framework.tensor_conversion_registry",
)
#: Modules that AutoGraph makes, and those that keep them.
_AUTOGRAPH = ("__autograph_generated_file", "tensorflow.python.autograph.")
_REMOVAL = "function <lambda> at loader.py"


def _is_at_exit(e: Evidence) -> bool:
    if _is_compiled(e):
        return False
    return "atexit" in e.clues or ("native" in e.clues and "atexit.register" in e.line)


def _is_compiled(e: Evidence) -> bool:
    # AutoGraph registers a function that removes the file of each copy
    is_removal = _REMOVAL in e.what and "atexit.register" not in e.line
    is_module = e.held == "builtins.module" or e.path.startswith(_AUTOGRAPH)
    return is_module or ("atexit" in e.clues and is_removal)


def _is_task(e: Evidence) -> bool:
    return bool(_TASKS & e.clues) or (e.held in _HANDLES and e.holds(*_TASKS))


def _is_generator(e: Evidence) -> bool:
    # the scope of a session or graph is a generator, too
    is_scope = e.has("tf.graph_stack", "tf.session_stack")
    return bool(_GENERATORS & e.clues) and not is_scope


def _is_gradient(e: Evidence) -> bool:
    if e.path.startswith("TensorFlow's custom-gradient registry"):
        return True
    if "RegisterGradient(" in e.line:
        return "old_class" not in e.clues
    return e.has("tf.custom_gradients") and e.failing.isdisjoint(_TRACED)


def _is_weakly_keyed(e: Evidence) -> bool:
    # a decorated method has its tf.functions in a dictionary of TensorFlow's own
    is_functions = bool(e.retrace) or e.has("tf.traces", "tf.functions")
    is_growing = "old_weak_keys" in e.clues and e.grows(r"\.data \(dict")
    return is_growing and not is_functions


def _is_keras_state(e: Evidence) -> bool:
    if "keras_state" in e.clues:
        return True
    # models that stay after clear_session() are held by somebody else
    kept = (e.failing - e.signals) & {"keras.layers", "keras.optimizers"}
    return e.is_released and not e.held and not kept


CAUSES = (
    Cause(
        slug="atexit-keeps-callback",
        explains="Each call registers a function with atexit. Python keeps it, its "
        "arguments and the object that it belongs to until the process ends.",
        remedy="Register once, at module level; or take it back when it is done: "
        "`atexit.unregister(f)`; or clean up in a with statement, and have the "
        "function refer to the object by a `weakref.ref`.",
        rule=_is_at_exit,
    ),
    Cause(
        slug="exception-keeps-arguments",
        explains="An exception or warning is kept, and it keeps what it was made with: "
        "its arguments and attributes.",
        remedy="Keep its text: `errors.append(repr(error))`; raise it with numbers and "
        "names, not tensors: `raise ValueError(f'bad shape {x.shape}')`.",
        rule=lambda e: "exception_args" in e.clues,
    ),
    Cause(
        slug="exception-keeps-frame",
        explains="An exception is kept, and its traceback keeps the variables of every "
        "function that it came through.",
        remedy="Keep its text: `errors.append(repr(error))`; or drop the traceback "
        "first: `error.with_traceback(None)`.",
        rule=lambda e: bool(e.clues & {"exception", "last_exception"}),
    ),
    Cause(
        slug="log-record-keeps-arguments",
        explains="A log handler keeps the records, and a record keeps the arguments of "
        "its message.",
        remedy='Log numbers and text: `log.info("loss %s", float(loss))`; or keep '
        "`record.getMessage()` in the handler, not the record.",
        rule=lambda e: "log_record" in e.clues,
    ),
    Cause(
        slug="lru-cache-keeps-arguments",
        explains="A function with functools.lru_cache or cache keeps its arguments and "
        "results, self included. Objects that are new in each call never hit it.",
        remedy="Cache by a plain key: a name, a number, a tuple of them; give it a "
        "`maxsize`, or call `function.cache_clear()`.",
        rule=lambda e: e.grows(r" \(lru_cache"),
    ),
    Cause(
        slug="weak-dict-value-keeps-key",
        explains="An entry of a WeakKeyDictionary goes when its key goes, and here the "
        "value refers to the key. So neither ever goes.",
        remedy="Have the value refer to the key weakly: `weakref.ref(key)`; or make "
        "the value an attribute of the key.",
        rule=_is_weakly_keyed,
    ),
    Cause(
        slug="task-never-ended",
        explains="Each call starts an asyncio task that stays: it waits for ever, or "
        "something keeps it when it is done. A task keeps its local variables and its "
        "result.",
        remedy="Wait for it: `async with asyncio.TaskGroup() as group: "
        "group.create_task(...)`; or end it: `task.cancel()`; of a set of tasks let "
        "those go that are done: `task.add_done_callback(tasks.discard)`.",
        rule=_is_task,
    ),
    Cause(
        slug="generator-suspended",
        explains="A generator or coroutine was started and not finished. As long as "
        "something keeps it, it keeps its local variables.",
        remedy="Finish it or close it: `with contextlib.closing(generator) as items: "
        "...`, or `generator.close()`; drop it from {holder}.",
        rule=_is_generator,
    ),
    Cause(
        slug="gradient-registered-in-loop",
        explains="Each call registers a gradient under a new name. TensorFlow's "
        "registry keeps the function, and all that it refers to, until the process "
        "ends.",
        remedy="Register it once, at module level: `@tf.RegisterGradient('MyGrad')`; "
        "or write `@tf.custom_gradient` on a function at module level.",
        rule=_is_gradient,
    ),
    Cause(
        slug="registered-in-loop",
        explains="Each call registers something with TensorFlow under a new name or "
        "type. Its registry keeps that until the process ends.",
        remedy="Make the class or function once, at module level, and register it "
        "there.",
        rule=lambda e: e.path.startswith(_REGISTRIES),
    ),
    Cause(
        slug="keras-custom-object",
        explains="Each call defines a class or function and registers it with Keras. "
        "The registry keeps each of them until the process ends.",
        remedy="Define the class at module level, where "
        "`@keras.saving.register_keras_serializable()` runs once; or load it with "
        "`custom_objects={...}`.",
        rule=lambda e: e.path.startswith("Keras' registry of custom objects"),
    ),
    Cause(
        slug="code-compiled-in-loop",
        explains="Each call makes new code, by exec(), by importing a file or by "
        "loading a function, and a module of it is kept. Of a function in graph mode "
        "AutoGraph keeps a translated copy as a module.",
        remedy="Compile or import it once, outside the loop; mark a function with "
        "`@tf.autograph.experimental.do_not_convert`; take out a module that is done "
        "with: `del sys.modules[name]`.",
        rule=_is_compiled,
    ),
    Cause(
        slug="history-kept",
        explains="fit() returns a History object, which keeps the whole model. "
        "Something keeps one of each run.",
        remedy="Keep its numbers: `results.append(model.fit(x, y).history)`.",
        rule=lambda e: bool(_HISTORIES & e.clues),
    ),
    Cause(
        slug="callback-kept",
        explains="Each call makes a Keras callback, and something keeps it. A callback "
        "keeps its model.",
        remedy="Make the callback once, or keep its figures only; take it out of "
        "{holder}.",
        # files of its own are all that is left open of a CSVLogger, say
        rule=lambda e: bool(_CALLBACKS & e.clues) and e.signals != {"process.fds"},
    ),
    Cause(
        slug="losses-pile-up",
        explains="add_loss() was called on a layer outside of its call(). Keras clears "
        "these losses when the layer itself is called, and it never is.",
        remedy="Call `self.add_loss(...)` inside the layer's `call()`, and the model "
        "as a whole; or keep the loss in a variable of your loop.",
        rule=lambda e: bool(_LAYERS & e.clues) and bool(_LOSSES.search(e.path)),
    ),
    Cause(
        slug="layer-added-to-shared-model",
        explains="Each call puts a layer on the symbolic output of the same model or "
        "layer. Keras notes that call there, and so keeps each layer that was put on "
        "it.",
        remedy="Build the head once, before the loop; or call it on data, which notes "
        "nothing: `features = backbone(x)`, then `head(features)`.",
        rule=lambda e: bool(_LAYERS & e.clues) and bool(_NODES.search(e.path)),
    ),
    Cause(
        slug="layer-replaced",
        explains="A layer or variable is assigned to an attribute of a Keras layer "
        "again and again. Keras remembers each one that it has ever been given.",
        remedy="Keep the layer and give it new weights: "
        "`self.head.set_weights(start)`; or make a new outer model, too.",
        rule=lambda e: bool(_LAYERS & e.clues) and bool(_GIVEN.search(e.path)),
    ),
    Cause(
        slug="tape-kept",
        explains="A gradient tape or a forward accumulator is kept. It keeps the "
        "tensors that it has recorded.",
        remedy="Keep the result, `tape.gradient(...)` or `accumulator.jvp(...)`, not "
        "the tape; `del tape` after the last gradient.",
        rule=lambda e: (
            any(name.endswith(_TAPES) for name in e.clues if name[:4] != "old_")
            or e.holds(*_TAPES)
            or ("native" in e.clues and any(n.endswith(_TAPES) for n in e.beside))
        ),
    ),
    Cause(
        slug="keras-global-state",
        explains="Keras keeps state of each model for the whole process: names, "
        "graphs, kernels. It grows with each model that is made.",
        remedy="Call `keras.utils.clear_session()` between models, or make the model "
        "once and reset its weights: `model.set_weights(start)`.",
        rule=_is_keras_state,
    ),
    Cause(
        slug="default-argument-grows",
        explains="The default value of an argument is made once, when the function is "
        "defined. All calls share that one list or dict, and it grows.",
        remedy="Make it in the call: `def f(x, seen=None): seen = [] if seen is None "
        "else seen`.",
        rule=lambda e: "default of its argument" in e.path,
    ),
)
