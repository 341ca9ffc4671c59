"""Go on with what looks like a leak, until it is one or turns out to be none.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from pytest_tfleak.ending import cut_short
from pytest_tfleak.ending import is_interrupt
from pytest_tfleak.judge import is_suspicious
from pytest_tfleak.loop import MOMENT
from pytest_tfleak.loop import Loop
from pytest_tfleak.plan import Plan

#: What it may take to fill a cache: seconds, or as long as the confirmation took, and
#: so many times the iterations that are measured.
_SECONDS = 10.0
_TIMES = 10
_FILLED = (
    "A cache with an end (functools.lru_cache, collections.deque) was filling up. "
    "What ran until it was full counts as warm-up."
)


def confirm(loop: Loop, plan: Plan) -> list[str]:
    """Run more iterations where the measured ones are suspicious; return notes.

    Raises what the body raises in the confirmation.
    """
    __tracebackhide__ = True
    if not _is_confirmed(loop, plan):
        return []
    before = loop.trace
    try:
        if not loop.fill_caches(_most_to_fill(loop, plan)):
            return []
        loop.measure()
        _is_confirmed(loop, plan)
    except BaseException as error:
        if is_interrupt(error):
            raise
        loop.trace = before  # the leak that was found stands
        return [cut_short("The filling of a cache", error)]
    if loop.seconds_left < 0:
        loop.trace = before
        return []
    return [_FILLED]


def _is_confirmed(loop: Loop, plan: Plan) -> bool:
    """Go on with what is suspicious; say whether it still is so afterwards."""
    __tracebackhide__ = True
    if not is_suspicious(loop.trace, plan):
        return False
    loop.confirm()
    if not is_suspicious(loop.trace, plan):
        return False
    loop.look_again()
    return is_suspicious(loop.trace, plan)


def _most_to_fill(loop: Loop, plan: Plan) -> int:
    """Return how many iterations are worth it, and leave time to measure anew."""
    each = loop.confirming / max(1, loop.trace.confirmed)
    to_judge = 2 * plan.iterations * each + 2 * MOMENT
    seconds = min(max(_SECONDS, loop.confirming), loop.seconds_left - to_judge)
    return int(min(_TIMES * plan.iterations, max(0.0, seconds) / max(each, 1e-6)))
