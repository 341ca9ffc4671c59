"""The table of causes: well formed and in order."""

from __future__ import annotations

import re
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_tfleak.diagnosis.causes.advise import Explained
from pytest_tfleak.diagnosis.causes.advise import advise
from pytest_tfleak.diagnosis.causes.all_causes import CAUSES
from pytest_tfleak.diagnosis.causes.all_causes import cause_named
from pytest_tfleak.diagnosis.causes.all_causes import find_cause
from pytest_tfleak.diagnosis.causes.case import Case
from pytest_tfleak.diagnosis.causes.cause import FUNCTION_CACHE
from pytest_tfleak.diagnosis.causes.cause import Cause
from pytest_tfleak.diagnosis.causes.cause import Evidence
from pytest_tfleak.diagnosis.causes.places import PLACES
from pytest_tfleak.diagnosis.causes.places import explain
from pytest_tfleak.diagnosis.causes.places import fill
from pytest_tfleak.diagnosis.holder.path import without_holder
from pytest_tfleak.diagnosis.origin.source_hints import hints_of
from pytest_tfleak.diagnosis.survivors.groups import CHAIN
from pytest_tfleak.diagnosis.survivors.groups import LONGER_VALUE
from pytest_tfleak.diagnosis.survivors.groups import Group
from pytest_tfleak.diagnosis.survivors.structure import Observed
from pytest_tfleak.diagnosis.what.descriptors import RunningThread
from pytest_tfleak.known import KNOWN
from pytest_tfleak.retaining_path import ATTRIBUTE
from pytest_tfleak.retaining_path import DEFAULT
from pytest_tfleak.retaining_path import ENTRY
from pytest_tfleak.retaining_path import EXCEPTION
from pytest_tfleak.retaining_path import EXCEPTION_ARGUMENTS
from pytest_tfleak.retaining_path import INDEX
from pytest_tfleak.retaining_path import UNKNOWN
from pytest_tfleak.retaining_path import VIEW
from pytest_tfleak.retaining_path import Array
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import Root
from pytest_tfleak.retaining_path import Step
from pytest_tfleak.signals import is_size
from pytest_tfleak.user_code import origin_of
from pytest_tfleak.verdict import Origin
from tests.builders import NOBODY
from tests.builders import from_root
from tests.builders import in_frame
from tests.builders import make_finding
from tests.builders import make_group
from tests.builders import make_part
from tests.builders import new
from tests.builders import passing
from tests.builders import path_to

#: Causes that name what is known and give no remedy, since none has evidence.
SILENT = {"kept-by-native-code", "native-memory", "small-objects-pile-up"}
TENSOR = "tensorflow.python.framework.ops.EagerTensor"
SESSION = "tensorflow.python.client.session.Session"
THREAD = "threading.Thread"
RESTORE = "tensorflow.python.checkpoint.restore.CheckpointPosition"
H5, SQL = "h5py._hl.base.HLObject", "sqlite3.Connection"
TF_FUNCTION = (
    "tensorflow.python.eager.polymorphic_function.polymorphic_function.Function"
)
POOL = "concurrent.futures.thread.ThreadPoolExecutor"
MANAGER = "concurrent.futures.process._ExecutorManagerThread"
PROCESS = "multiprocessing.process.BaseProcess"
CALLBACK = "keras.src.callbacks.callback.Callback"
KERAS_LAYER = "keras.src.layers.layer.Layer"
TRACKED = "keras.src.utils.tracking.TrackedList"
LOOP = "asyncio.events.AbstractEventLoop"
SEGMENT = "multiprocessing.shared_memory.SharedMemory"
QUEUE = "multiprocessing.queues.Queue"
HISTORY = "keras.src.callbacks.history.History"
THREADS = "process.threads"
CELL = "builtins.cell"
CLASS = "builtins.type"
GENERATOR = "builtins.generator"
TUPLE, CONCRETE = "builtins.tuple", "x.ConcreteFunction"
LOGGER = "logging.Logger"
LRU_CACHE = "functools._lru_cache_wrapper"
WEAK_KEYS = "weakref.WeakKeyDictionary"
REMOVAL = "tensorflow.python.autograph.pyct.loader.load_source.<locals>.<lambda>"
DEFAULT_X = Step(kind=DEFAULT, name="x", types=("builtins.list",))
PARAMETER = Root(kind="parameter", name="values")
CACHED = path_to(at="app.f", container="lru_cache")
OF_CACHE = (
    Step(kind=ATTRIBUTE, name="Model", types=(CLASS,)),
    Step(kind=ATTRIBUTE, name="get", types=(LRU_CACHE,)),
)
ITS_DICT = Step(kind=UNKNOWN, types=("builtins.dict",))
IN_CACHE = RetainingPath(
    root=Root(kind="module", name="app"), steps=(*OF_CACHE, ITS_DICT)
)
BESIDE_CACHE = replace(
    IN_CACHE, steps=(*OF_CACHE, replace(ITS_DICT, kind=ATTRIBUTE, name="seen"))
)
FIGURE = Array(type="EagerTensor", dtype="float32", shape=())
LARGE = Array(type="EagerTensor", dtype="float32", shape=(40, 40))
SMALL = Array(type="EagerTensor", dtype="float32", shape=(8,))
NATIVE_PART = replace(path_to(at="app.K"), in_native_part=True)
FEEDER = RunningThread(name="QueueFeederThread", target="x")
each_cause = pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.slug)


@each_cause
def test_a_row_is_a_slug_two_sentences_and_a_remedy(cause: Cause) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", cause.slug)
    assert 1 <= len(re.findall(r"[.?](?= [A-Z]|$)", cause.explains)) <= 3
    assert re.match(r"[A-Z]|\w+\(", cause.explains) and cause.explains.endswith(".")
    if cause.slug in SILENT:
        assert cause.remedy == ""
    else:
        assert cause.remedy[0] in string.ascii_uppercase + "{"
        assert cause.remedy.endswith(".")
    assert cause.remedy.count("`") % 2 == 0
    holes = set(re.findall(r"\{(\w+)\}", cause.explains + cause.remedy))
    assert holes <= {*PLACES, "clear_session"}


@each_cause
def test_a_row_asks_for_evidence(cause: Cause) -> None:
    assert not cause.rule(Evidence())


