"""Known growth of TensorFlow as data: what grows, since when, and what helps.

Growth counts as known only if an experiment shows it: an intervention takes the cause
away, and the growth stops. Known growth that has no remedy for users is reported and
does not fail a test.

To add an entry, write it here, and in ``diagnosis/experiments/`` the intervention that
it names, which is listed in ``INTERVENTIONS`` of ``tensorflow.py`` there. A remedy is
explained by a cause of the same name in ``diagnosis/causes/proven.py``. In a remedy,
``{clear_session}`` stands for the call of the Keras that the body uses.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from dataclasses import replace

from pytest_tfleak.signals import SIGNALS
from pytest_tfleak.signals import names_of

Version = tuple[int, ...]

_CLEAR_SESSION = "{clear_session}"
#: Growth that falls by less than this share has another cause.
PART = 0.2

_MEMORY = names_of("object", "memory")
_CAPTURED = tuple(row.name for row in SIGNALS if row.is_captured)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One way in which the memory of a library grows."""

    name: str
    title: str  # what grows, in plain words
    issues: tuple[str, ...]  # or the source file, if there is no issue
    signals: tuple[str, ...]  # that it makes grow; it explains no others
    experiment: str  # that takes the cause away
    libraries: tuple[str, ...] = ("tensorflow",)  # any of them
    since: Version = (2, 0)
    fixed: Version | None = None  # the first version without it
    is_small: bool = False  # whether it adds little in each call
    makes_kernels: bool = False  # whether operations with new attributes make it grow
    remedy: str | None = None  # what users can do; growth without one fails no test

    @property
    def issue(self) -> str:
        """Return the issue to read first."""
        return self.issues[0]

    def is_in(self, version: str | None) -> bool:
        """Return whether a version of the library has it; None: it is not imported."""
        if version is None:
            return False
        number = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
        return self.since <= number and (self.fixed is None or number < self.fixed)


