"""Runs of pytest with and without GPUs, and workers that divide the GPUs."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from pathlib import Path

import pytest

A = "11111111-2222-3333-4444-555555555555"
B = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
SLICES = [f"MIG-{n}1111111-2222-3333-4444-555555555555" for n in range(3)]


@pytest.fixture
def faked(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    driver_environment: dict[str, str],
) -> pytest.Pytester:
    """Make inner runs use the fake driver, and no settings of this machine."""
    for name in os.environ.keys() - driver_environment.keys():
        if not name.startswith(("PYTEST_PLUGINS", "PYTEST_ADDOPTS")):
            monkeypatch.delenv(name)
    if not entry_points(group="pytest11", name="tfleak"):
        monkeypatch.setenv("PYTEST_PLUGINS", "pytest_tfleak.plugin")
    for name, value in driver_environment.items():
        monkeypatch.setenv(name, value)
    return pytester


def say(*lines: str) -> None:
    """Make the fake NVML report this."""
    Path(os.environ["FAKE_NVML"]).write_text("\n".join(lines))


GPU_TEST = """
import pytest
from fake_gpus import Gpus, load_cuda, say, stand_in

UUID = "11111111-2222-3333-4444-555555555555"
gpus = Gpus(1)
load_cuda(UUID)

@pytest.fixture(autouse=True, scope="module")
def devices():
    stand_in(gpus)

@pytest.mark.tfleak(iterations=10, warmup=2, diagnose="off")
def test_on_the_gpu():
    gpus.allocate({size})
"""
#: Without the other built-in probes, which need more of TensorFlow than the fake has.
ONLY_GPU_PROBES = """
import pytest

@pytest.fixture(autouse=True, scope="session")
def _no_other_probes():
    from pytest_tfleak.probes.tensorflow import TensorFlowProbe
    patch = pytest.MonkeyPatch()
    patch.setattr(TensorFlowProbe, "signals", lambda self: ())
    patch.setattr(TensorFlowProbe, "read", lambda self, *rest: None)
    patch.setattr(TensorFlowProbe, "reasons", lambda self: {})
    yield
    patch.undo()
"""


def test_a_gpu_that_was_measured_satisfies_require_gpu(faked: pytest.Pytester) -> None:
    say(f"card GPU-{A}", f"used GPU-{A} 9000000", f"process GPU-{A} self 7000000")
    faked.makeconftest(ONLY_GPU_PROBES)
    faked.makepyfile(GPU_TEST.format(size=0))
    result = faked.runpytest_subprocess("--tfleak-require-gpu", "-vv")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines_random(
        [
            "* gpu.allocator[[]GPU:0]* level at *",
            "* gpu.peak[[]GPU:0]* level at *; not judged",
            "* gpu.process[[]GPU*555]* level at 6.7 MiB; not judged",
            "* gpu.device[[]GPU*555]* level at 8.6 MiB; not judged",
        ]
    )


def test_a_gpu_that_fills_up_fails_the_test(faked: pytest.Pytester) -> None:
    say(f"card GPU-{A}", f"process GPU-{A} self 7000000")
    faked.makeconftest(ONLY_GPU_PROBES)
    faked.makepyfile(GPU_TEST.format(size=4096))
    result = faked.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "LEAK: gpu.allocator[[]GPU:0] +4 KiB per iteration*",
            "*GPU memory in TensorFlow's allocator*",
        ]
    )
    result.stdout.no_fnmatch_line("*gpu.process*per iteration*")


@pytest.mark.parametrize("how", ["option", "marker", "fixture"])
def test_a_test_for_the_gpu_cannot_pass_without_one(
    faked: pytest.Pytester, how: str
) -> None:
    marker = "require_gpu=True" if how == "marker" else ""
    body = "tfleak.check(lambda: None, require_gpu=True)" if how == "fixture" else "..."
    head = f"@pytest.mark.tfleak({marker})\ndef test_it():"
    if how == "fixture":
        head = "def test_it(tfleak):"
    faked.makepyfile(f"import pytest\n\n{head}\n    {body}\n")
    options = ["--tfleak-require-gpu"] if how == "option" else []
    result = faked.runpytest_subprocess(*options)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["NOT MEASURED: GPU memory was not measured*"])
    said = " ".join(result.stdout.str().split())  # undoes the wrapping of lines
    assert "GPU memory was not measured: until the tests import TensorFlow" in said


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("fail nvmlInitWithFlags 9", "the NVIDIA driver is not loaded"),
        ("fail nvmlInitWithFlags 18", "of different versions"),
        (f"card GPU-{A}", "the NVIDIA driver shows 1: is this TensorFlow built for"),
    ],
)
def test_the_error_says_why_there_is_no_gpu(
    faked: pytest.Pytester, said: str, why: str
) -> None:
    say(said)
    faked.makeconftest(ONLY_GPU_PROBES)
    faked.makepyfile(
        GPU_TEST.format(size=0).replace("Gpus(1)", "Gpus()").replace("gpus.all", "0 #")
    )
    result = faked.runpytest_subprocess("--tfleak-require-gpu")
    result.assert_outcomes(failed=1)
    text = " ".join(result.stdout.str().split())
    assert "TensorFlow has found no GPU" in text
    assert why in text


def test_the_header_says_why_the_gpu_probes_are_off(faked: pytest.Pytester) -> None:
    faked.makepyfile("def test_it(): pass")
    result = faked.runpytest_subprocess("--tfleak")
    result.stdout.fnmatch_lines(
        ["tfleak: off: allocator, nvml, tensorflow (until the tests import TensorFlow)"]
    )


CONFTEST = """
import os
import sys
import fake_gpus
fake_gpus.stand_in(None)  # as if TensorFlow were imported here
SEEN = os.environ.get("CUDA_VISIBLE_DEVICES", "nothing")

