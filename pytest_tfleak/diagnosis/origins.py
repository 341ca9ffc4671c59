"""Which line of the user's code made an object, from the stack of its allocation.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import ast
import csv
import ctypes
import linecache
import site
import sys
import sysconfig
import tracemalloc
from collections.abc import Iterable
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from functools import lru_cache
from pathlib import Path
from typing import Any

from pytest_tfleak.verdict import Origin

#: A frame is a file and a line; stacks begin with the innermost frame.
Frame = tuple[str, int]

#: Frames of Keras and TensorFlow lie between the user's line and the allocation.
DEPTH = 128
_PACKAGE = str(Path(__file__).parents[1])
_GENERATED = "__autograph_generated_file"
_MOST_CALLERS = 8
#: Bits of a type's ``__flags__`` that say what lies between a block and its object. Of
#: what 3.11 and later put there tracemalloc.get_object_traceback() knows nothing.
_HAS_COLLECTORS_HEAD, _HAS_POINTERS = 1 << 14, (1 << 3) | (1 << 4)
_HEAD = 16  # bytes


@lru_cache(maxsize=1 << 14)  # TensorFlow and Keras alone are 4,000 files
def is_users(file: str) -> bool:
    """Say whether a file is not the standard library's, an installed one's or ours."""
    if file.startswith("<"):
        return file.startswith("<ipython")
    path = Path(file)
    if _GENERATED in path.name or {"site-packages", "dist-packages"} & set(path.parts):
        return False
    if any(path.is_relative_to(folder) for folder in _folders()):
        return False
    return not _is_installed_elsewhere(path)


def _is_installed_elsewhere(path: Path) -> bool:
    """Say whether ``pip install --target`` brought a file."""
    folders = (f for f in sys.path if type(f) is str and f and path.is_relative_to(f))
    return any(
        path.relative_to(folder).as_posix() in _installed_in(folder)
        for folder in folders
    )


@cache
def _installed_in(folder: str) -> frozenset[str]:
    """Return the files that wheels brought into a folder, by their records.

    A project that is installed as editable has its record elsewhere.
    """
    files = set()
    for record in Path(folder).glob("*.dist-info/RECORD"):
        with suppress(OSError, UnicodeDecodeError, csv.Error):
            rows = csv.reader(record.read_text("utf-8").splitlines())
            files |= {row[0] for row in rows if row and row[0].endswith(".py")}
    return frozenset(files)


def origin_of(frames: Sequence[Frame]) -> tuple[Origin | None, tuple[Origin, ...]]:
    """Return the innermost line that is the user's, and the user's lines above it."""
    lines = [_line(*frame) for frame in frames if is_users(frame[0])]
    if not lines:
        return None, ()
    return lines[0], tuple(lines[1 : 1 + _MOST_CALLERS])


def frames_of(made: object) -> list[Frame]:
    """Return the stack that allocated an object while tracemalloc was on, or []."""
    ask = _asker()
    if ask is not None and tracemalloc.is_tracing():
        for head in _heads(type(made).__flags__):
            frames = ask(0, id(made) - head)
            if frames is not None:
                return list(frames)
    found = tracemalloc.get_object_traceback(made)
    if found is not None:
        return [(frame.filename, frame.lineno) for frame in reversed(found)]
    return []


def _heads(flags: int) -> tuple[int, ...]:
    """Return the bytes between an object and its block, the likeliest first."""
    if not flags & _HAS_COLLECTORS_HEAD:
        return (0,)
    if flags & _HAS_POINTERS:  # bits without a meaning until 3.11
        return (2 * _HEAD, _HEAD)
    return (_HEAD, 2 * _HEAD)


def function_at(file: str, line: int) -> str:
    """Return the qualified name of the function around a line, "" outside of any."""
    best = ""
    for start, end, name in _functions(file):
        if start <= line <= end:
            best = name  # later ones lie within earlier ones
    return best


def _line(file: str, line: int) -> Origin:
    return Origin(
        file=file,
        line=line,
        function=function_at(file, line) or "<module>",
        text=linecache.getline(file, line).strip(),
    )


@lru_cache(maxsize=64)
def _functions(file: str) -> tuple[tuple[int, int, str], ...]:
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return ()
    return tuple(_spans(tree, ""))


def _spans(tree: ast.AST, within: str) -> Iterable[tuple[int, int, str]]:
    for node in ast.iter_child_nodes(tree):
        name = within
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            name = f"{within}.{node.name}".lstrip(".")
            if not isinstance(node, ast.ClassDef):
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                yield first, node.end_lineno or node.lineno, name
        yield from _spans(node, name)


@cache
def _folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return (*(paths[name] for name in names), site.getusersitepackages(), _PACKAGE)


@cache
def _asker() -> Any:
    """Return the C function that knows the stack of a block, None without one."""
    ask: Any = getattr(ctypes.pythonapi, "_PyTraceMalloc_GetTraceback", None)
    if ask is not None:
        ask.restype = ctypes.py_object
        ask.argtypes = [ctypes.c_uint, ctypes.c_void_p]
    return ask
