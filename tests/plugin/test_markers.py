"""Which tests are measured, and which of several markers wins."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_tfleak.plan import Plan
from pytest_tfleak.plugin import command_line

PlansOf = Callable[..., dict[str, Plan | None]]


@pytest.fixture
def plans_of(pytester: pytest.Pytester) -> PlansOf:
    """Return a function that returns the plan of each test in a source text."""

    def collect(source: str, *args: str) -> dict[str, Plan | None]:
        items, _ = pytester.inline_genitems(pytester.makepyfile(source), *args)
        run = command_line.run_options(items[0].config)
        asked = {item.name: command_line.request_for(item, run) for item in items}
        return {name: one.plan if one else None for name, one in asked.items()}

    return collect


def test_the_innermost_marker_wins_key_by_key(plans_of: PlansOf) -> None:
    plan = plans_of(
        """
        import pytest
        from pytest import mark

        pytestmark = mark.tfleak(iterations=10, warmup=1, blocks=1, fds=1, threads=1)

        @mark.tfleak(warmup=2, blocks=2, fds=2, threads=2)
        class Far:
            pass

        @mark.tfleak(blocks=3, fds=3, threads=3)
        class Near(Far):
            pass

        @mark.tfleak(fds=4, threads=4, children=4)
        class TestClass(Near):
            @mark.tfleak(threads=5, children=5)
            @mark.parametrize("x", [pytest.param(1, marks=mark.tfleak(children=6))])
            def test_it(self, x):
                pass
        """
    )["test_it[1]"]
    assert plan is not None
    assert (plan.iterations, plan.warmup, plan.blocks) == (10, 2, 3)
    assert (plan.fds, plan.threads, plan.children) == (4, 5, 6)


def test_parameters_of_one_test_have_plans_of_their_own(plans_of: PlansOf) -> None:
    plans = plans_of(
        """
        import pytest
        few = pytest.mark.tfleak(iterations=5)

        @pytest.mark.tfleak(iterations=9)
        @pytest.mark.parametrize("x", [pytest.param("a", marks=few), "b"])
        def test_it(x): pass
        """
    )
    counts = {name: plan.iterations for name, plan in plans.items() if plan}
    assert counts == {"test_it[a]": 5, "test_it[b]": 9}


def test_several_markers_of_one_level_add_up(plans_of: PlansOf) -> None:
    plan = plans_of(
        """
        import pytest
        pytestmark = [pytest.mark.tfleak(iterations=9), pytest.mark.tfleak(warmup=2)]

        @pytest.mark.tfleak(blocks=1)
        @pytest.mark.tfleak(fds=2)
        @pytest.mark.tfleak(fds=2)
        def test_it(): pass
        """
    )["test_it"]
    assert plan == Plan(iterations=9, warmup=2, blocks=1, fds=2)


OPTED_OUT = """
    import pytest
    pytestmark = pytest.mark.tfleak(iterations=9)

    @pytest.mark.tfleak(enabled=False, reason="too slow")
    class TestSlow:
        def test_out(self): pass

        @pytest.mark.tfleak
        def test_back(self): pass

        @pytest.mark.tfleak(warmup=1)
        def test_back_with_options(self): pass
"""


@pytest.mark.parametrize("args", [[], ["--tfleak"]], ids=["", "--tfleak"])
def test_an_inner_marker_opts_in_what_an_outer_one_opts_out(
    plans_of: PlansOf, args: list[str]
) -> None:
    plans = plans_of(OPTED_OUT, *args)
    out, back, options = plans.values()
    assert out and back and options
    assert (out.enabled, out.reason) == (False, "too slow")
    assert (back.enabled, back.reason, back.iterations) == (True, None, 9)
    assert (options.enabled, options.warmup, options.iterations) == (True, 1, 9)


def test_a_test_without_a_marker_is_measured_only_on_demand(plans_of: PlansOf) -> None:
    source = "def test_it(): pass"
    assert plans_of(source) == {"test_it": None}
    asked = plans_of(source, "--tfleak", "--tfleak-iterations=7")["test_it"]
    assert asked is not None
    assert asked.iterations == 7


def test_a_conftest_can_add_markers_to_tests_and_classes(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest(
        """
        import pytest

        def pytest_collection_modifyitems(items):
            for item in items:
                item.add_marker(pytest.mark.tfleak(warmup=0))
                item.parent.add_marker(pytest.mark.tfleak(iterations=6, warmup=3))
        """
    )
    pytester.makepyfile(
        """
        class TestClass:
            calls = 0
            def test_it(self): type(self).calls += 1

        def test_after(): assert TestClass.calls == 6
        """
    )
    result = pytester.runpytest("-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["clean*test_it*", "    6 iterations*"])


def test_a_fixture_can_add_a_marker(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        calls = []

        @pytest.fixture
        def measured(request):
            request.applymarker(pytest.mark.tfleak(iterations=6, warmup=0))

        def test_it(measured): calls.append(0)
        def test_after(): assert len(calls) == 6
        """
    )
    pytester.runpytest().assert_outcomes(passed=2)


def test_opted_out_tests_run_once_and_are_counted(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        calls = []

        @pytest.mark.tfleak(enabled=False, reason="keeps a cache")
        def test_it(): calls.append(0)

        @pytest.mark.tfleak(enabled=False)
        def test_after(): assert len(calls) == 1
        """
    )
    result = pytester.runpytest("--tfleak")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["2 disabled"])
    result = pytester.runpytest("-v")
    result.stdout.fnmatch_lines(["*test_it*", "*keeps a cache*"])
