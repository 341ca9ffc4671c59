"""Fakes for machines without a GPU, and fixtures that isolate inner test runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from datetime import timezone
from importlib.util import module_from_spec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings

from tests.own_process import OwnProcess
from tests.own_process import has_own_process

# NumPy cannot be imported twice in a process, and runs of pytester in this process
# forget the modules that they imported.
with suppress(ImportError):
    import numpy  # noqa: F401 (see above)

FAKES = Path(__file__).parent / "fakes"
MOMENT = 0.05  # seconds

# Hypothesis draws few examples for each test in CI, and as many as TFLEAK_FUZZ says in
# "tox -e fuzz". Nothing is judged by time, as the machine may run much else.
settings.register_profile(
    "tfleak",
    max_examples=int(os.environ.get("TFLEAK_FUZZ", "25")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("tfleak")

#: Runs a program with the fake libraries, and returns its output. The first argument is
#: what the fake NVML reports; keywords are environment variables.
RunFaked = Callable[..., str]


@pytest.fixture(autouse=True)
def _short_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait a second for threads before each second look: here are none.

    Tests whose runs have a process of their own wait as users do.
    """
    monkeypatch.setattr("pytest_tfleak.run.confirm.MOMENT", MOMENT)


@pytest.fixture(autouse=True)
def _without_tensorflow() -> Iterator[None]:
    """Fail a test that imports TensorFlow into the process of all tests: see needs.py.

    Tests that need it run in a process of their own, which imports it for all of them.
    """
    library = "tensorflow.python.pywrap_tensorflow"  # of which no test has a fake
    was_there = library in sys.modules
    yield
    assert was_there or library not in sys.modules, "it needs its own process"


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.File | None:
    """Run a file that looks at all objects often in a process of its own."""
    if not has_own_process(module_path, parent.config):
        return None
    return OwnProcess.from_parent(parent, path=module_path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that take minutes, unless requested, or do not fit this Python."""
    slow = [item for item in items if item.get_closest_marker("slow") is not None]
    chosen = _chosen(slow)
    for item in slow:
        if item not in chosen:
            item.add_marker(pytest.mark.skip(reason="slow: set TFLEAK_SLOW=1 for all"))
    for item in items if sys.version_info < (3, 11) else ():
        if item.get_closest_marker("layout") is not None:
            reason = "Python 3.10 makes instances and frames of other objects"
            item.add_marker(pytest.mark.skip(reason=reason))


def _chosen(slow: list[pytest.Item]) -> list[pytest.Item]:
    """Return the slow tests to run, as TFLEAK_SLOW says: none, today's or all.

    Each day has one in 28, so that daily runs cover all of them in four weeks.
    """
    asked = os.environ.get("TFLEAK_SLOW", "")
    if asked != "today":
        return slow if asked else []
    day = datetime.now(timezone.utc).toordinal() % 28
    return sorted(slow, key=lambda item: item.nodeid)[day::28]


@pytest.fixture(autouse=True)
def _inner_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep inner runs in a fixed order, and unaware of a CI job around them."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:randomly")
    for name in ("CI", "BUILD_NUMBER", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn coverage off in processes that a test starts, as tracing takes memory."""
    for name in [name for name in os.environ if name.startswith("COVERAGE")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def fake_libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a ``libnvidia-ml.so.1`` and a ``libcuda.so.1``."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("the fake of the NVIDIA driver needs Linux and a C compiler")
    folder = tmp_path_factory.mktemp("driver")
    for source, library in (
        ("libnvidia_ml.c", "libnvidia-ml.so.1"),
        ("libcuda.c", "libcuda.so.1"),
    ):
        command = [compiler, "-shared", "-fPIC", "-o", str(folder / library)]
        subprocess.run([*command, str(FAKES / source)], check=True)
    return folder


@pytest.fixture
def driver_environment(fake_libraries: Path, tmp_path: Path) -> dict[str, str]:
    """Return an environment in which the fakes stand for the driver's libraries."""
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(fake_libraries),
        "FAKE_NVML": str(tmp_path / "nvml.txt"),
        "FAKE_NVML_LOG": str(tmp_path / "nvml.log"),
        "PYTHONPATH": os.pathsep.join([str(FAKES), str(FAKES.parents[1])]),
    }
    for name in list(environment):
        if name.startswith(("CUDA_VISIBLE", "PYTEST_", "TF_GPU", "TF_FORCE_GPU")):
            del environment[name]
    return environment


@pytest.fixture
def run_faked(driver_environment: dict[str, str], tmp_path: Path) -> RunFaked:
    """Return a function that runs a program with the fake libraries."""

    def run(program: str, nvml: str = "", **environment: str) -> str:
        tmp_path.joinpath("nvml.txt").write_text(nvml)
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**driver_environment, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def fake_gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module ``fake_gpus``; its fakes are removed after the test."""
    spec = spec_from_file_location("fake_gpus", FAKES / "fake_gpus.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in module.STOOD_IN_FOR:
        # monkeypatch restores existing modules after the test, and removes added ones
        monkeypatch.setitem(sys.modules, name, sys)
        monkeypatch.delitem(sys.modules, name)
    for name in ("TF_GPU_ALLOCATOR", "TF_FORCE_GPU_ALLOW_GROWTH"):
        monkeypatch.delenv(name, raising=False)
    return module
