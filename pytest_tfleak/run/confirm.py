"""The rule of confirmation: when growth is suspicious, find out whether it is a leak.

1. Collect garbage, give threads a moment, then run as many iterations again. If
   something fell meanwhile, go on until it would have fallen again.
2. Growth must still be there after another such pause. What a cache dropped stays until
   the collector may look at frozen objects, and a thread may need a moment to finish:
   neither is a leak. Older objects may have gone instead, once, so this is looked at
   again.
3. If a bounded cache grew meanwhile, fill it, and measure again. If that would take too
   long, keep the cache at its size meanwhile: growth is then not the cache's.

If time is up before that is done, the result is open.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import threading
import types
from array import array
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from itertools import accumulate
from math import inf
from time import sleep
from typing import Any

from pytest_tfleak.judge import FEWEST
from pytest_tfleak.judge import FEWEST_AT_LIMIT
from pytest_tfleak.judge import SHORTEST_CONFIRMATION
from pytest_tfleak.judge import is_enough_at_limit
from pytest_tfleak.judge import is_suspicious
from pytest_tfleak.judge import iterations_wanted
from pytest_tfleak.judge import judge
from pytest_tfleak.judge.steps import LONGER
from pytest_tfleak.plan import Plan
from pytest_tfleak.plan import left_nothing
from pytest_tfleak.probes.base import in_words
from pytest_tfleak.run.bounded_caches import BoundedCaches
from pytest_tfleak.run.bounded_caches import Growing
from pytest_tfleak.run.bounded_caches import HeldCaches
from pytest_tfleak.run.bounded_caches import Namer
from pytest_tfleak.run.bounded_caches import are_full
from pytest_tfleak.run.bounded_caches import without_names
from pytest_tfleak.run.guard import LimitReached
from pytest_tfleak.run.interrupts import Endings
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.signals import is_size
from pytest_tfleak.trace import MISSING
from pytest_tfleak.trace import Trace
from pytest_tfleak.user_code import is_users

#: Seconds: longer than most timers and flushing threads wait.
MOMENT = 1.2
#: How often signals are read to see whether other threads move them, and how far apart.
_LOOKS, _FIRST_LOOKS, _BETWEEN = 50, 4, 0.005  # seconds
#: Why it is unknown after a fall whether growth is a leak.
NO_TIME_AFTER_FALL = (
    "it fell meanwhile, and {left_nothing} to see whether it does so again"
)
#: Iterations that a run must have to be judged if the body ended it.
_FEWEST = 10
#: Iterations that show whether a bounded cache grows, if there is room for many.
_A_FEW, _MANY = 2, 12
#: Filling a cache may take so many times the iterations that are measured.
_TIMES = 10
#: The share by which two rates of the same growth may differ.
_NOISE = 0.1
_FILLED = (
    "A bounded cache (functools.lru_cache, collections.deque) was filling up. "
    "What ran until it was full counts as warm-up."
)
_NOT_FILLED = (
    "a bounded cache (functools.lru_cache, collections.deque) was filling up, and "
    "{left_nothing} to judge without it"
)
_NO_TIME_TO_LOOK = "{left_nothing} to see whether what grew stays"


def confirm(
    loop: Loop, plan: Plan, endings: Endings, names: Namer = without_names
) -> list[str]:
    """Run more iterations if the measured ones are suspicious; return notes.

    ``names`` finds names for the caches that a note is about. Raises what the body
    raises, except for an error while a cache is filled or held: then the leak that was
    found before stands.
    """
    __tracebackhide__ = True
    if loop.trace.is_settled:
        return []
    caches = _confirmed(loop, plan)
    if caches is None:
        return []
    found = loop.trace
    growing = caches.growing(found.confirmed)
    if not growing:
        return []
    try:
        notes = _judge_full_if_it_fits(loop, plan, growing)
        if notes is None:
            notes = _judge_held(loop, plan, HeldCaches(growing), names)
    except LimitReached:
        _give_up(loop, found)
        raise
    except BaseException as error:
        if endings.passes_through(error):
            raise
        _go_back(loop, found)
        return [endings.cut_short("Filling a cache", error)]
    return notes


def count_what_ran(loop: Loop, plan: Plan, *, is_used_up: bool) -> None:
    """Prepare the iterations that ran before the body ended the run for judgement.

    If it did not get far into the confirmation, the last third of the measured ones
    counts as the confirmation. Growth must still be there after a pause. A leak may use
    up a resource in a few iterations: then all but the first call count.
    """
    trace = loop.trace
    if trace.confirmed < SHORTEST_CONFIRMATION * trace.measured:
        trace.count_confirmation_as_measured()
    fewest = FEWEST if is_used_up else _FEWEST
    if loop.guard.is_reached:
        trace.stopped, fewest = loop.guard.stopped, FEWEST_AT_LIMIT - 1
        trace.limit = trace.stopped.limit
        if not is_enough_at_limit(trace, trace.stopped, plan):
            return
    if is_used_up and trace.measured < _FEWEST:
        trace.measured += max(0, trace.warmed_up - 1)
        trace.judges_warmup = trace.warmed_up > 1
        trace.warmed_up = min(trace.warmed_up, 1)
    if trace.measured < fewest:
        return
    if not trace.confirmed:
        trace.confirmed = -(-trace.measured // 3)
        trace.measured -= trace.confirmed
    first = trace.warmed_up * trace.width
    base = trace.buffer[first : first + trace.width]
    try:
        note_kept(loop, trace, base, trace.judged)
    except Exception as error:  # for lack of memory
        if not is_used_up:
            trace.unconfirmed = f"{in_words(error)} came before it was confirmed"
    if trace.judges_warmup:
        trace.kinds = {}  # with the objects of the first call


def confirm_at_limit(
    loop: Loop, plan: Plan, endings: Endings, names: Namer = without_names
) -> list[str]:
    """Judge what used up a resource without the bounded caches in it; return notes.

    The iterations that ran stand if no cache was filling up. Raises what the body
    raises if that ends the run.
    """
    __tracebackhide__ = True
    found, caches = loop.trace, BoundedCaches()
    if not judge(found, plan).findings:
        return []
    try:
        loop.refreeze(caches.note)
        times = _A_FEW if loop.guard.iterations_left > _MANY else 1
        ran = loop.run_again(warmup=0, iterations=times, clear=False).rows
        growing = caches.growing(ran)
        return _judge_held(loop, plan, HeldCaches(growing), names) if growing else []
    except LimitReached:
        if loop.trace is not found:
            _give_up(loop, found)
        return []
    except BaseException as error:
        if endings.passes_through(error):
            raise
        _go_back(loop, found)
        return [endings.cut_short("The look at bounded caches", error)]


def no_time_after_fall(trace: Trace) -> str:
    """Return why it is unknown whether something that fell would do so again."""
    return NO_TIME_AFTER_FALL.format(left_nothing=left_nothing(trace.limit))


def go_on(loop: Loop, plan: Plan) -> tuple[Sequence[int], BoundedCaches]:
    """Pause, and run up to as many iterations again.

    Return the readings at the end of the pause, and the caches as they were then.
    """
    __tracebackhide__ = True
    caches = BoundedCaches()
    loop.look(deep=True)  # what slow readings cache belongs to the step of the pause
    base = _pause(loop, caches.note)
    _iterate(loop, plan.iterations)
    return base, caches


def _pause(
    loop: Loop, look: Callable[[list[Any]], None] | None = None
) -> Sequence[int]:
    """Pause, note how the readings changed since the last iteration, and return them.

    What this plugin itself took since then is part of that.
    """
    trace = loop.trace
    before = trace.buffer[(trace.rows - 1) * trace.width : trace.rows * trace.width]
    base = rested(loop, look)
    trace.collected[trace.judged] = {
        signal.name: was - now
        for signal, was, now in zip(trace.signals, before, base, strict=True)
        if MISSING not in (was, now)
    }
    return base


def outlive_falls(loop: Loop, plan: Plan) -> tuple[Sequence[int] | None, int]:
    """Go on until it is clear whether a fall was an emptied buffer.

    Return the readings before the last batch of iterations, None if there was none, and
    the size of that batch.
    """
    __tracebackhide__ = True
    trace, base, before = loop.trace, None, 0
    while wanted := iterations_wanted(trace, plan):
        if loop.is_out_of_time:
            trace.unconfirmed = no_time_after_fall(trace)
            break
        base, before = _pause(loop), trace.confirmed
        _iterate(loop, wanted)
    return base, trace.confirmed - before


def _iterate(loop: Loop, iterations: int) -> None:
    """Run more confirming iterations, as far as there is time for them.

    The first and the last one have the slow readings, too.
    """
    __tracebackhide__ = True
    trace, first = loop.trace, loop.trace.confirmed
    trace.planned_to_confirm = first + iterations
    ends = (first, trace.planned_to_confirm - 1)
    while trace.confirmed < trace.planned_to_confirm and not loop.is_out_of_time:
        loop.iterate(trace, deep=trace.confirmed in ends)
        trace.confirmed += 1


def rested(loop: Loop, look: Callable[[list[Any]], None] | None = None) -> array[int]:
    """Give threads a moment, collect garbage, and read all probes that allow it."""
    if any(threads_beside()):
        sleep(MOMENT)
    loop.refreeze(look)
    return loop.look()


def note_idle(loop: Loop) -> None:
    """Note in the trace by how much signals rise while only other threads run."""
    if not any(threads_beside()):
        return
    # in one buffer: a new one for each look would itself raise python.blocks
    width = loop.trace.width
    looks = array("q", [MISSING]) * (width * (_LOOKS + 1))
    for number in range(_LOOKS + 1):
        sleep(_BETWEEN if number else 0)
        loop.look_into(looks, number * width)
        if number == _FIRST_LOOKS + 1:
            first, last = looks[width : 2 * width], looks[number * width :][:width]
            if first == last:
                return  # they only wait
    for column, signal in enumerate(loop.trace.signals):
        readings = [
            value for value in looks[width + column :: width] if value != MISSING
        ]
        # what only falls are threads that end, such as timers, and let go
        lowest = accumulate(readings, min)
        rises = (value - low for value, low in zip(readings, lowest, strict=True))
        loop.trace.idle[signal.name] = max(rises, default=0)


def threads_beside() -> Iterator[str]:
    """Yield the names of the threads that run beside the body, but none of pytest's."""
    for thread in threading.enumerate():
        if not _is_of_the_runner(thread):
            name = vars(thread).get("_name")
            yield name if type(name) is str else "?"


