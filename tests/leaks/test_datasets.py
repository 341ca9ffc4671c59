"""The intervention on datasets, tested in a process of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.slow
def test_datasets_give_the_same_elements(run_alone: Callable[..., None]) -> None:
    run_alone("datasets")
