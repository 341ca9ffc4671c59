"""Fakes of what a machine without a GPU does not have, and what no test may reach."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import module_from_spec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

FAKES = Path(__file__).parent / "fakes"

#: Runs a program beside the fake libraries; returns what it prints. Keywords are
#: environment variables; a first argument is what the fake NVML says.
RunFaked = Callable[..., str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, unless asked for, and what Python cannot show."""
    reasons = {}
    if "TFLEAK_SLOW" not in os.environ:
        reasons["slow"] = "slow: set TFLEAK_SLOW=1"
    if sys.version_info < (3, 11):
        reasons["layout"] = "Python 3.10 makes instances and frames of other objects"
    for item in items:
        for name, reason in reasons.items():
            if item.get_closest_marker(name) is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _inner_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the runs that tests start in order, and out of the summary of a CI job."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:randomly")
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


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
    """Return an environment in which the driver's libraries are the fakes."""
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
    """Return a function that runs a program beside the fake libraries."""

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
    """Return the module ``fake_gpus``; what it puts in place goes with the test."""
    spec = spec_from_file_location("fake_gpus", FAKES / "fake_gpus.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in module.STOOD_IN_FOR:
        # what is here is put back after the test, and what is not goes
        monkeypatch.setitem(sys.modules, name, sys)
        monkeypatch.delitem(sys.modules, name)
    for name in ("TF_GPU_ALLOCATOR", "TF_FORCE_GPU_ALLOW_GROWTH"):
        monkeypatch.delenv(name, raising=False)
    return module
