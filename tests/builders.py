"""Build the values that pass between the stages of a measurement, for tests.

Each builder returns a realistic value; a test sets the fields it is about by keyword.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_tfleak.diagnosis.survivors.groups import Group
from pytest_tfleak.diagnosis.survivors.groups import Part
from pytest_tfleak.diagnosis.what.facts import facts_of
from pytest_tfleak.diagnosis.what.facts import facts_of_group
from pytest_tfleak.reports.held_object import words_of
from pytest_tfleak.reports.held_object import words_of_group
from pytest_tfleak.retaining_path import ATTRIBUTE
from pytest_tfleak.retaining_path import ENTRY
from pytest_tfleak.retaining_path import EXCEPTION
from pytest_tfleak.retaining_path import EXCEPTION_ARGUMENTS
from pytest_tfleak.retaining_path import LOCAL
from pytest_tfleak.retaining_path import UNKNOWN
from pytest_tfleak.retaining_path import VALUE
from pytest_tfleak.retaining_path import VIEW
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import Root
from pytest_tfleak.retaining_path import Step
from pytest_tfleak.signals import row_of
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import SignalReport
from pytest_tfleak.verdict import Status
from pytest_tfleak.verdict import Verdict

NOBODY = RetainingPath(root=Root(kind="native"))
_ROLES = (EXCEPTION, EXCEPTION_ARGUMENTS, VIEW)


def path_to(
    held: str = "app.Thing",
    *,
    at: str = "app.SEEN",
    owner: str = "",
    container: str = "list",
    size: int | None = 9,
    through: Sequence[Step] = (),
    is_library: bool = False,
    store: str = "",
) -> RetainingPath:
    """Return the path to an object of type ``held`` in a container that grows.

    ``at`` is the container's dotted name, which starts with the module; ``owner`` is
    the type of the first object. Without a ``size``, it is no container. ``through``
    are the steps from there to the object.
    """
    module, *names = at.split(".")
    types = [(owner,) if owner else (), *[()] * (len(names) - 1)]
    if size is not None and not (owner and len(names) == 1):
        types[-1] = (f"builtins.{container}",)
    steps = [
        Step(
            kind=ATTRIBUTE,
            name=name,
            types=kinds,
            store=store,
            container=container if is_last and size is not None else "",
            size=size if is_last else None,
        )
        for name, kinds, is_last in zip(
            names, types, [*[False] * (len(names) - 1), True], strict=True
        )
    ]
    if not through or through[-1].type != held:
        kind = ENTRY if size is not None and not through else UNKNOWN
        through = (*through, new(held, kind=kind))
    return RetainingPath(
        root=Root(kind="module", name=module, is_library=is_library),
        steps=(*steps, *through),
        target=held.rpartition(".")[2],
    )


def new(name: str, *, kind: str = ATTRIBUTE, attribute: str = "held") -> Step:
    """Return a step to an object that each iteration makes, by its type or role."""
    role = name if name in _ROLES else ""
    types = () if role else (name,)
    shown = "" if kind in (ENTRY, UNKNOWN) else attribute
    return Step(kind=kind, name=shown, types=types, role=role, is_new=True)


def passing(*made: str, old: Sequence[str] = (), at: str = "app.KEPT") -> RetainingPath:
    """Return a path through older objects of ``old`` types to new ones."""
    module, name = at.rsplit(".", 1)
    start = Step(kind=ATTRIBUTE, name=name)
    before = [Step(kind=ATTRIBUTE, name="held", types=(kind,)) for kind in old]
    return RetainingPath(
        root=Root(kind="module", name=module),
        steps=(start, *before, *map(new, made)),
    )


def in_frame(variable: str, function: str, thread: str = "") -> RetainingPath:
    """Return the path from a local variable of a running function."""
    root = Root(kind="local", name=function, thread=thread)
    return RetainingPath(root=root, steps=(Step(kind=LOCAL, name=variable),))


def from_root(kind: str, *made: str, size: int | None = None) -> RetainingPath:
    """Return the path from a root that is not a module."""
    steps = [
        new(name, kind=VALUE if not k else ATTRIBUTE) for k, name in enumerate(made)
    ]
    return RetainingPath(root=Root(kind=kind, size=size), steps=tuple(steps))


def make_finding(
    signal: str = "tf.tensors", per_iteration: float | None = 1.0, **fields: Any
) -> Finding:
    """Return a finding of 50 iterations; without a rate, on one object that is left."""
    row = row_of(signal, fields.get("unit", "things"))
    defaults: dict[str, Any] = {
        "unit": row.unit,
        "total": 1 if per_iteration is None else round(50 * per_iteration),
        "allowance": 0.0,
        "first": 1,
        "last": 50,
        "allow": row.option,
    }
    return Finding(signal=signal, per_iteration=per_iteration, **(defaults | fields))


def make_report(
    name: str = "host.heap", per_iteration: float | None = 1_200.0, **fields: Any
) -> SignalReport:
    """Return the report of a signal; without a rate, it was not measured."""
    defaults: dict[str, Any] = {
        "unit": row_of(name, fields.get("unit", "things")).unit,
        "status": "unavailable" if per_iteration is None else "measured",
        "reason": None,
        "total": None if per_iteration is None else round(49 * per_iteration),
        "allowance": None if per_iteration is None else 6_144.0,
        "decides": per_iteration is not None,
        "series": (),
    }
    return SignalReport(name=name, per_iteration=per_iteration, **(defaults | fields))


def make_verdict(status: Status = Status.CLEAN, **fields: Any) -> Verdict:
    """Return the verdict on one test."""
    return Verdict(**({"nodeid": "test_a.py::test_b", "status": status} | fields))


def make_leak(*findings: Finding, **fields: Any) -> Verdict:
    """Return the verdict on a test that leaks."""
    return make_verdict(Status.LEAK, findings=findings, **fields)


def make_part(
    path: RetainingPath, kind: str, what: str, rate: float = 1.0, **fields: Any
) -> Part:
    """Return the part of a group of one kind."""
    defaults: dict[str, Any] = {"origin": None, "stack": ()} | fields
    return Part(kind=kind, what=what, per_iteration=rate, path=path, **defaults)


def make_group(
    path: RetainingPath, parts: dict[str, Part], size: float = 100.0
) -> Group:
    """Return the group held in one place; ``parts`` are by signal, "" for the whole."""
    whole = parts[""]
    return Group(
        path=path,
        objects=whole.per_iteration,
        bytes=size,
        members={whole.kind.rpartition(".")[2]: whole.per_iteration},
        parts=parts,
    )


def describe_object(o: object) -> str:
    """Return the words for an object in a message."""
    return words_of(facts_of(o))


def describe_group(objects: Sequence[object], per_iteration: float | None) -> str:
    """Return the words for a group of objects in a message."""
    return words_of_group(facts_of_group(objects), per_iteration)
