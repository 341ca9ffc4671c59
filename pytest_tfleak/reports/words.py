"""Texts for statuses and reasons, and the order in which to show findings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_tfleak.object_facts import OPERATIONS
from pytest_tfleak.signals import names_of
from pytest_tfleak.signals import rank
from pytest_tfleak.verdict import Finding
from pytest_tfleak.verdict import Reason
from pytest_tfleak.verdict import Status


@dataclass(frozen=True, slots=True)
class ReasonWords:
    """The texts for a reason: why there is no verdict, and what helps."""

    why: str
    remedy: str = ""


REASONS: dict[Reason, ReasonWords] = {
    Reason.TOO_FEW_ITERATIONS: ReasonWords(
        "too few iterations", "ask for more: iterations=50"
    ),
    Reason.OUT_OF_TIME: ReasonWords(
        "out of time",
        "allow more time (max_time, the test's timeout), or make the body faster",
    ),
    Reason.OUT_OF_ROOM: ReasonWords(
        "out of room", "raise the limit (memory_limit), or make the body smaller"
    ),
    Reason.FADING: ReasonWords(
        "growth that fades", "more warm-up (warmup=) or more iterations (iterations=)"
    ),
    Reason.UNSTEADY: ReasonWords(
        "growth that comes and goes", "ask for more iterations (iterations=)"
    ),
    Reason.UNEXPLAINED: ReasonWords(
        "growth that nothing explains",
        "look for memory outside the heap (mmap, numpy.memmap, shared memory, a"
        " library's own allocator), or allow it (host_per_iteration=)",
    ),
    Reason.NO_SIGNAL: ReasonWords("no signal could be read"),
    Reason.PROBE_FAILED: ReasonWords("a probe failed"),
    Reason.NOT_STARTED: ReasonWords("measuring could not start"),
    Reason.BODY_FAILED: ReasonWords("failed"),
    Reason.NOT_REPEATABLE: ReasonWords("cannot be repeated"),
    Reason.BODY_SKIPPED: ReasonWords("skipped"),
    Reason.INTERRUPTED: ReasonWords("interrupted"),
    Reason.DISABLED: ReasonWords("disabled"),
    Reason.UNSUPPORTED: ReasonWords("not supported"),
    Reason.MEASURES_ITSELF: ReasonWords("measures itself"),
    Reason.NO_TIME_LEFT: ReasonWords(
        "no time left", "allow more (--tfleak-max-total-time), or run again"
    ),
    Reason.GPU_NOT_MEASURED: ReasonWords("GPU memory was not measured"),
}

STATUSES = {
    Status.LEAK: "LEAK",
    Status.INCONCLUSIVE: "INCONCLUSIVE",
    Status.NOT_MEASURED: "NOT MEASURED",
    Status.CLEAN: "clean",
}


#: Dtypes of tensors that are handles to objects which another signal may count.
_HANDLES = ("resource", "variant")


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with the most important one first.

    Of one leak, it is that on the objects which are held, not on what these hold.
    """
    findings = list(findings)
    held_directly = {
        found.fingerprint for found in findings if _is_held_directly(found)
    }

    def key(found: Finding) -> tuple[int, bool, tuple[int, int], str]:
        is_left = found.per_iteration is None
        array = found.path.array if found.path is not None else None
        is_handle = (
            array is not None
            and array.type == "EagerTensor"
            and array.dtype in _HANDLES
        )
        signal = names_of("system")[-1] if is_handle else found.signal
        group, place, name = rank(signal, found.unit, is_left)
        is_inner = found.fingerprint in held_directly and not _is_held_directly(found)
        is_whole = _is_held_itself(found) and not is_handle and not is_inner
        return group, not is_whole, place, name

    return sorted(findings, key=key)


def _is_held_directly(finding: Finding) -> bool:
    """Return whether user code keeps the counted objects, not others that hold them."""
    if finding.fingerprint is None or not _is_held_itself(finding):
        return False
    made = [s for s in finding.path.steps if s.is_new] if finding.path else []
    return len(made) == 1


def _is_held_itself(finding: Finding) -> bool:
    """Return whether the counted object itself is held, not an object around it."""
    path, kind = finding.path, (finding.kind or "?").rpartition(".")[2]
    if path is None or path.in_native_part:
        return False
    if finding.unit == OPERATIONS:
        return False  # they are parts of a graph
    return path.type.rpartition(".")[2] == kind
