"""Tell how a context manager fails to clean up when a call in it or its block fails.

The evidence is where the object was made, through which functions the failing calls
went, what became of the error, and the source of these functions.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_tfleak.diagnosis.origin.guards import guarded_too_late
from pytest_tfleak.user_code import Definition
from pytest_tfleak.user_code import Frame
from pytest_tfleak.user_code import definitions_in
from pytest_tfleak.user_code import function_at
from pytest_tfleak.user_code import tree_of
from pytest_tfleak.verdict import Origin

ENTERS, EXITS = ("__enter__", "__aenter__"), ("__exit__", "__aexit__")
_ASYNC = ("__aenter__", "__aexit__")
_DECORATORS = ("contextmanager", "asynccontextmanager")
_STACKED = ("enter_context", "enter_async_context")
_STACKS = ("ExitStack", "AsyncExitStack")
#: Names of what ``except`` has to catch to see the error that cancels a task.
_OF_CANCELLED = ("BaseException", "CancelledError")
_WITHS = (ast.With, ast.AsyncWith)
Place = tuple[str, str]  # a file, and a function in it
_NONE: Mapping[Place, Sequence[Place]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedWay:
    """One call that failed, and what became of its error."""

    #: The line of the call, and the lines that led to it.
    lines: Sequence[Origin]
    #: The lines of another error that was raised while this one was on its way.
    raised: Sequence[Origin] = ()
    #: The ``with`` statement whose ``__exit__`` ended it.
    ended_at: Frame | None = None


def how_it_fails(
    made: Sequence[Origin],
    failing: Sequence[FailedWay],
    exits: Mapping[Place, Sequence[Place]] = _NONE,
) -> str:
    """Return the cause in the table that fits, "" if none does.

    ``made`` are the lines that made and stored the object, with their callers.
    ``exits`` are the exits of the managers that ran, their own and those that they
    inherit, by their enter.
    """
    if not failing:
        return ""
    for slug, fits in _BY_CALLS:
        if fits(made, failing):
            return slug
    for number, line in enumerate(made):
        if _is_cancelled(line, made[number + 1 :], failing):
            return "cancelled-without-finally"
        if _yields_unguarded(line):
            return "yield-without-finally"
        checks = [*_checks_in(exits.get(_place(line)) or _exits_beside(line))]
        if checks:
            is_hidden = any(map(_returns_true, checks))
            return "exit-returns-true" if is_hidden else "exit-only-on-success"
    if any(_fills_stack(*place) for place in _common(made, failing)):
        return "exit-stack-half-filled"
    if guarded_too_late(made, [way.lines for way in failing]):
        return "guarded-too-late"
    return "exit-hides-error" if _is_hidden(made, failing) else ""


def _fails_in_exit(made: Sequence[Origin], failing: Sequence[FailedWay]) -> bool:
    return all(
        any(_is_exit_of(line, made) for line in (*way.raised, *way.lines))
        for way in failing
    )


def _is_exit_of(line: Origin, made: Sequence[Origin]) -> bool:
    """Return whether a line belongs to the exit of a manager that made the object."""
    if _name(line.function) in EXITS:
        own = _classes(line)
        return any(not own.isdisjoint(_classes(one)) for one in made)
    yields = _yields_of(line)
    is_after = bool(yields) and line.line > max(node.lineno for node in yields)
    return is_after and _place(line) in map(_place, made)


def _fails_in_enter(made: Sequence[Origin], failing: Sequence[FailedWay]) -> bool:
    enters = {_place(line) for line in made if _name(line.function) in ENTERS}
    return bool(enters) and all(
        any(_place(line) in enters for line in way.lines) for way in failing
    )


def _fails_before_yield(made: Sequence[Origin], failing: Sequence[FailedWay]) -> bool:
    places = {_place(line) for line in made}
    return all(
        any(_is_before_yield(line) and _place(line) in places for line in way.lines)
        for way in failing
    )


def _is_before_yield(line: Origin) -> bool:
    yields = _yields_of(line)
    return bool(yields) and line.line < min(node.lineno for node in yields)


def _is_cancelled(
    line: Origin, callers: Sequence[Origin], failing: Sequence[FailedWay]
) -> bool:
    """Return whether an async manager cleans up unless the task is cancelled.

    It is, if the call failed in another task: outside of what entered the manager.
    """
    tries = [
        node
        for node in ast.walk(_definition(line) or ast.Pass())
        if isinstance(node, ast.Try) and node.handlers and not node.finalbody
    ]
    yields = {id(node) for node in _yields_of(line)}
    around = [t for t in tries if any(id(inner) in yields for inner in _within(t.body))]
    if not (around and isinstance(_definition(line), ast.AsyncFunctionDef)):
        return False
    if any(_sees_cancelled(handler) for node in around for handler in node.handlers):
        return False
    user = next((one for one in callers if _place(one) != _place(line)), line)
    places = {_place(line), _place(user)}
    return not any(_place(one) in places for way in failing for one in way.lines)


def _sees_cancelled(handler: ast.ExceptHandler) -> bool:
    caught = "BaseException" if handler.type is None else ast.unparse(handler.type)
    return any(name in caught for name in _OF_CANCELLED)


def _yields_unguarded(line: Origin) -> bool:
    """Return whether a line is in a manager that lets an error pass its clean-up by."""
    yields = _yields_of(line)
    guarded = {
        id(inner)
        for node in ast.walk(_definition(line) or ast.Pass())
        if _guards(node, line)
        for inner in ast.walk(node)
    }
    return any(id(node) not in guarded for node in yields)


def _guards(node: ast.AST, line: Origin) -> bool:
    """Return whether a statement cleans up what a line makes, in any case."""
    if isinstance(node, _WITHS):
        return any(_covers(item.context_expr, line.line) for item in node.items)
    return isinstance(node, ast.Try) and bool(node.finalbody)


def _exits_beside(line: Origin) -> list[Place]:
    owner = line.function.rpartition(".")[0]
    return [(line.file, f"{owner}.{name}") for name in EXITS]


def _checks_in(exits: Iterable[Place]) -> Iterator[ast.If]:
    """Yield where an exit, or another one that it calls, asks for the error."""
    for file, function in exits:
        exit_ = definitions_in(file).get(function)
        if isinstance(exit_, (ast.FunctionDef, ast.AsyncFunctionDef)):
            arguments = _arguments_of(exit_)
            for node in ast.walk(exit_):
                if isinstance(node, ast.If) and arguments & _names_in(node.test):
                    yield node
            if not any(_calls_super(node) for node in ast.walk(exit_)):
                return


def _calls_super(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "super"


def _returns_true(check: ast.If) -> bool:
    return any(
        isinstance(node, ast.Return)
        and isinstance(node.value, ast.Constant)
        and node.value.value is True
        for node in _within([*check.body, *check.orelse])
    )


def _arguments_of(exit_: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Return the names under which an exit is given the error."""
    arguments = {arg.arg for arg in exit_.args.args[1:3]}
    if exit_.args.vararg is not None:
        arguments.add(exit_.args.vararg.arg)
    return arguments


