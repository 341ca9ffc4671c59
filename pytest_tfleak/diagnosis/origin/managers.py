"""Tell how a context manager fails to clean up when a call in it or its block fails.

The evidence is where the object was made, through which functions the failing calls
went, and the source of these functions.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from collections.abc import Sequence

from pytest_tfleak.user_code import definitions_in
from pytest_tfleak.verdict import Origin

_ENTERS, _EXITS = ("__enter__", "__aenter__"), ("__exit__", "__aexit__")
_DECORATORS = ("contextmanager", "asynccontextmanager")
_STACKS = ("ExitStack", "AsyncExitStack")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def how_it_fails(made: Sequence[Origin], failing: Sequence[Sequence[Origin]]) -> str:
    """Return the cause in the table that fits, "" if none does.

    ``made`` are the lines that made and stored the object, with their callers;
    ``failing`` are the lines of each failing call, with theirs.
    """
    if not failing:
        return ""
    if all(any(_name(line) in _EXITS for line in lines) for lines in failing):
        return "exit-fails-before-closing"
    places = {(line.file, line.function) for line in made}
    enters = {place for place in places if place[1].rpartition(".")[2] in _ENTERS}
    if enters and all(
        any((line.file, line.function) in enters for line in lines) for lines in failing
    ):
        return "enter-fails-after-opening"
    for line in made:
        if _yields_unguarded(line.file, line.function):
            return "yield-without-finally"
        if _closes_on_success(line.file, line.function):
            return "exit-only-on-success"
    if any(_fills_stack(*place) for place in _common(places, failing)):
        return "exit-stack-half-filled"
    return ""


def _name(line: Origin) -> str:
    return line.function.rpartition(".")[2]


def _common(
    places: Iterable[tuple[str, str]], failing: Sequence[Sequence[Origin]]
) -> list[tuple[str, str]]:
    """Return the functions that also every failing call went through."""
    ways = [{(line.file, line.function) for line in lines} for lines in failing]
    return [place for place in places if all(place in way for way in ways)]


def _yields_unguarded(file: str, function: str) -> bool:
    """Return whether a function is a context manager without a try around its yield."""
    found = definitions_in(file).get(function)
    if not isinstance(found, _FUNCTIONS):
        return False
    decorators = (ast.unparse(node).rpartition(".")[2] for node in found.decorator_list)
    if not any(name in _DECORATORS for name in decorators):
        return False
    guarded = {
        id(inner)
        for node in ast.walk(found)
        if isinstance(node, ast.Try)
        for part in node.body
        for inner in ast.walk(part)
    }
    yields = [node for node in ast.walk(found) if isinstance(node, ast.Yield)]
    return bool(yields) and not any(id(node) in guarded for node in yields)


def _closes_on_success(file: str, function: str) -> bool:
    """Return whether the class of a method has an exit that asks for the error."""
    owner = function.rpartition(".")[0]
    for name in _EXITS:
        found = definitions_in(file).get(f"{owner}.{name}")
        if isinstance(found, _FUNCTIONS) and _asks_for_error(found):
            return True
    return False


def _asks_for_error(exit_: _Function) -> bool:
    arguments = [arg.arg for arg in exit_.args.args[1:3]]
    if exit_.args.vararg is not None:
        arguments.append(exit_.args.vararg.arg)
    return any(
        isinstance(name, ast.Name) and name.id in arguments
        for node in ast.walk(exit_)
        if isinstance(node, ast.If)
        for name in ast.walk(node.test)
    )


def _fills_stack(file: str, function: str) -> bool:
    """Return whether a function makes an ExitStack outside of a with statement."""
    found = definitions_in(file).get(function)
    if found is None:
        return False
    return any(
        isinstance(node, (ast.Assign, ast.AnnAssign))
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func).rpartition(".")[2] in _STACKS
        for node in ast.walk(found)
    )
