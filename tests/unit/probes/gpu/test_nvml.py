"""The figures of the NVIDIA driver, and when to trust them: with fake libraries."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pytest_tfleak.plugin.command_line import all_options
from pytest_tfleak.probes.gpu.reasons import REASONS

A = "11111111-2222-3333-4444-555555555555"
B = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
MIB = 2**20
PRELUDE = """
import json, os, sys
from fake_gpus import Gpus, load_cuda, read, say, stand_in
from pytest_tfleak.probes.gpu.nvml import NvmlProbe
A = "11111111-2222-3333-4444-555555555555"
B = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
probe = NvmlProbe()

def tell(**more):
    readings = read(probe)
    print(json.dumps({
        "readings": readings, "codes": probe.codes(), "reasons": probe.reasons(),
        "untrusted": sorted(probe.untrusted()), "notes": probe.notes(), **more,
    }))
"""
ONE_CARD = "gpus = Gpus(1); stand_in(gpus); load_cuda(A); tell()"
PLAIN = f"card GPU-{A}\nused GPU-{A} 9000000\nprocess GPU-{A} self 7000000\n"
PROCESS, DEVICE = f"gpu.process[GPU-{A}]", f"gpu.device[GPU-{A}]"


@pytest.fixture
def ask(run_faked: Any) -> Any:
    """Return a function that reads the probe once, with a fake driver's answers."""

    def run(nvml: str = PLAIN, program: str = ONE_CARD, **environment: str) -> Any:
        printed = run_faked(PRELUDE + program, nvml, **environment)
        return json.loads(printed.splitlines()[-1])

    return run


def test_reads_the_process_and_the_card(ask: Any) -> None:
    told = ask()
    assert told["readings"] == {PROCESS: 7_000_000, DEVICE: 9_000_000}
    assert told["codes"] == {}
    assert told["untrusted"] == []


def test_cards_are_identified_by_uuid_and_not_by_the_driver_s_order(ask: Any) -> None:
    nvml = (
        f"card GPU-{B}\ncard GPU-{A}\n"
        f"used GPU-{A} 100\nused GPU-{B} 200\n"
        f"process GPU-{A} self 5000\nprocess GPU-{B} self 6000\n"
    )
    told = ask(nvml, "stand_in(Gpus(1, 1)); load_cuda(A, B); tell()")
    assert list(told["readings"].items()) == [
        (PROCESS, 5000),
        (DEVICE, 100),
        (f"gpu.process[GPU-{B}]", 6000),
        (f"gpu.device[GPU-{B}]", 200),
    ]


def test_a_slice_of_a_card_is_queried_itself(ask: Any) -> None:
    nvml = f"card GPU-{B}\nslice MIG-{A}\nused MIG-{A} 300\nprocess MIG-{A} self 5000\n"
    told = ask(nvml)
    readings = {f"gpu.process[MIG-{A}]": 5000, f"gpu.device[MIG-{A}]": 300}
    assert told["readings"] == readings


def test_a_process_that_is_listed_twice_counts_once(ask: Any) -> None:
    told = ask(PLAIN + f"process GPU-{A} self 8000000\n")
    assert told["readings"][PROCESS] == 8_000_000


def test_memory_of_other_processes_is_not_ours(ask: Any) -> None:
    nvml = f"process GPU-{A} 1 500000000\nprocess GPU-{A} 2 none\n"
    told = ask(PLAIN + nvml)
    assert told["readings"][PROCESS] == 7_000_000


def test_virtual_gpus_on_one_card_are_one_process_figure(ask: Any) -> None:
    program = """
gpus = Gpus(2); stand_in(gpus); load_cuda(A)
gpus.allocate(4_000_000, "GPU:0")
gpus.allocate(4_000_000, "GPU:1")
tell()
"""
    told = ask(PLAIN, program)  # 7 MB, and TensorFlow has 8 MB on the card
    assert told["codes"] == {PROCESS: "contradicts_tensorflow"}


def fail(function: str, number: int) -> str:
    return PLAIN + f"fail {function} {number}\n"


