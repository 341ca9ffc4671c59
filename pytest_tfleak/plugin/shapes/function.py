"""A test function, or the method of a plain class; asynchronous ones included.

The plugin that provides the event loop runs an asynchronous test in each iteration as
it always does.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextlib import nullcontext
from dis import get_instructions
from functools import partial
from inspect import isasyncgenfunction
from inspect import isgeneratorfunction
from typing import Any

import pytest
from _pytest.python import get_direct_param_fixture_func
from _pytest.tmpdir import tmppath_result_key

from pytest_tfleak.plugin.call_records import CallRecords
from pytest_tfleak.plugin.shapes import RunTest
from pytest_tfleak.plugin.shapes import Unsupported
from pytest_tfleak.run.faults import Faults
from pytest_tfleak.run.teardown import Teardown

#: Packages whose fixtures and finalizers are not user code.
_OTHERS = frozenset({"_pytest", "pytest_asyncio", "pytest_mock", "pytest_tfleak"})
#: Fixtures that undo what other fixtures change with them.
_PUTS_BACK = frozenset({"mocker", "monkeypatch"})
#: The prefix of fixtures by which pytest calls setup_method and the like.
_XUNIT = "_xunit_"
#: Fixtures that serve a test only once, by name: the package that has them.
_SERVE_ONCE = {"benchmark": "pytest_benchmark"}
#: Where an item has the values of its fixtures, and the instance of its class.
_GIVEN = ("funcargs", "_instance")
#: What bytecode does between a bare yield and the return at its end.
_IDLE = frozenset({"RESUME", "POP_TOP", "NOP", "EXTENDED_ARG", "LOAD_CONST"})
_RETURNS = frozenset({"RETURN_VALUE", "RETURN_CONST"})


def recognize(
    item: pytest.Item, runtest: RunTest, repeat: str
) -> FunctionShape | Unsupported | None:
    """Return the shape of a function, None for any other item."""
    if not isinstance(item, pytest.Function):
        return None
    for name, package in _SERVE_ONCE.items():
        if _has_fixture_of(item, name, package):
            return Unsupported(f"cannot repeat a test with the {name} fixture")
    return FunctionShape(item, runtest, repeat)


def _has_fixture_of(item: pytest.Function, name: str, package: str) -> bool:
    fixtures = item._fixtureinfo.name2fixturedefs.get(name, ())
    modules = (str(getattr(f.func, "__module__", "")) for f in fixtures[-1:])
    return any(module.partition(".")[0] == package for module in modules)


class FunctionShape:
    """Calls the body with its fixtures, which may be set up again for each call."""

    def __init__(
        self, item: pytest.Function | pytest.DoctestItem, runtest: RunTest, repeat: str
    ) -> None:
        self._item: Any = item
        self._runtest = runtest
        self.repeat = repeat
        self._renews_fixtures = repeat == "test"
        self._records = CallRecords(item)
        self._keeps: frozenset[str] = frozenset()
        self._kept: list[object] = []
        #: What the fixtures gave at first, until they have been set up once more.
        self._first: dict[str, Any] = {}
        self._serves_once = False  # they cannot be set up once more
        self._around: AbstractContextManager[None] | None = None

    def call(self) -> None:
        """Run the body, with its setup and teardown under ``repeat="test"``."""
        __tracebackhide__ = True
        self._records.drop_output()
        if self._renews_fixtures:
            self._set_up()
        elif not self._serves_once:
            # pytest has done this, or ``end``: it raises only how that failed
            self._item.session._setupstate.setup(self._item)
        try:
            self._records.call(self._run)
        except BaseException:
            if self._around is not None:  # or else the run ends here
                # the value of a fixture that has cleaned up is of no use to anybody
                self._end_call(but=self.names())
                if isinstance(self._around, Faults) and self._around.raised is not None:
                    self.forget()  # with it, its frames would outlive the next reading
            raise
        self._end_call()

    def surround(self, around: AbstractContextManager[None] | None) -> None:
        """Enter a context around the body itself, without its fixtures."""
        self._around = around

    def renewed(self) -> frozenset[str]:
        """Return the names of function-scoped fixtures, and ``self``."""
        return frozenset({"self", *self._own_fixtures()})

    def is_inherited(self) -> bool:
        """Return False: a function is in the file that pytest collected."""
        return False

    def forget(self) -> None:
        """Do nothing: pytest reports the error and no more."""

    def handed(self) -> dict[str, object]:
        """Return the values of fixtures and parameters that outlive a call."""
        definitions = self._item._fixtureinfo.name2fixturedefs
        handed: dict[str, object] = {}
        instance = getattr(self._item, "instance", None)
        if instance is not None and not self._renews_fixtures:
            handed["fixture:self"] = instance
        for name, value in self._item.funcargs.items():
            fixture = definitions[name][-1] if name in definitions else None
            if fixture is None or name == "request":
                continue
            if _is_loop(fixture):
                continue  # what tasks keep in it is not kept on purpose
            if _is_parameter(fixture):
                handed[f"parameter:{name}"] = value
            elif not self._renews_fixtures or fixture.scope != "function":
                handed[f"fixture:{name}"] = value
        return handed

    def teardown(self) -> Teardown | None:
        """Return self if fixtures are set up once and some clean up."""
        return self if not self._renews_fixtures and self.names() else None

    def names(self) -> list[str]:
        """Return the names of function-scoped fixtures with a teardown."""
        found = self._own_fixtures().items()
        return [_name_of(name) for name, fixture in found if _cleans_up(fixture)]

    def values(self) -> dict[str, object]:
        """Return the values of function-scoped fixtures, and the test's instance."""
        values: dict[str, object] = {"self": getattr(self._item, "instance", None)}
        for name, fixture in self._own_fixtures().items():
            if fixture.cached_result is not None:
                values[name] = fixture.cached_result[0]
        return values

    def begin(self, keep: Collection[str]) -> None:
        """Set up and tear down for each call; keep the values of some fixtures."""
        self._renews_fixtures = True
        self._keeps = frozenset(keep)
        own = vars(self._item)
        self._first = {name: own[name] for name in _GIVEN if name in own}

    def stop_keeping(self) -> None:
        """Release the values that were kept, and keep no more."""
        self._keeps = frozenset()
        self._kept.clear()

    def end(self) -> None:
        """Set up once again, as before ``begin``. Raises what the setup raises.

        What a teardown raises is the test's own error, and pytest's teardown raises it.
        If fixtures can be set up only once, later calls have what they gave at first.
        """
        self.stop_keeping()
        self._renews_fixtures = False
        try:
            self._set_up()
        except BaseException:
            if self._first:
                vars(self._item).update(self._first)
                self._serves_once = True
            raise
        finally:
            self._first = {}

    def _end_call(self, but: Collection[str] = ()) -> None:
        if self._renews_fixtures:
            self._keep_values(but)
            self._tear_down()

    def _run(self) -> None:
        __tracebackhide__ = True
        with self._around or nullcontext():
            self._run_body()

    def _run_body(self) -> None:
        __tracebackhide__ = True
        self._runtest()

    def _set_up(self) -> None:
        """Set up the fixtures, unless they are set up.

        pytest remembers a setup that failed and would not try again.
        """
        item = self._item
        state = item.session._setupstate
        try:
            if item in state.stack and state.stack[item][1] is not None:
                self._tear_down()
        finally:
            is_anew = item not in state.stack
            state.setup(item)
        if is_anew:
            self._first = {}

    def _tear_down(self) -> None:
        item = self._item
        outcomes = item.stash.get(tmppath_result_key, None)
        try:
            item.session._setupstate.teardown_exact(item.parent)
        finally:
            if outcomes is not None:  # tmp_path's teardown expects and drops them
                item.stash[tmppath_result_key] = outcomes
            item._initrequest()  # releases the values of fixtures
            self._drop_instance()

    def _drop_instance(self) -> None:
        """Have pytest make a new instance of a test class, as for another test."""
        attributes = vars(self._item)
        instance = attributes.get("_instance")
        if instance is None:
            return
        del attributes["_instance"]
        if getattr(attributes.get("_obj"), "__self__", None) is instance:
            del attributes["_obj"]

    def _keep_values(self, but: Collection[str]) -> None:
        if self._keeps:
            values = self.values()
            self._kept += [values.get(n) for n in self._keeps if n not in but]

    def _own_fixtures(self) -> dict[str, Any]:
        active: dict[str, Any] = self._item._request._fixture_defs
        return {
            name: fixture
            for name, fixture in active.items()
            if fixture.scope == "function" and not _is_parameter(fixture)
        }


