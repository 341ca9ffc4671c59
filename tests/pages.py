"""Write the parts of the README and of ``docs/`` that come from the code.

A generated part of a page is between ``<!-- generated: NAME -->`` and
``<!-- end of NAME -->``; ``parts`` has the text of each. The pages of the causes are
generated as a whole. ``TFLEAK_REGENERATE=1 pytest tests/meta/test_docs.py`` writes
them.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest_tfleak
from pytest_tfleak.diagnosis.causes import growth
from pytest_tfleak.diagnosis.causes import managers
from pytest_tfleak.diagnosis.causes import proven
from pytest_tfleak.diagnosis.causes import python
from pytest_tfleak.diagnosis.causes import sessions
from pytest_tfleak.diagnosis.causes import system
from pytest_tfleak.diagnosis.causes import tensorflow_objects
from pytest_tfleak.diagnosis.causes.cause import Cause
from pytest_tfleak.diagnosis.causes.in_general import in_general
from pytest_tfleak.known import KNOWN
from pytest_tfleak.known import Known
from pytest_tfleak.known import name_clear_session
from pytest_tfleak.plan import Plan
from pytest_tfleak.plugin import hookspecs
from pytest_tfleak.plugin import item
from pytest_tfleak.plugin.command_line import all_options
from pytest_tfleak.probes.base import Probe
from pytest_tfleak.probes.room import Free
from pytest_tfleak.probes.room import Room
from pytest_tfleak.quantities import format_bytes
from pytest_tfleak.quantities import parse_bytes
from pytest_tfleak.reports.curves import HEIGHT
from pytest_tfleak.reports.curves import WIDTH
from pytest_tfleak.reports.curves import Curve
from pytest_tfleak.reports.curves import describe
from pytest_tfleak.reports.curves import draw_large
from pytest_tfleak.reports.json import read_schema
from pytest_tfleak.signals import SIGNALS
from pytest_tfleak.signals import SignalRow
from pytest_tfleak.signals import row_of
from pytest_tfleak.tf.access import KERASES
from pytest_tfleak.trace import Signal
from tests.planted_pairs import Pair
from tests.planted_pairs import planted_pairs

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CAUSES = DOCS / "causes"
PICTURES_FOLDER = DOCS / "pictures"
#: What the planted leak of each cause says, as the slow tests have seen it.
MESSAGES = ROOT / "tests" / "leaks" / "messages"
_RECORDED = ROOT / "tests" / "quality" / "recorded" / "bodies.jsonl"

#: The files of the table of causes, by what their page of the index calls them.
SUBJECTS: Mapping[str, ModuleType] = {
    "Sessions, graphs and tf.functions": sessions,
    "Models, datasets, tensors": tensorflow_objects,
    "Context managers that a failing call leaves open": managers,
    "Python and its standard library": python,
    "Threads, processes, files": system,
    "How it grows": growth,
    "TensorFlow's own growth, and open scopes": proven,
}
#: Recorded series to show: what is seen, the body, the signal.
PICTURES = (
    (
        "It grows: a `tf.function` is retraced in each call",
        "leaky_retracing",
        "host.heap",
    ),
    (
        "It grows every fifth time: a tensor is kept now and then",
        "leaky_every_fifth_iteration",
        "tf.tensors",
    ),
    (
        "It only fills: a cache that is full in iteration 80",
        "clean_cache_fills_in_the_confirmation",
        "host.heap",
    ),
    (
        "It fades: `model.fit` of one model settles",
        "clean_fit_of_one_model",
        "python.blocks",
    ),
    (
        "It falls: a buffer that is emptied each time it is full",
        "clean_buffer_is_emptied_when_full",
        "tf.tensors",
    ),
    (
        "It steps: the heap shows big tensors late, in blocks",
        "leaky_big_tensors_in_a_queue",
        "host.heap",
    ),
    (
        "The same leak in TensorFlow's own figure",
        "leaky_big_tensors_in_a_queue",
        "host.allocator",
    ),
    (
        "It rises and falls: resident memory beside a clean `model.fit`",
        "clean_fit_of_one_model",
        "host.rss",
    ),
)
_FUNCTIONS = ("find_leaks", "assert_no_leaks")
_VALUES = ("Verdict", "Status", "Reason", "Finding", "SignalReport", "MemorySnapshot")
_ERRORS = ("LeakFailed", "LeakError", "PlanError")
#: Calls per second, for the growth of a day.
_PACES = (1, 10, 100)
_PER_CALL = ("256 B", "1 KiB", "6 KiB", "64 KiB")
_DAY = 24 * 60 * 60


def parts() -> Mapping[str, Callable[[], str]]:
    """Return what writes each generated part, by its name."""
    return {
        "options": _options,
        "signals": _signals,
        "known growth": _known_growth,
        "growth per day": _growth_per_day,
        "pictures": _pictures,
        "fixtures and functions": _interface,
        "probes": _probes,
        "JSON schema": _schema,
    }


def replaced(page: str, name: str, text: str) -> str:
    """Return a page with another text in one of its generated parts."""
    start, end = f"<!-- generated: {name} -->\n", f"<!-- end of {name} -->\n"
    before, found, rest = page.partition(start)
    _, closed, after = rest.partition(end)
    assert found and closed, f"no generated part {name!r}"
    return f"{before}{start}\n{text}\n{end}{after}"


def pages_of_causes() -> Iterator[tuple[Path, str]]:
    """Yield the path and the text of each generated page of ``docs/causes/``."""
    pairs = planted_pairs()
    yield CAUSES / "index.md", _index_of_causes()
    for module in SUBJECTS.values():
        for cause in module.CAUSES:
            assert cause.slug in pairs, _unplanted(cause.slug)
            yield CAUSES / f"{cause.slug}.md", _page_of(cause, pairs[cause.slug])


def _unplanted(slug: str) -> str:
    test = f"test_{slug}".replace("-", "_")
    return f"{slug} has no example: plant `{test}` and `{test}_mended`"


def shown(text: str) -> str:
    """Return a text of a cause, with words for what the case fills in."""
    # Markdown would make __exit__ bold
    dunder = r"(?<![`\w])(__\w+__)(?=[^`]*(?:`[^`]*`[^`]*)*$)"
    return re.sub(dunder, r"`\1`", in_general(text))


def _table(head: str, rows: Iterable[Iterable[str]], align: str = "") -> str:
    columns = head.count("|") + 1
    lines = [f"| {head} |", align or "|---" * columns + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# --- options, signals, known growth


def _options() -> str:
    rows = (
        (
            f"`{row.name if 'marker' in row.sources else row.command_line_flag}`",
            row.default_text,
            row.unit.replace("|", "or"),
            row.help,
            _sources(row.sources),
        )
        for row in all_options()
    )
    return _table("option | default | unit | what | where", rows)


def _sources(sources: frozenset[str]) -> str:
    if len(sources) == 4:
        return "everywhere"
    return ", ".join(s for s in ("marker", "command line", "ini") if s in sources)


def _signals() -> str:
    rows = (
        (f"`{row.name}`", row.grows, _allowed(row), row.look_for) for row in SIGNALS
    )
    return _table(
        "signal | what grows | allowed | what to look for",
        ((n, _cell(g), a, _cell(name_clear_session(w, ""))) for n, g, a, w in rows),
    )


def _allowed(row: SignalRow) -> str:
    if row.allowance is None:
        return "never judged"
    allowance = getattr(Plan(), row.option) if row.option else row.allowance
    per = " per iteration" if row.allows == "rate" else " in all"
    if allowance is None:
        text = f"judged only if you set `{row.option}`"
    else:
        is_bytes = row.unit == "B" and allowance
        text = format_bytes(float(allowance)) if is_bytes else str(allowance or "none")
        text = f"{text}{per if allowance else ''}"
        text = f"{text} (`{row.option}`)" if row.option else text
    if row.instead_of:
        text = f"{text}, if `{row.instead_of}` has no figure"
    return text


def _known_growth() -> str:
    texts = []
    for known in KNOWN:
        issues = ", ".join(map(_issue, known.issues))
        cause = f"[`{known.name}`](causes/{known.name}.md)"
        remedy = _remedy(known)
        fate = f"The test fails. {remedy}" if remedy else "It fails no test."
        versions = _versions(known)
        texts.append(
            f"### {known.title[0].upper()}{known.title[1:]}\n\n"
            f"{versions}. {fate}\n\nRead {issues}; cause {cause}.\n"
        )
    return "\n".join(texts)


def _versions(known: Known) -> str:
    library = " or ".join(
        {"tensorflow": "TensorFlow", "keras": "Keras"}.get(name, name)
        for name in known.libraries
    )
    since = ".".join(map(str, known.since))
    fixed = known.fixed and ".".join(map(str, known.fixed))
    return f"In {library} since {since}" + (f", fixed in {fixed}" if fixed else "")


def _remedy(known: Known) -> str:
    return name_clear_session(known.remedy or "", KERASES[0].clear_session)


def _issue(issue: str) -> str:
    project, found, number = issue.partition("#")
    if found:
        owner = {"keras": "keras-team"}.get(project, project)
        where = f"{owner}/{project}/issues/{number}"
    else:
        where = f"tensorflow/tensorflow/blob/master/{issue}"
    return f"[{issue}](https://github.com/{where})"


def _growth_per_day() -> str:
    rows = (
        (text, *(_per_day(parse_bytes(text) * pace) for pace in _PACES))
        for text in _PER_CALL
    )
    head = "growth per call | " + " | ".join(
        f"{pace} call{'s' if pace > 1 else ''} a second" for pace in _PACES
    )
    return _table(head, rows, "|---|--:|--:|--:|")


def _per_day(per_second: float) -> str:
    megabytes = per_second * _DAY / 1e6
    if megabytes < 1000:
        return f"{megabytes:.0f} MB a day"
    return f"{megabytes / 1000:.0f} GB a day"


# --- pictures


def _pictures() -> str:
    return "\n".join(
        f"**{title}** (`{signal}`)\n\n"
        f"![{describe(curve)}]({path.relative_to(DOCS).as_posix()})\n"
        for (title, _, signal), (path, curve) in zip(PICTURES, _curves(), strict=True)
    )


def pictures() -> Iterator[tuple[Path, str]]:
    """Yield the file and the text of each picture."""
    for path, curve in _curves():
        yield path, f"{_draw_alone(curve)}\n"


def _draw_alone(curve: Curve) -> str:
    """Return a curve as a file, with the colours that a page would give it."""
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
    wider = f'viewBox="-8 -4 {WIDTH + 8} {HEIGHT + 4}"'
    return draw_large(curve).replace(
        box,
        f'xmlns="http://www.w3.org/2000/svg" {wider} color="#1b1f24" '
        'style="background: #fff"',
    )


def _curves() -> Iterator[tuple[Path, Curve]]:
    traces = {
        trace["name"]: trace
        for trace in map(json.loads, _RECORDED.read_text("utf-8").splitlines())
    }
    for _, name, signal in PICTURES:
        path = PICTURES_FOLDER / f"{name}-{signal}.svg".replace("_", "-")
        yield path, _curve(traces[name], signal)


def _curve(trace: Mapping[str, Any], name: str) -> Curve:
    found = trace["signals"][name]
    series, row = found["series"], row_of(name)
    warmup, measured = trace["warmup"], trace["iterations"]
    allowance = row.allowance if row is not None else None
    if isinstance(allowance, str):
        allowance = getattr(Plan(), allowance)
    return Curve(
        name=name,
        unit=found["unit"],
        series=series,
        warmup=warmup,
        confirmation=max(len(series) - warmup - measured, 0),
        allowance=allowance,
    )


# --- the interface


def _interface() -> str:
    from pytest_tfleak.plugin import clear_keras_session
    from pytest_tfleak.plugin import memory_snapshot

    fixtures = (
        _entry("tfleak.check", item.Checker.check, is_method=True),
        _entry("tfleak.snapshot", item.Checker.snapshot, is_method=True),
        _heading("clear_keras_session", "") + _doc(clear_keras_session),
        _heading("memory_snapshot", "()") + _doc(memory_snapshot),
    )
    functions = (_entry(name, getattr(pytest_tfleak, name)) for name in _FUNCTIONS)
    values = (_value(name) for name in _VALUES)
    errors = (_heading(n, "") + _doc(getattr(pytest_tfleak, n)) for n in _ERRORS)
    return "\n".join(
        [
            *("## Fixtures\n", *fixtures, "## Functions\n", *functions),
            *("## Values\n", *values, "## Errors\n", *errors),
        ]
    )


def _probes() -> str:
    methods = (
        _entry(name, method, is_method=True)
        for name, method in vars(Probe).items()
        if inspect.isfunction(method) and not name.startswith("_")
    )
    hook = hookspecs.pytest_tfleak_probes
    signal = _heading("Signal", _fields(Signal)) + _doc(Signal)
    rooms = (
        _heading(kind.__name__, _fields(kind)) + _doc(kind) for kind in (Room, Free)
    )
    texts = [
        *("## The hook\n", _entry(hook.__name__, hook), "## The protocol\n"),
        *(_doc(Probe), *methods, "## A signal\n", signal),
        *("## A resource that may run out\n", *rooms),
    ]
    return "\n".join(texts)


def _entry(
    name: str, function: Callable[..., object], *, is_method: bool = False
) -> str:
    signature = inspect.signature(function)
    if is_method:
        kept = [p for p in signature.parameters.values() if p.name != "self"]
        signature = signature.replace(parameters=kept)
    return _heading(name, str(signature).replace("'", "")) + _doc(function)


def _value(name: str) -> str:
    kind = getattr(pytest_tfleak, name)
    methods = [
        f"- `{n}{'' if isinstance(m, property) else '()'}`: {_first_line(m)}\n"
        for n, m in vars(kind).items()
        if not n.startswith("_")
        and (isinstance(m, property | classmethod) or inspect.isfunction(m))
    ]
    members = [f'- `{m} = "{m.value}"`\n' for m in kind] if _is_enum(kind) else []
    fields = "" if _is_enum(kind) else _fields(kind)
    lists = "".join([*members, *methods])
    return _heading(name, fields) + _doc(kind) + (f"\n{lists}" if lists else "")


def _is_enum(kind: Any) -> bool:
    return hasattr(kind, "__members__")


def _fields(kind: Any) -> str:
    names = getattr(kind, "__dataclass_fields__", getattr(kind, "_fields", ()))
    return f"({', '.join(names)})"


def _heading(name: str, signature: str) -> str:
    code = f"```text\n{_wrapped(name + signature)}\n```\n\n" if signature else ""
    return f"### `{name}`\n\n{code}"


def _wrapped(signature: str) -> str:
    if len(signature) <= 80:
        return signature
    name, _, rest = signature.partition("(")
    inner, _, after = rest.rpartition(")")
    lines: list[str] = []
    for word in inner.split(", "):
        if lines and len(lines[-1]) + len(word) < 74:
            lines[-1] += f" {word},"
        else:
            lines.append(f"    {word},")
    return "\n".join([f"{name}(", *lines, f"){after}"])


def _doc(thing: object) -> str:
    text = inspect.getdoc(thing) or ""
    text = text.partition("\n\nPYTEST_DONT_REWRITE")[0]
    return text.replace("``", "`") + "\n"


def _first_line(thing: object) -> str:
    return _doc(thing).strip().partition("\n")[0]


# --- the schema of the JSON report


def _schema() -> str:
    schema = read_schema()
    texts = ["## The report\n\n" + _keys(schema)]
    for name, part in schema["$defs"].items():
        about = (
            f"{part['description'][0].upper()}{part['description'][1:]}.\n\n"
            if ("description" in part)
            else ""
        )
        body = _keys(part) if "properties" in part else f"{_type(part)}\n"
        texts.append(f"({_anchor(name)})=\n\n## `{name}`\n\n{about}{body}")
    return "\n".join(texts)


def _keys(schema: Mapping[str, Any]) -> str:
    return _table("key | type | what", _rows(schema))


def _rows(schema: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, ...]]:
    required = schema.get("required", ())
    for key, part in schema["properties"].items():
        about = _cell(part.get("description", ""))
        optional = "" if key in required else " (may be missing)"
        yield f"`{before}{key}`{optional}", _type(part), about
        if "properties" in part:
            yield from _rows(part, f"{before}{key}.")


def _type(part: Mapping[str, Any]) -> str:
    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        return f"[{name}](#{_anchor(name)})"
    if "const" in part:
        return f"`{json.dumps(part['const'])}`"
    if "enum" in part:
        return " or ".join(f"`{json.dumps(value)}`" for value in part["enum"])
    if "anyOf" in part:
        return " or ".join(map(_type, part["anyOf"]))
    kinds = part.get("type", "any")
    names = [kinds] if isinstance(kinds, str) else list(kinds)
    if "items" in part and isinstance(part["items"], dict):
        of = _type(part["items"])
        names = [f"array of {of}" if name == "array" else name for name in names]
    return " or ".join(names)


def _anchor(name: str) -> str:
    return f"schema-{name.replace('_', '-')}"


# --- the causes


def _index_of_causes() -> str:
    texts = [_INTRODUCTION]
    for title, module in SUBJECTS.items():
        rows = (
            (f"[`{cause.slug}`]({cause.slug}.md)", _cell(shown(cause.explains)))
            for cause in module.CAUSES
        )
        texts.append(f"## {title}\n\n{_table('cause | what happens', rows)}")
    slugs = [cause.slug for module in SUBJECTS.values() for cause in module.CAUSES]
    tree = "\n".join(["```{toctree}", ":hidden:", "", *slugs, "```"])
    return "\n".join([*texts, tree]) + "\n"


_INTRODUCTION = """\
# Causes

