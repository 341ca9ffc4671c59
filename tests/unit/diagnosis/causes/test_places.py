"""The texts of causes: filled from the case, and silent where it shows too little."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pytest_tfleak.diagnosis.causes.case import Case
from pytest_tfleak.diagnosis.causes.cause import Evidence
from pytest_tfleak.diagnosis.causes.places import explain
from pytest_tfleak.diagnosis.causes.places import fill
from pytest_tfleak.diagnosis.what.descriptors import RunningThread
from pytest_tfleak.retaining_path import ATTRIBUTE
from pytest_tfleak.retaining_path import ENTRY
from pytest_tfleak.retaining_path import EXCEPTION
from pytest_tfleak.retaining_path import INDEX
from pytest_tfleak.retaining_path import UNKNOWN
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import Root
from pytest_tfleak.retaining_path import Step
from pytest_tfleak.verdict import Origin
from tests.builders import NOBODY
from tests.builders import make_finding
from tests.builders import new
from tests.builders import passing
from tests.builders import path_to

FILE = ("_io.TextIOWrapper", "_io._TextIOBase", "_io._IOBase")
SOURCE = """\
SEEN = []
handler = logging.FileHandler(path)
LOG.addHandler(handler)
SEEN.append(Feed())
SEEN[key] = feed
self.sock = socket.create_connection(address)
fd = os.open(path, os.O_RDONLY)
fig, ax = plt.subplots()
self.pool = ThreadPoolExecutor(2)
return self.pool.submit(f, x).result()
self.thread = threading.Thread(target=work)
SEEN.append(self)
pipe = os.pipe()
self.service.SEEN.add(con)
self.total += text
SEEN += [open(path)]
files = [open(path) for path in paths]
SEEN.extend(handles)
OPEN.update(batch)
CALLBACKS.extend(hooks)
fds += [os.open(path, 0)]
threads = [Thread(target=work) for _ in range(2)]
n = BUF.write(data)
lines = reader(open(path))
text = open(path).read()
SEEN.append(open(path))
file = open(os.path.join(folder, str(name)))
history = np.append(history, x)
STORE["x"] = tf.concat([STORE["x"], y], 0)
SEEN[2:] = tail
fig = plt.figure(figsize=(3, 4))
ax = df.plot()
axes = plt.subplot()
curves = plt.plot(x)
future = ThreadPoolExecutor(1).submit(work)
results = list(ThreadPoolExecutor(4).map(f, xs))
processes = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
made = ProcessPoolExecutor(1).submit(f)
ds = ds.map(f)
executor = futures.ThreadPoolExecutor(4)
tasks = executor.submit(f)
worker = threading.Thread(target=f)
worker.start()
server = make_server()
server.start()
SEEN.append(error)
check(batch)
np.save(BUF, x)
BUS.on_end.append(self.finish)
loss = x * y
runner = threading.Thread(target=f, args=[g(x)])
study.trials.append(x)
bus.study.trials["x"] = y
kept.append(trial)
keep(trial)
KEEPER.add(trial)
heapq.heappush(SEEN, trial)
SEEN.insert(0, trial)
BY_NUMBER[len(BY_NUMBER)] = trial
mean(SLICED[-3:])
SLICED.append(trial)
WAITING.append(trial)
WAITING += [trial]
JOBS["a"].items.append(trial)
JOBS[next(names)].items.append(trial)
QUEUE.put((n, trial))
await TASKS.put(trial)
"""
NAMED_FD = "Give it a name, such as `fd`, and close it in a `finally`: `os.close(fd)`."
SHUT_DOWN = "Shut it down in a `finally`, when you are done with it: "
WITH = "Use it in a with statement, which ends it"
WITH_POOL = f"{WITH}: `with ThreadPoolExecutor() as ...`."
PROCESSES = "ProcessPoolExecutor"
THREADS = "process.threads"
MANAGER = "concurrent.futures.process._ExecutorManagerThread"
LINES = {text: number for number, text in enumerate(SOURCE.splitlines(), start=1)}


@pytest.fixture
def at(tmp_path: Path) -> Any:
    """Return a function that returns the line of a file with this text."""
    file = tmp_path / "app.py"
    file.write_text(SOURCE.replace("return ", "x = "))

    def line(text: str) -> Origin:
        [found] = [n for line, n in LINES.items() if line.startswith(text)]
        return Origin(file=str(file), line=found, function="f", text=text)

    return line


def case(path: RetainingPath | None = None, **known: Any) -> Case:
    """Return a case with what is known of it."""
    lines = {name: known.pop(name, None) for name in ("origin", "stored")}
    finding = make_finding("process.fds", path=path, **lines)
    return Case(finding=finding, evidence=Evidence(**known))


def test_a_clause_without_evidence_is_left_out() -> None:
    text = "Close it: {close}; or open it once; and in a `with a; b`."
    assert fill(text, case()) == "Open it once; and in a `with a; b`."
    assert fill("{close}; {descriptor}.", case()) == ""
    assert fill("", case()) == ""


def test_what_happens_is_said_even_if_the_holder_is_unknown() -> None:
    text = "It is put into {holder}: `{}`."
    assert explain(text, case(NOBODY)) == "It is put into what keeps it: `{}`."
    assert explain(text, case(path_to())) == "It is put into app.SEEN: `{}`."
    assert fill("remove it from {holder}", case(NOBODY)) == ""


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("study.trials", "study.trials"),
        ("bus.study", "bus.study.trials"),
        ("kept.append", "kept"),
        ("SEEN.append(error)", "SEEN"),
    ],
)
def test_a_container_is_called_what_the_line_that_fills_it_calls_it(
    at: Any, text: str, code: str
) -> None:
    path = path_to(at="app.STUDY.trials", owner="app.Study")
    assert fill("{limit}", case(path, stored=at(text))).startswith(
        f"`del {code}[:-10]` after each append"
    )


def test_one_of_several_containers_has_the_name_that_the_line_has(at: Any) -> None:
    rows = [Step(kind=ATTRIBUTE, name="SEEN"), Step(kind=INDEX, name="0")]
    rows[1] = replace(rows[1], container="list", size=9)
    path = RetainingPath(
        root=Root(kind="module", name="app"),
        steps=(*rows, Step(kind=ENTRY, types=("app.Thing",), is_new=True)),
    )
    found = fill("{limit}", case(path, stored=at("kept.append")))
    assert found.startswith("`del kept[:-10]` after each append")


@pytest.mark.parametrize("text", ["keep(", "KEEPER.add"])
def test_an_attribute_of_another_class_has_no_name_in_the_line(
    at: Any, text: str
) -> None:
    path = path_to(at="app.STUDY.trials", owner="app.Study")
    words = "Remove the old ones from it, or empty it."
    assert fill("{limit}", case(path, stored=at(text))) == words


@pytest.mark.parametrize(
    ("text", "code"),
    [('JOBS["a"]', "`del JOBS['a'].items[:-10]`"), ("JOBS[next", "Remove the old")],
)
def test_a_container_within_an_item_has_the_name_that_the_line_has(
    at: Any, text: str, code: str
) -> None:
    path = path_to(at="app.JOB.items", owner="app.Job")
    assert fill("{limit}", case(path, stored=at(text))).startswith(code)


@pytest.mark.parametrize(
    ("owner", "container", "text", "words"),
    [
        ("queue.Queue", "deque", "QUEUE.put", "`QUEUE.get()` for each that is put in."),
        ("queue.Queue", "list", "keep(", "Take out of the queue what is put in."),
        (
            "asyncio.queues.Queue",
            "deque",
            "await TASKS",
            "`await TASKS.get()` for each",
        ),
    ],
)
def test_a_queue_is_emptied_by_its_own_method(
    at: Any, owner: str, container: str, text: str, words: str
) -> None:
    path = path_to(at="app.JOBS.queue", owner=owner, container=container)
    assert fill("{limit}", case(path, stored=at(text))).startswith(words)


IN_CLASSES = """\
class Study:
    def __init__(self):
        self.trials = []
        self.append = self.trials.append
        self.keep = self.trials.append

    def run(self, x):
        self.keep(x)

