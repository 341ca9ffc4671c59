"""A wrapper of fit() appends its callback to the list of callbacks that it was given.

mlflow/mlflow#4195: autologging changed the user's own list, so each call of fit() added
one more callback to it, and all the earlier ones ran again.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

META = dict[str, str](
    status="leaks today",
    source="mlflow/mlflow#4195",
    kind="RunLogger",
    also="ndarray",
    holder="USER_CALLBACKS",
    made_at="made here",
    stored_at="stored here",
    fix="pass fit() a new list, callbacks + [logger], and leave the user's list alone.",
)

USER_CALLBACKS: list[Any] = [keras.callbacks.TerminateOnNaN()]
X, Y = np.ones([8, 4], "float32"), np.ones([8, 1], "float32")


class RunLogger(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """The metrics of one run."""

    def __init__(self) -> None:
        super().__init__()
        self.losses = np.zeros([4096])

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Note the loss."""
        self.losses[epoch] = (logs or {})["loss"]


def setup() -> Any:
    """Make the model that all calls fit."""
    model = keras.Sequential([keras.Input([4]), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def leaky(model: Any) -> None:
    """Append to the list of the caller."""
    callbacks = USER_CALLBACKS
    logger = RunLogger()  # made here
    callbacks.append(logger)  # stored here
    model.fit(X, Y, callbacks=callbacks, verbose=0)


def clean(model: Any) -> None:
    """Pass a list of its own."""
    callbacks = USER_CALLBACKS[:1] + [RunLogger()]
    model.fit(X, Y, callbacks=callbacks, verbose=0)


def teardown(model: Any) -> None:
    """Empty the list again."""
    del USER_CALLBACKS[1:]
