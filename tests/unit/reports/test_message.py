from __future__ import annotations

import ast
import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tfleak.plan import Plan
from pytest_tfleak.plan import make_plan
from pytest_tfleak.reports.message import failing_calls
from pytest_tfleak.reports.message import failure_text
from pytest_tfleak.reports.message import headline
from pytest_tfleak.reports.message import lead_text
from pytest_tfleak.reports.words import REASONS
from pytest_tfleak.retaining_path import Array
from pytest_tfleak.signals import make_signal
from pytest_tfleak.trace import Signal
from pytest_tfleak.trace import Trace
from pytest_tfleak.verdict import Experiment
from pytest_tfleak.verdict import FailedCall
from pytest_tfleak.verdict import FailingCalls
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import SignalReport
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from tests.builders import make_finding
from tests.builders import make_leak
from tests.builders import make_report
from tests.builders import path_to
from tests.quality.simulate import verdict_of

FINDING = make_finding(total=99, last=100)
HEAP = make_finding("host.heap", 65_536.0, total=6_488_064, allowance=6_144.0, last=100)
OPEN = dataclasses.replace(
    FINDING, signal="tf.sessions", per_iteration=None, total=1, allow="sessions"
)
LEAK = make_leak(FINDING, iterations=100, confirmation=50, warmup=5)


def leak(*findings: Finding, **more: object) -> Verdict:
    return dataclasses.replace(LEAK, findings=findings, **more)  # type: ignore[arg-type]


def report(series: tuple[int | None, ...], **more: Any) -> SignalReport:
    return make_report(series=series, **({"status": "measured"} | more))


class TestHeadline:
    @pytest.mark.parametrize(
        ("verdict", "expected"),
        [
            (LEAK, "LEAK: tf.tensors +1 per iteration, seen in 100 iterations"),
            (
                leak(dataclasses.replace(FINDING, kind="a.b.<locals>.Thing")),
                "LEAK: tf.tensors +1 per iteration (Thing), seen in 100 iterations",
            ),
            (
                leak(HEAP, OPEN),
                "LEAK: 1 session is still open after the test (tf.sessions)",
            ),
            (
                leak(dataclasses.replace(OPEN, total=1_200)),
                "LEAK: 1,200 sessions are still open after the test (tf.sessions)",
            ),
            (
                leak(dataclasses.replace(OPEN, signal="tf.tapes", unit="entries")),
                "LEAK: 1 gradient tape is still open after the test (tf.tapes)",
            ),
            (
                leak(dataclasses.replace(OPEN, signal="my.pools", unit="entries")),
                "LEAK: 1 entry is still alive after the test (my.pools)",
            ),
            (
                leak(dataclasses.replace(FINDING, per_iteration=0.001)),
                "LEAK: tf.tensors <0.01 per iteration, seen in 100 iterations",
            ),
            (
                leak(dataclasses.replace(FINDING, first=7, last=7)),
                "LEAK: tf.tensors +1 per iteration, seen in 1 iteration",
            ),
        ],
    )
    def test_says_what_and_how_much(self, verdict: Verdict, expected: str) -> None:
        assert headline(verdict) == expected

    def test_leaves_out_the_least_needed_where_it_is_long(self) -> None:
        kind = dataclasses.replace(FINDING, kind="K" * 39)
        text = headline(leak(kind))
        assert text == "LEAK: tf.tensors +1 per iteration (" + "K" * 39 + ")"

    @pytest.mark.parametrize("reason", Reason)
    def test_has_plain_words_for_each_reason(self, reason: Reason) -> None:
        status = Status.NOT_MEASURED
        verdict = Verdict(nodeid="a", status=status, reason=reason)
        assert headline(verdict) == f"NOT MEASURED: {REASONS[reason].why}"
        assert "_" not in REASONS[reason].why

    def test_prefers_the_detail_to_the_reason(self) -> None:
        verdict = Verdict(
            nodeid="a",
            status=Status.INCONCLUSIVE,
            reason=Reason.FADING,
            detail="host.heap grows less and less; more iterations would tell",
        )
        assert headline(verdict).startswith("INCONCLUSIVE: host.heap grows less")

    def test_takes_a_leak_without_findings(self) -> None:
        assert headline(leak()) == "LEAK: no reason given"


