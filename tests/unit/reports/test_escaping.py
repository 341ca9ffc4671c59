"""Whatever stands in a name, a path or a message, no report lets it do anything."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html.parser import HTMLParser
from json import loads
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from pytest_tfleak.compare.baseline import baseline_text
from pytest_tfleak.compare.baseline import read_baseline
from pytest_tfleak.compare.baseline import summary_lines as baseline_lines
from pytest_tfleak.compare.reports import compare_reports
from pytest_tfleak.compare.reports import comparison_lines
from pytest_tfleak.compare.reports import read_report
from pytest_tfleak.diagnosis.causes.in_general import texts_of
from pytest_tfleak.plugin.pytest_html import row_extra
from pytest_tfleak.reports import github
from pytest_tfleak.reports import html
from pytest_tfleak.reports import json
from pytest_tfleak.reports import junit
from pytest_tfleak.reports import sarif
from pytest_tfleak.reports.document import make_document
from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.reports.message import headline
from pytest_tfleak.reports.notebook import as_html
from pytest_tfleak.reports.places import Place
from pytest_tfleak.reports.terminal import header_lines
from pytest_tfleak.reports.terminal import summary_lines
from pytest_tfleak.reports.terminal import time_lines
from pytest_tfleak.verdict import Ledger
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from tests.strategies import hostile
from tests.strategies import verdicts

ROOT = Path("/repository").resolve()
runs = st.lists(verdicts, min_size=1, max_size=2)
environments = st.dictionaries(hostile, st.none() | hostile | st.lists(hostile))
#: All that the templates and the curves write.
TAGS = """
a b body button caption code dd details div dl dt fieldset figure footer
form g h1 h2 h3 h4 h5 head header html input label legend li main meta noscript ol p
path pre rect script section small span strong style summary svg table tbody td text
th thead title tr ul wbr
"""
ATTRIBUTES = """
aria-hidden aria-label aria-sort autocomplete charset checked class colspan content
d disabled fill fill-opacity font-family font-size for height hidden href http-equiv
id lang name opacity open preserveaspectratio role rowspan scope spellcheck stroke
stroke-dasharray stroke-linecap stroke-linejoin stroke-opacity stroke-width style
tabindex text-anchor type value viewbox width x y
"""


class Page(HTMLParser):
    """Checks each tag, and counts them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts = 0
        assert_printable(text.split("\n"))
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS.split()
        self.scripts += tag == "script"
        for name, value in attrs:
            assert name in ATTRIBUTES.split() or name.startswith("data-"), name
            assert name != "href" or (value or "").startswith("#")

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    handle_pi = unknown_decl = handle_comment


def assert_printable(lines: Iterable[str]) -> None:
    for line in lines:
        assert line.isprintable(), ascii(line)


def ledger_of(found: Iterable[Verdict]) -> Ledger:
    ledger = Ledger()
    for verdict in found:
        ledger.add(verdict)
    return ledger


@given(verdicts, st.integers(-5, 200), st.booleans())
def test_messages(verdict: Verdict, width: int, unicode: bool) -> None:
    text = failure_text(verdict, width, unicode, callers=True)
    assert_printable(text.split("\n"))
    assert unicode or text.isascii()
    assert_printable([headline(verdict)])


@given(runs, st.integers(-1, 2), st.integers(20, 200), st.booleans())
def test_the_terminal(
    found: list[Verdict], verbosity: int, width: int, unicode: bool
) -> None:
    lines = summary_lines(ledger_of(found), verbosity, width, unicode)
    lines += time_lines(ledger_of(found), verbosity, width, unicode)
    assert_printable(line.text for line in lines)
    assert unicode or all(line.text.isascii() for line in lines)


@given(st.lists(st.tuples(hostile, st.none() | hostile)))
def test_the_header(probes: list[tuple[str, str | None]]) -> None:
    assert_printable(header_lines(probes))