LISTING = "nvmlDeviceGetComputeRunningProcesses_v3"
ZERO = f"card GPU-{A}\nprocess GPU-{A} self 0\n"
NONE = f"card GPU-{A}\nprocess GPU-{A} self none\n"
FOREIGN = f"card GPU-{A}\nprocess GPU-{A} 1 7000000\n"
LESS = f"card GPU-{A}\nprocess GPU-{A} self 1279\n"
NO_STATISTICS = """
gpus = Gpus(1); gpus.figures["GPU:0"] = None; stand_in(gpus); load_cuda(A); tell()
"""
NO_CUDA = "stand_in(Gpus(1)); tell()"

#: The driver's answer, the process's program, the code, and text of the reason.
DOUBTS = {
    "driver not loaded": (
        fail("nvmlInitWithFlags", 9),
        ONE_CARD,
        "driver_not_loaded",
        "the NVIDIA driver is not loaded",
    ),
    "version mismatch": (
        fail("nvmlInitWithFlags", 18),
        ONE_CARD,
        "version_mismatch",
        "of different versions",
    ),
    "MIG parent": (
        f"card GPU-{A}\nslice MIG-{B}\n",
        ONE_CARD,
        "no_permission",
        "only a slice may be queried",
    ),
    "no permission": (fail(LISTING, 4), ONE_CARD, "no_permission", "does not permit"),
    "WDDM": (NONE, ONE_CARD, "no_process_figure", "no figure for a process"),
    "WSL2": (fail(LISTING, 3), ONE_CARD, "no_process_figure", "as under WSL2"),
    "container": (FOREIGN, ONE_CARD, "pid_not_listed", "is not among those"),
    "nobody": (f"card GPU-{A}\n", ONE_CARD, "pid_not_listed", "is not among those"),
    "zero": (ZERO, ONE_CARD, "contradicts_tensorflow", "says 0 B for this process"),
    "less than TensorFlow's": (
        LESS,
        ONE_CARD,
        "contradicts_tensorflow",
        "says 1,279 B for this process, and TensorFlow has 1,280 B in use on it",
    ),
    "zero without statistics": (
        ZERO,
        NO_STATISTICS,
        "contradicts_tensorflow",
        "TensorFlow has the card open",
    ),
    "lost": (fail(LISTING, 15), ONE_CARD, "gpu_lost", "the card was lost"),
    "needs a reset": (fail(LISTING, 16), ONE_CARD, "gpu_lost", "the card was lost"),
    "unknown": (fail(LISTING, 999), ONE_CARD, "driver_error", "Unknown Error"),
    "unheard of": (fail(LISTING, 777), ONE_CARD, "driver_error", "of the fake"),
}


@pytest.mark.parametrize("case", DOUBTS)
def test_a_figure_that_is_missing_or_wrong_is_null_with_a_reason(
    ask: Any, case: str
) -> None:
    nvml, program, code, words = DOUBTS[case]
    told = ask(nvml, program)
    (name,) = {name for name in told["readings"] if name.startswith("gpu.process")}
    assert told["readings"][name] is None
    assert told["codes"][name] == code
    assert words in told["reasons"][name]
    doubted = code == "contradicts_tensorflow"
    assert told["untrusted"] == ([name] if doubted else [])