def test_each_cause_has_a_row_in_shown() -> None:
    missing = {cause.slug for cause in CAUSES} - {slug for slug, _, _ in SHOWN}
    assert missing <= ONLY_PLANTED, "add a row to SHOWN"
    assert missing >= ONLY_PLANTED, "take out of ONLY_PLANTED what has a row now"
    assert len(ONLY_PLANTED) <= 48, "a new cause gets a row, not an exception"


def test_slugs_are_unique_and_include_all_known_growth() -> None:
    slugs = [cause.slug for cause in CAUSES]
    assert len(set(slugs)) == len(slugs)
    assert {entry.name for entry in KNOWN} <= set(slugs)
    assert cause_named(slugs[-1]) is CAUSES[-1]
    assert cause_named("no-such-cause") is None


@pytest.mark.parametrize(
    ("slug", "evidence"),
    [
        ("loss-kept", {"arrays": (FIGURE,), "held": TENSOR}),
        ("loss-kept", {"path": path_to(at="app.LOSSES"), "held": TENSOR}),
        ("tensor-kept", {"path": path_to(at="app.SEEN"), "held": TENSOR}),
        ("exception-keeps-frame", {"path": passing(EXCEPTION), "held": TENSOR}),
        ("lru-cache-keeps-arguments", {"holder": CACHED}),
        ("thread-never-joined", {"path": passing(THREAD), "failing": {THREADS}}),
        ("default-argument-grows", {"path": path_to(through=[DEFAULT_X])}),
        ("graph-kept", {"held": "tensorflow.python.framework.ops.SymbolicTensor"}),
    ],
)
def test_the_holder_of_a_tensor_says_more_than_the_tensor(
    slug: str, evidence: dict[str, object]
) -> None:
    assert slug_for({"signals": {"tf.tensors"}, **evidence}) == slug


@pytest.mark.parametrize(
    ("slug", "evidence"),
    [
        ("session-never-closed", {}),
        ("session-close-skipped", {"around": {"closes"}}),
        ("session-close-skipped", {"around": {"exits"}}),
        ("exception-keeps-frame", {"around": {"closes"}, "path": passing(EXCEPTION)}),
        ("interactive-session-left", {"kinds": {"InteractiveSession"}}),
    ],
)
def test_the_cause_of_an_open_session_depends_on_the_code_around_it(
    slug: str, evidence: dict[str, object]
) -> None:
    assert slug_for({"signals": {"tf.sessions", "tf.graphs"}, **evidence}) == slug


def test_an_object_with_threads_of_its_own_is_what_is_kept() -> None:
    native = RunningThread(name="grpc_server", is_native=True)
    kept = {"path": path_to("app.Server"), "held": "app.Server", "threads": (native,)}
    signals = {"signals": {"process.threads", "process.fds"}}
    failing = {"failing": {"process.threads", "process.fds"}}
    assert slug_for({**kept, **signals, **failing}) == "object-kept"
    started = {"threads": (native, RunningThread(name="worker"))}
    assert slug_for({**kept, **started, **signals, **failing}) == "thread-never-joined"


@pytest.mark.parametrize(
    ("retrace", "slug"),
    [
        ("python_scalar", "retrace-python-value"),
        ("shape", "retrace-shape"),
        ("dtype", "retrace-shape"),
        ("object", "retrace-new-object"),
        ("structure", "retrace-structure"),
        ("context", "retrace-context"),
    ],
)
def test_the_cause_of_a_retrace_depends_on_its_sort(retrace: str, slug: str) -> None:
    assert slug_for({"signals": {"tf.traces"}, "retrace": retrace}) == slug


def weakly_keyed(path: RetainingPath) -> dict[str, object]:
    return {"path": path, "holder": path}


def of_library(path: RetainingPath) -> RetainingPath:
    return replace(path, root=replace(path.root, is_library=True))


def thread(name: str, target: str = "") -> dict[str, object]:
    running = RunningThread(name=name, target=target)
    return {"threads": (running,), "signals": {"process.threads"}}


def in_logger(*types: str) -> RetainingPath:
    """Return the path to an object among the handlers of a logger."""
    made = Step(kind=ENTRY, types=types, is_new=True)
    return path_to(types[0], at="app.LOG.handlers", owner=LOGGER, through=[made])


def in_filters(kind: str, *, is_new: bool = True) -> RetainingPath:
    """Return the path to what a filter of a logger keeps."""
    added = Step(kind=ENTRY, types=(kind,), is_new=is_new)
    path = path_to(TENSOR, at="app.LOG.filters", through=[added, new(TENSOR)])
    logger, *rest = path.steps
    owner = replace(logger, types=(LOGGER, "logging.Filterer"))
    return replace(path, steps=(owner, *rest))


def of_new_handler(**known: Any) -> RetainingPath:
    """Return the path to the filter of a handler that each call makes."""
    types = ("logging.Handler", "logging.Filterer")
    handler = Step(kind=ENTRY, types=types, is_new=True)
    filters = new("builtins.list", attribute="filters")
    added = new("logging.Filter", kind=INDEX)
    return path_to("logging.Filter", through=[handler, filters, added], **known)


def holding(array: Array) -> RetainingPath:
    return replace(path_to(TENSOR, at="app.K"), array=array)


