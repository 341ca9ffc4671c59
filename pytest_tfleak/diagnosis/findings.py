"""Match findings to the groups of survivors that explain them.

A group explains signals that count its objects, and memory that its objects use.
Findings about the same objects get the same fingerprint and the same line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

from pytest_tfleak.diagnosis.causes.advise import Explained
from pytest_tfleak.diagnosis.causes.advise import advise
from pytest_tfleak.diagnosis.diagnose import Insights
from pytest_tfleak.diagnosis.survivors.groups import EVERY
from pytest_tfleak.diagnosis.survivors.groups import Group
from pytest_tfleak.diagnosis.survivors.groups import Part
from pytest_tfleak.diagnosis.survivors.structure import Observed
from pytest_tfleak.object_facts import TASKS
from pytest_tfleak.object_facts import rates_of
from pytest_tfleak.reports.held_object import words_of_growing_types
from pytest_tfleak.reports.held_object import words_of_inner
from pytest_tfleak.reports.held_object import words_of_types
from pytest_tfleak.reports.words import ordered
from pytest_tfleak.retaining_path import VIEW
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.signals import base_name
from pytest_tfleak.signals import has_row
from pytest_tfleak.signals import is_memory
from pytest_tfleak.signals import row_of
from pytest_tfleak.user_code import is_of_users
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import fingerprint

#: Libraries whose objects have a part in C++.
_BINDS = ("tensorflow.", "keras.", "tf_keras.")
#: The least share of the growth that a group must explain, so that the match is not by
#: chance: for a group that grows in each iteration, and for any other.
_LEAST, _MOST = 0.05, 0.5
#: Memory of which large objects are a part, and the most bytes that one entry adds to
#: its container.
_OF_HEAP, _ENTRY = ("host.heap", "host.allocator", "host.tensors"), 200
#: With more objects per memory block than this, a group comes after all others.
_MANY = 2
#: How many groups a finding is split into at most, and the least share for each.
_MOST_GROUPS, _LEAST_PART = 4, 0.2

#: Modules whose types say little about a leak: they are named last, and only a finding
#: on memory may name nothing else.
_PLAIN = ("_thread.", "builtins.", "collections.", "functools.", "weakref.")
_UNNAMED = ("pytest_tfleak.", "weakref.ReferenceType")  # never named
_MOST_TYPES = 3  # in one message
#: Roots of what user code keeps; a module may be a library's.
_USERS = ("module", "local", "fixture", "parameter", "body", "function")
_EACH = 0.95  # objects per iteration from which on each iteration leaves one
_MOST_ONCE = 8  # objects of one type that running functions may keep beside the growth
_COMMON = 0.5  # the share of the commonest type below which a type is incidental


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """A group, and the part of it that a finding counts."""

    group: Group
    part: Part


@dataclass(frozen=True, slots=True, kw_only=True)
class _Behind:
    """What explains a finding: groups, or what was observed about its signal."""

    groups: tuple[_Counted, ...] = ()
    observed: Observed | None = None

    def __bool__(self) -> bool:
        return bool(self.groups) or self.observed is not None


def explain_findings(
    findings: Sequence[Finding], insights: Insights
) -> tuple[Finding, ...]:
    """Return the findings with holder, line, cause and fingerprint.

    A finding is split if several groups share its growth, since each is a mistake of
    its own.
    """
    leading = _behind_objects(findings, insights)
    explained = [
        part for finding in findings for part in _explain(finding, insights, leading)
    ]
    explained = [_with_shared_line(one, explained) for one in explained]
    return advise(
        explained,
        insights.groups,
        is_searched=insights.is_complete,
        entered_twice=insights.entered_twice,
    )


def _explain(finding: Finding, insights: Insights, leading: _Behind) -> list[Explained]:
    if finding.accepted:
        return [Explained(_with_fingerprint(finding))]
    if not has_row(finding.signal):
        insights, leading = _of_users(finding, insights), _kept_by_users(leading)
    behind = _find_behind(finding, insights, leading)
    kind = finding.kind or ""
    finding = _without_guesses(finding, insights, behind)
    if len(behind.groups) > 1 and not _is_memory(finding):
        return _split(finding, behind.groups)
    counted = behind.groups[0] if behind.groups else None
    if counted is not None:
        counted = _with_owner(counted, insights.groups)
    finding = _with_objects(finding, counted, behind.observed)
    finding = _with_native(finding, insights)
    finding = _with_traced_line(finding, insights)
    group, part = (None, None) if counted is None else (counted.group, counted.part)
    return [Explained(finding, group, behind.observed, part, kind)]


def _of_users(finding: Finding, insights: Insights) -> Insights:
    """Return what may explain a signal of a user's probe.

    It may be any number. So only what the probe counts, or what the user's own code
    keeps, explains it: what a library or C++ keeps meanwhile has nothing to do with it.
    """
    groups = [
        group
        for group in insights.groups
        if finding.signal in group.parts or _is_users_path(group.path)
    ]
    return replace(insights, groups=groups, native=None)


def _kept_by_users(behind: _Behind) -> _Behind:
    counted = (one for one in behind.groups if _is_users_path(one.group.path))
    return _Behind(groups=tuple(counted))


def _find_behind(finding: Finding, insights: Insights, leading: _Behind) -> _Behind:
    """Return the most specific explanation of a finding that exists."""
    behind = _Behind(
        groups=_groups_behind(finding, insights),
        observed=insights.observed.get(finding.signal),
    )
    if not behind and _is_memory(finding):
        behind = leading  # the objects that pile up use the memory
    if not behind and row_of(finding.signal, finding.unit).family != "system":
        behind = _Behind(groups=_largest_regular(_plausible(finding, insights.groups)))
    return behind


def _behind_objects(findings: Sequence[Finding], insights: Insights) -> _Behind:
    """Return the explanation of the most important finding that counts objects."""
    for finding in ordered(findings):
        if _is_memory(finding) or finding.accepted:
            continue
        for counted in _groups_behind(finding, insights):
            group = counted.group
            return _Behind(groups=(_Counted(group=group, part=group.whole),))
        if finding.signal in insights.observed:
            return _Behind(observed=insights.observed[finding.signal])
    return _Behind()


def _groups_behind(finding: Finding, insights: Insights) -> tuple[_Counted, ...]:
    """Return the groups whose objects explain a finding, largest first."""
    groups = insights.groups
    row = row_of(finding.signal, finding.unit)
    if _is_memory(finding) and not row.behind:
        return tuple(
            _Counted(group=group, part=group.whole)
            for group in _groups_by_memory(finding, groups)
        )
    for signal in row.behind or (row.name,):
        counted = _groups_by_signal(signal, groups)
        if counted:
            return _without_chance(finding, counted)
    if row.family == "system":  # objects of any type may hold a file or a thread
        return _largest_regular(_made_with(finding, insights))
    return ()


def _made_with(finding: Finding, insights: Insights) -> list[Group]:
    """Return the groups made by the line in which the figure grows, if it is known.

    Exclude objects held only by C++: what they belong to is unknown.
    """
    held = [group for group in insights.groups if not group.path.is_native]
    origin, stack = insights.lines.get(finding.signal, (None, ()))
    if origin is None:
        return held
    return [
        group
        for group in held
        if group.whole.origin in (origin, *stack)
        or origin in (group.whole.origin, *group.whole.stack)
    ]


def _groups_by_signal(signal: str, groups: Sequence[Group]) -> list[_Counted]:
    counted = [
        _Counted(group=group, part=group.parts[signal])
        for group in groups
        if signal in group.parts
    ]
    counted.sort(key=lambda one: -one.part.per_iteration)
    lines = {(one.part.origin, one.group.stored) for one in counted}
    if len(lines) < len(counted):
        return counted[:1]  # the same line makes objects that are held in two places
    return counted


def _without_chance(
    finding: Finding, counted: Sequence[_Counted]
) -> tuple[_Counted, ...]:
    """Leave out groups that are too small to explain much of a finding."""
    total = sum(one.part.per_iteration for one in counted)
    if total < _LEAST_PART * (finding.per_iteration or 0.0):
        return ()
    kept = [c for c in counted if c.part.per_iteration >= _LEAST_PART * total]
    return tuple(kept[:_MOST_GROUPS])


def _groups_by_memory(finding: Finding, groups: Sequence[Group]) -> list[Group]:
    """Return the groups that explain much of the growth of memory, largest first."""
    growth = finding.per_iteration or 0.0
    steady = [group for group in groups if group.is_steady]
    steady.sort(key=lambda group: (-group.bytes, -group.objects))
    if finding.unit == "B":
        return [
            group
            for group in steady
            if group.bytes >= (_LEAST if group.is_regular else _MOST) * growth
        ]
    # many blocks are strings and numbers, which are not counted as objects
    least = min(_LEAST * growth, EVERY)
    steady.sort(key=lambda group: group.objects > _MANY * growth)
    return [group for group in steady if group.objects >= least]


def _largest_regular(groups: Iterable[Group]) -> tuple[_Counted, ...]:
    """Return the largest group that each iteration adds to, counted or not."""
    regular = (group for group in groups if group.is_regular)
    return tuple(_Counted(group=g, part=g.whole) for g in list(regular)[:1])


def _plausible(finding: Finding, groups: Iterable[Group]) -> list[Group]:
    """Leave out plain data that is far too little for the memory of a finding.

    What other objects hold in C or C++ is unknown, so any of them may explain it.
    """
    growth = finding.per_iteration or 0.0
    if base_name(finding.signal) not in _OF_HEAP:
        return list(groups)
    return [
        group
        for group in groups
        if not group.is_plain or group.bytes + _ENTRY * group.objects >= _LEAST * growth
    ]


def _without_guesses(finding: Finding, insights: Insights, behind: _Behind) -> Finding:
    """Drop the types guessed by the judge, if the search for holders was complete."""
    if not behind and not has_row(finding.signal):
        return replace(finding, kind=None, what=None)
    if not insights.is_complete:
        return finding
    if not behind and _is_memory(finding):
        return replace(finding, kind=None, what=None)  # they do not grow steadily
    return replace(finding, kind=None)


def _split(finding: Finding, counted: Sequence[_Counted]) -> list[Explained]:
    """Split a finding into one for each group: each is a mistake of its own."""
    rate = finding.per_iteration
    shares = _shares(finding, [one.part.per_iteration for one in counted])
    explained, left = [], finding.total
    for place, one in enumerate(counted):
        is_last = place == len(counted) - 1
        total = left if is_last else round(finding.total * shares[place])
        left -= total
        of_group = replace(
            finding,
            per_iteration=None if rate is None else rate * shares[place],
            total=max(1, total),
        )
        of_group = _with_objects(of_group, one, None)
        explained.append(Explained(of_group, one.group, part=one.part))
    return explained


def _shares(finding: Finding, rates: Sequence[float]) -> list[float]:
    """Return the shares of groups in a finding; whole numbers of objects stay whole.

    The rates come from other iterations than the finding, of which the last may count
    in part.
    """
    in_all, rate = sum(rates), finding.per_iteration
    if not in_all:
        return [1 / len(rates)] * len(rates)
    whole = [round(one) for one in rates]
    if rate is not None and 0 not in whole and sum(whole) == rate:
        return [one / rate for one in whole]
    return [one / in_all for one in rates]


def _with_owner(counted: _Counted, groups: Sequence[Group]) -> _Counted:
    """Name as holder the only Python object whose C++ part can hold the group."""
    owners = [
        group
        for group in groups
        if group.is_regular
        and not group.path.is_native
        and group.whole.kind.startswith(_BINDS)
    ]
    if not counted.group.path.is_native or len(owners) != 1:
        return counted
    [owner] = owners
    path = replace(owner.whole.path, in_native_part=True)
    return _Counted(
        group=replace(counted.group, stored=owner.stored),
        part=replace(counted.part, path=path),
    )


def _with_objects(
    finding: Finding, counted: _Counted | None, observed: Observed | None
) -> Finding:
    """Add what is known about a group's objects and what was observed of the signal."""
    place: tuple[str, ...] = ()
    if observed is not None:
        place = observed.place
        finding = replace(
            finding,
            what=observed.what,
            path=observed.path,
            origin=observed.origin,
            stack=observed.stack,
        )
    if counted is not None:
        place = counted.group.path.place
        finding = _with_group(finding, counted, observed)
    return _with_fingerprint(finding, *place)


