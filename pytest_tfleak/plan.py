"""The options of one measurement, ``Plan``, and those of a whole run, ``RunOptions``.

Their fields are the option table. Marker keywords, command-line flags, ini keys,
``--help`` and ``--markers`` all come from the metadata of the fields: to add an option,
add a field. The one exception is the flag for a report's file: it comes from the row of
that report in ``plugin/outputs.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from difflib import get_close_matches
from typing import Any
from typing import Literal

from pytest_tfleak.quantities import HALF
from pytest_tfleak.quantities import bytes_or_half
from pytest_tfleak.quantities import choice
from pytest_tfleak.quantities import format_bytes
from pytest_tfleak.quantities import format_seconds
from pytest_tfleak.quantities import in_short
from pytest_tfleak.quantities import none_or
from pytest_tfleak.quantities import number
from pytest_tfleak.quantities import on_or_off
from pytest_tfleak.quantities import parse_bytes
from pytest_tfleak.quantities import parse_positive_seconds
from pytest_tfleak.quantities import parse_seconds
from pytest_tfleak.quantities import patterns
from pytest_tfleak.quantities import switch
from pytest_tfleak.quantities import text
from pytest_tfleak.quantities import whole

#: Where a user may set an option.
Source = Literal["marker", "command line", "ini", "library"]
Group = Literal["run", "allowance", "scope", "report"]
IniType = Literal["string", "int", "float", "bool", "linelist"]
EVERYWHERE: frozenset[Source] = frozenset({"marker", "command line", "ini", "library"})
#: A body of one second would take more than a day; a larger number is a typing error.
MOST_ITERATIONS = 100_000
#: The option that ends a run before the machine runs out of memory.
MEMORY_LIMIT = "memory_limit"
_IN_PYTEST: frozenset[Source] = EVERYWHERE - {"library"}
_ONE_TEST: frozenset[Source] = frozenset({"marker"})
_RUN: frozenset[Source] = frozenset({"command line", "ini"})
#: Not in an ini file, which would apply them to every run, even of a single test.
_ONE_RUN: frozenset[Source] = frozenset({"command line"})


#: The errors of tf.errors with which a call may fail.
_ERRORS = (
    "ResourceExhaustedError",
    "AbortedError",
    "AlreadyExistsError",
    "CancelledError",
    "DataLossError",
    "DeadlineExceededError",
    "FailedPreconditionError",
    "InternalError",
    "InvalidArgumentError",
    "NotFoundError",
    "OutOfRangeError",
    "PermissionDeniedError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "UnknownError",
)


class PlanError(ValueError):
    """An option has an unknown name or a bad value; the message says what is valid."""


def left_nothing(limit: str) -> str:
    """Return the words for a limit that ended a run: ``max_time left no time``."""
    what = "time" if limit.endswith(("time", "timeout")) else "room"
    return f"{limit} left no {what}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shown_limit(value: Any) -> str:
    return format_bytes(value) if isinstance(value, int) else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One row of the option table."""

    name: str
    default: Any
    help: str
    unit: str
    parse: Callable[[object], Any]
    group: Group = "run"
    sources: frozenset[Source] = EVERYWHERE
    show: Callable[[Any], str] = _shown
    flag: str | None = None
    repeated: bool = False
    ini_type: IniType = "string"

    @property
    def is_switch(self) -> bool:
        """Return whether the flag takes no value on the command line."""
        return isinstance(self.default, bool)

    @property
    def metavar(self) -> str:
        """Return the placeholder for the value in ``--help``."""
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

    def read(self, value: object) -> Any:
        """Return a value as the plan holds it.

        Raises PlanError, which names the value and what is allowed.
        """
        try:
            return self.parse(value)
        except ValueError as error:
            raise PlanError(f"{self.name}={in_short(value)}: {error}") from None


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


def _counted(default: int, help: str, unit: str, **row: Any) -> Any:
    parse = row.pop("parse", whole(0))
    return _option(default, help, unit=unit, parse=parse, ini_type="int", **row)


def _repeated(default: int, help: str, least: int) -> Any:
    help += f", {MOST_ITERATIONS:,} at most"
    parse = whole(least, MOST_ITERATIONS)
    return _counted(default, help, "iterations", parse=parse)


def _switched(default: bool, help: str, **row: Any) -> Any:
    return _option(default, help, unit="true | false", parse=switch, **row)


_FILE: dict[str, Any] = {
    "unit": "file",
    "parse": none_or(text),
    "group": "report",
    "sources": _ONE_RUN,
}


