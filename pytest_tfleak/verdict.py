"""The verdict on one test, and all verdicts of a run.

A verdict is a frozen value. ``to_dict`` turns it into builtins with a schema number and
``from_dict`` restores it, so that it can travel to another process and into reports.
Only ``decide`` sets its status.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections import Counter
from dataclasses import dataclass
from dataclasses import field
from dataclasses import is_dataclass
from enum import Enum
from functools import cache
from importlib import import_module
from typing import Any
from typing import get_args
from typing import get_origin
from typing import get_type_hints

from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import path_of
from pytest_tfleak.signals import counts_whole_run
from pytest_tfleak.signals import row_of

SCHEMA = 1
#: Noise may hide a rate by up to this share of the allowance.
DOUBT = 0.15
_MOST = 2**64  # of numbers in a file of somebody else


class Status(str, Enum):
    """The outcome of a measurement."""

    CLEAN = "clean"
    LEAK = "leak"
    INCONCLUSIVE = "inconclusive"
    NOT_MEASURED = "not_measured"


class Reason(str, Enum):
    """Why a verdict is INCONCLUSIVE or NOT_MEASURED."""

    TOO_FEW_ITERATIONS = "too_few_iterations"
    OUT_OF_TIME = "out_of_time"
    OUT_OF_ROOM = "out_of_room"
    FADING = "fading"
    UNSTEADY = "unsteady"
    UNEXPLAINED = "unexplained"
    PROBE_FAILED = "probe_failed"
    NO_SIGNAL = "no_signal"
    NOT_STARTED = "not_started"
    BODY_FAILED = "body_failed"
    NOT_REPEATABLE = "not_repeatable"
    BODY_SKIPPED = "body_skipped"
    INTERRUPTED = "interrupted"
    DISABLED = "disabled"
    UNSUPPORTED = "unsupported"
    MEASURES_ITSELF = "measures_itself"
    NO_TIME_LEFT = "no_time_left"
    GPU_NOT_MEASURED = "gpu_not_measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalReport:
    """The readings of one signal and its growth, None if it was not read."""

    name: str
    unit: str
    status: str  # measured | unavailable | untrusted
    reason: str | None
    per_iteration: float | None
    total: int | None
    allowance: float | None  # per iteration, or over the whole run: see has_total
    decides: bool
    series: tuple[int | None, ...]
    code: str | None = None  # the reason as a stable word, for programs


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """How fast a signal grew after one thing was changed."""

    name: str  # what was changed, as text
    per_iteration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A line of user code."""

    file: str
    line: int
    function: str
    text: str  # the source line, "" if it cannot be read


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCall:
    """A TensorFlow call that was made to fail."""

    number: int  # in a pass without a fault, from 1
    operation: str  # "MatMul", "Session.run", "tf.function step"
    origin: Origin | None  # the innermost line of user code that led to it


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingCalls:
    """The calls of which any leaves the same leak if it fails."""

    count: int
    total: int  # calls in a pass without a fault
    first: FailedCall
    last: FailedCall


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSummary:
    """What a sweep of faults made to fail."""

    calls: int  # in a pass without a fault
    failed: int  # how many of them were made to fail
    error: str  # its name in tf.errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A signal that grew past its allowance, or objects that outlived the run."""

    signal: str
    unit: str
    per_iteration: float | None  # None for objects that outlived the run
    total: int
    allowance: float  # per iteration, or over the whole run: see is_total
    first: int  # the judged iteration, counted from 1, at which growth began
    last: int  # and the one at which it ended
    allow: str  # the option that allows it, "" if there is none
    kind: str | None = None
    what: str | None = None
    fingerprint: str | None = None  # identifies the same leak in different runs
    path: RetainingPath | None = None  # from a GC root to the object
    origin: Origin | None = None  # the allocation site
    stack: tuple[Origin, ...] = ()  # its callers, the nearest first
    stored: Origin | None = None  # the line that puts it into what holds it
    native: tuple[str, ...] | None = None  # C++ functions, innermost first
    python_bytes: float | None = None  # how much of it Python objects explain
    known: str | None = None  # the entry in known.py that explains it
    accepted: bool = False  # it does not fail: known, in the baseline or ignored
    baseline: str | None = None  # accepted | worse | new, if there is a baseline
    ignored: str | None = None  # the pattern of ``ignore`` that it matches
    experiments: tuple[Experiment, ...] = ()
    cause: str | None = None  # its name in the table of causes
    why: str | None = None  # that cause, in two plain sentences
    advice: str | None = None  # what the user can do
    failing: FailingCalls | None = None  # it only leaks if one of these fails

    @property
    def line(self) -> Origin | None:
        """Return the line to look at first: that which stores it, else makes it."""
        return self.stored or self.origin

    @property
    def lines(self) -> tuple[Origin, ...]:
        """Return all lines that have to do with it: what made it comes first."""
        lines = (self.origin, self.stored, *self.stack)
        return tuple(line for line in lines if line is not None)


