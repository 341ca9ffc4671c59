"""The texts of a cause where no case fills them in: for its page and its rule."""

from __future__ import annotations

import re

from pytest_tfleak.diagnosis.causes.all_causes import cause_named
from pytest_tfleak.diagnosis.causes.places import PLACES
from pytest_tfleak.known import name_clear_session
from pytest_tfleak.tf.access import KERASES

_CODE = re.compile(r"\w+\(")  # ``fit() returns ...``


def in_general(text: str) -> str:
    """Return a text of the table, with words for what a case would fill in."""
    for name, place in PLACES.items():
        text = text.replace(f"{{{name}}}", place.shown)
    text = name_clear_session(text, KERASES[0].clear_session)
    return text if _CODE.match(text) else text[:1].upper() + text[1:]


def texts_of(slug: str) -> tuple[str, str] | None:
    """Return what happens and what to do about it, None for an unknown cause."""
    cause = cause_named(slug)
    if cause is None:
        return None
    return in_general(cause.explains), in_general(cause.remedy)