def _with_group(
    finding: Finding, counted: _Counted, observed: Observed | None
) -> Finding:
    group, part = counted.group, counted.part
    if _is_mostly_of(finding, group):
        finding = replace(finding, kind=part.kind)
    if observed is None:
        finding = replace(finding, what=_what(part, group.whole))
    if part.origin is not None:
        finding = replace(finding, origin=part.origin, stack=part.stack)
    finding = replace(finding, stored=group.stored)
    if finding.signal in ("host.heap", "host.rss"):
        finding = replace(finding, python_bytes=group.bytes)
    return replace(finding, path=part.path)


def _what(part: Part, whole: Part) -> str:
    """Return what a finding counts, after the object of user code that brings it."""
    is_apart = part is not whole and part.kind != whole.kind
    if not is_apart or part.path.is_native or part.path.type == whole.path.type:
        return part.what
    return words_of_inner(whole.what, part.what)


def _is_mostly_of(finding: Finding, group: Group) -> bool:
    """Return whether a finding is mostly about the objects of one group."""
    if not _is_memory(finding):
        return True
    growth = finding.per_iteration or 0.0
    return finding.unit == "B" and group.bytes >= _MOST * growth


def _with_native(finding: Finding, insights: Insights) -> Finding:
    """Add the C++ functions that allocate memory which no Python object explains."""
    sites = insights.native.sites if insights.native is not None else ()
    if not sites or finding.unit != "B":
        return finding
    site, path = sites[0], finding.path
    finding = replace(finding, native=None if site.python_memory else site.frames)
    if site.origin is None:
        return finding
    if finding.origin == site.origin:  # the object is made there, and has the memory
        rate = finding.per_iteration
        return replace(finding, stack=site.python, python_bytes=rate)
    if finding.origin is None or finding.native:
        stored = finding.stored if _is_view(path) else None
        finding = replace(finding, origin=site.origin, stack=site.python, stored=stored)
    if path is None:
        return _with_fingerprint(finding, *site.frames[:1], site.origin.function)
    return finding


