"""Which module may import what: a fresh interpreter imports each one alone."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import pytest_tfleak

HEAVY = frozenset(
    {"pytest", "_pytest", "tensorflow", "keras", "numpy", "psutil", "pynvml"}
)
NOTHING: frozenset[str] = frozenset()
PYTEST = frozenset({"pytest", "_pytest"})

# What each module may bring in, itself or by way of what it imports. A module without
# an entry fails the test. TensorFlow, Keras, NumPy and pynvml: not one, ever.
ALLOWED = {
    "pytest_tfleak": NOTHING,
    "pytest_tfleak.__main__": NOTHING,
    "pytest_tfleak.amend": NOTHING,
    "pytest_tfleak.baseline": NOTHING,
    "pytest_tfleak.births": NOTHING,
    "pytest_tfleak.bounded": NOTHING,
    "pytest_tfleak.census": NOTHING,
    "pytest_tfleak.changes": NOTHING,
    "pytest_tfleak.check": NOTHING,
    "pytest_tfleak.compare": NOTHING,
    "pytest_tfleak.confirming": NOTHING,
    "pytest_tfleak.diagnosis": NOTHING,
    "pytest_tfleak.diagnosis.advising": NOTHING,
    "pytest_tfleak.diagnosis.attribution": NOTHING,
    "pytest_tfleak.diagnosis.bytes": NOTHING,
    "pytest_tfleak.diagnosis.capture": NOTHING,
    "pytest_tfleak.diagnosis.cause": NOTHING,
    "pytest_tfleak.diagnosis.causes": NOTHING,
    "pytest_tfleak.diagnosis.closing": NOTHING,
    "pytest_tfleak.diagnosis.containers": NOTHING,
    "pytest_tfleak.diagnosis.descriptors": NOTHING,
    "pytest_tfleak.diagnosis.details": NOTHING,
    "pytest_tfleak.diagnosis.edges": NOTHING,
    "pytest_tfleak.diagnosis.evidence": NOTHING,
    "pytest_tfleak.diagnosis.experiments": NOTHING,
    "pytest_tfleak.diagnosis.fields": NOTHING,
    "pytest_tfleak.diagnosis.folding": NOTHING,
    "pytest_tfleak.diagnosis.group": NOTHING,
    "pytest_tfleak.diagnosis.growth_causes": NOTHING,
    "pytest_tfleak.diagnosis.holder_causes": NOTHING,
    "pytest_tfleak.diagnosis.holders": NOTHING,
    "pytest_tfleak.diagnosis.inquiry": NOTHING,
    "pytest_tfleak.diagnosis.keras_names": NOTHING,
    "pytest_tfleak.diagnosis.kinds": NOTHING,
    "pytest_tfleak.diagnosis.known_causes": NOTHING,
    "pytest_tfleak.diagnosis.libraries": NOTHING,
    "pytest_tfleak.diagnosis.lines": NOTHING,
    "pytest_tfleak.diagnosis.longer_values": NOTHING,
    "pytest_tfleak.diagnosis.made_once": NOTHING,
    "pytest_tfleak.diagnosis.native": NOTHING,
    "pytest_tfleak.diagnosis.neutraliser": NOTHING,
    "pytest_tfleak.diagnosis.neutralisers": NOTHING,
    "pytest_tfleak.diagnosis.object_causes": NOTHING,
    "pytest_tfleak.diagnosis.operations": NOTHING,
    "pytest_tfleak.diagnosis.origins": NOTHING,
    "pytest_tfleak.diagnosis.paths": NOTHING,
    "pytest_tfleak.diagnosis.phrase": NOTHING,
    "pytest_tfleak.diagnosis.places": NOTHING,
    "pytest_tfleak.diagnosis.python_details": NOTHING,
    "pytest_tfleak.diagnosis.quiet_iterators": NOTHING,
    "pytest_tfleak.diagnosis.retraces": NOTHING,
    "pytest_tfleak.diagnosis.roots": NOTHING,
    "pytest_tfleak.diagnosis.session_causes": NOTHING,
    "pytest_tfleak.diagnosis.signatures": NOTHING,
    "pytest_tfleak.diagnosis.sites": NOTHING,
    "pytest_tfleak.diagnosis.source": NOTHING,
    "pytest_tfleak.diagnosis.stdlib_causes": NOTHING,
    "pytest_tfleak.diagnosis.survey": NOTHING,
    "pytest_tfleak.diagnosis.survivors": NOTHING,
    "pytest_tfleak.diagnosis.symbols": NOTHING,
    "pytest_tfleak.diagnosis.system_causes": NOTHING,
    "pytest_tfleak.diagnosis.telling": NOTHING,
    "pytest_tfleak.diagnosis.tensorflow_details": NOTHING,
    "pytest_tfleak.documents": NOTHING,
    "pytest_tfleak.diagnosis.tracing": NOTHING,
    "pytest_tfleak.diagnosis.turnover": NOTHING,
    "pytest_tfleak.ending": NOTHING,
    "pytest_tfleak.environment": NOTHING,
    "pytest_tfleak.failure": PYTEST,
    "pytest_tfleak.growth": NOTHING,
    "pytest_tfleak.hookspecs": PYTEST,
    "pytest_tfleak.isolation": NOTHING,
    "pytest_tfleak.items": PYTEST,
    "pytest_tfleak.judge": NOTHING,
    "pytest_tfleak.known": NOTHING,
    "pytest_tfleak.ledger": NOTHING,
    "pytest_tfleak.loop": NOTHING,
    "pytest_tfleak.observed": NOTHING,
    "pytest_tfleak.options": PYTEST,
    "pytest_tfleak.outbox": PYTEST,
    "pytest_tfleak.plan": NOTHING,
    "pytest_tfleak.plugin": PYTEST,
    "pytest_tfleak.probes": NOTHING,
    "pytest_tfleak.probes.allocator": NOTHING,
    "pytest_tfleak.probes.base": NOTHING,
    "pytest_tfleak.probes.devices": NOTHING,
    "pytest_tfleak.probes.driver": NOTHING,
    "pytest_tfleak.probes.gpu_reasons": NOTHING,
    "pytest_tfleak.probes.host": NOTHING,
    "pytest_tfleak.probes.nvml": NOTHING,
    "pytest_tfleak.probes.process": NOTHING,
    "pytest_tfleak.probes.python": NOTHING,
    "pytest_tfleak.probes.tensorflow": NOTHING,
    "pytest_tfleak.progress": NOTHING,
    "pytest_tfleak.pytest_html_row": PYTEST,
    "pytest_tfleak.reach": NOTHING,
    "pytest_tfleak.records": PYTEST,
    "pytest_tfleak.reports": NOTHING,
    "pytest_tfleak.reports.allow": NOTHING,
    "pytest_tfleak.reports.base": NOTHING,
    "pytest_tfleak.reports.baseline": NOTHING,
    "pytest_tfleak.reports.curves": NOTHING,
    "pytest_tfleak.reports.entry": NOTHING,
    "pytest_tfleak.reports.evidence": NOTHING,
    "pytest_tfleak.reports.github": NOTHING,
    "pytest_tfleak.reports.header": NOTHING,
    "pytest_tfleak.reports.html": NOTHING,
    "pytest_tfleak.reports.html_row": NOTHING,
    "pytest_tfleak.reports.json": NOTHING,
    "pytest_tfleak.reports.junit": NOTHING,
    "pytest_tfleak.reports.known": NOTHING,
    "pytest_tfleak.reports.message": NOTHING,
    "pytest_tfleak.reports.order": NOTHING,
    "pytest_tfleak.reports.terminal": NOTHING,
    "pytest_tfleak.reports.text": NOTHING,
    "pytest_tfleak.reports.where": NOTHING,
    "pytest_tfleak.reports.words": NOTHING,
    "pytest_tfleak.seeds": PYTEST,
    "pytest_tfleak.sharing": NOTHING,
    "pytest_tfleak.sinks": PYTEST,
    "pytest_tfleak.snapshot": NOTHING,
    "pytest_tfleak.spread": NOTHING,
    "pytest_tfleak.stock": NOTHING,
    "pytest_tfleak.testing": NOTHING,
    "pytest_tfleak.trace": NOTHING,
    "pytest_tfleak.units": NOTHING,
    "pytest_tfleak.values": NOTHING,
    "pytest_tfleak.verdict": NOTHING,
}

# Data flows one way: these never bring in those.
ONE_WAY = {
    "pytest_tfleak.growth": {"loop", "probes", "census", "check", "reports"},
    "pytest_tfleak.judge": {"loop", "probes", "census", "check", "reports"},
    "pytest_tfleak.loop": {"judge", "check", "reports"},
    "pytest_tfleak.ledger": {"loop", "judge", "probes", "check"},
    "pytest_tfleak.options": {"loop", "judge", "probes", "check"},
    "pytest_tfleak.reports.base": {"loop", "judge", "probes", "check"},
    "pytest_tfleak.reports.github": {"loop", "judge", "probes", "check"},
    "pytest_tfleak.reports.message": {"loop", "judge", "probes", "check"},
    "pytest_tfleak.reports.terminal": {"loop", "judge", "probes", "check"},
    "pytest_tfleak.testing": {"plugin", "options"},
    "pytest_tfleak.diagnosis.inquiry": {"check", "reports", "plugin"},
    "pytest_tfleak.diagnosis.telling": {"check", "reports", "plugin"},
}

MODULES = [
    "pytest_tfleak",
    *(
        module.name
        for module in pkgutil.walk_packages(pytest_tfleak.__path__, "pytest_tfleak.")
    ),
]


def imported_by(code: str) -> set[str]:
    """Return the modules that a piece of code brings into a fresh interpreter."""
    program = (
        "import sys, json; before = set(sys.modules)\n"
        f"{code}\n"
        "print('\\n' + json.dumps(sorted(set(sys.modules) - before)))"
    )
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=Path(pytest_tfleak.__file__).parents[1],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_no_more_than_it_may(module: str) -> None:
    assert module in ALLOWED, f"say in ALLOWED what {module} may import"
    assert imported_by(f"import {module}") & HEAVY <= ALLOWED[module]


@pytest.mark.parametrize("module", sorted(ONE_WAY))
def test_data_flows_one_way(module: str) -> None:
    never = {f"pytest_tfleak.{name}" for name in ONE_WAY[module]}
    assert not imported_by(f"import {module}") & never


def test_the_tables_have_no_row_for_a_module_that_is_gone() -> None:
    assert {*ALLOWED, *ONE_WAY} <= set(MODULES)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--markers"], ["test_plain.py"]], ids=" ".join
)
def test_a_suite_without_tensorflow_pays_nothing_for_it(
    tmp_path: Path, arguments: list[str]
) -> None:
    tmp_path.joinpath("test_plain.py").write_text("def test_plain():\n    pass\n")
    options = ["--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    options += ["-p", "pytest_tfleak.plugin"]
    imported = imported_by(
        f"import os, pytest; os.chdir({str(tmp_path)!r})\n"
        f"assert pytest.main({[*options, *arguments]!r}) == 0"
    )
    assert not imported & {"tensorflow", "keras", "numpy", "pynvml"}


def test_a_measured_test_without_tensorflow_does_not_import_it(tmp_path: Path) -> None:
    tmp_path.joinpath("test_marked.py").write_text(
        "import pytest\n\n@pytest.mark.tfleak\ndef test_marked():\n    pass\n"
    )
    options = ["--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    options += ["-p", "pytest_tfleak.plugin", "test_marked.py"]
    imported = imported_by(
        f"import os, pytest; os.chdir({str(tmp_path)!r})\n"
        f"assert pytest.main({options!r}) == 0"
    )
    assert "pytest_tfleak.loop" in imported
    assert not imported & {"tensorflow", "keras", "numpy"}