A message names one of these causes if the evidence shows it; the JSON report has the
name as `cause`. Each page has code that leaks for this reason, the message about it,
and mended code. Both are tests of the plugin: the first must be explained by this
cause, and the second must be clean.
"""


def _page_of(cause: Cause, pair: Pair) -> str:
    texts = [
        f"(cause-{cause.slug})=\n\n# `{cause.slug}`\n\n{shown(cause.explains)}\n",
        f"**What to do:** {_remedy_of(cause)}\n",
        *_upstream(cause.slug),
        f"## Code that leaks\n\n```python\n{pair.leaking}```\n",
    ]
    message = MESSAGES / f"{cause.slug}.txt"
    if message.exists():
        text = message.read_text("utf-8")
        texts.append(f"## What the message says\n\n```text\n{text}```\n")
    texts += [
        f"## Mended code\n\n```python\n{pair.mended}```\n",
        f"Both tests are in [{pair.file}](../../tests/leaks/planted/{pair.file}).\n",
    ]
    return "\n".join(texts)


def _remedy_of(cause: Cause) -> str:
    return shown(cause.remedy) or (
        "No remedy is known that fits each case: see "
        "[When the advice does not help](../guides/when-advice-fails.md)."
    )


def _upstream(slug: str) -> Iterator[str]:
    known = next((row for row in KNOWN if row.name == slug), None)
    if known is not None:
        issues = ", ".join(map(_issue, known.issues))
        fate = "" if known.remedy else ' It fails no test, unless `known="fail"`.'
        yield f"This is TensorFlow's own growth: {issues}.{fate}\n"