def _is_view(path: RetainingPath | None) -> bool:
    """Return whether a path leads to a view of memory that other code allocates."""
    return path is not None and bool(path.steps) and path.steps[-1].is_a(VIEW)


def _with_traced_line(finding: Finding, insights: Insights) -> Finding:
    """Add the line in which the figure grows, if the finding has no line yet."""
    if finding.origin is not None or finding.per_iteration is None:
        return finding
    traced = insights.lines.get(finding.signal)
    is_of_system = row_of(finding.signal, finding.unit).family == "system"
    if traced is None and not is_of_system and "host.heap" not in insights.of_kernels:
        # a line that makes objects also allocates memory; one that opens files may not
        traced = insights.lines.get("host.heap")
    origin, stack = traced or (None, ())
    if origin is None:
        return finding
    finding = replace(finding, origin=origin, stack=stack)
    if finding.path is None:
        known = finding.known or ""
        return _with_fingerprint(finding, finding.signal, known, origin.function)
    return finding


def _with_shared_line(one: Explained, explained: Sequence[Explained]) -> Explained:
    """If a finding has no line, add that of another finding about the same objects."""
    if one.group is None or one.finding.origin is not None:
        return one
    for other in explained:
        origin, stack = other.finding.origin, other.finding.stack
        if other.group is one.group and origin is not None:
            return replace(
                one, finding=replace(one.finding, origin=origin, stack=stack)
            )
    return one


