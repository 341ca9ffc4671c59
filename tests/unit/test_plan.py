from __future__ import annotations

import dataclasses
import math
import re
from contextlib import suppress
from enum import IntEnum
from typing import Any
from typing import get_args

import pytest
from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st

from pytest_tfleak.plan import EVERYWHERE
from pytest_tfleak.plan import MOST_ITERATIONS
from pytest_tfleak.plan import Group
from pytest_tfleak.plan import Option
from pytest_tfleak.plan import Plan
from pytest_tfleak.plan import PlanError
from pytest_tfleak.plan import RunOptions
from pytest_tfleak.plan import Source
from pytest_tfleak.plan import make_plan
from pytest_tfleak.plan import option_table
from pytest_tfleak.plan import parse_option
from pytest_tfleak.plan import parse_options

TABLE = option_table()
BYTES = ["host_per_iteration", "host_total", "gpu_per_iteration", "gpu_total"]
NUMBERS = [row.name for row in TABLE if row.unit == "per iteration"]
WHOLE = ["iterations", "warmup", "sessions", "graphs"]
BYTES_ALLOWED = 'expected 4096 or "4 KiB" (units: B, KB, MB, GB, KiB, MiB, GiB)'
PATTERNS_ALLOWED = 'expected a pattern such as "mylib.cache*", or a list of them'
each_option = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)


def source_of(row: Option) -> Source:
    return min(row.sources)


@each_option
def test_an_option_parses_its_own_default(row: Option) -> None:
    assert parse_option(row.name, row.default, source_of(row)) == row.default


@each_option
def test_an_option_parses_its_default_as_it_is_shown(row: Option) -> None:
    assert parse_option(row.name, row.default_text, source_of(row)) == row.default


@each_option
def test_an_option_is_documented(row: Option) -> None:
    assert row.help.strip()
    assert row.unit.strip()
    assert row.default_text.strip()
    assert row.group in get_args(Group)
    assert not row.help.endswith(".")
    assert "%" not in row.help  # argparse would read it as a format


@each_option
def test_an_option_is_offered_somewhere(row: Option) -> None:
    assert row.sources
    assert row.sources <= EVERYWHERE


@each_option
def test_an_option_refuses_nonsense_by_name_and_value(row: Option) -> None:
    with pytest.raises(PlanError, match=rf"^{row.name}=<object .*: expected "):
        parse_option(row.name, object(), source_of(row))


def test_flags_and_ini_keys_are_unique() -> None:
    assert len({row.command_line_flag for row in TABLE}) == len(TABLE)
    assert len({row.ini_key for row in TABLE}) == len(TABLE)


def test_flags_and_ini_keys_follow_from_the_name() -> None:
    rows = {row.name: row for row in TABLE}
    assert rows["host_total"].command_line_flag == "--tfleak-host-total"
    assert rows["host_total"].ini_key == "tfleak_host_total"
    assert rows["all_tests"].command_line_flag == "--tfleak"


def test_each_source_offers_its_own_rows() -> None:
    rows = {
        source: {row.name for row in option_table(source)}
        for source in get_args(Source)
    }
    assert rows["marker"] - rows["ini"] == {"enabled", "reason"}
    files = {"baseline", "save_baseline"}
    assert rows["command line"] - rows["ini"] == {"all_tests", *files}
    of_runs = {"exit_timeout", "repeat", "junit", "spread_gpus", "max_total_time"}
    of_runs |= {"baseline_required"}
    assert rows["ini"] - rows["library"] == of_runs
    assert {row.name for row in TABLE} == set().union(*rows.values())


def test_a_plan_holds_nothing_of_the_run() -> None:
    plan = {field.name for field in dataclasses.fields(Plan)}
    assert plan == {row.name for row in option_table("marker")}
    assert not plan & {field.name for field in dataclasses.fields(RunOptions)}


def test_the_defaults_are_those_that_the_documentation_states() -> None:
    stated = {
        "iterations": "50",
        "warmup": "5",
        "max_time": "5 min",
        "host_per_iteration": "6 KiB",
        "host_total": "none",
        "blocks": "64",
        "gpu_per_iteration": "1 KiB",
        "gpu_total": "none",
        "objects": "none",
        "sessions": "0",
        "graphs": "0",
        "tensors": "0",
        "clear_session": "around",
        "repeat": "body",
        "require_gpu": "false",
        "ignore": "none",
        "enabled": "true",
        "reason": "none",
    }
    shown = {row.name: row.default_text for row in TABLE}
    assert {name: shown[name] for name in stated} == stated


