"""Tear down what pytest set up for one test, before pytest does."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

import pytest
from _pytest.tmpdir import tmppath_result_key

if TYPE_CHECKING:
    from pytest_tfleak.run.one_call import Outlasting

#: The error of a teardown that ran early; pytest's own teardown raises it.
RAISED = pytest.StashKey[BaseException]()


class EarlyTeardown:
    """Tears down a test's own fixtures, to see whether they free what is left.

    pytest finds nothing left to do for this test, except to raise what a teardown
    raised. The values of fixtures stay in place, since hooks may use them afterwards.
    """

    def __init__(self, item: pytest.Item) -> None:
        self._item = item

    def tear_down(self) -> Outlasting:
        """Tear down; return the values of fixtures, and the instance."""
        from pytest_tfleak.run.one_call import Outlasting

        item = self._item
        request: Any = getattr(item, "_request", None)
        fixtures = dict(getattr(request, "_fixture_defs", {}))
        own: dict[str, object] = {"self": getattr(item, "instance", None)}
        wider: dict[str, object] = {}
        for name, fixture in fixtures.items():
            if fixture.cached_result is not None:
                values = own if fixture.scope == "function" else wider
                values[name] = fixture.cached_result[0]
        outcomes: Any = item.stash.get(tmppath_result_key, None)
        if outcomes is not None:
            outcomes["call"] = False  # keep the folder of tmp_path for a look at it
        try:
            item.session._setupstate.teardown_exact(item.parent)  # type: ignore[arg-type]  # has a chain
        except BaseException as error:
            item.stash[RAISED] = error
        finally:
            if outcomes is not None:  # tmp_path's teardown expects and drops them
                item.stash[tmppath_result_key] = outcomes
        return Outlasting(own=own, wider=wider)


def raise_late(item: pytest.Item) -> None:
    """Raise what an early teardown has raised."""
    error = item.stash.get(RAISED, None)
    if error is not None:
        del item.stash[RAISED]
        raise error
