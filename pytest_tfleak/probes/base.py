"""The protocol of a probe, and a guard that keeps its errors from failing a test.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from textwrap import shorten
from typing import Any
from typing import Generic
from typing import Protocol
from typing import TypeVar
from typing import get_args

from pytest_tfleak.probes.room import Free
from pytest_tfleak.probes.room import Room
from pytest_tfleak.signals import ALLOWANCES
from pytest_tfleak.trace import Nature
from pytest_tfleak.trace import Signal

T = TypeVar("T")


class ProbeError(ValueError):
    """A signal of ``probe`` has the name of another one, or cannot be judged."""

    def __init__(self, text: str, probe: GuardedProbe) -> None:
        super().__init__(text)
        self.probe = probe


class Probe(Protocol):
    """Reads some signals after each iteration.

    Reading must not change the figures: no object that ``read`` makes may survive the
    call. Subclass this to get defaults for all methods but ``signals`` and ``read``.
    """

    #: The name in pytest's header, such as ``host`` or ``tensorflow``.
    name: str
    #: Whether it may also be read between iterations. Then growth of its signals is a
    #: leak only if it remains after a full garbage collection and a pause.
    is_readable_anytime: bool = False

    def signals(self) -> Sequence[Signal]:
        """Return the signals that this probe reads.

        Called before the warm-up and again after it, when there may be more.
        """
        ...

    def has_more_signals(self) -> bool:
        """Return whether ``signals`` would now return more; asked in each iteration."""
        return False

    def settle(self) -> None:
        """Wait until the figures reflect what the iteration freed.

        Called after the garbage collection, for all probes before the first one reads.
        """
        return

    def read(self, buffer: array[int], start: int, deep: bool) -> None:
        """Write the reading of each signal, in order, from ``buffer[start]`` on.

        A place that is not written stays ``MISSING``. Read slow signals only if
        ``deep`` is true, which is rare.
        """
        ...

    def why_off(self) -> str | None:
        """Return why this probe can read nothing at present, as a short clause."""
        return None

    def remark(self) -> str | None:
        """Return a clause on how this probe reads, if that is unusual."""
        return None

    def reasons(self) -> Mapping[str, str]:
        """Return why each missing signal could not be read, as a short clause."""
        return {}

    def codes(self) -> Mapping[str, str]:
        """Return those reasons as stable words for programs."""
        return {}

    def untrusted(self) -> Collection[str]:
        """Return the signals whose readings exist but cannot be trusted."""
        return ()

    def still_there(self) -> Mapping[str, list[Any]]:
        """Return the objects that the run left, by signal. Called after the run."""
        return {}

    def notes(self) -> Sequence[str]:
        """Return notes for the user on what is no leak, as sentences."""
        return ()

    def rooms(self) -> Sequence[Room]:
        """Return the resources that may run out meanwhile; the loop ends before."""
        return ()

    def close(self) -> None:
        """Release all resources that the readings needed."""
        return


class NoProbe(Probe):
    """Stands for probes that could not be built, and raises the same error."""

    def __init__(self, name: str, error: Exception) -> None:
        self.name = name
        self._error = error

    def signals(self) -> Sequence[Signal]:
        """Raise the error from building the probes."""
        raise self._error

    def read(self, buffer: array[int], start: int, deep: bool) -> None:
        """Read nothing."""

    def why_off(self) -> str:
        """Return the error from building the probes, as text."""
        return in_words(self._error)


class GuardedProbe:
    """A probe with a guard around each method: its errors only affect its own signals.

    An error in a method that the verdict depends on becomes its ``failure``: the probe
    is not called again, and its signals are not trusted. An error in a method that only
    informs or cleans up becomes a complaint, and the readings stay valid.
    """

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._signals: tuple[Signal, ...] = ()
        self._complaints: list[str] = []
        #: Why it is no longer read, None while it is.
        self.failure: str | None = None
        self.name = type(probe).__name__
        self.name = self._optional("name", self.name, str)
        self.is_readable_anytime = self._optional("is_readable_anytime", False, bool)

    def signals(self) -> tuple[Signal, ...]:
        """Return the signals of the probe; after a failure, those it had until then."""
        self._signals = self._required("signals", self._signals, _checked)
        return self._signals

    def has_more_signals(self) -> bool:
        """Return whether ``signals`` would now return more."""
        return self._required("has_more_signals", False, bool)

    def settle(self) -> None:
        """Wait until the figures reflect what the iteration freed."""
        self._required("settle", None, _nothing)

    def read(self, buffer: array[int], start: int, deep: bool) -> None:
        """Write the readings, or nothing after a failure."""
        self._required("read", None, _nothing, buffer, start, deep)

    def untrusted(self) -> frozenset[str]:
        """Return the signals whose readings cannot be trusted."""
        return self._required("untrusted", frozenset[str](), frozenset)

    def still_there(self) -> dict[str, list[Any]]:
        """Return the objects that the run left, by signal."""
        return self._required("still_there", {}, _lists)

    def why_off(self) -> str | None:
        """Return why the probe can read nothing at present."""
        why = self._required("why_off", None, _text_or_none)
        return self.failure if why is None else why

    def remark(self) -> str | None:
        """Return a clause on how the probe reads, if that is unusual."""
        return self._optional("remark", None, _text_or_none)

    def reasons(self) -> dict[str, str]:
        """Return why each signal that is missing could not be read."""
        return self._optional("reasons", {}, _texts)

    def codes(self) -> dict[str, str]:
        """Return those reasons as stable words for programs."""
        return self._optional("codes", {}, _texts)

    def notes(self) -> tuple[str, ...]:
        """Return the probe's notes."""
        return self._optional("notes", (), lambda notes: tuple(map(str, notes)))

    def rooms(self) -> tuple[Room, ...]:
        """Return the resources that may run out meanwhile, each guarded as well."""
        return self._optional("rooms", (), self._guarded_rooms)

    def close(self) -> None:
        """Release the probe's resources, even after a failure."""
        try:
            self._probe.close()
        except Exception as error:
            self._complain("close", error)

    def take_complaints(self) -> list[str]:
        """Return and forget the errors that did not affect the readings."""
        complaints, self._complaints = self._complaints, []
        return complaints

    def drop(self, why: str) -> None:
        """Stop calling the probe, and forget its signals."""
        self.failure = why
        self._signals = ()

    def _guarded_rooms(self, rooms: Iterable[Room]) -> tuple[Room, ...]:
        return tuple(
            replace(
                room,
                free=_UntilItFails(room.free, _as_free, self._complain),
                read=_UntilItFails(room.read, int, self._complain),
            )
            for room in rooms
        )

    def _required(
        self, name: str, default: T, shape: Callable[[Any], T], *arguments: object
    ) -> T:
        """Call a method that the verdict depends on."""
        if self.failure is not None:
            return default
        try:
            return shape(getattr(self._probe, name)(*arguments))
        except Exception as error:  # the probe's error must not fail the test
            self.failure = in_words(error)
            return default

    def _optional(self, name: str, default: T, shape: Callable[[Any], T]) -> T:
        """Call a method that only informs."""
        if self.failure is not None:
            return default
        try:
            found = getattr(self._probe, name)
            return shape(found() if callable(found) else found)
        except Exception as error:
            self._complain(name, error)
            return default

    def _complain(self, name: str, error: Exception) -> None:
        why = in_words(error)
        self._complaints.append(f"The probe {self.name!r} failed in {name}: {why}.")


