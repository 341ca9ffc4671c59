"""The table of signals, with one row for each, and functions that look it up.

To add a signal, add its row here and a probe that reads it. The row says how messages
name the signal, how important it is, which objects explain its growth, and its
allowance: an option (a field of ``plan.py``), or a fixed number. Its family determines
its rank and which part of the diagnosis applies. Add a new probe to ``make_probes`` in
``probes/``; its ``why_off`` says what it needs but lacks. The table in
``docs/signals.md`` is generated. A signal of another package's probe needs no row: its
family follows from its unit.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from typing import get_args

from pytest_tfleak.tf import names
from pytest_tfleak.trace import Nature
from pytest_tfleak.trace import Signal

TypeName = tuple[str, str]  # module, qualified name
Family = Literal[
    "session",
    "scope",  # scopes that were entered and never left
    "graph",
    "keras",
    "data",
    "function",
    "tensor",
    "context",  # TensorFlow's eager context
    "registry",  # a registry outside of the eager context
    "other",  # what another library counts
    "system",  # what the operating system counts
    "object",  # Python objects of any type
    "allocator",  # TensorFlow's own figure for a device
    "memory",  # memory of this process and its children
    "device",  # memory of a card
]
#: In order of importance: holders come before the objects they hold, and objects come
#: before memory.
_FAMILIES: tuple[Family, ...] = get_args(Family)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRow:
    """The properties of one signal, for any device in brackets after its name."""

    name: str
    unit: str  # "B", or the plural of what is counted
    family: Family
    nature: Nature = "exact"

    #: The option with its allowance, or the allowance; None if it never decides.
    allowance: str | int | None = None
    #: Whether the allowance is a rate per iteration or a number left at the end.
    allows: Literal["rate", "total"] = "rate"
    #: The option that also limits its growth over the whole run.
    total: str | None = None
    #: This signal only decides if that one was not measured.
    instead_of: str | None = None
    #: Growth per iteration that its noise hides; no allowance is smaller.
    noise: int = 0
    #: Growth per iteration that raises a doubt if another signal decides instead and no
    #: exact signal explains it.
    doubtful: int | None = None

    #: Types of the objects that it counts, and subclasses that it does not count. A
    #: type belongs to one signal: one that counts a part of another's objects is named
    #: in the other's ``behind``, too.
    types: tuple[TypeName, ...] = ()
    unless: tuple[TypeName, ...] = ()
    #: The signals whose objects explain its growth: use the first of them whose objects
    #: pile up. If empty, the objects that it counts itself explain it.
    behind: tuple[str, ...] = ()
    #: Signals that include the same memory: if one of them grows, this signal makes no
    #: finding of its own.
    part_of: tuple[str, ...] = ()
    #: Whether traced functions capture its objects, so that a kept function adds to it.
    is_captured: bool = False

    grows: str  # what grows, as a noun
    one: str = ""  # singular and plural, for "1 session is still open"
    many: str = ""
    state: str = "alive"
    look_for: str = ""  # the usual cause, and what helps
    #: Whether TensorFlow may hang when the process exits while such objects are left.
    may_hang_at_exit: bool = False

    @property
    def option(self) -> str:
        """Return the name of the option that allows its growth, "" if none does."""
        return self.allowance if isinstance(self.allowance, str) else ""

    @property
    def counts_objects(self) -> bool:
        """Return whether it counts single Python objects of some types."""
        return bool(self.types) and self.family != "system" and not self.behind


#: Grouped by family, with the most important signal of each first. The first finding
#: leads a message; the others follow in short.
SIGNALS: tuple[SignalRow, ...] = (
    SignalRow(
        name="tf.sessions",
        unit="open sessions",
        family="session",
        allowance="sessions",
        allows="total",
        grows="open sessions",
        one="session",
        many="sessions",
        state="open",
        look_for="a session that is never closed; use `with tf.compat.v1.Session() as "
        "session:`",
        types=names.SESSION.types,
    ),
    SignalRow(
        name="tf.sessions.closed",
        unit="closed sessions",
        family="session",
        allowance="sessions",
        allows="total",
        grows="closed sessions that something still holds",
        one="closed session",
        many="closed sessions",
        state="held",
        look_for="a list, an attribute or a fixture that keeps the closed Session "
        "object",
        behind=("tf.sessions",),
    ),
    SignalRow(
        name="tf.session_stack",
        unit="entries",
        family="scope",
        allowance="sessions",
        allows="total",
        grows="sessions on the stack of default sessions",
        one="session",
        many="sessions",
        state="on the stack of default sessions",
        look_for="an InteractiveSession without close(), or a session.as_default() "
        "never left",
        behind=("tf.sessions",),
    ),
    SignalRow(
        name="tf.graph_stack",
        unit="entries",
        family="scope",
        allowance="graphs",
        allows="total",
        grows="graphs on the stack of default graphs",
        one="graph",
        many="graphs",
        state="on the stack of default graphs",
        look_for="a graph.as_default() never left, or an InteractiveSession without "
        "close()",
        behind=("tf.graphs", "tf.sessions"),
    ),
    SignalRow(
        name="tf.tapes",
        unit="entries",
        family="scope",
        allowance=0,
        allows="total",
        grows="gradient tapes that were entered and never left",
        one="gradient tape",
        many="gradient tapes",
        state="open",
        look_for="a gradient tape that is entered and never left; use a with statement",
    ),
    SignalRow(
        name="tf.accumulators",
        unit="entries",
        family="scope",
        allowance=0,
        allows="total",
        grows="forward accumulators that were entered and never left",
        one="forward accumulator",
        many="forward accumulators",
        state="open",
        look_for="an accumulator that is entered and never left; use a with statement",
    ),
    SignalRow(
        name="tf.strategy",
        unit="entries",
        family="scope",
        allowance=0,
        allows="total",
        grows="distribution scopes that were entered and never left",
        one="distribution scope",
        many="distribution scopes",
        state="open",
        look_for="a distribution scope that is entered and never left; use a with "
        "statement",
    ),
    SignalRow(
        name="tf.creator_scope",
        unit="entries",
        family="scope",
        allowance=0,
        allows="total",
        grows="variable-creator scopes that were entered and never left",
        one="variable-creator scope",
        many="variable-creator scopes",
        state="open",
        look_for="a variable-creator scope that is entered and never left; use a "
        "with statement",
    ),
    SignalRow(
        name="tf.control_scope",
        unit="entries",
        family="scope",
        allowance=0,
        allows="total",
        grows="control-dependency scopes that were entered and never left",
        one="control-dependency scope",
        many="control-dependency scopes",
        state="open",
        look_for="a scope that is entered and never left; use a with statement",
    ),
    SignalRow(
        name="tf.device_scope",
        unit="entries",
        family="scope",
        allowance=0,
        allows="total",
        grows="device scopes that were entered and never left",
        one="device scope",
        many="device scopes",
        state="open",
        look_for="a device scope that is entered and never left; use a with statement",
    ),
    SignalRow(
        name="tf.name_scope",
        unit="entries",
        family="scope",
        allowance=0,
        allows="total",
        grows="name scopes that were entered and never left",
        one="name scope",
        many="name scopes",
        state="open",
        look_for="a name scope that is entered and never left; use a with statement",
    ),
    SignalRow(
        name="tf.summary_writer",
        unit="entries",
        family="scope",
        allowance=0,
        allows="total",
        grows="summary writers that were made the default, and never undone",
        one="summary writer",
        many="summary writers",
        state="set as the default",
        look_for="a writer.as_default() that is entered and never left; use a with "
        "statement",
    ),
    SignalRow(
        name="tf.eager_mode",
        unit="entries",
        family="scope",
        allowance=0,
        allows="total",
        grows="changes of eager mode",
        one="change of eager mode",
        many="changes of eager mode",
        state="in force",
        look_for="a call that switches eager execution on or off and is never undone",
    ),
    SignalRow(
        name="tf.graphs",
        unit="graphs",
        family="graph",
        allowance="graphs",
        allows="total",
        grows="graphs",
        one="graph",
        many="graphs",
        look_for="whatever keeps the tf.Graph, or a tensor or operation of it",
        types=names.GRAPH.types,
        unless=names.FUNCTION_GRAPH.types + names.DEFUN_GRAPH.types,
        is_captured=True,
    ),
    SignalRow(
        name="tf.default_graph.ops",
        unit="operations",
        family="graph",
        allowance="operations",
        grows="operations in the default graph",
        one="operation",
        many="operations",
        state="in the default graph",
        look_for="operations added in each call; build the graph once, and then only"
        " run it",
    ),
    SignalRow(
        name="tf.graphs.ops",
        unit="operations",
        family="graph",
        allowance="operations",
        grows="operations in graphs other than the default one",
        one="operation",
        many="operations",
        look_for="operations added in each call; build the graph once, then run it",
        behind=("tf.graphs",),
        is_captured=True,
    ),
    SignalRow(
        name="keras.layers",
        unit="layers",
        family="keras",
        allowance="layers",
        grows="Keras layers",
        one="Keras layer",
        many="Keras layers",
        look_for="a model or layer that each call makes and something keeps",
        types=names.LAYER.types,
    ),
    SignalRow(
        name="keras.optimizers",
        unit="optimizers",
        family="keras",
        allowance="optimizers",
        grows="Keras optimizers",
        one="Keras optimizer",
        many="Keras optimizers",
        look_for="a model or optimizer that each call makes and something keeps",
        types=names.OPTIMIZER.types,
    ),
    SignalRow(
        name="tf.datasets",
        unit="datasets",
        family="data",
        allowance="datasets",
        grows="datasets",
        one="dataset",
        many="datasets",
        look_for="a dataset that each call makes and something keeps",
        types=names.DATASET.types,
    ),
    SignalRow(
        name="tf.iterators",
        unit="iterators",
        family="data",
        allowance="iterators",
        grows="dataset iterators",
        one="dataset iterator",
        many="dataset iterators",
        look_for="an iterator that each call makes and something keeps",
        types=names.ITERATOR.types + names.ITERATOR_1.types,
        may_hang_at_exit=True,
    ),
    SignalRow(
        name="tf.traces",
        unit="traces",
        family="function",
        allowance="traces",
        grows="traces of tf.functions",
        one="trace",
        many="traces",
        look_for="a tf.function that is retraced in each call; pass tensors instead of "
        "Python numbers, and do not create the function inside the call",
        types=names.FUNCTION.types,
        behind=("tf.functions", "tf.traces"),
    ),
    SignalRow(
        name="tf.functions",
        unit="concrete functions",
        family="function",
        allowance="functions",
        grows="concrete functions",
        one="concrete function",
        many="concrete functions",
        look_for="a tf.function that each call retraces, or creates and keeps",
        types=names.CONCRETE_FUNCTION.types,
        is_captured=True,
    ),
    SignalRow(
        name="tf.variables",
        unit="variables",
        family="tensor",
        allowance="variables",
        grows="TensorFlow variables",
        one="variable",
        many="variables",
        look_for="a variable that each call makes and a list, cache or attribute keeps",
        types=names.VARIABLE.types,
        is_captured=True,
    ),
    SignalRow(
        name="tf.tensors",
        unit="tensors",
        family="tensor",
        allowance="tensors",
        grows="eager tensors",
        one="tensor",
        many="tensors",
        look_for="a list, a cache or an attribute that keeps a tensor of each call",
        types=names.EAGER_TENSOR.types,
        is_captured=True,
    ),
    SignalRow(
        name="tf.registered_functions",
        unit="functions",
        family="context",
        allowance="registered_functions",
        grows="functions in TensorFlow's eager context",
        one="registered function",
        many="registered functions",
        state="registered",
        look_for="a tf.function, or a dataset with a function, that each call creates",
        behind=("tf.functions", "tf.traces"),
        is_captured=True,
    ),
    SignalRow(
        name="tf.py_functions",
        unit="Python functions",
        family="registry",
        allowance="py_functions",
        grows="Python functions that TensorFlow's operations call",
        one="Python function",
        many="Python functions",
        state="registered",
        look_for="py_function, numpy_function or from_generator called in each call",
    ),
    SignalRow(
        name="tf.custom_gradients",
        unit="registry entries",
        family="registry",
        allowance="custom_gradients",
        grows="entries of the custom-gradient registry",
        one="custom gradient",
        many="custom gradients",
        state="registered",
        look_for="a function with a custom gradient that is retraced in each call",
    ),
    SignalRow(
        name="process.threads",
        unit="threads",
        family="system",
        allowance="threads",
        grows="threads",
        one="thread",
        many="threads",
        state="running",
        look_for="a thread that is never joined, or a pool that is never shut down",
        types=(("threading", "Thread"),),
    ),
    SignalRow(
        name="process.fds",
        unit="descriptors",
        family="system",
        allowance="fds",
        grows="open file descriptors",
        one="file descriptor",
        many="file descriptors",
        state="open",
        look_for="a file, a socket or a pipe that is never closed",
        types=(
            ("_io", "FileIO"),
            *names.FILE.types,
            ("h5py._hl.files", "File"),
            ("sqlite3", "Connection"),
            ("mmap", "mmap"),
            ("socket", "socket"),
            ("select", "epoll"),
        ),
    ),
    SignalRow(
        name="process.children",
        unit="processes",
        family="system",
        allowance="children",
        grows="child processes",
        one="child process",
        many="child processes",
        state="running",
        look_for="a process that is never joined, or a pool that is never shut down",
        types=(
            ("subprocess", "Popen"),
            ("multiprocessing.process", "BaseProcess"),
        ),
    ),
    SignalRow(
        name="python.objects",
        unit="objects",
        family="object",
        allowance="objects",
        grows="Python objects",
        one="Python object",
        many="Python objects",
        look_for="a list, a cache or an attribute that keeps something of each call",
    ),
    SignalRow(
        name="gpu.allocator",
        unit="B",
        family="allocator",
        allowance="gpu_per_iteration",
        total="gpu_total",
        grows="GPU memory in TensorFlow's allocator",
        look_for="a list, a cache or an attribute that keeps tensors of each call",
        behind=("tf.tensors", "tf.variables"),
    ),
    SignalRow(
        name="host.allocator",
        unit="B",
        family="allocator",
        allowance="host_per_iteration",
        total="host_total",
        grows="host memory in TensorFlow's allocator",
        look_for="a list, a cache or an attribute that keeps big tensors of each call",
        behind=("tf.tensors", "tf.variables"),
    ),
    SignalRow(
        name="gpu.tensors",
        unit="B",
        family="allocator",
        allowance="gpu_per_iteration",
        total="gpu_total",
        grows="GPU memory of living tensors",
        look_for="a tensor that each call replaces by a longer one",
        behind=("tf.tensors", "tf.variables"),
        part_of=("gpu.allocator",),
        is_captured=True,
    ),
    SignalRow(
        name="host.tensors",
        unit="B",
        family="allocator",
        allowance="host_per_iteration",
        total="host_total",
        grows="host memory of living tensors and variables",
        look_for="a tensor or variable that each call makes longer, as by tf.concat",
        behind=("tf.tensors", "tf.variables"),
        part_of=("host.heap", "host.allocator"),
        is_captured=True,
    ),
    SignalRow(
        name="python.blocks",
        unit="blocks",
        family="memory",
        allowance="blocks",
        grows="Python's memory blocks",
        look_for="a list, a cache or an attribute that keeps something of each call",
    ),
    SignalRow(
        name="host.heap",
        unit="B",
        family="memory",
        allowance="host_per_iteration",
        total="host_total",
        grows="heap memory",
        look_for="an array or buffer that something keeps, memory that a C extension"
        " does not free, or a cache inside TensorFlow",
    ),
    SignalRow(
        name="process.children.rss",
        unit="B",
        family="memory",
        nature="noisy",
        grows="memory of child processes",
    ),
    SignalRow(
        name="host.uss",
        unit="B",
        family="memory",
        nature="noisy",
        grows="memory of this process alone (USS)",
    ),
    SignalRow(
        name="host.rss",
        unit="B",
        family="memory",
        nature="noisy",
        allowance="host_per_iteration",
        total="host_total",
        instead_of="host.heap",
        noise=64 * 1024,
        doubtful=256 * 1024,
        grows="resident memory (RSS)",
        look_for="an array, buffer or mapping that something keeps, or memory that a C "
        "extension does not free",
    ),
    SignalRow(
        name="gpu.process",
        unit="B",
        family="device",
        nature="noisy",
        allowance="gpu_process",
        grows="GPU memory of this process, as the driver counts it",
        look_for="GPU memory outside of TensorFlow's pool, if gpu.allocator does not "
        "grow: CUDA modules, XLA executables, cuDNN's plans, or another library",
    ),
    SignalRow(
        name="gpu.peak",
        unit="B",
        family="device",
        grows="the peak of TensorFlow's allocator",
    ),
    SignalRow(
        name="gpu.device",
        unit="B",
        family="device",
        nature="noisy",
        grows="memory of the whole card, shared by all its processes",
    ),
)

#: The options that limit growth, which the signal of a user's probe may name, too.
ALLOWANCES = frozenset(
    option for row in SIGNALS for option in (row.option, row.total) if option
)
#: The family of a signal without a row, by its unit.
_BY_UNIT: dict[str, Family] = {"B": "memory", "blocks": "memory", "objects": "object"}
_SIZES = ("allocator", "memory", "device")
#: Bytes; Python allocates larger objects outside of its blocks.
LARGEST_BLOCK = 512


def row_of(signal: str, unit: str = "") -> SignalRow:
    """Return the row of a signal, or one that follows from its unit if it has none."""
    name = base_name(signal)
    for row in SIGNALS:
        if row.name == name:
            return row
    family = _BY_UNIT.get(unit, "other")
    if unit == "B":
        return SignalRow(name=name, unit=unit, family=family, grows="memory")
    one = _singular(unit)
    return SignalRow(
        name=name, unit=unit, family=family, grows=unit, one=one, many=unit
    )


def has_row(signal: str) -> bool:
    """Return whether the table has a row for a signal: that of a user's probe has none.

    Nothing is known about such a signal but its readings.
    """
    name = base_name(signal)
    return any(row.name == name for row in SIGNALS)


def base_name(signal: str) -> str:
    """Return the name of a signal without the device: ``gpu.peak[GPU:0]``."""
    return signal.partition("[")[0]


def make_signal(name: str, device: str = "") -> Signal:
    """Return the signal of a row, for one of several devices.

    Raises KeyError for a name without a row.
    """
    row = {row.name: row for row in SIGNALS}[name]
    return Signal(
        name=f"{name}[{device}]" if device else name,
        unit=row.unit,
        nature=row.nature,
        allowance=row.allowance,
        total=row.total,
        instead_of=row.instead_of,
    )


def names_of(*families: Family) -> tuple[str, ...]:
    """Return the names of the signals of some families."""
    return tuple(row.name for row in SIGNALS if row.family in families)


def signals_by_type() -> dict[str, str]:
    """Return which signal counts each type, by the full name of the type."""
    return {".".join(name): row.name for row in SIGNALS for name in row.types}


def is_memory(signal: str, unit: str) -> bool:
    """Return whether a signal grows with any kept object, so it suggests no cause."""
    return row_of(signal, unit).family in ("object", *_SIZES)


def is_size(signal: str, unit: str) -> bool:
    """Return whether a signal is a size, which varies by chance, and not a count."""
    return row_of(signal, unit).family in _SIZES


def counts_whole_run(option: str) -> bool:
    """Return whether an option limits the whole run and not each iteration."""
    return any(
        option == row.total or (option == row.allowance and row.allows == "total")
        for row in SIGNALS
    )


def rank(
    signal: str, unit: str, is_left: bool = False
) -> tuple[int, tuple[int, int], str]:
    """Return a sort key that puts the most important signal first.

    Objects that are left say less than objects that pile up, but a scope that was never
    left often explains both.
    """
    row = row_of(signal, unit)
    family = _FAMILIES.index(row.family)
    if family >= _FAMILIES.index("other"):
        group = 2
    else:
        group = int(is_left and row.family != "scope")
    # comparing names is much faster than comparing rows
    names = [row.name for row in SIGNALS]
    place = names.index(row.name) if row.name in names else -1
    return group, (family, place), signal


def _singular(noun: str) -> str:
    if noun.endswith("ies"):
        return noun[:-3] + "y"
    if noun.endswith("sses"):
        return noun[:-2]
    return noun.removesuffix("s")