#: Causes that only the planted tests cover. The list may get shorter, not longer.
ONLY_PLANTED = {
    *("array-kept", "cancelled-without-finally", "closed-session-kept"),
    *("custom-gradient-registry", "dataset-kept", "default-graph-grows"),
    *("eager-mode-switched", "enter-fails-after-opening", "exit-fails-before-closing"),
    *("exit-hides-error", "exit-only-on-success", "exit-returns-true"),
    *("exit-stack-half-filled", "fails-before-yield", "graph-grows", "graph-kept"),
    *("graph-scope-never-left", "guarded-too-late", "iterator-kept"),
    *("keras-automatic-names", "keras-lookup-tables", "kernels-made-again"),
    *("lookup-tables", "manager-entered-twice", "model-kept", "native-memory"),
    *("nest-types", "optimizer-kept", "py-function-wrappers", "retrace-context"),
    *("retrace-new-object", "retrace-python-value", "retrace-shape"),
    *("retrace-structure", "scalar-cache", "scope-never-left", "session-close-skipped"),
    *("session-never-closed", "session-scope-never-left", "summary-writer-left"),
    *("tape-never-left", "tensor-kept", "tf-data-functions", "tf-data-iterators"),
    *("traceback-code", "variable-kept", "xla-executables", "yield-without-finally"),
}
#: For each cause: evidence that shows it, and similar evidence of something else.
SHOWN: list[tuple[str, dict[str, object], dict[str, object]]] = [
    (
        "gradient-registered-in-loop",
        {"signals": {"tf.custom_gradients"}, "failing": {"python.blocks"}},
        {"signals": {"tf.custom_gradients"}, "failing": {"keras.layers"}},
    ),
    (
        "gradient-registered-in-loop",
        {"signals": {"tf.custom_gradients"}, "failing": {"python.blocks"}},
        {"signals": {"tf.custom_gradients"}, "failing": {"tf.traces"}},
    ),
    (
        "gradient-registered-in-loop",
        {"signals": {"tf.custom_gradients"}, "failing": {"python.blocks"}},
        {"signals": {"tf.custom_gradients"}, "failing": {"tf.registered_functions"}},
    ),
    (
        "gradient-registered-in-loop",
        {"line": "@tf.RegisterGradient(name)"},
        {"line": "GRADIENTS.append(RegisterGradients)"},
    ),
    (
        "gradient-registered-in-loop",
        {"path": path_to(at="library.registry", store="gradients")},
        {"path": path_to(at="library.registry", store="registry")},
    ),
    (
        "lru-cache-keeps-arguments",
        {"holder": path_to(at="app.get", owner=LRU_CACHE, container="lru_cache")},
        {"holder": path_to(at="app.get.seen", owner=LRU_CACHE)},
    ),
    (
        "lru-cache-keeps-arguments",
        {"path": IN_CACHE, "growth": LONGER_VALUE},
        {"path": BESIDE_CACHE, "growth": LONGER_VALUE},
    ),
    (
        "weak-dict-value-keeps-key",
        weakly_keyed(path_to(at="app.SEEN.data", owner=WEAK_KEYS, container="dict")),
        weakly_keyed(path_to(at="app.SEEN.data", owner=WEAK_KEYS, size=None)),
    ),
    (
        "weak-dict-value-keeps-key",
        weakly_keyed(path_to(at="app.SEEN.data", owner=WEAK_KEYS, container="dict")),
        weakly_keyed(path_to(at="app.KEPT", through=[new(WEAK_KEYS)])),
    ),
    (
        "weak-dict-value-keeps-key",
        weakly_keyed(path_to(at="app.SEEN.data", owner=WEAK_KEYS, container="dict")),
        weakly_keyed(
            path_to(at="lib.S.data", owner=WEAK_KEYS, container="dict", is_library=True)
        ),
    ),
    (
        "task-never-ended",
        {"path": passing("_asyncio.Task", GENERATOR)},
        {"path": passing(GENERATOR, old=["_asyncio.Task"])},
    ),
    (
        "task-never-ended",
        {"held": "asyncio.events.TimerHandle", "members": {"_asyncio.Task": 1.0}},
        {"held": "app.Service", "members": {"_asyncio.Task": 1.0}},
    ),
    (
        "generator-suspended",
        {"path": passing("builtins.tuple", GENERATOR)},
        {"path": passing("builtins.tuple", old=[GENERATOR])},
    ),
    (
        "generator-suspended",
        {"path": passing("builtins.async_generator")},
        {"path": passing(old=["builtins.async_generator"])},
    ),
    (
        "generator-suspended",
        {"path": passing(GENERATOR), "signals": {"tf.graphs"}},
        {"path": passing(GENERATOR), "signals": {"tf.graphs", "tf.graph_stack"}},
    ),
    (
        "exception-keeps-frame",
        {"path": passing("builtins.tuple", EXCEPTION)},
        {"path": passing("builtins.tuple", old=["builtins.ValueError"])},
    ),
    (
        "exception-keeps-frame",
        {"path": from_root("exception", "builtins.ValueError")},
        {"path": from_root("context", "builtins.ValueError")},
    ),
    (
        "logger-made-in-loop",
        {"path": path_to("logging.Logger", at="app.LOG.manager.loggerDict")},
        {"path": path_to("logging.Logger", at="app.LOGS")},
    ),
    (
        "log-record-keeps-arguments",
        {"path": passing("builtins.tuple", "logging.LogRecord")},
        {"path": passing("builtins.tuple", old=["logging.Handler"])},
    ),
    (
        "atexit-keeps-callback",
        {"path": from_root("atexit"), "held": "builtins.method"},
        {"path": NOBODY, "held": "builtins.method"},
    ),
    (
        "atexit-keeps-callback",
        {"path": NOBODY, "line": "atexit.register(client.close)"},
        {"path": passing(CELL), "line": "atexit.register(client.close)"},
    ),
    (
        "registered-in-loop",
        {"path": path_to(at="library.registry", store="registry")},
        {"path": path_to(at="app.CONVERTER.conversion_registry")},
    ),
    (
        "keras-custom-object",
        {"path": path_to(at="library.OBJECTS", store="keras-objects")},
        {"path": path_to(at="app.CUSTOM_OBJECTS")},
    ),
    (
        "code-compiled-in-loop",
        {"path": path_to(at="sys.modules"), "held": "builtins.module"},
        {"path": path_to(at="sys.modules"), "held": "app.Lazy"},
    ),
    (
        "code-compiled-in-loop",
        {"path": from_root("atexit"), "functions": (REMOVAL,)},
        {
            "path": from_root("atexit"),
            "functions": (REMOVAL,),
            "line": "atexit.register(lambda: stop(x))",
        },
    ),
    (
        "code-compiled-in-loop",
        {"path": from_root("atexit"), "functions": (REMOVAL,)},
        {"path": from_root("atexit"), "functions": ("app.loader.<lambda>",)},
    ),
    (
        "code-compiled-in-loop",
        {"path": path_to(at="__autograph_generated_file12.f")},
        {"path": path_to(at="app.TOOL.autograph")},
    ),
    (
        "code-compiled-in-loop",
        {"path": path_to(at="__autograph_generated_file12.f")},
        {"members": {"_frozen_importlib.ModuleSpec": 1.0}, "path": path_to()},
    ),
    (
        "history-kept",
        {"path": passing("builtins.dict", HISTORY), "signals": {"keras.layers"}},
        {"members": {"builtins.dict": 1.0, HISTORY: 1.0}, "signals": {"keras.layers"}},
    ),
    (
        "losses-pile-up",
        {"path": path_to(at="app.DENSE._losses", owner=KERAS_LAYER)},
        {"path": path_to(at="app.TRAINER._losses", owner="app.Trainer")},
    ),
    (
        "layer-replaced",
        {"path": path_to(at="app.NET._layers", owner=KERAS_LAYER)},
        {"path": path_to(at="app.TRAINER._layers", owner="app.Trainer")},
    ),
    (
        "layer-replaced",
        {"path": path_to(at="app.NET._tracker.stored_ids", owner=KERAS_LAYER)},
        {"path": path_to(at="app.NET.tracker.stored_ids", owner=KERAS_LAYER)},
    ),
    (
        "layer-replaced",
        {"path": path_to(at="app.NET._trainable_variables", owner=KERAS_LAYER)},
        {"path": path_to(at="app.NET.seen", owner=KERAS_LAYER, through=[new(TRACKED)])},
    ),
    (
        "keras-global-state",
        {"signals": {"process.threads"}, "is_released": True},
        {
            "signals": {"process.threads"},
            "is_released": True,
            "failing": {"process.threads", "keras.layers"},
        },
    ),
    (
        "keras-global-state",
        {"path": path_to(at="library.TRACKER", store="keras-state")},
        {"path": path_to(at="app.GLOBAL_STATE_TRACKER")},
    ),
    (
        "py-function-tape",
        {"path": path_to(at="library.tape_cache", store="py-function-tapes")},
        {"path": path_to(at="app.TRAINER.tape_cache")},
    ),
    (
        "py-function-closures",
        {"path": path_to(at="library.functions", store="py-functions")},
        {"path": path_to(at="app.py_functions")},
    ),
    (
        "interactive-session-left",
        {"signals": {"tf.sessions"}, "kinds": {"InteractiveSession"}},
        {"signals": {"tf.sessions"}, "kinds": {"MyInteractiveSession"}},
    ),
    (
        "interactive-session-left",
        {
            "path": path_to(at="library.stack", store="session-stack"),
            "beside": {"tensorflow.python.client.session.InteractiveSession"},
        },
        {
            "path": path_to(at="app.STACK"),
            "beside": {"tensorflow.python.client.session.InteractiveSession"},
        },
    ),
    (
        "concrete-function-kept",
        {"signals": {"tf.functions"}, "retrace": "shape", "held": "x.ConcreteFunction"},
        {
            "signals": {"tf.functions"},
            "retrace": "shape",
            "held": "x.ConcreteFunction",
            "path": passing(old=[FUNCTION_CACHE]),
        },
    ),
    (
        "concrete-function-kept",
        {"signals": {"tf.functions"}, "held": TUPLE, "members": {CONCRETE: 1.0}},
        {"signals": {"tf.functions"}, "held": "app.Net", "members": {CONCRETE: 1.0}},
    ),
    (
        "saved-model-kept",
        {"members": {"tensorflow.python.saved_model.load.Loader": 1.0}},
        {"members": {"app.saved_model.Loader": 1.0}},
    ),
    (
        "object-kept",  # a pool that was shut down has no workers
        {"path": passing(POOL), "held": POOL},
        {"path": passing(POOL), "held": POOL, "failing": {THREADS}},
    ),
    (
        "handler-not-removed",
        {"path": in_logger("logging.Handler"), "failing": {"process.fds"}},
        {"path": passing(old=["logging.Handler"]), "failing": {"process.fds"}},
    ),
    (
        "handler-not-removed",
        {"path": in_logger("logging.StreamHandler", "logging.Handler")},
        {"path": passing("logging.StreamHandler", "logging.Handler")},
    ),
    (
        "log-filter-not-removed",
        {"path": in_filters("builtins.function"), "held": "builtins.function"},
        {"path": path_to(at="app.LOG.filters", owner="app.Log")},
    ),
    (
        "log-filter-not-removed",  # not one filter that keeps more and more
        {"path": in_filters("logging.Filter", is_new=True), "held": TENSOR},
        {"path": in_filters("logging.Filter", is_new=False), "held": TENSOR},
    ),
    (
        "handler-not-removed",  # its filters go with it
        {"path": of_new_handler(at="app.LOG.handlers", owner=LOGGER)},
        {"path": of_new_handler(at="app.KEPT")},
    ),
    (
        "directory-not-removed",
        {"path": passing("tempfile.TemporaryDirectory")},
        {"path": passing(old=["tempfile.TemporaryDirectory"])},
    ),
    (
        "figure-not-closed",
        {"path": path_to(at="matplotlib._pylab_helpers.Gcf.figs")},
        {"path": path_to(at="app.FIGURES")},
    ),
    (
        "restore-deferred",
        {"path": passing(RESTORE), "held": RESTORE},
        {"path": passing(old=[RESTORE]), "held": TENSOR},
    ),
    (
        "file-not-closed",
        {"holder": path_to(H5, through=[new(H5)]), "failing": {"process.fds"}},
        {"holder": path_to(H5, through=[new(H5)]), "failing": {"python.blocks"}},
    ),
    (
        "file-not-closed",
        {"holder": path_to(SQL, through=[new(SQL)]), "failing": {"process.fds"}},
        {"holder": path_to(SQL, through=[new(SQL)]), "failing": {"python.blocks"}},
    ),
    (
        "function-made-in-loop",
        {"path": of_library(passing(TF_FUNCTION)), "held": TENSOR},
        {"path": passing(TF_FUNCTION), "held": TENSOR},
    ),
    (
        "executor-not-shut-down",
        {"path": passing(POOL), "failing": {THREADS}},
        {"path": passing(old=[POOL]), "failing": {THREADS}},
    ),
    (
        "executor-not-shut-down",
        {**thread("ThreadPoolExecutor-0_1"), "failing": {THREADS}},
        thread("worker-1", target="app.ThreadPoolExecutor"),
    ),
    (
        "executor-not-shut-down",
        {**thread("Thread-1", target=f"{MANAGER}.run"), "failing": {THREADS}},
        {**thread("ProcessPoolExecutor-0", target="app.run"), "failing": {THREADS}},
    ),
    (
        "process-never-joined",
        {"path": passing(PROCESS), "signals": {"process.children"}},
        {"path": passing(PROCESS), "signals": {"process.threads"}},
    ),
    (
        "executor-not-shut-down",  # its processes belong to it
        {"path": passing(MANAGER, THREAD), "failing": {"process.children"}},
        {"path": passing(PROCESS), "signals": {"process.children"}},
    ),
    (
        "queue-runner-threads",
        {**thread("QueueRunnerThread-x"), "failing": {"process.threads"}},
        {**thread("Thread-1"), "failing": {"process.threads"}},
    ),
    (
        "thread-never-joined",
        {"path": passing(THREAD), "failing": {"process.threads"}},
        {"path": passing(old=[THREAD]), "failing": {"process.threads"}},
    ),
    (
        "thread-never-joined",
        {"path": from_root("threads", THREAD)},
        {"path": passing(THREAD, at="app.ENDED")},
    ),
    (
        "thread-never-joined",
        {"path": in_frame("x", "f", thread="t"), "failing": {"process.threads"}},
        {"path": in_frame("x", "f", thread="t"), "failing": {"tf.tensors"}},
    ),
    (
        "summary-writer-not-closed",
        {"members": {"tensorflow.python.ops.summary_ops_v2._ResourceSummaryWriter": 1}},
        {"members": {"app.MySummaryWriter": 1.0}},
    ),
    (
        "summary-writer-not-closed",
        {"files": ("/logs/events.out.tfevents.1",), "signals": {"process.fds"}},
        {"files": ("/logs/events.log",), "signals": {"process.fds"}},
    ),
    (
        "file-not-closed",
        {"members": {"_io.FileIO": 1.0}, "failing": {"process.fds"}},
        {"members": {"_io.FileIO": 1.0}, "failing": {"python.blocks"}},
    ),
    (
        "file-not-closed",
        {"members": {"tensorflow.python.lib.io.file_io.FileIO": 1.0}},
        {"members": {"app.MyFileIO": 1.0}},
    ),
    (
        "session-keeps-data",
        {"signals": {"host.heap"}, "line": 'd["session"].run(put)'},
        {"signals": {"host.heap"}, "line": "strategy.run(step)"},
    ),
    (
        "run-metadata-kept",
        {"held": "tensorflow.core.protobuf.config_pb2.RunMetadata"},
        {"held": "app.RunMetadata"},
    ),
    (
        "dlpack-capsule-kept",
        {"held": "builtins.PyCapsule"},
        {"held": "app.MyPyCapsule"},
    ),
    (
        "array-view-kept",
        {"path": passing(VIEW), "held": "numpy.ndarray"},
        {"path": passing("numpy.ndarray"), "held": "numpy.ndarray"},
    ),
    (
        "loss-kept",
        {"held": TENSOR, "path": path_to(TENSOR, at="app.TRAINER.valLoss")},
        {"held": TENSOR, "path": path_to(TENSOR, at="app.GLOSSARY")},
    ),
    (
        "loss-kept",
        {"held": TENSOR, "path": path_to(TENSOR), "line": "loss = f(x)"},
        {"held": TENSOR, "path": path_to(TENSOR), "line": "add(tf.tanh(score))"},
    ),
    (
        "loss-kept",
        {"held": TENSOR, "path": in_frame("losses", "fit")},
        {"held": TENSOR, "path": in_frame("seen", "loss")},
    ),
    (
        "loss-kept",
        {"held": "builtins.dict", "signals": {"tf.tensors"}, "arrays": (FIGURE,)},
        {"held": "app.Model", "signals": {"tf.tensors"}, "arrays": (FIGURE,)},
    ),
    (
        "loss-kept",
        {"held": "builtins.dict", "signals": {"tf.tensors"}, "arrays": (FIGURE,)},
        {
            "held": "builtins.dict",
            "signals": {"tf.tensors"},
            "arrays": (replace(FIGURE, dtype="int32"),),
        },
    ),
    (
        "loss-kept",
        {"held": TENSOR, "line": "loss = f(x)", "arrays": (SMALL,)},
        {"held": TENSOR, "line": "loss = f(x)", "arrays": (LARGE,)},
    ),
    (
        "loss-kept",
        {"held": TENSOR, "line": "loss = f(x)", "holder": holding(FIGURE)},
        {"held": TENSOR, "line": "loss = f(x)", "holder": holding(LARGE)},
    ),
    (
        "closure-keeps-variables",
        {"held": "builtins.function", "path": passing(CELL)},
        {"held": "app.Service", "path": passing(CELL)},
    ),
    (
        "class-attribute-grows",
        {"held": "app.Step", "path": passing(old=[CLASS, "builtins.list"])},
        {"held": "app.Step", "path": passing(old=[CLASS, "app.Registry"])},
    ),
    (
        "exception-keeps-arguments",
        {
            "path": passing(EXCEPTION_ARGUMENTS, EXCEPTION),
            "held": "app.BadBatch",
        },
        {"path": passing(EXCEPTION), "held": "app.BadBatch"},
    ),
    (
        "default-argument-grows",
        {"path": path_to(at="app.f", size=None, through=[DEFAULT_X])},
        {"path": path_to(at="app.default")},
    ),
    (
        "parameter-grows",
        {"path": replace(path_to(at="app.f"), root=PARAMETER)},
        {"path": replace(path_to(at="app.f", size=None), root=PARAMETER)},
    ),
    (
        "layer-added-to-shared-model",
        {
            "path": path_to(at="app.NET._outbound_nodes", owner=KERAS_LAYER),
            "signals": {"keras.layers"},
        },
        {
            "path": path_to(
                at="app.NET._outbound_nodes",
                owner="app.Net",
                through=[new(KERAS_LAYER)],
            ),
            "signals": {"keras.layers"},
        },
    ),
    (
        "callback-kept",
        {"path": passing(CALLBACK), "signals": {"host.heap", "process.fds"}},
        {"path": passing(CALLBACK), "signals": {"process.fds"}},
    ),
    (
        "tape-kept",
        {"members": {"tensorflow.python.eager.forwardprop.ForwardAccumulator": 1.0}},
        {"members": {"app.ForwardAccumulator": 1.0}},
    ),
    (
        "eager-kernel-cache",
        {"signals": {"host.heap"}, "native": ("tensorflow::KernelAndDeviceOp::Init",)},
        {"signals": {"host.heap"}, "native": ("tensorflow::KernelAndDeviceOp::Run",)},
    ),
    (
        "kept-by-native-code",
        {"path": NOBODY, "held": TENSOR, "holder": NOBODY},
        {"path": NOBODY, "held": TENSOR, "holder": NATIVE_PART},
    ),
    (
        "finalizer-keeps-arguments",
        {"path": path_to(at="weakref.finalize._registry")},
        {"path": path_to(at="app.FINALIZERS._registry")},
    ),
    (
        "iterator-falls-behind",
        {"path": passing(old=["itertools._tee", "itertools._tee_dataobject"])},
        {"path": passing("itertools._tee", "itertools._tee_dataobject")},
    ),
    (
        "mock-keeps-calls",
        {"path": passing("unittest.mock._Call", old=["unittest.mock._CallList"])},
        {"path": passing("unittest.mock.Mock", "unittest.mock._Call")},
    ),
    (
        "pickler-keeps-objects",
        {"path": passing(old=["_pickle.Pickler"]), "held": "pickle.PickleBuffer"},
        {"path": passing("_pickle.Pickler"), "held": "_pickle.Pickler"},
    ),
    (
        "queue-not-closed",
        {"path": passing(QUEUE), "signals": {"process.fds"}},
        {"path": passing(QUEUE), "signals": {"process.fds", "process.children"}},
    ),
    (
        "queue-not-closed",  # not the queue of a pool
        {"threads": (FEEDER,), "failing": {THREADS}},
        {"path": passing(MANAGER), "threads": (FEEDER,), "failing": {THREADS}},
    ),
    (
        "queue-not-closed",
        {"threads": (FEEDER,), "signals": {"process.threads"}},
        thread("Thread-1", target="x.feed"),
    ),
    (
        "timer-not-cancelled",
        {"path": passing("threading.Timer", THREAD), "failing": {"process.threads"}},
        {"path": passing("threading.Timer", THREAD), "failing": {"python.blocks"}},
    ),
    (
        "event-loop-not-closed",
        {"path": passing(LOOP), "failing": {"process.fds"}},
        {"path": passing(old=[LOOP]), "failing": {"process.fds"}},
    ),
    (
        "shared-memory-left",
        {"path": passing(SEGMENT), "signals": {"process.fds"}},
        {"files": ("/dev/shm/a.log",), "signals": {"process.fds"}},
    ),
    (
        "shared-memory-left",
        {"files": ("/dev/shm/psm_1ab",), "signals": {"process.fds"}},
        {"path": passing(old=[SEGMENT]), "signals": {"process.fds"}},
    ),
    (
        "future-kept",
        {"path": passing("concurrent.futures._base.Future")},
        {
            "path": passing("concurrent.futures._base.Future", POOL),
            "failing": {THREADS},
        },
    ),
    (
        "context-token-kept",
        {"path": passing("_contextvars.Token"), "signals": {"tf.tensors"}},
        {"path": passing("app.Token"), "signals": {"tf.tensors"}},
    ),
    (
        "value-grows",
        {"growth": LONGER_VALUE, "held": "numpy.ndarray"},
        {"held": "numpy.ndarray"},
    ),
    (
        "chain-grows",
        {"held": "app.State", "growth": CHAIN, "signals": {"tf.tensors"}},
        {"held": "builtins.dict", "growth": CHAIN, "signals": {"tf.tensors"}},
    ),
    (
        "chain-grows",
        {"held": "builtins.function", "growth": CHAIN, "path": NOBODY},
        {"held": TENSOR, "growth": CHAIN, "path": NOBODY},
    ),
    (
        "class-made-in-loop",
        {"held": CLASS, "path": passing(CLASS), "signals": {"tf.tensors"}},
        {"held": "app.Item", "path": passing(old=[CLASS]), "signals": {"tf.tensors"}},
    ),
    (
        "callback-registered-in-loop",
        {"held": "builtins.method", "holder": path_to(at="app.BUS._seen")},
        {"held": "builtins.method", "holder": path_to(at="app.BUS.last", size=None)},
    ),
    (
        "callback-registered-in-loop",
        {
            "held": "builtins.method",
            "path": from_root("loose"),
            "holder": from_root("loose"),
        },
        {"held": "app.Thing", "path": from_root("loose")},
    ),
    (
        "callback-registered-in-loop",
        {"held": "builtins.function", "holder": path_to(at="app.BUS.on_end")},
        {"held": "builtins.function", "holder": path_to(at="app.SEEN")},
    ),
    (
        "values-pile-up",
        {"held": "builtins.float", "signals": {"python.blocks"}},
        {"held": "app.Float", "signals": {"python.blocks"}},
    ),
    (
        "small-objects-pile-up",
        {"signals": {"python.blocks"}, "is_searched": True},
        {"signals": {"python.blocks"}, "is_searched": False},
    ),
    (
        "small-objects-pile-up",
        {"signals": {"host.heap"}, "is_searched": True, "is_of_blocks": True},
        {"signals": {"host.heap"}, "is_searched": True},
    ),
    (
        "kept-by-library",
        {"held": "x.Info", "path": path_to(at="lib.Box.all", is_library=True)},
        {"held": "x.Info", "path": path_to(at="app.Box.all")},
    ),
    (
        "kept-by-library",
        {"held": "x", "path": path_to(is_library=True), "signals": {"tf.tensors"}},
        {"held": "x", "path": path_to(), "signals": {"tf.tensors"}},
    ),
]


