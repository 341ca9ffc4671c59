"""Read the heap in use from the allocator that this process really uses.

Another allocator may replace that of the C library, for example by ``LD_PRELOAD``. Then
the C library's figures stay at 0, and no leak would show. So a figure is only used if
it rises when memory is allocated and falls when it is freed.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from functools import cache
from typing import Any
from typing import NamedTuple

#: Bytes to allocate: below and above the size from which allocators use mmap.
_SIZES = (64 * 1024, 1024 * 1024)
#: Another thread may change the figure meanwhile, but hardly in each try.
_TRIES = 20
#: The fields of glibc's ``struct mallinfo2``; the heap in use is ``uordblks``, and what
#: has a mapping of its own ``hblkhd``.
_MALLINFO2 = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)
_NARROW = 2**32  # bytes after which a figure of 32 bits begins again
#: Symbols by which an allocator is recognised, even if it has no figures.
_ALLOCATORS = {
    "mi_malloc": "mimalloc",
    "mallctl": "jemalloc",
    "MallocExtension_GetNumericProperty": "tcmalloc",
}

Read = Callable[[], int | None]


class HeapReader(NamedTuple):
    """Reads the bytes in use from one allocator."""

    name: str  # "" for the C library
    read: Read


def find_heap_reader() -> HeapReader | None:
    """Return the first reader whose figure follows allocations and frees."""
    memory = _raw_memory()
    for reader in _readers():
        if memory is None:
            if reader.read():  # allocations cannot be tried, so trust the figure
                return reader
        elif _follows(reader.read, *memory):
            return reader
    return None


def why_unread() -> str:
    """Return why no reader can be used."""
    for symbol, name in _ALLOCATORS.items():
        if _symbol(symbol) is not None:
            return f"{name} gives no heap figures"
    if _mallinfo2() is None and _read_c_library() is None:
        return "the C library gives no heap figures"
    return "no heap figure follows what is allocated"


def _readers() -> Iterator[HeapReader]:
    is_narrow = _symbol("mallinfo") is not None and _symbol("mallinfo2") is None
    through_psutil = _widen(_read_c_library) if is_narrow else _read_c_library
    yield HeapReader("", _mallinfo2() or through_psutil)
    for name, make in (("jemalloc", _jemalloc), ("tcmalloc", _tcmalloc)):
        read = make()
        if read is not None:
            yield HeapReader(name, read)


def _follows(
    read: Read, take: Callable[[int], Any], give_back: Callable[[Any], object]
) -> bool:
    """Return whether a figure moves by about as much as is allocated and freed."""

    def follows_once(size: int) -> bool:
        before = read()
        block = take(size)
        during = read()
        give_back(block)
        after = read()
        if before is None or during is None or after is None:
            return False
        if not block:  # out of memory, so it cannot be tried
            return before > 0
        moves = (during - before, during - after)
        return all(size // 2 < move < 2 * size for move in moves)

    return all(any(follows_once(size) for _ in range(_TRIES)) for size in _SIZES)


@cache  # ctypes makes classes, which are garbage after a run that makes them
def _raw_memory() -> tuple[Callable[[int], Any], Callable[[Any], object]] | None:
    """Return Python's functions for malloc and free, None if they cannot be called."""
    try:
        import ctypes

        take = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t)
        give_back = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
        return (
            take(("PyMem_RawMalloc", ctypes.pythonapi)),
            give_back(("PyMem_RawFree", ctypes.pythonapi)),
        )
    except (ImportError, AttributeError):
        return None


@cache
def _symbol(name: str) -> Any:
    """Return a C function of this process, None if there is none of that name."""
    try:
        import ctypes

        return getattr(ctypes.CDLL(None), name)
    except (ImportError, AttributeError, OSError, TypeError):  # TypeError: on Windows
        return None


@cache
def _mallinfo2() -> Read | None:
    """Return a reader of glibc's own figures, None before glibc 2.33 and elsewhere.

    psutil reads the same, but looks for the library anew each time. That takes three
    times as long as the reading.
    """
    try:
        import ctypes

        # not from the process: another allocator may have put its own in front
        library = ctypes.PyDLL("libc.so.6")
        figures = type(
            "mallinfo2",
            (ctypes.Structure,),
            {"_fields_": [(name, ctypes.c_size_t) for name in _MALLINFO2]},
        )
        ask: Any = ctypes.PYFUNCTYPE(figures)(("mallinfo2", library))
    except (ImportError, AttributeError, OSError):
        return None

    def read() -> int:
        found = ask()
        used: int = found.uordblks + found.hblkhd
        return used

    return read


def _read_c_library() -> int | None:
    import psutil

    try:
        heap = psutil.heap_info()
    except (AttributeError, NotImplementedError, OSError):
        return None
    # without an mmapped part on macOS and Windows
    used: int = heap.heap_used + getattr(heap, "mmap_used", 0)
    return used


def _widen(read: Read) -> Read:
    """Return a reader for figures of 32 bits, as glibc before 2.33 has them.

    They begin again at 0 after 4 GiB; from one reading to the next, less than half of
    that comes or goes.
    """
    last: int | None = None

    def read_wide() -> int | None:
        nonlocal last
        figure = read()
        if figure is None:
            return None
        if last is None:
            last = figure % _NARROW
        else:
            last += (figure - last + _NARROW // 2) % _NARROW - _NARROW // 2
        return last

    return read_wide


def _jemalloc() -> Read | None:
    """Return a reader of ``stats.allocated``, None if jemalloc is not loaded."""
    control = _symbol("mallctl")
    if control is None:
        return None
    import ctypes

    # made only once, as a reading must not leave objects behind
    used, size = ctypes.c_size_t(), ctypes.c_size_t(ctypes.sizeof(ctypes.c_size_t))
    epoch, nothing = ctypes.c_uint64(1), ctypes.c_size_t(0)
    to_used, to_size = ctypes.byref(used), ctypes.byref(size)
    to_epoch, epoch_size = ctypes.byref(epoch), ctypes.c_size_t(8)

    def read() -> int | None:
        # memory in this thread's cache would count as in use
        control(b"thread.tcache.flush", None, None, None, nothing)
        control(b"epoch", None, None, to_epoch, epoch_size)  # updates the figures
        failed = control(b"stats.allocated", to_used, to_size, None, nothing)
        return None if failed else used.value

    return read


def _tcmalloc() -> Read | None:
    """Return a reader of tcmalloc's bytes in use, None if it is not loaded."""
    get = _symbol("MallocExtension_GetNumericProperty")
    if get is None:
        return None
    import ctypes

    used = ctypes.c_size_t()
    to_used = ctypes.byref(used)

    def read() -> int | None:
        found = get(b"generic.current_allocated_bytes", to_used)
        return used.value if found else None

    return read