def test_a_plan_of_no_options_is_the_default_plan() -> None:
    assert make_plan() == Plan()


def test_a_plan_is_frozen_and_hashable() -> None:
    plan = make_plan(ignore=["a", "b"])
    assert hash(plan) == hash(make_plan(ignore=("a", "b")))
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.iterations = 3  # type: ignore[misc]


def test_a_plan_holds_parsed_values() -> None:
    plan = make_plan(
        iterations="20",
        host_per_iteration="4 KiB",
        host_total="none",
        max_time="2 min",
        objects="1.5",
        strict="True",
        ignore="mylib.*",
    )
    assert plan == Plan(
        iterations=20,
        host_per_iteration=4096,
        host_total=None,
        max_time=120.0,
        objects=1.5,
        strict=True,
        ignore=("mylib.*",),
    )


@pytest.mark.parametrize(
    ("keyword", "meant"),
    [("iteration", "iterations"), ("tensor", "tensors"), ("host_totals", "host_total")],
)
def test_an_unknown_keyword_is_refused_with_a_suggestion(
    keyword: str, meant: str
) -> None:
    with pytest.raises(PlanError) as caught:
        parse_options({keyword: 1}, "marker")
    message = str(caught.value)
    assert message.startswith(
        f"unknown keyword {keyword!r} (did you mean {meant!r}?); allowed: "
    )
    allowed = message.partition("allowed: ")[2].split(", ")
    assert allowed == sorted(row.name for row in option_table("marker"))


def test_a_keyword_far_from_all_gets_no_suggestion() -> None:
    with pytest.raises(PlanError, match=r"unknown keyword 'zzz'; allowed: "):
        make_plan(zzz=1)


def test_a_keyword_of_another_source_is_unknown() -> None:
    with pytest.raises(PlanError, match="unknown keyword 'enabled'"):
        make_plan(enabled=False)
    with pytest.raises(PlanError, match="unknown keyword 'all_tests'"):
        parse_option("all_tests", "true", "ini")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": 0}, "iterations=0: expected a whole number, 1 or more"),
        (
            {"iterations": 2**31 - 1},
            "iterations=2147483647: expected a whole number, 100000 or less",
        ),
        (
            {"warmup": 100_001},
            "warmup=100001: expected a whole number, 100000 or less",
        ),
        ({"warmup": -1}, "warmup=-1: expected a whole number, 0 or more"),
        (
            {"host_per_iteration": "4 KBs"},
            f"host_per_iteration='4 KBs': {BYTES_ALLOWED}",
        ),
        (
            {"host_total": "lots"},
            f"host_total='lots': {BYTES_ALLOWED}, or \"none\"",
        ),
        ({"tensors": -1}, "tensors=-1: expected a number, 0 or more"),
        ({"strict": "yes"}, "strict='yes': expected true or false"),
        ({"strict": 1}, "strict=1: expected true or false"),
        (
            {"clear_session": "always"},
            'clear_session=\'always\': expected one of "around", "iteration", "never"',
        ),
        (
            {"ignore": ["", " "]},
            f"ignore=['', ' ']: {PATTERNS_ALLOWED}",
        ),
    ],
)
def test_a_bad_value_is_refused_by_name_value_and_what_is_allowed(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(PlanError, match=f"^{re.escape(message)}$"):
        make_plan(**options)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize(
    "value",
    [
        -1,
        "-1",
        1.0,
        "1.5",
        "1e2",
        "",
        "five",
        "\u0665",
        "--5",
        math.nan,
        math.inf,
        "nan",
    ]
    + [True, False, None, "none", 2**31, str(2**31), "9" * 5000],
    ids=lambda value: repr(value)[:12],
)
def test_a_whole_number_is_a_whole_number(name: str, value: object) -> None:
    with pytest.raises(PlanError, match=rf"^{name}=.*: expected a whole number"):
        make_plan(**{name: value})


@pytest.mark.parametrize("name", WHOLE)
@given(value=st.integers(1, MOST_ITERATIONS))
def test_a_whole_number_may_be_text(name: str, value: int) -> None:
    assert parse_option(name, value, "library") == value
    assert parse_option(name, f" {value} ", "library") == value


def test_only_iterations_must_be_one_at_least() -> None:
    least = dict.fromkeys(WHOLE, 0)
    with pytest.raises(PlanError, match="iterations=0: "):
        make_plan(**least)
    assert make_plan(**{**least, "iterations": 1}).warmup == 0


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    "value",
    [-1, -0.1, "-1", "-inf", "", "one", math.nan, "nan", math.inf, "inf", True, False]
    + [2**62, "1e30", [1]],
    ids=repr,
)
def test_an_allowance_is_a_number_from_zero(name: str, value: object) -> None:
    with pytest.raises(PlanError, match=rf"^{name}=.*: expected a number, 0 or more"):
        make_plan(**{name: value})


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [0, 0.25, 3, 1e6])
def test_an_allowance_may_be_text(name: str, value: float) -> None:
    assert parse_option(name, value, "marker") == value
    assert parse_option(name, str(value), "ini") == value


