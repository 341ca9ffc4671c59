"""Which rule decides a verdict, and how known growth is shown separately."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from pytest_tfleak.compare.baseline import Baseline
from pytest_tfleak.decide import Ended
from pytest_tfleak.decide import Grounds
from pytest_tfleak.decide import accept_ignored
from pytest_tfleak.decide import decide
from pytest_tfleak.decide import find_all
from pytest_tfleak.decide import notes_on_known
from pytest_tfleak.judge import Doubt
from pytest_tfleak.judge import Judgement
from pytest_tfleak.known import KNOWN
from pytest_tfleak.known import Known
from pytest_tfleak.known import KnownGrowth
from pytest_tfleak.known import Trial
from pytest_tfleak.plan import Plan
from pytest_tfleak.retaining_path import Step
from pytest_tfleak.run.isolation import Leftover
from pytest_tfleak.verdict import Experiment
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import SignalReport
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from tests.builders import make_finding
from tests.builders import path_to

REGISTRY, XLA, KERNELS = KNOWN[0], KNOWN[2], KNOWN[-1]
assert not (REGISTRY.remedy or XLA.remedy) and KERNELS.remedy
HELD = path_to(
    "tensorflow.EagerTensor",
    at="app.CACHE",
    through=[
        Step(kind="entry", types=("builtins.dict",), is_new=True),
        Step(kind="item", name="'loss'", types=("tensorflow.EagerTensor",)),
    ],
)
MADE = Origin(file="/src/legacy/app.py", line=12, function="Cache.put", text="x")


def memory(rate: float = 10_000.0, **more: Any) -> Finding:
    return make_finding("host.heap", rate, **({"allowance": 6_144.0} | more))


def lowered(
    entry: Known | None, before: float, after: float, signal: str = "host.heap"
) -> Trial:
    words = entry.experiment if entry else "with something else changed"
    return Trial(signal=signal, words=words, before=before, after=after, entry=entry)


def doubt(signal: str, reason: Reason) -> Doubt:
    return Doubt(signal=signal, reason=reason, detail=f"{signal} proves nothing")


# Every combination of evidence for and against a leak

FINDINGS = ("leak", "leftover", "known", "recorded", "ignored")
DOUBTS = ("untried", "out of time", "fading", "unsteady", "probe failed", "no GPU")


def expected(case: frozenset[str]) -> tuple[Status, Reason | None]:
    """Return the verdict by the rules: a leak, no GPU, the first doubt, or clean."""
    if case & {"leak", "leftover"}:
        return Status.LEAK, None
    if "no GPU" in case:
        return Status.NOT_MEASURED, Reason.GPU_NOT_MEASURED
    for name, reason in {
        "untried": Reason.OUT_OF_TIME,
        "out of time": Reason.OUT_OF_TIME,
        "fading": Reason.FADING,
        "unsteady": Reason.UNSTEADY,
        "probe failed": Reason.PROBE_FAILED,
    }.items():
        if name in case:
            return Status.INCONCLUSIVE, reason
    return Status.CLEAN, None


def subsets(names: tuple[str, ...]) -> list[frozenset[str]]:
    switches = itertools.product([False, True], repeat=len(names))
    return [frozenset(itertools.compress(names, row)) for row in switches]


def verdict_in(case: frozenset[str]) -> Verdict:
    """Decide as a measurement does; each part of a case has a signal of its own."""
    own = {
        "leak": make_finding("process.threads"),
        "recorded": make_finding("process.fds"),
        "ignored": make_finding("tf.graphs", path=HELD),
        "untried": make_finding("host.allocator", unit="B"),
    }
    found = tuple(own[name] for name in own if name in case)
    fading = (doubt("keras.layers", Reason.FADING),) if "fading" in case else ()
    unsteady = (doubt("tf.sessions", Reason.UNSTEADY),) if "unsteady" in case else ()
    late = (
        (Doubt(reason=Reason.OUT_OF_TIME, detail="max_time ended the loop"),)
        if "out of time" in case
        else ()
    )
    judged = Judgement(findings=found, doubts=(*late, *fading, *unsteady))
    rejudged = None
    if "known" in case:
        # growth fades in the run without the causes, and is unsteady in the first run
        rejudged = replace(judged, doubts=(*late, *fading))
        judged = replace(judged, findings=(memory(), *found), doubts=unsteady)
    grounds = Grounds(
        nodeid="test_it",
        plan=Plan(require_gpu="no GPU" in case, ignore=("app.CACHE*",)),
        judged=judged,
        rejudged=rejudged,
        growth=KnownGrowth(
            causes=(REGISTRY,) if "known" in case else (),
            untried=(XLA,) if "untried" in case else (),
            trials=(lowered(REGISTRY, 10_000, 0),) if "known" in case else (),
        ),
        broken=(("gauge", "OSError: gone"),) if "probe failed" in case else (),
    )
    tape = Leftover(kind="tapes", count=1, text="1 tape", leak=True)
    findings = find_all(grounds, [tape] if "leftover" in case else [])
    findings, _ = accept_ignored(findings, grounds.plan.ignore)
    recorded, _ = Baseline("baseline.json", recorded=True).accept("test_it", findings)
    # the baseline has only what the case names
    findings = tuple(
        marked if marked.signal == "process.fds" else one
        for marked, one in zip(recorded, findings, strict=True)
    )
    return decide(replace(grounds, findings=findings))


@pytest.mark.parametrize(
    "findings", subsets(FINDINGS), ids=lambda f: "+".join(sorted(f)) or "none"
)
def test_the_first_rule_that_applies_decides(findings: frozenset[str]) -> None:
    for doubts in subsets(DOUBTS):
        case = findings | doubts
        verdict = verdict_in(case)
        assert (verdict.status, verdict.reason) == expected(case), sorted(case)
        assert (verdict.detail is None) == (verdict.reason is None), sorted(case)


def test_the_most_important_finding_is_the_first() -> None:
    names = ("host.heap", "python.blocks", "tf.tensors", "tf.traces")
    found = tuple(map(make_finding, names))
    known = make_finding("tf.sessions", accepted=True)
    verdict = decide(Grounds(nodeid="a", plan=Plan(), findings=(known, *found)))
    assert [f.signal for f in verdict.failing] == [
        *("tf.traces", "tf.tensors", "python.blocks", "host.heap")
    ]
    assert verdict.findings == (*verdict.failing, known)


def test_the_cases_are_what_they_say() -> None:
    verdict = verdict_in(frozenset(FINDINGS))
    assert {f.signal: (f.known, f.baseline, f.ignored) for f in verdict.accepted} == {
        "host.heap": (REGISTRY.name, None, None),
        "process.fds": (None, "accepted", None),
        "tf.graphs": (None, None, "app.CACHE*"),
    }
    assert {f.signal for f in verdict.failing} == {"process.threads", "tf.tapes"}


@pytest.mark.parametrize(
    "reason",
    [
        Reason.BODY_FAILED,
        Reason.BODY_SKIPPED,
        Reason.INTERRUPTED,
        Reason.NOT_REPEATABLE,
        Reason.DISABLED,
        Reason.UNSUPPORTED,
        Reason.MEASURES_ITSELF,
    ],
)
def test_a_body_that_did_not_run_to_its_end_is_not_measured(reason: Reason) -> None:
    ended = Ended(reason=reason, detail="that is why")
    unsteady = doubt("tf.tensors", Reason.UNSTEADY)
    judged = Judgement(iterations=7, doubts=(unsteady,))
    plan = Plan(require_gpu=True)
    verdict = decide(Grounds(nodeid="t", plan=plan, judged=judged, ended=ended))
    assert verdict.status is Status.NOT_MEASURED
    assert (verdict.reason, verdict.detail) == (reason, "that is why")
    assert verdict.iterations == 7


def test_without_a_signal_nothing_is_measured_whatever_is_accepted() -> None:
    judged = Judgement(iterations=50, is_unread=True)
    accepted = make_finding(accepted=True, baseline="accepted")
    verdict = decide(Grounds(nodeid="t", judged=judged, findings=(accepted,)))
    assert (verdict.status, verdict.reason) == (Status.NOT_MEASURED, Reason.NO_SIGNAL)


def gpu(name: str, status: str, reason: str | None = None) -> SignalReport:
    return SignalReport(
        name=name,
        unit="B",
        status=status,
        reason=reason,
        per_iteration=None,
        total=None,
        allowance=None,
        decides=False,
        series=(),
    )


@pytest.mark.parametrize(
    ("plan", "missing", "option"),
    [
        (Plan(require_gpu=True), "gpu.allocator", "require_gpu"),
        (Plan(gpu_process=1024), "gpu.process", "gpu_process"),
    ],
)
def test_a_gpu_that_is_asked_for_must_be_measured(
    plan: Plan, missing: str, option: str
) -> None:
    signals = [
        gpu("gpu.allocator[GPU:0]", "measured"),
        gpu("gpu.process[A]", "measured"),
    ]
    measured = Judgement(signals=tuple(signals))
    others = [s for s in signals if not s.name.startswith(missing)]
    absent = gpu(missing, "unavailable", "the driver is not loaded")
    lacking = Judgement(signals=(*others, absent))

    def status(judged: Judgement, plan: Plan) -> Status:
        return decide(Grounds(nodeid="t", plan=plan, judged=judged)).status

    assert status(measured, plan) is Status.CLEAN
    assert status(lacking, Plan()) is Status.CLEAN
    demanded = decide(Grounds(nodeid="t", plan=plan, judged=lacking))
    assert demanded.status is Status.NOT_MEASURED
    assert demanded.reason is Reason.GPU_NOT_MEASURED
    assert demanded.detail == (
        f"{option} is set, and GPU memory was not measured: the driver is not loaded"
    )


# Known growth that was not ruled out


def undiagnosed(*found: Finding, **growth: Any) -> Verdict:
    """Return the verdict without any experiments."""
    grounds = Grounds(
        nodeid="t", judged=Judgement(findings=found), growth=KnownGrowth(**growth)
    )
    return decide(replace(grounds, findings=find_all(grounds, ())))


def test_known_causes_that_were_not_tried_make_no_leak() -> None:
    verdict = undiagnosed(memory(), untried=(REGISTRY, XLA))
    assert (verdict.status, verdict.reason) == (Status.INCONCLUSIVE, Reason.OUT_OF_TIME)
    assert verdict.detail == (
        "host.heap may be known growth: diagnose_time left no time for the experiments "
        "on custom-gradient registry (tensorflow#97697), "
        "XLA executables (tensorflow#64170)"
    )
    assert verdict.failing  # it is shown, since it may be a leak


def test_only_the_experiments_that_could_explain_a_finding_are_missing() -> None:
    verdict = undiagnosed(make_finding("tf.custom_gradients"), untried=(XLA, REGISTRY))
    assert (verdict.detail or "").endswith(
        "for the experiment on custom-gradient registry (tensorflow#97697)"
    )


@pytest.mark.parametrize(
    "own",
    [
        make_finding("keras.layers"),
        make_finding("tf.tensors", per_iteration=None),
        make_finding("mylib.handles"),
    ],
    ids=["no entry has this signal", "still there", "a probe of one's own"],
)
def test_what_no_known_cause_could_explain_is_a_leak(own: Finding) -> None:
    assert undiagnosed(own, untried=(REGISTRY,)).status is Status.LEAK
    assert undiagnosed(memory(), own, untried=(REGISTRY,)).status is Status.LEAK


def test_growth_with_a_remedy_is_a_leak_whatever_was_not_tried() -> None:
    trial = lowered(KERNELS, 10_000, 64)
    verdict = undiagnosed(memory(), trials=(trial,), untried=(REGISTRY,))
    assert verdict.status is Status.LEAK


def test_a_body_that_fails_in_an_experiment_leaves_known_growth_open() -> None:
    verdict = undiagnosed(memory(), untried=(XLA,), failure="ValueError: late")
    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.reason is Reason.NOT_REPEATABLE
    assert verdict.detail == (
        "host.heap may be known growth: the experiment on XLA executables "
        "(tensorflow#64170) did not finish: ValueError: late"
    )


def test_known_growth_in_the_baseline_needs_no_experiment() -> None:
    recorded = memory(accepted=True, baseline="accepted")
    growth = KnownGrowth(untried=(REGISTRY,))
    grounds = Grounds(nodeid="t", growth=growth, findings=(recorded,))
    assert decide(grounds).status is Status.CLEAN


@pytest.mark.parametrize("is_cut", [True, False], ids=["cut short", "not begun"])
def test_a_cause_that_was_found_without_time_to_judge_the_rest(is_cut: bool) -> None:
    late = Doubt(reason=Reason.OUT_OF_TIME, detail="2 judged iterations")
    cut = Judgement(iterations=2, doubts=(late,))
    grounds = Grounds(
        nodeid="t",
        judged=Judgement(iterations=100, findings=(memory(),)),
        rejudged=cut if is_cut else None,
        growth=KnownGrowth(causes=(REGISTRY,), trials=(lowered(REGISTRY, 10_000, 64),)),
    )
    grounds = replace(grounds, findings=find_all(grounds, ()))
    verdict = decide(grounds)
    assert (verdict.status, verdict.reason) == (Status.INCONCLUSIVE, Reason.OUT_OF_TIME)
    assert verdict.detail == (
        "a part of host.heap is known growth: diagnose_time left no time for judging "
        "what is left without custom-gradient registry (tensorflow#97697)"
    )
    assert verdict.iterations == 100  # of the first run, which was not cut short
    (shown,) = verdict.findings
    assert (shown.per_iteration, shown.known, shown.accepted) == (10_000, None, False)


def test_a_doubt_of_the_first_run_stands_but_for_what_the_causes_explain() -> None:
    grounds = Grounds(
        nodeid="t",
        judged=Judgement(
            findings=(memory(),),
            doubts=(
                doubt("python.blocks", Reason.FADING),
                doubt("process.fds", Reason.UNSTEADY),
            ),
        ),
        rejudged=Judgement(),
        growth=KnownGrowth(causes=(REGISTRY,), trials=(lowered(REGISTRY, 10_000, 64),)),
    )
    verdict = decide(replace(grounds, findings=find_all(grounds, ())))
    assert (verdict.status, verdict.reason) == (Status.INCONCLUSIVE, Reason.UNSTEADY)


@pytest.mark.parametrize(
    "by", [{"baseline": "accepted"}, {"ignored": "*"}], ids=["baseline", "ignore"]
)
def test_a_doubt_about_growth_that_is_accepted_anyway_is_none(
    by: dict[str, Any],
) -> None:
    # steady in the first run, but unsteady without the known causes
    grounds = Grounds(
        nodeid="t",
        judged=Judgement(findings=(memory(), make_finding("process.fds"))),
        rejudged=Judgement(doubts=(doubt("process.fds", Reason.UNSTEADY),)),
        growth=KnownGrowth(causes=(REGISTRY,), trials=(lowered(REGISTRY, 10_000, 64),)),
    )
    findings = tuple(
        one if one.accepted else replace(one, accepted=True, **by)
        for one in find_all(grounds, ())
    )
    assert decide(replace(grounds, findings=findings)).status is Status.CLEAN


# Known growth is shown separately


def findings_of(
    found: list[Finding],
    left: list[Finding] | None,
    *,
    plan: Plan | None = None,
    **growth: Any,
) -> tuple[Finding, ...]:
    """Return all findings; ``left`` are those of the run without the causes."""
    grounds = Grounds(
        nodeid="t",
        plan=plan or Plan(),
        judged=Judgement(findings=tuple(found)),
        rejudged=None if left is None else Judgement(findings=tuple(left)),
        growth=KnownGrowth(**growth),
    )
    return find_all(grounds, ())


def test_without_experiments_findings_stay_as_they_are() -> None:
    assert findings_of([memory()], None) == (memory(),)


def test_a_remedy_does_not_excuse_a_finding() -> None:
    (shown,) = findings_of([memory()], None, trials=(lowered(KERNELS, 10_000, 64),))
    assert (shown.known, shown.accepted) == (KERNELS.name, False)
    assert shown.advice == KERNELS.remedy
    experiment = Experiment(name=KERNELS.experiment, per_iteration=64)
    assert shown.experiments == (experiment,)


def test_a_remedy_for_a_part_says_so() -> None:
    trial = lowered(KERNELS, 53_000, 16_384)
    (shown,) = findings_of([memory(53_000)], None, trials=(trial,))
    assert shown.advice == f"This is for the larger part. {KERNELS.remedy}"


def test_the_remedy_that_helps_most_is_named() -> None:
    tables = KNOWN[-2]
    assert tables.remedy
    trials = (lowered(tables, 90_000, 50_000), lowered(KERNELS, 50_000, 0))
    (shown,) = findings_of([memory(90_000)], None, trials=trials)
    assert shown.known == KERNELS.name


def test_what_clear_session_releases_is_said() -> None:
    (shown,) = findings_of([memory()], None, released=frozenset({"host.heap"}))
    assert shown.known is None
    assert "{clear_session} releases it" in str(shown.advice)


@pytest.mark.parametrize(("known", "accepted"), [("report", True), ("fail", False)])
def test_what_went_away_is_known(known: str, accepted: bool) -> None:
    plan = Plan(known=known)
    (shown,) = findings_of([memory()], [], plan=plan, causes=(REGISTRY,))
    assert (shown.known, shown.accepted) == (REGISTRY.name, accepted)
    assert shown.per_iteration == 10_000


@pytest.mark.parametrize("signal", ["process.fds", "tf.tensors"])
def test_what_no_experiment_took_away_is_not_excused(signal: str) -> None:
    shown = findings_of(
        [memory(1_000_000), make_finding(signal)],
        [],
        causes=(REGISTRY,),
        trials=(lowered(REGISTRY, 1_000_000, 0),),
    )
    assert [(f.signal, f.known) for f in shown] == [
        (signal, None),
        ("host.heap", REGISTRY.name),
    ]


def test_what_is_left_is_the_users_own_and_the_rest_is_known() -> None:
    shown = findings_of(
        [memory(1_000_000), make_finding()],
        [memory(100_000), make_finding()],
        causes=(REGISTRY,),
        trials=(lowered(REGISTRY, 1_000_000, 100_000),),
    )
    assert [(f.signal, f.per_iteration, f.known) for f in shown] == [
        ("host.heap", 100_000, None),
        ("tf.tensors", 1, None),
        ("host.heap", 900_000, REGISTRY.name),
    ]
    assert [f.accepted for f in shown] == [False, False, True]
    assert shown[-1].total == 45_000_000


def test_an_experiment_is_shown_with_the_part_that_it_took_away() -> None:
    """Not "1 becomes 1": of two a call, the cause takes one, and leaves one."""
    two, one = (make_finding(per_iteration=rate) for rate in (2.0, 1.0))
    trials = (lowered(REGISTRY, 2, 1, "tf.tensors"),)
    left, gone = findings_of([two], [one], causes=(REGISTRY,), trials=trials)
    assert (left.per_iteration, left.experiments) == (1, ())
    assert gone.per_iteration == 1
    assert [experiment.per_iteration for experiment in gone.experiments] == [0]


def test_an_experiment_on_what_is_left_stays_with_it() -> None:
    """Where a cause has no remedy and another one has."""
    trials = (lowered(REGISTRY, 90_000, 50_000), lowered(KERNELS, 50_000, 64))
    left, gone = findings_of(
        [memory(90_000)], [memory(50_000)], causes=(REGISTRY,), trials=trials
    )
    assert (left.known, gone.known) == (KERNELS.name, REGISTRY.name)
    assert [e.per_iteration for e in left.experiments] == [64]
    assert [e.per_iteration for e in gone.experiments] == [0]


def test_what_is_left_is_shown_once_where_no_experiment_tells_the_rest() -> None:
    handles, fewer = (
        make_finding("mylib.handles", per_iteration=r) for r in (9.0, 2.0)
    )
    assert findings_of([handles], [fewer], causes=(REGISTRY,)) == (fewer,)


def test_what_is_still_there_has_nothing_to_do_with_growth() -> None:
    left = make_finding("tf.sessions", per_iteration=None)
    shown = findings_of([left, memory()], [], causes=(REGISTRY,))
    assert [(f.signal, f.accepted) for f in shown] == [
        ("tf.sessions", False),
        ("host.heap", True),
    ]


def test_notes_name_the_causes_that_no_finding_shows() -> None:
    grounds = Grounds(
        nodeid="t",
        judged=Judgement(findings=(memory(),)),
        rejudged=Judgement(iterations=40),
        growth=KnownGrowth(
            causes=(REGISTRY, XLA),
            trials=(lowered(REGISTRY, 10_000, 64),),
            notes=("Not all was tried.",),
        ),
    )
    grounds = replace(grounds, findings=find_all(grounds, ()))
    part, judged_on = notes_on_known(grounds)
    assert part == "A part of it is known growth: XLA executables (tensorflow#64170)."
    assert judged_on.startswith("Judged on 40 iterations without the known growth")


# Scopes that were never left, and leaks that the user ignores


def test_what_was_never_left_is_a_leak() -> None:
    left = Leftover(kind="tapes", count=2, text="2 tapes were never left", leak=True)
    grounds = Grounds(nodeid="t", judged=Judgement(iterations=50))
    (shown,) = find_all(grounds, [left])
    assert (shown.signal, shown.total, shown.last) == ("tf.tapes", 2, 50)
    assert decide(replace(grounds, findings=(shown,))).status is Status.LEAK


@pytest.mark.parametrize(
    ("left", "plan", "count"),
    [
        (Leftover(kind="seed", count=1, text="a seed", leak=False), Plan(), 0),
        (Leftover(kind="graph_stack", count=2, text="2", leak=True), Plan(), 1),
        (Leftover(kind="graph_stack", count=2, text="2", leak=True), Plan(graphs=2), 0),
        (Leftover(kind="tensors", count=2, text="2", leak=True), Plan(), 0),
    ],
    ids=["a setting", "entries", "allowed", "shown by a finding"],
)
def test_a_leftover_is_added_where_nothing_shows_or_allows_it(
    left: Leftover, plan: Plan, count: int
) -> None:
    judged = Judgement(findings=(make_finding("tf.tensors"),))
    grounds = Grounds(nodeid="t", plan=plan, judged=judged)
    assert len(find_all(grounds, [left])) == 1 + count


@pytest.mark.parametrize(
    "pattern",
    [
        "app.CACHE*",
        "*loss*",
        "* -> EagerTensor",
        "*/legacy/*.py",
        "*/app.py:12",
        "Cache.*",
    ],
)
def test_a_leak_is_ignored_by_its_holder_or_its_line(pattern: str) -> None:
    leaks = [make_finding(path=HELD, origin=MADE)]
    (shown,), notes = accept_ignored(leaks, ("nothing", pattern))
    assert (shown.accepted, shown.ignored) == (True, pattern)
    assert notes == (
        f"tf.tensors grows, and does not fail the test: it matches ignore={pattern!r}.",
    )


@pytest.mark.parametrize(
    ("file", "pattern", "is_ignored"),
    [
        ("/src/app/legacy/pool.py", "app.legacy.pool", True),
        ("/src/app/legacy/pool.py", "app.legacy.*", True),
        ("/src/app/legacy/__init__.py", "app.legacy", True),
        ("/src/app/legacy/pool.py", "app.pool", False),
        ("/src/app/pool.py", "other.pool", False),
    ],
)
def test_a_leak_is_ignored_by_the_module_of_its_line(
    file: str, pattern: str, is_ignored: bool
) -> None:
    leaks = [make_finding(origin=replace(MADE, file=file))]
    assert accept_ignored(leaks, (pattern,))[0][0].accepted == is_ignored


def test_a_leak_is_ignored_by_the_line_that_stores_it() -> None:
    leaks = [make_finding(stored=MADE)]
    assert accept_ignored(leaks, ("*/app.py:12",))[0][0].accepted


def test_what_does_not_match_still_fails() -> None:
    leaks = (make_finding(path=HELD, origin=MADE), make_finding("tf.graphs"))
    shown, _ = accept_ignored(leaks, ("app.CACHE*",))
    assert [f.signal for f in shown if not f.accepted] == ["tf.graphs"]
    assert accept_ignored(leaks, ("other*",)) == (leaks, ())
