"""A memray capture is reduced to what each stack leaves in each iteration."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pytest_tfleak.diagnosis.native.memray_read import find_alive
from pytest_tfleak.diagnosis.native.memray_read import find_ends
from pytest_tfleak.diagnosis.native.memray_read import pile_up
from pytest_tfleak.diagnosis.native.stacks import Pile


@dataclass
class Record:
    """An allocation record, as in memray."""

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
