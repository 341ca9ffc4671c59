"""Fill in the texts of a cause: names, calls and code from the case at hand.

A text of the table has places such as ``{holder}``. What a place needs and the case
does not have leaves out its clause (between semicolons); without any clause left, the
message has no remedy. Names are those that the code has; an object without a name is
either given one in the text ("give it a name, such as `file`, and ...") or not named.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_tfleak.diagnosis.causes import typed_calls
from pytest_tfleak.diagnosis.causes import typed_in
from pytest_tfleak.diagnosis.causes.case import Case
from pytest_tfleak.diagnosis.causes.case import give_name
from pytest_tfleak.diagnosis.causes.limits import container_code
from pytest_tfleak.diagnosis.causes.limits import grown_on
from pytest_tfleak.diagnosis.causes.limits import limit_of
from pytest_tfleak.diagnosis.causes.pools import ENDS
from pytest_tfleak.diagnosis.causes.pools import end_of_pool
from pytest_tfleak.diagnosis.causes.pools import type_of_pool
from pytest_tfleak.diagnosis.causes.resources import find_opened
from pytest_tfleak.diagnosis.origin.guards import Guard
from pytest_tfleak.diagnosis.origin.guards import guard_after
from pytest_tfleak.diagnosis.origin.managers import form_of
from pytest_tfleak.diagnosis.origin.managers import manager_of
from pytest_tfleak.diagnosis.origin.managers import stack_made_in
from pytest_tfleak.diagnosis.origin.source_hints import calls_assigned_to
from pytest_tfleak.diagnosis.origin.source_hints import filling_at
from pytest_tfleak.diagnosis.origin.source_hints import is_written
from pytest_tfleak.diagnosis.origin.source_hints import names_at
from pytest_tfleak.reports.held_by import name_holder
from pytest_tfleak.reports.message import place_of
from pytest_tfleak.retaining_path import EXCEPTION
from pytest_tfleak.retaining_path import EXCEPTION_ARGUMENTS
from pytest_tfleak.retaining_path import UNKNOWN
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import Step
from pytest_tfleak.verdict import Origin

_PLACE = re.compile(r"\{(\w+)\}")
_CLAUSE = re.compile(r"; (?=(?:[^`]*`[^`]*`)*[^`]*$)")  # not inside of code
_WORD = re.compile(r"[A-Z]?[a-z0-9]+$|[A-Z]+$")  # the last one of a type's name
#: Calls that return a descriptor as a number.
_DESCRIPTORS = ("os.open", "os.dup", "os.memfd_create", "os.eventfd")
_DESCRIPTOR = re.compile(rf"\b(?:{'|'.join(map(re.escape, _DESCRIPTORS))})\(")
#: What makes a thread.
_THREADS = ("Thread", "Timer")
#: Methods that write to a buffer.
_WRITES = ("write", "writelines", "extend", "append")
_SUBMITS = re.compile(r"([\w.]+)\.(?:submit|map|apply|apply_async|imap)\(")
#: When to end a resource, which a text may say already.
_LATER = re.compile(" when (?:it is no longer needed|you have read it)(?=:)")
_HOLDER = "what keeps it"  # in the text on what happens, if no holder is known
#: By type of a buffer.
_EMPTY = {
    "_io.BytesIO": "`{name}.seek(0)`, `{name}.truncate()`",
    "_io.StringIO": "`{name}.seek(0)`, `{name}.truncate()`",
    "builtins.bytearray": "`{name}.clear()`",
}
#: Types of values of which a slice is the last part.
_SLICED = (
    *("ndarray", "EagerTensor", "RaggedTensor", "DataFrame", "Series"),
    *("str", "bytes", "bytearray", "list", "tuple"),
)
#: By signal.
_SCOPES = {
    "tf.strategy": "`with strategy.scope(): ...`",
    "tf.creator_scope": "`with tf.variable_creator_scope(creator): ...`",
    "tf.control_scope": "`with tf.control_dependencies(operations): ...`",
    "tf.device_scope": "`with tf.device(name): ...`",
    "tf.name_scope": "`with tf.name_scope(name): ...`",
}
_DECLARED = "`@tf.function(input_signature=[...])`"


def fill(text: str, case: Case) -> str:
    """Put what is known into a text, and leave out the clauses that need more."""
    clauses = [_filled(clause, case) for clause in _CLAUSE.split(text)]
    kept = [clause for clause in clauses if clause]
    if not kept:
        return ""
    first = kept[0].removeprefix("or ")
    first = first[0].upper() + first[1:]
    whole = "; ".join([first, *kept[1:]])
    return whole if whole.endswith(".") else f"{whole}."


def explain(text: str, case: Case) -> str:
    """Put what is known into the text on what happens, of which nothing is left out."""
    for name in _PLACE.findall(text):
        if name in PLACES:
            text = text.replace(f"{{{name}}}", PLACES[name].find(case) or _HOLDER)
    return text


def _filled(clause: str, case: Case) -> str:
    """Return a clause with all of its places filled, "" if one cannot be."""
    for name in _PLACE.findall(clause):
        if name not in PLACES:
            continue  # clear_session, which is known only later, or code with braces
        value = PLACES[name].find(case)
        if not value:
            return ""
        clause = clause.replace(f"{{{name}}}", value)
    return clause


def _holder(case: Case) -> str:
    path = case.path
    return "" if path is None or path.is_native else name_holder(path)


def _name_for(case: Case) -> str:
    """Return a name for an object to which the code gives none: ``pipeline``."""
    opened = find_opened(case.path)
    if opened is not None and opened.is_put_away_itself:
        return opened.resource.name
    word = _WORD.search(case.evidence.held.rpartition(".")[2])
    return word[0].lower() if word is not None else "x"


def _opened(case: Case) -> str:
    opened = find_opened(case.path)
    return "a file, a socket or a pipe" if opened is None else opened.resource.opened


def _close(case: Case) -> str:
    """Return how to end what stays open, under the name that the code has for it."""
    opened = find_opened(case.path)
    if opened is None or opened.attributes == "...":
        return ""
    adds = names_at(case.finding.stored or case.finding.origin)
    owner = adds.receiver if adds.method == "addHandler" else ""
    if "{owner}" in opened.resource.end and not owner:
        return ""
    name = case.object
    code = (name or _name_for(case)) + opened.attributes
    end = opened.resource.end.replace("{x}", code).replace("{owner}", owner)
    end = end if name else f"{give_name(_name_for(case))}{end}"
    if opened.resource.is_taken_out or not _is_sized(case.path):
        return end
    limit = _limit(case)
    return f"{end}; and take it out of {_holder(case)}: {limit}" if limit else end


def _closing(case: Case) -> str:
    """Return the with statement that closes a generator: ``with closing(x): ...``."""
    opened, name = find_opened(case.path), case.object
    if opened is None or not name or opened.attributes == "...":
        return ""
    return opened.resource.closing.replace("{x}", name + opened.attributes)


def _descriptor(case: Case) -> str:
    """Return how to close a descriptor that is only a number."""
    if case.evidence.held or not _DESCRIPTOR.search(case.evidence.line):
        return ""
    made = names_at(case.finding.origin)
    name = made.made if made.call in _DESCRIPTORS else ""
    end = f"close it in a `finally`: `os.close({name or 'fd'})`"
    return end if name else f"{give_name('fd')}{end}"


def _ending(case: Case) -> str:
    """Return the call by which an object lets go of what it has: ``server.close()``."""
    closers, opened, name = case.evidence.closers, find_opened(case.path), case.object
    if closers:
        end = f"{closers[0]}()`"
        return f"`{name}.{end}" if name else f"call its `{end}"
    if opened is None or opened.attributes == "..." or "{owner}" in opened.resource.end:
        return ""
    end = _LATER.sub("", opened.resource.end)
    if name:
        return end.replace("{x}", name + opened.attributes)
    return end.partition(": `")[0] if not opened.attributes else ""


def _end_thread(case: Case) -> str:
    """Return which line of the user's a thread has to leave, and how to wait for it."""
    lines = [thread.at for thread in case.evidence.threads if thread.at is not None]
    thread = _thread(case)
    join = f"then `{thread or 'thread'}.join()`, in a `finally`"
    if not thread:
        join += ", with `thread = threading.Thread(...)` where you make it"
    if not lines or not lines[0].text:
        return f"End it when its work is done, {join}"
    return (
        f"It waits in `{lines[0].text.strip()}` ({place_of(lines[0])}): let it return "
        f"from there, {join}"
    )


