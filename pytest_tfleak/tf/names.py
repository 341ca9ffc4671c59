"""The private names of TensorFlow and Keras that the plugin uses, each in one place.

When TensorFlow moves one, put its new place in front of the old ones. A name is looked
up in ``sys.modules`` when it is needed, and nothing here imports anything. If a name is
missing, what ``use`` says does not work, and ``pytest -vv`` prints it.

``example`` is an expression that shows that a name is right: ``it`` is what was found,
``tf`` is TensorFlow and ``context`` its eager context. The tests evaluate each with the
installed TensorFlow and Keras.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from types import ModuleType
from typing import Any

Version = tuple[int, ...]
_ABSENT: Any = object()
_FUNCTIONS = "eager.polymorphic_function"
_LIBRARIES = ("tensorflow", "keras", "keras 2", "tf_keras")
#: The names of all modules of tf.data begin with this.
DATASET_MODULES = "tensorflow.python.data."


class MissingNameError(AttributeError):
    """A name is missing in this TensorFlow or Keras, or is somewhere else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a name is in some versions of a library."""

    library: str  # "keras" is Keras 3; "keras 2" came with TensorFlow until 2.15
    module: str
    attributes: tuple[str, ...] = ()  # none: the module itself
    since: Version = ()
    before: Version | None = None

    def __str__(self) -> str:
        return ".".join((self.module, *self.attributes))

    def look_up(self) -> Any:
        """Return the object there now, or the sentinel for nothing."""
        found: Any = sys.modules.get(self.module)
        if found is None:
            return _ABSENT
        for attribute in self.attributes:
            found = getattr(found, attribute, _ABSENT)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A private module, function, class or value of TensorFlow or Keras."""

    places: tuple[Place, ...]  # the newest first
    use: str  # what does not work without it
    example: str

    def __str__(self) -> str:
        return str(self.places[0])

    def get(self) -> Any:
        """Return the object there. Raises MissingNameError if there is none."""
        for place in self.places:
            found = place.look_up()
            if found is not _ABSENT:
                return found
        raise MissingNameError(f"there is no {self}")

    def find(self) -> Any:
        """Return the object there, or None."""
        for place in self.places:
            found = place.look_up()
            if found is not _ABSENT:
                return found
        return None

    def find_all(self) -> list[Any]:
        """Return the object in each library: more than one Keras may be imported."""
        found = (place.look_up() for place in self.places)
        return [one for one in found if one is not _ABSENT]

    def find_in(self, library: str) -> Any:
        """Return the object in one library, or None."""
        return self._in(library).find()

    def owner(self) -> Any:
        """Return the module or class that has it. Raises as ``get`` does."""
        for place in self.places:
            if place.look_up() is not _ABSENT:
                return replace(place, attributes=place.attributes[:-1]).look_up()
        raise MissingNameError(f"there is no {self}")

    def owner_in(self, library: str) -> Any:
        """Return the module or class of one library that has it, or None."""
        there = self._in(library)
        return None if there.find() is None else there.owner()

    def _in(self, library: str) -> Name:
        return replace(
            self, places=tuple(p for p in self.places if p.library == library)
        )

    @property
    def attribute(self) -> str:
        """Return the name in its module or class."""
        return self.places[0].attributes[-1]

    @property
    def types(self) -> tuple[tuple[str, str], ...]:
        """Return module and qualified name of a class, wherever it may be."""
        return tuple((p.module, ".".join(p.attributes)) for p in self.places)

    @property
    def dotted(self) -> tuple[str, ...]:
        """Return the whole dotted name, wherever it may be."""
        return tuple(map(str, self.places))

    def is_missing(self, versions: Mapping[str, Version | None]) -> bool:
        """Return whether an imported library should have this name, and lacks it."""
        expected, found = set(), set()
        for place in self.places:
            version = versions.get(place.library)
            if version is None or (place.before and version >= place.before):
                continue
            expected.add(place.library)
            if place.look_up() is not _ABSENT:
                found.add(place.library)
        return expected != found


class Field(str):
    """The name of an attribute that objects have, and an example of one that has it."""

    __slots__ = ("example", "since", "use")
    use: str
    example: str
    since: Version  # of TensorFlow

    def __new__(cls, name: str, use: str, example: str, since: Version = ()) -> Field:
        """Return the name with what it is for."""
        field = super().__new__(cls, name)
        field.use = use
        field.example = example
        field.since = since
        return field

    def of(self, owner: Any) -> Any:
        """Return an object's attribute. Raises MissingNameError if it has none."""
        found = getattr(owner, self, _ABSENT)
        if found is _ABSENT:
            raise MissingNameError(f"{type(owner).__name__} has no {self}")
        return found


def missing() -> list[Name | Field]:
    """Return the names that the imported TensorFlow or Keras lacks.

    Of the fields, return those that this TensorFlow is too old for.
    """
    versions = {library: version_of(library) for library in _LIBRARIES}
    tensorflow = versions["tensorflow"] or (sys.maxsize,)
    return [
        *(name for name in all_names().values() if name.is_missing(versions)),
        *(field for field in all_fields().values() if tensorflow < field.since),
    ]


def all_names() -> dict[str, Name]:
    """Return all names, by what they are called in this module."""
    return {key: name for key, name in globals().items() if type(name) is Name}


def all_fields() -> dict[str, Field]:
    """Return all fields, by what they are called in this module."""
    return {key: field for key, field in globals().items() if type(field) is Field}


def version_of(library: str) -> Version | None:
    """Return the version of a library, None if it is not imported."""
    package = sys.modules.get(library.partition(" ")[0])
    if not isinstance(package, ModuleType):  # None, or what a test put in its place
        return None
    written = vars(package).get("__version__")  # getattr may import more
    if not isinstance(written, str):
        return None
    version = tuple(int(part) for part in re.findall(r"\d+", written)[:3])
    if package.__name__ == "keras" and (version < (3,)) is (library == "keras"):
        return None
    return version