def _names_in(test: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(test) if isinstance(node, ast.Name)}


def _common(made: Sequence[Origin], failing: Sequence[FailedWay]) -> list[Place]:
    """Return the functions that made it and that every failing call went through."""
    ways = [{_place(line) for line in way.lines} for way in failing]
    return [place for place in map(_place, made) if all(place in way for way in ways)]


def _fills_stack(file: str, function: str) -> bool:
    return stack_made_in(file, function) is not None


def stack_made_in(file: str, function: str) -> tuple[str, str] | None:
    """Return the call that makes an ExitStack outside of a with statement.

    The second item is what it is assigned to. Return None if there is none.
    """
    for node in ast.walk(definitions_in(file).get(function) or ast.Pass()):
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            made = node.value
            if isinstance(made, ast.Call) and _last_name(made.func) in _STACKS:
                target = (
                    node.targets[0] if isinstance(node, ast.Assign) else node.target
                )
                return ast.unparse(made), ast.unparse(target)
    return None


def _is_hidden(made: Sequence[Origin], failing: Sequence[FailedWay]) -> bool:
    """Return whether each error ended at a with statement of what made the object."""
    return all(
        way.ended_at is not None
        and any(_is_made_until_end_of(way.ended_at, line) for line in made)
        for way in failing
    )