@pytest.mark.parametrize(
    ("slug", "shown", "unlike"), SHOWN, ids=[slug for slug, _, _ in SHOWN]
)
def test_a_cause_depends_on_evidence_and_not_on_a_name(
    slug: str, shown: dict[str, object], unlike: dict[str, object]
) -> None:
    assert slug_for(shown) == slug
    assert slug_for(unlike) != slug


@pytest.mark.parametrize(
    ("signal", "held", "arrays"),
    [
        ("tf.tensors", TENSOR, (SMALL,)),
        ("tf.tensors", TENSOR, (FIGURE,)),
        ("host.heap", "numpy.ndarray", (replace(SMALL, type="ndarray"),)),
        ("python.blocks", "app.Report", ()),
    ],
)
def test_objects_held_only_by_c_are_in_no_container(
    signal: str, held: str, arrays: tuple[Array, ...]
) -> None:
    evidence: dict[str, object] = {
        "signals": {signal},
        "held": held,
        "arrays": arrays,
        "path": NOBODY,
    }
    assert slug_for(evidence) == "kept-by-native-code"


def test_objects_kept_by_native_code_belong_to_what_python_keeps() -> None:
    unseen = without_holder(object(), is_searched=True)
    native = group_of(TENSOR, "app.X", signals=("tf.tensors",))
    native = replace(native, path=unseen)
    tensors = Explained(make_finding("tf.tensors"), native)
    assert {f.cause for f in advise([tensors])} == {"kept-by-native-code"}
    sessions = Explained(
        make_finding("tf.sessions"), group_of(SESSION, "app.S", ("tf.sessions",))
    )
    assert {f.cause for f in advise([tensors, sessions])} == {"session-never-closed"}


