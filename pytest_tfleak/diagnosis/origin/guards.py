"""Find what makes sure that an object is cleaned up, but begins some lines too late."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import NamedTuple

from pytest_tfleak.user_code import definitions_in
from pytest_tfleak.verdict import Origin

#: Methods of an ExitStack that register a clean-up.
_REGISTERS = ("callback", "push", "push_async_callback", "push_async_exit")
_WITHS = (ast.With, ast.AsyncWith)


class Guard(NamedTuple):
    """What cleans up what a statement before it has opened, also after an error."""

    code: str  # of the guard: ``stack.callback(stop, thread)``
    opening: str  # the statement before it: ``thread = start()``
    between: range  # the lines where an error leaves it open


def guard_after(line: Origin) -> Guard | None:
    """Return what cleans up what a line opens, None if nothing does or at once."""
    function = definitions_in(line.file).get(line.function)
    if function is None or isinstance(function, ast.ClassDef):
        return None
    statements = [node for node in ast.walk(function) if isinstance(node, ast.stmt)]
    opening = _assignment_at(line.line, statements)
    if opening is None:
        return None
    names, end = {*_names_set_by(opening)}, opening.end_lineno or opening.lineno
    for node in sorted(statements, key=lambda node: node.lineno):
        code = _as_guard(node, names)
        if code and node.lineno <= line.line <= (node.end_lineno or 0):
            return None  # it is opened inside of it
        if code and node.lineno > end:
            between = range(end + 1, node.lineno)
            return Guard(code, ast.unparse(opening), between) if between else None
    return None


def guarded_too_late(made: Iterable[Origin], ways: Sequence[Sequence[Origin]]) -> bool:
    """Return whether all failing calls lie between an opening and its guard."""
    for line in made:
        guard = guard_after(line)
        if guard is not None and all(
            any(
                (one.file, one.function) == (line.file, line.function)
                and one.line in guard.between
                for one in way
            )
            for way in ways
        ):
            return True
    return False


def _assignment_at(line: int, statements: Iterable[ast.stmt]) -> ast.stmt | None:
    return next(
        (
            node
            for node in statements
            if isinstance(node, (ast.Assign, ast.AnnAssign))
            and node.lineno <= line <= (node.end_lineno or line)
        ),
        None,
    )


def _names_set_by(node: ast.stmt) -> Iterator[str]:
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    for target in targets:
        parts = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
        yield from map(ast.unparse, parts)


def _as_guard(node: ast.stmt, names: set[str]) -> str:
    """Return the code of a statement if it makes sure to clean up one of some names."""
    if isinstance(node, ast.Try) and _mentions(node.finalbody, names):
        return "try: ... finally: ..."
    if isinstance(node, _WITHS):
        items = [item.context_expr for item in node.items]
        if _mentions(items, names):
            return f"{ast.unparse(node).splitlines()[0]} ..."
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        method = getattr(node.value.func, "attr", "")
        if method in _REGISTERS and _mentions(node.value.args, names):
            return ast.unparse(node)
    return ""


def _mentions(nodes: Iterable[ast.AST], names: set[str]) -> bool:
    return any(
        isinstance(inner, (ast.Name, ast.Attribute)) and ast.unparse(inner) in names
        for node in nodes
        for inner in ast.walk(node)
    )
