"""Find the places that leave memory behind, in the stacks of one capture.

A capture holds all blocks that were never freed. Those that only the first iteration
set up, or only the last one left, are no leak. To tell them apart, look at how the
allocations of a stack are spread over the iterations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from itertools import groupby
from itertools import pairwise
from statistics import median
from typing import Any

#: How many frames of a stack are shown at most.
MOST_FRAMES = 12
#: The widest gap allowed between two iterations that leave something, as a share of all
#: iterations. It depends on how many iterations leave something: with these numbers, a
#: leak in every 5th of ten differs from the first and the last iteration. For any other
#: number, the gap may be twice the mean.
_WIDEST = {2: 0.7, 3: 0.6}
#: A function's callees are named instead of it if each of them holds at least the first
#: share of its bytes, and all of them together hold the second.
_EACH, _TOGETHER = 0.25, 0.75
_SMALLEST = 0.03  # the share of all bytes below which a place is not shown

_PAIRS = {"(": ")", "<": ">"}
_OPERATOR = re.compile(r"\boperator\s*(\(\)|[-+*/%^&|~!=<>]+|\w[^(]*)")
_NOISE = re.compile(
    r"\(anonymous namespace\)::|\[abi:\w+\]|\s\[clone [^]]*\]|\s*\[\.?\w+\.\d+\]"
    r"|^(non-)?virtual thunk to "
)
_INLINE = re.compile(r"::(lts_\d+|__cxx11|__\d|__ndk1)(?=::)")
_LAMBDA = re.compile(r"::(\{lambda[^}]*\}|'lambda\d*'|\$_\d+|_FUN|operator\(\)).*$")

#: Functions at which the interpreter enters or leaves C: frames beyond them belong to
#: another call.
_BORDER = re.compile(
    r"_?PyEval_|_PyObject_VectorcallTstate$|_?PyObject_(Vectorcall|Call)"
    r"|_PyObject_MakeTpCall|_?PyVectorcall|_PyFunction_Vectorcall|object_vacall"
    r"|cfunction_|method_vectorcall|vectorcall_|trace_call_function|type_call$|slot_"
    r"|_?Py_X?(DECREF|CLEAR|Dealloc|Finalize)|gc_collect"
    r"|ffi_|_?PyCFuncPtr_|_call_function_pointer|_ctypes_callproc|pybind11::|nanobind::"
)
#: Functions that pass memory on: they tell that it was allocated, but not why.
_WRAPPER = re.compile(
    r"(__GI_+)?(libc_)?(malloc|calloc|realloc|reallocarray|memalign|posix_memalign"
    r"|aligned_alloc|valloc|pvalloc|mmap(64)?)$"
    r"|operator new|default_(malloc|calloc|realloc)$|_?npy_alloc"
    r"|(tsl|tensorflow|xla|port)::(.*::)?\w*(Malloc|Realloc|Calloc)$"
    r"|(tsl|tensorflow|xla)::(.*::)?\w*Allocat(or|ion)\w*::\w*$"
    r"|tensorflow::core::Arena::|(tsl|tensorflow)::gtl::"
    r"|google::protobuf::|absl::(Inlined|FixedArray|flat_hash|node_hash|Cord)"
)
#: Functions that only connect two others, anywhere in a stack.
_PLUMBING = re.compile(
    r"std::|__gnu_cxx::|absl::(\w+::)*\w*(internal|FunctionRef|AnyInvocable)"
    r"|Eigen::(\w+::)*\w*ThreadPool|(tsl|tensorflow)::.*\bPThread\b"
    r"|(tensorflow|tsl|xla)$|(__)?clone3?$|start_thread$|_start$|__libc_start|main$"
)
_PYTHON_MALLOC = re.compile(
    r"_?Py(Object|Mem)_(Raw)?(Malloc|Calloc|Realloc)|pymalloc|gc_alloc"
)
_PYTHON_MEMORY = re.compile(r"_?Py[A-Z]\w*$|gc_alloc$|new_arena$")

Line = tuple[str, int]  # file, line


@dataclass(slots=True)
class Pile:
    """What one stack left in each iteration."""

    counts: list[int]
    sizes: list[int]

    @classmethod
    def empty(cls, iterations: int) -> Pile:
        """Return an empty pile."""
        return cls([0] * iterations, [0] * iterations)

    def add(self, iteration: int, count: int, size: int) -> None:
        """Add what one iteration left."""
        self.counts[iteration] += count
        self.sizes[iteration] += size

    def add_all(self, other: Pile) -> None:
        """Add what another stack left."""
        for iteration, count in enumerate(other.counts):
            self.add(iteration, count, other.sizes[iteration])


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """One stack and its pile."""

    functions: tuple[str, ...]  # native functions, innermost first
    lines: tuple[Line, ...]  # lines of user code, innermost first
    python_memory: bool
    pile: Pile


def find_sites(stacks: Iterable[Stack]) -> list[dict[str, Any]]:
    """Return the places that steadily leave memory, largest first.

    Each place is a dict of builtins: ``frames``, ``lines``, ``python_memory``, and
    ``bytes`` and ``allocations`` per iteration.
    """
    sites: list[dict[str, Any]] = []
    for (lines, python_memory), root in _trees(stacks).items():
        if not is_steady(root.pile.counts):
            continue
        for path in _heaviest_paths(root, (), 0):
            site = {
                "frames": [n.function for n in path if n.function][:MOST_FRAMES],
                "lines": [list(line) for line in lines],
                "python_memory": python_memory,
                "bytes": path[0].rate,
                "allocations": per_iteration(path[0].pile.counts),
            }
            sites.append(site)
    least = _SMALLEST * sum(site["bytes"] for site in sites)
    sites = [site for site in sites if site["bytes"] > least]
    return sorted(sites, key=lambda site: -site["bytes"])


@dataclass(slots=True)
class _Node:
    """A function in the tree of callees below one line."""

    function: str  # "" for the line itself
    pile: Pile
    callees: dict[str, _Node] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Return how many bytes it leaves per iteration."""
        return per_iteration(self.pile.sizes)


