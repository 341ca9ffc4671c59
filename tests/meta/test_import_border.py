"""Which modules may import which, and what is imported only when needed."""

from __future__ import annotations

import ast
import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pytest_tfleak

HEAVY = frozenset(
    {"pytest", "_pytest", "tensorflow", "keras", "numpy", "psutil", "pynvml"}
)
#: Folders and modules whose import loads a heavy library. All others load none, and
#: none at all loads TensorFlow, Keras, NumPy or pynvml.
EXCEPTIONS = {"pytest_tfleak.plugin": {"pytest", "_pytest"}}

#: What each folder and each top-level module may import. Imports run one way: a row may
#: only name rows below it.
ALLOWED = {
    "__main__": "diagnosis compare journal reports verdict",
    "plugin": (
        "journal measurement diagnosis decide compare run probes reports plan verdict"
        " quantities user_code tf"
    ),
    "journal": "decide reports verdict",
    "measurement": (
        "fault_sweep diagnosis decide run judge probes reports plan trace signals"
        " verdict known"
    ),
    "fault_sweep": (
        "diagnosis decide run judge plan reports signals verdict trace user_code"
    ),
    "decide": "judge plan reports signals verdict known",
    "diagnosis": (
        "run judge probes plan reports trace signals verdict known quantities"
        " user_code tf retaining_path object_facts"
    ),
    "run": (
        "judge probes reports plan trace signals verdict known quantities user_code tf"
    ),
    "judge": "plan trace signals verdict quantities",
    "compare": "reports signals verdict quantities",
    "reports": "signals verdict known quantities retaining_path object_facts",
    "testing": "probes trace signals",
    "probes": "trace signals quantities tf",
    "plan": "quantities",
    "user_code": "verdict",
    "verdict": "signals retaining_path",
    "object_facts": "retaining_path",
    "retaining_path": "",
    "known": "signals",
    "signals": "trace tf",
    "trace": "",
    "quantities": "",
    "tf": "",
}

#: What is imported though a row above has it.
UPWARDS = {
    "verdict.py": {"reports"},  # when used: print() writes a verdict as a report does
}

OWN = "pytest_tfleak."
PACKAGE = Path(pytest_tfleak.__file__).parent
MODULES = [
    module.name
    for module in pkgutil.walk_packages(pytest_tfleak.__path__, "pytest_tfleak.")
]


def imported_by(code: str) -> set[str]:
    """Return the modules that a piece of code loads into a new interpreter."""
    return set(
        run_python(
            "import sys, json; before = set(sys.modules)\n"
            f"{code}\n"
            "print('\\n' + json.dumps(sorted(set(sys.modules) - before)))"
        )
    )


def run_python(program: str) -> list[str]:
    """Run a program in a new interpreter; return the list that it prints as JSON."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=PACKAGE.parent,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_module_imports_no_heavy_library_at_once() -> None:
    # the exceptions come last, as what they load would hide what others load
    order = sorted(MODULES, key=is_exception)
    brought = run_python(
        "import importlib, json, sys\n"
        f"heavy, brought = {sorted(HEAVY)!r}, []\n"
        f"for name in {order!r}:\n"
        "    before = set(sys.modules)\n"
        "    importlib.import_module(name)\n"
        "    new = set(sys.modules) - before\n"
        "    brought += [f'{name} {h}' for h in heavy if h in new]\n"
        "print(json.dumps(brought))"
    )
    for module, heavy in (line.split() for line in brought):
        allowed = [
            libraries
            for exception, libraries in EXCEPTIONS.items()
            if module == exception or module.startswith(exception + ".")
        ]
        assert any(heavy in libraries for libraries in allowed), (module, heavy)


def is_exception(module: str) -> bool:
    return any((module + ".").startswith(name + ".") for name in EXCEPTIONS)


def test_imports_run_one_way() -> None:
    rows = list(ALLOWED)
    for name, allowed in ALLOWED.items():
        below = rows[rows.index(name) + 1 :]
        assert set(allowed.split()) <= set(below), name


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_a_module_imports_only_what_its_folder_may(path: Path) -> None:
    place = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if place == "__init__":  # it imports each public name when it is used
        return
    assert place in ALLOWED, f"say in ALLOWED what {place} may import"
    imported = {name for name in imports_of(path) if name != place}
    upwards = UPWARDS.get(str(path.relative_to(PACKAGE)), set())
    assert upwards <= imported, "UPWARDS has an exception that is none"
    assert imported - upwards <= set(ALLOWED[place].split())


def test_what_a_folder_loads_stands_below_it() -> None:
    """Also through others: no module of it may need a row above to be imported."""
    names = [one for one in MODULES if one.startswith("pytest_tfleak.reports.")]
    loaded = imported_by("import " + ", ".join(names))
    folders = {name.split(".")[1] for name in loaded if name.startswith(OWN)}
    rows = list(ALLOWED)
    assert folders <= set(rows[rows.index("reports") :])


def imports_of(path: Path) -> Iterator[str]:
    """Yield the folders and top modules that a file imports when it runs."""
    tree = ast.parse(path.read_text("utf-8"))
    only_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in only_types:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            for parts in (name.split(".") for name in names):
                if parts[0] == "pytest_tfleak":
                    yield parts[1]
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "import_module":
            match node.args:
                case [ast.Constant(value=str(name))] if name.startswith(
                    "pytest_tfleak."
                ):
                    yield name.split(".")[1]


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


def test_a_suite_that_measures_nothing_loads_no_measurement_and_no_report(
    tmp_path: Path,
) -> None:
    tmp_path.joinpath("test_plain.py").write_text("def test_plain():\n    pass\n")
    options = ["--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    options += ["-p", "pytest_tfleak.plugin", "test_plain.py"]
    imported = imported_by(
        f"import os, pytest; os.chdir({str(tmp_path)!r})\n"
        f"assert pytest.main({options!r}) == 0"
    )
    own = {name for name in imported if name.startswith("pytest_tfleak.")}
    folders = {name.split(".")[1] for name in own}
    light = {"journal", "plan", "plugin", "quantities", "reports", "run", "trace"}
    assert folders == light
    assert "jinja2" not in imported
    assert {name for name in own if name.startswith("pytest_tfleak.reports")} == {
        "pytest_tfleak.reports",
        "pytest_tfleak.reports.text",
    }


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
    assert "pytest_tfleak.run.loop" in imported
    assert not imported & {"tensorflow", "keras", "numpy"}
