"""Managers that are entered again before they are left."""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress

import pytest

from pytest_tfleak.diagnosis.origin.entries import Entries

HERE = __file__


class Lease:
    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *error: object) -> None: ...


class Named(Lease):
    def __enter__(self) -> Named:
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)


class Remote:
    async def __aenter__(self) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def __aexit__(self, *error: object) -> None:
        await asyncio.sleep(0)


def test_a_manager_that_is_entered_inside_of_its_own_block() -> None:
    lease = Lease()
    with Entries() as entries, lease, lease:
        pass
    assert entries.twice == {(HERE, "Lease.__enter__")}


def test_a_manager_that_is_entered_again_after_an_error() -> None:
    lease = Lease()
    with Entries() as entries:
        lease.__enter__()
        with suppress(ValueError):
            raise ValueError
        with lease:
            pass
    assert entries.twice == {(HERE, "Lease.__enter__")}


@pytest.mark.parametrize("manager", [Lease, Named])
def test_one_block_after_the_other(manager: type[Lease]) -> None:
    lease = manager()
    with Entries() as entries:
        with lease:
            pass
        with lease, manager():
            pass
    assert entries.twice == set()


def test_a_derived_manager() -> None:
    lease = Named()
    with Entries() as entries, lease, lease:
        pass
    assert (HERE, "Named.__enter__") in entries.twice


async def once(remote: Remote) -> None:
    async with remote:
        pass


async def again(remote: Remote) -> None:
    async with remote:
        await once(remote)


def test_async_with() -> None:
    with Entries() as entries:
        asyncio.run(once(Remote()))
    assert entries.twice == set()
    with Entries() as entries:
        asyncio.run(again(Remote()))
    assert entries.twice == {(HERE, "Remote.__aenter__")}


def test_another_profiler_stays() -> None:
    def profile(*_: object) -> None: ...

    lease = Lease()
    sys.setprofile(profile)
    try:
        with Entries() as entries, lease, lease:
            pass
        assert sys.getprofile() is profile
    finally:
        sys.setprofile(None)
    assert entries.twice == set()


@contextmanager
def leasing() -> Iterator[None]:
    with Lease():
        yield


def test_the_managers_that_are_entered_and_their_exits() -> None:
    with Entries() as entries, leasing(), Named():
        pass
    functions = [line.function for line in entries.lines]
    assert functions == ["Named.__enter__", "Lease.__enter__", "leasing"]
    named, lease = (HERE, "Named.__exit__"), (HERE, "Lease.__exit__")
    assert entries.exits[HERE, "Named.__enter__"] == (named, lease)


@pytest.mark.parametrize("manager", [Lease, Named])
def test_a_manager_that_is_left_does_not_stay_alive(manager: type[Lease]) -> None:
    with Entries():
        with manager() as lease:
            left = weakref.ref(lease)
        del lease
        assert left() is None


def test_only_so_many_open_managers_are_followed() -> None:
    leases = [Lease() for _ in range(1_500)]
    with Entries() as entries:
        for lease in leases:
            lease.__enter__()
        alive = sys.getrefcount(leases[-1])
        assert sys.getrefcount(leases[0]) > alive
        leases[-1].__enter__()  # is not followed
        assert entries.twice == set()
        leases[0].__enter__()
    assert entries.twice == {(HERE, "Lease.__enter__")}


def test_only_so_many_coroutines_are_followed() -> None:
    async def many() -> None:
        for _ in range(600):
            await once(Remote())
        await again(Remote())

    with Entries() as entries:
        asyncio.run(many())
    assert entries.twice == set()