def test_without_the_driver_s_library_nothing_is_imported(
    ask: Any, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    # instead of what this machine has
    broken.joinpath("libnvidia-ml.so.1").write_text("no library")
    program = "stand_in(Gpus(1)); tell(imported='pynvml' in sys.modules)"
    told = ask(PLAIN, program, LD_LIBRARY_PATH=str(broken))
    assert set(told["codes"].values()) == {"no_driver_library"}
    assert set(told["readings"].values()) == {None}
    assert not told["imported"]


def test_without_the_binding_the_reason_says_so(ask: Any) -> None:
    told = ask(PLAIN, "sys.modules['pynvml'] = None; " + ONE_CARD)
    assert set(told["codes"].values()) == {"no_binding"}


def test_one_card_without_cuda_is_assumed_and_never_trusted(ask: Any) -> None:
    told = ask(PLAIN, NO_CUDA)
    assert told["readings"] == {PROCESS: 7_000_000, DEVICE: 9_000_000}
    assert set(told["codes"].values()) == {"mapping_assumed"}
    assert told["untrusted"] == sorted([PROCESS, DEVICE])


def test_without_cuda_one_of_two_cards_cannot_be_identified(ask: Any) -> None:
    told = ask(PLAIN + f"card GPU-{B}\n", NO_CUDA)
    assert told["readings"] == {
        "gpu.process[card 0]": None,
        "gpu.device[card 0]": None,
    }
    assert set(told["codes"].values()) == {"mapping_unknown"}


def test_a_card_that_the_driver_does_not_know_cannot_be_identified(ask: Any) -> None:
    told = ask(f"card GPU-{B}\n")
    assert set(told["codes"].values()) == {"mapping_unknown"}


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("tell()", "tf_not_imported"),
        ("stand_in(None); tell()", "tf_not_initialised"),
        ("stand_in(Gpus()); tell()", "no_gpu"),
    ],
)
def test_before_tensorflow_has_gpus_there_is_a_reason(
    ask: Any, program: str, code: str
) -> None:
    told = ask(PLAIN, program)
    assert told["readings"] == {"gpu.process": None, "gpu.device": None}
    assert told["codes"] == {"gpu.process": code, "gpu.device": code}


@pytest.mark.parametrize(
    ("nvml", "environment", "words"),
    [
        (PLAIN, {}, "the NVIDIA driver shows 1: is this TensorFlow built for CUDA"),
        ("fail nvmlInitWithFlags 9", {}, "the NVIDIA driver is not loaded"),
        ("", {}, "the NVIDIA driver shows no card"),
        (PLAIN, {"CUDA_VISIBLE_DEVICES": ""}, "CUDA_VISIBLE_DEVICES hides every card"),
    ],
)
def test_where_tensorflow_has_no_gpu_the_driver_may_know_why(
    ask: Any, nvml: str, environment: dict[str, str], words: str
) -> None:
    told = ask(nvml, "stand_in(Gpus()); tell()", **environment)
    assert words in told["reasons"]["gpu.process"]


@pytest.mark.parametrize(
    "function",
    [
        "nvmlInitWithFlags",
        "nvmlDeviceGetHandleByUUID",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetMemoryInfo_v2",
    ],
)
@pytest.mark.parametrize("number", [1, 2, 7, 10, 17, 28, 999])
def test_an_error_of_any_call_is_a_reason_and_no_crash(
    ask: Any, function: str, number: int
) -> None:
    told = ask(fail(function, number))
    missing = [name for name, value in told["readings"].items() if value is None]
    assert missing
    assert told["codes"] == dict.fromkeys(missing, "driver_error")


@pytest.mark.parametrize("function", ["nvmlDeviceGetCount_v2", "nvmlDeviceGetUUID"])
def test_an_error_while_the_only_card_is_looked_for_is_a_reason(
    ask: Any, function: str
) -> None:
    told = ask(fail(function, 999), NO_CUDA)
    assert set(told["codes"].values()) == {"driver_error"}


def test_an_older_driver_is_asked_in_its_own_words(ask: Any) -> None:
    nvml = fail(LISTING, 13) + "fail nvmlDeviceGetMemoryInfo_v2 13\n"
    told = ask(nvml)
    # the first version of the card's figure includes memory reserved by the driver
    assert told["readings"] == {PROCESS: 7_000_000, DEVICE: 9_001_000}


