"""Growth that belongs to TensorFlow, as data: what, since when, and what helps.

Growth counts as known only where an experiment shows it: the cause is taken away and
the growth goes. Known growth without a remedy in the user's hands is reported and does
not fail a test.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

Version = tuple[int, ...]

_MEMORY = ("host.heap", "host.rss", "python.blocks", "python.objects")
_PINNED = (
    "tf.functions",
    "tf.graphs",
    "tf.graphs.ops",
    "tf.registered_functions",
    "tf.tensors",
    "tf.variables",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One way in which a library grows, whatever its user does."""

    name: str
    title: str  # what grows, in plain words
    issues: tuple[str, ...]
    signals: tuple[str, ...]  # where it shows; only these can be explained by it
    experiment: str  # the one that takes the cause away
    library: str = "tensorflow"
    since: Version = (2, 0)
    fixed: Version | None = None  # the first version without it
    remedy: str | None = None  # what the user can do; without one no test fails

    @property
    def issue(self) -> str:
        """Return the issue to read first."""
        return self.issues[0]

    def is_in(self, version: str | None) -> bool:
        """Say whether a version of the library has it; None: it is not imported."""
        if version is None:
            return False
        number = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
        return self.since <= number and (self.fixed is None or number < self.fixed)


#: Those without a remedy come first: only what they leave can fail a test.
KNOWN = (
    Known(
        name="custom-gradient-registry",
        title="custom-gradient registry",
        issues=("tensorflow#97697", "tensorflow#27492"),
        signals=(*_MEMORY, *_PINNED, "tf.custom_gradients"),
        experiment="weak-gradients",
    ),
    Known(
        name="keras-lookup-tables",
        title="lookup tables of Keras layers",
        issues=("tensorflow#61866", "keras#18386"),
        signals=_MEMORY,
        experiment="anonymous-keras-tables",
    ),
    Known(
        name="xla-executables",
        title="XLA executables",
        issues=("tensorflow#64170",),
        signals=(*_MEMORY, "host.allocator", "tf.registered_functions"),
        experiment="no-xla",
    ),
    Known(
        name="keras-automatic-names",
        title="eager kernels of Keras' automatic names, which "
        "keras.utils.clear_session() frees",
        issues=("tensorflow#19671", "tensorflow#37252"),
        signals=_MEMORY,
        experiment="repeated-names",
        library="keras",
        since=(3, 0),
    ),
    Known(
        name="tf-data-iterators",
        title="what tf.data leaves of each dataset and iterator, those of fit() and "
        "predict() too",
        issues=("tensorflow#41395",),
        signals=_MEMORY,
        experiment="quiet-iterators",
    ),
    Known(
        name="scalar-cache",
        title="cache of Python scalars",
        issues=("tensorflow#68196",),
        signals=_MEMORY,
        experiment="no-scalar-cache",
    ),
    Known(
        name="py-function-closures",
        title="Python functions kept by the default graph",
        issues=("tensorflow#37653", "tensorflow#35084"),
        signals=(*_MEMORY, *_PINNED, "tf.py_functions", "host.allocator"),
        experiment="loose-py-functions",
        remedy="py_function, numpy_function and from_generator leave their function in "
        "the default graph, and fit(generator) does so: make the function or the "
        "dataset once, or call keras.utils.clear_session()",
    ),
    Known(
        name="lookup-tables",
        title="lookup tables",
        issues=("tensorflow#61866",),
        signals=_MEMORY,
        experiment="anonymous-tables",
        remedy="a lookup table outlives its object: make it once, or make it with "
        "experimental_is_anonymous=True",
    ),
    Known(
        name="eager-kernel-cache",
        title="cache of eager kernels",
        issues=("tensorflow#19671", "tensorflow#37252"),
        signals=_MEMORY,
        experiment="no-kernel-cache",
        remedy="each new name, seed or attribute of an operation is a new kernel that "
        "TensorFlow keeps: call keras.utils.clear_session(), or use fixed names and "
        "tf.random.stateless_* with the seed as a tensor",
    ),
)


def find_known(name: str) -> Known | None:
    """Return the entry of this name."""
    return next((entry for entry in KNOWN if entry.name == name), None)


def known_here() -> tuple[Known, ...]:
    """Return the entries for the libraries that this process has imported."""
    return tuple(entry for entry in KNOWN if entry.is_in(_version(entry.library)))


def _version(library: str) -> str | None:
    # looked up, never imported
    version = getattr(sys.modules.get(library), "__version__", None)
    return version if isinstance(version, str) else None
