"""What was found in one test: builtins only, with a schema number and an inverse.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import Any

SCHEMA = 1


class Status(str, Enum):
    """The outcome for one test."""

    CLEAN = "clean"
    LEAK = "leak"
    INCONCLUSIVE = "inconclusive"
    NOT_MEASURED = "not_measured"


class Reason(str, Enum):
    """Why a verdict is neither CLEAN nor LEAK."""

    TOO_FEW_ITERATIONS = "too_few_iterations"
    OUT_OF_TIME = "out_of_time"
    FADING = "fading"
    UNSTEADY = "unsteady"
    PROBE_FAILED = "probe_failed"
    NO_SIGNAL = "no_signal"
    BODY_FAILED = "body_failed"
    NOT_REPEATABLE = "not_repeatable"
    BODY_SKIPPED = "body_skipped"
    INTERRUPTED = "interrupted"
    DISABLED = "disabled"
    UNSUPPORTED = "unsupported"
    MEASURES_ITSELF = "measures_itself"
    GPU_NOT_MEASURED = "gpu_not_measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalReport:
    """What one signal read. Figures are None where nothing was measured."""

    name: str
    unit: str
    status: str  # measured | unavailable | untrusted
    reason: str | None
    per_iteration: float | None
    total: int | None
    allowance: float | None
    decides: bool
    series: tuple[int | None, ...]
    code: str | None = None  # the reason as a word that programs can rely on


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """How fast a signal grew with one thing changed."""

    name: str  # what was changed, in words
    per_iteration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A line of the user's code."""

    file: str
    line: int
    function: str
    text: str  # the source line, "" where it cannot be read


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One signal that grew past its allowance, or objects that are still there."""

    signal: str
    unit: str
    per_iteration: float | None  # None: the objects are there, they do not pile up
    total: int
    allowance: float
    first: int  # the judged iterations in which it was seen, from 1
    last: int
    allow: str  # the keyword that allows it, "" for a signal without one
    kind: str | None = None
    what: str | None = None
    fingerprint: str | None = None  # the same for the same leak, run after run
    holder: tuple[str, ...] | None = None  # from a root to the object, an edge each
    origin: Origin | None = None  # the line that made it
    stack: tuple[Origin, ...] = ()  # what called that line, the nearest first
    native: tuple[str, ...] | None = None  # C++ functions, the innermost first
    python_bytes: float | None = None  # of the growth, what Python objects explain
    known: str | None = None  # the entry in known.py that explains it
    accepted: bool = False  # growth that does not fail: known, or in the baseline
    baseline: str | None = None  # accepted | worse | new, where there is a baseline
    ignored: str | None = None  # the pattern of ``ignore`` that it matches
    experiments: tuple[Experiment, ...] = ()
    cause: str | None = None  # a slug out of the table of causes
    why: str | None = None  # that cause, in two plain sentences
    advice: str | None = None  # what the user can do


def fingerprint(text: str) -> str:
    """Return twelve characters that stand for a text."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of one measurement."""

    nodeid: str
    status: Status
    reason: Reason | None = None
    door: str = "marker"  # marker | fixture | library: how it was asked for
    detail: str | None = None  # one plain sentence that belongs to the reason
    iterations: int = 0  # judged ones, confirmation included
    confirmation: int = 0
    warmup: int = 0
    seconds: float = 0.0
    body_seconds: float = 0.0
    signals: tuple[SignalReport, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        raise TypeError("a verdict is not a truth value: compare verdict.status")

    @property
    def failing(self) -> tuple[Finding, ...]:
        """Return the findings that fail the test: all but the accepted ones."""
        return tuple(finding for finding in self.findings if not finding.accepted)

    @property
    def accepted(self) -> tuple[Finding, ...]:
        """Return the findings that do not fail the test: known, or in the baseline."""
        return tuple(finding for finding in self.findings if finding.accepted)

    @property
    def known(self) -> tuple[Finding, ...]:
        """Return the growth that belongs to a library and does not fail the test."""
        return tuple(f for f in self.accepted if f.known and f.baseline is None)

    @property
    def recorded(self) -> tuple[Finding, ...]:
        """Return the findings that do not fail because the baseline has them."""
        return tuple(f for f in self.accepted if f.baseline is not None)

    def signal(self, name: str) -> SignalReport:
        """Return the report of one signal. Raises KeyError."""
        for signal in self.signals:
            if signal.name == name:
                return signal
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Return builtins only, fit for JSON and for crossing to another process."""
        return {"schema": SCHEMA, **dataclasses.asdict(self, dict_factory=_builtins)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Verdict:
        """Return the verdict that ``to_dict`` was called on.

        Raises ValueError for a schema that this version does not read.
        """
        data = dict(data)
        schema = data.pop("schema", None)
        if schema != SCHEMA:
            raise ValueError(f"verdict has schema {schema!r}, expected {SCHEMA}")
        reason = data.pop("reason")
        signals = (
            SignalReport(**{**s, "series": tuple(s["series"])})
            for s in data.pop("signals")
        )
        return cls(
            status=Status(data.pop("status")),
            reason=None if reason is None else Reason(reason),
            signals=tuple(signals),
            findings=tuple(map(_finding, data.pop("findings"))),
            notes=tuple(data.pop("notes")),
            **data,
        )


def _finding(data: dict[str, Any]) -> Finding:
    holder, origin, native = data["holder"], data["origin"], data["native"]
    made = {
        "experiments": tuple(Experiment(**e) for e in data["experiments"]),
        "holder": None if holder is None else tuple(holder),
        "origin": None if origin is None else Origin(**origin),
        "stack": tuple(Origin(**line) for line in data["stack"]),
        "native": None if native is None else tuple(native),
    }
    return Finding(**{**data, **made})


def _builtins(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: _builtin(value) for key, value in items}


def _builtin(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_builtin(item) for item in value]
    for builtin in (int, float, str):
        # A subclass such as numpy.float64 in a report kills an xdist session.
        if isinstance(value, builtin) and not isinstance(value, bool):
            return builtin(value)
    return value