def test_a_fork_queries_the_driver_again(ask: Any, tmp_path: Path) -> None:
    program = """
stand_in(Gpus(1)); load_cuda(A)
before = read(probe)
child = os.fork()
if child == 0:
    from array import array
    buffer = array("q", [0, 0])
    say(f"card GPU-{A}", f"used GPU-{A} 1", f"process GPU-{A} self 5000")
    probe.read(buffer, 0, True)
    print(json.dumps({"child": list(buffer), "codes": probe.codes()}), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    told = ask(PLAIN, program)
    assert told == {"child": [5000, 1], "codes": {}}
    started = (tmp_path / "nvml.log").read_text().splitlines()
    assert len(set(started)) == len(started) == 2


def test_a_test_that_shuts_nvml_down_does_not_end_the_readings(ask: Any) -> None:
    program = """
import pynvml
stand_in(Gpus(1)); load_cuda(A)
read(probe)
pynvml.nvmlShutdown()
read(probe)
tell()
"""
    assert ask(PLAIN, program)["readings"][PROCESS] == 7_000_000


def test_neither_a_probe_nor_the_header_loads_the_driver(ask: Any) -> None:
    program = """
stand_in(Gpus(1)); load_cuda(A)
why = probe.why_off()
loaded = "pynvml" in sys.modules
read(probe)
tell(why=why, loaded=loaded, after=probe.why_off())
"""
    told = ask(PLAIN, program)
    assert told["why"] == "the first measured test loads NVML"
    assert not told["loaded"]
    assert told["after"] is None


def test_the_whole_card_is_off_where_workers_share_it(ask: Any) -> None:
    workers = {"PYTEST_XDIST_WORKER": "gw0", "PYTEST_XDIST_WORKER_COUNT": "2"}
    told = ask(**workers)
    assert told["readings"] == {PROCESS: 7_000_000, DEVICE: None}
    assert told["codes"] == {DEVICE: "shared_card"}
    own = {"CUDA_VISIBLE_DEVICES": "0", "PYTEST_TFLEAK_OWN_GPU": "0"}
    assert ask(**workers, **own)["readings"][DEVICE] == 9_000_000
    workers["PYTEST_XDIST_WORKER_COUNT"] = "1"
    assert ask(**workers)["readings"][DEVICE] == 9_000_000


MEASURED = """
from itertools import count
from pytest_tfleak.measurement import Measurement, Setting
from pytest_tfleak.plan import make_plan

def figures(process, used=9_000_000):
    say(f"card GPU-{A}", f"used GPU-{A} {used}", f"process GPU-{A} self {process}")

def measure(body, **options):
    verdict = Measurement(
        body, make_plan(iterations=20, warmup=2, diagnose="off", **options),
        Setting(nodeid="x", probes=lambda census: [NvmlProbe()]),
    ).run()
    print(json.dumps(verdict.to_dict()))

gpus = Gpus(1); stand_in(gpus); load_cuda(A)
calls = count()
"""
GROWS = (
    MEASURED
    + """
def body():
    figures(10_000_000 + next(calls) * 4_000_000)
"""
)


def signal(verdict: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (s for s in verdict["signals"] if s["name"] == name)
    return dict(found)


def test_the_process_decides_only_where_it_is_asked_to(ask: Any) -> None:
    shown = ask(program=GROWS + "measure(body)")
    assert shown["findings"] == []
    # if no signal decides, nothing was judged
    assert (shown["status"], shown["reason"]) == ("not_measured", "no_signal")
    assert signal(shown, PROCESS)["per_iteration"] == 4_000_000
    asked = ask(program=GROWS + "measure(body, gpu_process='1 MiB')")
    (finding,) = asked["findings"]
    assert asked["status"] == "leak"
    assert (finding["signal"], finding["allow"]) == (PROCESS, "gpu_process")
    allowed = ask(program=GROWS + "measure(body, gpu_process='5 MiB')")
    assert allowed["status"] == "clean"


def test_the_whole_card_never_decides(ask: Any) -> None:
    program = (
        MEASURED
        + """
def body():
    figures(10_000_000, used=20_000_000 + next(calls) * 4_000_000)