def _is_of_the_runner(thread: threading.Thread) -> bool:
    """Return whether a thread is this one, or one that serves a plugin of pytest."""
    if thread is threading.current_thread():
        return True
    called = vars(thread).get("_target")
    if type(called) is types.MethodType:
        called = called.__func__
    if type(called) is not types.FunctionType:
        return False
    is_plugin = str(called.__module__).startswith("pytest_")
    return is_plugin and not is_users(called.__code__.co_filename)


def note_kept(
    loop: Loop, trace: Trace, base: Sequence[int], iterations: int
) -> Sequence[int]:
    """Note in a trace what grew and stayed since ``base``, which ``rested`` returned.

    ``iterations`` is how many have run since then. Return the readings now.
    """
    trace.kinds = loop.survivors()  # they cannot be counted after the pause
    trace.counted = iterations
    last = trace.buffer[(trace.rows - 1) * trace.width : trace.rows * trace.width]
    stayed = rested(loop)
    for signal, was, read, now in zip(trace.signals, base, last, stayed, strict=True):
        if MISSING not in (was, now):
            trace.kept[signal.name] = (now - was) / max(1, iterations)
        if MISSING not in (read, now):
            trace.released[signal.name] = read - now
    return stayed


def measure_again(loop: Loop, plan: Plan, trace: Trace) -> None:
    """Measure, and confirm, after the warm-up of a new trace of this run."""
    __tracebackhide__ = True
    loop.refreeze()
    loop.trace = trace
    loop.measure()
    _confirmed(loop, plan)