def _tf(
    module: str, attribute: str = "", *, since: Version = (), before: Version = ()
) -> Place:
    package = "tensorflow" if module.startswith("core.") else "tensorflow.python"
    return Place(
        library="tensorflow",
        module=f"{package}.{module}",
        attributes=tuple(filter(None, attribute.split("."))),
        since=since,
        before=before or None,
    )


def _keras_3(
    module: str, attribute: str, *, since: Version = (), before: Version = ()
) -> Place:
    return Place(
        library="keras",
        module=f"keras.src.{module}",
        attributes=tuple(attribute.split(".")),
        since=since,
        before=before or None,
    )


def _keras_2(module: str, attribute: str) -> tuple[Place, ...]:
    """Return the places in tf_keras, and in the Keras that TensorFlow came with."""
    attributes = tuple(attribute.split("."))
    return (
        Place(
            library="tf_keras", module=f"tf_keras.src.{module}", attributes=attributes
        ),
        Place(
            library="keras 2",
            module=f"keras.src.{module}",
            attributes=attributes,
            since=(2, 13),
        ),
        Place(
            library="keras 2",
            module=f"keras.{module}",
            attributes=attributes,
            before=(2, 13),
        ),
    )


def _name(*places: Place, use: str, example: str) -> Name:
    return Name(places=places, use=use, example=example)


# --- the eager context ----------------------------------------------------------------