measure(body, gpu_process='1 KiB', gpu_per_iteration=0, gpu_total=0)
"""
    )
    verdict = ask(program=program)
    assert verdict["status"] == "clean"
    device = signal(verdict, DEVICE)
    assert (device["status"], device["decides"]) == ("measured", False)
    assert device["per_iteration"] == 4_000_000


def test_growth_without_a_new_peak_is_outside_tensorflow_s_pool(ask: Any) -> None:
    (note,) = ask(program=GROWS + "measure(body)")["notes"]
    assert note.startswith(f"{PROCESS} grew by ")
    assert "outside TensorFlow's pool" in note


def test_growth_with_a_new_peak_is_tensorflow_s_own(ask: Any) -> None:
    program = (
        GROWS
        + """
def allocate():
    body()
    gpus.allocate(1_000_000)
measure(allocate)
"""
    )
    assert ask(program=program)["notes"] == []


def test_a_card_that_is_lost_in_mid_run_is_no_failure(ask: Any) -> None:
    program = (
        MEASURED
        + """
def body():
    if next(calls) == 12:
        say(f"card GPU-{A}", "fail nvmlDeviceGetComputeRunningProcesses_v3 15",
            "fail nvmlDeviceGetMemoryInfo_v2 15")
measure(body, gpu_process='1 MiB')
"""
    )
    verdict = ask(program=program)
    assert verdict["status"] != "leak"
    assert verdict["reason"] != "probe_failed"
    for name in (PROCESS, DEVICE):
        report = signal(verdict, name)
        assert (report["status"], report["code"]) == ("untrusted", "gpu_lost")
        assert report["reason"] == "the card was lost"
        assert not report["decides"]
        assert report["series"][11] is not None
        assert report["series"][12:] == [None] * (len(report["series"]) - 12)


def test_what_was_not_measured_is_null_in_the_report(ask: Any) -> None:
    verdict = ask(FOREIGN, MEASURED + "measure(lambda: None, gpu_process='1 MiB')")
    report = signal(verdict, PROCESS)
    assert (report["status"], report["code"]) == ("unavailable", "pid_not_listed")
    assert (report["per_iteration"], report["total"]) == (None, None)
    assert set(report["series"]) == {None}


def test_each_reason_is_explained_to_users() -> None:
    text = (Path(__file__).parents[4] / "docs" / "gpu-ci.md").read_text()
    assert [r.code for r in REASONS if f"| `{r.code}` |" not in text] == []


def test_the_page_names_only_options_that_exist() -> None:
    text = (Path(__file__).parents[4] / "docs" / "gpu-ci.md").read_text()
    flags = {row.command_line_flag for row in all_options("command line")}
    named = set(re.findall(r"--tfleak[a-z-]*", text))
    assert named and named <= flags


def test_codes_are_distinct_words() -> None:
    codes = [reason.code for reason in REASONS]
    assert len(set(codes)) == len(codes)
    assert all(code.replace("_", "").isalpha() for code in codes)


def test_the_run_ends_before_the_card_is_full(ask: Any) -> None:
    program = """
step = 100_000_000
def body():
    used = step * (1 + next(calls))
    say(f"card GPU-{A}", f"used GPU-{A} {used}", f"free GPU-{A} 1000000000",
        f"process GPU-{A} self {used}")
measure(body, gpu_process="1 MiB")
"""
    verdict = ask(program=MEASURED + program)
    assert (
        f"Stopped early, after 7 iterations: memory of GPU-{A} grew by 572.2 MiB, half "
        'or more of the 953.7 MiB that the card had left; memory_limit="none" goes on.'
    ) in verdict["notes"]
    assert verdict["status"] == "leak"


def test_tensors_may_fill_half_of_the_pool_that_tensorflow_holds(ask: Any) -> None:
    program = """
say(f"card GPU-{A}", f"used GPU-{A} 9000000000", f"free GPU-{A} 100000000",
    f"process GPU-{A} self 9000000000")
measure(lambda: gpus.allocate(1_000_000_000))
"""
    verdict = ask(program=MEASURED + program)
    assert f"memory of tensors on GPU-{A} grew by 5.6 GiB" in verdict["notes"][0]
