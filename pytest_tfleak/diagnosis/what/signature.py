"""Write the signature that would end the retraces of a tf.function, as code.

A dimension that differs between traces is left open. Python numbers become scalars.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from pytest_tfleak.diagnosis.what.retraces import Leaf
from pytest_tfleak.diagnosis.what.retraces import read_leaf

_SPECS = ("Tensor", "RaggedTensor", "SparseTensor")
_DTYPES = {
    "int": "tf.int32",
    "float": "tf.float32",
    "bool": "tf.bool",
    "str": "tf.string",
}
_LARGEST = 2**31 - 1  # of tf.int32
_OPEN = "None"


def declare(
    function_types: Sequence[Any],
    argument: str,
    rename: Callable[[str], str] = str,
) -> str:
    """Return how to declare the arguments of a function, given its traces.

    ``argument`` is the one that changes; ``rename`` returns the user's name of one.
    Return "" if no signature accepts all values.
    """
    specs = {
        rename(name): _spec(
            [read_leaf(each.parameters[name]) for each in function_types]
        )
        for name in function_types[-1].parameters
        if name != "self"
    }
    if specs and all(specs.values()):
        return f"`@tf.function(input_signature=[{', '.join(specs.values())}])`"
    if not specs.get(argument):
        return ""
    return (
        "`@tf.function(input_signature=[...])` for all arguments, with "
        f"`{specs[argument]}` for `{argument}`"
    )


def _spec(leaves: Sequence[Leaf]) -> str:
    """Return a type spec that accepts all of these, "" if there is none."""
    first = leaves[0]
    if len({(leaf.sort, leaf.kind, leaf.dtype) for leaf in leaves}) > 1:
        return ""
    if first.sort == "scalar" and first.kind in _DTYPES:
        # one that never changes may have to stay a Python value
        is_fixed = len({leaf.text for leaf in leaves}) == 1
        return "" if is_fixed else f"tf.TensorSpec([], {_dtype_of(leaves)})"
    if first.sort != "tensor" or first.kind not in _SPECS:
        return ""
    return f"tf.{first.kind}Spec({_shape(leaves)}, tf.{first.dtype})"


def _dtype_of(leaves: Sequence[Leaf]) -> str:
    kind = leaves[0].kind
    if kind == "int" and any(abs(int(leaf.text)) > _LARGEST for leaf in leaves):
        return "tf.int64"
    return _DTYPES[kind]


def _shape(leaves: Sequence[Leaf]) -> str:
    shapes = [leaf.dims for leaf in leaves]
    ranks = {None if dims is None else len(dims) for dims in shapes}
    if len(ranks) > 1 or None in ranks:
        return _OPEN
    known = zip(*(dims or () for dims in shapes), strict=True)
    return f"[{', '.join(_dim(sizes) for sizes in known)}]"


def _dim(sizes: Sequence[str]) -> str:
    return sizes[0] if len(set(sizes)) == 1 else _OPEN