CONTEXT = _name(
    _tf("eager.context", "_context"),  # None until it is needed
    use="seeds and scopes are not put back",
    example="it is context",
)
CONTEXT_SAFE = _name(
    _tf("eager.context", "context_safe"),
    use="gpu.allocator, host.allocator, host.tensors, gpu.tensors, gpu.process, "
    "tf.registered_functions; experiments on caches",
    example="it() is context",
)
INITIALISED = Field(
    "_initialized",
    use="whether TensorFlow has found its devices",
    example="tf.constant(0) is not None and getattr(context, it) is True",
)
SEED = Field(
    "_seed",
    use="a global seed is not put back",
    example="hasattr(context, it) and hasattr(tf.Graph(), it)",
)
RANDOM = Field(
    "_rng",
    use="the generator of a global seed is not put back",
    example="tf.random.set_seed(1) or hasattr(context, it)",
)
TEST_CASE = _name(
    _tf("framework.test_util", "TensorFlowTestCase"),
    use="notes on the seed that tf.test.TestCase sets",
    example="it is tf.test.TestCase",
)
SWITCHES = Field(
    "context_switches",
    use="eager mode is not put back",
    example="isinstance(getattr(context, it).stack, list)",
)
OWN_SWITCHES = Field(
    "_context_switches",
    use="eager mode is not put back in a context that began without it",
    example="type(getattr(context, it))(True).stack",
)
ENTER_SWITCH = Field(
    "enter_context_fn",
    use="eager mode is not put back",
    example="getattr(context.context_switches.stack[0], it) is names.EAGER_SCOPE.get()",
)
THREAD_DATA = Field(
    "_thread_local_data",
    use="eager mode, devices and name scopes are not put back",
    example="hasattr(context, it)",
)
IS_EAGER = Field(
    "is_eager",
    use="eager mode is not put back",
    example="getattr(context._thread_local_data, it) is True",
)
DEVICE_NAME = Field(
    "device_name",
    use="a device scope is not put back",
    example="getattr(context._thread_local_data, it) == ''",
)
DEVICE_SPEC = Field(
    "device_spec",
    use="a device scope is not put back",
    example="hasattr(getattr(context._thread_local_data, it), 'device_index')",
)
SCOPE_NAME = Field(
    "scope_name",
    use="a name scope is not put back",
    example="getattr(context._thread_local_data, it) == ''",
)
CLEAR_SCALARS = Field(
    "_clear_caches",
    use="the experiment on the cache of scalars",
    example="getattr(context, it)() is None",
)
CLEAR_CACHES = _name(
    _tf("pywrap_tfe", "TFE_ContextClearCaches"),
    use="the experiment on kernels that are made again",
    example="it(context._context_handle) is None",
)
CLEAR_KERNELS = Field(
    "clear_kernel_cache",
    use="the experiment on the cache of eager kernels",
    example="getattr(context, it)() is None",
)
FUNCTION_NAMES = Field(
    "list_function_names",
    use="tf.registered_functions",
    example="len(getattr(context, it)()) >= 0",
)
EXECUTING_EAGERLY = _name(
    _tf("eager.context", "executing_eagerly"),
    use="host.tensors: variables of unknown shape; experiments on datasets and lookup "
    "tables; devices are not synchronised",
    example="it() is True",
)
EAGER_SCOPE = _name(
    _tf("eager.context", "eager_mode"),
    use="devices are not synchronised in a graph; eager mode is not put back",
    example="hasattr(it(), '__enter__')",
)
DEFAULT_MODE = _name(
    _tf("eager.context", "default_execution_mode"),
    use="disable_eager_execution() is not put back",
    example="it == names.EAGER_MODE.get()",
)
EAGER_MODE = _name(
    _tf("eager.context", "EAGER_MODE"),
    use="eager mode is not put back",
    example="it == names.DEFAULT_MODE.get()",
)
TF2_ENABLED = _name(
    _tf("tf2", "enabled"),
    use="disable_v2_behavior() is not put back",
    example="it() is True",
)
ENABLE_TF2 = _name(
    _tf("tf2", "enable"),
    use="disable_v2_behavior() is not put back",
    example="callable(it)",
)
DISABLE_TF2 = _name(
    _tf("tf2", "disable"),
    use="disable_v2_behavior() is not put back",
    example="callable(it)",
)
DATA_SWITCHES = _name(
    _tf("compat.v2_compat", "_DATA_V2_CALLBACKS", since=(2, 16)),
    use="tf.data is not put back after disable_v2_behavior()",
    example="all(callable(it.lookup(name)) for name in it.list())",
)
SHAPES_OF_2 = _name(
    _tf("framework.tensor_shape", "_TENSORSHAPE_V2_OVERRIDE"),
    use="disable_v2_tensorshape() is not put back",
    example="it is True",
)
RESOURCE_VARIABLES = _name(
    _tf("ops.resource_variables_toggle", "_DEFAULT_USE_RESOURCE", since=(2, 16)),
    _tf("ops.variable_scope", "_DEFAULT_USE_RESOURCE", before=(2, 16)),
    use="disable_resource_variables() is not put back",
    example="it is True",
)
TENSOR_EQUALITY = _name(
    _tf("framework.tensor", "Tensor._USE_EQUALITY", since=(2, 14)),
    _tf("framework.ops", "Tensor._USE_EQUALITY", before=(2, 14)),
    use="disable_tensor_equality() is not put back",
    example="it is True",
)
CONTROL_FLOW_OF_2 = _name(
    _tf("ops.control_flow_util", "ENABLE_CONTROL_FLOW_V2"),
    use="disable_control_flow_v2() is not put back",
    example="it is True",
)
EXECUTION_MODE = _name(
    _tf("eager.context", "execution_mode"),
    use="the experiment on datasets",
    example="hasattr(it(names.SYNC.get()), '__enter__')",
)
DEVICE_LISTS = Field(
    "list_logical_devices",
    use="gpu.allocator",
    example="getattr(context, it)('CPU')[0].name.endswith('CPU:0')",
)
VISIBLE_DEVICES = Field(
    "get_visible_devices",
    use="gpu.process: which card a GPU is on",
    example="len(getattr(context, it)('CPU')) == 1",
)
VIRTUAL_DEVICES = Field(
    "get_logical_device_configuration",
    use="gpu.process: which card a GPU is on",
    example="hasattr(context, it)",
)
MEMORY_GROWTH = Field(
    "get_memory_growth",
    use="whether the memory of a GPU grows on demand, in words",
    example="hasattr(context, it)",
)
PHYSICAL_DEVICES = Field(
    "list_physical_devices",
    use="which GPUs a report was made on",
    example="len(getattr(context, it)('CPU')) == 1",
)
DEVICE_DETAILS = Field(
    "get_device_details",
    use="which GPUs a report was made on",
    example="hasattr(context, it)",
)
EXECUTOR = Field(
    "executor",
    use="devices that run asynchronously are not waited for",
    example="getattr(context, it).is_async() is False",
)
MEMORY_FIGURES = Field(
    "get_memory_info",
    use="host.allocator, gpu.allocator",
    example="hasattr(context, it)",
)
SYNC = _name(
    _tf("eager.context", "SYNC"),
    use="the experiment on datasets",
    example="it == 0",
)
SYNC_DEVICES = _name(
    _tf("framework.test_util", "sync_devices"),
    use="devices are not synchronised before they are read",
    example="it() is None",
)
RUN_EAGERLY = _name(
    _tf(
        f"{_FUNCTIONS}.eager_function_run",
        "RUN_FUNCTIONS_EAGERLY",
        since=(2, 13),
    ),
    _tf(
        f"{_FUNCTIONS}.polymorphic_function",
        "RUN_FUNCTIONS_EAGERLY",
        before=(2, 13),
    ),
    use="run_functions_eagerly() is not put back; the experiment on traced functions",
    example="it is False",
)
SET_RUN_EAGERLY = _name(
    _tf(
        f"{_FUNCTIONS}.eager_function_run",
        "run_functions_eagerly",
        since=(2, 13),
    ),
    _tf(
        f"{_FUNCTIONS}.polymorphic_function",
        "run_functions_eagerly",
        before=(2, 13),
    ),
    use="the experiment on traced functions",
    example="it(False) is None",
)

# --- graphs and sessions --------------------------------------------------------------

