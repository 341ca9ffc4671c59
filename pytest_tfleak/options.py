"""Declare the options on pytest's command line and ini, and merge them with markers."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_tfleak.plan import Option
from pytest_tfleak.plan import Plan
from pytest_tfleak.plan import PlanError
from pytest_tfleak.plan import option_table
from pytest_tfleak.plan import parse_option
from pytest_tfleak.plan import parse_options

MARKER = "tfleak"


def declare(parser: pytest.Parser) -> None:
    """Add every row of the option table to pytest's parser, without a default there."""
    group = parser.getgroup("tfleak", "leaks of TensorFlow code (pytest-tfleak)")
    rows = option_table("command line")
    for option in sorted(rows, key=lambda row: row.name != "all_tests"):
        attributes: dict[str, Any] = {"dest": option.ini_key, "default": None}
        if option.is_switch:
            attributes |= {"action": "store_const", "const": True}
        else:
            attributes |= {"metavar": option.metavar}
        if option.repeated:
            attributes |= {"action": "append"}
        group.addoption(
            option.command_line_flag,
            help=f"{option.help} [{option.unit}; default: {option.default_text}]",
            **attributes,
        )
    for option in option_table("ini"):
        parser.addini(
            option.ini_key,
            f"{option.help} [{option.unit}; default: {option.default_text}]",
            type=_ini_type(option),
            default=None,
        )


def _ini_type(option: Option) -> Any:
    """Return a type that takes TOML's own numbers and truth values, as pytest can."""
    if option.is_switch:
        return "bool"
    if option.ini_type != "linelist" and pytest.version_tuple >= (9, 2):
        return str | int | float
    return option.ini_type


def marker_help() -> str:
    """Return the text of ``pytest --markers``."""
    rows = "".join(
        f"\n    {option.name}={option.default_text}: {option.help} [{option.unit}]"
        for option in option_table("marker")
    )
    return (
        f"{MARKER}(**options): repeat the test and fail it when memory or TensorFlow "
        f"objects pile up. Options, with their defaults:{rows}"
    )


def run_options(config: pytest.Config) -> dict[str, Any]:
    """Return what ini and command line set, the command line first.

    Raises pytest.UsageError for a value that no plan takes.
    """
    options = {}
    try:
        for option in option_table("ini"):
            value = _ini_value(config, option)
            if value is not None:
                options[option.name] = parse_option(option.name, value, "ini")
    except PlanError as error:
        raise pytest.UsageError(f"tfleak ini: {error}") from None
    try:
        for option in option_table("command line"):
            value = config.getoption(option.ini_key, default=None)
            if value is not None:
                name = option.name
                options[name] = parse_option(name, value, "command line")
    except PlanError as error:
        raise pytest.UsageError(f"tfleak command line: {error}") from None
    return options


def _ini_value(config: pytest.Config, option: Option) -> object:
    try:
        value = config.getini(option.ini_key)
    except (TypeError, ValueError, pytest.UsageError) as error:  # by pytest's version
        raise PlanError(f"{option.name}: {error}; expected {option.unit}") from None
    return None if value in ("", []) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for one test: its plan, or that it is opted out."""

    plan: Plan
    is_marked: bool


def check_markers(items: Iterable[pytest.Item], run: dict[str, Any]) -> list[str]:
    """Return what is wrong with the markers of tests, a message for each mistake."""
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


def request_for(item: pytest.Item, run: dict[str, Any]) -> Request | None:
    """Return what is asked for a test, None where it is not to be measured.

    Raises PlanError, which names the keyword, the value and what is allowed.
    """
    marked: dict[str, Any] = {}
    is_marked = False
    for marks in _levels(item):
        level = _merge([_options(mark) for mark in marks])
        if marks:
            # a nearer marker measures what a farther one opts out
            marked = {**marked, "enabled": True, "reason": None, **level}
            is_marked = True
    if not is_marked and not run.get("all_tests", False):
        return None
    return Request(plan=Plan(**{**run, **marked}), is_marked=is_marked)


def _levels(item: pytest.Item) -> Iterator[list[pytest.Mark]]:
    """Yield the markers of each level, the farthest first: module, class, function."""
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
    yield added  # by Node.add_marker


def _options(mark: pytest.Mark) -> dict[str, Any]:
    if mark.args:
        raise PlanError(
            f"takes keywords only, got {', '.join(map(repr, mark.args))}; "
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
