"""Declare the options on pytest's command line and ini, and merge them with markers."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import fields
from typing import Any

import pytest

from pytest_tfleak.plan import Option
from pytest_tfleak.plan import Plan
from pytest_tfleak.plan import PlanError
from pytest_tfleak.plan import RunOptions
from pytest_tfleak.plan import Source
from pytest_tfleak.plan import option_table
from pytest_tfleak.plan import parse_options
from pytest_tfleak.plugin import outputs
from pytest_tfleak.quantities import in_short
from pytest_tfleak.reports.text import wrap

MARKER = "tfleak"
_BEFORE = "@pytest.mark."  # pytest prints it before the name
_NARROWEST = 40  # columns


def all_options(source: Source | None = None) -> tuple[Option, ...]:
    """Return the option table, with an option for the file of each report."""
    reports = (reporter.option for reporter in outputs.REPORTERS)
    return (
        *option_table(source),
        *(row for row in reports if source is None or source in row.sources),
    )


def declare(parser: pytest.Parser) -> None:
    """Add all options to pytest's parser, without their defaults."""
    group = parser.getgroup("tfleak", "leaks of TensorFlow code (pytest-tfleak)")
    rows = all_options("command line")
    for option in sorted(rows, key=lambda row: row.name != "all_tests"):
        attributes: dict[str, Any] = {"dest": option.ini_key, "default": None}
        if option.is_switch:
            attributes |= {"action": "store_const", "const": True}
        else:
            attributes |= {"metavar": option.metavar}
        if option.repeated:
            attributes |= {"action": "append"}
        group.addoption(option.command_line_flag, help=_help(option), **attributes)
    for option in all_options("ini"):
        ini_type = _ini_type(option)
        parser.addini(option.ini_key, _help(option), type=ini_type, default=None)


def _help(option: Option) -> str:
    return f"{option.help} [{option.unit}; default: {option.default_text}]"


def _ini_type(option: Option) -> Any:
    """Return the ini type, a native TOML type if this pytest supports it."""
    if option.is_switch:
        return "bool"
    if option.ini_type != "linelist" and pytest.version_tuple >= (9, 2):
        return str | int | float
    return option.ini_type


def marker_help() -> str:
    """Return the text of ``pytest --markers``, in lines that fit the terminal."""
    width = shutil.get_terminal_size().columns
    width = 80 if width < _NARROWEST else width  # as pytest does
    text = (
        f"{_BEFORE}{MARKER}(**options): repeat the test and fail it when memory or "
        "TensorFlow objects pile up. Options, with their defaults:"
    )
    lines = wrap(text, width, rest=" " * 4)
    for option in option_table("marker"):
        row = f"{option.name}={option.default_text}: {option.help} [{option.unit}]"
        lines += wrap(row, width, " " * 4, " " * 8)
    return "\n".join(lines).removeprefix(_BEFORE)


def run_options(config: pytest.Config) -> RunOptions:
    """Return the options set by ini and command line; the command line wins.

    Raises pytest.UsageError for a bad value.
    """
    try:
        values = _beside_ini(config, _from_ini(config))
    except PlanError as error:
        raise pytest.UsageError(f"tfleak ini: {error}") from None
    try:
        given = _from_command_line(config)
    except PlanError as error:
        raise pytest.UsageError(f"tfleak command line: {error}") from None
    values |= given
    plan = {f.name: values.pop(f.name) for f in fields(Plan) if f.name in values}
    names = [reporter.name for reporter in outputs.REPORTERS if reporter.name in values]
    reports = {name: values.pop(name) for name in names}
    return RunOptions(
        plan=Plan(**plan),
        sets_depth="depth" in plan,
        is_exact="iterations" in given,
        reports={name: file for name, file in reports.items() if file is not None},
        **values,
    )


def without_effect(config: pytest.Config, run: RunOptions) -> list[str]:
    """Return a line on options that were given for a run that measures no test."""
    given = [
        row.command_line_flag
        for row in all_options("command line")
        if config.getoption(row.ini_key, default=None) is not None
    ]
    if not given or run.all_tests:
        return []
    do = "does" if len(given) == 1 else "do"
    what = f"tfleak: no test is measured, so {', '.join(given)} {do} nothing"
    return [f"{what}: mark tests with @pytest.mark.tfleak, or measure all by --tfleak"]


def _from_ini(config: pytest.Config) -> dict[str, Any]:
    given = {row: _ini_value(config, row) for row in all_options("ini")}
    return {row.name: row.read(v) for row, v in given.items() if v is not None}


def _beside_ini(config: pytest.Config, values: dict[str, Any]) -> dict[str, Any]:
    """Return the ini's options, with files relative to it as in pytest's own."""
    folder = config.rootpath if config.inipath is None else config.inipath.parent
    names = (reporter.name for reporter in outputs.REPORTERS)
    given = {name: values[name] for name in names if values.get(name) is not None}
    paths = {name: folder / outputs.expanded(file) for name, file in given.items()}
    return values | {name: str(path) for name, path in paths.items()}


