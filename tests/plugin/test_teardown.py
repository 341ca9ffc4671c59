"""Objects that a body leaves until its fixtures are torn down are no leak."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any

import pytest

from pytest_tfleak.plugin.shapes.function import _goes_on_after_yield
from tests.needs import needs_tensorflow

REGISTRY = """
import pytest

REGISTRY, KEPT = [], []
pytestmark = pytest.mark.tfleak(iterations=20, warmup=2, diagnose="off")

def fill(registry=REGISTRY):
    registry.append([object() for _ in range(200)])
"""
NOTE = "*Fixtures clean up what the body leaves ({}): judged*"


def run_source(pytester: pytest.Pytester, source: str) -> pytest.RunResult:
    pytester.makepyfile(REGISTRY + source)
    return pytester.runpytest("-vv")


@pytest.mark.parametrize(
    ("fixture", "name"),
    [
        (
            """
@pytest.fixture(autouse=True)
def clean():
    yield REGISTRY
    REGISTRY.clear()
""",
            "clean",
        ),
        (
            """
@pytest.fixture(autouse=True)
def clean(request):
    request.addfinalizer(REGISTRY.clear)
""",
            "clean",
        ),
        (
            """
@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(fill, "__defaults__", ([],))
""",
            "fresh",
        ),
        ("def teardown_function(): REGISTRY.clear()", "teardown_function"),
    ],
    ids=["yield", "finalizer", "monkeypatch", "xunit"],
)
def test_a_registry_that_a_teardown_empties_is_clean(
    pytester: pytest.Pytester, fixture: str, name: str
) -> None:
    result = run_source(pytester, f"{fixture}\ndef test_it(): fill()\n")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([NOTE.format(name)])


def test_teardown_method_cleans_up_too(pytester: pytest.Pytester) -> None:
    source = """
class TestIt:
    def teardown_method(self): REGISTRY.clear()

    def test_it(self): fill()
"""
    result = run_source(pytester, source)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([NOTE.format("teardown_method")])


def test_a_leak_that_no_teardown_ends_is_found(pytester: pytest.Pytester) -> None:
    source = """
ups = []

@pytest.fixture(autouse=True)
def clean():
    ups.append(1)
    yield
    REGISTRY.clear()

class Service:
    def __init__(self): self.cache = []
    def close(self): pass

@pytest.fixture
def service():
    service = Service()
    yield service
    service.close()

def test_beside(): fill(); fill(KEPT)

def test_elsewhere(): fill(KEPT)

def test_in_the_value(service): fill(service.cache)

def test_after():
    assert len(ups) < 150 and not REGISTRY
"""
    result = run_source(pytester, source)
    result.assert_outcomes(failed=3, passed=1)
    result.stdout.fnmatch_lines_random(
        [
            "*note *Fixtures clean up what the body leaves (clean):*",
            "LEAK *::test_beside*",
            "LEAK *::test_elsewhere*",
            "LEAK *::test_in_the_value*",
        ]
    )


def test_a_leak_stands_if_the_teardown_fails_and_that_is_an_error(
    pytester: pytest.Pytester,
) -> None:
    source = """
@pytest.fixture(autouse=True)
def clean():
    yield
    raise RuntimeError("late")

def test_it(): fill()
"""
    result = run_source(pytester, source)
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(['*repeat="test" was cut short: RuntimeError: late*'])


@pytest.mark.parametrize("error", ["ValueError", "pytest.fail"])
def test_a_leak_stands_if_fixtures_cannot_be_set_up_twice(
    pytester: pytest.Pytester, error: str
) -> None:
    source = f"""
ups, bodies = [], []

@pytest.fixture
def broken(tmp_path):
    ups.append(1)
    if len(ups) > 1:
        raise_({error}, "taken")
    yield ups

@pytest.fixture
def clean(broken):
    yield broken
    REGISTRY.clear()

def raise_(error, text):
    raise error(text)

@pytest.mark.tfleak(diagnose="on")
def test_it(clean):
    assert len(ups) == 1
    fill()

def test_after():
    assert len(ups) > 2
"""
    result = run_source(pytester, source)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines_random(
        ["LEAK *", '*repeat="test" was cut short: *taken*']
    )


def test_a_setup_that_fails_once_is_done_again(pytester: pytest.Pytester) -> None:
    source = """
ups = []

@pytest.fixture
def clean():
    ups.append(1)
    assert len(ups) != 3
    yield ups
    REGISTRY.clear()

