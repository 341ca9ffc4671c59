"""How much heap memory Python objects explain, without running their code."""

from __future__ import annotations

import gc
import math
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pytest_tfleak.diagnosis.what import sizes as explained
from pytest_tfleak.diagnosis.what.sizes import explained_bytes
from pytest_tfleak.run.own_bytes import keeper_of
from pytest_tfleak.tf import names

BYTES = 5_000
ROUND = pytest.approx(BYTES, abs=128)


class Holder:
    def __init__(self, content: object) -> None:
        self.content = content


class Hostile:
    """Fails the test when any code of it runs."""

    def __init__(self) -> None:
        self.text = "x" * (BYTES - 100) + str(id(self))

    def __sizeof__(self) -> int:
        raise AssertionError("__sizeof__ ran")

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"__getattribute__ ran for {name}")

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise AssertionError("__class__ ran")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("__eq__ ran")

    def __hash__(self) -> int:
        raise AssertionError("__hash__ ran")


def text() -> str:
    return "x" * (BYTES - 100) + str(os.getpid())


@pytest.mark.parametrize(
    "make",
    [
        lambda: [os.urandom(BYTES)],
        lambda: Holder(text()),
        lambda: Holder((1.5, text())),
        lambda: {"key": text(), "self": []},
        lambda: [None] * (BYTES // 8),
        lambda: Holder(bytearray(BYTES)),
        lambda: [memoryview(bytes(BYTES)).obj],
        Hostile,
    ],
)
def test_an_object_stands_for_what_only_it_holds(make: Callable[[], object]) -> None:
    survivors = [make() for _ in range(4)]
    gc.collect()  # as a census does; this untracks tuples of plain values
    assert all(map(gc.is_tracked, survivors))
    assert explained_bytes(survivors, 4) == ROUND
    assert explained_bytes(survivors, 2) == pytest.approx(2 * BYTES, abs=256)


def test_what_others_hold_as_well_does_not_count() -> None:
    shared = text()
    assert explained_bytes([Holder(shared), [shared]], 1) == 0


def test_a_dict_of_attributes_that_reading_has_made_belongs_to_its_object() -> None:
    holder = Holder(text())
    vars(holder)["inner"] = []  # so that the collector lists the dict
    assert explained_bytes([holder], 1) == ROUND


def test_what_the_search_refers_to_counts_all_the_same() -> None:
    shared = text()
    ours = {"parent": shared}
    holder = Holder(shared)
    del shared
    assert explained_bytes([holder], 1) == 0
    assert explained_bytes([holder], 1, {id(ours["parent"]): 1}) == ROUND


def test_what_two_survivors_share_counts_once() -> None:
    holders = [Holder(text())]
    holders.append(Holder(holders[0].content))
    assert explained_bytes(holders, 1) == ROUND


def test_small_objects_are_not_in_the_heap() -> None:
    assert explained_bytes([Holder(n) for n in range(100)], 1) == 0


def test_an_array_stands_for_its_buffer() -> None:
    np: Any = pytest.importorskip("numpy")
    assert explained_bytes([[np.zeros(BYTES // 8)]], 1) == ROUND
    view = np.zeros(BYTES // 8)[1:]
    holder = [view]
    del view
    assert explained_bytes([holder], 1) == ROUND
    shared = np.zeros(BYTES)
    assert explained_bytes([[shared, shared[1:]]], 1) == 0


def test_an_array_stands_for_memory_that_an_object_from_c_keeps() -> None:
    np: Any = pytest.importorskip("numpy")
    source = np.zeros(BYTES // 8)
    holder = [np.from_dlpack(source)]  # a capsule keeps the memory
    assert type(keeper_of(holder[0])).__name__ == "PyCapsule"
    assert explained_bytes([holder], 1) == ROUND


def test_an_object_that_may_hold_the_array_itself_is_no_keeper_from_c() -> None:
    np: Any = pytest.importorskip("numpy")
    source = np.zeros(BYTES // 8)
    windows = np.lib.stride_tricks.sliding_window_view(source, 10)
    for view in (windows, windows.base, source[1:], np.frombuffer(bytes(8)), "text"):
        assert keeper_of(view) is None


class _DType:
    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = name, size


def fake(kind: tuple[str, str], **members: Any) -> Any:
    module, name = kind
    return type(name, (), {"__module__": module, **members})()


def tensor(*shape: int, dtype: str = "float32", device: str = "CPU:0") -> Any:
    return fake(
        names.EAGER_TENSOR.types[0],
        backing_device=f"/job:localhost/replica:0/task:0/device:{device}",
        _datatype_enum=lambda _: dtype,
        _num_elements=lambda _: math.prod(shape),
    )


@pytest.fixture
def _dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"float32": 4, "float64": 8}
    module = fake(
        ("builtins", "module"),
        as_dtype=lambda _, name: _DType(name, sizes.get(name, 1)),
    )
    monkeypatch.setitem(sys.modules, names.AS_DTYPE.places[0].module, module)


@pytest.mark.usefixtures("_dtypes")
def test_a_tensor_stands_for_its_buffer() -> None:
    assert explained_bytes([tensor(25, 50)], 1) == ROUND
    assert explained_bytes([tensor(25, 25, dtype="float64")], 1) == ROUND
    assert explained_bytes([tensor(25, 50, device="GPU:0")], 1) == 0
    assert explained_bytes([tensor(dtype="resource")], 1) == 0


@pytest.mark.usefixtures("_dtypes")
def test_a_large_tensor_is_in_the_pool_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tensors = [tensor(25, 50), tensor(512, 512)]
    monkeypatch.setattr(explained, "_has_pool", lambda: True)
    assert explained_bytes(tensors, 1) == ROUND
    monkeypatch.setattr(explained, "_has_pool", lambda: False)
    assert explained_bytes(tensors, 1) > 2**20


def test_a_tensor_that_is_built_differently_stands_for_nothing() -> None:
    strange = fake(names.EAGER_TENSOR.types[0], backing_device=3)
    assert explained_bytes([strange], 1) == 0
