"""Make Keras give the layers of each iteration the same automatic names.

Keras numbers its automatic names, and TensorFlow keeps a kernel for each name of a
variable. So a body that builds a model grows even if nothing keeps the model.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import MutableMapping
from collections.abc import Sequence
from types import FunctionType
from types import ModuleType
from typing import Any
from typing import cast

from pytest_tfleak.diagnosis.experiments.intervention import Intervention
from pytest_tfleak.diagnosis.safe_read import fields_of
from pytest_tfleak.probes.census import full_name
from pytest_tfleak.tf import names
from pytest_tfleak.tf.access import Keras
from pytest_tfleak.tf.access import clear_session_call
from pytest_tfleak.tf.access import kerases
from pytest_tfleak.user_code import is_users

Counts = MutableMapping[Hashable, int]


class RepeatedNames(Intervention):
    """Resets the numbering of names after each iteration.

    ``used`` says which Keras made automatic names in the body, as several may exist.
    """

    name = "repeated-names"
    words = "with Keras' automatic names repeated"

    def __init__(self, acts: bool = True) -> None:
        super().__init__(acts)
        self.used: list[Keras] = []
        self._counters: list[_Counters] = []

    def _begin(self) -> None:
        for keras in kerases():
            self._counters.append(_Counters(keras))
            for maker in (names.UNIQUE_NAME, names.UNIQUE_NAME_2, names.NAME_NUMBER_2):
                module = maker.owner_in(keras.library)
                if module is not None:
                    noting = self._noting(keras)
                    self._patch(module, maker.attribute, noting)

    def _end(self) -> None:
        if self.acts:
            for counters in self._counters:
                counters.set_highest()

    def _after(self) -> None:
        """Reset the numbering."""
        if self.acts:
            for counters in self._counters:
                counters.restart()

    def _noting(self, keras: Keras) -> Callable[[Any], Any]:
        def note(original: Callable[..., Any]) -> Callable[..., Any]:
            def make_name(*arguments: Any, **options: Any) -> Any:
                self.seen += 1
                if keras not in self.used:
                    self.used.append(keras)
                return original(*arguments, **options)

            return make_name

        return note


def clear_session_at_hand(used: Sequence[Keras] = ()) -> str:
    """Return the call that clears the session of the Keras that the body uses."""
    return clear_session_call(used or named_by_user())


def named_by_user() -> list[Keras]:
    """Return each Keras that a module of user code refers to."""
    modules = [m for m in list(sys.modules.values()) if type(m) is ModuleType]
    files = ((module, vars(module).get("__file__")) for module in modules)
    users = [m for m, file in files if isinstance(file, str) and is_users(file)]
    packages = {
        _package_of(value) for module in users for value in list(vars(module).values())
    }
    return [keras for keras in kerases() if keras.package in packages]


def _package_of(value: object) -> str:
    """Return the package of a module, a function, a type, or an object's type."""
    kind = type(value)  # not isinstance(), which may run code of the value
    if issubclass(kind, ModuleType):
        name = str(fields_of(value).get("__name__"))
    elif type(value) is FunctionType:
        name = str(value.__module__)
    else:
        name = full_name(cast(type, value) if issubclass(kind, type) else kind)
    return name.partition(".")[0]


class _Counters:
    """The counts of automatic names in one Keras, by the object they belong to."""

    def __init__(self, keras: Keras) -> None:
        self._keras = keras
        self._first = self._copied()
        self._highest = self._copied()

    def restart(self) -> None:
        """Reset the counts to those at the start of the experiment."""
        for owner, counts in self._now():
            _raise(self._highest.setdefault(owner, {}), counts)
            counts.clear()
            counts.update(self._first.get(owner, {}))

    def set_highest(self) -> None:
        """Set the highest counts reached, so that no later name is a duplicate."""
        for owner, counts in self._now():
            _raise(counts, self._highest.get(owner, {}))

    def _now(self) -> Iterator[tuple[Any, Counts]]:
        """Yield the owners of counts with their counts; Keras 2 has them by graph."""
        state = names.GLOBAL_STATE.find_in(self._keras.library)
        counts = getattr(state, names.NAME_COUNTS, None)
        if counts is not None:
            yield state, counts
        by_graph = names.NAME_COUNTS_2.find_in(self._keras.library)
        yield from list((by_graph or {}).items())

    def _copied(self) -> MutableMapping[Any, Counts]:
        copies: MutableMapping[Any, Counts] = weakref.WeakKeyDictionary()
        for owner, counts in self._now():
            copies[owner] = dict(counts)
        return copies


def _raise(counts: Counts, others: Mapping[Hashable, int]) -> None:
    for name, count in others.items():
        counts[name] = max(count, counts.get(name, 0))
