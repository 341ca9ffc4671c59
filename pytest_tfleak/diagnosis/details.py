"""What an object is: kind, name, dtype, shape, bytes, state, in a few words.

Called on objects of any kind, hostile ones included: no code of theirs runs, nothing of
them is kept.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from pytest_tfleak.diagnosis.fields import type_name
from pytest_tfleak.diagnosis.phrase import Phrase
from pytest_tfleak.diagnosis.phrase import describe_alike
from pytest_tfleak.diagnosis.python_details import describe_python
from pytest_tfleak.diagnosis.tensorflow_details import describe_tensorflow

_MOST = 100  # objects of one group that are looked at


def describe_object(o: object) -> str:
    """Return what an object is: ``EagerTensor float32[128,128] (64 KiB)``."""
    return _phrase(o).words()


def describe_group(objects: Sequence[object], per_iteration: float | None) -> str:
    """Return what like objects are, and how many an iteration leaves.

    None or 0 as the rate: they are there, and do not pile up.
    """
    if not objects:
        return ""
    return describe_alike([_phrase(o) for o in objects[-_MOST:]], per_iteration)


def _phrase(o: object) -> Phrase:
    for describe in (describe_tensorflow, describe_python):
        with suppress(Exception):  # an object that is half made, or half gone
            phrase = describe(o)
            if phrase is not None:
                return phrase
    return Phrase(kind=type_name(type(o)))
