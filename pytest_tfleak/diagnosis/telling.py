"""Join findings with what was found out: which group explains which signal.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import replace

from pytest_tfleak.diagnosis.advising import Told
from pytest_tfleak.diagnosis.advising import advise
from pytest_tfleak.diagnosis.group import Group
from pytest_tfleak.diagnosis.group import Part
from pytest_tfleak.diagnosis.inquiry import Insights
from pytest_tfleak.diagnosis.survey import Observed
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import fingerprint

Share = tuple[Group, Part]

#: Which counted objects stand behind a signal that counts something else.
_BEHIND = {
    "tf.sessions.closed": ("tf.sessions",),
    "tf.session_stack": ("tf.sessions",),
    "tf.graph_stack": ("tf.graphs", "tf.sessions"),
    "tf.graphs.ops": ("tf.graphs",),
    "tf.registered_functions": ("tf.functions", "tf.traces"),
    "tf.traces": ("tf.functions", "tf.traces"),
    "host.allocator": ("tf.tensors", "tf.variables"),
    "gpu.allocator": ("tf.tensors", "tf.variables"),
}
#: Libraries whose objects are half C++.
_BINDS = ("tensorflow.", "keras.", "tf_keras.")
_OF_SYSTEM = ("process.fds", "process.threads", "process.children")
_MEMORY = ("B", "blocks", "objects")  # units
#: A group with less of the growth than this explains it by chance.
_LEAST, _MOST = 0.05, 0.5
_EVERY = 0.9  # objects per iteration
_SAME = 2  # objects for each block
#: Groups that share the growth of one signal, each with a mistake of its own.
_MOST_SHARES = 4
_SHARE = 0.2


def tell(findings: Sequence[Finding], insights: Insights) -> tuple[Finding, ...]:
    """Return the findings with holder, line and fingerprint, those that fail first."""
    told: list[Told] = []
    lead = _lead(findings, insights)
    for judged in findings:
        if judged.accepted:
            told.append(Told(_printed(judged, "")))
            continue
        finding = judged
        if insights.is_complete:  # what merely came along says nothing
            finding = replace(judged, kind=None)
        shares = _shares(finding, insights.groups)
        seen = insights.observed.get(finding.signal)
        if seen is None and not shares and finding.unit in _MEMORY:
            shares, seen = lead
            if not shares and seen is None:
                shares = _steady(insights.groups)
            if insights.is_complete and not shares and seen is None:
                finding = replace(finding, what=None)  # it came once, and is no cause
        if seen is None and not shares and len(steady := _steady(insights.groups)) == 1:
            shares = steady  # nothing else is kept
        if len(shares) > 1 and finding.unit not in _MEMORY:
            told.extend(_split(finding, shares))
            continue
        share = _with_owner(shares[0], insights.groups) if shares else None
        said = _with_line(_with_native(_told(finding, share, seen), insights), insights)
        told.append(Told(said, share[0] if share is not None else None, seen))
    told = [_with_origin_of(told, one) for one in told]
    return advise(told, insights.groups, is_searched=insights.is_complete)


def _shares(finding: Finding, groups: Sequence[Group]) -> list[Share]:
    """Return the groups behind a finding with the part it counts, largest first."""
    base = finding.signal.partition("[")[0]
    if finding.unit in _MEMORY and base not in _BEHIND:
        return [(group, group.whole) for group in _by_memory(finding, groups)]
    shares: list[Share] = []
    for signal in _BEHIND.get(base, (base,)):
        shares = shares or [(g, g.parts[signal]) for g in groups if signal in g.parts]
    if not shares and base in _OF_SYSTEM:
        return _steady(groups)  # types that nobody knows to be files or threads
    shares.sort(key=lambda share: -share[1].per_iteration)
    if len({part.origin for _, part in shares}) < len(shares):
        shares = shares[:1]  # one line that makes what is held here and there
    total = sum(part.per_iteration for _, part in shares)
    if total < _SHARE * (finding.per_iteration or 0.0):
        return []  # others, which came by chance
    kept = [share for share in shares if share[1].per_iteration >= _SHARE * total]
    return kept[:_MOST_SHARES]


def _with_owner(share: Share, groups: Sequence[Group]) -> Share:
    """Name what is kept in Python as the holder of what its own C++ part holds."""
    group, part = share
    kept = [
        g.whole.edges
        for g in groups
        if g.is_regular and "native" not in g.clues and g.whole.kind.startswith(_BINDS)
    ]
    if "native" not in group.clues or len(kept) != 1:
        return share
    return group, replace(part, edges=(*kept[0], "its C++ part"))


def _by_memory(finding: Finding, groups: Sequence[Group]) -> Iterator[Group]:
    """Yield the groups with a good part of the growth of memory, largest first."""
    growth = _LEAST * (finding.per_iteration or 0.0)
    steady = [group for group in groups if group.is_steady]
    ranked = sorted(steady, key=lambda group: (-group.bytes, -group.objects))
    if finding.unit == "B":
        most = _MOST * (finding.per_iteration or 0.0)
        yield from (g for g in ranked if g.bytes >= (growth if g.is_regular else most))
    else:  # of its blocks many are strings and numbers, which nobody counts
        least = min(growth, _EVERY)
        # objects that are many more than the blocks are the same one again and again
        many = _SAME * (finding.per_iteration or 0.0)
        ranked.sort(key=lambda group: group.objects > many)
        yield from (group for group in ranked if group.objects >= least)


def _steady(groups: Sequence[Group]) -> list[Share]:
    """Return what gets one more in each iteration: its memory may be out of sight."""
    found = [g for g in groups if g.is_regular]
    return [(group, group.whole) for group in found[:1]]


def _lead(
    findings: Sequence[Finding], insights: Insights
) -> tuple[list[Share], Observed | None]:
    """Return what stands behind the objects that pile up: the memory is theirs."""
    for finding in findings:
        if finding.unit not in _MEMORY and not finding.accepted:
            for group, _ in _shares(finding, insights.groups):
                return [(group, group.whole)], None
            if finding.signal in insights.observed:
                return [], insights.observed[finding.signal]
    return [], None


def _split(finding: Finding, shares: Sequence[Share]) -> Iterator[Told]:
    """Give each group its share of a finding: each is a mistake of its own."""
    total = sum(part.per_iteration for _, part in shares)
    for group, part in shares:
        share = part.per_iteration / total if total else 1 / len(shares)
        rate = finding.per_iteration
        said = _told(
            replace(
                finding,
                per_iteration=None if rate is None else rate * share,
                total=max(1, round(finding.total * share)),
            ),
            (group, part),
            None,
        )
        yield Told(said, group)


def _told(finding: Finding, share: Share | None, seen: Observed | None) -> Finding:
    """Return a finding with what is known of its objects, or of what was observed."""
    told = finding
    if share is not None:
        group, part = share
        told = replace(
            told,
            kind=part.kind if _is_most(finding, group) else finding.kind,
            what=part.what,
            holder=part.edges,
            origin=part.origin,
            stack=part.stack,
        )
        if finding.signal == "host.heap":
            told = replace(told, python_bytes=group.bytes)
    if seen is not None:
        told = replace(told, what=seen.what, holder=told.holder or seen.edges)
        if told.origin is None:
            told = replace(told, origin=seen.origin, stack=seen.stack)
    if share is not None:
        return _printed(told, share[0].erased)
    return _printed(told, seen.erased if seen is not None else "")


def _is_most(finding: Finding, group: Group) -> bool:
    """Say whether a finding is about the objects of a group more than about others."""
    growth = finding.per_iteration or 0.0
    return finding.unit not in _MEMORY or (
        finding.unit == "B" and group.bytes >= _MOST * growth
    )


def _with_native(finding: Finding, insights: Insights) -> Finding:
    """Add the C++ functions that allocate what no Python object explains."""
    native = insights.native
    if native is None or finding.unit != "B" or not native.sites:
        return finding
    site = native.sites[0]
    told = replace(finding, native=None if site.python_memory else site.frames)
    if site.origin is not None and (finding.origin is None or told.native):
        told = replace(told, origin=site.origin, stack=site.python)
    if finding.holder is None and site.origin is not None:
        function = f"{site.frames[0] if site.frames else ''} {site.origin.function}"
        return _printed(told, function)
    return told


def _with_line(finding: Finding, insights: Insights) -> Finding:
    """Add the line in which it grows, where nothing tells another one."""
    in_heap = insights.lines.get("host.heap", (None, ()))
    # what is an object, its memory is of that line, too; a descriptor is none
    other = (None, ()) if finding.signal in _OF_SYSTEM else in_heap
    origin, stack = insights.lines.get(finding.signal, other)
    if finding.origin is not None or origin is None or finding.per_iteration is None:
        return finding
    told = replace(finding, origin=origin, stack=stack)
    if finding.holder is None:
        return _printed(told, f"{finding.signal} {finding.known} {origin.function}")
    return told


def _with_origin_of(told: Sequence[Told], one: Told) -> Told:
    """Add the line of another finding about the same objects, where one is missing."""
    if one.group is None or one.finding.origin is not None:
        return one
    for other in told:
        made = other.finding
        if other.group is one.group and made.origin is not None:
            found = replace(one.finding, origin=made.origin, stack=made.stack)
            return replace(one, finding=found)
    return one


def _printed(finding: Finding, text: str) -> Finding:
    """Return a finding with the fingerprint of a text, or of its signal and kind."""
    text = text or f"{finding.signal} {finding.kind} {finding.known}"
    return replace(finding, fingerprint=fingerprint(text))
