"""Notice known growth while the loop runs, and take its causes away for the rest of it.

Building and fitting a new model is the most ordinary test of a Keras code base, and
TensorFlow keeps something of each. To see that only after the run would mean to judge,
to confirm and to experiment first, and then to judge again. So look at the first
iterations: once a figure grows in each of them that known causes make grow, take away
those that the body has something to do with. If that ends the growth, the body is
judged without them from there on. The others are left to the search after the run.

An experiment shows whether it does, before the judged iterations. At quick depth the
first of these are the experiment, as three calls more are a large part of all.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import pairwise
from statistics import median

from pytest_tfleak.diagnosis.experiments.intervention import Intervention
from pytest_tfleak.diagnosis.experiments.keras_names import RepeatedNames
from pytest_tfleak.diagnosis.experiments.keras_names import clear_session_at_hand
from pytest_tfleak.diagnosis.experiments.search import FEWEST
from pytest_tfleak.diagnosis.experiments.search import MOST
from pytest_tfleak.diagnosis.experiments.search import Experiments
from pytest_tfleak.diagnosis.experiments.search import Rates
from pytest_tfleak.diagnosis.experiments.search import TimeIsUpError
from pytest_tfleak.diagnosis.experiments.search import enter
from pytest_tfleak.diagnosis.experiments.search import enter_all
from pytest_tfleak.diagnosis.experiments.search import growth_of
from pytest_tfleak.diagnosis.experiments.tensorflow import INTERVENTIONS
from pytest_tfleak.judge import allowance_of
from pytest_tfleak.known import PART
from pytest_tfleak.known import Known
from pytest_tfleak.known import KnownGrowth
from pytest_tfleak.known import Trial
from pytest_tfleak.known import is_lowered
from pytest_tfleak.known import known_here
from pytest_tfleak.plan import Plan
from pytest_tfleak.run.budget import Budget
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.signals import is_memory
from pytest_tfleak.signals import names_of
from pytest_tfleak.signals import row_of
from pytest_tfleak.tf.access import is_imported
from pytest_tfleak.trace import Signal
from pytest_tfleak.verdict import Finding

#: In so many iterations in a row an entry of a registry must have been added, and, if
#: memory is all that grows, in so many that memory has grown.
_ENTRIES, _MEMORY = 3, 5
#: Memory that is on the way to a level grows less and less: its smallest step must be
#: at least this share of the largest.
_EVEN = 0.5
#: Growth that has not shown itself after so many iterations is not looked for any more.
_LAST_LOOK = 10
_SECONDS = 0.25  # that an experiment should take, if it needs no longer
#: How many iterations run before the judged ones once the causes are away.
_WARMUP = 2
#: How many judged iterations of a quick test show whether growth has ended.
_QUICK = 2
#: What only known causes add to.
_REGISTERED = names_of("registry", "context")

#: The causes that have been shown to make each signal grow in this process, the one
#: that adds most first. So a later test needs no experiment for each of them.
_proven: dict[str, list[Known]] = {}


class EarlySearch(Experiments):
    """Watches the first iterations of a loop for known growth.

    Pass ``look`` to the loop. When it has returned True, call ``take_away``.
    """

    def __init__(self, loop: Loop, plan: Plan, budget: Budget) -> None:
        super().__init__(loop, {})
        self._plan = plan
        self._budget = budget
        self._watchers: dict[Known, Intervention] = {}
        self._is_over = plan.diagnose != "on"
        self._away = ExitStack()
        self._since = 0  # the row in which watching began
        self._kinds_before: Counter[str] = Counter()
        self._candidates: list[Known] = []
        self._is_on_trial = False
        #: How many objects of each type the last iterations left, and how many those
        #: were.
        self.kinds: Mapping[str, int] = {}
        self.counted = 0

    @property
    def is_due(self) -> bool:
        """Return whether ``look`` has seen known growth."""
        return bool(self._candidates)

    @property
    def is_away(self) -> bool:
        """Return whether causes have been taken away."""
        return bool(self._active)

    @property
    def growth(self) -> KnownGrowth:
        """Return what was found out about the causes that are away."""
        used = [
            keras
            for watcher in self._watchers.values()
            if isinstance(watcher, RepeatedNames)
            for keras in watcher.used
        ]
        return KnownGrowth(
            causes=self._causes,
            trials=tuple(self._trials),
            clear_session=clear_session_at_hand(used),
        )

    def look(self) -> bool:
        """Look at the last iterations; return whether they show known growth."""
        if self._is_over or not is_imported("tensorflow"):
            return False
        rows = self._loop.trace.rows
        if not self._watchers:
            if self._is_quick_warm or self._growing(1):
                self._watch()
            self._is_over = not self._watchers and rows > _LAST_LOOK
            return False
        self._candidates = self._find_candidates()
        self._is_over = bool(self._candidates) or rows > self._since + _LAST_LOOK
        if self._candidates:
            self._count_kinds()
        return bool(self._candidates)

    @property
    def _is_quick_warm(self) -> bool:
        """Return whether a quick test has just ended its warm-up.

        What watching takes itself would look like growth of the few judged iterations.
        """
        trace = self._loop.trace
        return self._plan.depth == "quick" and trace.rows == trace.warmup

    def take_away(self) -> bool:
        """Take the causes away if that ends growth, and return whether they are away.

        They stay away until the loop is left. At quick depth, ``check`` will tell
        whether growth has ended. Raises what the body raises.
        """
        if self._plan.depth == "quick":
            return self._take_away_on_trial()
        each = self._loop.seconds / max(1, self._loop.trace.rows)
        self._iterations = max(FEWEST, min(MOST, int(_SECONDS / max(each, 1e-6))))
        self._needed = (self._warmup + self._iterations) * each
        self._deadline = self._budget.for_early_causes()
        try:
            if self._iterations == MOST and self._has_time():
                self._rates = self._measure([])  # quick, and surer than a few steps
                self._limits = self._limits_passed()
            self._try_together()
            together = len(self._trials)
            self._try(self._candidates, PART)
            _remember(self._trials[together:])
        except TimeIsUpError:
            self._active.clear()
        self._candidates = []
        if not self._active:
            self._loop.start_over(_WARMUP)
            return False
        self._loop.taken_away = self.growth.taken_away
        self._run_without(_WARMUP)
        return True

    def check(self) -> bool:
        """Look whether growth has ended; return True as soon as it clearly has not.

        Pass it to the loop in place of ``look`` once the causes are away.
        """
        if self._is_on_trial and self._loop.trace.measured >= _QUICK:
            return not self.conclude()
        return False

    def conclude(self) -> bool:
        """End the trial: return whether causes stay away, as their growth has ended."""
        if self._is_on_trial:
            self._is_on_trial = False
            trace, rates = self._loop.trace, self._rates
            if trace.measured:
                rates = {signal.name: growth_of(trace, signal.name) for signal in trace}
            self._active = self._note_lowered(self._active, rates)
            self._loop.taken_away = trace.taken_away = self.growth.taken_away
        return self.is_away

    def put_back(self) -> None:
        """Put the causes back, and begin anew."""
        self._active.clear()
        self._is_on_trial = False
        self._trials.clear()
        self._loop.after.clear()
        self._loop.taken_away = {}
        self._away.close()
        self._loop.start_over(_WARMUP)

    def findings(self) -> Iterator[Finding]:
        """Yield what grew before the causes were taken away."""
        before: dict[str, float] = {}
        for trial in self._trials:
            before[trial.signal] = max(trial.before, before.get(trial.signal, 0.0))
        signals = {signal.name: signal for signal in self._loop.trace}
        for name, rate in before.items():
            row = row_of(name, signals[name].unit)
            if not any(whole in before for whole in row.part_of):
                yield Finding(
                    signal=name,
                    unit=signals[name].unit,
                    per_iteration=rate,
                    total=round(rate * self.counted),
                    allowance=self._limits[name],
                    first=1,
                    last=self.counted,
                    allow=row.option,
                )

    def _watch(self) -> None:
        """Note from now on which known causes the body has something to do with."""
        for entry in known_here():
            intervention = INTERVENTIONS[entry.experiment]
            if entry.remedy is None and not intervention.is_lasting:
                watcher = intervention(acts=False)
                if enter(self._away, watcher):
                    self._watchers[entry] = watcher
                    self._loop.after.append(watcher.after)
        self._loop.contexts.callback(self._away.close)
        self._since = self._loop.trace.rows
        self._kinds_before = Counter(self._loop.survivors())

    def _count_kinds(self) -> None:
        trace = self._loop.trace
        kinds = Counter(self._loop.survivors())
        if self._since < trace.warmed_up and trace.measured:  # they were frozen since
            self.kinds, self.counted = kinds, trace.measured
        else:
            self.kinds = kinds - self._kinds_before
            self.counted = trace.rows - self._since

    def _find_candidates(self) -> list[Known]:
        """Return the causes that the body has to do with and that may explain growth.

        That counts in a registry grow is enough. Memory must have grown for longer, and
        no objects with it, since those would be the body's own.
        """
        growing = self._growing(_ENTRIES)
        is_registered = any(name in _REGISTERED for name in growing)
        if not is_registered:
            growing = self._growing(_MEMORY)
            if not all(is_memory(name, "") for name in growing):
                return []
        if not growing:
            return []
        self._rates = self._rates_now()
        self._limits = self._limits_passed()
        return [
            entry
            for entry, watcher in self._watchers.items()
            # small parts of memory are for the search after the run
            if watcher.seen
            and watcher.most >= PART * self._rates.get("host.heap", 0.0)
            and (is_registered or not entry.is_small)
            and self._is_worth_it(entry)
        ]

    def _growing(self, steps: int) -> dict[str, float]:
        """Return what grew in each of the last steps, and the limits it passed."""
        return {
            signal.name: limit
            for signal in self._loop.trace
            if (limit := self._limit_of(signal)) is not None
            and _is_growing(signal, self._steps(signal.name, steps), steps, limit)
        }

    def _limits_passed(self) -> dict[str, float]:
        """Return the limits of the signals that grow faster."""
        return {
            signal.name: limit
            for signal in self._loop.trace
            if (limit := self._limit_of(signal)) is not None
            and self._rates.get(signal.name, 0.0) > limit
        }

    def _limit_of(self, signal: Signal) -> float | None:
        return allowance_of(signal, self._loop.trace, self._plan)

    def _steps(self, name: str, steps: int) -> list[int]:
        """Return the last steps of a signal; the first call of a body proves nothing.

        Between the warm-up and the measured iterations, the Keras session is cleared.
        """
        trace = self._loop.trace
        readings = trace.series(name)[1:][-steps - 1 :]
        return [
            after - before
            for before, after in pairwise(readings)
            if before is not None and after is not None
        ]

    def _rates_now(self) -> Rates:
        return {
            signal.name: float(median(steps))
            for signal in self._loop.trace
            if (steps := self._steps(signal.name, _ENTRIES))
        }

    def _try_together(self) -> None:
        """Take those causes away at once that earlier tests have shown."""
        entries = self._proven_candidates()
        if len(entries) < 2 or not self._has_time():
            return
        with ExitStack() as stack:
            rates = self._measure(enter_all(stack, entries))
        self._active = self._note_lowered(entries, rates)
        if self._active:
            self._rates = rates

    def _take_away_on_trial(self) -> bool:
        """Take those causes away at once that are known, or else may be large."""
        large = [entry for entry in self._candidates if not entry.is_small]
        self._active = self._proven_candidates() or large
        self._candidates = []
        self._is_on_trial = self.is_away
        if self.is_away:
            self._run_without(1)
        return self.is_away

    def _run_without(self, warmup: int) -> None:
        interventions = enter_all(self._away, self._active)
        self._loop.after.extend(one.after for one in interventions)
        self._loop.start_over(warmup)

    def _proven_candidates(self) -> list[Known]:
        known = {entry for entries in _proven.values() for entry in entries}
        return [entry for entry in self._candidates if entry in known]

    def _note_lowered(self, entries: list[Known], rates: Rates) -> list[Known]:
        """Note which growth ended when causes were away; return the causes of that."""
        words = ", ".join(INTERVENTIONS[entry.experiment].words for entry in entries)
        lowered = set()
        for signal in sorted(self._open()):
            may_be = [e for e in _proven.get(signal, entries) if e in entries]
            causes = [entry for entry in may_be if signal in entry.signals]
            before, limit = self._rates[signal], self._limits[signal]
            if causes and is_lowered(before, rates[signal], limit, PART):
                self._add(signal, words, rates, causes[0])
                lowered.update(causes)
        return [entry for entry in entries if entry in lowered]


def _is_growing(signal: Signal, steps: list[int], wanted: int, limit: float) -> bool:
    if len(steps) < wanted or min(steps) <= limit:
        return False
    is_count = not is_memory(signal.name, signal.unit)
    return is_count or min(steps) >= _EVEN * max(steps)


def _remember(trials: Iterable[Trial]) -> None:
    for trial in trials:
        entries = _proven.setdefault(trial.signal, [])
        if trial.entry is not None and trial.entry not in entries:
            entries.append(trial.entry)