class TestMessage:
    def test_leads_with_what_piles_up_and_with_scopes_that_explain_it(self) -> None:
        tape = dataclasses.replace(OPEN, signal="tf.tapes", unit="entries")
        both = [OPEN, FINDING]
        assert "also         1 session is still open" in failure_text(leak(*both))
        assert "LEAK: 1 gradient tape" in failure_text(leak(*both, tape))

    def test_leads_with_objects_and_shortens_the_bytes_beside_them(self) -> None:
        text = failure_text(leak(HEAP, FINDING))
        assert "what grows   eager tensors (tf.tensors)" in text
        assert "also         host.heap +64 KiB per iteration (allowance 6 KiB)" in text
        assert text.count("how much") == 1

    def test_leads_with_a_file_before_the_handle_of_what_opened_it(self) -> None:
        resource = Array(type="EagerTensor", dtype="resource", shape=())
        path = dataclasses.replace(path_to("ops.EagerTensor"), array=resource)
        handle = dataclasses.replace(FINDING, path=path, kind="ops.EagerTensor")
        file = dataclasses.replace(FINDING, signal="process.fds", unit="descriptors")
        assert "LEAK: process.fds" in failure_text(leak(handle, file))
        assert "LEAK: tf.tensors" in failure_text(leak(handle, HEAP))
        assert "LEAK: tf.tensors" in failure_text(leak(FINDING, file))

    def test_names_only_the_signals_after_the_first_few(self) -> None:
        others = [
            dataclasses.replace(FINDING, signal=f"tf.tensors[{n}]") for n in range(9)
        ]
        lines = failure_text(leak(*others)).split("\n")
        also = [line for line in lines if line.startswith("  also")]
        assert len(also) == 6
        assert also[-1] == "  also         tf.tensors[6], tf.tensors[7], tf.tensors[8]"

    def test_shows_that_growth_and_allowance_differ(self) -> None:
        close = dataclasses.replace(HEAP, per_iteration=6_150.0)
        assert "+6,150 B per iteration" in failure_text(leak(close))
        assert "6,144 B" in failure_text(leak(close))

    def test_explains_growth_that_is_not_over_the_allowance(self) -> None:
        close = dataclasses.replace(HEAP, per_iteration=6_000.0)
        text = " ".join(failure_text(leak(close)).split())
        assert "allowance 6 KiB, which it may exceed: the readings are not" in text
        assert "about its allowance" in failure_text(leak(FINDING, close))

    def test_draws_the_judged_iterations_only(self) -> None:
        series = (900, 900, 900, 900, 900, 1, 2, 3, 4)
        tensors = report(series, name="tf.tensors", unit="tensors")
        text = failure_text(leak(FINDING, signals=(tensors,)))
        assert "readings     1 ▁▃▅█ 4" in text

    def test_offers_keywords_to_a_call_outside_pytest(self) -> None:
        verdict = leak(FINDING, nodeid="predict")
        library = dataclasses.replace(verdict, via="library")
        assert "to allow it  tensors=1\n" in failure_text(library)
        fixture = dataclasses.replace(verdict, via="fixture")
        assert "to allow it  tfleak.check(..., tensors=1)\n" in failure_text(fixture)

    @pytest.mark.parametrize(
        ("signal", "rate", "total", "allow"),
        [
            ("tf.tensors", 1.0, 99, 1),
            ("tf.tensors", 0.96, 95, 2),  # not exact: 1 would be reached, too
            ("tf.tensors", 0.2, 20, 0.25),
            ("tf.sessions", 1.0, 99, 105),  # those of the warm-up are left, too
            ("tf.sessions", 0.84, 88, 105),
            ("tf.sessions", 0.2, 20, 27),
        ],
    )
    def test_offers_an_allowance_that_holds_in_the_next_run(
        self, signal: str, rate: float, total: int, allow: float
    ) -> None:
        found = dataclasses.replace(
            FINDING, signal=signal, per_iteration=rate, total=total
        )
        text = failure_text(leak(found))
        assert f"to allow it  @pytest.mark.tfleak(tensors={allow})\n" in text

    @pytest.mark.parametrize(
        ("signal", "allow"),
        [
            ("tf.sessions", "sessions"),
            ("tf.sessions.closed", "sessions"),
            ("tf.graph_stack", "graphs"),
        ],
    )
    def test_says_how_many_may_be_left_where_more_pile_up(
        self, signal: str, allow: str
    ) -> None:
        some = dataclasses.replace(FINDING, signal=signal, allow=allow, allowance=3)
        text = failure_text(leak(some))
        assert text.startswith(f"LEAK: {signal} +99 in 100 iterations, 3 allowed")
        assert "+99 in all; allowance 3 in all" in text
        assert f"({allow}=105)" in text

    def test_does_not_mix_rates_with_what_counts_over_the_whole_run(self) -> None:
        stack = dataclasses.replace(
            FINDING, signal="tf.session_stack", unit="entries", allow="sessions"
        )
        graphs = dataclasses.replace(FINDING, signal="tf.graphs", allow="graphs")
        alone = failure_text(leak(stack, OPEN), 200)
        assert "to allow it  @pytest.mark.tfleak(sessions=105)\n" in alone
        text = failure_text(leak(stack, FINDING), 200)
        assert (
            "@pytest.mark.tfleak(sessions=105, tensors=1); sessions counts over the "
            "whole run, the rest per iteration\n"
        ) in text
        both = failure_text(leak(stack, graphs, FINDING), 200)
        assert "; sessions and graphs count over the whole run, the rest" in both

    def test_offers_a_rate_for_what_is_left_of_a_signal_that_has_one(self) -> None:
        left = dataclasses.replace(FINDING, per_iteration=None, total=210)
        assert "(tensors=2)" in failure_text(leak(left))

    @pytest.mark.parametrize(
        "accepted", [{"baseline": "accepted"}, {"ignored": "app.OLD"}]
    )
    def test_allows_what_is_accepted_of_the_same_signal_as_well(
        self, accepted: dict[str, Any]
    ) -> None:
        old = dataclasses.replace(FINDING, accepted=True, **accepted)
        text = " ".join(failure_text(leak(FINDING, old)).split())
        assert "(tensors=2)" in text
        assert "+1 of +2 per iteration, +99 of +198 from first to last;" in text

    def test_does_not_allow_the_growth_of_tensorflow(self) -> None:
        known = dataclasses.replace(FINDING, accepted=True, known="scalar-cache")
        assert "(tensors=1)" in failure_text(leak(FINDING, known))

    def test_compares_all_growth_of_a_signal_with_its_allowance(self) -> None:
        new = dataclasses.replace(FINDING, allowance=1.0)
        old = dataclasses.replace(new, accepted=True, baseline="accepted")
        series = (*[0] * 5, *range(0, 200, 2))
        verdict = leak(new, old, signals=(report(series, name="tf.tensors"),))
        text = " ".join(failure_text(verdict).split())
        assert "from first to last; allowance 1 seen in" in text
        traces = dataclasses.replace(FINDING, signal="tf.traces")
        assert "about its allowance" not in failure_text(leak(traces, new, old))

    def test_allows_all_leaks_of_a_signal_where_only_one_is_shown(self) -> None:
        signals = (make_report("tf.tensors", 2.0),)
        assert "(tensors=2)" in failure_text(leak(FINDING, signals=signals))

    def test_puts_what_to_do_below_its_cause(self) -> None:
        trace = dataclasses.replace(
            FINDING, signal="tf.traces", cause="a", why="Why a.", advice="Do a."
        )
        kept = dataclasses.replace(FINDING, cause="b", why="Why b.", advice="Do b.")
        again = dataclasses.replace(trace, signal="tf.functions")
        text = " ".join(failure_text(leak(trace, kept, again)).split())
        assert "cause Why a. what to do Do a. cause Why b. what to do Do b." in text

    def test_offers_no_keyword_where_there_is_none(self) -> None:
        alone = dataclasses.replace(FINDING, allow="")
        assert "to allow" not in failure_text(leak(alone))
        beside = failure_text(leak(HEAP, alone))
        assert "nothing allows tf.tensors" in " ".join(beside.split())

    def test_does_not_end_with_a_blank_line(self) -> None:
        verdict = Verdict(
            nodeid="a", status=Status.NOT_MEASURED, reason=Reason.UNSUPPORTED
        )
        assert failure_text(verdict) == headline(verdict)

    def test_shows_every_note_on_its_own(self) -> None:
        text = failure_text(leak(FINDING, notes=("one\ntwo", "three")))
        assert "  note         one\\ntwo\n  note         three\n" in text

    @pytest.mark.parametrize("width", [20, 40, 59, 60, 80, 120])
    @pytest.mark.parametrize("unicode", [True, False])
    def test_offers_a_marker_that_is_python(self, width: int, unicode: bool) -> None:
        text = failure_text(leak(FINDING, HEAP), max(width, 40), unicode)
        found = re.search(r"@pytest\.mark\.tfleak\((.*?)\)", text, re.DOTALL)
        assert found is not None
        call = ast.parse(f"f({found[1]})", mode="eval").body
        assert isinstance(call, ast.Call)
        options = {k.arg or "": ast.literal_eval(k.value) for k in call.keywords}
        plan = make_plan(**options)
        assert plan.tensors == 1
        assert 65_536 < plan.host_per_iteration < 2 * 65_536


