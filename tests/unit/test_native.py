"""What stays is told from what passes, and C++ names from the plumbing around them."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import sleep

import pytest

from pytest_tfleak.diagnosis import native
from pytest_tfleak.diagnosis.capture import find_alive
from pytest_tfleak.diagnosis.capture import find_ends
from pytest_tfleak.diagnosis.capture import pile_up
from pytest_tfleak.diagnosis.native import NativeReport
from pytest_tfleak.diagnosis.native import watch_native
from pytest_tfleak.diagnosis.sites import Pile
from pytest_tfleak.diagnosis.sites import Stack
from pytest_tfleak.diagnosis.sites import find_sites
from pytest_tfleak.diagnosis.sites import is_steady
from pytest_tfleak.diagnosis.sites import per_iteration
from pytest_tfleak.diagnosis.symbols import is_python_memory
from pytest_tfleak.diagnosis.symbols import readable
from pytest_tfleak.diagnosis.symbols import shorten

After = Callable[[], None]
LeftOver = Callable[[], list[Path]]
needs_memray = pytest.mark.skipif(
    not native.is_memray_here(), reason="memray is not installed"
)


@pytest.mark.parametrize(
    ("symbol", "short"),
    [
        ("TFE_Execute", "TFE_Execute"),
        ("operator new(unsigned long, std::align_val_t)", "operator new"),
        ("operator new[](unsigned long)", "operator new[]"),
        ("__GI___strdup", "strdup"),
        (
            "tensorflow::(anonymous namespace)::GetOrCreate(tsl::RefCountPtr<A<B>>*)",
            "tensorflow::GetOrCreate",
        ),
        (
            "void std::vector<std::function<void (int)>, A<int> >::grow<B const&>(B)",
            "std::vector::grow",
        ),
        (
            "Foo::bar(std::function<void (A)>)::{lambda(B)#1}::operator()() const",
            "Foo::bar",
        ),
        ("tensorflow::Make(int)::$_0::operator()() const", "tensorflow::Make"),
        ("absl::lts_20250814::Cord::Append()", "absl::Cord::Append"),
        ("bool tensorflow::operator<<(std::ostream&, A<b>)", "tensorflow::operator<<"),
        ("Foo::operator->() const", "Foo::operator->"),
        ("Foo::operator bool() const", "Foo::operator bool"),
        ("non-virtual thunk to Foo::run(int)", "Foo::run"),
        ("Foo::run(int) [clone .isra.0]", "Foo::run"),
        ("<unknown>", ""),
        ("???", ""),
    ],
)
def test_a_symbol_is_cut_to_its_name(symbol: str, short: str) -> None:
    assert shorten(symbol) == short


def test_a_stack_begins_where_something_is_made_and_ends_at_python() -> None:
    symbols = [
        "tsl::port::AlignedMalloc(unsigned long, std::align_val_t)",
        "tensorflow::core::Arena::Arena(unsigned long)",
        "tensorflow::Graph::Graph(tensorflow::OpRegistryInterface const*)",
        "tensorflow::Graph::Graph(tensorflow::FunctionLibraryDefinition const&)",
        "std::_Function_handler<void ()>::_M_invoke(std::_Any_data const&)",
        "tensorflow::KernelAndDeviceFunc::Init(bool)",
        "TFE_Execute",
        "pybind11::cpp_function::dispatcher(_object*, _object*, _object*)",
        "cfunction_call",
        "_PyEval_EvalFrameDefault",
        "tensorflow::NotOfThisCall()",
    ]
    assert readable(symbols) == (
        "tensorflow::Graph::Graph",
        "tensorflow::KernelAndDeviceFunc::Init",
        "TFE_Execute",
    )
    assert not is_python_memory(symbols)


def test_a_stack_of_wrappers_alone_keeps_the_outermost() -> None:
    assert readable(["malloc", "operator new(unsigned long)"]) == ("operator new",)
    assert readable(["<unknown>", "_PyEval_EvalFrameDefault"]) == ()


@pytest.mark.parametrize(
    ("symbols", "expected"),
    [
        (["_PyObject_Malloc", "list_resize", "_PyEval_EvalFrameDefault"], True),
        (["<unknown>", "PyBytes_FromStringAndSize", "os_urandom"], True),
        (["default_malloc", "PyDataMem_UserNEW", "array_zeros"], True),
        (["PyMem_RawMalloc", "extension_call"], True),
        (["operator new(unsigned long)", "tensorflow::Graph::Graph()"], False),
        (["malloc", "_PyEval_EvalFrameDefault", "_PyObject_Malloc"], False),
        (["EagerTensor_init", "PyObject_Call"], False),
        ([], False),
    ],
)
def test_python_s_own_memory_is_told_from_native(
    symbols: list[str], expected: bool
) -> None:
    assert is_python_memory(symbols) is expected


@pytest.mark.parametrize(
    ("counts", "steady"),
    [
        ([1] * 10, True),
        ([3, 2, 4, 3, 3, 3, 2, 3, 5, 3], True),
        ([1, 1, 1, 1, 0, 1, 1, 1, 1, 1], True),
        ([1, 0, 1, 0, 1, 0, 1, 0, 1, 0], True),
        ([0, 0, 0, 0, 1, 0, 0, 0, 0, 1], True),
        ([0, 1, 0, 0, 1, 0, 0, 1, 0, 0], True),
        ([1, 1, 1], True),
        ([9, 0, 0, 0, 0, 0, 0, 0, 0, 0], False),
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 3], False),
        ([9, 0, 0, 0, 0, 0, 0, 0, 0, 3], False),
        ([0, 0, 0, 0, 0, 0, 0, 0, 1, 1], False),
        ([1, 1, 1, 1, 1, 0, 0, 0, 0, 0], False),
        ([0, 0, 0, 0, 0, 0, 5, 5, 5, 5], False),
        ([0, 0, 1], False),
        ([0] * 10, False),
    ],
)
def test_a_leak_leaves_something_again_and_again(
    counts: list[int], steady: bool
) -> None:
    assert is_steady(counts) is steady


def test_what_the_first_iteration_set_up_is_not_in_the_rate() -> None:
    assert per_iteration([900, 10, 10, 10, 10, 10, 10, 10, 10, 20]) == 10
    assert per_iteration([0, 0, 0, 0, 50, 0, 0, 0, 0, 50]) == 10


def stack(*functions: str, size: int, count: int = 1, line: int = 7) -> Stack:
    pile = Pile([count] * 4, [size] * 4)
    return Stack(functions, (("body.py", line),), python_memory=False, pile=pile)


def now_and_then(*functions: str, counts: list[int], line: int = 7) -> Stack:
    pile = Pile(counts, [80 * count for count in counts])
    return Stack(functions, (("body.py", line),), python_memory=False, pile=pile)


def test_many_allocations_of_one_call_are_one_site() -> None:
    sites = find_sites(
        [
            stack("Graph", "Convert", "Init", "Execute", size=60),
            stack("AddNode", "Convert", "Init", "Execute", size=20, count=2),
            stack("Copy", "Convert", "Init", "Execute", size=20),
            stack("Run", "Execute", size=90),
            stack("Gauge", "Execute", size=1),
            stack("strdup", size=50, line=8),
        ]
    )
    assert [(s["frames"], s["bytes"], s["allocations"]) for s in sites] == [
        (["Convert", "Init", "Execute"], 100, 4),
        (["Run", "Execute"], 90, 1),
        (["strdup"], 50, 1),
    ]
    assert [s["lines"] for s in sites] == [[["body.py", n]] for n in (7, 7, 8)]


def test_stacks_that_are_steady_only_together_are_one_site() -> None:
    stacks = [
        now_and_then("insert", "Add", counts=[1, 1, 0, 0, 0, 1]),
        now_and_then("rehash", "Add", counts=[0, 0, 1, 1, 1, 0]),
        now_and_then("result", counts=[0, 0, 0, 0, 0, 999], line=9),
    ]
    assert not any(is_steady(stack.pile.counts) for stack in stacks)
    (site,) = find_sites(stacks)
    assert (site["frames"], site["bytes"]) == (["Add"], 80)


@dataclass
class Record:
    """As memray's."""

    address: int
    size: int = 100
    allocator: int = 6
    stack_id: int = 1
    native_stack_id: int = 1


