"""Turn what is known of objects into text: ``2 EagerTensor float32[2] (8 B each)``.

One phrase for one object, one line for a group of objects that pile up.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

from pytest_tfleak import object_facts as facts
from pytest_tfleak.object_facts import RAREST
from pytest_tfleak.object_facts import ObjectFacts
from pytest_tfleak.object_facts import fold_name
from pytest_tfleak.object_facts import fold_names
from pytest_tfleak.quantities import format_bytes
from pytest_tfleak.quantities import format_count

#: Texts by form; an object without a form is called by its type.
FORMS = {
    facts.FUNCTION: "function {of}",
    facts.METHOD: "bound method {of}",
    facts.METHOD_OF: "bound method of {of}",
    facts.BUILTIN: "builtin function {of}",
    facts.PARTIAL: "partial of {of}",
    facts.SUSPENDED: "{type} {of}",
    facts.FRAME: "frame of {of}",
    facts.TRACEBACK: "traceback of {of}",
    facts.CLASS: "class {of}",
    facts.KERAS_VARIABLE: "Keras Variable",
}
#: What a length counts, one and many; entries have no word.
COUNTED = {
    facts.CHARACTERS: (" characters", " characters"),
    facts.WORKERS: (" worker", " workers"),
    facts.OPERATIONS: (" operation", " operations"),
}
STATES = {
    facts.OPEN: "open",
    facts.CLOSED: "closed",
    facts.NOT_CLOSED: "not closed",
    facts.ENDED: "ended",
    facts.NOT_STARTED: "not started",
    facts.DAEMON: "daemon",
    facts.SHUT_DOWN: "shut down",
    facts.NOT_SHUT_DOWN: "not shut down",
    facts.RELEASED: "released",
    facts.PERSISTENT: "persistent",
    facts.RECORDING: "recording",
    facts.TF_FUNCTION: "tf.function",
    facts.KERAS_FIT: "the train or test step of a Keras model",
    facts.KERAS_PREDICT: "the predict step of a Keras model",
}
LENGTH = "of {length:,}{counted}"
PARTS = "{length}: {parts}"
ELEMENTS = "of {elements}"
PLACE = "at {file}:{line}"
TARGET = "running {target}"
BETWEEN = " → "  # the two ends of a socket
VIEW = "(a view of {size})"
VIEW_INTO = "(a view into {kept_by})"
DEVICE = "on {device}"
LONGER = "{words}, longer after each iteration"
EACH = " each"
IN_PLACES = "{words} in each of {places} places"
PER_ITERATION = " per iteration"

_SHOWN = 3  # how many examples or kinds one message shows
_LONGEST = 64  # characters of a name in a message
_EXAMPLE = 48  # characters of each of several names


def words_of(known: ObjectFacts) -> str:
    """Return the phrase for one object: ``EagerTensor float32[2] (8 B) on GPU:0``."""
    return _phrase(known).words()


def words_of_group(known: Sequence[ObjectFacts], per_iteration: float | None) -> str:
    """Describe a group of objects, and how many of them each iteration leaves.

    Without a rate, or with a rate of 0, the objects exist but do not pile up.
    """
    if not known:
        return ""
    phrases = [_phrase(one) for one in known]
    kinds: dict[str, list[_Phrase]] = {}
    for phrase in phrases:
        kinds.setdefault(phrase.kind, []).append(phrase)
    total = per_iteration or len(phrases)
    suffix = PER_ITERATION if per_iteration else ""
    if len(kinds) == 1:
        return _describe_kind(phrases, total, suffix)
    counted = [
        (total * len(members) / len(phrases), members) for members in kinds.values()
    ]
    counted = [group for group in counted if group[0] >= RAREST] or counted
    counted.sort(key=lambda group: -group[0])
    words = [_describe_kind(members, count, "") for count, members in counted[:_SHOWN]]
    if counted[_SHOWN:]:
        words.append(f"{format_count(sum(n for n, _ in counted[_SHOWN:]))} other")
    return ", ".join(words) + suffix


def words_of_longer_value(known: ObjectFacts) -> str:
    """Return the phrase for one object that is longer after each iteration."""
    return LONGER.format(words=words_of(known))


def words_of_types(counts: Iterable[tuple[str, float]]) -> str:
    """Return ``1 EagerTensor, 2 dict``."""
    return ", ".join(f"{format_count(count)} {name}" for name, count in counts)


def words_of_growing_types(rates: Iterable[tuple[str, float]]) -> str:
    """Return ``1 EagerTensor, 2 dict per iteration``."""
    return words_of_types(rates) + PER_ITERATION


def words_of_inner(outer: str, inner: str) -> str:
    """Return the words for objects inside others, both with how many are left."""
    return f"{outer.removesuffix(PER_ITERATION)} with {inner}"


def words_in_places(words: str, places: int) -> str:
    """Return the words for objects that are held alike in several places."""
    return IN_PLACES.format(words=words, places=format_count(places))


def words_of_rates(rates: Mapping[str, float]) -> str:
    """Return ``5 Const, 3 Mul, 1 AddV2, … per iteration``."""
    words = [f"{format_count(rate)} {clip(name)}" for name, rate in rates.items()]
    return _list_first(words) + PER_ITERATION


def words_of_names(rates: Mapping[str, float]) -> str:
    """Return ``1 per iteration: /tmp/run-*/log``, or the rates of several names."""
    if len(rates) > 1:
        return words_of_rates(rates)
    [(name, rate)] = rates.items()
    return f"{format_count(rate)}{PER_ITERATION}: {clip(name)}"


def spec_of_array(dtype: str, dims: Iterable[str] | None) -> str:
    """Return ``float32[2,None]``; a shape of unknown rank is ``[...]``."""
    return f"{dtype}[{'...' if dims is None else ','.join(dims)}]"


def clip(name: str, longest: int = _LONGEST) -> str:
    """Shorten a name in the middle to fit a message, and replace control codes."""
    name = "".join(c if c.isprintable() else "?" for c in name)
    if len(name) <= longest:
        return name
    head = longest // 3
    return f"{name[:head]}…{name[head + 1 - longest :]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Phrase:
    """The parts of the phrase for one object."""

    kind: str
    name: str
    spec: str  # dtype and shape, length, contents
    size: int | None  # bytes
    note: str  # state or place

    def words(self, each: str = "") -> str:
        size = "" if self.size is None else f"({format_bytes(self.size)}{each})"
        name = f"'{clip(self.name)}'" if self.name else ""
        words = (clip(self.kind), name, self.spec, size, self.note)
        return " ".join(filter(None, words))


def _phrase(known: ObjectFacts) -> _Phrase:
    kind = FORMS.get(known.form, "{type}").format(type=known.type, of=known.of)
    return _Phrase(
        kind=kind,
        name=known.name,
        spec=" ".join(filter(None, _specs(known))),
        size=known.size,
        note=_note(known),
    )


def _specs(known: ObjectFacts) -> Iterable[str]:
    if known.array is not None:
        yield spec_of_array(known.array.dtype, known.dims)
    if known.length is not None:
        yield _length(known, known.length)
    if known.elements:
        yield ELEMENTS.format(elements=known.elements)
    if known.file:
        yield PLACE.format(file=known.file, line=known.line)
    if known.target:
        yield TARGET.format(target=known.target)
    yield known.family
    yield BETWEEN.join(known.addresses)


def _length(known: ObjectFacts, length: int) -> str:
    one, many = COUNTED.get(known.counts, ("", ""))
    words = LENGTH.format(length=length, counted=one if length == 1 else many)
    if not known.parts:
        return words
    parts = _list_first([f"{count:,} {name}" for name, count in known.parts])
    return PARTS.format(length=words, parts=parts)


def _note(known: ObjectFacts) -> str:
    states = [STATES[state] for state in known.states]
    if known.operation:
        states.append(known.operation)
    if states:
        return f"({', '.join(states)})"
    if known.view_of is not None:
        return VIEW.format(size=format_bytes(known.view_of))
    if known.kept_by:
        return VIEW_INTO.format(kept_by=known.kept_by)
    return DEVICE.format(device=known.device) if known.device else ""


def _describe_kind(phrases: Sequence[_Phrase], count: float, suffix: str) -> str:
    number, kind = format_count(count), clip(phrases[0].kind)
    alike = _merge(phrases)
    sizes = [phrase.size for phrase in phrases if phrase.size is not None]
    if len(alike) == 1 and len({phrase.size for phrase in phrases}) == 1:
        return f"{number} {alike[0].words('' if number == '1' else EACH)}{suffix}"
    size = f" ({format_bytes(sum(sizes) / len(phrases) * count)})" if sizes else ""
    examples = [clip(replace(p, kind="", size=None).words(), _EXAMPLE) for p in alike]
    shown = [example for example in examples[:_SHOWN] if example]
    shown += ["…"] * (len(examples) > _SHOWN)
    if not suffix or not shown:  # inside a longer text, examples would be confusing
        return f"{number} {kind}{suffix}{size}"
    return f"{number} {kind}{suffix}{size}: {', '.join(shown)}"


def _merge(phrases: Sequence[_Phrase]) -> list[_Phrase]:
    """Merge phrases that differ only in numbers; return the largest objects first."""
    groups: dict[tuple[str, str, str], list[_Phrase]] = {}
    for phrase in phrases:
        key = (fold_name(phrase.name), phrase.spec, phrase.note)
        groups.setdefault(key, []).append(phrase)
    ranked = sorted(groups.values(), key=_magnitude, reverse=True)
    return [
        replace(group[0], name=next(iter(fold_names(p.name for p in group))))
        for group in ranked
    ]


def _magnitude(group: Sequence[_Phrase]) -> int:
    # in steps of a factor of eight, so that similar sizes stay in their order
    return sum(phrase.size or 0 for phrase in group).bit_length() // 3


def _list_first(words: Sequence[str]) -> str:
    return ", ".join([*words[:_SHOWN], *["…"] * (len(words) > _SHOWN)])