class TestAllowing:
    """With the allowances that the message suggests, the same trace is no leak."""

    @given(
        rate=st.integers(1, 10**9),
        allow=st.sampled_from(["host_per_iteration", "blocks"]),
    )
    def test_any_rate(self, rate: int, allow: str) -> None:
        unit = "B" if allow == "host_per_iteration" else "blocks"
        trace = self.trace(Signal(name="x", unit=unit, allowance=allow), rate)
        self.check(trace, Plan())

    @pytest.mark.parametrize("every", [2, 3, 5, 10])
    def test_now_and_then(self, every: int) -> None:
        signal = Signal(name="tf.tensors", unit="tensors", allowance="tensors")
        self.check(self.trace(signal, 1, every), Plan())

    @pytest.mark.parametrize("plan", [Plan(), Plan(sessions=3)])
    @pytest.mark.parametrize(
        "name", ["tf.sessions", "tf.sessions.closed", "tf.session_stack"]
    )
    def test_what_is_left(self, name: str, plan: Plan) -> None:
        trace = self.trace(make_signal(name), 1)
        trace.left["tf.sessions"] = 105
        self.check(trace, plan)

    def test_a_total(self) -> None:
        signal = Signal(
            name="host.heap",
            unit="B",
            allowance="host_per_iteration",
            total="host_total",
        )
        self.check(self.trace(signal, 4_000), Plan(host_total=100_000))

    def trace(self, signal: Signal, step: int, every: int = 1) -> Trace:
        trace = Trace([signal], 5, 100)
        trace.warmed_up, trace.measured, trace.confirmed = 5, 50, 50
        for row in range(105):
            trace.buffer[row] = 1_000 + row // every * step
        return trace

    def check(self, trace: Trace, plan: Plan) -> None:
        verdict = verdict_of(trace, plan, "test_a.py::test_b")
        if verdict.status is not Status.LEAK:
            return
        text = failure_text(verdict, 1_000)
        found = re.search(r"@pytest\.mark\.tfleak\((.*)\)", text)
        assert found is not None
        keywords = ast.parse(f"f({found[1]})", mode="eval").body
        assert isinstance(keywords, ast.Call)
        options = {k.arg or "": ast.literal_eval(k.value) for k in keywords.keywords}
        parsed = {name: getattr(make_plan(**options), name) for name in options}
        again = verdict_of(trace, dataclasses.replace(plan, **parsed), "a")
        assert again.status is not Status.LEAK