def pytest_runtest_logreport(report):
    if report.when == "call" and not hasattr(report, "node"):
        worker = os.environ["PYTEST_XDIST_WORKER"]
        with open("seen.txt", "a") as out:
            out.write(f"{worker}={SEEN}\\n")
"""
FOUR_TESTS = """
import time, pytest

@pytest.mark.parametrize("n", range(4))
def test_it(n):
    time.sleep(0.2)  # long enough for each worker to get one
"""


def spread(faked: pytest.Pytester, *options: str) -> tuple[dict[str, str], str]:
    """Run tests on workers; return what each one's conftest.py saw, and the output."""
    pytest.importorskip("xdist")
    faked.makeconftest(CONFTEST)
    faked.makepyfile(FOUR_TESTS)
    result = faked.runpytest_subprocess(*options)
    result.assert_outcomes(passed=4)
    lines = (faked.path / "seen.txt").read_text().splitlines()
    return dict(line.split("=") for line in lines), result.stdout.str()


def test_each_worker_gets_a_card_before_its_conftest_is_imported(
    faked: pytest.Pytester,
) -> None:
    say(f"card GPU-{B}", f"card GPU-{A}")
    seen, output = spread(faked, "-n2", "--tfleak-spread-gpus")
    assert seen == {"gw0": f"GPU-{B}", "gw1": f"GPU-{A}"}
    assert (
        "tfleak: GPUs: each of 2 workers has a card of its own, of GPU-aaaaaaaa, "
        "GPU-11111111"
    ) in output


def test_the_ini_can_ask_for_it(faked: pytest.Pytester) -> None:
    say(f"card GPU-{B}", f"card GPU-{A}")
    faked.makeini("[pytest]\ntfleak_spread_gpus = true")
    assert set(spread(faked, "-n2")[0].values()) == {f"GPU-{A}", f"GPU-{B}"}


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("3,5,7", {"gw0": "3", "gw1": "5"}),
        (f"GPU-{A},GPU-{B}", {"gw0": f"GPU-{A}", "gw1": f"GPU-{B}"}),
        (",".join(SLICES), {"gw0": SLICES[0], "gw1": SLICES[1]}),
        ("4", {"gw0": "4", "gw1": "4"}),
    ],
)
def test_workers_divide_the_list_that_is_set(
    faked: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    visible: str,
    expected: dict[str, str],
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert spread(faked, "-n2", "--tfleak-spread-gpus")[0] == expected


def test_workers_divide_the_slices_of_a_card(faked: pytest.Pytester) -> None:
    say(f"card GPU-{A}", *(f"slice {name}" for name in SLICES))
    seen, _ = spread(faked, "-n2", "--tfleak-spread-gpus")
    assert seen == {"gw0": SLICES[0], "gw1": SLICES[1]}


def test_fewer_cards_than_workers_are_shared_and_the_header_says_so(
    faked: pytest.Pytester,
) -> None:
    say(f"card GPU-{A}")
    seen, output = spread(faked, "-n2", "--tfleak-spread-gpus")
    assert set(seen.values()) == {f"GPU-{A}"}
    assert (
        "tfleak: GPUs: 2 workers share 1 card (GPU-11111111); gpu.device is off"
        in output
    )


@pytest.mark.parametrize(
    ("said", "visible", "why"),
    [
        ("fail nvmlInitWithFlags 9", None, "the NVIDIA driver is not loaded"),
        ("", None, "the NVIDIA driver shows no card"),
        (f"card GPU-{A}", "", "CUDA_VISIBLE_DEVICES='' names no card"),
    ],
)
def test_where_there_is_no_card_nothing_is_set(
    faked: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    visible: str | None,
    why: str,
) -> None:
    say(said)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    _, output = spread(faked, "-n2", "--tfleak-spread-gpus")
    assert f"tfleak: GPUs: not spread: {why}" in output
    if visible is None:
        assert "nothing" in (faked.path / "seen.txt").read_text()


def test_without_the_option_workers_see_what_the_controller_sees(
    faked: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    seen, output = spread(faked, "-n2")
    assert set(seen.values()) == {"0,1"}
    assert "GPUs:" not in output


def test_without_workers_nothing_is_spread(faked: pytest.Pytester) -> None:
    faked.makepyfile("def test_it(): pass")
    result = faked.runpytest_subprocess("--tfleak-spread-gpus")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["tfleak: GPUs: not spread: there are no xdist workers"]
    )