class Worker:
    def run(self, study, x):
        study.append(x)
"""


@pytest.mark.parametrize(
    ("line", "module", "code"),
    [(8, "elsewhere", "self.trials"), (12, "app", "STUDY.trials"), (12, "other", "")],
)
def test_self_is_only_said_in_the_class_that_has_the_attribute(
    line: int, module: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "app.py"
    file.write_text(IN_CLASSES)
    app = ModuleType(module)
    app.__file__ = str(file)
    monkeypatch.setitem(sys.modules, module, app)
    path = path_to(at="app.STUDY.trials", owner="app.Study")
    stored = Origin(file=str(file), line=line, function="run", text="")
    found = fill("{limit}", case(path, stored=stored))
    assert (f"`del {code}[:-10]`" in found) == bool(code)
    assert ("`" in found) == bool(code)


@pytest.mark.parametrize(
    ("container", "text", "words"),
    [
        ("list", "WAITING.append", "`del WAITING[:-10]` after each append, or make"),
        ("list", "WAITING +=", "`del WAITING[:-10]` after each append, or make"),
        ("list", "heapq", "`while len(SEEN) > 10: heapq.heappop(SEEN)` after each"),
        ("list", "SEEN.insert", "`del SEEN[10:]` after each insert."),
        ("list", "SEEN[2:] = tail", "`del SEEN[:-10]` after each append."),
        ("list", "SLICED.append", "`del SLICED[:-10]` after each append."),
        ("dict", "BY_NUMBER[len", "`BY_NUMBER.clear()` when its entries are done."),
        ("dict", 'STORE["x"]', "`while len(STORE) > 10: STORE.pop(next(iter(STORE)))`"),
    ],
)
def test_a_container_is_limited_as_the_line_fills_it(
    at: Any, container: str, text: str, words: str
) -> None:
    found = re.match("[A-Z]+(_[A-Z]+)?", text)
    name = found[0] if found is not None else "SEEN"
    path = path_to(at=f"app.{name}", container=container)
    assert fill("{limit}", case(path, stored=at(text))).startswith(words)


@pytest.mark.parametrize(
    ("types", "made", "stored", "code"),
    [
        (
            FILE,
            "SEEN.append(Feed",
            "SEEN.append(Feed",
            "name, such as `file`, and close",
        ),
        (FILE, "SEEN +=", "SEEN +=", "such as `file`"),
        (FILE, "files =", "SEEN.extend", "such as `file`"),
        (FILE, "lines =", None, "such as `file`"),
        (FILE, "text =", None, "such as `file`"),
        (FILE, "files =", "OPEN.update", "such as `file`"),
        (FILE, "file =", None, "needed: `file.close()`"),
        (FILE, "SEEN[2:]", "SEEN[2:]", "such as `file`"),
        (("builtins.async_generator",), None, "SEEN[key]", "`await feed.aclose()`"),
        (("logging.FileHandler", "logging.Handler"), None, "SEEN[key]", "feed.close("),
        (FILE, "handler =", "LOG.add", "`handler.close()`"),
        (FILE, "handler =", "SEEN.append(self)", "`handler.close()`"),
        (FILE, "self.sock =", None, "`self.sock.close()`"),
        (("_socket.socket",), "SEEN[key] =", "SEEN[key] =", "`feed.close()`"),
        (("sqlite3.Connection",), None, "self.service", "`con.close()`"),
        (("subprocess.Popen",), None, None, "`with process: ...`"),
        (("h5py.File", "h5py._hl.base.HLObject"), None, None, "dataset.file.close()"),
        (
            ("context.Process", "multiprocessing.process.BaseProcess"),
            None,
            None,
            "`process.terminate()`, `process.join()`",
        ),
        (("threading.Timer",), None, "SEEN[key]", "`feed.cancel()`, `feed.join()`"),
        (("numpy.lib.npyio.NpzFile",), None, "SEEN[key]", "`feed.close()`"),
    ],
)
def test_an_object_is_closed_under_the_name_that_the_code_has(
    at: Any, types: tuple[str, ...], made: str | None, stored: str | None, code: str
) -> None:
    origin, stored_at = (text and at(text) for text in (made, stored))
    path = path_to(types[0], through=[step(*types)])
    text = fill("{close}", case(path, origin=origin, stored=stored_at))
    assert code in text


def test_what_belongs_to_an_object_is_closed_through_it(at: Any) -> None:
    owner = new("app.Feed", kind=UNKNOWN)
    path = path_to("app.Feed", through=[owner, step("_socket.socket", name="sock")])
    known: dict[str, Any] = {"origin": at("self.sock ="), "held": "app.Feed"}
    text = fill("{close}", case(path, **known))
    assert "such as `feed`" in text and "`feed.sock.close()`" in text
    inner = [owner, step("app.Pool", kind=UNKNOWN), step("_socket.socket", name="s")]
    assert fill("{close}", case(path_to("app.Feed", through=inner), **known)) == ""


def test_a_handler_is_taken_off_the_logger_that_the_code_names(at: Any) -> None:
    types: tuple[str, ...] = ("logging.StreamHandler", "logging.Handler")
    of_logger: dict[str, Any] = {"at": "app.LOG.handlers", "owner": "logging.Logger"}
    path = path_to("logging.Handler", through=[step(*types)], **of_logger)
    added = case(path, origin=at("handler ="), stored=at("LOG.addHandler"))
    text = fill("{close}", added)
    assert "`LOG.removeHandler(handler)`, `handler.close()`" in text
    assert fill("{close}", case(path, stored=at("SEEN.append(error"))) == ""
    assert "file" not in explain("{handler_keeps}", added)
    types = ("logging.FileHandler", *types)
    path = path_to("logging.Handler", through=[step(*types)], **of_logger)
    assert "its file open" in explain("{handler_keeps}", case(path))
    in_list = path_to("logging.Handler", through=[step(*types[1:])])
    assert fill("{close}", case(in_list, stored=at("SEEN.append(error"))) == ""


def test_without_an_open_resource_nothing_is_closed() -> None:
    assert fill("{close}", case(path_to("_io.BytesIO", through=[step("io")]))) == ""


def test_a_container_is_limited_only_if_the_user_s_code_writes_its_name(
    at: Any,
) -> None:
    known = {"origin": at("SEEN.append(Feed"), "held": "app.Feed"}
    assert "`del SEEN[:-10]`" in fill("{limit}", case(path_to(), **known))
    private = path_to(at="app.SERVING._self_deferred_dependencies")
    assert fill("{limit}", case(private, **known)) == ""
    in_set = path_to(container="set")
    assert "SEEN.clear()" in fill("{limit}", case(in_set, **known))
    assert "discard" not in fill("{limit}", case(in_set, **known))
    known["stored"] = at("SEEN.append(error")
    assert "`SEEN.discard(error)`" in fill("{limit}", case(in_set, **known))
    assert fill("{limit}", case(NOBODY, **known)) == ""


@pytest.mark.parametrize(
    ("text", "line", "code"),
    [
        ("{descriptor}", "fd =", "Close it in a `finally`: `os.close(fd)`."),
        ("{descriptor}", "fds +=", NAMED_FD),
        ("{descriptor}", "pipe =", ""),
        ("`close({figure})`", "fig, ax", "`close(fig)`."),
        ("`close({figure})`", "fig =", "`close(fig)`."),
        ("`close({figure})`", "ax =", '`close("all")`.'),
        ("`close({figure})`", "axes =", '`close("all")`.'),
        ("`close({figure})`", "curves =", '`close("all")`.'),
        ("{end_pool}", "return self.pool", f"{SHUT_DOWN}`self.pool.shutdown()`."),
        ("{end_pool}", "executor =", f"{SHUT_DOWN}`executor.shutdown()`."),
        ("{end_pool}", "tasks =", f"{SHUT_DOWN}`executor.shutdown()`."),
        ("{end_pool}", "future =", WITH_POOL),
        ("{end_pool}", "results =", WITH_POOL),
        ("{end_pool}", "processes =", f"{SHUT_DOWN}`processes.shutdown()`."),
        ("{end_pool}", "made =", f"{WITH}: `with ProcessPoolExecutor() as ...`."),
        ("{end_pool}", "ds =", f"{WITH}."),
        ("{number}", "loss =", "`float(loss)`."),
        ("{number}", "SEEN.append(Feed", "Convert it by `float()`."),
    ],
)
def test_code_has_the_names_of_the_line(
    at: Any, text: str, line: str, code: str
) -> None:
    origin = at(line)
    whole = next(text for text in LINES if text.startswith(line))
    assert fill(text, case(NOBODY, origin=origin, line=whole)) == code


def test_a_pool_of_multiprocessing_is_closed() -> None:
    workers = (RunningThread(name="Thread-1 (_handle_workers)"),)
    failing = frozenset({"process.threads", "process.children"})
    known = case(threads=workers, failing=failing)
    assert fill("{end_pool}", known) == f"{WITH}: `with Pool() as ...`."
    # it may be a ThreadPool
    assert fill("{end_pool}", case(threads=workers)) == f"{WITH}."


@pytest.mark.parametrize(
    ("evidence", "kind"),
    [
        ({"held": "concurrent.futures.process.ProcessPoolExecutor"}, PROCESSES),
        ({"members": {"multiprocessing.pool.ThreadPool": 1.0}}, "ThreadPool"),
        ({"threads": (RunningThread(name="Thread-3", target=MANAGER),)}, PROCESSES),
        ({"path": passing(MANAGER, "threading.Thread")}, PROCESSES),
        (
            {"threads": (RunningThread(name="ThreadPoolExecutor-0_0"),)},
            "ThreadPoolExecutor",
        ),
    ],
)
def test_a_pool_without_a_name_has_its_type(
    evidence: dict[str, Any], kind: str
) -> None:
    pool = Case(finding=make_finding(THREADS), evidence=Evidence(**evidence))
    text = fill("{end_pool}", pool)
    assert text == f"{WITH}: `with {kind}() as ...`."


def test_a_thread_is_ended_where_it_waits(at: Any) -> None:
    thread = RunningThread(name="worker", at=at("fd ="))
    known = {"origin": at("self.thread ="), "threads": (thread,)}
    text = fill("{end_thread}", case(**known))
    assert "It waits in `fd =`" in text and "app.py:7" in text
    assert "`self.thread.join()`" in text
    assert "where you make it" not in text
    assert "`worker.join()`" in fill("{end_thread}", case(origin=at("worker.start")))
    assert "`runner.join()`" in fill("{end_thread}", case(origin=at("runner =")))
    for line in ("threads =", "server.start", "server ="):
        text = fill("{end_thread}", case(origin=at(line)))
        assert "with `thread = threading.Thread(...)` where you make it" in text


def test_an_object_s_own_method_ends_it(at: Any) -> None:
    known: dict[str, Any] = {"closers": ("close",), "held": "app.DataPipeline"}
    assert fill("{ending}", case(path_to(), **known)) == "Call its `close()`."
    known["stored"] = at("SEEN[key]")
    assert fill("{ending}", case(path_to(), **known)) == "`feed.close()`."
    assert fill("{ending}", case(path_to())) == ""
    of_database = path_to("sqlite3.Connection", through=[step("sqlite3.Connection")])
    text = "Close it."
    assert fill("{ending}", case(of_database)) == text
    of_file = path_to("h5py.HLObject", through=[step("h5py._hl.base.HLObject")])
    text = "Close its file: `feed.file.close()`."
    assert fill("{ending}", case(of_file, stored=at("SEEN[key]"))) == text


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("builtins.generator", "`with contextlib.closing(feed): ...`."),
        ("builtins.async_generator", "`async with contextlib.aclosing(feed): ...`."),
    ],
)
def test_a_generator_is_closed_by_a_with_statement(
    at: Any, kind: str, code: str
) -> None:
    path = path_to(kind, through=[step(kind)])
    assert fill("{closing}", case(path, stored=at("SEEN[key]"))) == code
    assert fill("{closing}", case(path)) == ""


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"line": "session.partial_run(handle, y)"}, "Finish each partial_run"),
        ({"line": "session.make_callable(y)"}, "Make the callable once"),
        ({"native": ("tensorflow::QueueOp::Enqueue",)}, "Take out of the queue"),
        ({"native": ("tensorflow::GetSessionHandleOp",)}, "Delete the handle"),
        ({"line": "session.run(y)"}, ""),
    ],
)
def test_what_a_session_keeps_is_told_by_the_line_or_the_c_functions(
    known: dict[str, Any], words: str
) -> None:
    assert fill("{let_go}", case(**known)).startswith(words)
    assert bool(fill("{let_go}", case(**known))) == bool(words)


def test_a_callback_is_removed_from_where_it_was_added(at: Any) -> None:
    added = at("LOG.addHandler")
    assert fill("{remove}", case(path_to(), stored=added)) == "`SEEN.remove(handler)`."
    assert fill("{remove}", case(path_to(container="dict"), stored=added)) == ""
    assert fill("{remove}", case(path_to())) == ""
    of_bus = path_to(at="app.BUS.SEEN", owner="app.Bus")
    text = fill("{remove}", case(of_bus, stored=at("self.service")))
    assert text == "`self.service.SEEN.remove(con)`."
    assert fill("{remove}", case(path_to(), stored=at("CALLBACKS.extend"))) == ""


def test_a_figure_may_be_named_by_a_line_that_calls_its_maker(at: Any) -> None:
    made = case(NOBODY, origin=at("ax ="))
    finding = replace(made.finding, stack=(at("axes ="), at("fig =")))
    assert fill("close({figure})", replace(made, finding=finding)) == "Close(fig)."


def test_only_a_bound_method_is_kept_by_a_weak_method(at: Any) -> None:
    text, stored = "`WeakMethod({method})`", at("BUS.on_end")
    bound = case(stored=stored, held="builtins.method")
    assert fill(text, bound) == "`WeakMethod(self.finish)`."
    assert fill(text, case(stored=stored, held="builtins.function")) == ""


def test_a_value_that_grows_has_the_name_of_its_line(at: Any) -> None:
    text = "`{value} = {value}[-100:]`"
    held = "numpy.ndarray"
    assert fill(text, case(origin=at("self.total +="), held=held)) == (
        "`self.total = self.total[-100:]`."
    )
    assert (
        fill(text, case(origin=at("history ="), held=held))
        == "`history = history[-100:]`."
    )
    shown = "`STORE['x'] = STORE['x'][-100:]`."
    assert fill(text, case(origin=at('STORE["x"]'), held=held)) == shown
    for line in ("SEEN[key]", "self.sock =", "n ="):
        assert fill(text, case(origin=at(line), held=held)) == ""
    assert fill(text, case(origin=at("history ="), held="app.Rollout")) == ""


def test_a_buffer_is_emptied(at: Any) -> None:
    written = {"origin": at("n ="), "held": "_io.BytesIO"}
    assert fill("{emptied}", case(**written)) == "`BUF.seek(0)`, `BUF.truncate()`."
    assert fill("{emptied}", case(held="_io.BytesIO")) == ""
    saved = {**written, "origin": at("np.save")}
    assert fill("{emptied}", case(**saved)) == ""
    assert fill("{emptied}", case(**{**written, "held": "builtins.str"})) == ""


def test_a_scope_is_named() -> None:
    open_scope = frozenset({"tf.device_scope"})
    assert fill("{scope}", case(signals=open_scope)) == "`with tf.device(name): ...`."


def test_an_exception_is_kept_as_text(at: Any) -> None:
    text, drop = "Keep {error_text}", "`{error}.with_traceback(None)`"
    error = passing(EXCEPTION)
    named = case(error, stored=at("SEEN.append(error"))
    assert fill(text, named) == "Keep its text, `repr(error)`."
    assert fill(drop, named) == "`error.with_traceback(None)`."
    owner = passing("app.Trainer", EXCEPTION)
    for unnamed in (
        case(error, origin=at("check")),
        case(owner, stored=at("SEEN.append(error")),
    ):
        assert fill(text, unnamed) == "Keep only its text, by `repr()`."
        assert fill(drop, unnamed) == ""


def step(*types: str, kind: str = ATTRIBUTE, name: str = "held") -> Any:
    """Return a step to a new object of these types."""
    made = new(types[0], kind=kind, attribute=name)
    return type(made)(kind=made.kind, name=made.name, types=types, is_new=True)