def _thread(case: Case) -> str:
    """Return how the code calls a thread, "" if it has no name."""
    names = names_at(case.finding.origin)
    held = case.evidence.held.rpartition(".")[2]
    if _is_call_of(names.call, (*_THREADS, held)):
        return names.target
    is_started = names.method == "start" and _is_made_by(case, names.receiver, _THREADS)
    return names.receiver if is_started else ""


def _end_pool(case: Case) -> str:
    """Return how to shut a pool of workers down."""
    end, kind = end_of_pool(case.evidence), type_of_pool(case.evidence)
    alike = [name for name, other in ENDS.items() if other == end]
    name = _pool(case, tuple(_last(kind) for kind in alike))
    if name:
        return (
            f"shut it down in a `finally`, when you are done with it: `{name}.{end}()`"
        )
    text = "use it in a with statement, which ends it"
    return f"{text}: `with {_last(kind)}() as ...`" if kind else text


def _last(dotted: str) -> str:
    return dotted.rpartition(".")[2]


def _pool(case: Case, types: tuple[str, ...]) -> str:
    """Return how the code calls a pool, "" if nothing shows that it is one."""
    names = names_at(case.finding.origin)
    if _is_call_of(names.call, types):
        return names.target
    submits = _SUBMITS.search(case.evidence.line)
    name = submits[1] if submits is not None else ""
    return name if _is_made_by(case, name, types) else ""