FREE = 5


@pytest.mark.parametrize("head", [0, 32])  # before an object in its block
def test_what_is_freed_or_taken_after_the_last_iteration_does_not_count(
    head: int,
) -> None:
    records: list[Record] = []
    for iteration in range(3):
        leaked, passing = 1000 + iteration, 2000
        records += [Record(leaked), Record(passing, stack_id=2)]
        records += [Record(passing, allocator=FREE), Record(9000 + iteration)]
    records += [Record(7000, stack_id=3), Record(7001, stack_id=3)]
    alive = find_alive(records, {FREE})
    ends = find_ends(alive, [9000 + head + k for k in range(3)], iterations=3)
    assert ends == [3, 7, 11]
    ((key, (_, pile)),) = pile_up(alive, ends).items()
    assert key == (1, 1)
    assert pile == Pile([1, 1, 1], [100, 100, 100])


def test_without_marks_the_iterations_are_of_one_length() -> None:
    alive = find_alive([Record(n) for n in range(12)], {FREE})
    ends = find_ends(alive, [777], iterations=3)
    assert pile_up(alive, ends)[(1, 1)][1].counts == [4, 4, 4]


KEPT: list[bytes] = []
LAST = [b""]


def leak(after: After) -> None:
    """Keep 10 KB in each of ten iterations, and 40 KB that the next one replaces."""
    for number in range(10):
        KEPT.append(bytes([number]) * 10_000)
        LAST[0] = bytes([number]) * 40_000
        after()


