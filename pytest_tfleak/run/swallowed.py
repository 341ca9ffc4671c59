"""Find the line that caught an error and did not let it through.

The outermost frame of a caught error's traceback is the one that caught it; its source
says how.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from pytest_tfleak.user_code import is_users
from pytest_tfleak.user_code import tree_of

#: Context managers that expect an error, by the beginnings of their names: TensorFlow's
#: test case adds more of unittest's kind. And one whose purpose is to swallow it.
_ASSERTING = ("raises", "assertRaises", "RaisesGroup")
_SUPPRESS = "suppress"
#: Since Python 3.11 also ``try`` with ``except*``, of the same attributes.
_TRIES = (ast.Try, getattr(ast, "TryStar", ast.Try))
_WITHS = (ast.With, ast.AsyncWith)


class Swallowed(NamedTuple):
    """Where user code caught an error, and by which words of its source."""

    file: str
    line: int
    by: str
    is_by_exit: bool = False  # whether it was the ``__exit__`` of a with statement


def where_swallowed(error: BaseException) -> Swallowed | None:
    """Return where user code caught an error that was raised.

    Return None if that code asserts on the error, or is not the user's.
    """
    trace = error.__traceback__
    if trace is None:
        return None
    file, line = trace.tb_frame.f_code.co_filename, trace.tb_lineno
    if not is_users(file):
        return None
    found = _catcher(file, line, tuple(cls.__name__ for cls in type(error).__mro__))
    return None if found is None else Swallowed(file, *found)


@lru_cache(maxsize=64)
def _catcher(
    file: str, line: int, classes: tuple[str, ...]
) -> tuple[int, str, bool] | None:
    """Return what catches an error of a line, as in Swallowed; None if it asserts.

    A ``with`` statement may let the error through to an ``except`` around it, so it is
    the answer only if there is none.
    """
    tree = tree_of(file)
    if tree is None:
        return line, "code that cannot be read", False
    manager: tuple[int, str, bool] | None = None
    for node in reversed([*_around(tree, line)]):
        if isinstance(node, _WITHS):
            called = {_called(item.context_expr) for item in node.items}
            if any(name.startswith(_ASSERTING) for name in called):
                return None
            words = f"`{_first_line(node)}`, whose __exit__ returns True"
            if _SUPPRESS in called:
                return node.lineno, f"`{_first_line(node)}`", True
            manager = manager or (node.lineno, words, True)
            continue
        for handler in node.handlers:
            if _catches(handler, classes) and not _raises_again(handler):
                return handler.lineno, f"`{_first_line(handler)}`", False
    return manager or (line, "this line", False)


def _around(tree: ast.AST, line: int) -> Iterator[ast.Try | ast.With | ast.AsyncWith]:
    """Yield the statements around a line that may catch its errors, outermost first."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (*_TRIES, *_WITHS)):
            first = node if isinstance(node, _WITHS) else node.body[0]
            if first.lineno <= line <= (node.body[-1].end_lineno or line):
                yield node
        yield from _around(node, line)


def _called(expression: ast.expr) -> str:
    """Return the last name of what an expression calls: ``raises``."""
    if not isinstance(expression, ast.Call):
        return ""
    function = expression.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _catches(handler: ast.ExceptHandler, classes: tuple[str, ...]) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = (ast.unparse(kind).rpartition(".")[2] for kind in kinds)
    return any(name in classes for name in names)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    """Return whether the last thing that a handler does is to raise."""
    return isinstance(handler.body[-1], ast.Raise)


def _first_line(node: ast.AST) -> str:
    return ast.unparse(node).splitlines()[0]
