"""Known growth is recognized with each Keras, and remedies name its own functions."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from pytest_tfleak import Status
from pytest_tfleak import Verdict
from pytest_tfleak.known import KNOWN
from pytest_tfleak.known import Known
from pytest_tfleak.known import name_clear_session
from pytest_tfleak.tf.access import KERASES
from pytest_tfleak.tf.names import CLEAR_SESSION

RunPlanted = Callable[..., dict[str, Verdict]]

PACKAGES = ("keras", "tf_keras")
#: The call in each package; the Keras in TensorFlow 2.15 is called keras, too.
CALLS = {
    package: {keras.clear_session for keras in KERASES if keras.package == package}
    for package in PACKAGES
}


@pytest.fixture
def run_with(run_planted: RunPlanted, monkeypatch: pytest.MonkeyPatch) -> RunPlanted:
    """Return a function that runs bodies with one Keras."""

    def run(package: str, *names: str) -> dict[str, Verdict]:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
        monkeypatch.setenv("KERAS", package)
        bodies = " or ".join(f"[{name.replace('-', '_')}]" for name in names)
        verdicts = run_planted("kerases", "-k", bodies)
        return {name[12:-1].replace("_", "-"): v for name, v in verdicts.items()}

    return run


def complaint_about(package: str, entry: Known, verdict: Verdict) -> str:
    """Return what is wrong with the verdict on a body with an entry's growth."""
    shown = f"{verdict.status} {verdict.detail} {verdict.findings}"
    if entry.remedy is None:
        is_right = verdict.status is Status.CLEAN and not verdict.failing
        # growth that is too small for a verdict of its own is not examined
        return "" if is_right else shown
    advice = [str(f.advice) for f in verdict.failing if f.known == entry.name]
    remedies = tuple(name_clear_session(entry.remedy, call) for call in CALLS[package])
    is_right = bool(advice) and all(text.endswith(remedies) for text in advice)
    if verdict.status is Status.LEAK and is_right:
        return ""
    return shown


def test_automatic_names_of_keras_2_are_known(run_with: RunPlanted) -> None:
    verdict = run_with("tf_keras", "keras-automatic-names")["keras-automatic-names"]
    assert verdict.status is Status.CLEAN
    (finding,) = verdict.findings
    assert (finding.signal, finding.known) == ("host.heap", "keras-automatic-names")


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_each_entry_with_each_keras(run_with: RunPlanted, package: str) -> None:
    names = [entry.name for entry in KNOWN]
    verdicts = run_with(package, *names)
    assert set(verdicts) == set(names)
    complaints = {
        entry.name: complaint_about(package, entry, verdicts[entry.name])
        for entry in KNOWN
    }
    assert not {name: words for name, words in complaints.items() if words}


def test_every_entry_has_a_body_for_each_keras() -> None:
    planted = Path(__file__).parent / "planted" / "kerases.py"
    source = planted.read_text("utf-8")
    bodies = {f"def {entry.name.replace('-', '_')}()" for entry in KNOWN}
    assert not {body for body in bodies if body not in source}


def test_every_keras_has_a_call_that_clears_its_session() -> None:
    places = {place.library for place in CLEAR_SESSION.places}
    assert {keras.library for keras in KERASES} == places
