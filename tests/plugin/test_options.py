"""Every row of the option table, from every source it allows, and which source wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_tfleak.plan import Option
from pytest_tfleak.plan import Plan
from pytest_tfleak.plan import RunOptions
from pytest_tfleak.plan import Source
from pytest_tfleak.plan import option_table
from pytest_tfleak.plugin import command_line
from pytest_tfleak.plugin import outputs

REPORTS = [reporter.option for reporter in outputs.REPORTERS]
MARKED = "import pytest\n@pytest.mark.tfleak({})\ndef test_it(): pass"


def written(row: Option) -> str:
    """Return a value that is not the row's default, as an ini file would hold it."""
    words = {
        "depth": "quick",
        "repeat": "test",
        "clear_session": "never",
        "diagnose": "off",
        "known": "fail",
        "junit": "off",
        "reason": "too slow",
        "fault_error": "UnavailableError",
    }
    if row.is_switch:
        return str(not row.default).lower()
    if row.unit.startswith("bytes"):
        return "3 KiB"
    if row.ini_type == "linelist":
        return "mylib.cache*"
    return words.get(row.name, "7")


def plan_of(pytester: pytest.Pytester, source: str, *args: str) -> Plan | None:
    """Return the plan of the last test in a file."""
    items, _ = pytester.inline_genitems(pytester.makepyfile(source), *args)
    request = command_line.request_for(
        items[-1], command_line.run_options(items[-1].config)
    )
    return None if request is None else request.plan


def set_of(config: pytest.Config) -> dict[str, object]:
    """Return the options of a run that are not at their defaults, by name."""
    run = command_line.run_options(config)
    found: dict[str, object] = dict(run.reports)
    for row in option_table():
        value = getattr(run.plan if hasattr(run.plan, row.name) else run, row.name)
        if value != row.default:
            found[row.name] = value
    return found


def expected_in_ini(folder: Path) -> dict[str, object]:
    """Return the values of all options of the ini file, which is in this folder."""
    files = {row.name: str(folder / written(row)) for row in REPORTS}
    return expected_of("ini") | files


def expected_of(source: Source) -> dict[str, object]:
    """Return the parsed values of all options of a source."""
    rows = command_line.all_options(source)
    expected = {row.name: row.read(written(row)) for row in rows}
    assert not [row for row in rows if expected[row.name] == row.default]
    return expected


def test_each_option_can_be_set_on_the_command_line(pytester: pytest.Pytester) -> None:
    args = [
        row.command_line_flag + ("" if row.is_switch else f"={written(row)}")
        for row in command_line.all_options("command line")
    ]
    found = set_of(pytester.parseconfig(*args))
    assert found == expected_of("command line")


def test_each_option_can_be_set_in_the_ini_file(pytester: pytest.Pytester) -> None:
    lines = [
        f"{row.ini_key} = {written(row)}" for row in command_line.all_options("ini")
    ]
    pytester.makeini("\n".join(["[pytest]", *lines]))
    assert set_of(pytester.parseconfig()) == expected_in_ini(pytester.path)


def test_each_option_can_be_set_as_a_text_in_pyproject(
    pytester: pytest.Pytester,
) -> None:
    lines = [
        f'{row.ini_key} = "{written(row)}"' for row in command_line.all_options("ini")
    ]
    pytester.makepyprojecttoml("\n".join(["[tool.pytest.ini_options]", *lines]))
    assert set_of(pytester.parseconfig()) == expected_in_ini(pytester.path)


def test_each_option_can_be_set_by_the_marker(pytester: pytest.Pytester) -> None:
    scope = ("enabled", "reason")
    keywords = ", ".join(
        f"{row.name}={written(row)!r}"
        for row in option_table("marker")
        if row.name not in scope
    )
    plan = plan_of(pytester, MARKED.format(keywords))
    expected = expected_of("marker") | {"enabled": True, "reason": None}
    assert plan is not None
    assert {name: getattr(plan, name) for name in expected} == expected


