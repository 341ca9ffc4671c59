"""Results go into a dict that is the default value of an argument.

microsoft/qlib#2177: ``def fit(self, dataset, evals_result=dict())`` in 27 models; what
one fit() puts there is still there in the next.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import tensorflow as tf

META = dict[str, str](
    status="leaks today",
    source="microsoft/qlib#2177",
    kind="EagerTensor",
    also="dict",
    holder="fit.__defaults__[0]",
    made_at="made here",
    stored_at="stored here",
    fix="use None as the default and make the dict in the call.",
)

RUNS = count()


def fit(data: Any, evals_result: dict[str, Any] = {}) -> float:  # noqa: B006 - the leak
    """Fit, and note the curves of this run."""
    curve = tf.cumsum(data)  # made here
    evals_result[f"run {next(RUNS)}"] = {"train": curve}  # stored here
    return float(curve[-1, -1])


def setup() -> Any:
    """Make the data that all calls fit."""
    return tf.ones([64, 64])


def leaky(data: Any) -> None:
    """Rely on the default."""
    fit(data)


def clean(data: Any) -> None:
    """Pass a dict."""
    fit(data, {})


def teardown(data: Any) -> None:
    """Empty the default."""
    (fit.__defaults__ or ({},))[0].clear()
