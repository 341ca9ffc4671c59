"""What Hypothesis draws for tests: hostile texts, and verdicts full of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from pytest_tfleak.reports.held_by import ROOTS
from pytest_tfleak.reports.held_by import STEPS
from pytest_tfleak.retaining_path import THROUGH
from pytest_tfleak.retaining_path import TRACEBACK
from pytest_tfleak.retaining_path import UNKNOWN
from pytest_tfleak.retaining_path import Array
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import Root
from pytest_tfleak.retaining_path import Step
from pytest_tfleak.signals import SIGNALS
from pytest_tfleak.verdict import Experiment
from pytest_tfleak.verdict import FailedCall
from pytest_tfleak.verdict import FailingCalls
from pytest_tfleak.verdict import FaultSummary
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import SameAs
from pytest_tfleak.verdict import SecondsByPart
from pytest_tfleak.verdict import SignalReport
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

#: What ends a line, a tag, a table cell or a command, or speaks to a terminal.
SNIPPETS = (
    *("\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\x00", "\x08", "\x7f", "\r", "\n"),
    *("\u2028", "\u202e", "\u2066", "\ufeff", "\ufffe", "\ud800", "\udcff", "\t"),
    *("<script>alert(1)</script>", "</script>", "<!--", "-->", "]]>", "<?x?>", "&lt;"),
    *('"', "'", "`", "</noscript>", "<img src=x onerror=alert(1)>", "javascript:x"),
    *("{{ 7*7 }}", "{% raw %}", "{}", "{0}", "{name.__class__}", "%s", "%0A", "%25"),
    *("\n::error::x", "::set-output name=a::b", "##[error]x", "::stop-commands::t"),
    *("|", "\\|", "\n| a | b |", "[x](https://x.y)", "![i](u)", "**b**", "@me", "#1"),
    *("a" * 300, "/" * 300, "::", "日本", "\U0001f600", "e\u0301"),
)
#: Any characters, lone surrogates included.
hostile = st.lists(
    st.sampled_from(SNIPPETS) | st.text(st.characters(codec=None), max_size=8),
    max_size=4,
).map("".join)
numbers = st.floats(-1e15, 1e15)
integers = st.integers(-(2**62), 2**62)
rows = st.integers(0, 100_000)
texts = st.lists(hostile, max_size=3).map(tuple)

origins = st.builds(
    Origin, file=hostile, line=st.integers(0, 10**6), function=hostile, text=hostile
)
_KINDS = [*STEPS, UNKNOWN, THROUGH, TRACEBACK]
steps = st.builds(
    Step,
    kind=st.sampled_from(_KINDS),
    name=hostile,
    function=hostile,
    file=hostile,
    line=rows,
    types=texts,
    is_new=st.booleans(),
    container=st.sampled_from(["", "list", "dict"]),
    size=st.none() | rows,
)
paths = st.builds(
    RetainingPath,
    root=st.builds(
        Root,
        kind=st.sampled_from(sorted(ROOTS)),
        name=hostile,
        thread=hostile,
        is_library=st.booleans(),
        size=st.none() | rows,
    ),
    steps=st.lists(steps, max_size=4).map(tuple),
    target=hostile,
    array=st.none() | st.builds(Array, type=hostile, dtype=hostile),
    in_native_part=st.booleans(),
)
names = st.sampled_from([row.name for row in SIGNALS]) | hostile
calls = st.builds(
    FailedCall, number=rows, operation=hostile, origin=st.none() | origins
)
findings = st.builds(
    Finding,
    signal=names,
    unit=st.sampled_from(["B", "objects"]) | hostile,
    per_iteration=st.none() | numbers,
    total=integers,
    allowance=st.floats(0, 1e15),
    first=rows,
    last=rows,
    allow=st.sampled_from(["", "tensors", "sessions", "host_total", "blocks"]),
    kind=st.none() | hostile,
    what=st.none() | hostile,
    fingerprint=st.none() | hostile,
    path=st.none() | paths,
    origin=st.none() | origins,
    stack=st.lists(origins, max_size=2).map(tuple),
    stored=st.none() | origins,
    native=st.none() | texts,
    python_bytes=st.none() | numbers,
    known=st.none() | hostile,
    accepted=st.booleans(),
    baseline=st.sampled_from([None, "accepted", "worse", "new"]),
    ignored=st.none() | hostile,
    experiments=st.lists(
        st.builds(Experiment, name=hostile, per_iteration=numbers), max_size=2
    ).map(tuple),
    cause=st.sampled_from([None, "list-grows"]) | hostile,
    why=st.none() | hostile,
    advice=st.none() | hostile,
    failing=st.none()
    | st.builds(FailingCalls, count=rows, total=rows, first=calls, last=calls),
)
signals = st.builds(
    SignalReport,
    name=names,
    unit=st.sampled_from(["B", "objects"]) | hostile,
    status=st.sampled_from(["measured", "unavailable", "untrusted"]),
    reason=st.none() | hostile,
    per_iteration=st.none() | numbers,
    total=st.none() | integers,
    allowance=st.none() | st.floats(0, 1e15),
    decides=st.booleans(),
    series=st.lists(st.none() | integers, max_size=12).map(tuple),
    code=st.none() | hostile,
)
seconds = st.floats(0, 1e6)
same = st.none() | st.builds(SameAs, nodeid=hostile, origin=st.none() | origins)


def _with_same_as(verdict: Verdict, same_as: SameAs | None) -> Verdict:
    """Only a leak can be the same as another."""
    is_leak = verdict.status is Status.LEAK and verdict.failing
    return replace(verdict, same_as=same_as) if is_leak else verdict


_alone = st.builds(
    Verdict,
    nodeid=hostile,
    status=st.sampled_from(Status),
    reason=st.none() | st.sampled_from(Reason),
    via=st.sampled_from(["marker", "fixture", "library"]),
    detail=st.none() | hostile,
    depth=st.sampled_from(["full", "quick", "leftovers"]),
    iterations=rows,
    confirmation=st.integers(0, 9),
    warmup=st.integers(0, 9),
    seconds=seconds,
    body_seconds=seconds,
    seconds_by_part=st.builds(
        SecondsByPart,
        loop=seconds,
        confirmation=seconds,
        known_growth=seconds,
        diagnosis=seconds,
    ),
    signals=st.lists(signals, max_size=2).map(tuple),
    findings=st.lists(findings, max_size=2).map(tuple),
    notes=texts,
    faults=st.none() | st.builds(FaultSummary, calls=rows, failed=rows, error=hostile),
)
#: Verdicts of which any figure and any text may come together.
verdicts = st.builds(_with_same_as, _alone, same)

#: What JSON can hold, and what a reader may not expect.
plain = st.none() | st.booleans() | st.floats() | st.text(max_size=5)
values = st.recursive(
    plain | st.integers() | st.sampled_from([10**300, -(10**300), 2**63, "x" * 999]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@st.composite
def forged(draw: st.DrawFn, document: Any) -> Any:
    """Draw a document, some parts of which are replaced or missing."""
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from([(), *_places(document)]))
        document = _with(document, place, draw(values), draw(st.booleans()))
    return document


def _places(document: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the keys and indexes that lead to each part."""
    items: Any = ()
    if isinstance(document, dict):
        items = document.items()
    elif isinstance(document, list):
        items = enumerate(document)
    for key, inner in items:
        yield (key,)
        yield from ((key, *rest) for rest in _places(inner))


def _with(document: Any, place: tuple[Any, ...], value: Any, is_gone: bool) -> Any:
    if not place:
        return value
    changed = document.copy()
    key, *rest = place
    if rest or not is_gone:
        changed[key] = _with(document[key], tuple(rest), value, is_gone)
    else:
        del changed[key]
    return changed