def _is_made_by(case: Case, name: str, types: tuple[str, ...]) -> bool:
    """Return whether the file that makes an object assigns one of a type to a name."""
    origin = case.finding.origin
    calls = calls_assigned_to(name, origin.file) if origin is not None else ()
    return bool(calls) and all(_is_call_of(call, types) for call in calls)


def _is_call_of(call: str, types: tuple[str, ...]) -> bool:
    return bool(call) and call.rpartition(".")[2] in types


def _error(case: Case) -> str:
    """Return how the code calls an exception that it puts away."""
    made = [step for step in getattr(case.path, "steps", ()) if step.is_new]
    is_error = bool(made) and made[0].is_a(EXCEPTION, EXCEPTION_ARGUMENTS)
    return names_at(case.finding.stored).argument if is_error else ""


def _error_text(case: Case) -> str:
    if typed_in.raise_again(case):
        return ""
    is_itself = case.is_put_away(EXCEPTION, EXCEPTION_ARGUMENTS)
    error = _error(case) or (case.stored.added if is_itself else "")
    return f"its text, `repr({error})`" if error else "only its text, by `repr()`"


def _handler_keeps(case: Case) -> str:
    made = [step for step in getattr(case.path, "steps", ()) if step.is_new]
    file = "keeps its file open, and " if _has_file(made) else ""
    return f"It {file}handles each later record once more"


def _has_file(steps: list[Step]) -> bool:
    return any(step.is_a("logging.FileHandler") for step in steps)


def _let_go(case: Case) -> str:
    """Return how to take out of a session what was put in, as the code shows it."""
    evidence = case.evidence
    if "partial_run" in evidence.line:
        return "finish each partial_run: fetch all that it was set up with"
    if "make_callable(" in evidence.line:
        return "make the callable once, before the loop"
    if any("Queue" in function for function in evidence.native):
        return "take out of the queue as much as you put in: `queue.dequeue()`"
    if any("SessionHandle" in function for function in evidence.native):
        return "delete the handle of the session: `handle.delete()`"
    return ""


