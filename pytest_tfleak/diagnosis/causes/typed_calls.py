"""Code of remedies that repeats a call of the user's: a session, a traced function.

Each function finds what one place of a remedy stands for (places.py), and returns ""
where the case does not show it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import ast

from pytest_tfleak.diagnosis.causes.case import Case
from pytest_tfleak.diagnosis.origin.source_hints import Call
from pytest_tfleak.diagnosis.origin.source_hints import call_around
from pytest_tfleak.diagnosis.origin.source_hints import call_at
from pytest_tfleak.diagnosis.origin.source_hints import call_passing
from pytest_tfleak.diagnosis.origin.source_hints import code_at
from pytest_tfleak.diagnosis.origin.source_hints import is_returned
from pytest_tfleak.user_code import tree_of
from pytest_tfleak.verdict import Origin

_INTERACTIVE = "InteractiveSession("
_REDUCES = "`@tf.function(reduce_retracing=True)`"
_INTEGERS = ("tf.int32", "tf.int64")
#: Methods of a session that run what their first argument is.
_RUNS = ("run", "partial_run", "make_callable")


def end_session(case: Case) -> str:
    """Return how to close the session that the line opens."""
    opening = _opening(case)
    if opening is None:
        return "use a with statement: `with tf.compat.v1.Session() as session: ...`"
    line, call = opening
    name = call.target or "session"
    if "." in name or _is_returned_beside(line, name):
        return f"close it when you are done with it: `{name}.close()`"
    if not call.code:
        return ""
    made = case.finding.origin
    if made is not None and _INTERACTIVE in made.text and line != made:
        # an InteractiveSession has no __enter__, and is made in another function
        return f"close it in a `finally`: `{name} = {call.code}`, `{name}.close()`"
    code = call.code.replace(_INTERACTIVE, "Session(")
    return f"use a with statement: `with {code} as {name}: ...`"


def _opening(case: Case) -> tuple[Origin, Call] | None:
    """Return the call that opens a session, in the function that uses it."""
    finding, names = case.finding, ["*Session"]
    lines = [finding.origin, *finding.stack, finding.stored]
    opening: tuple[Origin, Call] | None = None
    for line in filter(None, lines):
        found = call_at(line, names)
        if found is not None:
            opening, names = (line, found), [line.function.rpartition(".")[2]]
            if not is_returned(line, found.target):
                return opening
    return opening


def _is_returned_beside(line: Origin, name: str) -> bool:
    """Return whether a function returns what it calls so among other things."""
    tree = tree_of(line.file)
    functions = [
        node
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.lineno <= line.line <= (node.end_lineno or 0)
    ]
    inner = functions[-1:]  # outer ones come first
    returned = [
        n.value for f in inner for n in ast.walk(f) if isinstance(n, ast.Return)
    ]
    together = [value.elts for value in returned if isinstance(value, ast.Tuple)]
    return any(name in map(ast.unparse, parts) for parts in together)


def session(case: Case) -> str:
    """Return how the code calls the session that the line opens."""
    call = _call(case, "*Session")
    return (call.target if call is not None else "") or "session"


def not_kept(case: Case) -> str:
    """Return which line puts a session away, which the session must not be."""
    code, stored = code_at(case.finding.stored), case.finding.stored
    is_apart = stored is not None and stored != case.finding.origin
    return f"leave out `{code}`" if code and is_apart and case.path else ""


def unnamed_logger(case: Case) -> str:
    """Return the line that makes a logger which logging does not keep."""
    call = _call(case, "getLogger", "getChild")
    name = call.code.partition("(")[2] if call is not None else ""
    if call is None or not name or not call.target:
        return ""
    return f"`{call.target} = logging.Logger({name}`"


def function_once(case: Case) -> str:
    """Return the line that makes a tf.function, as a library may do for the user."""
    name = case.evidence.function
    made = f"`{name} = tf.function({name})`" if name.isidentifier() else ""
    return _once(case, "step", "function") or made


def call_itself(case: Case) -> str:
    """Return the call of the function that the line hands to py_function."""
    call = _call(case, "py_function")
    node = ast.parse(call.code, mode="eval").body if call and call.code else None
    match node:
        case ast.Call(args=[function, ast.List(elts=inputs), *_]):
            values = ", ".join(map(ast.unparse, inputs))
            is_named = isinstance(function, (ast.Name, ast.Attribute))
            return f"`{ast.unparse(function)}({values})`" if is_named else ""
    return ""


def concrete_once(case: Case) -> str:
    """Return the line that makes a concrete function."""
    return _once(case, "concrete", "get_concrete_function", "wrap_function")


def loaded_once(case: Case) -> str:
    """Return the line that loads a SavedModel."""
    return _once(case, "model", "load", "load_model")


def built_once(case: Case) -> str:
    """Return a line that adds to a graph as two: what it makes, and what it runs."""
    call = _call_that_runs(code_at(case.finding.origin))
    if call is None or not isinstance(call.func, ast.Attribute):
        return ""
    if call.func.attr in _RUNS and call.args and isinstance(call.args[0], ast.Call):
        name, made = "operation", ast.unparse(call.args[0])
        call.args[0] = ast.Name(name)
    elif isinstance(call.func.value, ast.Call):
        name, made = "made", ast.unparse(call.func.value)
        call.func.value = ast.Name(name)
    else:
        return ""
    return f"`{name} = {made}` before the loop, `{ast.unparse(call)}` in it"


def _call_that_runs(code: str) -> ast.Call | None:
    statement = ast.parse(code).body[0] if code else None
    value = getattr(statement, "value", None)
    return value if isinstance(value, ast.Call) else None


def open_shape(case: Case) -> str:
    """Return the decorators that leave shapes open; first one that can be typed in."""
    if not case.declared:
        return _REDUCES
    is_whole = "[...]" not in case.declared
    ways = (case.declared, _REDUCES) if is_whole else (_REDUCES, case.declared)
    return "; or ".join(ways)


def as_tensor(case: Case) -> str:
    """Return what is passed to a tf.function, as a tensor."""
    call = _passing(case)
    value = (call.passed if call is not None else "") or case.evidence.argument
    if not value:
        return ""
    is_integer = any(dtype in case.declared for dtype in _INTEGERS)
    code = f"`tf.constant({value})`"
    if not is_integer:
        return code
    return f"{code} (or `tf.constant({value}, tf.float32)` where it meets floats)"


def pass_once(case: Case) -> str:
    """Return the lines that make an object once, and pass it in each call."""
    call, name = _passing(case), case.evidence.argument
    passed = (call.passed if call is not None else "") or name
    if call is None or passed == name or not name.isidentifier():
        return f"make `{passed}` before the loop" if passed else ""
    if call.code.count(passed) != 1:
        return f"make `{passed}` before the loop"
    again = call.code.replace(passed, name)
    return f"`{name} = {passed}` before the loop, `{again}` in it"


def stacked(case: Case) -> str:
    """Return a list that is passed to a tf.function, as one tensor."""
    call = _passing(case)
    value = call.passed if call is not None else ""
    return f"`numpy.stack({value})`" if value and value[0] not in "{(" else ""


def _once(case: Case, name: str, *functions: str) -> str:
    call = _call(case, *functions) or call_around(case.finding.origin, functions)
    if call is None or not call.code:
        return ""
    target = call.target if call.target.isidentifier() else name
    return f"`{target} = {call.code}`"


def _call(case: Case, *functions: str) -> Call | None:
    lines = (case.finding.origin, *case.finding.stack, case.finding.stored)
    calls = (call_at(line, functions) for line in lines if line is not None)
    return next(filter(None, calls), None)


def _passing(case: Case) -> Call | None:
    function, argument = case.evidence.function, case.evidence.argument
    lines = (case.finding.origin, *case.finding.stack)
    calls = (
        call_passing(line, function.rpartition(".")[2], argument)
        for line in lines
        if line is not None and function and argument
    )
    return next(filter(None, calls), None)
