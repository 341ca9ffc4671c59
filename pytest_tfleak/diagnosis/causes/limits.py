"""How to limit a container that grows, and how a library lets go of what it keeps.

The code fits the type and the name of the container, and the library.
"""

from __future__ import annotations

from pytest_tfleak.retaining_path import ATTRIBUTE
from pytest_tfleak.retaining_path import CLOSURE
from pytest_tfleak.retaining_path import DEFAULT
from pytest_tfleak.retaining_path import INDEX
from pytest_tfleak.retaining_path import ITEM
from pytest_tfleak.retaining_path import LOCAL
from pytest_tfleak.retaining_path import SUSPENDED
from pytest_tfleak.retaining_path import Expression
from pytest_tfleak.retaining_path import RetainingPath

#: Code by type of container (retaining_path.Step); {name} stands for the container.
_LIMITS = {
    "list": "`del {name}[:-100]` after each append, or make it a "
    "`collections.deque(maxlen=100)`",
    "deque": "`collections.deque(maxlen=100)`",
    "dict": "`while len({name}) > 100: {name}.pop(next(iter({name})))` after each new "
    "entry, or `{name}.clear()`",
    "set": "`{name}.discard(x)` when `x` is done, or `{name}.clear()`",
    "tuple": "`{name} = {name}[-100:]`",
}
#: For containers of other types, and where no container is known.
_OTHER = "remove the old ones from it, or empty it"
#: By the first part of the module that keeps it.
_RELEASES = {
    "matplotlib": "close each figure: `plt.close(figure)`",
    "logging": "take it away again: `logger.removeHandler(handler)`, `handler.close()`",
    **dict.fromkeys(("tensorflow", "keras", "tf_keras"), "try `{clear_session}`"),
}
_RELEASE = "see how the library lets go of it"  # for others
_VARIABLES = (CLOSURE, DEFAULT, LOCAL, SUSPENDED)
_CLASS = "builtins.type"
_UNNAMED = "container"


def limit_of(path: RetainingPath | None) -> str:
    """Return how to limit the container on a path that grows."""
    expressions = path.expressions() if path is not None else ()
    grown = next((each for each in expressions if each.is_sized), None)
    if grown is None:
        return _OTHER
    words = _LIMITS.get(grown.steps[-1].container, _OTHER)
    return words.replace("{name}", _code(grown))


def release_of(path: RetainingPath | None) -> str:
    """Return how to let a library release what it keeps."""
    library = path.root.name.partition(".")[0] if path is not None else ""
    return _RELEASES.get(library, _RELEASE)


def _code(grown: Expression) -> str:
    """Return a container as the code that fills it may write it: ``self.items``."""
    steps = grown.steps
    named = [k for k, step in enumerate(steps) if step.kind in (ATTRIBUTE, *_VARIABLES)]
    if not named or not steps[named[-1]].name:
        return _UNNAMED
    at = named[-1]
    keys = [step for step in steps[at + 1 :] if step.is_shown]
    if any(step.kind not in (ITEM, INDEX) for step in keys):
        return _UNNAMED  # a key or member has no code that would find it
    owner = ""
    if steps[at].kind == ATTRIBUTE and (at > 0 or grown.starts_with_type):
        owner = "cls." if at > 0 and steps[at - 1].is_a(_CLASS) else "self."
    return owner + steps[at].name + "".join(f"[{step.name}]" for step in keys)