def test_nothing_is_set_by_default(pytester: pytest.Pytester) -> None:
    assert command_line.run_options(pytester.parseconfig()) == RunOptions()
    plan = plan_of(pytester, MARKED.format(""))
    assert plan == Plan()


def test_a_zero_in_the_ini_file_is_a_value(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ntfleak_warmup = 0\ntfleak_blocks = 0")
    assert set_of(pytester.parseconfig()) == {"warmup": 0, "blocks": 0}


@pytest.mark.skipif(
    pytest.version_tuple < (9, 2), reason="this pytest has no ini options of two types"
)
def test_pyproject_holds_options_in_types_of_toml(pytester: pytest.Pytester) -> None:
    pytester.makepyprojecttoml(
        """
        [tool.pytest]
        tfleak_iterations = 12
        tfleak_warmup = 0
        tfleak_strict = true
        tfleak_require_gpu = false
        tfleak_spread_gpus = true
        tfleak_max_time = 2.5
        tfleak_host_per_iteration = 4096
        tfleak_host_total = "1 MiB"
        tfleak_blocks = 100
        tfleak_ignore = ["a.*", "b.*"]
        """
    )
    assert set_of(pytester.parseconfig()) == {
        "iterations": 12,
        "warmup": 0,
        "strict": True,
        "spread_gpus": True,
        "max_time": 2.5,
        "host_per_iteration": 4096,
        "host_total": 2**20,
        "blocks": 100,
        "ignore": ("a.*", "b.*"),
    }


@pytest.mark.skipif(
    pytest.version_tuple < (9,), reason="this pytest reads no table [tool.pytest]"
)
def test_pyproject_holds_whole_numbers_and_switches_of_toml(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyprojecttoml(
        "[tool.pytest]\ntfleak_iterations = 12\ntfleak_strict = true"
    )
    assert set_of(pytester.parseconfig()) == {"iterations": 12, "strict": True}


@pytest.mark.parametrize(
    ("marker", "args", "expected"),
    [
        ("iterations=11", ["--tfleak-iterations=22"], 11),
        ("warmup=1", ["--tfleak-iterations=22"], 22),
        ("warmup=1", [], 33),
    ],
    ids=["marker", "command line", "ini"],
)
def test_marker_wins_over_command_line_over_ini(
    pytester: pytest.Pytester, marker: str, args: list[str], expected: int
) -> None:
    pytester.makeini("[pytest]\ntfleak_iterations = 33")
    plan = plan_of(pytester, MARKED.format(marker), *args)
    assert plan is not None
    assert plan.iterations == expected


def test_the_command_line_can_repeat_a_default_against_the_ini(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeini("[pytest]\ntfleak_iterations = 33\ntfleak_host_total = 1 MiB")
    args = ["--tfleak-iterations=50", "--tfleak-host-total=none"]
    plan = plan_of(pytester, MARKED.format(""), *args)
    assert plan is not None
    assert (plan.iterations, plan.host_total) == (50, None)


def test_override_ini_wins_over_the_ini_file(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ntfleak_iterations = 33")
    plan = plan_of(pytester, MARKED.format(""), "-o", "tfleak_iterations=44")
    assert plan is not None
    assert plan.iterations == 44


def test_patterns_on_the_command_line_add_up(pytester: pytest.Pytester) -> None:
    config = pytester.parseconfig("--tfleak-ignore=a.*", "--tfleak-ignore=b.*")
    assert set_of(config) == {"ignore": ("a.*", "b.*")}


def test_a_file_in_the_ini_is_relative_to_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]\ntfleak_sarif = reports/leaks.sarif")
    below = pytester.mkdir("below")
    monkeypatch.chdir(below)
    config = pytester.parseconfig("--rootdir=..", "-c", "../tox.ini")
    assert set_of(config) == {"sarif": str(pytester.path / "reports/leaks.sarif")}
    config = pytester.parseconfig("-c", "../tox.ini", "--tfleak-sarif=here.sarif")
    assert set_of(config) == {"sarif": "here.sarif"}
