"""What the code around a line does, read from its source.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from functools import lru_cache

from pytest_tfleak.verdict import Origin

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_CLOSES = {"close", "shutdown", "join", "__exit__"}
#: A line in one of these makes something again and again.
_LOOPS = (ast.For, ast.AsyncFor, ast.While)


def hints_of(origin: Origin | None) -> frozenset[str]:
    """Return words for what the function and the class around a line do.

    ``closes``: there is a ``close()`` in the function or the class, so an error or a
    ``return`` has passed it by; ``exits``: the class has an ``__exit__``; ``yields``:
    the function is a generator; ``loops``: the line stands in a loop.
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
    found = set()
    around = list(_around(tree, line))
    scope = next((n for n in reversed(around) if isinstance(n, _FUNCTIONS)), None)
    for node in around:
        if isinstance(node, ast.ClassDef):
            names = {n.name for n in node.body if isinstance(n, _FUNCTIONS)}
            if "__exit__" in names:
                found.add("exits")
        if isinstance(node, _LOOPS):
            found.add("loops")
    if scope is not None:
        inside = list(ast.walk(scope))
        if any(isinstance(n, (ast.Yield, ast.YieldFrom)) for n in inside):
            found.add("yields")
        if any(_is_close(n) and n.lineno > line for n in inside):
            found.add("closes")
    return frozenset(found)


def _around(tree: ast.AST, line: int) -> Iterator[ast.AST]:
    """Yield the nodes that a line lies in, the outermost first."""
    for node in ast.iter_child_nodes(tree):
        first = getattr(node, "lineno", None)
        last = getattr(node, "end_lineno", None)
        if first is not None and last is not None and first <= line <= last:
            yield node
            yield from _around(node, line)


def _is_close(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _CLOSES
    )