@pytest.fixture
def left_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LeftOver:
    """Return what lists the temporary files that are still there."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return lambda: list(tmp_path.iterdir())


@needs_memray
def test_what_stays_is_found_with_its_line(left_over: LeftOver) -> None:
    (site,) = watch_native(leak, 10, seconds=60).sites
    assert site.origin is not None
    assert (site.origin.file, site.origin.function) == (__file__, "leak")
    assert "KEPT.append" in site.origin.text
    assert site.bytes_per_iteration == pytest.approx(10_033, abs=64)
    assert site.allocations_per_iteration == 1
    assert site.python_memory
    assert not left_over()


@needs_memray
def test_nothing_stays_of_what_is_replaced() -> None:
    def replace(after: After) -> None:
        for number in range(10):
            KEPT[:] = [bytes([number, k]) * 5_000 for k in range(10)]
            after()

    assert watch_native(replace, 10, seconds=60) == NativeReport(
        why=native.NOTHING_STAYS
    )


@needs_memray
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_the_body_raises_passes_through(
    error: type[BaseException], left_over: LeftOver
) -> None:
    def fail(after: After) -> None:
        after()
        raise error

    profile = sys.getprofile()
    with pytest.raises(error):
        watch_native(fail, 10, seconds=60)
    assert not left_over()
    assert sys.getprofile() is profile
    assert watch_native(leak, 10, seconds=60).sites


@needs_memray
def test_a_body_that_takes_too_long_is_ended() -> None:
    done = []

    def wait(after: After) -> None:
        for _ in range(10):
            sleep(2.6)
            done.append(1)
            after()

    assert watch_native(wait, 10, seconds=5).why == native.NO_TIME
    assert len(done) == 1


@needs_memray
def test_a_reader_that_takes_too_long_is_stopped_and_what_it_found_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = f"""[{{"frames": [], "lines": [["{__file__}", 1]], "bytes": 5.0,
                  "allocations": 1.0, "python_memory": false}}]"""
    monkeypatch.setattr(
        native,
        "_PROGRAM",
        f"import time; print({' '.join(first.split())!r}); "
        "print('[{', end='', flush=True); time.sleep(600)",
    )
    report = watch_native(leak, 10, seconds=5)
    assert report.why == native.NO_TIME
    (site,) = report.sites  # its line at least, which takes no time to find
    assert site.frames == ()
    assert site.origin is not None
    assert site.origin.file == __file__


@needs_memray
def test_a_reader_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_PROGRAM", "raise SystemError('no such file')")
    why = watch_native(leak, 10, seconds=60).why
    assert why == "reading what memray wrote failed: SystemError: no such file"


@needs_memray
def test_memray_that_tracks_already_is_named(tmp_path: Path) -> None:
    import memray

    with memray.Tracker(tmp_path / "other"):
        assert watch_native(leak, 10, seconds=60).why == native.TRACKING


def refuse(after: After) -> None:
    raise AssertionError("the body must not run")


def test_without_memray_the_body_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "is_memray_here", lambda: False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert watch_native(refuse, 10, seconds=60).why == native.NOT_HERE
    monkeypatch.setattr(sys, "platform", "win32")
    assert watch_native(refuse, 10, seconds=60).why == native.NOT_POSSIBLE


def test_without_time_the_body_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "is_memray_here", lambda: True)
    assert watch_native(refuse, 10, seconds=1).why == native.NO_TIME
    assert watch_native(refuse, 2, seconds=60).why == native.NO_TIME


def test_a_profiler_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "is_memray_here", lambda: True)
    monkeypatch.setattr(sys, "getprofile", lambda: print)
    assert watch_native(refuse, 10, seconds=60).why == native.PROFILING
