"""Names that differ by a number, as one name."""

from __future__ import annotations

import pytest

from pytest_tfleak.diagnosis.folding import fold_name
from pytest_tfleak.diagnosis.folding import fold_names


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("/dev/shm/psm_3aa8b863", "/dev/shm/psm_*"),
        ("/srv/run-0f1e2d3c4b5a/log", "/srv/run-*/log"),
        ("3aa8b863.ckpt", "*.ckpt"),
        ("/srv/deadbeef/x", "/srv/deadbeef/x"),  # a word
        ("/srv/facade12x", "/srv/facade*x"),
    ],
)
def test_a_hash_is_what_may_differ(name: str, folded: str) -> None:
    assert fold_name(name) == folded


def test_segments_of_shared_memory_are_one_name() -> None:
    names = ["/dev/shm/psm_3aa8b863", "/dev/shm/psm_4e4fcfbf", "/dev/shm/psm_00000000"]
    assert fold_names(names) == {"/dev/shm/psm_*": 3}
