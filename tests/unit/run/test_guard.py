"""The guard ends a run before a resource runs out, and leaves room for a search."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from pytest_tfleak.plan import Plan
from pytest_tfleak.plan import make_plan
from pytest_tfleak.probes.base import Probe
from pytest_tfleak.probes.base import guard
from pytest_tfleak.probes.census import Census
from pytest_tfleak.probes.room import ADDRESSES
from pytest_tfleak.probes.room import MEMORY
from pytest_tfleak.probes.room import Free
from pytest_tfleak.probes.room import Room
from pytest_tfleak.run.guard import Guard
from pytest_tfleak.run.guard import LimitReached
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.signals import make_signal
from pytest_tfleak.trace import Signal

MIB = 2**20
HEAP = make_signal("host.heap")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests themselves may run on one of several workers."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)


class Machine(Probe):
    """A machine with some memory; the body takes ``step`` of it in each call."""

    name = "machine"
    is_readable_anytime = True

    def __init__(self, free: int, resource: str = MEMORY, unit: str = "B") -> None:
        self.used = 0
        self._all = free
        self._resource = resource
        self._unit = unit

    def signals(self) -> Sequence[Signal]:
        return (HEAP,)

    def read(self, buffer: array[int], start: int, deep: bool) -> None:
        buffer[start] = self.used

    def rooms(self) -> Sequence[Room]:
        return [
            Room(
                resource=self._resource,
                unit=self._unit,
                signals=("host.heap",),
                free=lambda: Free(self._all - self.used, "the machine"),
                read=lambda: self.used,
                is_shared=True,
            )
        ]


def watch(machine: Machine, limit: object = "half") -> Guard:
    watching = Guard(guard([machine]), make_plan(memory_limit=limit))
    watching.begin()
    return watching


def use(machine: Machine, watching: Guard, size: int) -> int:
    """Use memory until the guard says stop; return how often that was possible."""
    for times in count(1):
        machine.used += size
        watching.check()
        if watching.is_reached or times == 1000:
            return times
    raise AssertionError


def test_a_run_may_take_half_of_what_is_free_after_the_first_call() -> None:
    machine = Machine(4400 * MIB)
    watching = watch(machine)
    # of 4,000 MiB that were left: five, and then two of the 2,000 MiB that are left
    assert use(machine, watching, 400 * MIB) == 8
    assert watching.describe() == (
        "memory grew by 2.7 GiB, half or more of the 3.9 GiB that the machine had "
        "left; set memory_limit to allow more"
    )
    assert watching.stopped == ("memory_limit", ("host.heap",), 400 * MIB, True)


@pytest.mark.parametrize("calls", [5, 6, 7])
def test_a_warm_up_that_ends_soon_after_half_goes_on(calls: int) -> None:
    machine = Machine(320 * MIB)
    watching = watch(machine)
    for call in range(50):
        machine.used += 30 * MIB if call < calls else 0
        watching.check()
    assert not watching.is_reached


def test_one_large_step_does_not_end_a_run() -> None:
    machine = Machine(1000 * MIB)
    watching = watch(machine)
    for call in range(50):
        machine.used += 600 * MIB if call == 20 else 0
        watching.check()
    assert not watching.is_reached


@pytest.mark.parametrize("free", [0, -1])
def test_what_has_nothing_free_at_the_start_is_not_watched(free: int) -> None:
    machine = Machine(free)
    watching = watch(machine)
    assert use(machine, watching, MIB) == 1000
    watching.allow_more()
    assert watching.iterations_left > 1000


@pytest.mark.parametrize(
    ("resource", "unit", "size"),
    [(MEMORY, "B", 12 * MIB), ("file descriptors", "descriptors", 3)],
)
def test_a_little_growth_ends_no_run_however_little_is_free(
    resource: str, unit: str, size: int
) -> None:
    machine = Machine(size + 1, resource, unit)
    watching = watch(machine)
    assert use(machine, watching, size) == 7  # 64 MiB, and 16


def test_a_room_that_fails_is_watched_no_more() -> None:
    class Broken(Machine):
        reads = 0

        def read_room(self) -> int:
            self.reads += 1
            if self.reads > 3:
                raise OSError("gone")
            return self.used

        def rooms(self) -> Sequence[Room]:
            return [replace(room, read=self.read_room) for room in super().rooms()]

    machine = Broken(1000 * MIB)
    (probe,) = guard([machine])
    watching = Guard([probe], make_plan())
    watching.begin()
    assert use(machine, watching, 100 * MIB) == 1000
    assert machine.reads == 4
    assert probe.take_complaints() == [
        "The probe 'machine' failed in rooms: OSError: gone."
    ]


def test_what_the_first_call_takes_does_not_count() -> None:
    machine = Machine(1000 * MIB)
    watching = watch(machine)
    machine.used += 900 * MIB
    for _ in range(3):
        watching.check()
    assert not watching.is_reached
    assert watching.iterations_left > 1000


def test_the_option_sets_the_limit() -> None:
    machine = Machine(1000 * MIB)
    watching = watch(machine, "200 MiB")
    assert use(machine, watching, 50 * MIB) == 10  # as many as a verdict needs
    assert watching.describe() == "memory grew by 450 MiB; memory_limit is 200 MiB"


def test_the_option_turns_it_off() -> None:
    machine = Machine(MIB)
    assert use(machine, watch(machine, "none"), MIB) == 1000


def test_a_limit_above_half_holds_for_addresses_too() -> None:
    machine = Machine(1000 * MIB, ADDRESSES)
    assert use(machine, watch(machine, "700 MiB"), 50 * MIB) == 16
    machine = Machine(1000 * MIB, ADDRESSES)
    assert use(machine, watch(machine, "1 MiB"), 50 * MIB) == 12  # half of 950, and one


def test_other_resources_end_at_half() -> None:
    machine = Machine(102, "file descriptors", "descriptors")
    watching = watch(machine, "1 GiB")
    assert use(machine, watching, 2) == 27
    assert watching.describe() == (
        "file descriptors grew by 52, half or more of the 100 that the machine had "
        'left; memory_limit="none" goes on'
    )
    assert watching.stopped.limit == "the machine"


def test_workers_share_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "4")
    machine = Machine(900 * MIB)
    watching = watch(machine)
    assert use(machine, watching, 100 * MIB) == 3  # an eighth of 800 MiB, and one
    assert "1/8 or more of the 800 MiB" in watching.describe()


def test_a_search_gets_a_part_of_what_is_left() -> None:
    machine = Machine(1010 * MIB)
    watching = watch(machine)
    assert use(machine, watching, 10 * MIB) == 52
    assert watching.iterations_left == 0
    watching.allow_more()
    assert not watching.is_reached
    assert watching.iterations_left == 35  # three quarters of 490 MiB, less one


@pytest.mark.parametrize(("each", "left"), [(1, 100), (5, 60), (20, 25), (50, 12)])
def test_a_search_does_not_take_much_more_than_a_small_limit(
    each: int, left: int
) -> None:
    machine = Machine(100_000 * MIB)
    watching = watch(machine, "100 MiB")
    use(machine, watching, each * MIB)
    watching.allow_more()
    assert watching.iterations_left == left


def test_where_a_search_does_not_fit_none_runs() -> None:
    machine = Machine(1700 * MIB)
    watching = watch(machine)
    assert use(machine, watching, 400 * MIB) == 3
    watching.allow_more()  # three quarters of 500 MiB are no two iterations
    assert watching.is_reached
    assert watching.describe().startswith("memory grew by 800 MiB, half or more")


def test_the_narrowest_resource_is_named() -> None:
    memory = Machine(10_000 * MIB)
    threads = Machine(1_000, "threads", "threads")
    watching = Guard(guard([memory, threads]), make_plan())
    watching.begin()
    for _ in range(10):
        memory.used += MIB
        threads.used += 10
        watching.check()
    assert watching.narrowest == ("threads", "the machine")


def test_memory_that_is_freed_can_be_used_again() -> None:
    machine = Machine(1000 * MIB)
    watching = watch(machine)
    use(machine, watching, 100 * MIB)
    machine.used = 100 * MIB
    watching.check()
    assert not watching.is_reached


def looped(machine: Machine, step: int, plan: Plan | None = None) -> Loop:
    def body() -> None:
        machine.used += step

    return Loop(body, plan or Plan(), [machine], Census(()))


def test_a_loop_raises_before_the_iteration_that_has_no_room() -> None:
    machine = Machine(1100 * MIB)
    loop = looped(machine, 100 * MIB)
    with loop:
        loop.warm_up()
        with pytest.raises(LimitReached, match="memory grew by 700 MiB"):
            loop.measure()
    assert (loop.trace.rows, machine.used) == (8, 800 * MIB)


@pytest.mark.parametrize(
    "again",
    [
        lambda loop: loop.run_again(warmup=0, iterations=10).rows,
        lambda loop: loop.repeat(10, ()),
    ],
    ids=["experiments", "diagnosis"],
)
def test_later_iterations_end_early_too(again: Callable[[Loop], int]) -> None:
    machine = Machine(1100 * MIB)
    loop = looped(machine, 100 * MIB)
    with loop:
        loop.iterate(loop.trace)
        assert again(loop) == 7
        with pytest.raises(LimitReached):
            again(loop)
    assert machine.used == 800 * MIB


def test_a_probe_that_cannot_say_it_has_no_limit() -> None:
    class Broken(Machine):
        def rooms(self) -> Any:
            raise OSError("no figures")

    machine = Broken(1)
    assert use(machine, watch(machine), MIB) == 1000