def test_what_fit_registers_is_not_the_leading_cause() -> None:
    signals = ("tf.custom_gradients", "keras.layers", "tf.functions", "tf.tensors")
    told = [Explained(make_finding(signal)) for signal in signals]
    assert {f.cause for f in advise(told)} == {"model-kept"}


def test_native_threads_are_not_the_user_s_to_join() -> None:
    compute = RunningThread(name="tf_Compute", is_native=True)
    threads = {"signals": {THREADS}, "threads": (compute,)}
    assert slug_for({**threads, "failing": {"tf.iterators"}}) is None
    loader = thread("native thread loader")
    assert slug_for({**loader, "failing": {"tf.traces"}}) == "thread-never-joined"


def test_threads_that_only_their_objects_name_are_those_of_a_pool() -> None:
    """After one call, threads are not compared by name before and after."""
    worker = RunningThread(name="ThreadPoolExecutor-0_0", target="x._worker")
    group = group_of(THREAD, "app.X", signals=(THREADS,))
    part = replace(group.whole, threads=(worker,))
    (advised,) = advise([Explained(make_finding(THREADS), group, part=part)])
    assert advised.cause == "executor-not-shut-down"
    (advised,) = advise([Explained(make_finding(THREADS), group, part=group.whole)])
    assert advised.cause == "thread-never-joined"