#: Increment it when the parts of a fingerprint change: old ones then match no longer.
FINGERPRINT_VERSION = "2"


def fingerprint(*parts: str) -> str:
    """Return a short digest of some names, preceded by the version."""
    data = "\0".join(parts).encode("utf-8", "replace")
    return f"{FINGERPRINT_VERSION}:{hashlib.sha256(data).hexdigest()[:12]}"


def version_of(fingerprint: str) -> str:
    """Return the version of a fingerprint; those of version 1 carry no number."""
    version, colon, _ = fingerprint.partition(":")
    return version if colon else "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondsByPart:
    """How many seconds each part of a measurement took."""

    loop: float = 0.0  # warm-up and measured iterations
    confirmation: float = 0.0
    known_growth: float = 0.0  # experiments, and the run without known causes
    diagnosis: float = 0.0  # the search for holders and lines


@dataclass(frozen=True, slots=True, kw_only=True)
class SameAs:
    """An earlier test of the process with the same leak, which explains it."""

    nodeid: str
    origin: Origin | None  # the line that leaks there


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of one measurement."""

    nodeid: str
    status: Status
    reason: Reason | None = None
    via: str = "marker"  # what requested it: marker | --tfleak | fixture | library
    detail: str | None = None  # the reason in one sentence
    depth: str = "full"  # full | quick | leftovers
    iterations: int = 0  # those judged, confirmation included
    confirmation: int = 0
    warmup: int = 0
    seconds: float = 0.0
    body_seconds: float = 0.0
    seconds_by_part: SecondsByPart = field(default_factory=SecondsByPart)
    same_as: SameAs | None = None
    signals: tuple[SignalReport, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    faults: FaultSummary | None = None  # if TensorFlow calls were made to fail

    def __bool__(self) -> bool:
        raise TypeError("a verdict is not a truth value: compare verdict.status")

    def __str__(self) -> str:
        """Return the message: what leaks, what holds it, and what to do about it."""
        return str(_words().as_text(self))

    def _repr_html_(self) -> str:
        """Return the message with a curve, which a notebook shows."""
        return str(_words().as_html(self))

    @property
    def failing(self) -> tuple[Finding, ...]:
        """Return the findings that are not accepted, the most important one first.

        An INCONCLUSIVE verdict has some if they may be known growth.
        """
        return tuple(finding for finding in self.findings if not finding.accepted)

    @property
    def accepted(self) -> tuple[Finding, ...]:
        """Return the findings that are known, in the baseline or ignored."""
        return tuple(finding for finding in self.findings if finding.accepted)

    @property
    def known(self) -> tuple[Finding, ...]:
        """Return the accepted growth that belongs to a library."""
        return tuple(f for f in self.accepted if f.known and f.baseline is None)

    @property
    def recorded(self) -> tuple[Finding, ...]:
        """Return the findings that the baseline accepts."""
        return tuple(f for f in self.accepted if f.baseline is not None)

    def signal(self, name: str) -> SignalReport:
        """Return the report of one signal. Raises KeyError."""
        for signal in self.signals:
            if signal.name == name:
                return signal
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as builtins, for JSON or another process."""
        return {"schema": SCHEMA, **dataclasses.asdict(self, dict_factory=_builtins)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Verdict:
        """Return the verdict that ``to_dict`` was called on.

        Raises ValueError for another schema number.
        """
        data = dict(data)
        schema = data.pop("schema", None)
        if schema != SCHEMA:
            raise ValueError(f"verdict has schema {schema!r}, expected {SCHEMA}")
        reason = data.pop("reason")
        parts = data.pop("seconds_by_part", {})  # older versions did not note them
        same = data.pop("same_as", None)
        faults = data.pop("faults", None)
        signals = (
            SignalReport(**{**s, "series": tuple(s["series"])})
            for s in data.pop("signals")
        )
        return cls(
            status=Status(data.pop("status")),
            reason=None if reason is None else Reason(reason),
            seconds_by_part=SecondsByPart(**parts),
            same_as=None if same is None else _same_as(same),
            signals=tuple(signals),
            findings=tuple(map(_finding, data.pop("findings"))),
            notes=tuple(data.pop("notes")),
            faults=None if faults is None else FaultSummary(**faults),
            **data,
        )


def has_its_types(value: Any, type_: Any = Verdict) -> bool:
    """Return whether a value, and all in it, is of the type that its field declares.

    ``from_dict`` does not look, and a journal may have come with the tests of somebody
    else: one bad verdict must not spoil the report. Numbers must be finite, and not so
    large that to show them would fail.
    """
    if isinstance(type_, type) and is_dataclass(type_):
        hints = _hints(type_)
        return type(value) is type_ and all(
            has_its_types(getattr(value, name), hint) for name, hint in hints.items()
        )
    if get_origin(type_) is tuple:
        inner = get_args(type_)[0]
        return type(value) is tuple and all(has_its_types(v, inner) for v in value)
    if get_args(type_):  # a union
        return any(has_its_types(value, one) for one in get_args(type_))
    if type_ is float:
        return type(value) in (int, float) and abs(value) < _MOST  # not for NaN
    if type_ is int:
        return type(value) is int and abs(value) < _MOST
    return type(value) is type_


@cache
def _hints(type_: type) -> dict[str, Any]:
    return get_type_hints(type_)


def _words() -> Any:
    # when used: reports are made of verdicts, and few verdicts are printed by hand
    return import_module("pytest_tfleak.reports.notebook")


def _same_as(data: dict[str, Any]) -> SameAs:
    return SameAs(nodeid=data["nodeid"], origin=_origin(data["origin"]))


def _origin(data: dict[str, Any] | None) -> Origin | None:
    return None if data is None else Origin(**data)


def _finding(data: dict[str, Any]) -> Finding:
    path, native = data["path"], data["native"]
    made = {
        "experiments": tuple(Experiment(**e) for e in data["experiments"]),
        "path": None if path is None else path_of(path),
        "origin": _origin(data["origin"]),
        "stored": _origin(data.get("stored")),  # 0.1.0 did not look for it
        "stack": tuple(Origin(**line) for line in data["stack"]),
        "native": None if native is None else tuple(native),
        "failing": _failing(data.get("failing")),
    }
    fields = {**data, **made}
    for added in ("holder", "cause_page"):  # by a report, as texts
        fields.pop(added, None)
    return Finding(**fields)


def _failing(data: dict[str, Any] | None) -> FailingCalls | None:
    if data is None:
        return None
    first, last = (
        FailedCall(**{**call, "origin": _origin(call["origin"])})
        for call in (data["first"], data["last"])
    )
    return FailingCalls(**{**data, "first": first, "last": last})


def _builtins(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: _builtin(value) for key, value in items}


def _builtin(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_builtin(item) for item in value]
    for builtin in (int, float, str):
        # a subclass such as numpy.float64 would crash xdist
        if isinstance(value, builtin) and not isinstance(value, bool):
            return builtin(value)
    return value


_WORST_FIRST = (Status.LEAK, Status.INCONCLUSIVE, Status.NOT_MEASURED, Status.CLEAN)
#: Reasons that need no action, from least to most harmless.
_HARMLESS = (
    Reason.NO_TIME_LEFT,
    Reason.BODY_SKIPPED,
    Reason.MEASURES_ITSELF,
    Reason.DISABLED,
)


class Ledger:
    """Collects the verdicts of a run."""

    def __init__(self) -> None:
        """Start without verdicts."""
        self._verdicts: list[Verdict] = []

    def add(self, verdict: Verdict) -> None:
        """Add a verdict; a test may have several."""
        self._verdicts.append(verdict)

    def verdicts(self) -> tuple[Verdict, ...]:
        """Return all verdicts, worst first; the order is the same in every run."""
        return tuple(sorted(self._verdicts, key=_order))

    def counts(self) -> dict[Status, int]:
        """Return the number of verdicts of each status, 0 included."""
        found = Counter(verdict.status for verdict in self._verdicts)
        return {status: found[status] for status in _WORST_FIRST}


def _order(verdict: Verdict) -> tuple[int, tuple[float, ...], str]:
    badness = tuple(-weight for weight in _weights(verdict))
    return _WORST_FIRST.index(verdict.status), badness, verdict.nodeid


def _weights(verdict: Verdict) -> tuple[float, ...]:
    """Return sort keys that say how bad a verdict is among those of its status."""
    if verdict.status is Status.LEAK:
        shares = [excess(finding) for finding in verdict.failing]
        finite = [share for share in shares if share < math.inf]
        rates = [finding.per_iteration or finding.total for finding in verdict.failing]
        # counts of objects mostly have no allowance, so their excess is infinite:
        # then compare the finite ones, such as that of bytes
        return tuple(max(figures, default=0.0) for figures in (shares, finite, rates))
    if verdict.status is Status.NOT_MEASURED:
        return (-_harmlessness(verdict.reason),)
    closest = closeness(verdict)
    return (closest[1] if closest else -1.0,)


def _harmlessness(reason: Reason | None) -> int:
    if reason is Reason.BODY_FAILED:
        return 0
    return 2 + _HARMLESS.index(reason) if reason in _HARMLESS else 1


def closeness(verdict: Verdict) -> tuple[SignalReport, float] | None:
    """Return the deciding signal closest to its allowance, and the share that it used.

    The share is 0.0 for a signal that did not grow, and ``inf`` for one that grew
    although nothing is allowed.
    """
    shares = [
        (signal, _share(_growth(signal), signal.allowance))
        for signal in verdict.signals
        if signal.decides
        and signal.per_iteration is not None
        and signal.allowance is not None
    ]
    if not shares:
        return None
    # if nothing grew, prefer a signal with an allowance: "0 of 0" says little
    return min(shares, key=lambda pair: (-pair[1], not pair[0].allowance, pair[0].name))


def _growth(signal: SignalReport) -> float | None:
    return signal.total if has_total(signal) else signal.per_iteration


def is_total(finding: Finding) -> bool:
    """Return whether a finding's allowance is for the whole run, not per iteration.

    If nothing is allowed, both mean the same, and growth is shown per iteration.
    """
    return finding.allowance > 0 and counts_whole_run(finding.allow)


def has_total(signal: SignalReport) -> bool:
    """Return whether a signal's allowance is for the whole run, not per iteration."""
    return bool(signal.allowance) and row_of(signal.name).allows == "total"


def limit_of(finding: Finding) -> float:
    """Return a finding's allowance per iteration, less noise if it is not above that.

    Growth that noise may hide a part of is a leak a little below its allowance.
    """
    limit = finding.allowance
    if is_total(finding):
        limit /= max(1, finding.last - finding.first + 1)
    if finding.per_iteration is not None and finding.per_iteration <= limit:
        limit *= 1 - 2 * DOUBT
    return limit


def is_explained(finding: Finding) -> bool:
    """Return whether without its known cause, a finding would be none."""
    left = [trial.per_iteration for trial in finding.experiments]
    return finding.known is not None and min(left, default=math.inf) <= limit_of(
        finding
    )


def excess(finding: Finding) -> float:
    """Return a finding's growth divided by its allowance, ``inf`` if that is 0."""
    if finding.per_iteration is None:
        return math.inf
    growth = finding.total if is_total(finding) else finding.per_iteration
    return _share(growth, finding.allowance)


def _share(growth: float | None, allowance: float | None) -> float:
    if not growth or growth < 0:
        return 0.0
    return growth / allowance if allowance else math.inf
