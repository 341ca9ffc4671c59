"""The README and the pages of ``docs/`` show what really happens.

``TFLEAK_REGENERATE=1 pytest tests/meta/test_docs.py`` rewrites tables, outputs and the
pages of the causes.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest

from pytest_tfleak.__main__ import main
from pytest_tfleak.compare.baseline import baseline_text
from pytest_tfleak.compare.baseline import read_baseline
from pytest_tfleak.diagnosis.causes import all_causes
from pytest_tfleak.plugin.command_line import all_options
from pytest_tfleak.reports import message
from pytest_tfleak.reports.document import make_document
from pytest_tfleak.reports.json import render
from pytest_tfleak.reports.junit import properties
from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.verdict import FailedCall
from pytest_tfleak.verdict import FailingCalls
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status
from tests.builders import make_finding
from tests.builders import make_leak
from tests.builders import make_verdict
from tests.builders import path_to
from tests.needs import needs_tensorflow
from tests.pages import CAUSES
from tests.pages import DOCS
from tests.pages import MESSAGES
from tests.pages import PICTURES_FOLDER
from tests.pages import ROOT
from tests.pages import SUBJECTS
from tests.pages import pages_of_causes
from tests.pages import parts
from tests.pages import pictures
from tests.pages import replaced
from tests.pages import shown
from tests.planted_pairs import planted_pairs
from tests.regenerate import REGENERATE
from tests.regenerate import expected_text

README = ROOT / "README.md"
WRITTEN = [README, *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("guides/*.md"))]
BLOCK = r"<!-- {kind}: {name} -->\n```\w+\n(.*?)```\n"
#: Examples that are one test file each, and how many tests of it pass.
PASSING: Mapping[str, int] = {
    "marker": 1,
    "fixture": 1,
    "repeatable": 1,
    "whole test": 1,
    "graph mode": 1,
    "service guide": 1,
    "dataset": 1,
    "threads": 1,
}
#: Examples that have a test of their own below.
OTHERS = {
    *("quick", "session", "probe", "test of the probe", "script"),
    *("service", "test of the service", "mended service"),
}


def find_block(kind: str, name: str) -> tuple[Path, re.Match[str]]:
    """Return the page with a block, and where it is."""
    for page in WRITTEN:
        pattern = BLOCK.format(kind=kind, name=name)
        match = re.search(pattern, page.read_text("utf-8"), re.DOTALL)
        if match is not None:
            return page, match
    raise AssertionError(f"no page has the {kind} {name!r}")


def block(kind: str, name: str) -> str:
    return find_block(kind, name)[1][1]


def assert_shown(name: str, wanted: str) -> None:
    """Compare an output with its block, except figures of time and memory."""
    if REGENERATE and scrub(block("output", name)) != scrub(wanted):
        page, match = find_block("output", name)
        start, end = match.span(1)
        page.write_text(match.string[:start] + wanted + match.string[end:], "utf-8")
    assert scrub(block("output", name)) == scrub(wanted)


def scrub(text: str) -> str:
    # line breaks depend on the length of the figures
    text = re.sub(r"\n {15,}(?=\S)", " ", text)
    text = re.sub(r"\d+ min [\d.]+ s\b", "1 s", text)
    text = re.sub(r"[\d.,]+ (ms|s|min|B|KiB|MiB)\b", r"# \1", text)
    text = re.sub(r"# \w+(?= ?\()|# (ms|s)\b", "#", text)
    text = re.sub(r"(python\.blocks \+)[\d.,]+", r"\1#", text)
    # the number of calls depends on how much the diagnosis had time for, and how early
    # it began
    text = re.sub(r"((?:of|→|=) ?|\w: )[\d.,]+", r"\1#", text)
    # whether a little known growth is told apart depends on the figures, too
    text = re.sub(r"\n  (known|note) .*", "", text)
    text = re.sub(r"(readings +)\d+( .* )\d+", r"\1#\2#", text)
    return re.sub(r" +(?=\n|$)", "", text)


@pytest.mark.parametrize("name", parts())
def test_a_generated_part_is_that_of_the_code(name: str) -> None:
    marker = f"<!-- generated: {name} -->"
    (page,) = [page for page in WRITTEN if marker in page.read_text("utf-8")]
    wanted = replaced(page.read_text("utf-8"), name, parts()[name]())
    assert expected_text(page, wanted) == wanted


def test_the_pages_of_causes_are_those_of_the_table() -> None:
    pages = dict(pages_of_causes())
    assert {path: expected_text(path, text) for path, text in pages.items()} == pages
    others = set(CAUSES.glob("*.md")) - set(pages)
    assert not others, "remove the pages of causes that are gone"


def test_a_page_that_is_missing_has_a_command_that_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.regenerate.REGENERATE", False)
    command = "TFLEAK_REGENERATE=1 python -m pytest .*tests/meta/test_docs.py"
    with pytest.raises(AssertionError, match=f"page.md is missing: run {command}"):
        expected_text(tmp_path / "page.md", "text")


def test_the_pictures_are_those_of_the_recorded_series() -> None:
    wanted = dict(pictures())
    assert {path: expected_text(path, text) for path, text in wanted.items()} == wanted
    assert set(PICTURES_FOLDER.iterdir()) == set(wanted), (
        "remove the pictures that are gone"
    )


def test_the_index_has_every_file_of_causes() -> None:
    listed = [cause for module in SUBJECTS.values() for cause in module.CAUSES]
    assert sorted(c.slug for c in listed) == sorted(c.slug for c in all_causes.CAUSES)


def test_every_message_belongs_to_a_cause() -> None:
    slugs = {cause.slug for cause in all_causes.CAUSES}
    assert {path.stem for path in MESSAGES.glob("*.txt")} <= slugs


def test_code_at_the_start_of_a_text_stays_as_it_is() -> None:
    assert shown("fit() returns it.") == "fit() returns it."
    assert shown("{close}.").startswith("Close it")
    assert shown("`f(__x__)` in __exit__") == "`f(__x__)` in `__exit__`"


def test_every_example_of_a_page_is_run() -> None:
    for page in WRITTEN:
        text = page.read_text("utf-8")
        names = re.findall(r"<!-- example: (.+) -->\n```python\n", text)
        assert text.count("```python") == len(names), f"{page.name}: not all are run"
        assert set(names) <= {*PASSING, *OTHERS}


def test_every_output_of_a_page_is_checked() -> None:
    """An output is in a block of its own, which a test of this file names."""
    here = Path(__file__).read_text("utf-8")
    for page in WRITTEN:
        for name in re.findall(r"<!-- output: (.+) -->", page.read_text("utf-8")):
            assert f'"{name}"' in here, f"{page.name}: {name}"


def test_every_row_of_a_message_is_explained() -> None:
    tree = ast.parse(inspect.getsource(message))
    yielded = [node.value for node in ast.walk(tree) if isinstance(node, ast.Yield)]
    heads = [pair.elts[0] for pair in yielded if isinstance(pair, ast.Tuple)]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    heads += [c.args[0] for c in calls if ast.unparse(c.func) == "_line_rows"]
    labels = {h.value for h in heads if isinstance(h, ast.Constant) and h.value}
    assert len(labels) > 20
    wanted = {*labels, "to allow it", "leak 2"}  # their labels are put together
    assert set(first_column("messages.md", "row")) == wanted


def test_every_property_of_a_junit_file_is_explained() -> None:
    line = Origin(file="app/train.py", line=40, function="f", text="")
    found = [
        make_leak(make_finding(cause="tensor-kept", origin=line, path=path_to())),
        make_leak(make_finding("tf.sessions", None)),
        make_verdict(Status.INCONCLUSIVE, reason=Reason.OUT_OF_TIME, detail="why"),
    ]
    names = {name for verdict in found for name, _ in properties(verdict)}
    shown = " ".join(first_column("reports.md", "property"))
    assert set(re.findall(r"`(tfleak\.\w+)`", shown)) == names


def test_every_verdict_is_explained() -> None:
    shown = [word.lower() for word in first_column("how-it-decides.md", "verdict")]
    assert shown == [status.value.replace("_", " ") for status in Status]


def first_column(page: str, head: str) -> list[str]:
    """Return the first cells of the table of a page whose first head is this."""
    text = (DOCS / page).read_text("utf-8")
    table = re.search(rf"^\| {head} \|.*\n\|-.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table, f"{page} has no such table"
    return [row.split("|")[1].strip() for row in table[1].splitlines()]


def test_every_flag_of_a_page_is_an_option() -> None:
    flags = {row.command_line_flag for row in all_options("command line")}
    for page in [*WRITTEN, ROOT / "CONTRIBUTING.md"]:
        found = re.findall(r"--tfleak(?:-[a-z]+)*", page.read_text("utf-8"))
        assert set(found) <= flags, page.name


#: A line of a shell or of a recipe that runs pytest.
PYTEST = re.compile(r"^(?: +- (?:run: )?)?pytest (-[^#\n]+)", re.MULTILINE)


def commands_of_pages() -> list[str]:
    """Return the options of each such line, "full" in place of what varies."""
    found = (one for page in WRITTEN for one in PYTEST.findall(page.read_text("utf-8")))
    return sorted({re.sub(r"\$\{\{.*?\}\}|\$\w+", "full", one) for one in found})


def test_every_command_of_a_page_is_accepted(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)
    # other plugins take most of the time
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_tfleak.plugin,xdist.plugin")
    folder = pytester.mkdir("tests") / "gpu"
    folder.mkdir()
    folder.joinpath("test_it.py").write_text("def test(): pass", "utf-8")
    status = {
        command: pytester.runpytest(*command.split(), "--collect-only").ret
        for command in (*commands_of_pages(), "--tfleak-depth=slow")
    }
    assert status.pop("--tfleak-depth=slow") == pytest.ExitCode.USAGE_ERROR
    assert len(status) > 10 and set(status.values()) == {pytest.ExitCode.OK}


def test_the_recipe_of_the_readme_has_ten_lines() -> None:
    lines = block("recipe", "readme").splitlines()
    assert len(lines) == 10
    # without these, it would be no workflow
    assert {line.partition(":")[0] for line in lines if line[0] != " "} == {
        "on",
        "jobs",
    }


@needs_tensorflow
def test_examples_without_a_leak_pass(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    files = {f"test_{name.replace(' ', '_')}": name for name in PASSING}
    pytester.makepyfile(**{file: block("example", n) for file, n in files.items()})
    options = ("--tfleak", "--tfleak-strict", "-p", "no:randomly")
    result = pytester.runpytest_subprocess(*options)
    result.assert_outcomes(passed=sum(PASSING.values()))


@pytest.mark.layout
@needs_tensorflow
@pytest.mark.parametrize(
    ("name", "test"),
    [
        ("quick", "test_predict"),
        ("session", "test_connection"),
    ],
)
def test_an_example_prints_what_is_shown(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str, test: str
) -> None:
    pytester.makepyfile(**{test: block("example", name)})
    result = run_as_shown(pytester, monkeypatch)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert_shown(name, failure_of(result, test))


@pytest.mark.layout
@needs_tensorflow
def test_the_service_leaks_until_it_is_mended(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(
        service=block("example", "service"),
        test_service=block("example", "test of the service"),
    )
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(pytester.path))
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    result = run_as_shown(pytester, monkeypatch, "--tfleak")
    monkeypatch.delenv("GITHUB_ACTIONS")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert_shown("service", failure_of(result, "test_handle"))
    assert_shown("annotations", annotations_in(result))
    pytester.makepyfile(service=block("example", "mended service"))
    result = run_as_shown(pytester, monkeypatch, "--tfleak")
    assert result.ret == pytest.ExitCode.OK
    lines = result.stdout.str().splitlines()
    start = next(i for i, line in enumerate(lines) if "= tfleak =" in line)
    assert_shown("mended service", "\n".join(lines[start:-1]) + "\n")


def run_as_shown(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, *options: str
) -> pytest.RunResult:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    monkeypatch.setenv("COLUMNS", "80")
    # a busy machine must not cut the diagnosis short
    given = ["--color=no", "-p", "no:randomly", "--tfleak-diagnose-time=180", *options]
    # on Python 3.13, TensorFlow's AutoGraph uses deprecated functions
    given += ["-W", "ignore::DeprecationWarning:gast.astn"]
    return pytester.runpytest_subprocess(*given)


def annotations_in(result: pytest.RunResult) -> str:
    """Return the place and the title of each annotation, as a table shows them."""
    pattern = r"^::error file=([^,]+),line=(\d+),title=(.*?)::"
    found = re.findall(pattern, result.stdout.str(), re.MULTILINE)
    rows = (f"{file}, line {line}   {unquote(title)}" for file, line, title in found)
    return "".join(f"{row}\n" for row in rows)


def failure_of(result: pytest.RunResult, test: str) -> str:
    """Return what is printed of a failing test, with the section at the end."""
    lines = result.stdout.str().splitlines()
    start = next(i for i, line in enumerate(lines) if f"_ {test} _" in line)
    end = next(i for i, line in enumerate(lines) if "short test summary" in line)
    return "\n".join(lines[start:end]) + "\n"


@needs_tensorflow
def test_the_script_prints_what_is_shown(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    script = pytester.makepyfile(script=block("example", "script"))
    result = pytester.runpython(script)
    assert_shown("script", result.stdout.str() + "\n")


@pytest.mark.layout
def test_probe_example_works(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(
        myapp="""
        POOL = []

        class Connection: ...

        def connect():
            POOL.append(Connection())
        """,
        test_connect=block("example", "test of the probe"),
    )
    pytester.makeconftest(block("example", "probe"))
    result = run_as_shown(pytester, monkeypatch)
    result.assert_outcomes(failed=1)
    assert_shown("probe", failure_of(result, "test_connect"))


def test_a_missing_baseline_ends_the_run_as_shown(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "1")
    result = pytester.runpytest("--tfleak-baseline=tfleak-baseline.json")
    printed = result.stderr.str().strip()
    assert block("output", "missing baseline").strip() == printed.replace(
        str(pytester.path), "/repo"
    )


def test_the_baseline_that_is_shown_is_one(tmp_path: Path) -> None:
    path, text = tmp_path / "baseline.json", block("output", "baseline")
    path.write_text(text, "utf-8")
    assert baseline_text([], read_baseline(path)) == text


def test_two_reports_are_compared_as_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit, load, predict = (
        f"tests/{name}"
        for name in (
            "test_model.py::test_fit",
            "test_serve.py::test_load",
            "test_model.py::test_predict",
        )
    )
    others = [make_verdict(nodeid=f"test_other.py::test_{k}") for k in range(212)]
    memory, session = make_finding("host.heap"), make_finding("tf.sessions", None)
    before = [
        make_leak(replace(memory, per_iteration=19.6 * 1024), nodeid=fit),
        make_verdict(nodeid=load),
        make_leak(make_finding(kind="EagerTensor"), nodeid=predict),
    ]
    now = [
        make_leak(replace(memory, per_iteration=58.8 * 1024), nodeid=fit),
        make_leak(replace(session, kind="Session"), nodeid=load),
        make_verdict(nodeid=predict),
    ]
    files = tmp_path / "before.json", tmp_path / "now.json"
    for file, version, verdicts in zip(
        files, ("2.20.0", "2.21.0"), (before, now), strict=True
    ):
        environment = {"tensorflow": version}
        document = make_document([*verdicts, *others], environment, complete=True)
        file.write_text(render(document), "utf-8")
    assert main(["compare", *map(str, files)]) == 1
    assert capsys.readouterr().out == block("output", "compare")


def test_the_row_on_failing_calls_is_as_shown() -> None:
    first, last = (
        FailedCall(
            number=number,
            operation=operation,
            origin=Origin(file="app/train.py", line=line, function="f", text=""),
        )
        for number, operation, line in ((1, "MatMul", 40), (7, "Sum", 52))
    )
    failing = FailingCalls(count=7, total=9, first=first, last=last)
    text = failure_text(make_leak(make_finding(failing=failing)))
    assert block("output", "failing calls") in text


def test_no_example_of_a_cause_has_a_base_class_for_nothing() -> None:
    idle = {slug: idle_bases(pair.leaking) for slug, pair in planted_pairs().items()}
    assert not {slug: names for slug, names in idle.items() if names}


def idle_bases(source: str) -> set[str]:
    """Return the base classes whose methods are all overridden where they are used."""
    tree = ast.parse(source)
    classes = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef)}
    bases = {name: [*map(ast.unparse, node.bases)] for name, node in classes.items()}
    as_base = {id(base) for node in classes.values() for base in node.bases}
    names = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    used = {name.id for name in names if id(name) not in as_base}
    needed = set(used)
    for name in used & set(classes):
        known: set[str] = set()
        pending = [name]
        while pending:
            node = classes.get(pending.pop())
            if node is not None:
                own = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
                if own - known:
                    needed.add(node.name)
                if "super()" not in ast.unparse(node):
                    known |= own
                pending += bases[node.name]
    return set(classes) - needed