def _with_fingerprint(finding: Finding, *place: str) -> Finding:
    """Add the fingerprint of a place, or of signal and kind if there is no place."""
    if not any(place):
        place = (finding.signal, finding.kind or "", finding.known or "")
    return replace(finding, fingerprint=fingerprint(*place))


def _is_memory(finding: Finding) -> bool:
    return is_memory(finding.signal, finding.unit)


def describe_growth(
    finding: Finding,
    survivors: Mapping[str, int],
    signal_of: Callable[[str], str | None],
    iterations: int,
) -> tuple[str | None, str | None]:
    """Return the leading type's name, and the types that grew with their rates.

    ``survivors`` counts the objects that ``iterations`` left, by full name of the type;
    ``signal_of`` returns the signal that counts a type.
    """
    rates = _rates_of_types(survivors, iterations)
    if not has_row(finding.signal):
        rates = {
            name: rate
            for name, rate in rates.items()
            if is_of_users(name) or signal_of(name) == finding.signal
        }
    shown = _counted_types(finding, rates, signal_of) or _kept_types(
        {n: rate for n, rate in rates.items() if survivors[n] > 1}, signal_of
    )
    is_plain = all(name.startswith(_PLAIN) for name in shown)
    if not shown or (is_plain and not _is_memory(finding)):
        return None, None
    ranked = sorted(
        shown,
        key=lambda name: (
            signal_of(name) is None,
            name.startswith(_PLAIN),
            -shown[name],
            name,
        ),
    )[:_MOST_TYPES]
    leading = None if is_plain else _short(ranked[0])
    return leading, words_of_growing_types(
        (_short(name), shown[name]) for name in ranked
    )


