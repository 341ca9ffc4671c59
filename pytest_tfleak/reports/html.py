"""Write the document as one HTML page that needs no network and no other file.

Each test is a row group: its figures, and ``<details>`` that work without a script. The
script only sorts and filters. Jinja2 escapes all texts from tests and libraries, and
the page's policy allows no script other than its own.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING
from typing import Any

from pytest_tfleak.quantities import format_count
from pytest_tfleak.quantities import format_seconds
from pytest_tfleak.reports.curves import Curve
from pytest_tfleak.reports.curves import draw_large
from pytest_tfleak.reports.curves import draw_small
from pytest_tfleak.reports.message import count_of
from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.reports.message import took_by_part
from pytest_tfleak.reports.page import LeakEntry
from pytest_tfleak.reports.page import cut
from pytest_tfleak.reports.page import make_entry
from pytest_tfleak.reports.page import make_leak_entries
from pytest_tfleak.reports.text import short_name
from pytest_tfleak.reports.text import signed
from pytest_tfleak.reports.words import STATUSES
from pytest_tfleak.verdict import SCHEMA
from pytest_tfleak.verdict import Ledger
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

if TYPE_CHECKING:
    from jinja2 import Environment

#: Only so many tests, the worst, have large curves and their message, to keep the page
#: small.
MOST_FULL = 250
#: So many leaks are open at first, and so many are listed before "more leaks".
MOST_OPEN, MOST_LEAKS = 5, 20
_LONGEST_MESSAGE = 10_000
_CODE = re.compile("`([^`]+)`")


def render(document: dict[str, Any]) -> str:
    """Return the page for a document; the same document always gives the same text."""
    ledger = Ledger()
    for data in document["tests"]:
        ledger.add(Verdict.from_dict({**data, "schema": SCHEMA}))
    verdicts = ledger.verdicts()
    entries = [make_entry(verdict) for verdict in verdicts]
    places = {v.nodeid: place for place, v in reversed([*enumerate(verdicts)])}
    leaks = make_leak_entries(verdicts, places)
    counts = ledger.counts()
    style, script = _source("page.css"), _source("page.js")
    return (
        make_templates()
        .get_template("page.html")
        .render(
            style=style,
            script=script,
            style_hash=_hash(style),
            script_hash=_hash(script),
            tool=document["tool"],
            complete=document["complete"],
            title=_title(ledger, leaks),
            headline=_headline(ledger),
            counts=counts,
            entries=entries,
            leaks=leaks,
            places=places,
            most_open=MOST_OPEN,
            most_leaks=MOST_LEAKS,
            most_full=MOST_FULL,
            known=sum(bool(entry.accepted) for entry in entries),
            seconds=sum(entry.verdict.seconds for entry in entries),
            bodies=sum(entry.verdict.body_seconds for entry in entries),
            parts=took_by_part(verdicts),
            environment=_table(document["environment"]),
            baseline=document["baseline"],
            differences=list(_differences(document["baseline"] or {})),
        )
    )


@cache
def make_templates() -> Environment:
    """Return the environment of this package's templates, with escaping on."""
    from jinja2 import Environment
    from jinja2 import PackageLoader
    from jinja2 import StrictUndefined

    templates = Environment(
        loader=PackageLoader("pytest_tfleak.reports"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    templates.filters.update(
        code=_code, count=format_count, cut=cut, seconds=format_seconds, signed=signed
    )
    templates.globals.update(
        words=STATUSES, count_of=count_of, small=_small, large=_large, message=_message
    )
    return templates


def _code(text: str) -> str:
    """Return a sentence as HTML, with what stands between backticks as code."""
    from markupsafe import Markup
    from markupsafe import escape

    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


def _message(verdict: Verdict) -> str:
    return failure_text(verdict)[:_LONGEST_MESSAGE]


def _small(curve: Curve | None) -> str:
    from markupsafe import Markup

    return Markup(draw_small(curve) if curve else "")


def _large(curve: Curve | None) -> str:
    from markupsafe import Markup

    return Markup(draw_large(curve) if curve else "")


def _source(name: str) -> str:
    path = files("pytest_tfleak.reports") / "templates" / name
    return path.read_text("utf-8")


def _hash(text: str) -> str:
    """Return the hash by which the policy recognises our own script and style."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{b64encode(digest).decode('ascii')}"


def _title(ledger: Ledger, leaks: Sequence[LeakEntry]) -> str:
    none = "no new leak" if _recorded(ledger) else "no leak"
    return f"{count_of(len(leaks), 'leak') if leaks else none} in {_tests(ledger)}"


def _headline(ledger: Ledger) -> str:
    """Return the result of the run in one sentence."""
    counts = ledger.counts()
    total, leaks, clean = (
        sum(counts.values()),
        counts[Status.LEAK],
        counts[Status.CLEAN],
    )
    if not total:
        return "No test was measured"
    if leaks:
        verb = "leaks" if leaks == 1 else "leak"
        return f"{format_count(leaks)} of {_tests(ledger)} {verb}"
    if recorded := _recorded(ledger):
        of = f"{format_count(recorded)} of {_tests(ledger)}"
        return f"No new leak; {of} as in the baseline"
    if clean == total:
        return f"No leak in {_tests(ledger)}"
    return f"No leak found; {format_count(clean)} of {_tests(ledger)} clean"


def _recorded(ledger: Ledger) -> int:
    """Return how many tests have a leak that the baseline accepts."""
    return sum(bool(verdict.recorded) for verdict in ledger.verdicts())


def _tests(ledger: Ledger) -> str:
    """Return the number of tests as text; a test may have several verdicts."""
    verdicts = ledger.verdicts()
    names = {verdict.nodeid for verdict in verdicts}
    noun = "test" if len(names) == len(verdicts) else "check"
    return count_of(len(verdicts), noun)


def _differences(baseline: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield what differs from the baseline: group, test, growth and old growth."""
    for word in ("worse", "new", "gone", "accepted"):
        for row in baseline.get(word, ()):
            now, before = _growth_of(row, row), row["recorded"]
            yield word, cut(row["nodeid"], 300), now, _growth_of(row, before)


def _growth_of(row: dict[str, Any], figures: dict[str, Any] | None) -> str:
    if figures is None:
        return ""
    signal, rate = short_name(row["signal"]), figures["per_iteration"]
    if rate is None:
        return f"{signal} {format_count(figures['left'] or 0)} left"
    return f"{signal} {signed(rate, row['unit'])} per iteration"


def _table(facts: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Return names with their texts; a list has one text for each item."""
    return [
        (cut(str(name), 100), [cut(_text(item)) for item in _listed(value)])
        for name, value in facts.items()
    ]


def _listed(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [f"{key}: {_text(item)}" for key, item in value.items()]
    return (value or ["none"]) if isinstance(value, list) else [value]


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_text(item)}" for key, item in value.items())
    return str(value)
