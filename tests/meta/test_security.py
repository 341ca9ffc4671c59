"""What SECURITY.md promises: nothing that is read is run, and few files written."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pytest_tfleak

PACKAGE = Path(pytest_tfleak.__file__).parent
#: Modules that run what they read, or open connections.
REFUSED = """
pickle cPickle dill cloudpickle marshal shelve joblib code codeop runpy yaml
socketserver http urllib ftplib smtplib xmlrpc requests httpx asyncio pty
"""
HARMLESS = {"urllib.parse"}  # it only quotes
CALLS = frozenset({"eval", "exec", "compile", "__import__", "input"})
OF_OS = frozenset({"system", "popen", "execv", "execve", "spawnv", "startfile"})


def each_tree() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, ast.parse(path.read_text("utf-8"))


def imported_by(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return []


def test_no_module_runs_what_it_reads() -> None:
    for path, tree in each_tree():
        for node in ast.walk(tree):
            where = f"{path}:{getattr(node, 'lineno', 0)}"
            names = {*imported_by(node)} - HARMLESS
            roots = {name.partition(".")[0] for name in names}
            assert not roots & {*REFUSED.split()}, where
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in CALLS, where
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr in OF_OS) != ("os", True), where
            if isinstance(node, ast.keyword):
                assert node.arg != "shell", where


def test_no_module_is_imported_by_a_name_from_outside() -> None:
    """Names are constants, or come from tables and folders of the package."""
    known = {"pytest_tfleak", "self.module", "module", "f'{__name__}.{name}'"}
    known |= {"f'{__name__}.{_HOMES[name]}'"}
    for path, tree in each_tree():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func).endswith("import_module")
                and not isinstance(node.args[0], ast.Constant)
            ):
                assert ast.unparse(node.args[0]) in known, path


#: pytest's own; it makes the folder under another name first.
CACHE = (".pytest_cache", "pytest-cache-files-")
WATCH = """
    import json, os, sys
    import pytest_tfleak

    OURS = os.path.dirname(pytest_tfleak.__file__)
    WRITTEN = []

    def note(event, args):
        if event == "open":
            path, _, flags = args
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not writes or not isinstance(path, (str, bytes)):
                return
        elif event in ("os.mkdir", "os.rename", "os.link", "os.symlink"):
            path = args[event == "os.rename"]
            if os.path.isdir(path):
                return
        elif event in ("socket.connect", "socket.bind"):
            path = "connection"
        else:
            return
        frame = sys._getframe()
        while frame is not None:
            if frame.f_code.co_filename.startswith(OURS):
                WRITTEN.append(os.path.abspath(os.fsdecode(path)))
                return
            frame = frame.f_back

    sys.addaudithook(note)

    import atexit
    atexit.register(lambda: open("written.json", "w").write(json.dumps(WRITTEN)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="paths are as on POSIX")
def test_only_named_files_and_private_ones_are_written(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run with every file that a run may write, and a leak that is diagnosed."""
    temporary = pytester.mkdir("temporary")
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setenv("HOME", str(pytester.mkdir("home")))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "summary.md"))
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:randomly -p no:hypothesispytest")
    pytester.makeconftest(WATCH)
    pytester.makepyfile(
        """
        import pytest
        KEPT = []

        @pytest.mark.tfleak(iterations=10)
        def test_leaks():
            KEPT.append([object() for _ in range(200)])
        """
    )
    named = ("r.json", "r.html", "b.json")
    result = pytester.runpytest_subprocess(
        "--tfleak-json=r.json",
        "--tfleak-html=r.html",
        "--tfleak-save-baseline=b.json",
    )
    assert result.ret == 1
    found = map(Path, json.loads(Path("written.json").read_text()))
    written = {path.relative_to(pytester.path).as_posix() for path in found}
    others = {
        path
        for path in written - {*named, "summary.md", "dev/null"}
        if not path.startswith((*CACHE, "temporary/", ".tfleak-"))
    }
    assert not others
    assert {*named, "summary.md"} <= written
    assert not list(temporary.glob("*tfleak*"))
    assert not list((pytester.path / "home").iterdir())