def _scope(case: Case) -> str:
    signals = case.evidence.signals
    return next((code for name, code in _SCOPES.items() if name in signals), "")


def _number(case: Case) -> str:
    """Return the code that turns a loss into numbers."""
    arrays, is_itself = case.evidence.arrays, _is_tensor(case)
    added = case.stored.added if case.put_away is not None else ""
    name = (case.object or added) if is_itself else ""
    name = name or names_at(case.finding.origin).target
    if any(array.shape not in ((), (1,)) for array in arrays):
        return f"`{name}.numpy().tolist()`" if name else "call its `.numpy().tolist()`"
    return f"`float({name})`" if name else "convert it by `float()`"


def _is_tensor(case: Case) -> bool:
    return case.put_away is None or case.put_away.short_type == "EagerTensor"


def _limit(case: Case) -> str:
    """Return how to limit a container, if the user's code writes its name."""
    if taken := typed_in.take_from_queue(case):
        return taken
    grown, code = grown_on(case.path), container_code(case.path)
    if grown is None or (not code and grown.steps[-1].kind == UNKNOWN):
        return ""  # an inner part of another object, which is no business of the user's
    names = re.findall(r"\w+", code.partition("[")[0])
    if names and not is_written(names[-1], case.files):
        return ""
    name = typed_in.container(case)
    filling = filling_at(case.finding.stored, name, case.files)
    return limit_of(case.path, name, case.object, filling)


def _method(case: Case) -> str:
    """Return how the code calls a bound method that it puts away."""
    if case.evidence.held != "builtins.method":
        return ""
    return names_at(case.finding.stored or case.finding.origin).argument


def _value(case: Case) -> str:
    """Return the name of a value that its own line makes longer, if it has slices."""
    finding = case.finding
    if case.evidence.held.rpartition(".")[2] not in _SLICED:
        return ""
    return names_at(finding.stored).grown or names_at(finding.origin).grown


def _emptied(case: Case) -> str:
    """Return how to empty a buffer to which the line writes."""
    finding = case.finding
    writes = [names_at(line) for line in (finding.stored, finding.origin)]
    name = next((n.receiver for n in writes if n.method in _WRITES and n.receiver), "")
    form = _EMPTY.get(case.evidence.held, "") if name else ""
    return form.replace("{name}", name)


def _figure(case: Case) -> str:
    """Return a figure of pyplot as the code calls it, or ``"all"`` of them."""
    for line in (case.finding.origin, *case.finding.stack):
        names = names_at(line)
        if _is_call_of(names.call, ("figure",)) and names.target:
            return names.target
        if _is_call_of(names.call, ("subplots",)) and names.first:
            return names.first
    return '"all"'


def _enter(case: Case) -> str:
    return form_of(_lines(case))[0]


def _exit(case: Case) -> str:
    return form_of(_lines(case))[1]


def _manager(case: Case) -> str:
    return manager_of(case.finding.lines) or "context manager"


def _lines(case: Case) -> tuple[Origin, ...]:
    """Return the lines of a context manager: those of the failing calls come last."""
    failing = case.finding.failing
    last = failing.first.origin if failing is not None else None
    return (*case.finding.lines, *filter(None, [last]))


def _stack(case: Case) -> tuple[str, str]:
    """Return the call that makes an ExitStack, and what it is assigned to."""
    lines = case.finding.lines
    found = (stack_made_in(line.file, line.function) for line in lines)
    return next(filter(None, found), ("", ""))


def _in_with(case: Case) -> str:
    """Return the with statement for an ExitStack."""
    call = _stack(case)[0]
    word = "async with" if "Async" in call else "with"
    return f"`{word} {call} as stack: ...`" if call else ""