def test_findings_of_one_group_have_one_cause_and_one_advice() -> None:
    group = group_of(SESSION, "app.SESSIONS", signals=("tf.sessions", "tf.graphs"))
    told = [
        Explained(
            make_finding("host.heap", unit="B", path=path_to(at="app.SESSIONS")), group
        ),
        Explained(make_finding("tf.sessions", path=path_to(at="app.SESSIONS")), group),
        Explained(make_finding("tf.graphs"), group),
    ]
    advised = advise(told)
    assert {f.cause for f in advised} == {"session-never-closed"}
    assert len({f.advice for f in advised}) == 1


def test_the_holder_is_named_in_the_advice() -> None:
    group = group_of(TENSOR, "app.SEEN", signals=("tf.tensors",))
    kept = make_finding("tf.tensors", path=path_to(TENSOR))
    (advised,) = advise([Explained(kept, group)])
    cause = cause_named("tensor-kept")
    assert advised.cause == "tensor-kept" and cause is not None
    assert "{holder}" not in str(advised.advice)


def test_what_an_experiment_showed_stays_in_the_advice() -> None:
    group = group_of(TENSOR, "app.SEEN", signals=("tf.tensors",))
    advice = "keras.utils.clear_session() releases it"
    kept = make_finding("tf.tensors", advice=advice, path=path_to(TENSOR))
    (advised,) = advise([Explained(kept, group)])
    assert advised.advice is not None and advised.advice.endswith(
        " As tried, keras.utils.clear_session() releases it."
    )


