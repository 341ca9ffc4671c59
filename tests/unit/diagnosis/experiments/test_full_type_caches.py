"""The experiment on tf.nest's caches of types, with fake caches."""

from __future__ import annotations

from collections.abc import Sized
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_tfleak.diagnosis.experiments import full_type_caches
from pytest_tfleak.diagnosis.experiments.full_type_caches import FullTypeCaches


class Nest:
    """Keeps up to 1,024 types, as TensorFlow does."""

    def __init__(self) -> None:
        self.kept: set[type] = set()

    def flatten(self, structure: Any, expand_composites: bool) -> list[object]:
        isinstance(structure, Sized)  # an abstract class remembers the answer
        if len(self.kept) < 1_024:
            self.kept.add(type(structure))
        return list(structure)

    def do_nothing(self, *_: object, **options: object) -> None:
        pass

    assert_same_structure = pack_sequence_as = do_nothing


@pytest.fixture
def nest(monkeypatch: pytest.MonkeyPatch) -> Nest:
    nest = Nest()
    monkeypatch.setattr(full_type_caches, "public_nest", lambda: nest)
    return nest


def test_full_caches_take_no_more(nest: Nest) -> None:
    with FullTypeCaches() as experiment:
        assert len(nest.kept) == 1_024
    with FullTypeCaches():
        pass
    assert experiment.failed is None


def test_a_body_has_a_part_in_it_if_its_types_stay(nest: Nest) -> None:
    kept = []
    with FullTypeCaches(acts=False) as experiment:
        experiment.after()
        assert experiment.seen == 0
        for _ in range(3):
            kept.append(type("Kept", (), {}))
            type("Dropped", (), {})
            experiment.after()
    assert experiment.seen == 3
    assert len(nest.kept) < 5


def test_full_caches_are_no_cause(nest: Nest) -> None:
    nest.kept.update(type("Old", (), {}) for _ in range(1_024))
    with FullTypeCaches(acts=False) as experiment:
        kept = type("Kept", (), {})
        experiment.after()
    assert experiment.seen == 0
    assert kept not in nest.kept


def test_a_tensorflow_without_nest_has_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_type_caches, "public_nest", lambda: SimpleNamespace().nest)
    with FullTypeCaches() as experiment:
        pass
    assert "nest" in str(experiment.failed)