@pytest.mark.parametrize("name", BYTES)
@pytest.mark.parametrize(
    "value", ["4 KBs", -1, "-1", math.nan, math.inf, True, 2**62, "9999999999 GiB"]
)
def test_an_allowance_of_bytes_is_bounded(name: str, value: object) -> None:
    with pytest.raises(PlanError, match=rf"^{name}=.*: expected 4096 or "):
        make_plan(**{name: value})


@pytest.mark.parametrize("name", BYTES)
def test_an_allowance_of_no_bytes_is_allowed(name: str) -> None:
    assert parse_option(name, 0, "marker") == 0


def test_a_value_becomes_a_builtin() -> None:
    class Figure(IntEnum):
        THREE = 3

    class Float(float):
        """Stand in for numpy.float64, which is a float too."""

    plan = make_plan(iterations=Figure.THREE, tensors=Float(2), threads=Figure.THREE)
    values = (plan.iterations, plan.tensors, plan.threads)
    assert [type(value) for value in values] == [int, float, int]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a.*", ("a.*",)),
        (" a.* ", ("a.*",)),
        (["a", "b"], ("a", "b")),
        (("a",), ("a",)),
        ([], ()),
        ("none", ()),
    ],
)
def test_patterns_are_a_text_or_several(
    value: object, expected: tuple[str, ...]
) -> None:
    assert make_plan(ignore=value).ignore == expected


@pytest.mark.parametrize("value", ["", " ", [""], [1], 1, None, {"a": 1}])
def test_what_is_not_a_pattern_is_refused(value: object) -> None:
    with pytest.raises(PlanError, match=r"^ignore=.*: expected a pattern"):
        make_plan(ignore=value)


class Hostile:
    """A value that cannot be compared or shown."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __bool__ = __len__ = __str__


#: Texts that nearly are values: a number, a unit, a word of an option.
NEARLY = st.tuples(
    st.sampled_from(["", " ", "-", "+", "0x", "1_0", "1e", "\u0665", "nan", "inf"]),
    st.integers(0, 2**70).map(str) | st.floats().map(str) | st.just("9" * 5_000),
    st.sampled_from(
        ["", " ", "\n", "KiB", " kib", "MB", "TiB", "s", " min", "%", "\0"]
    ),
).map("".join)
WORDS = st.sampled_from(["none", "NONE", "half", "on", "true", "quick", "body", "*"])
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.text()
    | NEARLY
    | WORDS
    | st.builds(Hostile)
    | st.binary(max_size=4)
    | st.complex_numbers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


@example(value=2**62 - 1)
@example(value=10**5_000)
@given(value=ANY)
def test_any_value_is_parsed_or_refused_by_name(value: object) -> None:
    for row in TABLE:
        parsed, refusal = outcome(row, value)
        if refusal:
            assert refusal.startswith(f"{row.name}=")
            assert refusal.isprintable() and len(refusal) < 600
        else:
            assert outcome(row, parsed) == (parsed, "")


@given(st.dictionaries(st.text(max_size=12), ANY, max_size=3))
def test_any_keywords_make_a_plan_or_are_refused(keywords: dict[str, object]) -> None:
    with suppress(PlanError):
        make_plan(**keywords)


def outcome(row: Option, value: object) -> tuple[Any, str]:
    try:
        return parse_option(row.name, value, source_of(row)), ""
    except PlanError as error:
        return None, str(error)