FIRST = FailedCall(
    number=2,
    operation="MatMul",
    origin=Origin(file="app/train.py", line=40, function="fit", text=""),
)
LAST = FailedCall(
    number=8,
    operation="Sum",
    origin=Origin(file="app/train.py", line=52, function="fit", text=""),
)
SAME_LINE = dataclasses.replace(LAST, origin=FIRST.origin)


@pytest.mark.parametrize(
    ("count", "total", "last", "expected"),
    [
        (1, 1, FIRST, "the only call fails: MatMul at app/train.py:40 in fit"),
        (
            1,
            9,
            FIRST,
            "call 2 of the 9 TensorFlow calls fails: MatMul at app/train.py:40 in fit",
        ),
        (
            7,
            9,
            LAST,
            (
                "any of 7 of the 9 TensorFlow calls fails, from MatMul at "
                "app/train.py:40 to Sum at app/train.py:52"
            ),
        ),
        (
            9,
            9,
            SAME_LINE,
            (
                "any of the 9 TensorFlow calls fails, from MatMul to Sum at "
                "app/train.py:40"
            ),
        ),
    ],
    ids=["only one", "one of many", "a range", "one line"],
)
def test_which_calls_have_to_fail(
    count: int, total: int, last: FailedCall, expected: str
) -> None:
    failing = FailingCalls(count=count, total=total, first=FIRST, last=last)
    assert failing_calls(failing) == expected


def test_growth_of_failed_calls_is_said_to_be_so() -> None:
    failing = FailingCalls(count=1, total=1, first=FIRST, last=FIRST)
    verdict = leak(dataclasses.replace(FINDING, failing=failing))
    assert headline(verdict).startswith("LEAK: tf.tensors +1 per failed call")
    assert "how much     +1 per failed call, +99 from first" in failure_text(verdict)


def test_advice_that_another_one_contains_is_not_repeated() -> None:
    short = dataclasses.replace(FINDING, advice="Clear it.", why="It is kept.")
    longer = dataclasses.replace(
        short, signal="tf.graphs", advice="Clear it. As tried, f() releases it."
    )
    text = failure_text(make_leak(short, longer))
    assert text.count("what to do") == text.count("Clear it.") == 1
    assert "As tried" in text