def file_option(name: str, help: str) -> Option:
    """Return the option that names the file of a report."""
    return Option(name=name, default=None, help=help, **{**_FILE, "sources": _RUN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one test body is repeated, read and judged."""

    depth: str = _option(
        "full",
        'how much is run: all iterations ("full"); only as many as show that nothing '
        'grows, and all of them if something may ("quick", the default of --tfleak); '
        'or one call, of which what it leaves open is judged ("leftovers")',
        unit="leftovers | quick | full",
        parse=choice("leftovers", "quick", "full"),
    )
    iterations: int = _repeated(50, "iterations that are judged", least=1)
    warmup: int = _repeated(5, "iterations that run first and are not judged", least=0)
    max_time: float | None = _option(
        300.0,
        "time that the loop of one test may take; it then ends with what it has",
        unit="seconds",
        parse=none_or(parse_seconds),
        show=format_seconds,
    )
    memory_limit: int | str | None = _option(
        HALF,
        "growth of memory at which the loop ends and is judged on what ran: a size, or "
        'half of what was free ("half"; file descriptors, threads and GPU memory end '
        'it at half, too), or "none"',
        unit="bytes | half | none",
        parse=none_or(bytes_or_half),
        show=_shown_limit,
    )
    repeat: str = _option(
        "body",
        'what an iteration is: the test\'s "body", or the whole "test" with its '
        "function-scoped fixtures set up each time",
        unit="body | test",
        parse=choice("body", "test"),
        sources=_IN_PYTEST,
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
        "leaks that do not fail: patterns on a type's full name, a holder, a line, or "
        'the module of a line ("app.CACHE*", "*/legacy/*.py:*", "app.legacy")',
        unit="patterns",
        parse=patterns,
        repeated=True,
        ini_type="linelist",
    )
    faults: bool = _switched(
        False,
        "make a TensorFlow call fail in each iteration, each in turn, and judge what "
        "that leaves open",
    )
    fault_error: str = _option(
        "ResourceExhaustedError",
        "the error of tf.errors with which calls fail",
        unit="name",
        parse=choice(*_ERRORS),
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
        "sessions that may be left after the last iteration: open, closed and kept, or "
        "as default",
        "sessions",
        group="allowance",
    )
    graphs: int = _counted(
        0,
        "graphs that may be left after the last iteration: alive, or as default",
        "graphs",
        group="allowance",
    )
    blocks: float = _allowed("Python's memory blocks", 64)
    objects: float | None = _option(
        None,
        "allowed growth of Python objects of any type (none: judged only if asyncio "
        "tasks or objects of your own classes pile up, and your code keeps them)",
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
        sources=_ONE_TEST,
    )
    reason: str | None = _option(
        None,
        "why the test is opted out",
        unit="text",
        parse=none_or(text),
        group="scope",
        sources=_ONE_TEST,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Which tests of a run to measure, what to write, and the plan they share."""

    all_tests: bool = _switched(
        False,
        "measure every collected test, marked or not",
        group="scope",
        sources=_ONE_RUN,
        flag="--tfleak",
    )
    spread_gpus: bool = _switched(
        False,
        "give each xdist worker a GPU of its own, by CUDA_VISIBLE_DEVICES",
        sources=_RUN,
    )
    max_total_time: float | None = _option(
        None,
        "time that measuring all tests may take (each xdist worker has as much); the "
        "rest run once, and come first in the next run",
        unit="seconds",
        parse=none_or(parse_positive_seconds),
        show=format_seconds,
        sources=_RUN,
    )
    exit_timeout: float | None = _option(
        None,
        "time that the process may take to exit, from when Python begins to shut down; "
        "then it is ended with its exit status, even if TensorFlow's destructors hang",
        unit="seconds",
        parse=none_or(parse_seconds),
        show=format_seconds,
        sources=_RUN,
    )
    baseline: str | None = _option(
        None,
        "fail only for what is not in this file; if it is missing, it is written (in "
        "CI, that is an error)",
        **_FILE,
    )
    baseline_required: bool = _switched(
        False,
        "make it a usage error when the file of --tfleak-baseline is missing, as it is "
        "wherever CI is set",
        group="report",
        sources=_RUN,
    )
    save_baseline: str | None = _option(
        None, "write the findings of this run to this file", **_FILE
    )
    junit: str = _option(
        "on",
        "put figures and verdict of each test into the file of --junitxml",
        unit="on | off",
        parse=on_or_off,
        group="report",
        sources=_RUN,
    )
    # Not options of their own:
    reports: Mapping[str, str] = field(default_factory=dict)  # file of each report
    plan: Plan = field(default_factory=Plan)  # the options set for all measurements
    sets_depth: bool = False  # whether command line or ini sets the depth
    is_exact: bool = False  # whether the command line says how many iterations

    def plan_for(self, options: Mapping[str, Any], *, is_asked: bool) -> Plan:
        """Return the plan of one measurement, whose own options override the run's.

        Without a depth set, what a marker or a call asks for gets a full run, any other
        test a quick one. A number of iterations on the command line means exactly that
        number, so a quick run does not stop before it.
        """
        plan = replace(self.plan, **options)
        if not (self.sets_depth or "depth" in options or is_asked):
            plan = replace(plan, depth="quick")
        if plan.depth == "quick" and self.is_exact:
            plan = replace(plan, depth="full")
        if plan.depth == "leftovers" and plan.faults:
            plan = replace(plan, depth="quick")  # one call would be too few
        if plan.depth == "leftovers":
            calls = self.plan.iterations if self.is_exact else 1
            plan = replace(plan, iterations=calls, warmup=0)
        return plan


def option_table(source: Source | None = None) -> tuple[Option, ...]:
    """Return the rows of the option table: all, or those that one source may set."""
    rows = (
        Option(name=f.name, default=f.default, **f.metadata)
        for f in (*dataclasses.fields(Plan), *dataclasses.fields(RunOptions))
        if f.metadata
    )
    return tuple(row for row in rows if source is None or source in row.sources)


def parse_option(name: str, value: object, source: Source) -> Any:
    """Return the value of an option as the plan holds it.

    Raises PlanError, which names the value and what is allowed.
    """
    rows = {row.name: row for row in option_table(source)}
    if name not in rows:
        raise PlanError(_unknown(name, list(rows)))
    return rows[name].read(value)


def parse_options(options: Mapping[str, object], source: Source) -> dict[str, Any]:
    """Return options with their values parsed. Raises PlanError."""
    return {name: parse_option(name, value, source) for name, value in options.items()}


def make_plan(**options: object) -> Plan:
    """Return the plan of a library call. Raises PlanError."""
    return RunOptions().plan_for(parse_options(options, "library"), is_asked=True)


def _unknown(name: str, allowed: list[str]) -> str:
    close = get_close_matches(name, allowed, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"unknown keyword {name!r}{hint}; allowed: {', '.join(sorted(allowed))}"
