"""What one object is, in a few words; and several objects that are alike.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

from pytest_tfleak.diagnosis.folding import clip
from pytest_tfleak.diagnosis.folding import fold_name
from pytest_tfleak.diagnosis.folding import fold_names
from pytest_tfleak.units import format_bytes
from pytest_tfleak.units import format_count

_SHOWN = 3  # examples, or kinds, in one message
_EXAMPLE = 48  # characters of one of several
_RAREST = 0.09  # per iteration: one of every tenth iteration is shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """The words for an object. Text only: it keeps nothing alive."""

    kind: str
    name: str = ""
    spec: str = ""  # dtype and shape, length, contents
    size: int | None = None  # bytes
    note: str = ""  # state or place

    def words(self, each: str = "") -> str:
        """Return the phrase: ``EagerTensor float32[2] (8 B) on GPU:0``."""
        size = "" if self.size is None else f"({format_bytes(self.size)}{each})"
        name = f"'{clip(self.name)}'" if self.name else ""
        words = (clip(self.kind), name, self.spec, size, self.note)
        return " ".join(filter(None, words))


def describe_alike(phrases: Sequence[Phrase], per_iteration: float | None) -> str:
    """Return what a group of objects is, and how many an iteration leaves.

    Without a rate the objects are there and do not pile up.
    """
    kinds: dict[str, list[Phrase]] = {}
    for phrase in phrases:
        kinds.setdefault(phrase.kind, []).append(phrase)
    total = per_iteration or len(phrases)
    suffix = " per iteration" if per_iteration else ""
    if len(kinds) == 1:
        return _describe_kind(phrases, total, suffix)
    counted = [
        (total * len(members) / len(phrases), members) for members in kinds.values()
    ]
    counted = [group for group in counted if group[0] >= _RAREST] or counted
    counted.sort(key=lambda group: -group[0])
    words = [_describe_kind(members, count, "") for count, members in counted[:_SHOWN]]
    return ", ".join(words) + suffix


def _describe_kind(phrases: Sequence[Phrase], count: float, suffix: str) -> str:
    number, kind = format_count(count), clip(phrases[0].kind)
    alike = _merge(phrases)
    known = [phrase.size for phrase in phrases if phrase.size is not None]
    if len(alike) == 1 and len({phrase.size for phrase in phrases}) == 1:
        return f"{number} {alike[0].words('' if number == '1' else ' each')}{suffix}"
    size = f" ({format_bytes(sum(known) / len(phrases) * count)})" if known else ""
    examples = [clip(replace(p, kind="", size=None).words(), _EXAMPLE) for p in alike]
    shown = [example for example in examples[:_SHOWN] if example]
    shown += ["…"] * (len(examples) > _SHOWN)
    if not suffix or not shown:  # a list would run into what follows
        return f"{number} {kind}{suffix}{size}"
    return f"{number} {kind}{suffix}{size}: {', '.join(shown)}"


def _merge(phrases: Sequence[Phrase]) -> list[Phrase]:
    """Return one phrase for all that differ in numbers only, the large ones first."""
    groups: dict[tuple[str, str, str], list[Phrase]] = {}
    for phrase in phrases:
        key = (fold_name(phrase.name), phrase.spec, phrase.note)
        groups.setdefault(key, []).append(phrase)
    ranked = sorted(groups.values(), key=_magnitude, reverse=True)
    return [
        replace(group[0], name=next(iter(fold_names(p.name for p in group))))
        for group in ranked
    ]


def _magnitude(group: Sequence[Phrase]) -> int:
    # in steps of eight: of like sizes the first comes first
    return sum(phrase.size or 0 for phrase in group).bit_length() // 3


def array_spec(dtype: str, shape: Iterable[object] | None) -> str:
    """Return ``float32[2,None]``; a shape of unknown rank is ``[...]``."""
    dims = "..." if shape is None else ",".join(map(str, shape))
    return f"{dtype}[{dims}]"