def grows_less(before: Trace, after: Trace, plan: Plan) -> bool:
    """Return whether something that leaked grows less, by more than noise."""
    rates = _rates(after, plan)
    return any(
        rates.get(finding.signal, inf) <= (1 - _NOISE) * finding.per_iteration
        for finding in judge(before, plan).findings
        if finding.per_iteration is not None
    )


def _confirmed(loop: Loop, plan: Plan) -> BoundedCaches | None:
    """Confirm what is suspicious; return the caches, None if it no longer is."""
    __tracebackhide__ = True
    if not is_suspicious(loop.trace, plan) or loop.is_out_of_time:
        return None
    base, caches = go_on(loop, plan)
    trace = loop.trace
    fallen, since = outlive_falls(loop, plan)
    if not is_suspicious(trace, plan) or trace.unconfirmed is not None:
        return None
    if not loop.deadline.at_least(2 * MOMENT).fits(MOMENT):
        left = left_nothing(trace.limit)
        trace.unconfirmed = _NO_TIME_TO_LOOK.format(left_nothing=left)
        return None
    if fallen is None:
        base = note_kept(loop, trace, base, trace.confirmed)
    else:
        base = note_kept(loop, trace, fallen, since)
    if not is_suspicious(trace, plan):
        _look_once_more(loop, plan, base)
    return caches if is_suspicious(trace, plan) else None


