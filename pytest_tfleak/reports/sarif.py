"""Write the leaks of a run as SARIF 2.1.0, which code scanning and editors read.

Each leak is one result, however many tests it fails: at the line that stores its
objects, or else at the one that makes them, or else at the test. The causes are the
rules. What is accepted or expected to fail is no result. Tests without a verdict are
notifications.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pytest_tfleak.quantities import format_count
from pytest_tfleak.reports.document import TOOL
from pytest_tfleak.reports.leaks import Leak
from pytest_tfleak.reports.leaks import group_by_leak
from pytest_tfleak.reports.links import cause_page
from pytest_tfleak.reports.links import site_of_docs
from pytest_tfleak.reports.message import figures_alone
from pytest_tfleak.reports.message import holder_of_leak
from pytest_tfleak.reports.message import how_to_allow
from pytest_tfleak.reports.message import reason_texts
from pytest_tfleak.reports.places import Place
from pytest_tfleak.reports.places import position_in
from pytest_tfleak.reports.text import safe
from pytest_tfleak.reports.words import ordered
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from pytest_tfleak.verdict import version_of

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/"
    "sarif-schema-2.1.0.json"
)
ROOT = "%SRCROOT%"  # as other tools call the top of the repository
#: The rule of leaks whose cause is not known.
UNEXPLAINED = "leak"
_PILES_UP = (
    "Memory or TensorFlow objects pile up from call to call, or stay open after the "
    "test."
)
_LOOK = "Look at the line, and at what holds the objects, as far as they are known."
_MOST_TESTS = 20  # of one leak
_LONGEST_SHORT = 1_000  # characters of a rule's title; GitHub takes 1,024
#: What brackets mean in a message: a link.
_LINK = re.compile(r"\[(?=[^\]]*\]\()")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`])")
_BASELINE = {"new": "new", "worse": "updated"}
_NOTIFICATIONS = {
    "inconclusive": ("warning", "A test was measured without a verdict."),
    "not-measured": ("note", "A test was not measured."),
    "cut-short": ("warning", "The run was cut short."),
}
#: Reasons for which there is nothing to measure.
_WANTED = (Reason.DISABLED, Reason.BODY_SKIPPED, Reason.MEASURES_ITSELF)
_STORED, _MADE = "stored here", "made here"
#: Returns what a cause, given by its name, does and what to do about it.
CauseTexts = Callable[[str], tuple[str, str] | None]
_Object = dict[str, Any]
_Named = tuple[str, _Object]  # what a location is, and the location


def render(
    document: _Object, places: Mapping[str, Place], root: Path, texts_of: CauseTexts
) -> str:
    """Return the text of the file.

    ``places`` has each test of the document; paths are relative to ``root``.
    """
    return json.dumps(make_log(document, places, root, texts_of), indent=1) + "\n"


def make_log(
    document: _Object, places: Mapping[str, Place], root: Path, texts_of: CauseTexts
) -> _Object:
    """Return the log with its one run, as builtins."""
    head = {"schema": document["schema"]}
    verdicts = [Verdict.from_dict({**head, **entry}) for entry in document["tests"]]
    where = Locations(root, places)
    leaks = group_by_leak([v for v in verdicts if where.has_failed(v)])
    rules = list(dict.fromkeys(map(_rule_of, leaks)))
    driver = {
        "name": TOOL,
        "version": document["tool"]["version"],
        "informationUri": site_of_docs(),
        "rules": [_rule(slug, texts_of(slug)) for slug in rules],
        "notifications": [
            {"id": name, "shortDescription": {"text": text}}
            for name, (_, text) in _NOTIFICATIONS.items()
        ],
    }
    invocation = {
        "executionSuccessful": document["complete"],
        "toolExecutionNotifications": [
            *_notifications(verdicts, where),
            *([] if document["complete"] else [_CUT_SHORT]),
        ],
    }
    run = {
        "tool": {"driver": _known(driver)},
        "invocations": [invocation],
        "originalUriBaseIds": {ROOT: {"uri": where.root.as_uri().rstrip("/") + "/"}},
        "columnKind": "unicodeCodePoints",
        "results": [_result(leak, rules, where) for leak in leaks],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def is_in_file(line: Origin) -> bool:
    """Return whether a line is in a file, and not, say, in a cell of a notebook."""
    return not line.file.startswith("<")


class Locations:
    """Makes the locations of tests and of lines of code."""

    def __init__(self, root: Path, places: Mapping[str, Place]) -> None:
        self.root = root.resolve()
        self._places = places

    def has_failed(self, verdict: Verdict) -> bool:
        """Return whether a leak fails its test, and pytest did not expect it."""
        return verdict.status is Status.LEAK and self._places[verdict.nodeid].failed

    def is_inside(self, line: Origin | None) -> bool:
        """Return whether a line is known and in the repository."""
        if line is None or not is_in_file(line):
            return False
        return self._position(line.file) is not None

    def of_line(self, line: Origin) -> _Object:
        """Return the location of a line of code."""
        location = self._physical(line.file, line.line)
        if line.function and line.function != "<module>":
            names = {"fullyQualifiedName": line.function, "kind": "function"}
            location["logicalLocations"] = [names]
        return location

    def of_test(self, nodeid: str) -> _Object:
        """Return the location of a test."""
        place = self._places[nodeid]
        return self._physical(place.file, place.line or 1)

    def _physical(self, file: str, line: int) -> _Object:
        position = self._position(file)
        if position is None:
            file = os.path.abspath(self.root / file)  # noqa: PTH100 - never fails
            artifact = {"uri": Path(file).as_uri()}
        else:
            artifact = {"uri": quote(position, errors="replace"), "uriBaseId": ROOT}
        region = {"startLine": max(line, 1)}
        return {"physicalLocation": {"artifactLocation": artifact, "region": region}}

    def _position(self, file: str) -> str | None:
        position = position_in(self.root, file, None)
        return None if position is None else position[0]


def _rule_of(leak: Leak) -> str:
    return _explained(leak).cause or UNEXPLAINED


def _explained(leak: Leak) -> Finding:
    """Return the most important finding with a cause, or else that of the leak.

    A test with the same leak as an earlier one has no cause of its own.
    """
    findings = (f for verdict in leak.verdicts for f in ordered(verdict.findings))
    return next((finding for finding in findings if finding.cause), leak.lead)


def _rule(slug: str, texts: tuple[str, str] | None) -> _Object:
    explains, remedy = texts or (_PILES_UP, _LOOK)
    page = _guide() if texts is None else cause_page(slug)
    title, *_ = _SENTENCE.split(explains)
    to_do = f"What to do: {remedy}" if remedy else ""
    more = f"[Read more]({page})" if page else ""
    text = "\n\n".join(filter(None, (explains, to_do)))
    markdown = "\n\n".join(filter(None, (explains, to_do, more)))
    rule = {
        "id": slug,
        "name": "".join(word.capitalize() for word in slug.split("-")),
        "shortDescription": {"text": _literal(title[:_LONGEST_SHORT])},
        "fullDescription": {"text": _literal(explains[:_LONGEST_SHORT])},
        "help": {"text": _literal(text), "markdown": _literal(markdown)},
        "helpUri": page,
        "defaultConfiguration": {"level": "error"},
        "properties": {
            "tags": ["memory-leak", "tensorflow"],
            "precision": "very-high",
            "problem.severity": "error",
        },
    }
    return _known(rule)


def _guide() -> str | None:
    site = site_of_docs()
    return f"{site}/guides/when-advice-fails.html" if site else None


def _result(leak: Leak, rules: Sequence[str], where: Locations) -> _Object:
    lead, slug = _located(leak, where), _rule_of(leak)
    line = next(filter(where.is_inside, (lead.stored, lead.origin)), None)
    lines = _other_lines(lead, line, where)
    # without a line, the result is at the first test
    tests = [(safe(name), where.of_test(name)) for name in leak.tests]
    primary, others = (where.of_line(line), tests) if line else (tests[0][1], tests[1:])
    related = _numbered([*lines, *others[:_MOST_TESTS]])
    links = _links(related, len(lines), others)
    result = {
        "ruleId": slug,
        "ruleIndex": rules.index(slug),
        "level": "error",
        "message": {"text": f"{_message(leak)} {links}".rstrip()},
        "locations": [primary],
        "relatedLocations": related or None,
        "codeFlows": _code_flows(lead, where),
        "partialFingerprints": _fingerprints(leak.fingerprint),
        "baselineState": _BASELINE.get(leak.lead.baseline or ""),
        "occurrenceCount": len(tests),
        "properties": _properties(leak),
    }
    return _known(result)


def _located(leak: Leak, where: Locations) -> Finding:
    """Return the most important finding with a line in the repository, if any has."""
    findings = (f for verdict in leak.verdicts for f in ordered(verdict.findings))
    inside = (f for f in findings if any(map(where.is_inside, (f.stored, f.origin))))
    return next(inside, leak.lead)


def _fingerprints(fingerprint: str | None) -> _Object | None:
    if fingerprint is None:
        return None
    version = version_of(fingerprint)
    return {f"tfleak/v{version}": fingerprint.removeprefix(f"{version}:")}


def _properties(leak: Leak) -> _Object:
    lead = leak.lead
    figures = {
        "signal": lead.signal,
        "unit": lead.unit,
        "per_iteration": lead.per_iteration,
        "left": lead.total if lead.per_iteration is None else None,
        "kind": lead.kind,
        "holder": holder_of_leak(lead) or None,
        "tests": list(leak.tests),
    }
    return _known(figures)


def _other_lines(lead: Finding, line: Origin | None, where: Locations) -> list[_Named]:
    """Return the lines of a leak other than that of the result."""
    found = ((_STORED, lead.stored), (_MADE, lead.origin))
    return [
        (words, where.of_line(other))
        for words, other in found
        if other is not None and not _is_same(other, line) and is_in_file(other)
    ]


def _numbered(locations: Sequence[_Named]) -> list[_Object]:
    return [
        {"id": number, "message": {"text": _plain(words)}, **location}
        for number, (words, location) in enumerate(locations, 1)
    ]


def _is_same(line: Origin, other: Origin | None) -> bool:
    return other is not None and (line.file, line.line) == (other.file, other.line)


def _code_flows(lead: Finding, where: Locations) -> list[_Object] | None:
    """Return how the code comes to the line that leaks, if that has several steps."""
    steps = [("called here", line) for line in reversed(lead.stack)]
    if lead.origin is not None:
        steps.append((_MADE, lead.origin))
    if lead.stored is not None and not _is_same(lead.stored, lead.origin):
        steps.append((_STORED, lead.stored))
    steps = [step for step in steps if is_in_file(step[1])]
    if len(steps) < 2:
        return None
    locations = [
        {"location": {"message": {"text": words}, **where.of_line(line)}}
        for words, line in steps
    ]
    return [{"threadFlows": [{"locations": locations}]}]


def _message(leak: Leak) -> str:
    """Return what grows, what holds it, why, what to do, and how to allow it."""
    lead, first, explained = leak.lead, leak.verdicts[0], _explained(leak)
    holder = holder_of_leak(lead)
    figure = next(figures_alone(lead, first))
    allowed = how_to_allow(first, ordered(first.findings))
    texts = [
        f"{figure}; held by {holder}." if holder else f"{figure}.",
        safe(explained.why or ""),
        f"What to do: {safe(explained.advice)}" if explained.advice else "",
        f"To allow it: {allowed}." if allowed else "",
    ]
    return " ".join(_plain(text) for text in texts if text)


def _links(related: Sequence[_Object], lines: int, tests: Sequence[_Named]) -> str:
    """Return sentences with links to the related locations: lines, then tests."""
    texts = [
        f"It is {one['message']['text'].removesuffix(' here')} at {_link(one)}."
        for one in related[:lines]
    ]
    links = [_link(one) for one in related[lines:]]
    rest = len(tests) - len(links)
    links += [f"{format_count(rest)} more"] * (rest > 0)
    return " ".join(texts + ([f"Tests: {', '.join(links)}."] if links else []))


def _link(related: _Object) -> str:
    place = related["physicalLocation"]
    name = f"{place['artifactLocation']['uri']}:{place['region']['startLine']}"
    return f"[{name}]({related['id']})"


def _plain(text: str) -> str:
    """Return a text so that a reader takes no part of it for a link or placeholder."""
    return _literal(_LINK.sub(r"\\[", text))


def _literal(text: str) -> str:
    """Double braces, as SARIF demands in every message (3.11.5).

    A reader that formats messages, such as Microsoft's SDK, fails at a single one.
    """
    return text.replace("{", "{{").replace("}", "}}")


_CUT_SHORT: _Object = {
    "descriptor": {"id": "cut-short"},
    "level": _NOTIFICATIONS["cut-short"][0],
    "message": {"text": "The run was cut short: the remaining tests are missing."},
}


def _notifications(verdicts: Sequence[Verdict], where: Locations) -> Iterator[_Object]:
    """Yield the tests that nobody knows to be clean."""
    for verdict in verdicts:
        name = verdict.status.value.replace("_", "-")
        if name not in _NOTIFICATIONS or verdict.reason in _WANTED:
            continue
        text = f"{safe(verdict.nodeid)}: {next(reason_texts(verdict))}"
        yield {
            "descriptor": {"id": name},
            "level": _NOTIFICATIONS[name][0],
            "message": {"text": _plain(text)},
            "locations": [where.of_test(verdict.nodeid)],
        }


def _known(values: _Object) -> _Object:
    """Leave out what is not known: SARIF has no null."""
    return {key: value for key, value in values.items() if value is not None}
