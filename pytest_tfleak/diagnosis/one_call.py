"""Find what holds the objects that one call left, without another call.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import suppress

from pytest_tfleak.diagnosis.diagnose import Insights
from pytest_tfleak.diagnosis.findings import describe_leftovers
from pytest_tfleak.diagnosis.holder.search import Paths
from pytest_tfleak.diagnosis.survivors.groups import Describer
from pytest_tfleak.diagnosis.survivors.groups import Survivors
from pytest_tfleak.diagnosis.survivors.groups import group_by_place
from pytest_tfleak.diagnosis.survivors.groups import ids_of_attributes
from pytest_tfleak.diagnosis.survivors.groups import join_at_roots
from pytest_tfleak.diagnosis.survivors.groups import merge_same_paths
from pytest_tfleak.plan import Plan
from pytest_tfleak.probes.census import full_name
from pytest_tfleak.probes.census import mro_of
from pytest_tfleak.probes.census import thawed
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.one_call import Left
from pytest_tfleak.signals import row_of
from pytest_tfleak.signals import signals_by_type
from pytest_tfleak.user_code import origin_of
from pytest_tfleak.verdict import Finding


def explain_left(
    left: Left, handed: Mapping[str, object], deadline: Deadline
) -> Insights:
    """Return what holds the objects that one call left."""
    insights = Insights()
    objects = [made for found in left.objects.values() for made in found]
    if not objects:
        return insights
    ids = frozenset(map(id, objects))
    survivors = Survivors(
        objects=objects, ids=ids | {*ids_of_attributes(objects)}, recent=ids
    )
    with thawed():
        paths = Paths(handed, deadline)
        paths.find(objects)
        describer = Describer(
            runs=1,
            signal_of=_signal_of(left),
            frames_of=lambda made: left.frames.get(id(made), ()),
            is_searched=paths.is_complete,
        )
        groups = []
        for place in join_at_roots(group_by_place(survivors, paths)):
            with suppress(Exception):  # a thread may change an object meanwhile
                groups.append(describer.describe(place))
        insights.groups = merge_same_paths(groups)
        insights.is_complete = paths.is_complete
    return insights


def findings_on(left: Left, plan: Plan) -> tuple[Finding, ...]:
    """Return a finding for each signal of which more is left than is allowed."""
    return tuple(
        _finding(signal, count, left, plan)
        for signal, count in left.counts().items()
        if count > getattr(plan, row_of(signal).option)
    )


def notes_on(left: Left, plan: Plan) -> Iterator[str]:
    """Yield a note for each signal of which no more is left than is allowed."""
    for signal, count in left.counts().items():
        row = row_of(signal)
        if count <= getattr(plan, row.option):
            allowed = f"{row.option}={getattr(plan, row.option)}"
            yield f"{signal}: {count} left open, which {allowed} allows."


def _finding(signal: str, count: int, left: Left, plan: Plan) -> Finding:
    row = row_of(signal)
    made, others = left.objects.get(signal, []), left.others.get(signal, [])
    kind, what = describe_leftovers(Counter(full_name(type(one)) for one in made))
    origin, stack = origin_of(left.frames[others[0]] if others and not made else ())
    return Finding(
        signal=signal,
        unit=row.unit,
        per_iteration=None,
        total=count,
        allowance=getattr(plan, row.option),
        first=1,
        last=1,
        allow=row.option,
        kind=kind,
        what=", ".join(filter(None, (what, *others))),
        origin=origin,
        stack=stack,
    )


def _signal_of(left: Left) -> Callable[[type], str | None]:
    known = signals_by_type()
    of_left = {
        id(type(made)): signal
        for signal, found in left.objects.items()
        for made in found
    }

    def signal_of(cls: type) -> str | None:
        if id(cls) in of_left:
            return of_left[id(cls)]
        names = (full_name(base) for base in mro_of(cls))
        return next((known[name] for name in names if name in known), None)

    return signal_of