GRAPH = _name(
    _tf("framework.ops", "Graph"),
    use="tf.graphs, tf.graphs.ops; the lines that create graphs",
    example="it is tf.Graph",
)
FUNCTION_GRAPH = _name(
    _tf("framework.func_graph", "FuncGraph"),
    use="tf.graphs, tf.graphs.ops: graphs of functions are told by it",
    example="issubclass(it, tf.Graph)",
)
DEFUN_GRAPH = _name(
    _tf("framework.function", "_FuncGraph"),
    use="tf.graphs, tf.graphs.ops: graphs of old functions are told by it",
    example="issubclass(it, tf.Graph)",
)
OPERATION = _name(
    _tf("framework.ops", "Operation"),
    use="what an operation is, in words",
    example="it is tf.Operation",
)
GRAPH_STACK = _name(
    _tf("framework.ops", "_default_graph_stack"),
    use="tf.graph_stack, tf.default_graph.ops; default graphs are not put back",
    example="it.stack == []",
)
STACK = Field(
    "stack",
    use="tf.graph_stack, tf.session_stack; stacks are not put back",
    example="getattr(names.GRAPH_STACK.get(), it) == []",
)
DEFAULT_GRAPH = Field(
    "_global_default_graph",
    use="tf.default_graph.ops; the scopes of the default graph are not put back",
    example="tf.compat.v1.get_default_graph() is getattr(names.GRAPH_STACK.get(), it)",
)
GET_DEFAULT_GRAPH = _name(
    _tf("framework.ops", "get_default_graph"),
    use="experiments on gradients and on Python functions",
    example="it is tf.compat.v1.get_default_graph",
)
OUTSIDE_FUNCTIONS = _name(
    _tf("framework.ops", "executing_eagerly_outside_functions"),
    use="the experiment on Python functions",
    example="it() is True",
)
STRATEGIES = Field(
    "_distribution_strategy_stack",
    use="a strategy's scope is not put back",
    example="getattr(tf.Graph(), it) == []",
)
SET_STRATEGY = Field(
    "_global_distribute_strategy_scope",
    use="a strategy that was set is not put back",
    example="getattr(tf.Graph(), it) is None",
)
STRATEGY_SCOPE = _name(
    _tf("distribute.distribute_lib", "_CurrentDistributionContext"),
    use="which line entered the scope of a strategy",
    example="isinstance(tf.distribute.OneDeviceStrategy('/CPU:0').scope(), it)",
)
CREATORS = Field(
    "_variable_creator_stack",
    use="a variable-creator scope is not put back",
    example="getattr(tf.Graph(), it) == []",
)
CONTROL = Field(
    "_control_dependencies_stack",
    use="a scope of control dependencies is not put back",
    example="getattr(tf.Graph(), it) == []",
)
DEVICES = Field(
    "_device_function_stack",
    use="a device scope is not put back",
    example="getattr(tf.Graph(), it)._stack == []",
)
NAME_SCOPE = Field(
    "_name_stack",
    use="a name scope is not put back",
    example="getattr(tf.Graph(), it) == ''",
)
TRACEABLE = Field(  # of what _device_function_stack is
    "_stack",
    use="a device scope is not put back",
    example="getattr(tf.Graph()._device_function_stack, it) == []",
)
USED_FUNCTIONS = Field(
    "_py_funcs_used_in_graph",
    use="the experiment on Python functions",
    example="isinstance(getattr(graph_of_py_function(), it), list)",
)
OUTER_GRAPH = Field(
    "outer_graph",
    use="experiments on gradients and on Python functions",
    example="hasattr(names.FUNCTION_GRAPH.get()('f'), it)",
)
SESSION = _name(
    _tf("client.session", "BaseSession"),
    use="tf.sessions, tf.sessions.closed; the lines that create and close sessions",
    example="issubclass(tf.compat.v1.Session, it)",
)
SESSION_CLOSED = Field(
    "_closed",
    use="tf.sessions, tf.sessions.closed",
    example="getattr(tf.compat.v1.Session(graph=tf.Graph()), it) is False",
)
INTERACTIVE_CLOSED = Field(
    "_explicitly_closed",
    use="an InteractiveSession that was left is not closed",
    example="hasattr(interactive_session(), it)",
)
SESSION_STACK = _name(
    _tf("framework.stack", "_default_session_stack", since=(2, 13)),
    _tf("framework.ops", "_default_session_stack", before=(2, 13)),
    use="tf.session_stack; default sessions are not put back",
    example="it.stack == []",
)
MONITORED_SESSION = _name(
    _tf("training.monitored_session", "_MonitoredSession"),
    use="the line that closed a monitored session",
    example="issubclass(tf.compat.v1.train.MonitoredSession, it)",
)
CLOSE_MONITORED = Field(
    "_close_internal",
    use="the line that closed a monitored session",
    example="hasattr(names.MONITORED_SESSION.get(), it)",
)
MONITORED_INNER = Field(
    "_sess",
    use="whether a monitored session is closed",
    example="getattr(monitored_session(), it) is not None",
)
MONITORED_CREATOR = Field(
    "_coordinated_creator",
    use="whether a monitored session is closed",
    example="hasattr(monitored_session(), it)",
)
CREATED_SESSION = Field(
    "tf_sess",
    use="whether a monitored session is closed",
    example="hasattr(monitored_session()._coordinated_creator, it)",
)

# --- functions, tapes, registries -----------------------------------------------------

