from __future__ import annotations

import dataclasses
import hashlib
import re
from base64 import b64encode
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_tfleak.plan import Plan
from pytest_tfleak.plugin.pytest_html import row_extra
from pytest_tfleak.reports.html import MOST_FULL
from pytest_tfleak.reports.html import MOST_LEAKS
from pytest_tfleak.reports.html import MOST_OPEN
from pytest_tfleak.reports.html import render
from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.reports.message import headline
from pytest_tfleak.signals import make_signal
from pytest_tfleak.testing import trace_of
from pytest_tfleak.trace import Signal
from pytest_tfleak.verdict import Experiment
from pytest_tfleak.verdict import FailedCall
from pytest_tfleak.verdict import FailingCalls
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import SameAs
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from tests.builders import make_report
from tests.builders import path_to
from tests.quality.simulate import verdict_of

HEAP = Signal(name="host.heap", unit="B", allowance="host_per_iteration")
HOSTILE = (
    "</noscript></script><script>alert(1)</script><img src=x onerror=alert(2)>"
    "\"'`{{ 7*7 }}\x1b[31m\ud800\u202egnp\n"
)
ORIGIN = Origin(file="src/cache.py", line=88, function="remember", text="  keep(x)")


def measured(
    nodeid: str, signal: Signal | None = None, step: int = 1, **more: Any
) -> Verdict:
    """Return the judge's verdict on readings that grow by the same step."""
    readings = [step * row for row in range(1, 106)]
    trace = trace_of(readings, signal=signal, warmup=5, confirmed=50)
    return dataclasses.replace(verdict_of(trace, Plan(), nodeid), **more)


def diagnosed(nodeid: str, **more: Any) -> Verdict:
    verdict = measured(nodeid)
    fields: dict[str, Any] = {
        "what": "1 EagerTensor per iteration",
        "fingerprint": "a41c",
        "path": path_to("ops.EagerTensor", at="app.SHARED"),
        "origin": ORIGIN,
        "stack": (dataclasses.replace(ORIGIN, line=12, function="caller"),),
        "native": ("tensorflow::Inner", "tensorflow::Outer"),
        "experiments": (Experiment(name="with less", per_iteration=0.25),),
        "cause": "kept-in-a-list",
        "why": "A list keeps it.",
        "advice": "clear the list",
        "baseline": "new",
    }
    finding = dataclasses.replace(verdict.findings[0], **(fields | more))
    return dataclasses.replace(verdict, findings=(finding,))


def not_measured(nodeid: str, **more: Any) -> Verdict:
    return Verdict(
        nodeid=nodeid,
        status=Status.NOT_MEASURED,
        reason=Reason.BODY_FAILED,
        **({"detail": "the test failed in iteration 3"} | more),
    )


def in_baseline(nodeid: str) -> Verdict:
    verdict = measured(nodeid, status=Status.CLEAN)
    accepted = dataclasses.replace(
        verdict.findings[0], accepted=True, baseline="accepted"
    )
    return dataclasses.replace(verdict, findings=(accepted,))


def document(*verdicts: Verdict, **more: Any) -> dict[str, Any]:
    tests = [verdict.to_dict() for verdict in verdicts]
    for test in tests:
        del test["schema"]
    return {
        "schema": 1,
        "tool": {"name": "pytest-tfleak", "version": "1.2.3"},
        "environment": {"python": "3.11", "tensorflow": None, "gpu": ["A", "B"]},
        "complete": True,
        "baseline": None,
        "tests": tests,
        **more,
    }


