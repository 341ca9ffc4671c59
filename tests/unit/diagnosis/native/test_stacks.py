"""Leaks are distinguished from set-up, and C++ functions from wrappers around them."""

from __future__ import annotations

import pytest

from pytest_tfleak.diagnosis.native.stacks import Pile
from pytest_tfleak.diagnosis.native.stacks import Stack
from pytest_tfleak.diagnosis.native.stacks import find_sites
from pytest_tfleak.diagnosis.native.stacks import functions_of
from pytest_tfleak.diagnosis.native.stacks import is_python_memory
from pytest_tfleak.diagnosis.native.stacks import is_steady
from pytest_tfleak.diagnosis.native.stacks import per_iteration
from pytest_tfleak.diagnosis.native.stacks import shorten


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
    assert functions_of(symbols) == (
        "tensorflow::Graph::Graph",
        "tensorflow::KernelAndDeviceFunc::Init",
        "TFE_Execute",
    )
    assert not is_python_memory(symbols)


def test_a_stack_of_wrappers_alone_keeps_the_outermost() -> None:
    assert functions_of(["malloc", "operator new(unsigned long)"]) == ("operator new",)
    assert functions_of(["<unknown>", "_PyEval_EvalFrameDefault"]) == ()


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
def test_python_s_own_memory_is_distinguished_from_native(
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
    return Stack(
        functions=functions,
        lines=(("body.py", line),),
        python_memory=False,
        pile=pile,
    )


def now_and_then(*functions: str, counts: list[int], line: int = 7) -> Stack:
    pile = Pile(counts, [80 * count for count in counts])
    return Stack(
        functions=functions,
        lines=(("body.py", line),),
        python_memory=False,
        pile=pile,
    )


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