FUNCTION = _name(
    _tf(f"{_FUNCTIONS}.polymorphic_function", "Function"),
    use="tf.traces; the experiment on XLA",
    example="type(tf.function(abs)) is it",
)
MAKE_FUNCTION = _name(
    _tf(f"{_FUNCTIONS}.polymorphic_function", "function"),
    use="the experiment on datasets",
    example="it is tf.function",
)
INITIALISE_FUNCTION = Field(
    "_initialize",
    use="the experiment on XLA",
    example="hasattr(names.FUNCTION.get(), it)",
)
JIT_COMPILE = Field(
    "_jit_compile",
    use="the experiment on XLA",
    example="getattr(tf.function(abs, jit_compile=True), it) is True",
)
TRACING_COUNT = Field(
    "experimental_get_tracing_count",
    use="tf.traces",
    example="getattr(tf.function(abs), it)() == 0",
)
FUNCTION_CACHE = Field(
    "_function_cache",
    use="which argument makes a function trace again",
    example="hasattr(tf.function(abs), it)",
    since=(2, 14),
)
CACHED_TRACES = Field(
    "_primary",
    use="which argument makes a function trace again",
    example="hasattr(tf.function(abs)._function_cache, it)",
    since=(2, 14),
)
PYTHON_FUNCTION = Field(
    "_python_function",
    use="where a tf.function is written",
    example="getattr(tf.function(abs), it) is abs",
)
CONCRETE_FUNCTION = _name(
    _tf(f"{_FUNCTIONS}.concrete_function", "ConcreteFunction", since=(2, 14)),
    _tf(
        f"{_FUNCTIONS}.monomorphic_function",
        "ConcreteFunction",
        before=(2, 14),
    ),
    use="tf.functions; the experiment on functions of datasets",
    example="type(tf.function(abs).get_concrete_function(tf.ones(1))) is it",
)
ATOMIC_FUNCTION = _name(
    _tf(f"{_FUNCTIONS}.atomic_function", "AtomicFunction", since=(2, 13)),
    use="what a function is, in words",
    example="isinstance(it, type)",
)
TRACE_TYPES = _name(
    _tf("core.function.trace_type.default_types"),
    use="which argument makes a function trace again",
    example="{'Literal', 'Tuple', 'List', 'Dict', 'NamedTuple', 'Attrs', 'Weakref', "
    "} <= set(vars(it))",
)
TRACED_REFERENCE = Field(
    "_ref",
    use="which object makes a function trace again",
    example="hasattr(traced_type(abs), it)",
    since=(2, 14),
)
TRACING_CONTEXT = Field(
    "context",
    use="which scope makes a function trace again",
    example="hasattr(tracing_context(), it)",
    since=(2, 14),
)
ORIGINAL_FUNCTION = Field(
    "__original_wrapped__",
    use="whether a tf.function belongs to each instance",
    example="hasattr(bound_function()._python_function, it)",
)
METHOD_TARGET = _name(
    _tf(f"{_FUNCTIONS}.tf_method_target", "TfMethodTarget", since=(2, 13)),
    _tf(f"{_FUNCTIONS}.tracing_compiler", "TfMethodTarget", before=(2, 13)),
    use="whether a tf.function belongs to each instance",
    example="isinstance(it, type)",
)
GRADIENT_TAPE = _name(
    _tf("eager.backprop", "GradientTape"),
    use="gradient tapes that were left are not found",
    example="it is tf.GradientTape",
)
ACCUMULATOR = _name(
    _tf("eager.forwardprop", "ForwardAccumulator"),
    use="forward accumulators that were left are not found",
    example="it is tf.autodiff.ForwardAccumulator",
)
PUSH_TAPE = Field(
    "_push_tape",
    use="gradient tapes that were left are not found",
    example="hasattr(tf.GradientTape, it)",
)
POP_TAPE = Field(
    "_pop_tape",
    use="gradient tapes that were left are not found",
    example="hasattr(tf.GradientTape, it)",
)
PUSH_ACCUMULATOR = Field(
    "_push_accumulator",
    use="forward accumulators that were left are not found",
    example="hasattr(tf.autodiff.ForwardAccumulator, it)",
)
POP_ACCUMULATOR = Field(
    "_pop_accumulator",
    use="forward accumulators that were left are not found",
    example="hasattr(tf.autodiff.ForwardAccumulator, it)",
)
TAPE_HANDLE = Field(  # of a tape, and of what that holds
    "_tape",
    use="gradient tapes that were left are not found",
    example="hasattr(getattr(recording_tape(), it), it)",
)
ACCUMULATOR_HANDLE = Field(
    "_accumulator",
    use="forward accumulators that were left are not found",
    example="hasattr(tf.autodiff.ForwardAccumulator(tf.ones(1), tf.ones(1)), it)",
)
RECORDING = Field(
    "_recording",
    use="a tape that was left goes on recording",
    example="getattr(recording_tape(), it) is True",
)
PERSISTENT = Field(
    "_persistent",
    use="whether a tape is persistent, in words",
    example="getattr(tf.GradientTape(persistent=True), it) is True",
)
TAPES_ARE_NONE = _name(
    _tf("pywrap_tfe", "TFE_Py_TapeSetIsEmpty"),
    use="gradient tapes that were left are not found",
    example="it() is True",
)
ADD_TAPE = _name(
    _tf("pywrap_tfe", "TFE_Py_TapeSetAdd"),
    use="gradient tapes that were left go on recording",
    example="callable(it)",
)
REMOVE_TAPE = _name(
    _tf("pywrap_tfe", "TFE_Py_TapeSetRemove"),
    use="gradient tapes that were left go on recording",
    example="callable(it)",
)
ADD_ACCUMULATOR = _name(
    _tf("pywrap_tfe", "TFE_Py_ForwardAccumulatorSetAdd"),
    use="forward accumulators that were left go on recording",
    example="callable(it)",
)
REMOVE_ACCUMULATOR = _name(
    _tf("pywrap_tfe", "TFE_Py_ForwardAccumulatorSetRemove"),
    use="forward accumulators that were left go on recording",
    example="callable(it)",
)
GRADIENTS = _name(
    _tf("framework.ops", "gradient_registry"),
    use="tf.custom_gradients; the experiment on gradients",
    example="'MatMul' in it.list()",
)
REGISTERED = Field(
    "_registry",
    use="tf.custom_gradients; the experiment on gradients",
    example="'MatMul' in getattr(names.GRADIENTS.get(), it)",
)
EXTRACT_STACK = _name(
    _tf("util.tf_stack", "extract_stack"),
    use="the experiment on tracebacks",
    example="callable(it)",
)
NAME_GRADIENT = _name(
    _tf("ops.custom_gradient", "generate_name"),
    use="the experiment on gradients",
    example="it().startswith('CustomGradient')",
)
LOAD_FUNCTIONS = _name(
    _tf("saved_model.function_deserialization", "load_function_def_library"),
    use="the experiment on gradients: those of what is loaded",
    example="callable(it)",
)
REGISTRIES = _name(
    _tf("framework.registry"),
    use="registries of TensorFlow's are not called so",
    example="type(names.GRADIENTS.get()) is it.Registry",
)
CONVERSIONS = _name(
    _tf("framework.tensor_conversion_registry"),
    use="the cause of conversion functions that are registered again and again",
    example="callable(it.register_tensor_conversion_function)",
)
BOUND_FUNCTIONS = Field(
    "_descriptor_cache",
    use="a path through the tf.functions of instances says how TensorFlow finds them",
    example="hasattr(tf.function(abs), it)",
)
PY_FUNCTIONS = _name(
    _tf("ops.script_ops", "_py_funcs"),
    use="tf.py_functions",
    example="it.size() >= 0",
)
PY_FUNCTION_TABLE = Field(
    "_funcs",
    use="tf.py_functions",
    example="len(getattr(names.PY_FUNCTIONS.get(), it)) >= 0",
)
PY_FUNCTION_TAPES = _name(
    _tf("ops.script_ops", "tape_cache"),
    use="the cause of what a py_function under a tape keeps",
    example="isinstance(it, dict)",
)
CALL_PY_FUNCTION = _name(
    _tf("ops.script_ops", "_internal_py_func"),
    use="the experiment on Python functions",
    example="callable(it)",
)