def _trees(
    stacks: Iterable[Stack],
) -> dict[tuple[tuple[Line, ...], bool], _Node]:
    """Return a tree of callees for each line of user code."""
    roots: dict[tuple[tuple[Line, ...], bool], _Node] = {}
    for stack in stacks:
        iterations = len(stack.pile.counts)
        node = roots.setdefault(
            (stack.lines, stack.python_memory), _Node("", Pile.empty(iterations))
        )
        node.pile.add_all(stack.pile)
        for function in reversed(stack.functions):
            node = node.callees.setdefault(
                function, _Node(function, Pile.empty(iterations))
            )
            node.pile.add_all(stack.pile)
    return roots


def _heaviest_paths(
    node: _Node, callers: tuple[_Node, ...], least: float
) -> list[tuple[_Node, ...]]:
    """Return the paths, innermost first, to the functions that hold most bytes.

    Descend as long as a few callees together hold ``least`` bytes; 0 stands for a share
    of the function's own bytes.
    """
    path = (node, *callers)
    steady = [c for c in node.callees.values() if is_steady(c.pile.counts)]
    if not node.function:  # this node is a line: show the functions it calls
        found = [below for c in steady for below in _heaviest_paths(c, (), 0)]
        return found or [path]
    rate = node.rate
    least = least or _TOGETHER * rate
    large = [callee for callee in steady if callee.rate >= _EACH * rate]
    if not large or sum(callee.rate for callee in large) < least:
        return [path]
    if len(large) == 1:
        return _heaviest_paths(large[0], path, least)
    return [below for c in large for below in _heaviest_paths(c, path, 0)]


def is_steady(counts: Sequence[int]) -> bool:
    """Return whether these counts of what each iteration left show a leak.

    A leak in every iteration, or in every 5th of ten::

        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]    [0, 0, 0, 0, 1, 0, 0, 0, 0, 1]

    Set up once; left by the last iteration; both; the last two are kept::

        [9, 0, 0, 0, 0, 0, 0, 0, 0, 0]    [0, 0, 0, 0, 0, 0, 0, 0, 0, 3]
        [9, 0, 0, 0, 0, 0, 0, 0, 0, 3]    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
    """
    filled = [iteration for iteration, count in enumerate(counts) if count]
    if len(filled) < 2:
        return False
    around = filled[0] + len(counts) - filled[-1]
    widest = max(around, *(after - before for before, after in pairwise(filled)))
    share = _WIDEST.get(len(filled), 2 / len(filled))
    return widest <= max(1, share * len(counts))


def per_iteration(amounts: Sequence[int]) -> float:
    """Return the amount of a typical iteration.

    It is the median, which ignores what the first iteration set up besides the leak, or
    the mean if many iterations leave nothing.
    """
    filled = sum(1 for amount in amounts if amount)
    if filled >= 0.8 * len(amounts):
        return float(median(amounts))
    return sum(amounts) / len(amounts)


def functions_of(symbols: Iterable[str]) -> tuple[str, ...]:
    """Return the native functions of a stack, innermost first, up to Python.

    Leave out the wrappers around ``malloc`` and the plumbing between functions.
    """
    names = _up_to_python(symbols)
    below = names[_wrappers(names) :] or names[-1:]
    kept = [n for n in below if not (_PLUMBING.match(n) or _PYTHON_MALLOC.match(n))]
    return tuple(name for name, _ in groupby(kept or below))


def is_python_memory(symbols: Iterable[str]) -> bool:
    """Return whether Python allocated the memory, or NumPy did for an array."""
    names = _up_to_python(symbols)
    below = names[_wrappers(names) :]
    return bool(below) and _PYTHON_MEMORY.match(below[0]) is not None


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
    """Return how many of the innermost functions only pass memory on."""
    for index, name in enumerate(names):
        if not (_WRAPPER.match(name) or _PLUMBING.match(name)):
            return index
    return len(names)


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
    name = name.rpartition(" ")[2]  # without the return type, which templates show
    for number, operator in enumerate(operators):
        space = " " if operator[0].isalpha() else ""
        name = name.replace(f"\0{number}\0", f"{space}{operator}")
    name = _LAMBDA.sub("", _INLINE.sub("", name))
    name = re.sub(r"^__GI_+", "", name).strip(":*&")
    return "" if set(name) <= {"?"} else name


def _without(text: str, opening: str, closing: str) -> str:
    """Return a text without these brackets and all between them."""
    depth, kept = 0, []
    for previous, char in zip(" " + text, text, strict=False):
        if char == opening:
            depth += 1
        elif char == closing and depth and previous != "-":
            depth -= 1
        elif not depth:
            kept.append(char)
    return "".join(kept)
