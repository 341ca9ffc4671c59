"""Each kind of change has one place: what is added there works everywhere.

The same is tested for signals in ``tests/unit/test_signals.py``, and for reports in
``tests/plugin/test_files.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from _pytest import unittest as pytest_unittest

import pytest_tfleak
from pytest_tfleak import plan
from pytest_tfleak.plugin import command_line
from pytest_tfleak.plugin import shapes
from pytest_tfleak.plugin.shapes import testcase

PACKAGE = Path(pytest_tfleak.__file__).parent


@pytest.mark.parametrize(
    "place",
    [
        "signals.py",
        "diagnosis/causes",
        "known.py",
        "diagnosis/experiments",
        "reports",
        "run/confirm.py",
        "plugin/outputs.py",
        "plan.py",
        "plugin/shapes",
        "tf/names.py",
        "reports/curves.py",
    ],
)
def test_the_place_of_each_change_exists(place: str) -> None:
    assert (PACKAGE / place).exists()


@dataclass(frozen=True, slots=True, kw_only=True)
class WiderPlan(plan.Plan):
    """A plan with one more field."""

    patience: int = plan._counted(3, "how often a body is tried", "times")


def test_a_field_of_the_plan_is_an_option_everywhere(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (plan, command_line):
        monkeypatch.setattr(module, "Plan", WiderPlan)

    def plan_of(marker: str, *args: str) -> Any:
        source = f"import pytest\n@pytest.mark.tfleak({marker})\ndef test_it(): pass"
        items, _ = pytester.inline_genitems(pytester.makepyfile(source), *args)
        request = command_line.request_for(
            items[0], command_line.run_options(items[0].config)
        )
        assert request is not None
        return request.plan

    pytester.makeini("[pytest]\ntfleak_patience = 5")
    assert plan_of("").patience == 5
    assert plan_of("", "--tfleak-patience=6").patience == 6
    assert plan_of("patience=7", "--tfleak-patience=6").patience == 7
    assert "patience=3: how often a body is tried [times]" in " ".join(
        command_line.marker_help().split()
    )


class CaseShape:
    """Calls the method of a TestCase again and again, as a plain function."""

    repeat = "body"

    def __init__(self, runtest: Callable[[], object]) -> None:
        self.call = runtest

    def handed(self) -> dict[str, object]:
        return {}

    def teardown(self) -> None:
        return None

    def renewed(self) -> frozenset[str]:
        return frozenset()

    def is_inherited(self) -> bool:
        return False

    def forget(self) -> None:
        return None


def test_a_new_file_of_a_shape_is_asked() -> None:
    files = {path.stem for path in (PACKAGE / "plugin/shapes").glob("[!_]*.py")}
    assert set(shapes.SHAPES) == files
    assert shapes.SHAPES[-1] == "function"  # takes every function
    assert shapes.SHAPES.index("hypothesis") < shapes.SHAPES.index("testcase")


def test_the_file_of_a_shape_makes_its_tests_measured(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recognize(item: pytest.Item, runtest: Any, repeat: str) -> CaseShape | None:
        is_case = isinstance(item, pytest_unittest.TestCaseFunction)
        return CaseShape(runtest) if is_case else None

    monkeypatch.setattr(testcase, "recognize", recognize)
    pytester.makepyfile(
        """
        import unittest
        import pytest

        KEPT = []

        @pytest.mark.tfleak(iterations=10, diagnose="off")
        class TestKept(unittest.TestCase):
            def test_kept(self):
                KEPT.append([object() for _ in range(200)])
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:randomly")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["LEAK: python.blocks +*"])