def _is_made_until_end_of(block: Frame, line: Origin) -> bool:
    """Return whether a line is in a with statement, or precedes it in its function."""
    file, first = block
    is_same = line.file == file and function_at(file, first) == line.function
    return is_same and any(
        isinstance(node, _WITHS) and node.lineno == first and line.line <= _end(node)
        for node in ast.walk(tree_of(file) or ast.Pass())
    )


def is_manager(line: Origin) -> bool:
    """Return whether a line is of the enter of a manager, or of one with a yield."""
    return _name(line.function) in ENTERS or bool(_yields_of(line))


def enters_by_hand(line: Origin) -> bool:
    """Return whether the function of a line calls the enter of another manager."""
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in (*ENTERS, *_STACKED)
        and ast.unparse(node.func.value) != "super()"
        for node in ast.walk(_definition(line) or ast.Pass())
    )


def form_of(lines: Iterable[Origin]) -> tuple[str, str]:
    """Return how the manager in these lines calls its two halves."""
    for line in (lines := [*lines]):
        if _name(line.function) in (*ENTERS, *EXITS):
            break
        if _yields_of(line):
            return "the code in front of the yield", "the code after the yield"
    if any(_name(one.function) in _ASYNC or _has_async_exit(one) for one in lines):
        return "__aenter__", "__aexit__"
    return "__enter__", "__exit__"


def _has_async_exit(line: Origin) -> bool:
    owner = line.function.rpartition(".")[0]
    return f"{owner}.__aexit__" in definitions_in(line.file)


def manager_of(lines: Iterable[Origin]) -> str:
    """Return the name of the class whose enter is among some lines, or ""."""
    enters = (line.function for line in lines if _name(line.function) in ENTERS)
    return next(enters, "").rpartition(".")[0].rpartition(".")[2]


def _classes(line: Origin) -> set[Place]:
    """Return the class of a method, and those in its file that it derives from."""
    definitions = definitions_in(line.file)
    found: set[Place] = set()
    pending = [line.function.rpartition(".")[0]]
    while pending:
        name = pending.pop()
        definition = definitions.get(name)
        if isinstance(definition, ast.ClassDef) and (line.file, name) not in found:
            found.add((line.file, name))
            pending += map(_last_name, definition.bases)
    return found


def _yields_of(line: Origin) -> list[ast.Yield]:
    """Return where the function of a line yields, if it is a context manager."""
    found = _definition(line)
    if found is None or isinstance(found, ast.ClassDef):
        return []
    if not any(_last_name(node) in _DECORATORS for node in found.decorator_list):
        return []
    return [node for node in ast.walk(found) if isinstance(node, ast.Yield)]


def _definition(line: Origin) -> Definition | None:
    return definitions_in(line.file).get(line.function)


def _within(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    for node in nodes:
        yield from ast.walk(node)


def _covers(node: ast.expr, line: int) -> bool:
    return node.lineno <= line <= _end(node)


def _end(node: ast.expr | ast.stmt) -> int:
    return node.end_lineno or node.lineno


def _last_name(node: ast.expr) -> str:
    return ast.unparse(node).rpartition(".")[2]


def _name(function: str) -> str:
    return function.rpartition(".")[2]


def _place(line: Origin) -> Place:
    return line.file, line.function


_BY_CALLS = (
    ("exit-fails-before-closing", _fails_in_exit),
    ("enter-fails-after-opening", _fails_in_enter),
    ("fails-before-yield", _fails_before_yield),
)
