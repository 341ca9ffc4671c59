"""Which scopes were entered and not left, and by which lines."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from types import ModuleType
from typing import Any

import pytest

from pytest_tfleak.run.entered_scopes import EnteredScopes
from pytest_tfleak.tf.names import Name
from pytest_tfleak.tf.names import Place


class Scope:
    """A fake of a scope of TensorFlow's."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        raise OSError("not left")


ENTER, EXIT = Scope.__enter__, Scope.__exit__
PLACE = Place(library="tensorflow", module="fake_of_scopes", attributes=("Scope",))


@pytest.fixture
def scopes(monkeypatch: pytest.MonkeyPatch) -> Iterator[EnteredScopes]:
    module: Any = ModuleType("fake_of_scopes")
    module.Scope = Scope
    monkeypatch.setitem(sys.modules, "fake_of_scopes", module)
    watched = EnteredScopes(Name(places=(PLACE,), use="", example=""))
    watched.watch()
    yield watched
    watched.stop()
    assert (Scope.__enter__, Scope.__exit__) == (ENTER, EXIT)


def test_without_the_class_nothing_is_noted() -> None:
    watched = EnteredScopes(Name(places=(), use="", example=""))
    watched.watch()
    Scope().__enter__()
    assert watched.last is None
    watched.stop()


def test_a_scope_that_is_left_is_forgotten_even_if_that_fails(
    scopes: EnteredScopes,
) -> None:
    with pytest.raises(OSError, match="not left"), Scope():
        assert scopes.last is not None
    assert scopes.last is None


def test_the_outer_scope_is_the_last_one_again(scopes: EnteredScopes) -> None:
    outer = Scope()
    outer.__enter__()
    found = scopes.last
    stack = ExitStack()
    stack.enter_context(Scope())
    assert scopes.last is not found
    assert scopes.last is not None
    assert scopes.last.is_by_user
    with pytest.raises(OSError, match="not left"):
        stack.close()
    assert scopes.last is found


def test_one_scope_entered_twice_is_left_twice(scopes: EnteredScopes) -> None:
    scope = Scope()
    scope.__enter__()
    first = scopes.last
    scope.__enter__()
    with pytest.raises(OSError, match="not left"):
        scope.__exit__()
    assert scopes.last is first


def test_scopes_that_nothing_refers_to_are_noted_once_a_line(
    scopes: EnteredScopes,
) -> None:
    for _ in range(5):
        Scope().__enter__()
        Scope().__enter__()
    assert len(scopes._entered) == 2


def test_scopes_of_other_threads_are_not_noted(scopes: EnteredScopes) -> None:
    thread = threading.Thread(target=Scope().__enter__)
    thread.start()
    thread.join()
    assert scopes.last is None