LAST_WRAPPER = Field(
    "ag_dnc_wrapper__",
    use="the experiment on wrappers of Python functions",
    example="hasattr(wrapped_py_function(), it)",
)
ADD_TO_GRAPH = Field(
    "add_to_graph",
    use="the experiment on functions of datasets",
    example="hasattr(names.CONCRETE_FUNCTION.get(), it)",
)

# --- lookup tables and datasets -------------------------------------------------------

STATIC_TABLE = _name(
    _tf("ops.lookup_ops", "StaticHashTable"),
    use="the experiment on lookup tables",
    example="hasattr(it, names.CREATE_TABLE)",
)
MUTABLE_TABLE = _name(
    _tf("ops.lookup_ops", "MutableHashTable"),
    use="the experiment on lookup tables",
    example="hasattr(it, names.CREATE_TABLE)",
)
DENSE_TABLE = _name(
    _tf("ops.lookup_ops", "DenseHashTable"),
    use="the experiment on lookup tables",
    example="hasattr(it, names.CREATE_TABLE)",
)
CREATE_TABLE = Field(
    "_create_resource",
    use="the experiment on lookup tables",
    example="hasattr(names.STATIC_TABLE.get(), it)",
)
IS_ANONYMOUS = Field(
    "_is_anonymous",
    use="the experiment on lookup tables",
    example="getattr(lookup_table(), it) is False",
)
DATASET = _name(
    _tf("data.ops.dataset_ops", "DatasetV2"),
    use="tf.datasets",
    example="it is tf.data.Dataset",
)
ITERATOR = _name(
    _tf("data.ops.iterator_ops", "IteratorBase"),
    use="tf.iterators",
    example="it is tf.data.Iterator",
)
ITERATOR_1 = _name(
    _tf("data.ops.iterator_ops", "Iterator"),
    use="tf.iterators: those of TensorFlow 1",
    example="it is tf.compat.v1.data.Iterator",
)
OWNED_ITERATOR = _name(
    _tf("data.ops.iterator_ops", "OwnedIterator"),
    use="the experiment on datasets",
    example="type(iter(tf.data.Dataset.range(1))) is it",
)
CREATE_ITERATOR = Field(
    "_create_iterator",
    use="the experiment on datasets",
    example="hasattr(names.OWNED_ITERATOR.get(), it)",
)
NEXT_ELEMENT = Field(
    "_next_internal",
    use="the experiment on datasets",
    example="hasattr(names.OWNED_ITERATOR.get(), it)",
)
ELEMENT_SPEC = Field(
    "_element_spec",
    use="what an iterator yields, in words; the experiment on datasets",
    example="hasattr(iter(tf.data.Dataset.range(1)), it)",
)
ITERATOR_TYPES = Field(
    "_flat_output_types",
    use="the experiment on datasets",
    example="getattr(iter(tf.data.Dataset.range(1)), it) == [tf.int64]",
)
ITERATOR_SHAPES = Field(
    "_flat_output_shapes",
    use="the experiment on datasets",
    example="len(getattr(iter(tf.data.Dataset.range(1)), it)) == 1",
)
ITERATOR_RESOURCE = Field(
    "_iterator_resource",
    use="the experiment on datasets",
    example="getattr(iter(tf.data.Dataset.range(1)), it).dtype == tf.resource",
)
DATASET_OPTIONS = _name(
    _tf("data.ops.options", "Options"),
    use="the experiment on datasets",
    example="it is tf.data.Options",
)
DATASET_FUNCTION = _name(
    _tf("data.ops.structured_function", "StructuredFunctionWrapper"),
    use="the experiment on datasets",
    example="isinstance(it, type)",
)
DATASET_OPERATIONS = _name(
    _tf("ops.gen_dataset_ops"),
    use="the experiment on datasets",
    example="hasattr(it, 'map_dataset') and hasattr(it, 'batch_dataset_v2')",
)
MORE_DATASET_OPERATIONS = _name(
    _tf("ops.gen_experimental_dataset_ops"),
    use="the experiment on datasets",
    example="hasattr(it, 'scan_dataset')",
)
TYPE_SPEC = _name(
    _tf("framework.type_spec", "TypeSpec"),
    use="the experiment on datasets",
    example="it is tf.TypeSpec",
)
NEXT_AS_OPTIONAL = _name(
    _tf("ops.gen_dataset_ops", "iterator_get_next_as_optional"),
    use="the experiment on datasets",
    example="callable(it)",
)
OPTIONAL_HAS_VALUE = _name(
    _tf("ops.gen_optional_ops", "optional_has_value"),
    use="the experiment on datasets",
    example="callable(it)",
)
OPTIONAL_GET_VALUE = _name(
    _tf("ops.gen_optional_ops", "optional_get_value"),
    use="the experiment on datasets",
    example="callable(it)",
)
FAST_PATH = _name(
    _tf("pywrap_tfe", "TFE_Py_FastPathExecute"),
    use="faults: no operation can be made to fail; the line that makes eager kernels",
    example="callable(it)",
)
EXECUTE = _name(
    _tf("pywrap_tfe", "TFE_Py_Execute"),
    use="faults: no traced function can be made to fail; the line that makes eager "
    "kernels",
    example="callable(it)",
)
EXECUTE_CANCELLABLE = _name(
    _tf("pywrap_tfe", "TFE_Py_ExecuteCancelable"),
    use="faults: no traced function with a cancellation can be made to fail; the line "
    "that makes eager kernels",
    example="callable(it)",
)
OPERATION_DEFINITION = _name(
    _tf("framework.op_def_registry", "get"),
    use="the line that makes eager kernels",
    example="len(it('MatMul').input_arg) == 2",
)
FALLBACK = _name(
    _tf("eager.core", "_FallbackException"),
    use="faults: some operations are counted twice",
    example="issubclass(it, Exception)",
)
ERRORS = _name(
    _tf("framework.errors_impl"),
    use="faults: no call can be made to fail",
    example="it.ResourceExhaustedError is tf.errors.ResourceExhaustedError",
)
OUT_OF_RANGE = _name(
    _tf("framework.errors_impl", "OutOfRangeError"),
    use="the experiment on datasets",
    example="it is tf.errors.OutOfRangeError",
)
UNFLATTEN = _name(
    _tf("data.util.structure", "from_compatible_tensor_list"),
    use="the experiment on datasets",
    example="it(tf.TensorSpec([]), [tf.ones([])]) == 1",
)
IS_TENSOR = _name(
    _tf("framework.tensor_util", "is_tf_type"),
    use="the experiment on datasets",
    example="it(tf.ones(1)) and not it(1)",
)