def test_known_growth_keeps_its_name_and_remedy() -> None:
    known = make_finding(
        "host.heap", unit="B", known="lookup-tables", advice="make it once"
    )
    (advised,) = advise([Explained(known)])
    assert (advised.cause, advised.advice) == ("lookup-tables", "make it once")


def test_known_growth_without_advice_gets_that_of_its_row() -> None:
    row = cause_named("xla-executables")
    (advised,) = advise(
        [Explained(make_finding("host.heap", unit="B", known="xla-executables"))]
    )
    assert row is not None and advised.advice == row.remedy


def test_memory_without_objects_of_its_own_has_the_leading_cause() -> None:
    group = group_of(SESSION, "app.SESSIONS", signals=("tf.sessions",))
    told = [
        Explained(make_finding("python.blocks", unit="blocks")),
        Explained(make_finding("tf.sessions"), group),
        Explained(make_finding("tf.variables")),
    ]
    assert {f.cause for f in advise(told)} == {"session-never-closed"}


def test_names_in_a_remedy_come_from_the_finding_that_leads(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("net.head = Dense(4)\n")
    line = Origin(file=str(tmp_path / "app.py"), line=1, function="f", text="")
    layer = "keras.src.layers.layer.Layer"
    layers = path_to(layer, at="app.NET._layers", owner=layer)
    handle = replace(layers, steps=(*layers.steps, new("x.EagerTensor")))
    group = make_group(layers, {"": make_part(layers, "keras.src.Dense", "1 Dense")})
    told = [
        Explained(make_finding("tf.tensors", path=handle, stored=line), group),
        Explained(make_finding("keras.layers", path=layers, stored=line), group),
    ]
    for advised in advise(told):
        assert "`net.head.set_weights(start)`" in (advised.advice or "")


def test_what_a_thread_keeps_has_the_remedy_of_the_thread() -> None:
    waits = Origin(file="/app/app.py", line=3, function="work", text="q.get()")
    thread = RunningThread(name="Thread-1 (work)", target="app.work", at=waits)
    seen = Observed(what="1 Thread", threads=(thread,))
    kept = in_frame("b", "work", thread="Thread-1 (work)")
    group = make_group(kept, {"": make_part(kept, TENSOR, "1 EagerTensor")})
    told = [
        Explained(make_finding("tf.tensors", path=kept), group),
        Explained(make_finding(THREADS), None, seen),
    ]
    for advised in advise(told):
        assert advised.cause == "thread-never-joined"
        assert "It waits in `q.get()`" in (advised.advice or "")


def test_only_a_complete_search_leaves_native_memory() -> None:
    told = [Explained(make_finding("host.heap", unit="B"))]
    assert [f.cause for f in advise(told)] == [None]
    assert [f.cause for f in advise(told, is_searched=True)] == ["native-memory"]


@pytest.mark.parametrize(
    ("blocks", "heap", "slug"),
    [(3.0, 1_000.0, "small-objects-pile-up"), (3.0, 20_000.0, "native-memory")],
)
def test_memory_that_small_objects_explain_is_not_native(
    blocks: float, heap: float, slug: str
) -> None:
    told = [
        Explained(make_finding("python.blocks", unit="blocks", per_iteration=blocks)),
        Explained(make_finding("host.heap", unit="B", per_iteration=heap)),
    ]
    advised = advise(told, is_searched=True)
    assert [f.cause for f in advised] == ["small-objects-pile-up", slug]


def test_what_a_function_keeps_beside_its_traces_is_a_retrace() -> None:
    path = "app.step._function_cache._dispatch_dict"
    group = group_of("tensorflow.python.framework.ops.Graph", path, ("tf.graphs",))
    group = replace(group, path=through(FUNCTION_CACHE, group.path))
    seen = Observed(what="step is retraced", retrace="context")
    traces = Explained(make_finding("tf.traces"), None, seen)
    graphs = Explained(make_finding("tf.graphs"), group)
    assert {f.cause for f in advise([graphs, traces])} == {"retrace-context"}
    # the concrete function has a _function_cache of its own
    group = replace(group, path=through("app.Trainer", group.path))
    causes = {f.cause for f in advise([replace(graphs, group=group), traces])}
    assert causes == {"graph-kept", "retrace-context"}


def test_each_leftover_has_its_own_cause() -> None:
    advised = advise(
        [Explained(make_finding("tf.tapes")), Explained(make_finding("tf.name_scope"))]
    )
    assert [f.cause for f in advised] == ["tape-never-left", "scope-never-left"]


def test_a_close_that_a_caller_further_up_did_not_reach(tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    file.write_text(SOURCE)
    made = Origin(file=str(file), line=9, function="leave", text="x = Session()")
    above = replace(made, line=2, function="work")
    session = make_finding("tf.sessions")
    for stack, slug in [((), "session-never-closed"), ((above,), SKIPPED)]:
        told = [Explained(replace(session, origin=made, stack=stack))]
        assert [f.cause for f in advise(told)] == [slug]


def test_the_thread_of_a_summary_writer_is_the_writer_s() -> None:
    held = "tensorflow.python.summary.writer.event_file_writer._EventLoggerThread"
    told: dict[str, object] = {"path": passing(THREAD), "held": held}
    assert slug_for({"signals": {THREADS}, **told}) == "summary-writer-not-closed"


SKIPPED = "session-close-skipped"
SOURCE = """\
def work():
    session = Session()
    log.close()
    session.run()
    session.close()

def leave():
    session = Session()
    log.close()

class Scope:
    def __enter__(self):
        self.session = Session()

    def __exit__(self, *_):
        self.session.close()

class Timed:
    def __exit__(self, *_):
        print(self)

    def work(self):
        self.session = Session()

class Careful:
    def __enter__(self):
        self.session = Session()

    def __exit__(self, *_):
        self.leave()

    def leave(self):
        self.leave
        self.session.close()
"""


@pytest.mark.parametrize(
    ("line", "hints"),
    [
        (2, {"closes"}),
        (5, set()),
        (8, set()),
        (13, {"exits"}),
        (23, set()),
        (27, {"exits"}),
    ],
)
def test_the_source_says_whether_a_close_is_there(
    tmp_path: Path, line: int, hints: set[str]
) -> None:
    file = tmp_path / "app.py"
    file.write_text(SOURCE)
    origin = Origin(file=str(file), line=line, function="f", text="")
    assert hints_of(origin) == hints


def test_source_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    assert hints_of(None) == frozenset()
    gone = Origin(file=str(tmp_path / "gone.py"), line=1, function="f", text="")
    assert hints_of(gone) == frozenset()
    (tmp_path / "bad.py").write_text("def (")
    bad = Origin(file=str(tmp_path / "bad.py"), line=1, function="f", text="")
    assert hints_of(bad) == frozenset()


@pytest.mark.parametrize("slug", ["tensor-kept", "object-kept", "values-pile-up"])
def test_a_limit_without_a_container_is_no_advice(slug: str) -> None:
    cause = cause_named(slug)
    assert cause is not None
    case = Case(finding=make_finding(path=NOBODY), evidence=Evidence())
    assert fill(cause.remedy, case) == ""
    case = Case(finding=make_finding(path=path_to()), evidence=Evidence())
    assert "raise `iterations`" in fill(cause.remedy, case)


def slug_for(evidence: dict[str, object]) -> str | None:
    fields: dict[str, Any] = {
        name: frozenset(value) if isinstance(value, set) else value
        for name, value in evidence.items()
    }
    signals = fields.get("signals", ())
    fields["is_memory"] = bool(signals) and all(is_size(s, "") for s in signals)
    cause = find_cause(Evidence(**fields))
    return cause.slug if cause is not None else None


def test_a_manager_that_is_entered_twice() -> None:
    line = Origin(file="app.py", line=3, function="Lease.__enter__", text="")
    kept = Explained(replace(make_finding("tf.sessions"), stack=(line,)))
    (advised,) = advise([kept], entered_twice={("app.py", "Lease.__enter__")})
    assert advised.cause == "manager-entered-twice"
    assert str(advised.advice).startswith("Make a new `Lease` for each")
    (advised,) = advise([kept], entered_twice={("app.py", "Other.__enter__")})
    assert advised.cause != "manager-entered-twice"


def test_a_remedy_has_the_names_of_an_async_manager(tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    file.write_text(ASYNC_SOURCE)
    stack, _ = origin_of([(str(file), 4)])
    enter, _ = origin_of([(str(file), 8)])
    half_filled, hidden = map(
        cause_named, ("exit-stack-half-filled", "exit-only-on-success")
    )
    assert half_filled is not None and hidden is not None
    case = Case(finding=replace(make_finding(), origin=stack), evidence=Evidence())
    assert (
        "`async with contextlib.AsyncExitStack() as stack: ...`, then "
        "`self.parts = stack.pop_all()`"
    ) in fill(half_filled.remedy, case)
    case = Case(finding=replace(make_finding(), origin=enter), evidence=Evidence())
    assert explain(hidden.explains, case).startswith("The __aexit__ cleans up only")


ASYNC_SOURCE = """
class Bundle:
    async def open(self):
        self.parts = contextlib.AsyncExitStack()

class Remote:
    async def __aenter__(self):
        self.session = Session()
"""


def through(kind: str, path: RetainingPath) -> RetainingPath:
    first = replace(path.steps[0], types=(kind,))
    return replace(path, steps=(first, *path.steps[1:]))


def group_of(kind: str, at: str, signals: tuple[str, ...]) -> Group:
    path = path_to(kind, at=at)
    part = make_part(path, kind, f"1 {kind} per iteration")
    return make_group(path, dict.fromkeys(("", *signals), part))