def _look_once_more(loop: Loop, plan: Plan, base: Sequence[int]) -> None:
    """Find out whether what the last pause freed was older objects that went once.

    A full cache drops objects in any few iterations, so a few without a drop are a
    suspicion. As after a fall, many iterations must then show that none follows.
    """
    __tracebackhide__ = True
    trace = loop.trace
    for wanted in (max(_FEWEST, plan.iterations // 2), LONGER * plan.iterations):
        trace.collected[trace.judged] = dict(trace.released)
        before = trace.confirmed
        _iterate(loop, wanted)
        if trace.confirmed < before + wanted:
            if is_suspicious(trace, plan):
                trace.unconfirmed = no_time_after_fall(trace)
            return
        base = note_kept(loop, trace, base, wanted)
        if not is_suspicious(trace, plan):
            return


def _judge_full(loop: Loop, plan: Plan, growing: Sequence[Growing]) -> list[str] | None:
    """Fill caches, and judge the body again; return notes, None if they do not fill.

    What has run until then is the warm-up of the loop's new trace.
    """
    __tracebackhide__ = True
    found, most = loop.trace, _TIMES * plan.iterations
    needed = max(cache.iterations_to_fill for cache in growing)
    if needed > most or not _has_time(loop, needed + 2 * plan.iterations):
        return None
    trace = found.restarted(room=most)
    for done in range(1, most + 1):
        if loop.is_out_of_time:
            break
        loop.iterate(trace)
        trace.warmed_up += 1
        if are_full(growing):
            measure_again(loop, plan, trace)
            break
        if done % plan.iterations == 0:
            loop.freeze()  # otherwise, each census would look at all earlier objects
    if loop.is_out_of_time:
        _give_up(loop, found)
        return []
    return [_FILLED] if loop.trace is not found else None


def _judge_full_if_it_fits(
    loop: Loop, plan: Plan, growing: Sequence[Growing]
) -> list[str] | None:
    """Fill caches and judge the body again, unless there is no room to fill them."""
    __tracebackhide__ = True
    found = loop.trace
    try:
        return _judge_full(loop, plan, growing)
    except LimitReached:
        _go_back(loop, found)
        loop.guard.allow_more()
        return None


def _judge_held(loop: Loop, plan: Plan, caches: HeldCaches, names: Namer) -> list[str]:
    """Judge the body again while caches are kept at their size; return notes.

    They stay so until the loop is left. If they have no part in the growth, the earlier
    trace stands.
    """
    __tracebackhide__ = True
    found, ran = loop.trace, loop.trace.rows
    turnover = caches.turnover(ran, most=_TIMES * plan.iterations)
    if not _has_time(loop, turnover + 2 * plan.iterations):
        _give_up(loop, found)
        return []
    if not loop.hold(caches):
        return []
    trace = found.restarted(room=turnover)
    for done in range(1, turnover + 1):
        if loop.is_out_of_time:
            break
        loop.iterate(trace)
        trace.warmed_up += 1
        if done % plan.iterations == 0:
            loop.freeze()  # otherwise, each census would look at all earlier objects
    if not loop.is_out_of_time:
        measure_again(loop, plan, trace)
    if loop.is_out_of_time:
        _give_up(loop, found)
        return []
    if is_suspicious(loop.trace, plan) and not grows_less(found, loop.trace, plan):
        _go_back(loop, found)
        return []
    return caches.describe(names, _bytes_saved(found, loop.trace, plan))


def _has_time(loop: Loop, iterations: int) -> bool:
    each = loop.seconds / max(1, loop.trace.rows)  # the readings take time, too
    return loop.deadline.fits(iterations * each)


def _go_back(loop: Loop, found: Trace) -> None:
    """Restore the earlier trace, and let the caches grow."""
    loop.release_caches()
    loop.go_back_to(found)


def _give_up(loop: Loop, found: Trace) -> None:
    """Note that time was up before it was clear whether a cache grew."""
    _go_back(loop, found)
    limit = loop.guard.stopped.limit if loop.guard.is_reached else found.limit
    left = left_nothing(limit)
    loop.trace.unconfirmed = _NOT_FILLED.format(left_nothing=left)


def _bytes_saved(before: Trace, after: Trace, plan: Plan) -> float:
    """Return how many bytes less an iteration takes now, on one device."""
    rates = _rates(after, plan)
    return max(
        (
            rate - rates[name]
            for name, rate in _rates(before, plan).items()
            if name in rates and is_size(name, "")
        ),
        default=0.0,
    )


def _rates(trace: Trace, plan: Plan) -> dict[str, float]:
    reports = judge(trace, plan).signals
    return {r.name: r.per_iteration for r in reports if r.per_iteration is not None}
