"""The examples on the pages of causes are complete, and easy to read."""

from __future__ import annotations

import ast
import builtins

import pytest

from pytest_tfleak.diagnosis.causes.all_causes import CAUSES
from tests.planted_pairs import FILES
from tests.planted_pairs import PLANTED
from tests.planted_pairs import Pair
from tests.planted_pairs import planted_in
from tests.planted_pairs import planted_pairs
from tests.planted_pairs import rows_to_show
from tests.planted_pairs import slug_of

PAIRS = planted_pairs()
MESSAGE = """\
LEAK: tf.tensors +1/iteration at test_it.py:9

  what grows   eager tensors (tf.tensors)
  readings     6 ▁▁▂▂ 105
  held by      test_it.KEPT (list of 105) →
               EagerTensor
  made at      test_it.py:9 in test_it
               KEPT.append(tf.ones([128]))  # pl...
  also         host.heap +64.6 KiB per iteration (allowance 6 KiB)
  cause        A tensor is kept.

  leak 2       threads (process.threads)
  to allow it  @pytest.mark.tfleak(tensors=1)
"""


def test_every_cause_is_planted_and_mended() -> None:
    planted = {test for name in FILES for test in planted_in(name)}
    leaking = {test for test in planted if not test.endswith("_mended")}
    missing = {cause.slug for cause in CAUSES} - set(map(slug_of, leaking))
    tests = [f"test_{slug}".replace("-", "_") for slug in sorted(missing)]
    assert not tests, f"plant {tests}, each with its twin `…_mended`, in {PLANTED}"
    assert {f"{test}_mended" for test in leaking} == planted - leaking
    unknown = set(map(slug_of, leaking)) - {cause.slug for cause in CAUSES}
    assert not unknown, "these planted tests are named after no cause"


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_an_example_has_all_that_it_uses(pair: Pair) -> None:
    tree = ast.parse(pair.leaking + pair.mended)
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    made = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        made |= {getattr(node, "name", None) or "", getattr(node, "arg", None) or ""}
        for alias in getattr(node, "names", []) if "Import" in repr(node) else []:
            made.add((alias.asname or alias.name).partition(".")[0])
    assert {node.id for node in names} <= made | set(dir(builtins))


def test_an_example_has_what_works_on_its_names_and_nothing_else() -> None:
    assert "linecache.cache[" in PAIRS["code-compiled-in-loop"].leaking
    assert "matplotlib._pylab_helpers" in PAIRS["figure-not-closed"].leaking
    registered = PAIRS["registered-in-loop"]
    assert "tf.register_tensor_conversion_function(WrappedOnce" in registered.mended
    assert all("WrappedOnce" not in pair.leaking for pair in PAIRS.values())


def test_an_example_has_no_hints_for_the_tests() -> None:
    text = "".join(pair.leaking + pair.mended for pair in PAIRS.values())
    assert "# planted" not in text
    assert "# noqa" not in text


def test_a_mended_example_has_only_what_is_new() -> None:
    pair = PAIRS["array-kept"]
    assert "KEPT = []" in pair.leaking
    assert "KEPT = []" not in pair.mended


def test_settings_that_make_a_difference_are_shown() -> None:
    assert "@pytest.mark.tfleak(faults=True)" in PAIRS["exit-only-on-success"].leaking


def test_a_decorator_belongs_to_the_example() -> None:
    assert "@tf.function\ndef " in PAIRS["retrace-new-object"].leaking


def test_a_local_name_brings_no_fixture_of_that_name() -> None:
    pair = PAIRS["custom-gradient-registry"]
    assert "def model()" not in pair.leaking
    assert "def model()" in pair.mended


def test_a_page_has_the_rows_on_what_leaks_and_why() -> None:
    assert rows_to_show(MESSAGE) == (
        "LEAK: tf.tensors +1/iteration at test_it.py\n\n"
        "  what grows   eager tensors (tf.tensors)\n"
        "  held by      test_it.KEPT (list of 105) →\n"
        "               EagerTensor\n"
        "  made at      test_it.py in test_it\n"
        "               KEPT.append(tf.ones([128]))\n"
        "  cause        A tensor is kept.\n"
    )
