"""The instance of a plain class lives as long as the body is repeated."""

from __future__ import annotations

import pytest


def test_a_message_names_what_self_keeps(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        class Test:
            @pytest.mark.tfleak(iterations=10, warmup=2)
            def test_it(self):
                vars(self).setdefault("kept", []).append([object()] * 2 + [0.5] * 999)
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*held by * self.kept (list of *"])


@pytest.mark.parametrize(("repeat", "instances"), [("body", 1), ("test", 7)])
def test_an_instance_is_new_where_the_whole_test_is_repeated(
    pytester: pytest.Pytester, repeat: str, instances: int
) -> None:
    pytester.makepyfile(
        f"""
        import pytest
        SEEN = set()

        class Test:
            @pytest.mark.tfleak(iterations=5, warmup=2, repeat={repeat!r})
            def test_it(self):
                vars(self).setdefault("calls", []).append(0)
                SEEN.add(len(SEEN) if len(self.calls) == 1 else 0)

        def test_after():
            assert len(SEEN) >= {instances}
        """
    )
    pytester.runpytest().assert_outcomes(passed=2)
