"""Find the cause of growth by taking causes away, one after the other.

After a LEAK verdict the body runs a few more iterations as it is, and then with each
cause taken away that it has a part in. What makes the growth go, or makes it a good
deal smaller, stays away for the experiments after it. Causes without a remedy come
first: without those the body is judged again, and only what is left can fail the test.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from functools import partial
from itertools import pairwise
from statistics import fmean
from statistics import median
from time import perf_counter

from pytest_tfleak.diagnosis.neutraliser import Neutraliser
from pytest_tfleak.diagnosis.neutralisers import NEUTRALISERS
from pytest_tfleak.diagnosis.neutralisers import ClearedSession
from pytest_tfleak.diagnosis.neutralisers import EagerFunctions
from pytest_tfleak.diagnosis.neutralisers import is_keras_imported
from pytest_tfleak.judge import is_suspicious
from pytest_tfleak.known import Known
from pytest_tfleak.known import known_here
from pytest_tfleak.loop import Loop
from pytest_tfleak.plan import Plan
from pytest_tfleak.trace import Trace
from pytest_tfleak.verdict import Experiment
from pytest_tfleak.verdict import Finding

#: Iterations of an experiment; a divisor of ten meets what leaks every 2nd, 5th, 10th.
MOST, FEWEST = 10, 3
#: Of the time for the diagnosis; the rest is for holders and lines.
SHARE = 0.6
#: Growth that falls by less than this share has another cause.
PART, MOST_OF = 0.2, 0.5
#: Bytes that one Python block in the scalar cache stands for.
_SCALAR = 600
#: What grows by traces, which are made anew where they should not be.
_TRACED = {"tf.traces", "tf.functions", "tf.registered_functions"}
_EXPECTED = 4  # experiments that the budget should be enough for

Rates = dict[str, float]


@dataclass(slots=True)
class Explanation:
    """What the experiments showed."""

    causes: list[Known] = field(default_factory=list)  # without a remedy
    untried: list[Known] = field(default_factory=list)  # for want of time
    #: The entry that lowers a signal most, and by how much.
    known: dict[str, tuple[Known, float]] = field(default_factory=dict)
    #: The same for what is left when the causes without a remedy are away.
    remedies: dict[str, tuple[Known, float]] = field(default_factory=dict)
    experiments: dict[str, list[Experiment]] = field(default_factory=dict)
    released: set[str] = field(default_factory=set)  # by clearing the Keras session
    notes: list[str] = field(default_factory=list)

    def without_causes(self) -> Explanation:
        """Return the same where nobody could judge without the causes."""
        return replace(self, causes=[], untried=[*self.untried, *self.causes])


class Search:
    """The experiments after one LEAK verdict, inside a budget of time."""

    def __init__(self, loop: Loop, plan: Plan, findings: Sequence[Finding]) -> None:
        seconds = SHARE * plan.diagnose_time
        self._loop = loop
        self._plan = plan
        self._growing = [f for f in findings if f.per_iteration is not None]
        self._limits = {f.signal: limit_of(f) for f in self._growing}
        self._until = perf_counter() + seconds
        each = loop.seconds_per_iteration
        fitting = int(seconds / (_EXPECTED * max(each, 1e-6)))
        self._iterations = max(FEWEST, min(MOST, fitting - 1))
        self._warmup = 2 if self._iterations > MOST // 2 else 1
        self._needed = each * (self._warmup + self._iterations)
        self._rates: Rates = {}
        self._active: list[Known] = []
        self.result = Explanation()

    def run(self) -> Explanation:
        """Return what was found in the time there is. Raises what the body raises."""
        candidates = [
            entry for entry in known_here() if set(entry.signals) & set(self._limits)
        ]
        if not candidates and not is_keras_imported():
            return self.result
        until = self._until
        # what nobody can mend decides the verdict: it is worth all of the time
        seconds = min(self._loop.seconds_left, self._plan.diagnose_time)
        self._until = max(until, perf_counter() + seconds)
        seen = self._watch(candidates)
        nobodys = [c for c in candidates if c.remedy is None]
        candidates = [entry for entry in candidates if entry.name in seen]
        tried = [c for c in nobodys if c in candidates]
        self.result.untried = nobodys if self.result.notes else tried
        self._try(tried, self.result.known, PART)
        self.result.causes = list(self._active)
        left = [c for c in self.result.untried if c not in self._active]
        self.result.untried = left if self.result.notes else []  # time was up
        self._until = until
        self._try([c for c in candidates if c.remedy], self.result.remedies, MOST_OF)
        if is_keras_imported() and self._plan.clear_session != "never":
            self._show(ClearedSession(), self._open())
        self._show(EagerFunctions(), self._open() & _TRACED)
        return self.result

    def _watch(self, candidates: Sequence[Known]) -> set[str]:
        """Measure the body as it is; return the entries that it has a part in."""
        if not self._growing or not self._has_time():
            return set()
        watching: dict[str, Neutraliser] = {}
        with ExitStack() as stack:
            for entry in candidates:
                watcher = NEUTRALISERS[entry.experiment](acts=False)
                if _enter(stack, watcher):
                    watching[entry.name] = watcher
            self._rates = self._measure(list(watching.values()))
        return {name for name, watcher in watching.items() if watcher.seen}

    def _try(
        self,
        candidates: Sequence[Known],
        found: dict[str, tuple[Known, float]],
        share: float,
    ) -> None:
        for _ in range(2):  # a small part shows when a large one is gone
            before = len(self._active)
            for entry in candidates:
                if entry not in self._active and self._is_worth_it(entry):
                    self._try_one(entry, found, share)
            if len(self._active) in (0, before):
                return

    def _is_worth_it(self, entry: Known) -> bool:
        signals = self._open() & set(entry.signals)
        if not signals or not self._has_time():
            return False
        if entry.experiment == "no-scalar-cache" and "host.heap" in signals:
            # each scalar in the cache is a block: few blocks are not many scalars
            most = _SCALAR * self._rates.get("python.blocks", 0.0)
            return most > PART * self._rates["host.heap"]
        return True

    def _try_one(
        self, entry: Known, found: dict[str, tuple[Known, float]], share: float
    ) -> None:
        with ExitStack() as stack:
            neutralisers = enter_all(stack, [*self._active, entry])
            rates = self._measure(neutralisers)
        if self._active and self._lowered(entry, rates, share) and self._fits():
            # a single step of the heap, in the run before this, does not come again
            with ExitStack() as stack:
                again = self._measure(enter_all(stack, self._active))
            self._rates = {s: min(rate, again[s]) for s, rate in self._rates.items()}
        lowered = self._lowered(entry, rates, share)
        words = NEUTRALISERS[entry.experiment].words
        for signal in lowered:
            self._add(signal, words, rates[signal])
            drop = self._rates[signal] - rates[signal]
            if drop > found.get(signal, (entry, 0.0))[1]:
                found[signal] = (entry, drop)
        if lowered:
            self._active.append(entry)
            self._rates = rates

    def _lowered(self, entry: Known, rates: Rates, share: float) -> list[str]:
        """Return the signals that grow a good deal less without a cause."""
        return [
            signal
            for signal in sorted(self._open() & set(entry.signals))
            if is_lowered(
                self._rates[signal], rates[signal], self._limits[signal], share
            )
        ]

    def _show(self, experiment: Neutraliser, signals: set[str]) -> None:
        """Try what is no entry of its own: what it shows is shown beside a finding."""
        if not signals or not self._has_time():
            return
        with ExitStack() as stack:
            neutralisers = enter_all(stack, self.result.causes)
            if not _enter(stack, experiment):
                return
            try:
                rates = self._measure([*neutralisers, experiment])
            except Exception:  # the body does not run that way
                return
        if not experiment.seen:
            return
        for signal in signals:
            before, after = self._rates[signal], rates[signal]
            limit = self._limits[signal]
            if is_lowered(before, after, limit, MOST_OF):
                self._add(signal, experiment.words, after)
                if after <= limit and experiment.name == ClearedSession.name:
                    self.result.released.add(signal)

    def _add(self, signal: str, words: str, rate: float) -> None:
        done = self.result.experiments.setdefault(signal, [])
        done.append(Experiment(name=words, per_iteration=rate))

    def _measure(self, neutralisers: Sequence[Neutraliser]) -> Rates:
        trace = self._loop.run_again(
            [neutraliser.after for neutraliser in neutralisers],
            warmup=self._warmup,
            iterations=self._iterations,
        )
        return {signal.name: growth_of(trace, signal.name) for signal in trace}

    def _open(self) -> set[str]:
        """Return the signals that still grow past what is allowed."""
        if not self._rates:
            return set()
        return {s for s, limit in self._limits.items() if self._rates[s] > limit}

    def _fits(self) -> bool:
        return perf_counter() + self._needed <= self._until

    def _has_time(self) -> bool:
        if self._fits():
            return True
        note = "Not all known causes were tried: diagnose_time was up."
        if note not in self.result.notes:
            self.result.notes.append(note)
        return False


def enter_all(stack: ExitStack, entries: Sequence[Known]) -> list[Neutraliser]:
    """Take the causes of some entries away until the stack is left."""
    made = [NEUTRALISERS[entry.experiment]() for entry in entries]
    return [neutraliser for neutraliser in made if _enter(stack, neutraliser)]


def run_without(causes: Sequence[Known], loop: Loop, plan: Plan) -> Trace:
    """Run the body as for a verdict, with some causes taken away."""
    base = loop.rested()
    with ExitStack() as stack:
        after = [neutraliser.after for neutraliser in enter_all(stack, causes)]
        trace = loop.run_again(
            after,
            warmup=min(plan.warmup, 2),
            iterations=plan.iterations,
            confirm=partial(is_suspicious, plan=plan),
            # about as long as the first time, which others may have made short
            seconds=max(
                plan.diagnose_time, 2 * loop.seconds_per_iteration * loop.trace.rows
            ),
        )
        if trace.confirmed and is_suspicious(trace, plan):
            loop.note_kept(trace, base, trace.rows)
        if plan.clear_session != "never":
            loop.clear()
    return trace


def is_lowered(before: float, after: float, limit: float, share: float) -> bool:
    """Say whether growth past a limit fell by a good share, and by more than noise."""
    drop = before - after
    if before <= limit or drop < share * before:
        return False
    return after <= limit or drop > limit


def growth_of(trace: Trace, signal: str) -> float:
    """Return the growth per iteration over the judged rows of a short trace.

    The mean shows what leaks now and then. In very few rows one step of the heap, which
    has nothing to do with it, would outweigh everything: there it is the median.
    """
    readings = trace.series(signal)[max(0, trace.warmed_up - 1) :]
    known = [value for value in readings if value is not None]
    changes = [after - before for before, after in pairwise(known)]
    if not changes:
        return 0.0
    return float(fmean(changes) if len(changes) >= MOST // 2 else median(changes))


def _enter(stack: ExitStack, neutraliser: Neutraliser) -> bool:
    try:
        stack.enter_context(neutraliser)
    except AttributeError:  # a TensorFlow that is built differently
        with suppress(AttributeError):
            neutraliser.__exit__()
        return False
    return True


def limit_of(finding: Finding) -> float:
    """Return what a finding is allowed per iteration."""
    if finding.allow.endswith("_total"):
        return finding.allowance / max(1, finding.last - finding.first + 1)
    return finding.allowance
