"""The bodies that ``overhead.py`` measures, and the summary of repetitions."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from time import perf_counter
from typing import Any

Body = Callable[[], object]
Figures = dict[str, float]

SPINS = {"0 ms": 0.0, "1 ms": 0.001, "20 ms": 0.020}
#: Calls of a body before anything is timed: the first ones trace and fill caches.
FIRST_CALLS = 3
#: The default iterations of a test, including the warm-up.
CALLS = 55


def make_bodies() -> dict[str, Body]:
    """Return the bodies by name; imports Keras, and with it TensorFlow."""
    bodies: dict[str, Body] = {
        name: partial(_spin, seconds) if seconds else _nothing
        for name, seconds in SPINS.items()
    }
    bodies["10,000 objects"] = _Holder()
    bodies["model.fit"] = make_fit()
    for body in bodies.values():
        for _ in range(FIRST_CALLS):
            body()
    return bodies


def time_calls(body: Body, count: int) -> float:
    """Return the seconds that a bare loop takes for ``count`` calls."""
    started = perf_counter()
    for _ in range(count):
        body()
    return perf_counter() - started


def summed_up(values: Sequence[float], scale: float = 1.0, digits: int = 4) -> Figures:
    """Return median, minimum, quartiles and maximum of some repetitions."""
    scaled = sorted(value * scale for value in values)
    quartiles = statistics.quantiles(scaled, n=4, method="inclusive")
    figures = {
        "median": statistics.median(scaled),
        "min": scaled[0],
        "lower": quartiles[0],
        "upper": quartiles[2],
        "max": scaled[-1],
    }
    return {name: round(value, digits) for name, value in figures.items()}


def _nothing() -> None:
    return None


def _spin(seconds: float) -> None:
    end = perf_counter() + seconds
    while perf_counter() < end:
        pass


class _Holder:
    """Replaces 10,000 small lists by new ones: much to collect and scan, no leak."""

    def __init__(self) -> None:
        self.held: list[list[int]] = []

    def __call__(self) -> None:
        self.held = [[number] for number in range(10_000)]


def make_fit(batch_size: int = 8) -> Body:
    """Return a body that fits a small Keras model to 32 examples."""
    keras: Any = import_module("keras")
    numpy: Any = import_module("numpy")
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1)]
    )
    model.compile("adam", "mse")
    x = numpy.ones((32, 8), "float32")
    y = numpy.ones((32, 1), "float32")
    return partial(model.fit, x, y, batch_size=batch_size, verbose=0)
