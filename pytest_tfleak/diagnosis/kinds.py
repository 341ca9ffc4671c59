"""Which kinds of objects grew with a signal, in words.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping

from pytest_tfleak.units import format_count
from pytest_tfleak.verdict import Finding

#: Modules whose types say little about a leak: named last, and alone only for memory.
_PLAIN = ("_thread.", "builtins.", "collections.", "functools.", "weakref.")
_MOST = 3  # kinds in one message
_RAREST = 0.09  # per iteration: one of every tenth iteration is shown
_LEAST = 0.5  # of the commonest kind: what is rarer came with a single call
_EVERY = 0.9
_MEMORY = ("B", "blocks", "objects")  # units
_UNTOLD = ("pytest_tfleak.", "weakref.ReferenceType")  # ours; what holds nothing


def describe(
    finding: Finding,
    survivors: Mapping[str, int],
    kind_of: Callable[[str], str | None],
    iterations: int,
) -> tuple[str | None, str | None]:
    """Return the leading type's name, and the kinds that grew with their counts."""
    rates = {
        name: count / iterations
        for name, count in survivors.items()
        if count / iterations >= _RAREST and not name.startswith(_UNTOLD)
    }
    own = {n: r for n, r in rates.items() if kind_of(n) == finding.signal}
    shown = own or rates
    least = _LEAST * max(shown.values(), default=0)
    if not own:
        # what other types of objects keep, they keep in every call: less is a leftover
        least = max(least, _EVERY)
        shown = {n: r for n, r in rates.items() if r >= least or kind_of(n)}
    if len(own) == 1:  # objects of before that are gone make room for new ones
        shown = dict.fromkeys(own, finding.per_iteration or 0.0)
    plain = all(name.startswith(_PLAIN) for name in shown)
    if not shown or (plain and finding.unit not in _MEMORY):
        return None, None
    ranked = sorted(
        shown.items(),
        key=lambda item: (
            kind_of(item[0]) is None,
            item[0].startswith(_PLAIN),
            -item[1],
            item,
        ),
    )[:_MOST]
    words = ", ".join(f"{format_count(rate)} {_short(name)}" for name, rate in ranked)
    return None if plain else _short(ranked[0][0]), f"{words} per iteration"


def describe_left(types: Mapping[str, int]) -> tuple[str | None, str | None]:
    """Return the leading type's name, and the objects that are still there."""
    ranked = sorted(types.items(), key=lambda item: (-item[1], item[0]))[:_MOST]
    if not ranked:
        return None, None
    words = ", ".join(f"{count} {_short(name)}" for name, count in ranked)
    return _short(ranked[0][0]), words


def _short(name: str) -> str:
    return name.rpartition(".")[2]