def describe_unjudged(survivors: Mapping[str, int], iterations: int) -> str:
    """Return the types of which each iteration leaves one or more; empty if none does.

    The interpreter's own types are named only if there are no others.
    """
    rates = _rates_of_types(survivors, iterations)
    piling = {
        name: rate
        for name, rate in rates.items()
        if rate >= _EACH and not name.startswith("_pytest.")
    }
    telling = {n: rate for n, rate in piling.items() if not n.startswith(_PLAIN)}
    shown = sorted((telling or piling).items(), key=_users_first)[:_MOST_TYPES]
    return words_of_types((_short(name), rate) for name, rate in shown)


def most_of_users(counts: Mapping[str, int]) -> int:
    """Return the largest count of a type that user code defines, by full name.

    A task counts as one of them: it runs user code, and keeps all that the code uses.
    """
    of_users = (n for name, n in counts.items() if name in TASKS or is_of_users(name))
    return max(of_users, default=0)


def is_kept_by_user(finding: Finding, renewed: frozenset[str]) -> bool:
    """Return whether user code is known to keep the objects of a finding.

    What a fixture in ``renewed`` keeps dies with the test.
    """
    path = finding.path
    if path is None or not _is_users_path(path):
        return False
    return path.root.kind != "fixture" or path.root.name not in renewed


def _is_users_path(path: RetainingPath) -> bool:
    """Return whether a path begins in user code."""
    is_library = path.is_native or path.root.is_library
    return not is_library and path.root.kind in _USERS


def _users_first(item: tuple[str, float]) -> tuple[bool, float, str]:
    name, rate = item
    return name.partition(".")[0] in sys.stdlib_module_names, -rate, name


def _rates_of_types(survivors: Mapping[str, int], iterations: int) -> dict[str, float]:
    named = {n: c for n, c in survivors.items() if not n.startswith(_UNNAMED)}
    return rates_of(
        {n: _without_few(n, count, iterations) for n, count in named.items()},
        iterations,
    )


def _without_few(name: str, count: int, iterations: int) -> int:
    """Return a count without the few objects of a plain type that came only once.

    The functions that run the test keep some lists and tuples meanwhile.
    """
    each, rest = divmod(count, iterations)
    once = each > 0 and rest <= _MOST_ONCE and name.startswith(_PLAIN)
    return each * iterations if once else count


def _counted_types(
    finding: Finding,
    rates: Mapping[str, float],
    signal_of: Callable[[str], str | None],
) -> dict[str, float]:
    """Return the types that the finding's own signal counts."""
    counted = {n: r for n, r in rates.items() if signal_of(n) == finding.signal}
    if len(counted) == 1:  # some survivors only replace older objects: show net growth
        return dict.fromkeys(counted, finding.per_iteration or 0.0)
    return counted


def _kept_types(
    rates: Mapping[str, float], signal_of: Callable[[str], str | None]
) -> dict[str, float]:
    """Return the types of which each call keeps some; a rarer type is incidental."""
    least = max(_COMMON * max(rates.values(), default=0), EVERY)
    return {n: r for n, r in rates.items() if r >= least or signal_of(n)}


def describe_leftovers(types: Mapping[str, int]) -> tuple[str | None, str | None]:
    """Return the leading type's name, and a text on the objects that still exist."""
    ranked = sorted(types.items(), key=lambda item: (-item[1], item[0]))[:_MOST_TYPES]
    if not ranked:
        return None, None
    words = words_of_types((_short(name), count) for name, count in ranked)
    return _short(ranked[0][0]), words


def _short(name: str) -> str:
    return name.rpartition(".")[2]
