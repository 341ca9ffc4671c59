"""Measure the size of the HTML report of a large suite, and the time to open it.

    python -m benchmarks.html [--runs N] [--keep DIRECTORY]

The documents are made from the traces in ``tests/quality/recorded``, varied for each
test, with findings like those of a diagnosis. The pages are opened in headless Chromium
through selenium; times are from the start of the navigation, or of the sorting, until
the next frame after it is drawn.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.record import OURS
from benchmarks.record import judge_recording
from benchmarks.record import read_recordings
from pytest_tfleak.plan import Plan
from pytest_tfleak.reports.html import render
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import Root
from pytest_tfleak.retaining_path import Step
from pytest_tfleak.verdict import Experiment
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import SignalReport
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

RUNS = 7
ORIGIN = Origin(
    file="src/acme/serving/cache.py",
    line=88,
    function="remember",
    text="        self._history.append(tf.reduce_mean(batch, axis=0))",
)
STACK = (
    Origin(
        file="src/acme/serving/predict.py",
        line=41,
        function="predict",
        text="        self.cache.remember(batch)",
    ),
    Origin(
        file="tests/serving/test_predict.py",
        line=17,
        function="test_predict",
        text="    service.predict(BATCH)",
    ),
)
HOLDER = RetainingPath(
    root=Root(kind="module", name="acme.serving.cache"),
    steps=(
        Step(kind="attribute", name="SHARED", types=("acme.serving.cache.Cache",)),
        Step(
            kind="attribute",
            name="_history",
            types=("builtins.list",),
            container="list",
            size=64,
        ),
        Step(kind="entry", types=("tensorflow.EagerTensor",), is_new=True),
    ),
    target="EagerTensor float32[64,64] (16 KiB)",
)
NATIVE = (
    "tensorflow::KernelAndDeviceFunc::Init",
    "tensorflow::EagerContext::AddKernelToCache",
    "TFE_Py_FastPathExecute_C",
)
ENVIRONMENT = {
    "python": "CPython 3.11.7",
    "pytest": "9.2.0",
    "tensorflow": "2.21.0",
    "keras": "3.15.1",
    "platform": "Linux-6.8.0-x86_64-with-glibc2.36",
    "cpus": 16,
    "gpu": ["GPU:0 NVIDIA H200", "GPU:1 NVIDIA H200"],
    "numpy": None,
}


def make_document(tests: int, leaks: int = 4) -> dict[str, Any]:
    """Return the document of a large suite with this share of leaking tests."""
    entries = []
    for verdict in make_verdicts(tests, leaks):
        entry = verdict.to_dict()
        del entry["schema"]
        entries.append(entry)
    return {
        "schema": 1,
        "tool": {"name": "pytest-tfleak", "version": "0.1.0"},
        "environment": ENVIRONMENT,
        "complete": True,
        "baseline": None,
        "tests": entries,
    }


def make_verdicts(tests: int, leaks: int) -> Iterator[Verdict]:
    """Yield verdicts of every kind; of 100 tests, 6 have no clear verdict."""
    recordings = read_recordings(OURS.with_name("bodies.jsonl"))
    judged = [(r.name, judge_recording(r, Plan())) for r in recordings]
    leaky = [v for name, v in judged if name.startswith("leaky")]
    clean = [v for name, v in judged if name.startswith("clean")]
    for number in range(tests):
        random = Random(number)
        kind = number % 100
        if kind < leaks:
            leak = leaky[(number // 100 * leaks + kind) % len(leaky)]
            verdict = _diagnosed(leak, number)
        elif kind < leaks + 1:
            verdict = _known(leaky[4])
        elif kind < leaks + 3:
            verdict = dataclasses.replace(
                clean[number % len(clean)],
                status=Status.INCONCLUSIVE,
                reason=Reason.FADING,
                detail="host.heap grows less and less; more iterations would tell",
            )
        elif kind < leaks + 7:
            yield Verdict(
                nodeid=_nodeid(number, random),
                status=Status.NOT_MEASURED,
                reason=(Reason.BODY_FAILED, Reason.BODY_SKIPPED)[number % 2],
                detail=("the test failed in iteration 3", "skipped: needs a GPU")[
                    number % 2
                ],
            )
            continue
        else:
            verdict = clean[number % len(clean)]
        yield dataclasses.replace(
            verdict,
            nodeid=_nodeid(number, random),
            seconds=round(random.lognormvariate(-0.3, 0.9), 3),
            body_seconds=round(random.lognormvariate(-1.5, 0.9), 3),
            signals=tuple(_moved(signal, random) for signal in verdict.signals),
        )


def _nodeid(number: int, random: Random) -> str:
    area = random.choice(["serving", "training", "data", "layers", "losses", "export"])
    subject = random.choice(["predict", "fit", "batch", "checkpoint", "signature"])
    case = random.choice(["", "[float32-True]", "[batch_size=32]", "[mixed_precision]"])
    file = f"tests/{area}/test_{subject}.py"
    return f"{file}::Test{subject.title()}::test_{area}_{subject}_{number}{case}"


def _moved(signal: SignalReport, random: Random) -> SignalReport:
    """Return a signal with varied readings, so that no two curves are the same."""
    if len({value for value in signal.series if value is not None}) < 10:
        return signal
    offset, noise = random.randrange(1_000_000), 48 if signal.unit == "B" else 1
    series = tuple(
        None if value is None else value + offset + random.randint(-noise, noise)
        for value in signal.series
    )
    return dataclasses.replace(signal, series=series)


def _diagnosed(verdict: Verdict, number: int) -> Verdict:
    more: dict[str, Any] = {
        "kind": "tensorflow.python.framework.ops.EagerTensor",
        "what": "1 EagerTensor of 16 KiB per iteration, float32[64, 64]",
        "fingerprint": f"{number:08x}a41c",
        "path": HOLDER,
        "origin": ORIGIN,
        "stack": STACK,
    }
    native: dict[str, Any] = {
        "native": NATIVE,
        "python_bytes": 512.0,
        "experiments": (
            Experiment(name="with the eager kernel cache cleared", per_iteration=0.0),
            Experiment(name="with keras.utils.clear_session()", per_iteration=31.0),
        ),
        "known": "eager-kernel-cache",
        "advice": "each new name of an operation is a new kernel that TensorFlow "
        "keeps: use fixed names, or call keras.utils.clear_session()",
    }
    findings = tuple(
        dataclasses.replace(finding, **(native if finding.unit == "B" else more))
        for finding in verdict.findings
    )
    return dataclasses.replace(verdict, findings=findings)


def _known(verdict: Verdict) -> Verdict:
    findings: list[Finding] = [
        dataclasses.replace(
            finding,
            known="custom-gradient-registry",
            accepted=True,
            experiments=(
                Experiment(name="with weak custom gradients", per_iteration=0.0),
            ),
        )
        for finding in verdict.findings
    ]
    return dataclasses.replace(verdict, status=Status.CLEAN, findings=tuple(findings))


def open_times(page: Path, runs: int = RUNS) -> dict[str, list[float]]:
    """Return how many seconds a browser takes to open a page and to sort it."""
    from tests.browser.chromium import open_chromium

    with open_chromium() as driver:
        driver.get(page.as_uri())  # not timed: the first page includes the start
        opened, sorted_ = [], []
        for _ in range(runs):
            driver.get("about:blank")
            driver.get(page.as_uri())
            opened.append(driver.execute_async_script(_UNTIL_DRAWN) / 1000)
            sorted_.append(driver.execute_async_script(_SORT + _UNTIL_DRAWN) / 1000)
        elements = driver.execute_script("return document.all.length")
    sorted_ = [after - before for before, after in zip(opened, sorted_, strict=True)]
    return {"open": opened, "sort": sorted_, "elements": [elements]}


_UNTIL_DRAWN = """
const done = arguments[arguments.length - 1];
requestAnimationFrame(() => setTimeout(() => done(performance.now())));
"""
_SORT = 'document.querySelector("[data-sort=memory] button").click();'


def main() -> None:
    """Render pages, open them, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--keep", type=Path, help="a directory that keeps the pages")
    options = parser.parse_args()
    print(
        "| tests | of them leak | page | elements "
        "| rendered in | opened in | sorted in |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        target = options.keep or Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        for tests, leaks in ((1, 100), (200, 4), (2_000, 4), (2_000, 100)):
            document = make_document(tests, leaks)
            start = time.perf_counter()
            page = render(document)
            seconds = time.perf_counter() - start
            path = (target / f"{tests}-{leaks}.html").resolve()
            path.write_text(page, encoding="utf-8")
            times = open_times(path, options.runs)
            size = len(page.encode()) / 1e6
            print(
                f"| {tests:,} | {leaks} % | {size:.2f} MB | {times['elements'][0]:,} "
                f"| {seconds:.2f} s | {_spread(times['open'])} "
                f"| {_spread(times['sort'])} |"
            )


def _spread(times: list[float]) -> str:
    return f"{statistics.median(times):.2f} s ({min(times):.2f}-{max(times):.2f})"


if __name__ == "__main__":
    main()