class _UntilItFails(Generic[T]):
    """A function of a room: after its first error it is not called, and returns None.

    None means that there is no figure, so nothing ends the run for lack of that room.
    """

    def __init__(
        self,
        call: Callable[[], T | None],
        shape: Callable[[Any], T],
        complain: Callable[[str, Exception], None],
    ) -> None:
        self._call = call
        self._shape = shape
        self._complain = complain
        self._has_failed = False

    def __call__(self) -> T | None:
        """Return what the function returns."""
        if self._has_failed:
            return None
        try:
            found = self._call()
            return None if found is None else self._shape(found)
        except Exception as error:
            self._has_failed = True
            self._complain("rooms", error)
            return None


def guard(probes: Iterable[Probe | GuardedProbe]) -> tuple[GuardedProbe, ...]:
    """Return the probes, each guarded."""
    return tuple(
        probe if isinstance(probe, GuardedProbe) else GuardedProbe(probe)
        for probe in probes
    )


def signals_of(probes: Iterable[GuardedProbe]) -> list[tuple[Signal, ...]]:
    """Return the signals of each probe.

    Raises ProbeError if two have the same name, or if one names an unknown option.
    """
    owners: dict[str, str] = {}
    groups = []
    for probe in probes:
        groups.append(probe.signals())
        for signal in groups[-1]:
            if signal.name in owners:
                raise ProbeError(
                    f"two probes read a signal named {signal.name!r}: "
                    f"{owners[signal.name]!r} and {probe.name!r}; each signal needs a "
                    "name of its own",
                    probe,
                )
            mistake = _mistake_in(signal)
            if mistake:
                raise ProbeError(
                    f"the probe {probe.name!r} has a signal {signal.name!r} with "
                    f"{mistake}",
                    probe,
                )
            owners[signal.name] = probe.name
    return groups


def _mistake_in(signal: Signal) -> str:
    """Return what of a signal cannot be judged, and what can, "" if all can."""
    allowance, total = signal.allowance, signal.total
    options = ", ".join(sorted(ALLOWANCES))
    is_number = isinstance(allowance, Real) and allowance >= 0
    if not (allowance is None or is_number or _is_option(allowance)):
        return (
            f"allowance={allowance!r}; it must be a number, None, or the name of an "
            f"option: {options}"
        )
    if not (total is None or _is_option(total)):
        return f"total={total!r}; it must be None or the name of an option: {options}"
    if signal.nature not in get_args(Nature):
        return f"nature={signal.nature!r}; it must be 'exact' or 'noisy'"
    return ""


def _is_option(value: object) -> bool:
    return isinstance(value, str) and value in ALLOWANCES


#: How lines begin that say where an operation of a graph was made.
_OF_STACK = ("Detected at node", 'File "')
_LONGEST = 400  # characters of an error's text


def in_words(error: BaseException) -> str:
    """Return an error's type and text on one line, even if its ``__str__`` fails.

    Errors of TensorFlow's graphs have stacks of a hundred lines, which are left out.
    """
    try:
        lines = map(str.strip, str(error).splitlines())
        words = " ".join(line for line in lines if not line.startswith(_OF_STACK))
    except Exception:
        words = ""
    text = shorten(words, _LONGEST, placeholder=" ...")
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def _checked(signals: Iterable[Signal]) -> tuple[Signal, ...]:
    found = tuple(signals)
    for signal in found:
        if not isinstance(signal, Signal):
            raise TypeError(f"expected a Signal, got {signal!r}")
    return found


def _nothing(_: object) -> None:
    return None


def _as_free(found: tuple[Any, Any]) -> Free:
    amount, limit = found
    return Free(int(amount), str(limit))


def _text_or_none(found: object) -> str | None:
    return None if found is None else str(found)


def _lists(found: Mapping[str, Iterable[Any]]) -> dict[str, list[Any]]:
    return {str(name): list(objects) for name, objects in found.items()}


def _texts(found: Mapping[str, str]) -> dict[str, str]:
    return {str(name): str(text) for name, text in found.items()}
