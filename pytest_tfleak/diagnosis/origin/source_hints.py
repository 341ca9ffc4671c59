"""Read the source code around a line: whether it closes an object, and what names it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import ast
import linecache
import re
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from pytest_tfleak.verdict import Origin

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_EXITS = ("__exit__", "__aexit__")
_ENDS = ("close", "join", "shutdown")


def hints_of(origin: Origin | None) -> frozenset[str]:
    """Return what the code around a line does, as keywords.

    ``closes``: further down, the function closes what the line makes, but it did not
    get there. ``exits``: the line is in a class whose ``__exit__`` closes something.
    """
    if origin is None:
        return frozenset()
    return _hints(origin.file, origin.line)


@lru_cache(maxsize=64)
def _hints(file: str, line: int) -> frozenset[str]:
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return frozenset()
    around = list(_around(tree, line))
    hints = set()
    for node in around:
        if isinstance(node, ast.ClassDef):
            methods = {n.name: n for n in node.body if isinstance(n, _FUNCTIONS)}
            if any(_closes(methods, name, ()) for name in _EXITS):
                hints.add("exits")
    functions = [node for node in around if isinstance(node, _FUNCTIONS)]
    if functions:
        names = {name for node in around for name in _names_set_by(node)}
        if any(name in names for name in _closed_below(functions[-1], line)):
            hints.add("closes")
    return frozenset(hints)


def _around(tree: ast.AST, line: int) -> Iterator[ast.AST]:
    """Yield the nodes around a line, outermost first."""
    for node in ast.iter_child_nodes(tree):
        first = getattr(node, "lineno", None)
        last = getattr(node, "end_lineno", None)
        if first is not None and last is not None and first <= line <= last:
            yield node
            yield from _around(node, line)


def _names_set_by(node: ast.AST) -> list[str]:
    """Return the targets that a node assigns to, as code: ``self.session``."""
    if isinstance(node, ast.Assign):
        return [ast.unparse(target) for target in node.targets]
    if isinstance(node, (ast.AnnAssign, ast.NamedExpr)):
        return [ast.unparse(node.target)]
    return []


def _closes(
    methods: Mapping[str, ast.AST], name: str, callers: tuple[str, ...]
) -> bool:
    """Return whether a method, or another method that it calls, closes something."""
    if name not in methods or name in callers:
        return False
    if _closed_below(methods[name], 0):
        return True
    called = [
        node.func.attr
        for node in ast.walk(methods[name])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "self"
    ]
    return any(_closes(methods, other, (*callers, name)) for other in called)


def _closed_below(function: ast.AST, line: int) -> list[str]:
    """Return what a function closes after a line, as code."""
    return [
        ast.unparse(node.func.value)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr in _ENDS and node.lineno > line
    ]


def is_written(name: str, files: Sequence[str]) -> bool:
    """Return whether one of some files has this word, or none of them can be read."""
    texts = list(filter(None, map(_text, dict.fromkeys(files))))
    return not texts or any(re.search(rf"\b{name}\b", text) for text in texts)


def _text(file: str) -> str:
    return "".join(linecache.getlines(file))


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The names that a statement gives to what it makes or stores, as code."""

    target: str = ""  # what it assigns the new object to: ``self.sock``
    argument: str = ""  # the variable that it hands over: ``x`` of ``seen.append(x)``
    receiver: str = ""  # the object whose method it calls: ``seen``


def names_at(origin: Origin | None) -> Names:
    """Return the names in the statement at a line; empty ones if it has none."""
    return Names() if origin is None else _names(origin.file, origin.line)


@lru_cache(maxsize=64)
def _names(file: str, line: int) -> Names:
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return Names()
    statements = [node for node in _around(tree, line) if isinstance(node, ast.stmt)]
    if not statements:
        return Names()
    last = statements[-1]
    targets = [ast.parse(name, mode="eval").body for name in _names_set_by(last)]
    if isinstance(last, ast.AugAssign):  # x += y
        return Names(target=_variable(last.target))
    if isinstance(last, (ast.Assign, ast.AnnAssign)) and len(targets) == 1:
        if isinstance(targets[0], ast.Subscript):  # seen[key] = x
            return Names(argument=_variable(last.value))
        return Names(target=_variable(targets[0]))
    if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call):
        called, arguments = last.value.func, last.value.args
        return Names(
            argument=_variable(arguments[-1]) if arguments else "",
            receiver=_variable(called.value)
            if isinstance(called, ast.Attribute)
            else "",
        )
    return Names()


def _variable(node: ast.expr | None) -> str:
    """Return a variable or an attribute as code, "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = _variable(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return ""
