"""A study keeps each trial, and each trial has the weights of its model attached.

optuna/optuna#3050: memory grows with each trial of a Keras study. That the objective
attaches the weights to the trial, to load the best ones afterwards, is our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from typing import Any

import keras

META = dict[str, str](
    status="leaks today",
    source="optuna/optuna#3050",
    kind="Trial",
    also="ndarray, dict, list",
    holder="state.trials, by Trial.user_attrs['weights']",
    made_at="made here",
    stored_at="stored here",
    fix="save the weights to a file, or keep those of the best trial only.",
)


@dataclass
class Trial:
    """One trial."""

    value: float = 0.0
    user_attrs: dict[str, Any] = field(default_factory=dict)


@dataclass
class Study:
    """All trials, or the best."""

    model: Any
    trials: list[Trial] = field(default_factory=list)
    best: Trial | None = None


def setup() -> Study:
    """Make a study of one model."""
    return Study(keras.Sequential([keras.Input([64]), keras.layers.Dense(64)]))


def objective(study: Study) -> Trial:
    """Run a trial."""
    trial = Trial(value=0.5)  # made here
    weights = study.model.get_weights()  # made here
    trial.user_attrs["weights"] = weights
    return trial


def leaky(study: Study) -> None:
    """Keep the trial."""
    trial = objective(study)
    study.trials.append(trial)  # stored here


def clean(study: Study) -> None:
    """Keep it if it is the best."""
    trial = objective(study)
    if study.best is None or trial.value > study.best.value:
        study.best = trial