def _take_over(case: Case) -> str:
    name = _stack(case)[1]
    return f"`{name} = stack.pop_all()`" if name else ""


def _guard(case: Case) -> Guard | None:
    found = map(guard_after, case.finding.lines)
    return next((guard for guard in found if guard is not None), None)


def _guard_code(case: Case) -> str:
    guard = _guard(case)
    return "" if guard is None else f"`{guard.code}`"


def _opening(case: Case) -> str:
    guard = _guard(case)
    return "" if guard is None else f"`{guard.opening}`"


def _is_sized(path: RetainingPath | None) -> bool:
    return path is not None and any(e.is_sized for e in path.expressions())


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One place: how to find what it stands for, and how the page of causes reads."""

    find: Callable[[Case], str]
    shown: str


PLACES: Mapping[str, Place] = {
    "holder": Place(find=_holder, shown="the holder"),
    "limit": Place(
        find=_limit,
        shown="`del history[:-10]` after each append, or make it a "
        "`collections.deque(maxlen=10)`",
    ),
    "container": Place(find=typed_in.container, shown="f"),
    "declared": Place(find=lambda case: case.declared, shown=_DECLARED),
    "remove": Place(find=typed_in.remove, shown="`callbacks.remove(f)`"),
    "method": Place(find=_method, shown="f"),
    "value": Place(find=_value, shown="x"),
    "emptied": Place(find=_emptied, shown="`buffer.seek(0)`, `buffer.truncate()`"),
    "argument": Place(find=lambda case: case.evidence.argument, shown="n"),
    "object": Place(find=lambda case: case.object, shown="x"),
    "opened": Place(find=_opened, shown="a file, a socket or a pipe"),
    "close": Place(find=_close, shown="close it: `x.close()`, or what its type has"),
    "closing": Place(find=_closing, shown="`with contextlib.closing(x): ...`"),
    "descriptor": Place(
        find=_descriptor, shown="close a descriptor in a `finally`: `os.close(fd)`"
    ),
    "ending": Place(find=_ending, shown="`x.close()`, if its type has such a method"),
    "end_thread": Place(
        find=_end_thread, shown="let it return from the line where it waits, then join"
    ),
    "end_pool": Place(
        find=_end_pool,
        shown="shut it down in a `finally`, when you are done with it: "
        "`pool.shutdown()`",
    ),
    "error": Place(find=_error, shown="error"),
    "error_text": Place(find=_error_text, shown="its text, `repr(error)`"),
    "handler_keeps": Place(
        find=_handler_keeps, shown="It handles each later record once more"
    ),
    "let_go": Place(find=_let_go, shown="take out what you put in"),
    "scope": Place(find=_scope, shown="`with strategy.scope(): ...`"),
    "number": Place(find=_number, shown="`float(loss)`"),
    "figure": Place(find=_figure, shown="figure"),
    "enter": Place(find=_enter, shown="__enter__"),
    "exit": Place(find=_exit, shown="__exit__"),
    "manager": Place(find=_manager, shown="manager"),
    "in_with": Place(find=_in_with, shown="`with ExitStack() as stack: ...`"),
    "guard": Place(find=_guard_code, shown="`try: ... finally: ...`"),
    "opening": Place(find=_opening, shown="`session = open_session()`"),
    "take_over": Place(find=_take_over, shown="`self.stack = stack.pop_all()`"),
    "end_task": Place(
        find=typed_in.end_task,
        shown="let it go when it is done: `task.add_done_callback(tasks.discard)`, and "
        "end it when nobody waits for it: `task.cancel()`",
    ),
    "end_future": Place(
        find=typed_in.end_future,
        shown="drop it when it is done: `future.add_done_callback(pending.discard)`",
    ),
    "unregister": Place(find=typed_in.unregister, shown="`atexit.unregister(f)`"),
    "weakly": Place(find=typed_in.weakly, shown="`cache[key] = f(weakref.ref(key))`"),
    "default": Place(
        find=typed_in.default,
        shown="`seen=None`, and `seen = [] if seen is None else seen` as its first "
        "line",
    ),
    "copy_parameter": Place(
        find=typed_in.copy_parameter, shown="`values = values.copy()`"
    ),
    "copy_part": Place(find=typed_in.copy_part, shown="`array[:10].copy()`"),
    "keep_numbers": Place(
        find=typed_in.keep_numbers, shown="`model.fit(x, y).history`"
    ),
    "record_text": Place(find=typed_in.record_text, shown="`record.getMessage()`"),
    "detach": Place(
        find=typed_in.detach,
        shown="detach it when it is no longer needed: `finalizer.detach()`",
    ),
    "remove_filter": Place(
        find=typed_in.remove_filter,
        shown="take it off in a `finally`: `logger.removeFilter(f)`",
    ),
    "tees": Place(find=typed_in.tees, shown="first, second"),
    "mock": Place(find=typed_in.mock, shown="mock"),
    "pickler": Place(find=typed_in.pickler, shown="pickler"),
    "close_queue": Place(
        find=typed_in.close_queue,
        shown="if all that is known is a line that fills it, in a `finally`: "
        "`queue.close()`, `queue.join_thread()`",
    ),
    "reset_variable": Place(
        find=typed_in.reset_variable,
        shown="reset the variable in a `finally`: `variable.reset(token)`",
    ),
    "cut_link": Place(
        find=typed_in.cut_link,
        shown="cut the link when you have made the next one: "
        "`app.state.previous = None`",
    ),
    "reset_weights": Place(
        find=typed_in.reset_weights,
        shown="keep the layer and reset it: `model.head.set_weights(start)`, with "
        "`start = model.head.get_weights()` before the loop",
    ),
    "call_on_data": Place(find=typed_in.call_on_data, shown="`head(backbone(x))`"),
    "iterated": Place(find=typed_in.iterated, shown="dataset"),
    "end_session": Place(
        find=typed_calls.end_session,
        shown="use a with statement: `with tf.compat.v1.Session() as session: ...`",
    ),
    "session": Place(find=typed_calls.session, shown="session"),
    "not_kept": Place(
        find=typed_calls.not_kept, shown="leave out the line that keeps it"
    ),
    "unnamed_logger": Place(
        find=typed_calls.unnamed_logger, shown="`log = logging.Logger(name)`"
    ),
    "register_once": Place(
        find=typed_in.register_once, shown="register once, before the loop"
    ),
    "raise_again": Place(
        find=typed_in.raise_again,
        shown="drop the traceback of the last time: `raise ERROR.with_traceback(None)`",
    ),
    "function_once": Place(
        find=typed_calls.function_once, shown="`step = tf.function(f)`"
    ),
    "call_itself": Place(find=typed_calls.call_itself, shown="`f(x)`"),
    "concrete_once": Place(
        find=typed_calls.concrete_once,
        shown="`concrete = step.get_concrete_function(x)`",
    ),
    "loaded_once": Place(
        find=typed_calls.loaded_once, shown="`model = tf.saved_model.load(path)`"
    ),
    "built_once": Place(
        find=typed_calls.built_once,
        shown="`operation = weight.assign(1.0)` before the loop, "
        "`session.run(operation)` in it",
    ),
    "open_shape": Place(
        find=typed_calls.open_shape,
        shown="`@tf.function(input_signature=[...])`; or "
        "`@tf.function(reduce_retracing=True)`",
    ),
    "as_tensor": Place(find=typed_calls.as_tensor, shown="`tf.constant(n)`"),
    "pass_once": Place(
        find=typed_calls.pass_once,
        shown="`loss = model.loss` before the loop, `step(x, loss)` in it",
    ),
    "stacked": Place(find=typed_calls.stacked, shown="`numpy.stack(values)`"),
    "missing_part": Place(find=typed_in.missing_part, shown="all variables"),
}