def _is_parameter(fixture: Any) -> bool:
    """Return whether pytest made a fixture to pass a value of parametrize."""
    return fixture.func is get_direct_param_fixture_func


def _is_loop(fixture: Any) -> bool:
    """Return whether a fixture of pytest-asyncio holds the event loop of the test."""
    return str(getattr(fixture.func, "__module__", "")).startswith("pytest_asyncio.")


def _cleans_up(fixture: Any) -> bool:
    """Return whether a fixture of user code has a teardown, or uses one that undoes.

    Finalizers from pytest itself belong to fixtures that use this one, or are a hook.
    """
    module = str(getattr(fixture.func, "__module__", ""))
    if module.partition(".")[0] in _OTHERS and not _is_xunit(fixture.argname):
        return False
    return (
        _goes_on_after_yield(fixture.func)
        or not _PUTS_BACK.isdisjoint(fixture.argnames)
        or any(map(_is_users, fixture._finalizers))
    )


def _goes_on_after_yield(function: Any) -> bool:
    """Return whether a generator function does more than return after some yield.

    Assume so if that is unknown.
    """
    if not (isgeneratorfunction(function) or isasyncgenfunction(function)):
        return False
    code = getattr(function, "__code__", None)
    if code is None:
        return True
    names = [instruction.opname for instruction in get_instructions(code)]
    if "YIELD_FROM" in names:  # until Python 3.10
        return True
    return any(
        _first_action(names[index + 1 :]) not in _RETURNS
        for index, name in enumerate(names)
        if name == "YIELD_VALUE"
    )


def _first_action(names: Sequence[str]) -> str | None:
    return next((name for name in names if name not in _IDLE), None)


def _is_users(finalizer: Any) -> bool:
    call = finalizer.func if isinstance(finalizer, partial) else finalizer
    return str(getattr(call, "__module__", "")).partition(".")[0] not in _OTHERS


def _is_xunit(name: str) -> bool:
    return name.startswith(_XUNIT)


def _name_of(name: str) -> str:
    """Return the name by which users know a fixture: ``teardown_method``."""
    for method in ("setup_method", "setup_function"):
        if name.startswith(f"{_XUNIT}{method}"):
            return method.replace("setup", "teardown")
    return name
