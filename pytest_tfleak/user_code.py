"""Tell user code from library code, and reduce a stack to its lines of user code.

The line that made an object is the innermost one of its stack that is neither in a
library nor in this package.

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
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from functools import lru_cache
from pathlib import Path
from types import FrameType
from types import ModuleType
from typing import Any

from pytest_tfleak.verdict import Origin

#: A frame is a file and a line; stacks begin with the innermost frame.
Frame = tuple[str, int]
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

#: How many frames tracemalloc must keep: many frames of Keras and TensorFlow lie
#: between the user's line and the allocation.
DEPTH = 128
_MOST_CALLERS = 8
PACKAGE = str(Path(__file__).parent)
_GENERATED = "__autograph_generated_file"
#: Bits of a type's ``__flags__`` that say what precedes an object in its memory block:
#: the garbage collector's header,
_HAS_COLLECTORS_HEAD = 1 << 14
#: and, since Python 3.11, pointers that tracemalloc's own ``get_object_traceback()``
#: does not account for.
_HAS_POINTERS = (1 << 3) | (1 << 4)
_HEAD = 16  # bytes, of either
_flags: Any = type.__dict__["__flags__"].__get__  # whatever a metaclass says
#: Where in a file code is that was compiled under another name, such as a doctest.
_EXCERPTS: dict[str, Frame] = {}


def register_excerpt(name: str, file: str, line: int) -> None:
    """Tell where code compiled as ``name`` begins in a file, before it runs."""
    _EXCERPTS[name] = (file, line)


@lru_cache(maxsize=1 << 14)  # TensorFlow and Keras alone have 4,000 files
def is_users(file: str) -> bool:
    """Return whether a file is user code: not installed, standard library or ours."""
    file = _EXCERPTS.get(file, (file, 1))[0]
    if file.startswith("<"):
        return file.startswith("<ipython")
    path = Path(file)
    if _GENERATED in path.name or {"site-packages", "dist-packages"} & set(path.parts):
        return False
    if any(path.is_relative_to(folder) for folder in _library_folders()):
        return False
    return not (_is_entry_script(path) or _is_installed_elsewhere(path))


def is_of_users(name: str) -> bool:
    """Return whether user code defines a type, given its full name."""
    module = name
    while module := module.rpartition(".")[0]:
        if type(sys.modules.get(module)) is ModuleType:
            return bool(file_of_module(module))
    return False


def file_of_module(name: str) -> str:
    """Return the file of a module of user code, "" for any other module."""
    module = sys.modules.get(name)
    file = vars(module).get("__file__") if type(module) is ModuleType else None
    return file if type(file) is str and is_users(file) else ""


@cache
def _library_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return (*(paths[name] for name in names), site.getusersitepackages(), PACKAGE)


def _is_entry_script(path: Path) -> bool:
    """Return whether a file is a start script that an installer made: ``bin/pytest``.

    On Windows, the script is packed into ``Scripts/pytest.exe``.
    """
    if any(folder.suffix.lower() == ".exe" for folder in path.parents):
        return True
    return path.suffix != ".py" and str(path.parent) in _script_folders()


@cache
def _script_folders() -> frozenset[str]:
    schemes = sysconfig.get_scheme_names()
    found = {sysconfig.get_path("scripts", scheme) for scheme in schemes}
    return frozenset({*found, str(Path(sys.executable).parent)})


def _is_installed_elsewhere(path: Path) -> bool:
    """Return whether ``pip install --target`` installed a file."""
    folders = (f for f in sys.path if type(f) is str and f and path.is_relative_to(f))
    return any(
        path.relative_to(folder).as_posix() in _installed_in(folder)
        for folder in folders
    )


@cache
def _installed_in(folder: str) -> frozenset[str]:
    """Return the files that wheels installed into a folder, as their RECORDs list them.

    An editable install keeps its RECORD elsewhere, so its files count as user code.
    """
    files = set()
    for record in Path(folder).glob("*.dist-info/RECORD"):
        with suppress(OSError, UnicodeDecodeError, csv.Error):
            rows = csv.reader(record.read_text("utf-8").splitlines())
            files |= {row[0] for row in rows if row and row[0].endswith(".py")}
    return frozenset(files)


def users_frames(frame: FrameType | None, most: int = 8) -> list[Frame]:
    """Return the lines of user code from a running frame outwards, innermost first.

    They end where this package called the user's code.
    """
    lines: list[Frame] = []
    while frame is not None and len(lines) < most:
        file = frame.f_code.co_filename
        if lines and file.startswith(PACKAGE):
            break
        if is_users(file):
            lines.append((file, frame.f_lineno))
        frame = frame.f_back
    return lines


def is_import(frames: Sequence[Frame]) -> bool:
    """Return whether a stack of user code imports a module."""
    return any(_is_outside_functions(*frame) for frame in frames)


def _is_outside_functions(file: str, line: int) -> bool:
    """Return whether a line runs while its module is imported.

    The lines of doctests and of notebooks belong to no function. A lambda has no name.
    """
    if file.startswith("<") or function_at(file, line):
        return False
    return "lambda" not in linecache.getline(file, line)


def origin_of(frames: Sequence[Frame]) -> tuple[Origin | None, tuple[Origin, ...]]:
    """Return the innermost line of user code, and the lines of user code above it."""
    lines = lines_of(frames)
    if not lines:
        return None, ()
    return lines[0], tuple(lines[1 : 1 + _MOST_CALLERS])


def lines_of(frames: Sequence[Frame]) -> list[Origin]:
    """Return the lines of user code in a stack."""
    return [_line(*frame) for frame in frames if is_users(frame[0])]


def _line(name: str, line: int) -> Origin:
    file, first = _EXCERPTS.get(name, (name, 1))
    line += first - 1
    return Origin(
        file=file,
        line=line,
        function=function_at(file, line) or "<module>",
        text=linecache.getline(file, line).strip(),
    )


def function_at(file: str, line: int) -> str:
    """Return the qualified name of the function around a line, "" outside of any."""
    innermost = ""
    for name, node in definitions_in(file).items():
        if isinstance(node, ast.ClassDef):
            continue
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        if first <= line <= (node.end_lineno or node.lineno):
            innermost = name  # nested functions come after the outer one
    return innermost


@lru_cache(maxsize=16)
def tree_of(file: str) -> ast.Module | None:
    """Return the syntax tree of a file, None if it cannot be read."""
    try:
        return ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return None


@lru_cache(maxsize=16)
def definitions_in(file: str) -> Mapping[str, Definition]:
    """Return the functions and classes of a file by their qualified names."""
    tree = tree_of(file)
    return {} if tree is None else dict(_definitions_in(tree, ""))


def _definitions_in(tree: ast.AST, within: str) -> Iterator[tuple[str, Definition]]:
    for node in ast.iter_child_nodes(tree):
        name = within
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            name = f"{within}.{node.name}".lstrip(".")
            yield name, node
        yield from _definitions_in(node, name)


def frames_of(made: object) -> list[Frame]:
    """Return the stack that allocated an object, [] if tracemalloc was off then."""
    ask = _traceback_of_block()
    if ask is not None and tracemalloc.is_tracing():
        for head in _heads(_flags(type(made))):
            frames = ask(0, id(made) - head)
            if frames is not None:
                return list(frames)
    found = tracemalloc.get_object_traceback(made)
    if found is not None:
        return [(frame.filename, frame.lineno) for frame in reversed(found)]
    return []


def _heads(flags: int) -> tuple[int, ...]:
    """Return how many bytes may precede an object in its block, likeliest first."""
    if not flags & _HAS_COLLECTORS_HEAD:
        return (0,)
    if flags & _HAS_POINTERS:  # before 3.11, these bits had no meaning
        return (2 * _HEAD, _HEAD)
    return (_HEAD, 2 * _HEAD)


@cache
def _traceback_of_block() -> Any:
    """Return the C function that looks up a block's stack, None if there is none."""
    ask: Any = getattr(ctypes.pythonapi, "_PyTraceMalloc_GetTraceback", None)
    if ask is not None:
        ask.restype = ctypes.py_object
        ask.argtypes = [ctypes.c_uint, ctypes.c_void_p]
    return ask
