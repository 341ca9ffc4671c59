"""Code that mends a leak when it is typed in, with the names of the user's code.

Each function finds what one place of a remedy stands for (places.py), and returns ""
where the case does not show it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import ast
import re
from dataclasses import replace

from pytest_tfleak.diagnosis.causes.case import Case
from pytest_tfleak.diagnosis.causes.case import give_name
from pytest_tfleak.diagnosis.causes.limits import container_code
from pytest_tfleak.diagnosis.causes.limits import expression_code
from pytest_tfleak.diagnosis.causes.limits import grown_on
from pytest_tfleak.diagnosis.causes.limits import owner_code
from pytest_tfleak.diagnosis.causes.resources import find_opened
from pytest_tfleak.diagnosis.origin.source_hints import Names
from pytest_tfleak.diagnosis.origin.source_hints import classes_around
from pytest_tfleak.diagnosis.origin.source_hints import first_argument_at
from pytest_tfleak.diagnosis.origin.source_hints import is_attribute_set
from pytest_tfleak.diagnosis.origin.source_hints import is_written
from pytest_tfleak.diagnosis.origin.source_hints import names_at
from pytest_tfleak.diagnosis.origin.source_hints import owner_at
from pytest_tfleak.diagnosis.origin.source_hints import targets_of
from pytest_tfleak.object_facts import TASKS
from pytest_tfleak.retaining_path import ATTRIBUTE
from pytest_tfleak.retaining_path import DEFAULT
from pytest_tfleak.retaining_path import EXCEPTION
from pytest_tfleak.retaining_path import SUSPENDED
from pytest_tfleak.user_code import file_of_module

_METHOD = "builtins.method"
_DATASETS = "tensorflow.python.data."
_FUTURES = ("concurrent.futures._base.Future",)
_LAYERS = (
    "keras.src.layers.layer.Layer",
    "tf_keras.src.engine.base_layer.Layer",
)
#: The standard library's, of which the second is for coroutines.
_QUEUES = ("queue.Queue", "asyncio.queues.Queue")
#: Methods by type of container.
_ADDS = {
    "list": ("append", "insert"),
    "deque": ("append", "appendleft", "insert"),
    "set": ("add",),
    "TrackedList": ("append", "insert"),
}
_REMOVE = {"list": "remove", "set": "discard"}
_EMPTY = {"list": "[]", "dict": "{}", "set": "set()"}
_COPIED = (*_EMPTY, "deque")
_ITERATES = re.compile(r"\biter\((\w[\w.]*)\)")
#: A layer that is called on the output of a model.
_ON_OUTPUT = re.compile(r"(?<![\w.)])([\w.]+)\(([\w.]+)\.outputs?\)")
_SETS = re.compile(r"([\w.]+)\.set\(.*\)")
#: Objects to which more can be added without a name.
_WHOLE = re.compile(r"[\w.]+|[\w.]+[(\[].*[)\]]")


def take_from_queue(case: Case) -> str:
    """Return how to take out what is put into a queue, "" if it is in no queue."""
    grown, names = grown_on(case.path), case.stored
    owners = grown.steps[:-1] if grown is not None else ()
    if not owners or not owners[-1].is_a(*_QUEUES):
        return ""
    if names.method not in ("put", "put_nowait") or not names.receiver:
        return "take out of the queue what is put in"
    wait = "await " if owners[-1].is_a(*_QUEUES[1:]) else ""
    return f"`{wait}{names.receiver}.get()` for each that is put in"


def remove(case: Case) -> str:
    """Return how to take an object out of its container again."""
    grown, names = grown_on(case.path), case.stored
    kind = grown.steps[-1].container if grown is not None else ""
    name = container(case)
    if kind == "dict" and names.key and name == names.keyed:
        return f"`{name}.pop({names.key})`"
    if kind not in _REMOVE or not name:
        return ""
    if names.argument:
        return f"`{name}.{_REMOVE[kind]}({names.argument})`"
    if not names.added or case.evidence.held not in ("builtins.function", _METHOD):
        return ""
    code = f"`{name}.{_REMOVE[kind]}(callback)`"
    return f"{code}, where `callback` is a name that you give it"


def container(case: Case) -> str:
    """Return the container that grows as the line that fills it may write it.

    Return "" if that line is in other code than what has it as an attribute.
    """
    code, names = container_code(case.path), case.stored
    for written in filter(None, (names.receiver, names.keyed)):
        if code and _name(written) == _name(code):
            return written
    if not code and names.adds and _is_on_path(_last(names.receiver), case):
        return names.receiver  # a list within an object that stands for it
    if _is_receiver(case):  # kept.append(x), also for one of several in a loop
        return names.receiver
    owner, dot, attribute = code.partition(".")
    if not dot or owner != "self":
        return code
    owned_by = owner_at(case.finding.line, re.split(r"\W", attribute)[0])
    if owned_by:
        return f"{owned_by}.{attribute}"
    return code if _is_in_owner(case) else _from_module(case)


def _is_receiver(case: Case) -> bool:
    """Return whether a line calls a method of the container that grows itself."""
    grown, names = grown_on(case.path), case.stored
    if grown is None or not names.receiver.isidentifier():
        return False
    adds = _ADDS.get(grown.steps[-1].container, ())
    return names.method in adds and not is_attribute_set(names.method, case.files)


def _is_in_owner(case: Case) -> bool:
    """Return whether the line that fills a container is in the class that has it."""
    grown, stored = grown_on(case.path), case.finding.stored
    if grown is None or stored is None:
        return True  # the line is unknown, which is then probably there
    places = [k for k, step in enumerate(grown.steps) if step.kind == ATTRIBUTE]
    owner = grown.steps[places[-1] - 1]
    return not {*map(_last, owner.types)}.isdisjoint(classes_around(stored))


def _from_module(case: Case) -> str:
    """Return the container as code of its module may write it: ``MEMORY.items``."""
    grown, stored = grown_on(case.path), case.finding.stored
    if grown is None or stored is None or grown.root is None:
        return ""
    is_there = file_of_module(grown.root.name) == stored.file
    is_plain = all(step.kind == ATTRIBUTE for step in grown.steps)
    if not (grown.root.kind == "module" and is_there and is_plain):
        return ""
    return ".".join(step.name for step in grown.steps)


def _is_on_path(name: str, case: Case) -> bool:
    return any(step.kind == ATTRIBUTE and step.name == name for step in case.steps)


def _name(code: str) -> tuple[str, int]:
    """Return the name of a container without its keys, and how many it has."""
    name, keys = ast.parse(code, mode="eval").body, 0
    while isinstance(name, ast.Subscript):
        name, keys = name.value, keys + 1
    return _last(ast.unparse(name)), keys


def _last(code: str) -> str:
    return code.rpartition(".")[2]


def leave(case: Case) -> str:
    """Return the method by which an object leaves its container: ``seen.discard``."""
    grown, code = grown_on(case.path), container(case)
    method = _REMOVE.get(grown.steps[-1].container, "") if grown is not None else ""
    is_known = code and is_written(_last(code).partition("[")[0], case.files)
    return f"{code}.{method}" if method and is_known else ""


def end_task(case: Case) -> str:
    """Return how an asyncio task ends, and leaves what keeps it."""
    name = case.name_of_result("create_task", "ensure_future")
    if not name and case.is_put_away(*TASKS):
        name = names_at(case.finding.stored).argument
    task, left, ways = name or "task", leave(case), []
    if left and case.is_put_away(*TASKS):
        ways.append(f"let it go when it is done: `{task}.add_done_callback({left})`")
    is_waiting = any(step.kind == SUSPENDED for step in case.steps)
    if is_waiting or "cancel" in case.evidence.closers:
        ways.append(f"end it when nobody waits for it: `{task}.cancel()`")
    text = ", and ".join(ways)
    return text if name or not text else give_name(task) + text


def end_future(case: Case) -> str:
    """Return how a future leaves what keeps it when it is done."""
    left = leave(case)
    if not left or not case.is_put_away(*_FUTURES):
        return ""
    name = names_at(case.finding.stored).argument or case.name_of_result("submit")
    text = f"drop it when it is done: `{name or 'future'}.add_done_callback({left})`"
    return text if name else give_name("future") + text


def unregister(case: Case) -> str:
    """Return how to undo the call of atexit.register() in one of the lines."""
    names = (first_argument_at(o, "atexit.register") for o in case.finding.lines)
    name = next(filter(None, names), "")
    return f"`atexit.unregister({name})`" if name else ""


def weakly(case: Case) -> str:
    """Return the line that stores a value, with a weak reference to the key in it."""
    names = case.stored
    key = names.key if names.key.isidentifier() else ""
    argument = re.compile(rf"(?<=[(,=\s]){key}(?=[,)])")
    if not key or len(re.findall(rf"\b{key}\b", names.added)) != 1:
        return ""
    value, count = argument.subn(f"weakref.ref({key})", names.added)
    return f"`{names.keyed}[{key}] = {value}`" if count else ""


def default(case: Case) -> str:
    """Return how to make the default of an argument in each call."""
    grown = grown_on(case.path)
    step = grown.steps[-1] if grown is not None and grown.steps else None
    if step is None or step.kind != DEFAULT or step.container not in _EMPTY:
        return ""
    name, empty = step.name, _EMPTY[step.container]
    return (
        f"`{name}=None`, and `{name} = {empty} if {name} is None else {name}` as its "
        "first line"
    )


def copy_parameter(case: Case) -> str:
    """Return how a test copies the parameter that grows."""
    grown, code = grown_on(case.path), container_code(case.path)
    root = grown.root if grown is not None else None
    if grown is None or root is None or root.name != code:
        return ""
    is_copied = grown.steps[-1].container in _COPIED
    return f"`{code} = {code}.copy()`" if is_copied else ""


def copy_part(case: Case) -> str:
    """Return how to copy what is kept of a larger array."""
    array = case.path.array if case.path is not None else None
    if array is None or not array.is_part or case.evidence.held != "numpy.ndarray":
        return ""
    name = case.object or case.stored.added
    return f"`{name}.copy()`" if _WHOLE.fullmatch(name) else ""


def keep_numbers(case: Case) -> str:
    """Return the numbers of the History that is put away."""
    name = case.object or case.stored.added
    is_itself = case.put_away is not None and case.put_away.short_type == "History"
    return f"`{name}.history`" if is_itself and _WHOLE.fullmatch(name) else ""


def record_text(case: Case) -> str:
    """Return the text of the log record that is put away."""
    name = names_at(case.finding.stored).argument
    return (
        f"`{name}.getMessage()`"
        if name and case.is_put_away("logging.LogRecord")
        else ""
    )


def detach(case: Case) -> str:
    """Return how to detach a weakref.finalize."""
    if _last(case.stored.call) != "finalize":
        return ""
    name = case.stored.target
    end = f"detach it when it is no longer needed: `{name or 'finalizer'}.detach()`"
    return end if name else give_name("finalizer") + end


def remove_filter(case: Case) -> str:
    """Return how to take a filter off the logger or handler that it was added to."""
    owner, name = case.stored.receiver, case.stored.argument
    if case.stored.method != "addFilter" or not owner:
        return ""
    end = f"take it off in a `finally`: `{owner}.removeFilter({name or 'log_filter'})`"
    return end if name else give_name("log_filter") + end


def tees(case: Case) -> str:
    """Return the iterators of one itertools.tee(), of which one grows."""
    names = {step.name for step in case.steps}
    found = {t for file in case.files for t in targets_of("tee", file)}
    ours = [t for t in found if len(t) == 2 and names & set(map(_last, t))]
    return ", ".join(ours[0]) if len(ours) == 1 else ""


def mock(case: Case) -> str:
    """Return how the code calls the mock whose list of calls grows."""
    code = owner_code(case.path)
    return code if code and is_written(_last(code), case.files) else ""


def pickler(case: Case) -> str:
    """Return how the code calls a Pickler."""
    return _receiver_of(case, "dump")


def close_queue(case: Case) -> str:
    """Return how to close a queue of which only the thread is known."""
    name = _receiver_of(case, "put")
    if find_opened(case.path) is not None or not name:
        return ""
    return f"close it in a `finally`: `{name}.close()`, `{name}.join_thread()`"


def _receiver_of(case: Case, method: str) -> str:
    """Return the object whose method one of the lines calls."""
    found = (
        n.receiver for n in map(names_at, case.finding.lines) if n.method == method
    )
    return next(filter(None, found), "")


def reset_variable(case: Case) -> str:
    """Return how to give a context variable its value back."""
    names: Names = case.stored
    if case.made.method == "set" and case.made.receiver:
        variable, token = case.made.receiver, case.made.assigned
    else:
        found = _SETS.fullmatch(names.added)
        variable, token = found[1] if found is not None else "", ""
    if not variable:
        return ""
    end = f"reset the variable in a `finally`: `{variable}.reset({token or 'token'})`"
    return end if token else give_name("token") + end


def cut_link(case: Case) -> str:
    """Return how to cut the link to the previous object, or restore what was there."""
    evidence, name = case.evidence, names_at(case.finding.stored).assigned
    if evidence.held in ("builtins.function", _METHOD, "functools.partial"):
        if not name:
            return "put the previous one back in a `finally`"
        return (
            "keep what was there, and put it back in a `finally`: "
            f"`previous = {name}`, then `{name} = previous`"
        )
    if evidence.held.startswith(_DATASETS):
        return (
            "keep the last parts in a `collections.deque(maxlen=10)`, and make the "
            "dataset of those, not of the previous dataset"
        )
    if not (name and evidence.link and _is_users(evidence.held)):
        return "keep numbers of the previous object, not the object"
    return (
        "cut the link when you have made the next one: "
        f"`{name}.{evidence.link} = None`; or keep numbers of the previous object, not "
        "the object"
    )


def _is_users(kind: str) -> bool:
    """Return whether a type, by its full name, is of a module of user code."""
    parts = kind.split(".")
    return any(file_of_module(".".join(parts[:n])) for n in range(1, len(parts)))


def reset_weights(case: Case) -> str:
    """Return how to give a layer or a variable its first values again."""
    name, last = names_at(case.finding.stored).assigned, (case.steps or (None,))[-1]
    if "." not in name or last is None:
        return ""
    if last.is_a(*_LAYERS):
        return (
            f"keep the layer and reset it: `{name}.set_weights(start)`, with "
            f"`start = {name}.get_weights()` before the loop"
        )
    is_variable = last.short_type.endswith("Variable")
    return f"assign to it: `{name}.assign(value)`" if is_variable else ""


def call_on_data(case: Case) -> str:
    """Return a call on data, instead of that on the symbolic output of a model."""
    for line in (case.finding.stored, case.finding.origin):
        found = _ON_OUTPUT.search(line.text) if line is not None else None
        if found is not None:
            return f"`{found[1]}({found[2]}(x))`"
    return ""


def iterated(case: Case) -> str:
    """Return the dataset of which the line makes an iterator."""
    found = _ITERATES.search(case.evidence.line)
    return found[1] if found is not None else ""


def register_once(case: Case) -> str:
    """Return that a callback can be registered once, unless it has values of a call."""
    made = [step for step in case.steps if step.is_new]
    is_bound_to_call = len(made) > 1 or case.evidence.held == _METHOD
    return "" if is_bound_to_call else "register once, before the loop"


def raise_again(case: Case) -> str:
    """Return how to raise an old exception without its earlier tracebacks."""
    first = next(iter(case.path.expressions()), None) if case.path is not None else None
    for place, step in enumerate(first.steps if first is not None else ()):
        if first is None or not step.is_a(EXCEPTION):
            continue
        name = expression_code(replace(first, steps=first.steps[: place + 1]))
        if step.is_new or not name:
            return ""
        return (
            "drop the traceback of the last time when you raise it again: "
            f"`raise {name}.with_traceback(None)`"
        )
    return ""


def missing_part(case: Case) -> str:
    """Return what a restored object does not have yet: ``the `head` of the Net``."""
    for owner, store, key in zip(
        case.steps, case.steps[1:], case.steps[2:], strict=False
    ):
        if store.name.endswith("_deferred_dependencies") and key.kind == "item":
            name = key.name.strip("'\"")
            return f"the `{name}` of the {owner.short_type}"
    return ""
