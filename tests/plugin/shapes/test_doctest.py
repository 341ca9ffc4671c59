"""A doctest is repeated with the names of its first run."""

from __future__ import annotations

import pytest

MODULE = """
import pytest

KEPT = []

def clean():
    '''Define a name, and use the fixtures of doctests.

    >>> getfixture("tmp_path").is_dir()
    True
    >>> "x" in dir()
    False
    >>> x = shared
    '''

def leaky():
    '''Keep many objects.

    >>> objects = [object() for _ in range(200)]
    >>> KEPT.append(objects)
    '''

def once():
    '''Pass only once.

    >>> len(KEPT) > 1_000 or KEPT.extend([0] * 1_001)
    '''

def failing():
    '''
    >>> 1
    2
    '''
"""
CONFTEST = """
import pytest

@pytest.fixture(autouse=True)
def shared(doctest_namespace):
    doctest_namespace["shared"] = 1
"""


@pytest.mark.parametrize("repeat", ["body", "test"])
def test_a_doctest_is_measured(pytester: pytest.Pytester, repeat: str) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(module=MODULE)
    options = ("--tfleak", "--tfleak-iterations=10", f"--tfleak-repeat={repeat}")
    result = pytester.runpytest("--doctest-modules", *options, "-v", "module.py")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines_random(
        [
            "clean *module.py::module.clean*",
            "*made at*module.py:18 in leaky",
            "*held by*module.KEPT*",
            "NOT MEASURED*module.py::module.once*",
            "*cannot be repeated: passed at first, DocTestFailure in iteration 2*",
            "NOT MEASURED*module.py::module.failing*",
        ]
    )
