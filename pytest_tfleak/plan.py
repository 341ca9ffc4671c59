"""What one test is measured with: ``Plan``, whose fields are the only option table.

Marker keywords, command-line flags, ini keys, ``--help`` and ``--markers`` all come
from the metadata of the fields.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from difflib import get_close_matches
from typing import Any
from typing import Literal

from pytest_tfleak.units import format_bytes
from pytest_tfleak.units import format_seconds
from pytest_tfleak.units import parse_bytes
from pytest_tfleak.units import parse_seconds
from pytest_tfleak.values import choice
from pytest_tfleak.values import none_or
from pytest_tfleak.values import number
from pytest_tfleak.values import on_or_off
from pytest_tfleak.values import patterns
from pytest_tfleak.values import switch
from pytest_tfleak.values import text
from pytest_tfleak.values import whole

Door = Literal["marker", "command line", "ini", "library"]
Group = Literal["run", "allowance", "scope", "report"]
IniType = Literal["string", "int", "float", "bool", "linelist"]
EVERYWHERE: frozenset[Door] = frozenset({"marker", "command line", "ini", "library"})
#: Doors of the options that steer a whole run, not one measurement.
RUN: frozenset[Door] = frozenset({"command line"})


class PlanError(ValueError):
    """A value or a keyword that no plan takes; the text says what is allowed."""


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One row of the option table."""

    name: str
    default: Any
    help: str
    unit: str
    parse: Callable[[object], Any]
    group: Group = "run"
    doors: frozenset[Door] = EVERYWHERE
    show: Callable[[Any], str] = _shown
    flag: str | None = None
    repeated: bool = False
    ini_type: IniType = "string"

    @property
    def is_switch(self) -> bool:
        """Say whether the command line takes the flag without a value."""
        return isinstance(self.default, bool)

    @property
    def metavar(self) -> str:
        """Return what stands for the value in ``--help``."""
        words = {"int": "N", "linelist": "PATTERN"}
        if "|" in self.unit:
            return self.unit.replace(" ", "")
        first = self.unit.split()[0].upper()
        return words.get(self.ini_type, "NUMBER" if first == "PER" else first)

    @property
    def default_text(self) -> str:
        """Return the default as a user would write it."""
        return "none" if self.default is None else self.show(self.default)

    @property
    def command_line_flag(self) -> str:
        """Return the flag, ``--tfleak-host-total`` for ``host_total``."""
        return self.flag or "--tfleak-" + self.name.replace("_", "-")

    @property
    def ini_key(self) -> str:
        """Return the ini key, ``tfleak_host_total`` for ``host_total``."""
        return "tfleak_" + self.name


def _option(default: Any, help: str, **row: Any) -> Any:
    return field(default=default, metadata={"help": help, **row})


def _allowed(noun: str, default: float = 0) -> Any:
    return _option(
        default,
        f"allowed growth of {noun}",
        unit="per iteration",
        parse=number,
        group="allowance",
    )


def _allowed_bytes(noun: str, default: int | None = None) -> Any:
    if default is None:
        span, unit = " over all judged iterations", "bytes"
    else:
        span, unit = "", "bytes per iteration"
    return _option(
        default,
        f"allowed growth of {noun}{span}",
        unit=unit,
        parse=parse_bytes if default is not None else none_or(parse_bytes),
        group="allowance",
        show=format_bytes,
    )


def _counted(default: int, help: str, unit: str, least: int = 0, **row: Any) -> Any:
    return _option(default, help, unit=unit, parse=whole(least), ini_type="int", **row)


def _switched(default: bool, help: str, **row: Any) -> Any:
    return _option(default, help, unit="true | false", parse=switch, **row)


