"""How a body ends early."""

from __future__ import annotations

import pytest

from pytest_tfleak.run.interrupts import Endings


class Failed(BaseException):
    """As pytest.fail() raises, and pytest-timeout too."""


@pytest.mark.parametrize("is_timeout", [False, True])
def test_only_a_failure_from_outside_passes_through(is_timeout: bool) -> None:
    endings = Endings(failures=(Failed,), is_from_outside=lambda _: is_timeout)
    assert endings.passes_through(Failed()) is is_timeout
    assert endings.passes_through(KeyboardInterrupt())
    assert not endings.passes_through(ValueError())
