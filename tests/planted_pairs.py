"""Cut the leaking and the mended example of each cause out of the planted tests."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PLANTED = Path(__file__).parent / "leaks" / "planted"
#: Hints to the tests and to the linter, which tell a reader nothing.
_HINT = re.compile(r"  # (planted|noqa\b.*)$", re.MULTILINE)
_MARKER = "pytest.mark.tfleak"
#: Settings of a whole file that make a difference to what is found.
_TELLING = ("faults", "known")
_BLOCKS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The source of a test that leaks, and of its mended twin."""

    file: str
    test: str
    leaking: str
    mended: str  # without what the leaking one has, too


def planted_pairs() -> dict[str, Pair]:
    """Return the first pair of each cause, by slug."""
    pairs: dict[str, Pair] = {}
    for path in sorted(PLANTED.glob("causes_*.py")):
        module = _Module(path.read_text("utf-8"))
        for test in module.tests():
            slug = test.removeprefix("test_").partition("__")[0].replace("_", "-")
            if not test.endswith("_mended") and slug not in pairs:
                pairs[slug] = _pair(path.name, module, test)
    return pairs


def _pair(file: str, module: _Module, test: str) -> Pair:
    leaking = module.needed(test)
    mended = [node for node in module.needed(f"{test}_mended") if node not in leaking]
    return Pair(
        file=file,
        test=test,
        leaking=module.source_of(leaking),
        mended=module.source_of(mended),
    )


class _Module:
    """The statements of a test file, and which of them need which others."""

    def __init__(self, source: str) -> None:
        self._lines = source.splitlines()
        self._body = [
            node
            for node in ast.parse(source).body
            if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        ]
        self._markers = {
            name: node.value
            for node in self._body
            if isinstance(node, ast.Assign) and _is_marker(node.value)
            for name in _made(node)
        }

    def tests(self) -> Iterator[str]:
        """Yield the names of the tests, in the order of the file."""
        for node in self._body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield node.name

    def needed(self, test: str) -> list[ast.stmt]:
        """Return the statements that a test needs, in the order of the file."""
        names, kept = {test}, set[ast.stmt]()
        while True:
            found = {node for node in self._body if self._serves(node, names)} - kept
            if not found:
                return [node for node in self._body if node in kept]
            kept |= found
            names |= {name for node in found for name in self._used(node)}

    def source_of(self, nodes: Iterable[ast.stmt]) -> str:
        """Return statements as a reader would write them."""
        text = ""
        before: ast.stmt | None = None
        for node in nodes:
            text += f"{_gap(before, node)}{self._text(node)}\n"
            before = node
        return _HINT.sub("", text)

    def _text(self, node: ast.stmt) -> str:
        lines = self._lines[node.lineno - 1 : node.end_lineno]
        return "\n".join([*self._decorators(node), *lines])

    def _decorators(self, node: ast.stmt) -> Iterator[str]:
        if not isinstance(node, _BLOCKS):
            return
        markers = [d for d in map(self._resolved, node.decorator_list) if _is_marker(d)]
        if node.name.startswith("test_"):
            yield from (f"@{_code(m)}" for m in markers or self._of_file())
        for decorator in node.decorator_list:
            if not _is_marker(self._resolved(decorator)):
                end = decorator.end_lineno
                yield from self._lines[decorator.lineno - 1 : end]

    def _of_file(self) -> Iterator[ast.expr]:
        """Yield the marker of the file, as far as it makes a difference."""
        marker = self._markers.get("pytestmark")
        if isinstance(marker, ast.Call):
            told = [k for k in marker.keywords if k.arg in _TELLING]
            if told:
                yield ast.Call(func=marker.func, args=[], keywords=told)

    def _resolved(self, node: ast.expr) -> ast.expr:
        return self._markers.get(node.id, node) if isinstance(node, ast.Name) else node

    def _serves(self, node: ast.stmt, names: set[str]) -> bool:
        """Return whether a statement makes one of these names, or works on one."""
        made = set(_made(node))
        if made & set(self._markers):
            return False
        if made:
            return not made.isdisjoint(names)
        # such as LOG.addHandler(Records())
        return next(self._used(node), "") in names

    def _used(self, node: ast.stmt) -> Iterator[str]:
        """Yield the names that a statement reads, and fixtures that it asks for."""
        for part in self._parts(node):
            for inner in ast.walk(part):
                if isinstance(inner, ast.Name):
                    yield inner.id
                elif isinstance(inner, ast.arg):
                    yield inner.arg

    def _parts(self, node: ast.stmt) -> list[ast.AST]:
        if not isinstance(node, _BLOCKS):
            return [node]
        decorators = map(self._resolved, node.decorator_list)
        parts: list[ast.AST] = [*node.body, *getattr(node, "bases", [])]
        parts += [d for d in decorators if not _is_marker(d)]
        if node.name.startswith("test_") and any(self._decorators(node)):
            parts.append(ast.Name(id="pytest"))
        return parts if isinstance(node, ast.ClassDef) else [*parts, node.args]


def _gap(before: ast.stmt | None, node: ast.stmt) -> str:
    """Return the empty lines between two statements."""
    if before is None:
        return ""
    if isinstance(node, _BLOCKS) or isinstance(before, _BLOCKS):
        return "\n\n"
    if not isinstance(before, _IMPORTS):
        return ""
    is_new_group = not isinstance(node, _IMPORTS) or _is_std(before) != _is_std(node)
    return "\n" if is_new_group else ""


def _is_std(node: ast.Import | ast.ImportFrom) -> bool:
    name = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
    return str(name).partition(".")[0] in sys.stdlib_module_names


def _made(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, _BLOCKS):
        yield node.name
    elif isinstance(node, _IMPORTS):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0]
    else:
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                yield part.id


def _is_marker(node: ast.expr) -> bool:
    return ast.unparse(node).startswith(_MARKER)


def _code(node: ast.expr) -> str:
    return ast.unparse(node).replace("'", '"')