@given(runs, environments, hostile)
def test_web_pages(found: list[Verdict], facts: dict[str, Any], file: str) -> None:
    document = make_document(
        found, facts, complete=False, baseline=baseline_of(found, file)
    )
    assert Page(html.render(document)).scripts == 1
    for verdict in found:
        for text in (row_extra(verdict.to_dict()), as_html(verdict)):
            assert Page(text).scripts == 0


def baseline_of(found: list[Verdict], file: str) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        return read_baseline(Path(folder, "none")).summary(found) | {"file": file}


@given(runs, environments)
def test_json(found: list[Verdict], facts: dict[str, Any]) -> None:
    document = make_document(found, facts, complete=True)
    text = json.render(document)
    assert text.isascii()
    assert loads(text, parse_constant=refuse) == document


@given(runs)
def test_sarif(found: list[Verdict]) -> None:
    document = make_document(found, {}, complete=False)
    text = sarif.render(document, places_of(document), ROOT, texts_of)
    assert text.isascii()
    (run,) = loads(text, parse_constant=refuse)["runs"]
    messages = [result["message"]["text"] for result in run["results"]]
    for result in run["results"]:
        messages += [
            one["message"]["text"] for one in result.get("relatedLocations", ())
        ]
    assert_printable(messages)
    for text in messages:  # links lead to locations of the result, and nowhere else
        for target in re.findall(r"(?<!\\)\[[^\]]*\]\(([^)]*)\)", text):
            assert target.isdigit(), text


def places_of(document: dict[str, Any]) -> dict[str, Place]:
    return {
        test["nodeid"]: Place(file=str(ROOT / test["nodeid"]), line=1, failed=True)
        for test in document["tests"]
    }


def refuse(name: str) -> None:
    raise AssertionError(name)


@given(runs)
def test_annotations(found: list[Verdict]) -> None:
    document = make_document(found, {}, complete=True)
    for line in github.commands(document, places_of(document), ROOT):
        assert_printable([line])
        shape = r"::(error|warning) (file=[^:,]*,line=\d+,)?title=[^:,]*::"
        assert re.match(shape, line), line


@given(runs)
def test_the_summary_of_a_step(found: list[Verdict]) -> None:
    text = github.step_summary(make_document(found, {}, complete=True))
    assert_printable(text.split("\n"))
    for row in re.findall(r"^\|.*", text, re.MULTILINE)[2:]:
        cells = row.replace("<br>", "").split("|")
        assert len(cells) == 5
        for cell in cells[1:-1]:
            plain = re.sub(r"&#\d+;", "", cell)
            assert not re.search(r"[<>&`*_~\[\]\\!@#\"']", plain), row


@given(verdicts)
def test_properties_of_a_junit_file(verdict: Verdict) -> None:
    element = ElementTree.Element("properties")
    pairs = junit.properties(verdict)
    for name, value in pairs:
        ElementTree.SubElement(element, "property", name=name, value=value)
    again = ElementTree.fromstring(ElementTree.tostring(element, encoding="utf-8"))
    assert [(one.get("name"), one.get("value")) for one in again] == pairs
    assert_printable(text for pair in pairs for text in pair)


@given(runs, hostile, st.booleans())
def test_baselines(found: list[Verdict], file: str, unicode: bool) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "baseline.json")
        path.write_text(baseline_text(found), "ascii")
        baseline = read_baseline(path)
    named = [verdict for verdict in found if verdict.status is Status.LEAK]
    for verdict in named:
        _, notes = baseline.accept(verdict.nodeid, verdict.findings)
        assert_printable(notes)
    summary = baseline.summary(found) | {"file": file}
    assert_printable(baseline_lines(summary, 1, 80, unicode))


@given(runs, runs, environments, st.booleans())
def test_comparisons(
    before: list[Verdict], now: list[Verdict], facts: dict[str, Any], unicode: bool
) -> None:
    def report(name: str, found: list[Verdict]) -> Any:
        path = Path(folder, name)
        document = make_document(found, facts, complete=True)
        path.write_text(json.render(document), "ascii")
        return read_report(path)

    with TemporaryDirectory() as folder:
        compared = compare_reports(report("before", before), report("now", now))
    assert_printable(comparison_lines(compared, 80, unicode, show_all=True))
