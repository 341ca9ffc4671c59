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
FILES = sorted(path.stem for path in PLANTED.glob("causes_*.py"))
#: Hints to the tests and to the linter, which tell a reader nothing.
_HINT = re.compile(r"  # (planted|noqa\b.*)$", re.MULTILINE)
_MARKER = "pytest.mark.tfleak"
#: Settings of a whole file that make a difference to what is found.
_TELLING = ("faults", "known")
#: Rows of a message that say what leaks, and why.
_ROWS = (
    *("what grows", "what", "held by", "stored at", "made at", "only when"),
    *("cause", "what to do"),
)
_BLOCKS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The source of a test that leaks, and of its mended twin."""

    file: str
    test: str
    leaking: str
    mended: str  # without what the leaking one has, too


def planted_in(name: str) -> list[str]:
    """Return the names of the tests in a planted file."""
    source = (PLANTED / f"{name}.py").read_text("utf-8")
    return re.findall(r"^def (test_\w+)", source, re.MULTILINE)


def slug_of(test: str) -> str:
    """Return the cause that a planted test is named after."""
    name = test.removeprefix("test_").removesuffix("_mended")
    return name.partition("__")[0].replace("_", "-")


def planted_pairs() -> dict[str, Pair]:
    """Return the first pair of each cause, by slug."""
    pairs: dict[str, Pair] = {}
    for name in FILES:
        module = _Module((PLANTED / f"{name}.py").read_text("utf-8"))
        for test in module.tests():
            slug = slug_of(test)
            if not test.endswith("_mended") and slug not in pairs:
                pairs[slug] = _pair(f"{name}.py", module, test)
    return pairs


def rows_to_show(message: str) -> str:
    """Return the rows of a message's first leak that say what leaks, and why.

    Lines of the test file have no numbers, since every change of the file moves them,
    and temporary folders have no names.
    """
    headline, _, rest = message.partition("\n\n")
    kept, is_kept = [headline, ""], False
    for line in rest.partition("\n\n")[0].splitlines():
        label = line[2:13].strip() if not line.startswith(" " * 3) else ""
        is_kept = label in _ROWS if label else is_kept
        if is_kept:
            kept.append(line)
    text = "\n".join(kept) + "\n"
    text = re.sub(r" *# ?p?l?a?n?t?e?d?(\.\.\.)?$", "", text, flags=re.MULTILINE)
    text = re.sub(r"/tmp/\S*/", "/tmp/…/", text)
    return re.sub(r"(\btest_\w+\.py):\d+", r"\1", text)


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
        own = [node for node in self._body if not isinstance(node, _IMPORTS)]
        self._own = {name for node in own for name in _made(node)}
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
        # such as LOG.addHandler(Records()), or tf.register(Wrapped, convert)
        first = next((name for name in self._used(node) if name in self._own), "")
        return first in names

    def _used(self, node: ast.stmt) -> Iterator[str]:
        """Yield the names that a statement reads, and fixtures that it asks for."""
        if isinstance(node, ast.FunctionDef):
            is_test = node.name.startswith("test_")
            if is_test and any(self._decorators(node)):
                yield "pytest"
            if is_test or any("fixture" in ast.unparse(d) for d in node.decorator_list):
                yield from (arg.arg for arg in node.args.args)
        decorators = [*getattr(node, "decorator_list", [])]
        hidden = [d for d in decorators if _is_marker(self._resolved(d))]
        yield from _read(node, hidden)


def _read(node: ast.AST, hidden: Iterable[ast.AST] = ()) -> Iterator[str]:
    """Yield the names that a node reads, but for what its functions have themselves."""
    if node in hidden:
        return
    if isinstance(node, ast.Name):
        yield node.id
        return
    own: set[str] = set()
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        inner = list(ast.walk(node))
        own = {n.arg for n in inner if isinstance(n, ast.arg)}
        stored = [n for n in inner if isinstance(n, ast.Name)]
        own |= {n.id for n in stored if isinstance(n.ctx, ast.Store)}
        own -= {name for n in inner if isinstance(n, ast.Global) for name in n.names}
    for child in ast.iter_child_nodes(node):
        yield from (name for name in _read(child, hidden) if name not in own)


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