class Page(HTMLParser):
    """The tags of a page with their attributes, and all its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.pieces: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        return [
            found
            for name, found in self.tags
            if name == tag and attributes.items() <= found.items()
        ]


def details_of(html: str) -> str:
    """Return what the list of tests shows of a page, as HTML."""
    tests = html.partition('id="tests"')[2]
    return re.sub("<pre hidden.*?</pre>", "", tests, flags=re.DOTALL)


def test_a_page_needs_no_other_file_and_no_network() -> None:
    page = Page(render(document(diagnosed("test_a.py::test_b"))))
    for _, attributes in page.tags:
        assert not {"src", "srcset", "style", "onclick"} & set(attributes)
        assert attributes.get("href", "#").startswith("#")
    assert not page.all("link") and not page.all("iframe")
    assert "@import" not in page.text and "url(" not in page.text


def test_leaks_come_first_with_links_to_their_tests() -> None:
    shared = diagnosed("test_a.py::test_b")
    verdicts = [
        shared,
        dataclasses.replace(shared, nodeid="test_a.py::<c>"),
        measured("test_a.py::test_d"),
        not_measured("test_a.py::test_e"),
    ]
    html = render(document(*verdicts))
    page = Page(html)
    section = html.partition('id="leaks"')[2].partition("</section>")[0]
    assert section.count("<li><details open>") == 2
    assert "<h2>2 leaks</h2>" in section
    assert "A list keeps it." in section and "clear the list" in section
    assert "&lt;c&gt;" in section
    linked = [link["href"] for link in page.all("a")]
    assert len(linked) == 3
    rows = {f"#{row['id']}" for row in page.all("tbody") if "id" in row}
    assert set(linked) < rows


def test_a_leak_of_many_tests_lists_them_once_opened() -> None:
    shared = diagnosed("test_a.py::test_b")
    verdicts = [dataclasses.replace(shared, nodeid=f"test_{k}") for k in range(6)]
    html = render(document(*verdicts))
    section = html.partition('id="leaks"')[2].partition("</section>")[0]
    assert "<details><summary>6 tests</summary>" in section
    assert "tfleak: 1 leak in 6 tests" in Page(html).text


def test_the_tests_follow_after_the_worst_leaks() -> None:
    verdicts = [measured(f"t.py::test_{n}") for n in range(MOST_LEAKS + 3)]
    html = render(document(*verdicts))
    section = html.partition('id="leaks"')[2].partition("</section>")[0]
    shown, _, rest = section.partition("<summary>3 more leaks</summary><noscript>")
    assert shown.count("<li><details open>") == MOST_OPEN
    assert shown.count("<li>") - shown.count("test-") == MOST_LEAKS
    assert rest.count("href=") == 3


def test_leaks_of_one_test_stand_apart() -> None:
    verdict = diagnosed("t.py::test_a")
    other = dataclasses.replace(
        verdict.findings[0],
        signal="process.fds",
        fingerprint="b52d",
        path=path_to("io.FileIO", at="app.FILES"),
        origin=dataclasses.replace(ORIGIN, line=99),
        advice="close the file",
    )
    both = dataclasses.replace(verdict, findings=(*verdict.findings, other))
    html = details_of(render(document(both)))
    assert "1 more leak" in html
    first, _, second = html.partition("<span>Leak 2 of 2</span>")
    assert "<span>Leak 1 of 2</span> eager tensors" in first
    assert "clear the list" in first and "close the file" not in first
    assert "open file descriptors" in second and "close the file" in second


def test_what_is_between_backticks_is_code() -> None:
    advice = "call `clear()` or `<del>`; a ` stays"
    for html in (
        render(document(diagnosed("t.py::test_a", advice=advice))),
        row_extra(diagnosed("t.py::test_a", advice=advice).to_dict()),
    ):
        text = "call <code>clear()</code> or <code>&lt;del&gt;</code>; a ` stays"
        assert text in html


def test_the_message_and_what_allows_it_can_be_copied() -> None:
    verdict = diagnosed("t.py::test_a")
    left = dataclasses.replace(
        verdict.findings[0], signal="tf.graphs", unit="graphs", allow="graphs"
    )
    both = dataclasses.replace(verdict, findings=(*verdict.findings, left))
    html = render(document(both))
    (message, allowed) = re.findall(
        "data-copy=.*?>(.*?)</(?:pre|code)>", html, re.DOTALL
    )
    assert unescape(message) == failure_text(both)
    assert allowed == "@pytest.mark.tfleak(graphs=105, tensors=1)"
    assert "graphs counts over the whole run, the rest per iteration" in html


def test_growth_is_sorted_by_unit() -> None:
    left = dataclasses.replace(
        measured("a").findings[0], signal="tf.sessions", per_iteration=None, total=3
    )
    verdicts = (
        measured("a"),
        measured("b", HEAP, step=66_150),
        measured("c", findings=(left,)),
        not_measured("d"),
    )
    page = Page(render(document(*verdicts)))
    found = {
        row["id"]: (row["data-growth"], row["data-unit"])
        for row in page.all("tbody")
        if "data-unit" in row
    }
    assert sorted(found.values()) == [
        ("", ""),
        ("1.0", "tensors"),
        ("3", "tensors open"),
        ("66150.0", "B"),
    ]


def test_an_entry_refers_to_the_test_that_explains_it() -> None:
    line = Origin(file="app.py", line=3, function="f", text="")
    test = SameAs(nodeid="test_a.py::test_first", origin=line)
    verdict = dataclasses.replace(diagnosed("test_a.py::test_b"), same_as=test)
    assert "test_a.py::test_first: app.py:3" in Page(render(document(verdict))).text
    first = diagnosed("test_a.py::test_first", advice="as above")
    html = details_of(render(document(verdict, first)))
    link = '<a href="#test-1"><code>test_a.py::test_first: app.py:3</code></a>'
    assert link in html


def test_the_policy_allows_only_our_own_script_and_style() -> None:
    html = render(document(measured("test_a.py::test_b")))
    page = Page(html)
    (meta,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    for tag in ("script", "style"):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in meta["content"]
    assert "default-src 'none'" in meta["content"]


def test_the_same_document_makes_the_same_page() -> None:
    verdicts = [measured("a.py::a", step=2), not_measured("a.py::b"), measured("c")]
    assert render(document(*verdicts)) == render(document(*verdicts))
    assert render(document(*verdicts)) == render(document(*reversed(verdicts)))


def test_the_worst_test_comes_first() -> None:
    html = render(
        document(
            not_measured("t.py::broken"),
            measured("t.py::clean", HEAP, step=0),
            measured("t.py::leaky"),
        )
    )
    places = [html.index(f"<wbr>{name}") for name in ("leaky", "broken", "clean")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("verdicts", "says"),
    [
        ([], "No test was measured"),
        ([measured("a")], "1 of 1 test leaks"),
        ([measured("a"), measured("b"), not_measured("c")], "2 of 3 tests leak"),
        ([measured("a"), measured("a")], "2 of 2 checks leak"),
        ([measured("a", HEAP, 0), measured("b", HEAP, 0)], "No leak in 2 tests"),
        ([measured("a", HEAP, 0), not_measured("b")], "No leak found; 1 of 2 tests"),
        ([in_baseline("a"), measured("b", HEAP, 0)], "No new leak; 1 of 2 tests as in"),
    ],
)
def test_the_first_line_says_what_came_out(verdicts: list[Verdict], says: str) -> None:
    assert says in Page(render(document(*verdicts))).text


def test_a_finding_is_shown_with_all_that_is_known_of_it() -> None:
    text = Page(render(document(diagnosed("t.py::test_a")))).text
    for part in (
        "1 EagerTensor per iteration",
        "app.SHARED",
        "src/cache.py:88 in remember",
        "keep(x)",
        "src/cache.py:12 in caller",
        "tensorflow::Inner",
        "tried with less: tf.tensors went from 1 to 0.25",
        "A list keeps it.",
        "clear the list",
        "not in the baseline",
        "a41c",
        "@pytest.mark.tfleak(tensors=1)",
        "5 warm-up + 50 measured + 50 confirmation",
    ):
        assert part in text


def test_figures_are_those_of_the_terminal() -> None:
    verdict = measured("t.py::test_a", HEAP, step=66_150)
    text = Page(render(document(verdict))).text
    assert headline(verdict) in text
    assert "+64.6 KiB" in text and "6 KiB (1,077 %)" in text


def test_growth_in_all_is_held_against_what_is_allowed_in_all() -> None:
    signal = dataclasses.replace(HEAP, total="host_total")
    trace = trace_of(range(0, 105 * 64, 64), signal=signal, warmup=5, confirmed=50)
    verdict = verdict_of(trace, Plan(host_total=1_024), "t.py::test_a")
    text = Page(render(document(verdict))).text
    assert "+3.1 KiB in all" in text and "allowed: 1 KiB in all" in text


def test_a_finding_says_which_calls_have_to_fail() -> None:
    call = FailedCall(number=2, operation="MatMul", origin=ORIGIN)
    failing = FailingCalls(count=1, total=3, first=call, last=call)
    verdict = diagnosed("test_x", failing=failing, allowance=0.5)
    page = Page(render(document(verdict))).text
    assert "only when call 2 of the 3 TensorFlow calls fails: MatMul at" in page
    assert "allowed: 0.5 per failed call" in page
    assert "1 EagerTensor per failed call" in page


def test_objects_that_are_left_are_shown_without_a_rate() -> None:
    trace = trace_of([0] * 55, signal=dataclasses.replace(HEAP, name="x"), warmup=5)
    finding = dataclasses.replace(
        measured("a").findings[0], signal="tf.sessions", per_iteration=None, total=1
    )
    verdict = dataclasses.replace(
        verdict_of(trace, Plan(), "t.py::test_a"),
        status=Status.LEAK,
        findings=(finding,),
    )
    text = Page(render(document(verdict))).text
    assert "1 session is still open after the test" in text and "1 open" in text


def test_accepted_growth_is_distinguished_from_what_fails() -> None:
    finding = measured("a", HEAP, step=66_150).findings[0]
    known = dataclasses.replace(finding, accepted=True, known="xla-executables")
    recorded = dataclasses.replace(finding, accepted=True, baseline="accepted")
    verdict = measured("t.py::a", status=Status.CLEAN, findings=(known, recorded))
    text = Page(render(document(verdict))).text
    assert "known growth: XLA executables (tensorflow#64170) 64.6 KiB" in text
    assert "in the baseline: host.heap +64.6 KiB per iteration" in text
    assert "Growth that does not fail the test" in text
    assert "1 with growth that is accepted" in text


def test_one_explanation_is_given_once() -> None:
    first = diagnosed("t.py::test_a")
    second = dataclasses.replace(first.findings[0], signal="tf.variables")
    both = dataclasses.replace(first, findings=(first.findings[0], second))
    text = details_of(render(document(both)))
    assert text.count("clear the list") == 1
    assert text.count("src/cache.py:88 in remember") == 1


def test_a_signal_that_was_not_read_says_why() -> None:
    reports = [
        make_report(name, None, status=status, reason=reason)
        for name, status, reason in (
            ("gpu.allocator[GPU:0]", "unavailable", "no GPU"),
            ("gpu.peak[GPU:0]", "unavailable", "no GPU"),
            ("host.rss", "untrusted", None),
        )
    ]
    text = Page(render(document(measured("a", signals=tuple(reports))))).text
    assert "unavailable: no GPU gpu.allocator[GPU:0], gpu.peak[GPU:0]" in text
    assert "untrusted: no reason given host.rss" in text


def test_level_signals_are_one_line_and_moving_ones_a_table() -> None:
    text = Page(render(document(measured("a", HEAP, step=0)))).text
    assert "level host.heap 0 B" in text and "Signals that moved" not in text


def test_tables_have_headers_that_say_what_they_head() -> None:
    page = Page(render(document(measured("a"), measured("b", HEAP))))
    assert {head.get("scope") for head in page.all("th")} == {"col", "row", "rowgroup"}
    (sorted_by,) = [head for head in page.all("th") if "aria-sort" in head]
    assert sorted_by == {
        "role": "columnheader",
        "scope": "col",
        "class": "v",
        "data-sort": "verdict",
        "aria-sort": "descending",
    }
    assert page.all("caption") and page.all("html", lang="en")


def test_a_run_that_was_cut_short_says_so() -> None:
    text = "The run did not end."
    assert text in Page(render(document(complete=False))).text
    assert text not in Page(render(document())).text


def test_the_environment_is_a_table() -> None:
    text = Page(render(document())).text
    assert "python 3.11 tensorflow none gpu A B" in text
    none = document(environment={"gpu": [], "lacks": []})
    assert "gpu none lacks none" in Page(render(none)).text


def test_a_tool_without_a_version_is_named() -> None:
    tool = {"name": "pytest-tfleak", "version": None}
    text = Page(render(document(tool=tool))).text
    assert "pytest-tfleak" in text and "None" not in text


def test_the_baseline_is_compared() -> None:
    row = {
        "nodeid": "t.py::<b>",
        "signal": "tf.tensors",
        "unit": "tensors",
        "kind": None,
        "fingerprint": None,
        "per_iteration": 2.0,
        "left": None,
        "recorded": {"per_iteration": 1.0, "left": None},
    }
    left = {**row, "per_iteration": None, "left": 3, "recorded": None}
    baseline = {"file": "base.json", "recorded": False, "worse": [row], "new": [left]}
    text = Page(render(document(baseline=baseline))).text
    assert "Compared with base.json." in text
    assert "worse t.py::<b> tf.tensors +2 per iteration tf.tensors +1 per it" in text
    assert "new t.py::<b> tf.tensors 3 left" in text
    recorded = {"file": "base.json", "recorded": True}
    assert "There was none" in Page(render(document(baseline=recorded))).text


def hostile() -> Verdict:
    origin = Origin(file=HOSTILE, line=1, function=HOSTILE, text=HOSTILE)
    verdict = diagnosed(
        HOSTILE,
        what=HOSTILE,
        kind=HOSTILE,
        fingerprint=HOSTILE,
        path=path_to(HOSTILE, at=f"app.{HOSTILE}"),
        origin=origin,
        stack=(origin,),
        stored=dataclasses.replace(origin, line=2),
        native=(HOSTILE,),
        experiments=(Experiment(name=HOSTILE, per_iteration=1.0),),
        why=HOSTILE,
        advice=HOSTILE,
        allow=HOSTILE,
        known=HOSTILE,
    )
    signal = dataclasses.replace(verdict.signals[0], name=HOSTILE, unit=HOSTILE)
    missing = dataclasses.replace(signal, status="unavailable", reason=HOSTILE)
    return dataclasses.replace(
        verdict, signals=(*verdict.signals, signal, missing), notes=(HOSTILE,)
    )


def test_hostile_text_stays_text() -> None:
    verdicts = hostile(), not_measured(HOSTILE, detail=HOSTILE)
    html = render(
        document(
            *verdicts,
            environment={HOSTILE: HOSTILE, "list": [HOSTILE]},
            tool={"name": HOSTILE, "version": HOSTILE},
            baseline={"file": HOSTILE, "recorded": False},
        )
    )
    page = Page(html)
    assert len(page.all("script")) == 1 and not page.all("img")
    assert html.count("</noscript>") == len(page.all("noscript")) == len(verdicts)
    assert_harmless(html)


def test_hostile_text_stays_text_in_a_row_of_another_page() -> None:
    html = row_extra(hostile().to_dict())
    page = Page(html)
    assert not page.all("script") and not page.all("img")
    assert_harmless(html)


def assert_harmless(html: str) -> None:
    html.encode("utf-8")
    shown = unescape(html)
    assert "\\x1b[31m\\ud800\\u202egnp\\n" in shown and "{{ 7*7 }}" in shown
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", html)


@pytest.mark.parametrize("field", ["what", "advice", "why", "kind", "fingerprint"])
def test_a_long_text_is_cut_and_says_how_much_is_missing(field: str) -> None:
    html = render(document(diagnosed("a", **{field: "<" * 100_000})))
    assert len(html) < 100_000
    if field != "kind":
        assert "more characters)" in html


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    html = render(document(measured("test_begin" + "x" * 100_000 + "end]")))
    assert "test_begin" in html and len(html) < 100_000
    many = render(document(diagnosed("a", native=("edge",) * 10_000)))
    assert "(9,970 more)" in many


@settings(max_examples=25, deadline=None)
@given(st.text(), st.text())
def test_any_text_can_be_written_as_utf_8(name: str, text: str) -> None:
    html = render(document(not_measured(name, detail=text, notes=(text,))))
    html.encode("utf-8")
    assert len(Page(html).all("script")) == 1


def test_only_the_worst_tests_have_large_curves() -> None:
    verdicts = [measured(f"t.py::{n:04}") for n in range(MOST_FULL + 5)]
    page = Page(render(document(*verdicts)))
    assert len(page.all("svg", **{"class": "chart"})) == MOST_FULL
    assert len(page.all("svg", **{"class": "s"})) == 2 * len(verdicts)
    assert len(page.all("pre", **{"data-copy": "Copy message"})) == MOST_FULL
    assert f"the {MOST_FULL} worst tests have them" in page.text


def test_a_clean_test_shows_the_signal_closest_to_its_allowance() -> None:
    verdict = measured("t.py::test_a", HEAP, step=64)
    assert verdict.status is Status.CLEAN
    page = Page(render(document(verdict)))
    (curve,) = page.all("svg", **{"class": "chart"})
    assert "allowed: 6 KiB per iteration" in curve["aria-label"]
    assert "closest: host.heap 64 B of 6 KiB (1 %)" in page.text


def test_what_may_be_left_is_allowed_in_all_and_not_per_iteration() -> None:
    trace = trace_of(
        range(105), signal=make_signal("tf.sessions"), warmup=5, confirmed=50
    )
    verdict = verdict_of(trace, Plan(sessions=110), "t.py::test_a")
    page = Page(render(document(verdict)))
    (curve,) = page.all("svg", **{"class": "chart"})
    assert "allowed: 110 in all" in curve["aria-label"]
    assert "closest: tf.sessions 99 of 110 in all (90 %)" in page.text


def test_a_row_has_the_curve_and_the_findings() -> None:
    page = Page(row_extra(diagnosed("t.py::test_a").to_dict()))
    assert len(page.all("svg", role="img")) == 1
    assert "app.SHARED" in page.text and "clear the list" in page.text
    assert headline(diagnosed("t.py::test_a")) in page.text


def test_a_row_does_not_repeat_what_its_log_says() -> None:
    verdict = diagnosed("t.py::test_a")
    second = dataclasses.replace(verdict.findings[0], signal="host.heap", unit="B")
    both = dataclasses.replace(
        verdict,
        findings=(verdict.findings[0], second),
        signals=(*verdict.signals, *measured("a", HEAP).signals),
    )
    html = row_extra(both.to_dict(), is_said=True)
    page = Page(html)
    assert len(page.all("svg", role="img")) == 2  # of all that fails the test
    for text in ("app.SHARED", "clear the list", headline(both), "to allow it"):
        assert text not in page.text
    assert not row_extra(not_measured("t.py::test_a").to_dict(), is_said=True)


def test_a_row_of_a_test_that_was_not_measured_says_why() -> None:
    page = Page(row_extra(not_measured("t.py::test_a").to_dict()))
    assert not page.all("svg")
    assert "NOT MEASURED: the test failed in iteration 3" in page.text
