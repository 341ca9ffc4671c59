"""The hooks that pytest-tfleak offers to other plugins and to ``conftest.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_tfleak.probes.base import Probe
    from pytest_tfleak.probes.census import Census


@pytest.hookspec
def pytest_tfleak_probes(census: Census) -> Sequence[Probe]:
    """Return new probes for one measurement.

    Called once for each measured test. ``census`` counts living objects by type: call
    ``census.watch(kind, types)`` here, and ``census.alive(kind)`` in the probe's
    ``read``. The built-in probes come from the same hook and are read first.
    """
    raise NotImplementedError
