"""Memory that C++ keeps, tested in a process of its own, which memray instruments."""

from __future__ import annotations

from collections.abc import Callable

import pytest


def test_native_memory_is_traced_to_the_user_s_line(
    run_alone: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("memray", reason="memray is not installed")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    run_alone("native", options=["-p", "no:memray"])