@pytest.mark.tfleak(diagnose="on")
def test_it(clean, request):
    assert request.node.funcargs["clean"] is ups
    fill()
"""
    result = run_source(pytester, source)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines_random(
        ["LEAK *", '*repeat="test" was cut short: AssertionError*']
    )
    assert result.stdout.str().count("was cut short") == 1


def test_growth_that_goes_with_a_value_is_a_leak(pytester: pytest.Pytester) -> None:
    source = """
@pytest.fixture(autouse=True)
def idle():
    yield
    print("bye")

@pytest.fixture
def routes():
    seen = []

    def handler():
        fill(seen)

    yield {"/": handler}

@pytest.fixture
def client():
    seen = []

    class Client:
        def call(self): fill(seen)

    yield Client()

def test_routes(routes): routes["/"]()

def test_client(client): client.call()
"""
    run_source(pytester, source).assert_outcomes(failed=2)


def bare() -> Generator[int, None, None]:
    yield 1


def either(value: int) -> Generator[int, None, None]:
    if value:
        yield 1
        return
    yield 2


def in_a_block(value: Any) -> Generator[int, None, None]:
    with value:
        yield 1


def tried(value: Any) -> Generator[int, None, None]:
    try:
        yield 1
    finally:
        value.clear()


def handed_on() -> Generator[int, None, None]:
    yield from bare()


def in_a_loop(value: Any) -> Generator[int, None, None]:
    while value:
        yield 1
    value.clear()


def in_one_branch(value: Any) -> Generator[int, None, None]:
    if value:
        yield 1
    else:
        yield 2
        value.clear()


def without_yield() -> list[int]:
    return []


@pytest.mark.parametrize("function", [bare, either, without_yield])
def test_a_bare_yield_cleans_nothing_up(function: object) -> None:
    assert not _goes_on_after_yield(function)


@pytest.mark.parametrize(
    "function",
    [in_a_block, tried, handed_on, in_a_loop, in_one_branch, partial(bare)],
)
def test_a_yield_with_something_after_it_cleans_up(function: object) -> None:
    assert _goes_on_after_yield(function)


def test_fixtures_that_clean_nothing_up_are_left_alone(
    pytester: pytest.Pytester,
) -> None:
    source = """
ups = []

@pytest.fixture
def number():
    ups.append(1)
    return 1

@pytest.fixture
def text():
    ups.append(1)
    yield "text"

def test_it(number, text, tmp_path): fill()

def test_after(): assert len(ups) == 2
"""
    run_source(pytester, source).assert_outcomes(failed=1, passed=1)


@pytest.mark.parametrize("repeat", ["body", "test"])
def test_a_value_of_parametrize_is_no_fixture(
    pytester: pytest.Pytester, repeat: str
) -> None:
    source = f"""
@pytest.mark.tfleak(diagnose="on", repeat="{repeat}")
@pytest.mark.parametrize("values", [[]])
def test_it(values): fill(values)
"""
    pytester.makepyfile(REGISTRY + source)
    result = pytester.runpytest_subprocess()  # in process, pytest's own records grow
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*held by *parameter values (list of *", "*cause *`parametrize` made once*"]
    )


@needs_tensorflow
def test_what_a_fixture_enters_again_is_no_leftover(
    pytester: pytest.Pytester,
) -> None:
    source = """
import tensorflow as tf

@pytest.fixture
def session():
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        yield session

def test_it(session): tf.add(1, 2)
"""
    pytester.makepyfile(REGISTRY + source)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["LEAK: tf.graphs.ops +3 per iteration*"])
    result.stdout.no_fnmatch_line("*on the stack*")


@pytest.mark.parametrize("place", ["", "class TestIt:"], ids=["function", "method"])
def test_a_fixture_that_can_be_set_up_only_once_hides_no_leak(
    pytester: pytest.Pytester, place: str
) -> None:
    indent = "    " if place else ""
    me = "self, " if place else ""
    result = run_source(
        pytester,
        f"""
NAMES = set()

@pytest.fixture
def name():
    if NAMES:
        raise KeyError("registered before")
    NAMES.add("one")
    yield "one"
    REGISTRY.clear()

{place}
{indent}@pytest.mark.tfleak(diagnose="on")
{indent}def test_it({me}name):
{indent}    assert name == "one"
{indent}    KEPT.append([object() for _ in range(200)])
""",
    )
    result.stdout.fnmatch_lines(
        ["LEAK: *", "*held by *KEPT*", '*repeat="test" was cut short: KeyError*']
    )
    assert result.stdout.str().count("was cut short") == 1