def _from_command_line(config: pytest.Config) -> dict[str, Any]:
    rows = all_options("command line")
    given = {row: config.getoption(row.ini_key, default=None) for row in rows}
    return {row.name: row.read(v) for row, v in given.items() if v is not None}


def _ini_value(config: pytest.Config, option: Option) -> object:
    try:
        value = config.getini(option.ini_key)
    except (TypeError, ValueError, pytest.UsageError) as error:  # pytest versions vary
        raise PlanError(f"{option.name}: {error}; expected {option.unit}") from None
    return None if value in ("", []) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is requested for one test: its plan, which may opt it out."""

    plan: Plan
    is_marked: bool
    is_marked_itself: bool  # not only its class or module

    @property
    def via(self) -> str:
        """Return what requested it, as a verdict names it."""
        return "marker" if self.is_marked else "--tfleak"

    @property
    def repeats(self) -> bool:
        """Return whether the test is to be called more than once."""
        return self.plan.enabled and self.plan.depth != "leftovers"


def check_markers(items: Iterable[pytest.Item], run: RunOptions) -> list[str]:
    """Return a message for each mistake in the markers of the tests."""
    mistakes: dict[str, list[str]] = {}
    for item in dict.fromkeys(items):
        try:
            request_for(item, run)
        except PlanError as error:
            mistakes.setdefault(str(error), []).append(item.nodeid)
    return [
        f"{nodeids[0]}{_and_others(nodeids[1:])}: tfleak marker: {mistake}"
        for mistake, nodeids in mistakes.items()
    ]


def _and_others(others: Sequence[str]) -> str:
    return f" (and {len(others)} more)" if others else ""


def request_for(item: pytest.Item, run: RunOptions) -> Request | None:
    """Return what is requested for a test, None if it is not to be measured.

    Raises PlanError, which names the keyword, the value and what is allowed.
    """
    marked: dict[str, Any] = {}
    is_marked = False
    for marks in _levels(item):
        level = _merge([_options(mark) for mark in marks])
        if marks:
            # an inner marker opts in again what an outer one opted out
            marked = {**marked, "enabled": True, "reason": None, **level}
            is_marked = True
    if not is_marked and not run.all_tests:
        return None
    return Request(
        plan=run.plan_for(marked, is_asked=is_marked),
        is_marked=is_marked,
        is_marked_itself=any(mark.name == MARKER for mark in item.own_markers),
    )


def _levels(item: pytest.Item) -> Iterator[list[pytest.Mark]]:
    """Yield the markers of each level, outermost first: module, class, function."""
    for node in item.listchain():
        marks = [mark for mark in node.own_markers if mark.name == MARKER]
        if isinstance(node, pytest.Class):
            yield from _class_levels(node, marks)
        elif isinstance(node, pytest.Function) and hasattr(node, "callspec"):
            of_parameters = [m for m in node.callspec.marks if m.name == MARKER]
            yield [mark for mark in marks if mark not in of_parameters]
            yield of_parameters
        else:
            yield marks


def _class_levels(
    node: pytest.Class, marks: list[pytest.Mark]
) -> Iterator[list[pytest.Mark]]:
    """Yield the markers of base classes before those of the class itself."""
    added = marks
    for base in reversed(node.obj.__mro__):
        own = vars(base).get("pytestmark", [])
        listed = own if isinstance(own, (list, tuple)) else [own]
        plain = [getattr(mark, "mark", mark) for mark in listed]
        yield [mark for mark in marks if mark in plain]
        added = [mark for mark in added if mark not in plain]
    yield added  # at run time, by Node.add_marker


def _options(mark: pytest.Mark) -> dict[str, Any]:
    if mark.args:
        raise PlanError(
            f"takes keywords only, got {', '.join(map(in_short, mark.args))}; "
            f"for example: {MARKER}(iterations=20)"
        )
    options = parse_options(dict(mark.kwargs), "marker")
    if "reason" in options and options.get("enabled", True):
        raise PlanError("reason is for enabled=False, which is not given")
    if options.get("enabled") is False and set(options) - {"enabled", "reason"}:
        others = ", ".join(sorted(set(options) - {"enabled", "reason"}))
        raise PlanError(f"enabled=False contradicts {others}")
    return options


def _merge(levels: list[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for options in levels:
        for name, value in options.items():
            if merged.setdefault(name, value) != value:
                raise PlanError(
                    f"two markers contradict each other: {name}={merged[name]!r} and "
                    f"{name}={value!r}"
                )
    if merged.get("enabled") is False and set(merged) - {"enabled", "reason"}:
        others = ", ".join(sorted(set(merged) - {"enabled", "reason"}))
        raise PlanError(
            f"two markers contradict each other: enabled=False and {others}"
        )
    return merged
