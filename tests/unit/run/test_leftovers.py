"""Which objects can be reached from others."""

from __future__ import annotations

from pytest_tfleak.run.leftovers import ids_reachable

GLOBAL = ["global"]


def reaches(root: object, target: object) -> bool:
    return ids_reachable([root], [target]) == {id(target)}


class Holder:
    shared = ("class attribute",)

    def __init__(self, held: object) -> None:
        self.held = held

    def method(self) -> None: ...


def test_reaches_through_containers_and_attributes() -> None:
    target = ["target"]
    assert reaches({"a": [(1, Holder(target))]}, target)
    assert reaches(Holder({"x": target}).method, target)


def test_reaches_what_a_closure_holds() -> None:
    target = ["target"]
    assert reaches(lambda: target, target)
    assert reaches(lambda default=target: default, target)


def test_does_not_reach_through_modules_and_classes() -> None:
    assert not reaches(lambda: GLOBAL, GLOBAL)
    assert not reaches(Holder(None), Holder.shared)


def test_returns_nothing_where_nothing_is_held() -> None:
    assert ids_reachable([], [GLOBAL]) == set()
    assert ids_reachable([["a"]], [GLOBAL]) == set()