# --- what objects are, in words -------------------------------------------------------

VARIABLE_SHAPE = _name(
    _tf("ops.gen_resource_variable_ops", "variable_shape"),
    use="host.tensors, gpu.tensors: variables of unknown shape",
    example="it(tf.Variable([1.0, 2.0]).handle).numpy().tolist() == [2]",
)
EAGER_TENSOR = _name(
    _tf("framework.ops", "EagerTensor"),
    use="tf.tensors",
    example="type(tf.ones(1)) is it",
)
TENSOR = _name(
    _tf("framework.tensor", "Tensor", since=(2, 14)),
    _tf("framework.ops", "Tensor", before=(2, 14)),
    use="what a symbolic tensor is, in words",
    example="it is tf.Tensor",
)
COMPOSITE_TENSOR = _name(
    _tf("framework.composite_tensor", "CompositeTensor"),
    use="what a composite tensor is, in words",
    example="isinstance(tf.ragged.constant([[1]]), it)",
)
VARIABLE = _name(
    _tf("ops.variables", "Variable"),
    use="tf.variables",
    example="it is tf.Variable",
)
RESOURCE_VARIABLE = _name(
    _tf("ops.resource_variable_ops", "BaseResourceVariable"),
    use="how many bytes variables have",
    example="isinstance(tf.Variable(1), it)",
)
AS_DTYPE = _name(
    _tf("framework.dtypes", "as_dtype"),
    use="host.tensors, gpu.tensors; how many bytes tensors have",
    example="it('int32') is tf.int32",
)
FILE = _name(
    _tf("lib.io.file_io", "FileIO"),
    use="which files stay open",
    example="issubclass(tf.io.gfile.GFile, it)",
)
SUMMARY_WRITER = _name(
    _tf("ops.summary_ops_v2", "SummaryWriter"),
    use="whether a summary writer is closed, in words",
    example="it is tf.summary.SummaryWriter",
)
WRITER_CLOSED = Field(
    "_closed",
    use="whether a summary writer is closed, in words",
    example="getattr(summary_writer(), it) is False",
)
SUMMARY_STATE = _name(
    _tf("ops.summary_ops_v2", "_summary_state"),
    use="a default summary writer is not put back",
    example="vars(it)['writer'] is None",
)
DEFAULT_WRITER = Field(
    "writer",
    use="a default summary writer is not put back",
    example="getattr(names.SUMMARY_STATE.get(), it) is None",
)
SUMMARY_STEP = Field(
    "step",
    use="the step of summaries is not put back",
    example="getattr(names.SUMMARY_STATE.get(), it) is None",
)
SUMMARY_CONDITION = Field(
    "is_recording",
    use="the condition for summaries is not put back",
    example="getattr(names.SUMMARY_STATE.get(), it) is None",
)
WRITER_SCOPE = _name(
    _tf("ops.summary_ops_v2", "_SummaryContextManager"),
    use="tf.summary_writer",
    example="isinstance(summary_writer().as_default(), it)",
)
TENSOR_DTYPE_NUMBER = Field(
    "_datatype_enum",
    use="host.tensors, gpu.tensors; how many bytes tensors have",
    example="getattr(tf.ones(1), it)() == 1",
)
TENSOR_ELEMENTS = Field(
    "_num_elements",
    use="host.tensors, gpu.tensors",
    example="getattr(tf.ones([2, 3]), it)() == 6",
)
BACKING_DEVICE = Field(
    "backing_device",
    use="host.tensors, gpu.tensors; how many bytes tensors have",
    example="'CPU:0' in getattr(tf.ones(1), it)",
)
VARIABLE_HANDLE = Field(
    "_handle",
    use="host.tensors, gpu.tensors: those of variables",
    example="hasattr(tf.Variable(1.0), it)",
)
TENSOR_SHAPE = Field(
    "_shape_tuple",
    use="what a tensor is, in words",
    example="getattr(tf.ones([2, 3]), it)() == (2, 3)",
)
DTYPE = Field(
    "_dtype",
    use="host.tensors, gpu.tensors; what a variable is, in words",
    example="getattr(tf.Variable(1.0), it) is tf.float32",
)
SHAPE = Field(
    "_shape",
    use="host.tensors, gpu.tensors; what a variable is, in words",
    example="getattr(tf.Variable([1.0]), it) == [1]",
)
VARIABLE_PATH = Field(
    "_path",
    use="what a variable of Keras' is called",
    example="isinstance(getattr(keras_variable(), it), str)",
)
OBJECT_NAME = Field(
    "_name",
    use="what variables, layers and metrics are called",
    example="getattr(tf.Module(name='m'), it) == 'm'",
)
DIMENSIONS = Field(
    "_dims",
    use="host.tensors, gpu.tensors; what a variable is, in words",
    example="getattr(tf.TensorShape([1]), it) == (1,)",
)
HANDLE_NAME = Field(
    "_handle_name",
    use="what a variable is called",
    example="getattr(tf.Variable(1.0, name='v'), it) == 'v:0'",
)
READ_BUFFER = Field(
    "_read_buf",
    use="whether a file is open, in words",
    example="hasattr(tf.io.gfile.GFile('no file'), it)",
)
WRITABLE_FILE = Field(
    "_writable_file",
    use="whether a file is open, in words",
    example="hasattr(tf.io.gfile.GFile('no file'), it)",
)
FILE_NAME = Field(
    "_FileIO__name",
    use="which files stay open",
    example="getattr(tf.io.gfile.GFile('no file'), it) == 'no file'",
)

