from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points

import pytest

# Runs of pytester in this process forget the modules that they imported, and to import
# these again would take half of the time of each test.
import pytest_tfleak.plugin.item  # noqa: F401 (see above)

Run = Callable[..., pytest.RunResult]


#: Files whose tests do not ask who holds what leaks: the search takes most of their
#: time. A test that asks uses ``diagnosed``.
_UNEXPLAINED = (
    "test_files",
    "test_json",
    "test_junit",
    "test_output",
    "test_own_outcome",
    "test_teardown",
)


@pytest.fixture(autouse=True)
def _few_plugins(
    request: pytest.FixtureRequest,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Disable plugins in inner runs that are slow to load or change their order."""
    # without an installed entry point, load the plugin by name
    if not entry_points(group="pytest11", name="tfleak"):
        monkeypatch.setenv("PYTEST_PLUGINS", "pytest_tfleak.plugin")
    # Hypothesis' plugin would import all of Hypothesis again in each inner run
    names = (
        "hypothesispytest",
        "randomly",
        "memray",
        "cacheprovider",
        "asyncio",
        "anyio",
    )
    few = " ".join(f"-p no:{name}" for name in names)
    is_explained = "diagnosed" in request.fixturenames
    if request.path.stem in _UNEXPLAINED and not is_explained:
        few += " -o tfleak_diagnose=off"
    monkeypatch.setenv("PYTEST_ADDOPTS", few)


@pytest.fixture
def diagnosed() -> None:
    """Let inner runs look for the holder of a leak, as they do by default."""


#: Where each test also runs on two workers; elsewhere, that is slow.
_ON_WORKERS = ("test_json",)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        chosen = getattr(getattr(item, "callspec", None), "params", {}).get("run")
        if chosen == "xdist" and item.path.stem not in _ON_WORKERS:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(params=["one process", "xdist"])
def run(request: pytest.FixtureRequest, pytester: pytest.Pytester) -> Run:
    """Return a function that runs pytest, in one process or with two workers."""
    if request.param == "one process":
        return pytester.runpytest_inprocess
    pytest.importorskip("xdist")

    def run_on_workers(*args: str) -> pytest.RunResult:
        return pytester.runpytest_inprocess("-n2", *args)

    return run_on_workers


@pytest.fixture
def leaks(pytester: pytest.Pytester) -> None:
    """Let test files import ``leak``, which keeps 200 small objects for each call."""
    pytester.makepyfile(
        leaks="""
        KEPT = []

        def leak():
            KEPT.append([object() for _ in range(200)])
        """
    )


@pytest.fixture
def fake_probe(pytester: pytest.Pytester) -> None:
    """Add a probe whose only signal, ``fake.things``, grows by 1 per iteration."""
    pytester.makeconftest(
        """
        from itertools import count
        from pytest_tfleak.testing import FakeProbe

        def pytest_tfleak_probes(census):
            return [FakeProbe({"fake.things": count()}, unit="things")]
        """
    )