def _file(help: str) -> Any:
    row = {"parse": none_or(text), "group": "report", "doors": RUN}
    return _option(None, help, unit="file", **row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one test body is repeated, read and judged."""

    iterations: int = _counted(50, "iterations that are judged", "iterations", least=1)
    warmup: int = _counted(
        5, "iterations that run first and are not judged", "iterations"
    )
    max_time: float | None = _option(
        300.0,
        "time that the loop of one test may take; it then ends with what it has",
        unit="seconds",
        parse=none_or(parse_seconds),
        show=format_seconds,
    )
    repeat: str = _option(
        "body",
        'what an iteration is: the test\'s "body", or the whole "test" with its '
        "function-scoped fixtures set up anew",
        unit="body | test",
        parse=choice("body", "test"),
        doors=frozenset({"marker", "command line", "ini"}),
    )
    clear_session: str = _option(
        "around",
        "when keras.utils.clear_session() is called: before the baseline and after the "
        'last iteration ("around"), after each one ("iteration"), or "never"',
        unit="around | iteration | never",
        parse=choice("around", "iteration", "never"),
    )
    require_gpu: bool = _switched(
        False, "make it an error when GPU memory could not be measured"
    )
    spread_gpus: bool = _switched(
        False,
        "give each xdist worker a GPU of its own, by CUDA_VISIBLE_DEVICES",
        doors=frozenset({"command line", "ini"}),
    )
    strict: bool = _switched(False, "fail tests whose verdict is INCONCLUSIVE")
    known: str = _option(
        "report",
        "growth that belongs to TensorFlow and that no test can avoid: say so "
        '("report"), or fail the test ("fail")',
        unit="report | fail",
        parse=choice("report", "fail"),
    )
    diagnose: str = _option(
        "on",
        "after a leak, run the body some more to find its holder, line and cause",
        unit="on | off",
        parse=on_or_off,
    )
    diagnose_time: float = _option(
        30.0,
        "time that this search may take",
        unit="seconds",
        parse=parse_seconds,
        show=format_seconds,
    )
    ignore: tuple[str, ...] = _option(
        (),
        "leaks that do not fail: patterns on a type's full name, a holder, or a line "
        '("app.CACHE*", "*/legacy/*.py:*")',
        unit="patterns",
        parse=patterns,
        repeated=True,
        ini_type="linelist",
    )
    host_per_iteration: int = _allowed_bytes("host memory", 6 * 1024)
    host_total: int | None = _allowed_bytes("host memory")
    gpu_per_iteration: int = _allowed_bytes("GPU memory", 1024)
    gpu_total: int | None = _allowed_bytes("GPU memory")
    gpu_process: int | None = _option(
        None,
        "allowed growth of the process's GPU memory as the driver counts it (none: "
        "shown, never judged)",
        unit="bytes per iteration",
        parse=none_or(parse_bytes),
        group="allowance",
        show=format_bytes,
    )
    sessions: int = _counted(
        0,
        "sessions that may be left open, and stay alive, after the last iteration",
        "sessions",
        group="allowance",
    )
    graphs: int = _counted(
        0,
        "graphs that may be left alive after the last iteration",
        "graphs",
        group="allowance",
    )
    blocks: float = _allowed("Python's memory blocks", 64)
    objects: float | None = _option(
        None,
        "allowed growth of Python objects of any type (none: shown, never judged)",
        unit="per iteration",
        parse=none_or(number),
        group="allowance",
    )
    functions: float = _allowed("concrete functions")
    traces: float = _allowed("traces of tf.functions")
    tensors: float = _allowed("eager tensors")
    variables: float = _allowed("TensorFlow variables")
    operations: float = _allowed("operations in graphs")
    iterators: float = _allowed("dataset iterators")
    datasets: float = _allowed("datasets")
    registered_functions: float = _allowed("functions in TensorFlow's eager context")
    py_functions: float = _allowed("Python functions that TensorFlow's ops call")
    custom_gradients: float = _allowed("entries of the custom-gradient registry")
    layers: float = _allowed("Keras layers")
    optimizers: float = _allowed("Keras optimizers")
    threads: float = _allowed("threads")
    fds: float = _allowed("open file descriptors")
    children: float = _allowed("child processes")
    enabled: bool = _switched(
        True,
        "false opts the test out",
        group="scope",
        doors=frozenset({"marker"}),
    )
    reason: str | None = _option(
        None,
        "why the test is opted out",
        unit="text",
        parse=none_or(text),
        group="scope",
        doors=frozenset({"marker"}),
    )
    all_tests: bool = _switched(
        False,
        "measure every collected test, marked or not",
        group="scope",
        doors=RUN,
        flag="--tfleak",
    )
    json: str | None = _file("write what was found to this file, as JSON")
    html: str | None = _file("write what was found to this file, as a web page")
    baseline: str | None = _file(
        "fail only for what is not in this file; where it is missing, it is written"
    )
    save_baseline: str | None = _file("write the findings of this run to this file")
    junit: str = _option(
        "on",
        "put figures and verdict of each test into the file of --junitxml",
        unit="on | off",
        parse=on_or_off,
        group="report",
        doors=frozenset({"command line", "ini"}),
    )


def option_table(door: Door | None = None) -> tuple[Option, ...]:
    """Return the rows of the option table, all or those that a door offers."""
    rows = (
        Option(name=f.name, default=f.default, **f.metadata)
        for f in dataclasses.fields(Plan)
    )
    return tuple(row for row in rows if door is None or door in row.doors)


def parse_option(name: str, value: object, door: Door) -> Any:
    """Return the value of an option as the plan holds it.

    Raises PlanError, which names the value and what is allowed.
    """
    rows = {row.name: row for row in option_table(door)}
    if name not in rows:
        raise PlanError(_unknown(name, list(rows)))
    try:
        return rows[name].parse(value)
    except ValueError as error:
        raise PlanError(f"{name}={value!r}: {error}") from None


def parse_options(options: dict[str, object], door: Door) -> dict[str, Any]:
    """Return a dict of options, each parsed. Raises PlanError."""
    return {name: parse_option(name, value, door) for name, value in options.items()}


def make_plan(**options: object) -> Plan:
    """Return the plan of a library call. Raises PlanError."""
    return Plan(**parse_options(options, "library"))


def _unknown(name: str, allowed: list[str]) -> str:
    close = get_close_matches(name, allowed, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"unknown keyword {name!r}{hint}; allowed: {', '.join(sorted(allowed))}"
