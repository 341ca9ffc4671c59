"""Only one module sets the status of a verdict; all others read it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pytest_tfleak

PACKAGE = Path(pytest_tfleak.__file__).parent
WRITER = "decide.py"
#: Calls with a ``status`` that is not a verdict's or comes from a document.
OTHERS = {
    ("verdict.py", "cls"),  # from_dict
    ("judge/__init__.py", "SignalReport"),  # measured, unavailable or untrusted
    ("compare/reports.py", "Tested"),  # a test in the report of another run
    ("probes/gpu/reasons.py", "GpuReason"),  # the status of a signal
}


def writes_of(source: str) -> Iterator[str]:
    """Yield the function of each call that makes a verdict or passes a status."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            function = ast.unparse(node.func)
            keywords = {keyword.arg for keyword in node.keywords}
            if "status" in keywords or function.rpartition(".")[2] == "Verdict":
                yield function
        targets = node.targets if isinstance(node, ast.Assign) else []
        for target in targets:
            if isinstance(target, ast.Attribute) and target.attr == "status":
                yield ast.unparse(target)
        if isinstance(node, ast.Dict):
            keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
            if "status" in keys:
                yield "{'status': ...}"


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_no_other_module_writes_a_status(path: Path) -> None:
    name = path.relative_to(PACKAGE).as_posix()
    writes = {(name, function) for function in writes_of(path.read_text("utf-8"))}
    if name == WRITER:
        assert writes == {(name, "Verdict")}
    else:
        assert writes <= OTHERS


@pytest.mark.parametrize(
    "source",
    [
        "replace(verdict, status=Status.CLEAN)",
        "Verdict(nodeid='t', **fields)",
        "verdict.Verdict(nodeid='t')",
        "dataclasses.replace(verdict, **{'status': Status.LEAK})",
        "verdict.status = Status.LEAK",
    ],
)
def test_a_status_that_is_written_is_seen(source: str) -> None:
    assert list(writes_of(source))
