"""Find the cause of growth by taking known causes away, one after the other.

After a LEAK verdict, the body runs a few more iterations unchanged, and then without
each cause that it has something to do with. A cause whose absence makes the growth
clearly smaller stays away for the experiments after it. Causes without a remedy come
first: the body is judged again without them, and only what is left can fail the test.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from math import inf
from statistics import fmean
from statistics import median

from pytest_tfleak.diagnosis.experiments.intervention import Intervention
from pytest_tfleak.diagnosis.experiments.keras_names import RepeatedNames
from pytest_tfleak.diagnosis.experiments.keras_names import clear_session_at_hand
from pytest_tfleak.diagnosis.experiments.tensorflow import INTERVENTIONS
from pytest_tfleak.diagnosis.experiments.tensorflow import ClearedSession
from pytest_tfleak.diagnosis.experiments.tensorflow import EagerFunctions
from pytest_tfleak.diagnosis.experiments.tensorflow import is_keras_imported
from pytest_tfleak.judge import is_suspicious
from pytest_tfleak.judge import iterations_wanted
from pytest_tfleak.judge.growth import longest_gap
from pytest_tfleak.known import PART
from pytest_tfleak.known import Known
from pytest_tfleak.known import KnownGrowth
from pytest_tfleak.known import Trial
from pytest_tfleak.known import is_lowered
from pytest_tfleak.known import known_here
from pytest_tfleak.plan import Plan
from pytest_tfleak.probes.base import in_words
from pytest_tfleak.run.budget import NO_DEADLINE
from pytest_tfleak.run.budget import Budget
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.confirm import no_time_after_fall
from pytest_tfleak.run.confirm import note_kept
from pytest_tfleak.run.confirm import rested
from pytest_tfleak.run.guard import LimitReached
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.signals import names_of
from pytest_tfleak.tf.access import Keras
from pytest_tfleak.trace import Trace
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import limit_of

#: Iterations of an experiment; a divisor of ten meets what leaks every 2nd, 5th, 10th.
MOST, FEWEST = 10, 3
#: A cause with a remedy must account for this share of the growth.
MOST_OF = 0.5
#: Bytes that one Python block in the scalar cache stands for.
_SCALAR = 600
_EXPECTED = 4  # experiments that the budget should be enough for
_SECONDS = 0.5  # that an experiment may take before it has fewer iterations

Rates = dict[str, float]


class TimeIsUpError(Exception):
    """The test's own timeout is near, in the middle of an experiment."""


class Experiments:
    """Runs the body without known causes, and notes which growth that ends.

    ``limits`` are the allowances per iteration of the signals that grow.
    """

    def __init__(self, loop: Loop, limits: Mapping[str, float]) -> None:
        self._loop = loop
        self._limits = limits
        self._deadline = NO_DEADLINE
        self._iterations, self._warmup = FEWEST, 1
        self._needed = 0.0  # seconds for an experiment
        self._rates: Rates = {}
        self._active: list[Known] = []
        self._trials: list[Trial] = []
        self._notes: list[str] = []
        #: The causes without which the body fails, and how.
        self._needed_by_body: dict[Known, str] = {}

    @property
    def _causes(self) -> tuple[Known, ...]:
        return tuple(entry for entry in self._active if entry.remedy is None)

    def _try(self, candidates: Sequence[Known], share: float) -> None:
        candidates = list(candidates)
        for _ in range(2):  # a small cause shows only when a large one is gone
            before = len(self._active)
            for entry in candidates:
                if entry not in self._active and entry not in self._needed_by_body:
                    self._try_in_time(entry, share)
            if len(self._active) in (0, before):
                return

    def _try_in_time(self, entry: Known, share: float) -> None:
        """Try an entry if it may explain growth and there is time."""
        if self._is_worth_it(entry) and self._has_time():
            self._try_one(entry, share)

    def _is_worth_it(self, entry: Known) -> bool:
        signals = self._open() & set(entry.signals)
        if entry.experiment == "no-scalar-cache" and "host.heap" in signals:
            # each scalar in the cache takes a block: few blocks mean few scalars
            most = _SCALAR * self._rates.get("python.blocks", 0.0)
            return most > PART * self._rates["host.heap"]
        return bool(signals)

    def _try_one(self, entry: Known, share: float) -> None:
        try:
            with ExitStack() as stack:
                interventions = enter_all(stack, [*self._active, entry])
                rates = self._measure(interventions)
        except (TimeIsUpError, LimitReached):
            raise
        except Exception as error:  # the body may need what was taken away
            self._needed_by_body[entry] = in_words(error)
            return
        if self._active and self._lowered(entry, rates, share) and self._fits():
            # a single step of the heap in the previous run will not happen again
            with ExitStack() as stack:
                again = self._measure(enter_all(stack, self._active))
            self._rates = {s: min(rate, again[s]) for s, rate in self._rates.items()}
        lowered = self._lowered(entry, rates, share)
        words = INTERVENTIONS[entry.experiment].words
        for signal in lowered:
            self._add(signal, words, rates, entry)
        if lowered:
            self._active.append(entry)
            self._rates = rates

    def _lowered(self, entry: Known, rates: Rates, share: float) -> list[str]:
        """Return the signals that grow clearly less without a cause."""
        return [
            signal
            for signal in sorted(self._open() & set(entry.signals))
            if is_lowered(
                self._rates[signal], rates[signal], self._limits[signal], share
            )
        ]

    def _add(
        self, signal: str, words: str, rates: Rates, entry: Known | None = None
    ) -> None:
        trial = Trial(
            signal=signal,
            words=words,
            before=self._rates[signal],
            after=rates[signal],
            entry=entry,
        )
        self._trials.append(trial)

    def _measure(self, interventions: Sequence[Intervention]) -> Rates:
        trace = self._loop.run_again(
            [intervention.after for intervention in interventions],
            warmup=self._warmup,
            iterations=self._iterations,
            deadline=self._deadline.at_least(inf),
        )
        if trace.measured < self._iterations:
            raise TimeIsUpError
        return {signal.name: growth_of(trace, signal.name) for signal in trace}

    def _open(self) -> set[str]:
        """Return the signals that still grow past what is allowed."""
        if not self._rates:
            return set()
        return {s for s, limit in self._limits.items() if self._rates[s] > limit}

    def _fits(self) -> bool:
        return self._has_room() and self._deadline.fits(self._needed)

    def _has_room(self) -> bool:
        needed = self._warmup + self._iterations
        return self._loop.guard.iterations_left >= needed

    def _has_time(self) -> bool:
        if self._fits():
            return True
        self._note_that_time_is_up()
        return False

    def _note_that_time_is_up(self) -> None:
        limit = f"{self._deadline.option} was up"
        if not self._has_room():
            limit = f"too little room was left ({self._loop.guard.narrowest.resource})"
        note = f"Not all known causes were tried: {limit}."
        if note not in self._notes:
            self._notes.append(note)