# --- distributed TensorFlow -----------------------------------------------------------

RPC_SERVER = _name(
    _tf("distribute.experimental.rpc.rpc_ops", "GrpcServer"),
    use="the Keras session is cleared while an RPC server is alive, which ends in a "
    "crash of TensorFlow's",
    example="issubclass(it, tf.distribute.experimental.rpc.Server)",
)
RPC_CLIENT = _name(
    _tf("distribute.experimental.rpc.rpc_ops", "GrpcClient"),
    use="the Keras session is cleared while an RPC client is alive, which ends in a "
    "crash of TensorFlow's",
    example="issubclass(it, tf.distribute.experimental.rpc.Client)",
)

# --- Keras ----------------------------------------------------------------------------

LAYER = _name(
    _keras_3("layers.layer", "Layer"),
    *_keras_2("engine.base_layer", "Layer"),
    use="keras.layers",
    example="issubclass(keras.layers.Dense, it)",
)
OPTIMIZER = _name(
    _keras_3("optimizers.base_optimizer", "BaseOptimizer"),
    *_keras_2("optimizers.optimizer", "_BaseOptimizer"),
    use="keras.optimizers",
    example="issubclass(keras.optimizers.Adam, it)",
)
METRIC = _name(
    _keras_3("metrics.metric", "Metric"),
    *_keras_2("metrics.base_metric", "Metric"),
    use="what a metric is, in words",
    example="issubclass(keras.metrics.Mean, it)",
)
KERAS_VARIABLE = _name(
    _keras_3("backend.common.variables", "Variable", since=(3, 7)),
    _keras_3("backend.common.variables", "KerasVariable", before=(3, 7)),
    use="what a variable of Keras' is, in words",
    example="issubclass(keras.Variable, it)",
)
KERAS_TENSOR = _name(
    _keras_3("backend.common.keras_tensor", "KerasTensor"),
    *_keras_2("engine.keras_tensor", "KerasTensor"),
    use="what a symbolic tensor of Keras' is, in words",
    example="isinstance(keras.Input((1,)), it)",
)
GLOBAL_STATE = _name(
    _keras_3("backend.common.global_state", "GLOBAL_STATE_TRACKER"),
    use="scopes and dtype policies go with the Keras session; the experiment on "
    "automatic names",
    example="hasattr(it, '__dict__')",
)
GLOBAL_SETTINGS = _name(
    _keras_3("backend.common.global_state", "GLOBAL_SETTINGS_TRACKER"),
    use="settings go with the Keras session",
    example="hasattr(it, '__dict__')",
)
CUSTOM_OBJECTS = _name(
    _keras_3("saving.object_registration", "GLOBAL_CUSTOM_OBJECTS"),
    *_keras_2("saving.object_registration", "_GLOBAL_CUSTOM_OBJECTS"),
    use="Keras' registry of custom objects is not called so",
    example="it is keras.utils.get_custom_objects()",
)
KERAS_BACKEND = _name(
    _keras_3("backend", "backend"),
    *_keras_2("backend", "backend"),
    use="the Keras session is not cleared",
    example="it() in ('tensorflow', 'jax', 'torch', 'numpy', 'openvino')",
)
UNIQUE_NAME = _name(
    _keras_3("utils.naming", "uniquify"),
    use="the experiment on automatic names",
    example="it('name') == 'name'",
)
UNIQUE_NAME_2 = _name(
    *_keras_2("backend", "unique_object_name"),
    use="the experiment on automatic names",
    example="it('name').startswith('name_')",
)
NAME_NUMBER_2 = _name(
    *_keras_2("backend", "get_uid"),
    use="the experiment on automatic names",
    example="it('name') > 0",
)
NAME_COUNTS_2 = _name(
    *_keras_2("backend", "PER_GRAPH_OBJECT_NAME_UIDS"),
    use="the experiment on automatic names",
    example="hasattr(it, 'keyrefs')",
)
NAME_COUNTS = Field(
    "object_name_uids",
    use="the experiment on automatic names",
    example="keras.layers.Dense(1) and hasattr(names.GLOBAL_STATE.get(), it)",
)
CLEAR_SESSION = _name(
    _keras_3("backend.common.global_state", "clear_session"),
    *_keras_2("backend", "clear_session"),
    use="the Keras session is not cleared",
    example="it is keras.backend.clear_session",
)