#: Those without a remedy come first: only the growth that is left can fail a test.
KNOWN = (
    Known(
        name="custom-gradient-registry",
        title="custom-gradient registry",
        issues=("tensorflow#97697", "tensorflow#27492"),
        signals=(*_MEMORY, *_CAPTURED, "tf.custom_gradients"),
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
        title="eager kernels of Keras' automatic names, which its clear_session() "
        "frees",
        issues=("tensorflow#19671", "tensorflow#37252"),
        signals=_MEMORY,
        experiment="repeated-names",
        libraries=("keras", "tf_keras"),
    ),
    Known(
        name="kernels-made-again",
        title="what TensorFlow keeps of eager kernels that it makes again after "
        "set_seed() or clear_session() has emptied their cache",
        issues=("tensorflow/core/common_runtime/eager/context.cc",),
        signals=_MEMORY,
        experiment="kept-kernels",
    ),
    Known(
        name="tf-data-functions",
        title="functions that reduce(), scan(), save() and other methods of a dataset "
        "leave in the default graph, which Keras' clear_session() frees",
        issues=("tensorflow#56177",),
        signals=(*_MEMORY, *_CAPTURED, "tf.registered_functions"),
        experiment="loose-dataset-functions",
    ),
    Known(
        name="py-function-wrappers",
        title="wrappers of a Python function, one for each py_function or "
        "numpy_function that is made of it",
        issues=("tensorflow#35084",),
        signals=(*_MEMORY, *_CAPTURED, "tf.py_functions"),
        experiment="loose-wrappers",
    ),
    Known(
        name="tf-data-iterators",
        title="what tf.data leaves of each dataset and iterator, those of fit() and "
        "predict() too",
        issues=("tensorflow#41395",),
        signals=_MEMORY,
        experiment="quiet-iterators",
        is_small=True,
    ),
    Known(
        name="nest-types",
        title="types that tf.nest has looked at, of which it keeps 1,024",
        issues=("tensorflow/python/util/util.cc",),
        signals=_MEMORY,
        experiment="full-type-caches",
    ),
    Known(
        name="traceback-code",
        title="code of Python functions that have added operations to a graph, which "
        "is kept for tracebacks",
        issues=("tensorflow/python/util/stack_trace.cc",),
        signals=_MEMORY,
        experiment="one-traceback",
    ),
    Known(
        name="scalar-cache",
        title="cache of Python scalars",
        issues=("tensorflow#68196",),
        signals=_MEMORY,
        experiment="no-scalar-cache",
        is_small=True,
    ),
    Known(
        name="py-function-closures",
        title="Python functions kept by the default graph",
        issues=("tensorflow#37653", "tensorflow#35084"),
        signals=(
            *_MEMORY,
            *_CAPTURED,
            "tf.py_functions",
            "tf.datasets",
            "host.allocator",
        ),
        experiment="loose-py-functions",
        remedy="Call `{clear_session}` between the calls; or make the function once, "
        "with a generator the dataset: py_function, numpy_function, from_generator and "
        "fit(generator) put each new one into the default graph.",
    ),
    Known(
        name="lookup-tables",
        title="lookup tables",
        issues=("tensorflow#61866",),
        signals=_MEMORY,
        experiment="anonymous-tables",
        remedy="Make it with `experimental_is_anonymous=True`: then it is freed with "
        "its object; or make it once.",
    ),
    Known(
        name="eager-kernel-cache",
        title="cache of eager kernels",
        issues=("tensorflow#19671", "tensorflow#37252"),
        signals=_MEMORY,
        experiment="no-kernel-cache",
        makes_kernels=True,
        remedy="Call `{clear_session}` between the calls; or use fixed names, and "
        "`tf.random.stateless_*` with the seed as a tensor: each new name, seed or "
        "attribute of an operation is a new kernel.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """An experiment that clearly lowered the growth of a signal."""

    signal: str
    words: str  # what was changed
    before: float  # growth per iteration
    after: float
    entry: Known | None = None  # None: the change is not a known cause


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownGrowth:
    """What experiments showed about the growth of libraries.

    ``causes`` and ``untried`` are entries without a remedy: growth that they explain
    does not fail a test. The body is judged again without the causes.
    """

    causes: tuple[Known, ...] = ()
    untried: tuple[Known, ...] = ()
    failure: str | None = None  # what ended the experiments early, except for time
    trials: tuple[Trial, ...] = ()
    released: frozenset[str] = frozenset()  # signals, by clearing the Keras session
    notes: tuple[str, ...] = ()
    limit: str = "diagnose_time"  # the option that allows more time
    is_out_of_room: bool = False  # and not out of time
    clear_session: str = ""  # the call of the Keras that the body uses, if known

    @property
    def taken_away(self) -> dict[str, float]:
        """Return how much the causes add to each signal per iteration."""
        trials: dict[str, list[Trial]] = {}
        for trial in self.trials:
            if trial.entry in self.causes:
                trials.setdefault(trial.signal, []).append(trial)
        return {
            signal: max(t.before for t in found) - min(t.after for t in found)
            for signal, found in trials.items()
        }

    def joined(self, later: KnownGrowth) -> KnownGrowth:
        """Return this and what experiments have shown after it."""
        return replace(
            later,
            causes=(*self.causes, *later.causes),
            trials=(*self.trials, *later.trials),
            clear_session=self.clear_session or later.clear_session,
        )


def is_lowered(before: float, after: float, limit: float, share: float) -> bool:
    """Return whether growth above a limit fell by this share and by more than noise."""
    drop = before - after
    if before <= limit or drop < share * before:
        return False
    return after <= limit or drop > limit


def find_known(name: str) -> Known | None:
    """Return the entry of this name."""
    return next((entry for entry in KNOWN if entry.name == name), None)


def known_here() -> tuple[Known, ...]:
    """Return the entries for the libraries that this process has imported."""
    return tuple(
        entry
        for entry in KNOWN
        if any(map(entry.is_in, map(_version, entry.libraries)))
    )


def names_clear_session(text: str) -> bool:
    """Return whether a text has a place for the call that clears the Keras session."""
    return _CLEAR_SESSION in text


def name_clear_session(text: str, call: str) -> str:
    """Put the call that clears the Keras session into a text that has its place."""
    return text.replace(_CLEAR_SESSION, call)


def _version(library: str) -> str | None:
    # looked up, never imported
    version = getattr(sys.modules.get(library), "__version__", None)
    return version if isinstance(version, str) else None