class Search(Experiments):
    """The experiments after one LEAK verdict, within a budget of time.

    ``away`` are causes that the loop has taken away already.
    """

    def __init__(
        self,
        loop: Loop,
        plan: Plan,
        findings: Sequence[Finding],
        budget: Budget,
        away: Collection[Known] = (),
    ) -> None:
        growing = [f for f in findings if f.per_iteration is not None]
        super().__init__(loop, {f.signal: limit_of(f) for f in growing})
        self._plan = plan
        self._budget = budget
        self._away = away
        # causes without a remedy decide the verdict: they may take all of the time
        self._deadline = budget.for_causes()
        self._limit = self._deadline.option
        each = budget.run_took / max(1, loop.trace.rows)
        seconds = budget.for_remedies().seconds
        fitting = int(seconds / (_EXPECTED * max(each, 1e-6)))
        wanted = MOST
        if each * MOST > _SECONDS:  # fewer show growth that comes in each iteration
            wanted = 2 * longest_gap_of(growing, loop.trace) + 1
        self._iterations = max(FEWEST, min(MOST, wanted, fitting - 1))
        self._warmup = 2 if self._iterations > MOST // 2 else 1
        self._needed = each * (self._warmup + self._iterations)
        self._untried: list[Known] = []
        self._released: set[str] = set()
        self._kerases: list[Keras] = []

    @property
    def result(self) -> KnownGrowth:
        """Return what was found so far."""
        has_room = self._has_room()
        return KnownGrowth(
            causes=self._causes,
            untried=tuple(self._untried),
            failure=next(iter(self._needed_by_body.values()), None),
            trials=tuple(self._trials),
            released=frozenset(self._released),
            notes=(*self._notes, *self._notes_on_needed()),
            limit=self._limit if has_room else self._loop.guard.narrowest.limit,
            is_out_of_room=not has_room,
            clear_session=clear_session_at_hand(self._kerases),
        )

    def run(self) -> KnownGrowth:
        """Return what was found in the time there is. Raises what the body raises."""
        try:
            self._find_causes()
        except TimeIsUpError:
            self._note_that_time_is_up()
        return self.result

    def _find_causes(self) -> None:
        """Try the entries without a remedy, then those with one, then the others.

        Those that decide the verdict come first.
        """
        candidates = [
            entry
            for entry in known_here()
            if set(entry.signals) & set(self._limits) and entry not in self._away
        ]
        if not self._limits or not (candidates or is_keras_imported()):
            return
        unavoidable = [entry for entry in candidates if entry.remedy is None]
        self._untried = list(unavoidable)
        seen = self._watch(candidates)
        if seen is None:
            return
        candidates = [entry for entry in candidates if entry.name in seen]
        self._untried = [entry for entry in unavoidable if entry in candidates]
        self._try(self._untried, PART)
        self._deadline = self._budget.for_remedies()
        self._try([entry for entry in candidates if entry.remedy], MOST_OF)
        if is_keras_imported() and self._plan.clear_session != "never":
            self._show(ClearedSession(), self._open())
        traced = names_of("function", "context")
        self._show(EagerFunctions(), self._open().intersection(traced))

    def _watch(self, candidates: Sequence[Known]) -> set[str] | None:
        """Measure the body unchanged; return the entries it has something to do with.

        Return None if there is no time for that.
        """
        if not self._has_time():
            return None
        watching: dict[str, Intervention] = {}
        with ExitStack() as stack:
            for entry in candidates:
                watcher = INTERVENTIONS[entry.experiment](acts=False)
                if enter(stack, watcher):
                    watching[entry.name] = watcher
                else:
                    self._note_that_it_failed(watcher)
            self._rates = self._measure(list(watching.values()))
        for watcher in watching.values():
            if isinstance(watcher, RepeatedNames):
                self._kerases = watcher.used
        heap = self._rates.get("host.heap", 0.0)
        return {
            name
            for name, watcher in watching.items()
            if watcher.seen and watcher.most >= PART * heap
        }

    def _try_in_time(self, entry: Known, share: float) -> None:
        """Try an entry if it may explain growth.

        One that there is no time for stays untried, also if time is up in the middle of
        its experiment, or if the body fails there.
        """
        if self._is_worth_it(entry):
            if entry.remedy is None and entry not in self._untried:
                self._untried.append(entry)
            if not self._has_time():
                return
            try:
                self._try_one(entry, share)
            except TimeIsUpError:
                self._note_that_time_is_up()
                return
        if entry in self._untried and entry not in self._needed_by_body:
            self._untried.remove(entry)

    def _show(self, experiment: Intervention, signals: set[str]) -> None:
        """Try an intervention that is not an entry; a finding shows its result."""
        if not signals or not self._has_time():
            return
        with ExitStack() as stack:
            interventions = enter_all(stack, self._causes)
            if not enter(stack, experiment):
                return
            try:
                rates = self._measure([*interventions, experiment])
            except Exception:  # the body cannot run like this
                return
        if not experiment.seen:
            return
        for signal in signals:
            before, after = self._rates[signal], rates[signal]
            limit = self._limits[signal]
            if is_lowered(before, after, limit, MOST_OF):
                self._add(signal, experiment.words, rates)
                if after <= limit and experiment.name == ClearedSession.name:
                    self._released.add(signal)

    def _notes_on_needed(self) -> Iterator[str]:
        for entry, error in self._needed_by_body.items():
            words = INTERVENTIONS[entry.experiment].words
            yield f"Growth {words} could not be measured: the body failed ({error})."

    def _note_that_it_failed(self, intervention: Intervention) -> None:
        self._notes.append(
            f"Growth {intervention.words} could not be measured: {intervention.failed}."
        )


