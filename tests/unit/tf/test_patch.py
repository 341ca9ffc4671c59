from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from pytest_tfleak.tf.patch import Patch
from pytest_tfleak.tf.patch import Patches


class Base:
    def method(self) -> str:
        return "base"

    @staticmethod
    def static() -> str:
        return "static"


class Derived(Base):
    pass


def louder(original: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda self: original(self).upper()


def test_nothing_happens_before_a_patch_is_set() -> None:
    before = dict(vars(Base))
    patch = Patch(Base, "method", louder)
    patch.undo()
    assert dict(vars(Base)) == before


def test_an_attribute_is_replaced_and_put_back() -> None:
    before = vars(Base)["method"]
    patch = Patch(Base, "method", louder)
    patch.set()
    assert Base().method() == "BASE"
    patch.undo()
    assert vars(Base)["method"] is before


def test_an_inherited_method_is_set_on_the_subclass_and_deleted_again() -> None:
    patch = Patch(Derived, "method", louder)
    patch.set()
    assert (Derived().method(), Base().method()) == ("BASE", "base")
    patch.undo()
    assert "method" not in vars(Derived)
    assert Derived().method() == "base"


def test_a_static_method_is_passed_without_being_bound() -> None:
    seen: list[object] = []

    def make(original: object) -> object:
        seen.append(original)
        return original

    Patch(Base, "static", make).set()
    assert isinstance(seen[0], staticmethod)
    assert Base.static() == "static"


def test_what_other_code_has_set_since_stays() -> None:
    module = ModuleType("module")
    module.call = lambda: "original"  # type: ignore[attr-defined]
    patch = Patch(module, "call", lambda original: lambda: "ours " + original())
    patch.set()
    ours = module.call
    module.call = theirs = lambda: "theirs " + ours()  # type: ignore[attr-defined]
    patch.undo()
    assert module.call is theirs
    module.call = ours  # type: ignore[attr-defined]  # as they undo theirs, after us
    patch.undo()
    assert module.call() == "original"


def test_a_missing_attribute_is_an_attribute_error() -> None:
    patch = Patch(Base, "missing", louder)
    with pytest.raises(AttributeError, match="missing"):
        patch.set()
    patch.undo()
    assert "missing" not in vars(Base)


def test_patches_are_undone_in_reverse_order() -> None:
    before = vars(Base)["method"]
    patches = Patches()
    patches.set(Base, "method", louder)
    patches.set(Base, "method", lambda original: lambda self: original(self) + "!")
    assert Base().method() == "BASE!"
    patches.undo()
    patches.undo()
    assert vars(Base)["method"] is before


def test_a_patch_that_cannot_be_set_does_not_keep_the_others() -> None:
    before = vars(Base)["method"]
    patches = Patches()
    patches.set(Base, "method", louder)
    with pytest.raises(AttributeError):
        patches.set(Base, "missing", louder)
    patches.undo()
    assert vars(Base)["method"] is before


def test_an_undo_that_fails_does_not_keep_the_others() -> None:
    before = vars(Base)["method"]
    patches = Patches()
    patches.set(Base, "method", louder)
    patches.call_back(lambda: vars(Base)["missing"])
    with pytest.raises(KeyError):
        patches.undo()
    assert vars(Base)["method"] is before
