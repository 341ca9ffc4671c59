"""Names of C and C++ functions, cut down to what tells a reader where he is.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Sequence
from itertools import groupby

#: Most frames of a stack that are worth keeping.
DEPTH = 12

_PAIRS = {"(": ")", "<": ">"}
_OPERATOR = re.compile(r"\boperator\s*(\(\)|[-+*/%^&|~!=<>]+|\w[^(]*)")
_NOISE = re.compile(
    r"\(anonymous namespace\)::|\[abi:\w+\]|\s\[clone [^]]*\]|\s*\[\.?\w+\.\d+\]"
    r"|^(non-)?virtual thunk to "
)
_INLINE = re.compile(r"::(lts_\d+|__cxx11|__\d|__ndk1)(?=::)")
_LAMBDA = re.compile(r"::(\{lambda[^}]*\}|'lambda\d*'|\$_\d+|_FUN|operator\(\)).*$")

#: The interpreter's way from one Python function into C: what called from Python.
_BORDER = re.compile(
    r"_?PyEval_|_PyObject_VectorcallTstate$|_?PyObject_(Vectorcall|Call)"
    r"|_PyObject_MakeTpCall|_?PyVectorcall|_PyFunction_Vectorcall|object_vacall"
    r"|cfunction_|method_vectorcall|vectorcall_|trace_call_function|type_call$|slot_"
    r"|_?Py_X?(DECREF|CLEAR|Dealloc|Finalize)|gc_collect"
    r"|ffi_|_?PyCFuncPtr_|_call_function_pointer|_ctypes_callproc|pybind11::|nanobind::"
)
#: What hands memory on: it says that something was allocated, and not what for.
_WRAPPER = re.compile(
    r"(__GI_+)?(libc_)?(malloc|calloc|realloc|reallocarray|memalign|posix_memalign"
    r"|aligned_alloc|valloc|pvalloc|mmap(64)?)$"
    r"|operator new|default_(malloc|calloc|realloc)$|_?npy_alloc"
    r"|(tsl|tensorflow|xla|port)::(.*::)?\w*(Malloc|Realloc|Calloc)$"
    r"|(tsl|tensorflow|xla)::(.*::)?\w*Allocat(or|ion)\w*::\w*$"
    r"|tensorflow::core::Arena::|(tsl|tensorflow)::gtl::"
    r"|google::protobuf::|absl::(Inlined|FixedArray|flat_hash|node_hash|Cord)"
)
#: What stands between two functions anywhere in a stack.
_PLUMBING = re.compile(
    r"std::|__gnu_cxx::|absl::(\w+::)*\w*(internal|FunctionRef|AnyInvocable)"
    r"|Eigen::(\w+::)*\w*ThreadPool|(tsl|tensorflow)::.*\bPThread\b"
    r"|(tensorflow|tsl|xla)$|(__)?clone3?$|start_thread$|_start$|__libc_start|main$"
)
_PYTHON_MALLOC = re.compile(
    r"_?Py(Object|Mem)_(Raw)?(Malloc|Calloc|Realloc)|pymalloc|gc_alloc"
)
_PYTHON_MEMORY = re.compile(r"_?Py[A-Z]\w*$|gc_alloc$|new_arena$")


def shorten(symbol: str) -> str:
    """Return a demangled symbol without its templates and arguments, "" if unknown."""
    operators: list[str] = []

    def hide(match: re.Match[str]) -> str:
        operators.append(match.group(1))
        return f"operator\0{len(operators) - 1}\0"

    name = _OPERATOR.sub(hide, _NOISE.sub("", symbol))
    for opening, closing in _PAIRS.items():
        name = _without(name, opening, closing)
    name = re.sub(r"\s(const|volatile|&&?)(?=\s|$|::)", "", name.strip())
    name = name.rpartition(" ")[2]  # without the type that a template returns
    for number, operator in enumerate(operators):
        space = " " if operator[0].isalpha() else ""
        name = name.replace(f"\0{number}\0", f"{space}{operator}")
    name = _LAMBDA.sub("", _INLINE.sub("", name))
    name = re.sub(r"^__GI_+", "", name).strip(":*&")
    return "" if set(name) <= {"?"} else name


def readable(symbols: Iterable[str]) -> tuple[str, ...]:
    """Return the functions that allocated and those that called them, up to Python.

    Both begin with the innermost. The wrappers around ``malloc`` are left out.
    """
    names = _up_to_python(symbols)
    told = names[_wrappers(names) :] or names[-1:]
    kept = [n for n in told if not (_PLUMBING.match(n) or _PYTHON_MALLOC.match(n))]
    return tuple(name for name, _ in groupby(kept or told))


def is_python_memory(symbols: Iterable[str]) -> bool:
    """Say whether Python's allocator, or NumPy for an array, took the memory."""
    names = _up_to_python(symbols)
    rest = names[_wrappers(names) :]
    return bool(rest) and _PYTHON_MEMORY.match(rest[0]) is not None


def _up_to_python(symbols: Iterable[str]) -> list[str]:
    names = []
    for symbol in symbols:
        name = shorten(symbol)
        if _BORDER.match(name):
            break
        if name:
            names.append(name)
    return names


def _wrappers(names: Sequence[str]) -> int:
    """Return how many of the innermost functions only hand memory on."""
    for index, name in enumerate(names):
        if not (_WRAPPER.match(name) or _PLUMBING.match(name)):
            return index
    return len(names)


def _without(text: str, opening: str, closing: str) -> str:
    depth, kept = 0, []
    for previous, char in zip(" " + text, text, strict=False):
        if char == opening:
            depth += 1
        elif char == closing and depth and previous != "-":
            depth -= 1
        elif not depth:
            kept.append(char)
    return "".join(kept)