MADE = Origin(file="app/model.py", line=9, function="f", text="y = x * 2")
STORED = Origin(file="app/cache.py", line=12, function="put", text="KEPT.append(y)")


def stored(**more: Any) -> Verdict:
    return make_leak(
        dataclasses.replace(FINDING, **({"origin": MADE, "stored": STORED} | more)),
        nodeid="tests/test_model.py::test_fit",
        iterations=100,
    )


def test_the_line_that_stores_leads() -> None:
    first, *rest = failure_text(stored()).splitlines()
    assert first == "LEAK: tf.tensors +1 per iteration at app/cache.py:12"
    assert [line for line in rest if "app/" in line or "KEPT" in line] == [
        "  stored at    app/cache.py:12 in put",
        "               KEPT.append(y)",
        "  made at      app/model.py:9 in f",
    ]


def test_one_line_that_makes_and_stores_is_shown_once() -> None:
    text = failure_text(stored(stored=dataclasses.replace(MADE, function="put")))
    assert "stored at" not in text
    assert text.count("app/model.py:9") == 2  # in the first line, and below


def test_a_line_is_known_even_if_none_makes_the_object() -> None:
    text = failure_text(stored(origin=None))
    assert "  stored at    app/cache.py:12 in put" in text and "made at" not in text


@pytest.mark.parametrize(
    ("width", "summary"),
    [
        (70, "tf.tensors +1 per iteration at app/cache.py:12, held by app.SEEN"),
        (50, "tf.tensors +1 per iteration at app/cache.py:12"),
        (42, "tf.tensors +1/iteration at app/cache.py:12"),
        (40, "tf.tensors at app/cache.py:12"),
        (20, "at app/cache.py:12"),
        (15, "app/cache.py:12"),
        (10, "...e.py:12"),
    ],
)
def test_the_lead_text_keeps_the_line_of_code(width: int, summary: str) -> None:
    assert lead_text(stored(path=path_to()), width) == summary


def test_a_long_path_is_shortened_from_the_left() -> None:
    deep = dataclasses.replace(STORED, file=f"{'deep/' * 20}cache.py")
    assert lead_text(stored(stored=deep), 50) == (
        "tf.tensors +1 per iteration at .../cache.py:12"
    )


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("unicode", [True, False])
def test_the_first_line_opens_the_file_at_any_depth(width: int, unicode: bool) -> None:
    file = "services/recommendation/" * 9 + "test_embedding_cache.py"
    finding = dataclasses.replace(
        FINDING, kind="EagerTensor", stored=dataclasses.replace(STORED, file=file)
    )
    first = failure_text(make_leak(finding), width, unicode).splitlines()[0]
    assert first.startswith("LEAK: ") and len(first) <= width
    assert first.endswith("cache.py:12") and " at ..." in first
    if width > 40:  # the whole name fits
        assert first.endswith("/test_embedding_cache.py:12")


def test_the_lead_text_of_a_leak_without_a_line() -> None:
    assert lead_text(make_leak(FINDING), 30) == "tf.tensors +1 per iteration"


def test_an_experiment_is_shown_once_for_all_that_it_changes() -> None:
    words = "with tf.config.run_functions_eagerly(True)"
    eager = (Experiment(name=words, per_iteration=0.0),)
    traces, functions = (
        dataclasses.replace(FINDING, signal=signal, experiments=eager)
        for signal in ("tf.traces", "tf.functions")
    )
    text = " ".join(failure_text(leak(traces, functions), width=200).split())
    changes = "tf.traces went from 1 to 0, tf.functions went from 1 to 0"
    assert f"experiment tried {words}: {changes} " in text
    assert text.count("experiment ") == 1


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (6_488_064, "+6.2 MiB from first to last; allowance"),
        (1_488_064, "+6.2 MiB from first to last, not counting one fall of 4.8 MiB; "),
        (9_488_064, "+6.2 MiB from first to last, not counting one rise of 2.9 MiB; "),
    ],
)
def test_a_step_of_the_readings_is_told_apart_from_growth(
    last: int, expected: str
) -> None:
    series = (*[0] * 6, *[last] * 99)
    verdict = leak(HEAP, signals=(report(series, name="host.heap"),))
    assert expected in " ".join(failure_text(verdict).split())


def test_an_older_object_that_went_is_told_apart_from_growth() -> None:
    finding = dataclasses.replace(FINDING, per_iteration=1.0, total=23)
    readings = (*range(61, 66), *range(66, 80), *range(79, 89))  # one fell away
    verdict = leak(finding, signals=(report(readings, name=FINDING.signal),))
    text = " ".join(failure_text(verdict).split())
    assert "+23 from first to last, not counting one fall of 1; " in text
