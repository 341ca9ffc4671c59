"""The table of causes: well formed, in order, and documented."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_tfleak.diagnosis.advising import Told
from pytest_tfleak.diagnosis.advising import advise
from pytest_tfleak.diagnosis.advising import advise_leftovers
from pytest_tfleak.diagnosis.advising import cause_of_error
from pytest_tfleak.diagnosis.cause import Cause
from pytest_tfleak.diagnosis.causes import CAUSES
from pytest_tfleak.diagnosis.causes import cause_named
from pytest_tfleak.diagnosis.causes import find_cause
from pytest_tfleak.diagnosis.evidence import FUNCTION_CACHE
from pytest_tfleak.diagnosis.evidence import Evidence
from pytest_tfleak.diagnosis.group import Group
from pytest_tfleak.diagnosis.group import Part
from pytest_tfleak.diagnosis.holders import NOBODY
from pytest_tfleak.diagnosis.roots import THREADS
from pytest_tfleak.diagnosis.source import hints_of
from pytest_tfleak.diagnosis.survey import Observed
from pytest_tfleak.known import KNOWN
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin

DOCS = Path(__file__).parents[2] / "docs" / "causes.md"
TENSOR = "tensorflow.python.framework.ops.EagerTensor"
SESSION = "tensorflow.python.client.session.Session"
THREAD = "threading.Thread"
POOL = "concurrent.futures.thread.ThreadPoolExecutor"
CALLBACK = "keras.src.callbacks.callback.Callback"
KERAS_LAYER = "keras.src.layers.layer.Layer"
TRACKED = "old_keras.src.utils.tracking.TrackedList"
SYMBOLIC_NODE = "keras.src.ops.node.Node"
LOOP = "asyncio.events.AbstractEventLoop"
SEGMENT = "multiprocessing.shared_memory.SharedMemory"
QUEUE = "multiprocessing.queues.Queue"
HISTORY = "keras.src.callbacks.history.History"
INTRODUCTION = """\
What a finding's `cause` says. The causes are looked for in this order, and the first
one that the evidence fits is taken. `TFLEAK_REGENERATE_DOCS=1 pytest
tests/unit/test_causes.py` writes this page."""
each_cause = pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.slug)


@each_cause
def test_a_row_is_a_slug_two_sentences_and_a_remedy(cause: Cause) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", cause.slug)
    assert 1 <= len(re.findall(r"[.?](?= [A-Z]|$)", cause.explains)) <= 3
    assert re.match(r"[A-Z]|\w+\(", cause.explains) and cause.explains.endswith(".")
    assert cause.remedy[0].isupper() and cause.remedy.endswith(".")
    assert cause.remedy.count("`") % 2 == 0
    holes = set(re.findall(r"\{(\w+)\}", cause.explains + cause.remedy))
    assert holes <= {"holder"}


@each_cause
def test_a_row_asks_for_evidence(cause: Cause) -> None:
    assert not cause.rule(Evidence())


def test_slugs_are_unique_and_include_all_known_growth() -> None:
    slugs = [cause.slug for cause in CAUSES]
    assert len(set(slugs)) == len(slugs)
    assert {entry.name for entry in KNOWN} <= set(slugs)
    assert cause_named(slugs[-1]) is CAUSES[-1]
    assert cause_named("no-such-cause") is None


@pytest.mark.parametrize(
    ("slug", "evidence"),
    [
        ("loss-kept", {"what": "1 EagerTensor float32[] (4 B)", "held": TENSOR}),
        ("loss-kept", {"path": f"app.train.LOSSES > {TENSOR}", "held": TENSOR}),
        ("tensor-kept", {"path": f"app.cache.SEEN > {TENSOR}", "held": TENSOR}),
        ("exception-keeps-frame", {"clues": {"exception"}, "held": TENSOR}),
        ("lru-cache-keeps-arguments", {"holder": ("app.f (lru_cache of 9)",)}),
        ("thread-never-joined", {"clues": {THREAD}, "failing": {"process.threads"}}),
        ("default-argument-grows", {"path": "app.f > default of its argument x"}),
        ("graph-kept", {"held": "tensorflow.python.framework.ops.SymbolicTensor"}),
    ],
)
def test_what_holds_a_tensor_tells_more_than_the_tensor(
    slug: str, evidence: dict[str, object]
) -> None:
    assert slug_for({"signals": {"tf.tensors"}, **evidence}) == slug


@pytest.mark.parametrize(
    ("slug", "evidence"),
    [
        ("session-never-closed", {}),
        ("session-close-skipped", {"around": {"closes"}}),
        ("session-close-skipped", {"around": {"exits"}}),
        ("exception-keeps-frame", {"around": {"closes"}, "clues": {"exception"}}),
        ("interactive-session-left", {"what": "1 InteractiveSession per iteration"}),
    ],
)
def test_an_open_session_is_told_by_the_code_around_it(
    slug: str, evidence: dict[str, object]
) -> None:
    assert slug_for({"signals": {"tf.sessions", "tf.graphs"}, **evidence}) == slug


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
def test_a_retrace_is_told_by_its_sort(retrace: str, slug: str) -> None:
    assert slug_for({"signals": {"tf.traces"}, "retrace": retrace}) == slug


#: Each of a cause: what shows it, and what looks like it and is something else.
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
        {"line": "@tf.RegisterGradient(name)"},
        {"line": "GRADIENTS.append(RegisterGradients)"},
    ),
    (
        "lru-cache-keeps-arguments",
        {"clues": {"old_lru_cache"}, "holder": ("app.get (lru_cache of 12)", "Tensor")},
        {"clues": {"old_lru_cache"}, "holder": ("app.get", "Service.seen (list of 9)")},
    ),
    (
        "weak-dict-value-keeps-key",
        {"clues": {"old_weak_keys"}, "holder": ("app.SEEN.data (dict of 9)", "Of")},
        {"clues": {"old_weak_keys"}, "holder": ("app.SEEN.data", "[a key]", "Of")},
    ),
    (
        "weak-dict-value-keeps-key",
        {"clues": {"old_weak_keys"}, "holder": ("app.SEEN.data (dict of 9)", "Of")},
        {"clues": {"weak_keys"}, "holder": ("app.KEPT (list of 9)", "Of")},
    ),
    (
        "task-never-ended",
        {"clues": {"_asyncio.Task", "generator"}},
        {"clues": {"old__asyncio.Task", "generator"}},
    ),
    (
        "task-never-ended",
        {"held": "asyncio.events.TimerHandle", "members": {"_asyncio.Task": 1.0}},
        {"held": "app.Service", "members": {"_asyncio.Task": 1.0}},
    ),
    (
        "generator-suspended",
        {"clues": {"builtins.tuple", "generator"}},
        {"clues": {"builtins.tuple", "old_generator"}},
    ),
    (
        "generator-suspended",
        {"clues": {"builtins.async_generator"}},
        {"clues": {"old_builtins.async_generator"}},
    ),
    (
        "generator-suspended",
        {"clues": {"generator"}, "signals": {"tf.graphs"}},
        {"clues": {"generator"}, "signals": {"tf.graphs", "tf.graph_stack"}},
    ),
    (
        "exception-keeps-frame",
        {"clues": {"builtins.tuple", "exception"}},
        {"clues": {"builtins.tuple", "old_exception"}},
    ),
    (
        "log-record-keeps-arguments",
        {"clues": {"builtins.tuple", "log_record"}},
        {"clues": {"builtins.tuple", "old_logging.Handler"}},
    ),
    (
        "atexit-keeps-callback",
        {"clues": {"atexit"}, "held": "builtins.method"},
        {"clues": {"native"}, "held": "builtins.method"},
    ),
    (
        "atexit-keeps-callback",
        {"clues": {"native"}, "line": "atexit.register(client.close)"},
        {"clues": {"closure"}, "line": "atexit.register(client.close)"},
    ),
    (
        "registered-in-loop",
        {"path": "a registry of TensorFlow > builtins.dict"},
        {"path": "app.CONVERTER.conversion_registry > builtins.dict"},
    ),
    (
        "code-compiled-in-loop",
        {"path": "sys.modules > builtins.module", "held": "builtins.module"},
        {"path": "sys.modules > app.Lazy", "held": "app.Lazy"},
    ),
    (
        "code-compiled-in-loop",
        {"clues": {"atexit"}, "what": "1 function <lambda> at loader.py:57"},
        {
            "clues": {"atexit"},
            "what": "1 function <lambda> at loader.py:57",
            "line": "atexit.register(lambda: stop(x))",
        },
    ),
    (
        "code-compiled-in-loop",
        {"path": "__autograph_generated_file# > builtins.function"},
        {"path": "app.TOOL.autograph > builtins.function"},
    ),
    (
        "code-compiled-in-loop",
        {"path": "__autograph_generated_file# > builtins.function"},
        {"members": {"_frozen_importlib.ModuleSpec": 1.0}, "path": "app.PLUGINS > x"},
    ),
    (
        "history-kept",
        {"clues": {"builtins.dict", HISTORY}, "signals": {"keras.layers"}},
        {"members": {"builtins.dict": 1.0, HISTORY: 1.0}, "signals": {"keras.layers"}},
    ),
    (
        "losses-pile-up",
        {"clues": {f"old_{KERAS_LAYER}"}, "path": "app.DENSE._losses > x.Tensor"},
        {"clues": {"old_app.Trainer"}, "path": "app.TRAINER._losses > x.Tensor"},
    ),
    (
        "layer-replaced",
        {"clues": {f"old_{KERAS_LAYER}"}, "path": "app.NET._layers > x.Dense"},
        {"clues": {"old_app.Trainer"}, "path": "app.TRAINER._layers > x.Dense"},
    ),
    (
        "layer-replaced",
        {"clues": {f"old_{KERAS_LAYER}"}, "path": "app.NET._trainable_variables > V"},
        {"clues": {f"old_{KERAS_LAYER}", TRACKED}, "path": "app.NET.seen > x.Tensor"},
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
        "py-function-tape",
        {"path": "tensorflow.python.ops.script_ops.tape_cache > builtins.tuple"},
        {"path": "app.TRAINER.tape_cache > builtins.tuple"},
    ),
    (
        "session-used-after-close",
        {"error": "RuntimeError: Attempted to use a closed Session."},
        {"error": "ValueError: the closed Session is listed"},
    ),
    (
        "interactive-session-left",
        {"signals": {"tf.sessions"}, "what": "1 InteractiveSession per iteration"},
        {"signals": {"tf.sessions"}, "what": "1 MyInteractiveSession per iteration"},
    ),
    (
        "concrete-function-kept",
        {"signals": {"tf.functions"}, "retrace": "shape", "held": "x.ConcreteFunction"},
        {
            "signals": {"tf.functions"},
            "retrace": "shape",
            "held": "x.ConcreteFunction",
            "clues": {FUNCTION_CACHE},
        },
    ),
    (
        "saved-model-kept",
        {"members": {"tensorflow.python.saved_model.load.Loader": 1.0}},
        {"members": {"app.saved_model.Loader": 1.0}},
    ),
    (
        "executor-not-shut-down",
        {"clues": {POOL}},
        {"clues": {f"old_{POOL}"}},
    ),
    (
        "thread-never-joined",
        {"clues": {THREAD}, "failing": {"process.threads"}},
        {"clues": {f"old_{THREAD}", "thread"}, "failing": {"process.threads"}},
    ),
    (
        "thread-never-joined",
        {"path": f"{THREADS} > app.Worker", "clues": {"thread", THREAD}},
        {"path": "app.ENDED > app.Worker", "clues": {"thread", THREAD}},
    ),
    (
        "thread-never-joined",
        {
            "path": "local variable x of f() in thread 't'",
            "failing": {"process.threads"},
        },
        {"path": "local variable x of f() in thread 't'", "failing": {"tf.tensors"}},
    ),
    (
        "summary-writer-not-closed",
        {"members": {"tensorflow.python.ops.summary_ops_v2._ResourceSummaryWriter": 1}},
        {"members": {"app.MySummaryWriter": 1.0}},
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
        "loss-kept",
        {"held": TENSOR, "path": f"app.TRAINER.valLoss > {TENSOR}"},
        {"held": TENSOR, "path": f"app.GLOSSARY > {TENSOR}"},
    ),
    (
        "loss-kept",
        {"held": TENSOR, "path": f"app.KEPT > {TENSOR}", "line": "loss = f(x)"},
        {"held": TENSOR, "path": f"app.KEPT > {TENSOR}", "line": "add(tf.tanh(score))"},
    ),
    (
        "loss-kept",
        {"held": TENSOR, "path": f"local variable losses of fit() > {TENSOR}"},
        {"held": TENSOR, "path": f"local variable seen of loss() > {TENSOR}"},
    ),
    (
        "loss-kept",
        {
            "held": "builtins.dict",
            "signals": {"tf.tensors"},
            "what": "1 EagerTensor float32[] (4 B) per iteration",
        },
        {
            "held": "app.Model",
            "signals": {"tf.tensors"},
            "what": "1 EagerTensor float32[] (4 B) per iteration",
        },
    ),
    (
        "closure-keeps-variables",
        {"held": "builtins.function", "clues": {"closure"}},
        {"held": "app.Service", "clues": {"closure"}},
    ),
    (
        "class-attribute-grows",
        {"held": "app.Step", "clues": {"old_class", "old_builtins.list"}},
        {"held": "app.Step", "clues": {"old_class", "old_app.Registry"}},
    ),
    (
        "loss-kept",
        {"held": TENSOR, "line": "loss = f(x)", "what": "1 EagerTensor float32[8]"},
        {"held": TENSOR, "line": "loss = f(x)", "what": "1 EagerTensor float32[40,40]"},
    ),
    (
        "loss-kept",
        {"held": TENSOR, "line": "loss = f(x)", "holder": ("app.K", "float32[]")},
        {"held": TENSOR, "line": "loss = f(x)", "holder": ("app.K", "float32[64]")},
    ),
    (
        "exception-keeps-arguments",
        {"clues": {"exception_args", "exception"}, "held": "app.BadBatch"},
        {"clues": {"exception"}, "held": "app.BadBatch"},
    ),
    (
        "layer-added-to-shared-model",
        {
            "clues": {f"old_{KERAS_LAYER}"},
            "path": f"app.NET._layers[#]._outbound_nodes > {SYMBOLIC_NODE}",
            "signals": {"keras.layers"},
        },
        {
            "clues": {"old_app.Net", KERAS_LAYER},
            "path": f"app.NET._outbound_nodes > {SYMBOLIC_NODE}",
            "signals": {"keras.layers"},
        },
    ),
    (
        "callback-kept",
        {"clues": {CALLBACK}, "signals": {"host.heap", "process.fds"}},
        {"clues": {CALLBACK}, "signals": {"process.fds"}},
    ),
    (
        "tape-kept",
        {"members": {"tensorflow.python.eager.forwardprop.ForwardAccumulator": 1.0}},
        {"members": {"app.ForwardAccumulator": 1.0}},
    ),
    (
        "kept-by-native-code",
        {"clues": {"native"}, "held": TENSOR, "holder": (NOBODY,)},
        {"clues": {"native"}, "held": TENSOR, "holder": ("app.K", "its C++ part")},
    ),
    (
        "finalizer-keeps-arguments",
        {"path": "weakref.finalize._registry > weakref.finalize._Info"},
        {"path": "app.FINALIZERS._registry > weakref.finalize._Info"},
    ),
    (
        "iterator-falls-behind",
        {"clues": {"old_itertools._tee", "old_itertools._tee_dataobject"}},
        {"clues": {"itertools._tee", "itertools._tee_dataobject"}},
    ),
    (
        "mock-keeps-calls",
        {"clues": {"old_unittest.mock._CallList", "unittest.mock._Call"}},
        {"clues": {"unittest.mock.Mock", "unittest.mock._Call"}},
    ),
    (
        "pickler-keeps-objects",
        {"clues": {"old__pickle.Pickler"}, "held": "pickle.PickleBuffer"},
        {"clues": {"_pickle.Pickler"}, "held": "_pickle.Pickler"},
    ),
    (
        "queue-not-closed",
        {"clues": {QUEUE}, "signals": {"process.fds"}},
        {"clues": {QUEUE}, "signals": {"process.fds", "process.children"}},
    ),
    (
        "queue-not-closed",
        {"what": "1 QueueFeederThread running x", "signals": {"process.threads"}},
        {"what": "1 Thread-* running x.feed", "signals": {"process.threads"}},
    ),
    (
        "timer-not-cancelled",
        {"clues": {"threading.Timer", THREAD}, "failing": {"process.threads"}},
        {"clues": {"threading.Timer", THREAD}, "failing": {"python.blocks"}},
    ),
    (
        "event-loop-not-closed",
        {"clues": {LOOP}, "failing": {"process.fds"}},
        {"clues": {f"old_{LOOP}"}, "failing": {"process.fds"}},
    ),
    (
        "shared-memory-left",
        {"clues": {SEGMENT}, "signals": {"process.fds"}},
        {"what": "1 per iteration: /dev/shm/a.log", "signals": {"process.fds"}},
    ),
    (
        "shared-memory-left",
        {"what": "1 per iteration: /dev/shm/psm_*", "signals": {"process.fds"}},
        {"clues": {f"old_{SEGMENT}"}, "signals": {"process.fds"}},
    ),
    (
        "future-kept",
        {"clues": {"concurrent.futures._base.Future"}},
        {"clues": {"concurrent.futures._base.Future", POOL}},
    ),
    (
        "context-token-kept",
        {"clues": {"_contextvars.Token"}, "signals": {"tf.tensors"}},
        {"clues": {"app.Token"}, "signals": {"tf.tensors"}},
    ),
    (
        "value-grows",
        {"clues": {"longer_value"}, "held": "numpy.ndarray"},
        {"clues": {"old_longer_value"}, "held": "numpy.ndarray"},
    ),
    (
        "chain-grows",
        {"held": "app.State", "clues": {"chain"}, "signals": {"tf.tensors"}},
        {"held": "builtins.dict", "clues": {"chain"}, "signals": {"tf.tensors"}},
    ),
    (
        "chain-grows",
        {"held": "builtins.function", "clues": {"chain", "native"}},
        {"held": TENSOR, "clues": {"chain", "native"}},
    ),
    (
        "class-made-in-loop",
        {"held": "builtins.type", "clues": {"class"}, "signals": {"tf.tensors"}},
        {"held": "app.Item", "clues": {"old_class"}, "signals": {"tf.tensors"}},
    ),
    (
        "callback-registered-in-loop",
        {"held": "builtins.method", "holder": ("app.BUS._seen (list of 9)", "method")},
        {"held": "builtins.method", "holder": ("app.BUS.last", "method")},
    ),
    (
        "callback-registered-in-loop",
        {
            "held": "builtins.function",
            "holder": ("app.BUS.on_end (list of 9)", "function"),
            "clues": {"closure"},
        },
        {
            "held": "builtins.function",
            "holder": ("app.SEEN (list of 9)", "function"),
            "clues": {"closure"},
        },
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
        {"held": "x.Info", "clues": {"library", "old_class"}},
        {"held": "x.Info", "clues": {"old_class"}},
    ),
    (
        "kept-by-library",
        {"held": "x.Info", "clues": {"library"}, "signals": {"tf.tensors"}},
        {"held": "x.Info", "clues": set(), "signals": {"tf.tensors"}},
    ),
]


@pytest.mark.parametrize(
    ("slug", "shown", "unlike"), SHOWN, ids=[slug for slug, _, _ in SHOWN]
)
def test_a_cause_is_told_by_what_shows_it_and_not_by_a_name(
    slug: str, shown: dict[str, object], unlike: dict[str, object]
) -> None:
    assert slug_for(shown) == slug
    assert slug_for(unlike) != slug


@pytest.mark.parametrize(
    ("signal", "held", "what"),
    [
        ("tf.tensors", TENSOR, "1 EagerTensor float32[64]"),
        ("tf.tensors", TENSOR, "1 EagerTensor float32[]"),
        ("host.heap", "numpy.ndarray", "1 ndarray float64[64]"),
        ("python.blocks", "app.Report", "1 Report"),
    ],
)
def test_what_nobody_in_python_holds_was_put_into_no_container(
    signal: str, held: str, what: str
) -> None:
    evidence: dict[str, object] = {
        "signals": {signal},
        "held": held,
        "what": what,
        "clues": {"native"},
    }
    assert slug_for(evidence) == "kept-by-native-code"


def test_what_native_code_keeps_belongs_to_what_else_is_kept() -> None:
    native = group_of(TENSOR, "C or C++ code", signals=("tf.tensors",))
    native.clues = frozenset({"native"})
    tensors = Told(finding("tf.tensors"), native)
    assert {f.cause for f in advise([tensors])} == {"kept-by-native-code"}
    sessions = Told(
        finding("tf.sessions"), group_of(SESSION, "app.S", ("tf.sessions",))
    )
    assert {f.cause for f in advise([tensors, sessions])} == {"session-never-closed"}


def test_what_a_fit_registers_does_not_lead() -> None:
    signals = ("tf.custom_gradients", "keras.layers", "tf.functions", "tf.tensors")
    told = [Told(finding(signal)) for signal in signals]
    assert {f.cause for f in advise(told)} == {"model-kept"}


def test_native_threads_are_not_the_user_s_to_join() -> None:
    threads = {"signals": {"process.threads"}, "what": "4 native thread tf_Compute"}
    assert slug_for({**threads, "failing": {"tf.iterators"}}) is None
    loader: dict[str, object] = {
        **threads,
        "what": "1 Thread 'native-loader'",
        "failing": {"tf.traces"},
    }
    assert slug_for(loader) == "thread-never-joined"


def test_the_error_of_a_closed_session_has_a_cause() -> None:
    cause = cause_of_error(RuntimeError("Attempted to use a closed Session."))
    assert cause is not None and cause.slug == "session-used-after-close"
    assert cause_of_error(ValueError("no such value")) is None


def test_findings_of_one_group_have_one_cause_and_one_advice() -> None:
    group = group_of(SESSION, "app.SESSIONS", signals=("tf.sessions", "tf.graphs"))
    told = [
        Told(
            finding("host.heap", unit="B", holder=("app.SESSIONS (list of 9)",)), group
        ),
        Told(finding("tf.sessions", holder=("app.SESSIONS (list of 9)",)), group),
        Told(finding("tf.graphs"), group),
    ]
    advised = advise(told)
    assert {f.cause for f in advised} == {"session-never-closed"}
    assert len({f.advice for f in advised}) == 1


def test_the_holder_is_named_in_the_advice() -> None:
    group = group_of(TENSOR, "app.SEEN", signals=("tf.tensors",))
    kept = finding("tf.tensors", holder=("app.SEEN (list of 9)", "EagerTensor"))
    (advised,) = advise([Told(kept, group)])
    cause = cause_named("tensor-kept")
    assert advised.cause == "tensor-kept" and cause is not None
    assert "{holder}" not in str(advised.advice)


def test_what_an_experiment_showed_stays_in_the_advice() -> None:
    group = group_of(TENSOR, "app.SEEN", signals=("tf.tensors",))
    kept = finding("tf.tensors", advice="keras.utils.clear_session() releases it")
    (advised,) = advise([Told(kept, group)])
    assert advised.advice is not None and advised.advice.endswith(
        " As tried, keras.utils.clear_session() releases it."
    )


def test_known_growth_keeps_its_name_and_remedy() -> None:
    known = finding("host.heap", unit="B", known="lookup-tables", advice="make it once")
    (advised,) = advise([Told(known)])
    assert (advised.cause, advised.advice) == ("lookup-tables", "make it once")


def test_known_growth_without_advice_gets_that_of_its_row() -> None:
    row = cause_named("xla-executables")
    (advised,) = advise([Told(finding("host.heap", unit="B", known="xla-executables"))])
    assert row is not None and advised.advice == row.remedy


def test_memory_without_objects_of_its_own_follows_the_lead() -> None:
    group = group_of(SESSION, "app.SESSIONS", signals=("tf.sessions",))
    told = [
        Told(finding("python.blocks", unit="blocks")),
        Told(finding("tf.sessions"), group),
        Told(finding("tf.variables")),
    ]
    assert {f.cause for f in advise(told)} == {"session-never-closed"}


def test_native_memory_is_what_a_search_to_the_end_left() -> None:
    told = [Told(finding("host.heap", unit="B"))]
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
        Told(finding("python.blocks", unit="blocks", per_iteration=blocks)),
        Told(finding("host.heap", unit="B", per_iteration=heap)),
    ]
    advised = advise(told, is_searched=True)
    assert [f.cause for f in advised] == ["small-objects-pile-up", slug]


def test_what_a_function_keeps_beside_its_traces_is_a_retrace() -> None:
    path = "app.step._function_cache._dispatch_dict"
    group = group_of("tensorflow.python.framework.ops.Graph", path, ("tf.graphs",))
    group.clues = frozenset({FUNCTION_CACHE})
    seen = Observed(what="step is traced anew", retrace="context")
    told = [Told(finding("tf.graphs"), group), Told(finding("tf.traces"), None, seen)]
    assert {f.cause for f in advise(told)} == {"retrace-context"}
    group.clues = frozenset({"old_app.Trainer"})  # it has a _function_cache of its own
    assert {f.cause for f in advise(told)} == {"graph-kept", "retrace-context"}


def test_leftovers_have_each_their_own_cause() -> None:
    advised = advise_leftovers([finding("tf.tapes"), finding("tf.name_scope")])
    assert [f.cause for f in advised] == ["tape-never-left", "scope-never-left"]


def test_a_close_that_a_caller_further_up_did_not_reach(tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    file.write_text(SOURCE)
    made = Origin(file=str(file), line=9, function="leave", text="x = Session()")
    above = replace(made, line=2, function="work")
    session = finding("tf.sessions")
    for stack, slug in [((), "session-never-closed"), ((above,), SKIPPED)]:
        told = [Told(replace(session, origin=made, stack=stack))]
        assert [f.cause for f in advise(told)] == [slug]


def test_the_thread_of_a_summary_writer_is_the_writer_s() -> None:
    held = "tensorflow.python.summary.writer.event_file_writer._EventLoggerThread"
    told: dict[str, object] = {"clues": {THREAD}, "held": held}
    assert (
        slug_for({"signals": {"process.threads"}, **told})
        == "summary-writer-not-closed"
    )


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


def test_the_page_of_causes_is_the_table() -> None:
    wanted = page()
    if os.environ.get("TFLEAK_REGENERATE_DOCS"):
        DOCS.write_text(wanted)
    assert DOCS.read_text() == wanted


def page() -> str:
    """Return docs/causes.md."""
    lines = [
        "# Causes",
        "",
        INTRODUCTION,
        "",
        "| cause | what happens | what to do |",
        "|---|---|---|",
    ]
    for cause in CAUSES:
        texts = [
            text.replace("|", "\\|").replace("{holder}", "the holder")
            for text in (cause.explains, cause.remedy)
        ]
        lines.append(f"| `{cause.slug}` | {texts[0]} | {texts[1]} |")
    return "\n".join(lines) + "\n"


def slug_for(evidence: dict[str, object]) -> str | None:
    fields = {
        name: frozenset(value) if isinstance(value, set) else value
        for name, value in evidence.items()
    }
    cause = find_cause(Evidence(**fields))  # type: ignore[arg-type]
    return cause.slug if cause is not None else None


def finding(
    signal: str,
    *,
    unit: str = "objects of it",
    per_iteration: float = 1.0,
    holder: tuple[str, ...] | None = None,
    known: str | None = None,
    advice: str | None = None,
) -> Finding:
    return Finding(
        signal=signal,
        unit=unit,
        per_iteration=per_iteration,
        total=49,
        allowance=0,
        first=1,
        last=50,
        allow="",
        holder=holder,
        known=known,
        advice=advice,
    )


def group_of(kind: str, path: str, signals: tuple[str, ...]) -> Group:
    part = Part(
        kind=kind,
        what=f"1 {kind} per iteration",
        per_iteration=1.0,
        edges=(path, kind),
        origin=None,
        stack=(),
    )
    return Group(
        erased=f"{path} > {kind}",
        clues=frozenset(),
        objects=1.0,
        bytes=100.0,
        members={kind: 1.0},
        parts={"": part, **dict.fromkeys(signals, part)},
    )