def enter_all(stack: ExitStack, entries: Sequence[Known]) -> list[Intervention]:
    """Take the causes of these entries away until the stack is left."""
    made = [INTERVENTIONS[entry.experiment]() for entry in entries]
    return [intervention for intervention in made if enter(stack, intervention)]


def run_without(
    causes: Sequence[Known], loop: Loop, plan: Plan, deadline: Deadline
) -> Trace:
    """Run the body as for a verdict, without some causes."""
    base = rested(loop)
    with ExitStack() as stack:
        after = [intervention.after for intervention in enter_all(stack, causes)]
        trace = loop.run_again(
            after,
            warmup=min(plan.warmup, 2),
            iterations=plan.iterations,
            wanted=partial(_iterations_wanted, plan=plan),
            deadline=deadline,
        )
        if trace.confirmed and iterations_wanted(trace, plan):
            trace.unconfirmed = no_time_after_fall(trace)
        elif trace.confirmed and is_suspicious(trace, plan):
            note_kept(loop, trace, base, trace.rows)
        if plan.clear_session != "never":
            loop.clear()
    return trace


def _iterations_wanted(trace: Trace, plan: Plan) -> int:
    if trace.confirmed:
        return iterations_wanted(trace, plan)
    return trace.measured if is_suspicious(trace, plan) else 0


def growth_of(trace: Trace, signal: str) -> float:
    """Return the growth per iteration over the judged rows of a short trace.

    It is the mean, which includes leaks that are not in every iteration. In very few
    rows, one unrelated step of the heap would outweigh everything: there, it is the
    median.
    """
    readings = trace.series(signal)[max(0, trace.warmed_up - 1) :]
    known = [value for value in readings if value is not None]
    changes = [after - before for before, after in pairwise(known)]
    if not changes:
        return 0.0
    return float(fmean(changes) if len(changes) >= MOST // 2 else median(changes))


def longest_gap_of(findings: Iterable[Finding], trace: Trace) -> int:
    """Return in how many iterations each growth has shown at least once."""
    gaps = [
        longest_gap(trace.judged_series(finding.signal), finding.per_iteration)
        for finding in findings
        if finding.per_iteration is not None
    ]
    return max(gaps, default=MOST)


def enter(stack: ExitStack, intervention: Intervention) -> bool:
    """Begin an intervention; return whether it works with this TensorFlow."""
    stack.enter_context(intervention)
    return intervention.failed is None
