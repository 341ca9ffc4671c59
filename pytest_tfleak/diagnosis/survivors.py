"""What a few more iterations leave behind, in groups: who holds it, which line made it.

Objects that hang below another survivor belong to it, and survivors that are held in
the same place are one group: one mistake is one group, whatever it keeps alive.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import _thread
import atexit
import gc
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

from pytest_tfleak.census import full_name
from pytest_tfleak.diagnosis.bytes import explained_bytes
from pytest_tfleak.diagnosis.containers import Containers
from pytest_tfleak.diagnosis.details import describe_group
from pytest_tfleak.diagnosis.details import describe_object
from pytest_tfleak.diagnosis.group import CHAIN
from pytest_tfleak.diagnosis.group import WHOLE
from pytest_tfleak.diagnosis.group import Group
from pytest_tfleak.diagnosis.group import Part
from pytest_tfleak.diagnosis.holders import Holding
from pytest_tfleak.diagnosis.holders import describe_path
from pytest_tfleak.diagnosis.holders import place_at_root
from pytest_tfleak.diagnosis.origins import Frame
from pytest_tfleak.diagnosis.origins import frames_of
from pytest_tfleak.diagnosis.origins import origin_of
from pytest_tfleak.diagnosis.paths import Paths
from pytest_tfleak.diagnosis.places import Members
from pytest_tfleak.diagnosis.places import below
from pytest_tfleak.diagnosis.places import chain_below
from pytest_tfleak.diagnosis.places import grouped
from pytest_tfleak.diagnosis.places import ids_of_attributes
from pytest_tfleak.diagnosis.roots import at_exit
from pytest_tfleak.diagnosis.roots import is_of_ours
from pytest_tfleak.diagnosis.tracing import Tracing
from pytest_tfleak.diagnosis.turnover import Turnover
from pytest_tfleak.loop import Loop
from pytest_tfleak.units import format_count
from pytest_tfleak.verdict import Origin

_MOST_GROUPS = 24
_ASKED_FOR_ORIGIN = 20  # members of a group
_MOST_ASKED = 5_000  # survivors
#: Of the time left, for two runs of the body.
_UNTRACED, _TRACED = 0.3, 0.6
_LEAST_TRACED = 5.0  # seconds


class Watch:
    """Runs the body a few more times and looks at what is left of it."""

    def __init__(
        self,
        loop: Loop,
        handed: Mapping[str, object],
        signal_of: Callable[[type], str | None],
        noted: Callable[[object], Sequence[Frame]],
        containers: Containers,
    ) -> None:
        self._loop = loop
        self._handed = handed
        self._signal_of = signal_of
        self._noted = noted
        self._containers = containers
        self._at_exit = 0  # functions, where each iteration registers one
        self._frames: dict[int, list[Frame]] = {}
        self._fresh: set[int] = set()
        #: Whether the search for holders came to its end.
        self.is_complete = False
        #: How often the body ran.
        self.runs = 0
        #: Who holds what ``asked`` returned.
        self.asked: Holding | None = None

    def run(
        self,
        iterations: int,
        until: float,
        older: Callable[[], list[object]],
        asked: Callable[[], object] = lambda: None,
        after: Sequence[Callable[[], None]] = (),
        is_traced: bool = True,
    ) -> list[Group]:
        """Return the groups, largest first. Raises what the body raises.

        ``older`` is called after the last iteration and returns what is to be explained
        though it was made earlier; ``asked``, called then, returns something whose
        holder is wanted, too. ``after`` is called after each iteration; ``until`` is a
        time on ``perf_counter``'s clock. Without a trace nothing tells the line.
        """
        seconds = _UNTRACED * (until - perf_counter())
        untraced = max(0, iterations - self._containers.iterations)
        if untraced:
            untraced = self._loop.run_again(
                after, warmup=0, iterations=untraced, seconds=seconds
            ).rows
        # one iteration may take all that is left; made before the freeze: no survivor
        tracing = Tracing(max(until - perf_counter(), _LEAST_TRACED), is_on=is_traced)
        seconds = _TRACED * (until - perf_counter())
        self._containers.find_longer()
        with tracing:
            functions = atexit._ncallbacks()
            traced = self._loop.run_again(
                after, warmup=1, iterations=iterations, seconds=seconds, clear=False
            ).rows
            tracing.stop_the_clock()
            self.runs = untraced + traced
            if atexit._ncallbacks() - functions >= traced:
                self._at_exit = atexit._ncallbacks()
            gc.collect()
            found = gc.get_objects()
            old = older()
            gc.unfreeze()
            _run_in_thread(partial(self._ask, found))
        try:
            return self._describe(found, old, asked(), traced, until)
        finally:
            self._containers.forget()
            self._frames, self._fresh = {}, set()

    def _ask(self, found: list[Any]) -> None:
        """Note what was added to longer containers, and who made what is new."""
        self._containers.find_grown()
        added = (
            item
            for _, items in self._containers.grown
            for item in items[:_ASKED_FOR_ORIGIN]
        )
        for made in (*found[-_MOST_ASKED:], *added):
            frames = frames_of(made)
            if frames:
                self._frames[id(made)] = frames

    def _describe(
        self,
        found: list[Any],
        older: list[Any],
        asked: Any,
        runs: int,
        until: float,
    ) -> list[Group]:
        paths = Paths(self._handed, until)
        grown = self._containers.grown
        wanted = [*found, *older, *(container for container, _ in grown)]
        paths.find(wanted if asked is None else [*wanted, asked])
        # the collector knows nothing of arrays, and what they look at hangs below them
        found += (i for _, items in grown for i in items if paths.is_array(i))
        self._fresh = {id(o) for o in found}
        found += (o for o in older if id(o) not in self._fresh)
        made = [o for o in found if not paths.is_ours(o) and not is_of_ours(o)]
        new = {id(o) for o in made} | set(ids_of_attributes(older))
        every = self._loop.trace.rows + self._loop.ran_again
        turnover = Turnover(self._containers, self._fresh, runs, every)
        places = [
            members
            for members in grouped(made, new, paths)
            if not turnover.is_replaced(members)
        ]
        for members in places:
            if not members.chain and (root := at_exit(members.held[0], self._at_exit)):
                members.chain = [root, root.holds, members.held[0]]
        filled = {id(members.chain[-2]) for members in places if members.chain}
        looked_at = [(members, new) for members in _alike(places, new)[:_MOST_GROUPS]]
        for container, items in grown:
            way = paths.path_to(container)
            if way and id(container) not in filled and id(items[-1]) not in new:
                self._fresh.update(map(id, items))
                members = Members(items, items, [*way, items[-1]])
                looked_at.append((members, {id(i) for i in items}))
        self.is_complete = paths.is_complete
        described = []
        for members, added in looked_at:
            # a thread may change what is read, an object fight back: lose this only
            with suppress(Exception):
                described.append(self._group(members, added, runs))
        if way := paths.path_to(asked):
            with suppress(Exception):
                self.asked = describe_path(way, new, describe_object)
        groups = list(_merged(described))
        return sorted(groups, key=lambda group: (-group.bytes, -group.objects))

    def _group(self, members: Members, new: set[int], runs: int) -> Group:
        holding = describe_path(members.chain, new, describe_object)
        erased = holding.erased
        if not members.chain:  # others that nobody holds are others
            erased += f" > {full_name(type(members.held[0]))}"
        fresh = [o for o in members.all if id(o) in self._fresh]
        group = Group(
            erased=erased,
            clues=holding.clues,
            objects=len(fresh) / runs,
            bytes=explained_bytes(fresh, runs),
            runs=runs,
            members={
                name: count / runs
                for name, count in Counter(full_name(type(o)) for o in fresh).items()
            },
        )
        shown = members.held
        chain = chain_below(shown[0], self._fresh) if len(shown) == 1 else []
        if len(chain) >= runs:
            shown = chain
            group.clues |= {CHAIN}
        group.parts[WHOLE] = self._part(shown, members, holding, runs)
        by_signal: dict[str, list[Any]] = {}
        for member in members.all:
            signal = self._signal_of(type(member))
            if signal is not None:
                by_signal.setdefault(signal, []).append(member)
        for signal, counted in by_signal.items():
            chain = below(members, counted)
            held = describe_path(chain, new, describe_object)
            group.parts[signal] = self._part(counted, members, held, runs)
            short = self._until_counted(chain, len(members.chain) - 1)
            group.clues |= describe_path(short, new, describe_object).clues
        return group

    def _until_counted(self, chain: list[Any], start: int) -> list[Any]:
        """Return a path without what hangs below what a signal counts already."""
        for at in range(max(start, 0), len(chain)):
            if self._signal_of(type(chain[at])) is not None:
                return chain[: at + 1]
        return chain

    def _part(
        self, shown: list[Any], members: Members, holding: Holding, runs: int
    ) -> Part:
        held = {id(o) for o in members.held}
        directly = [o for o in shown if id(o) in held]
        origin, stack = self._made_at(directly, shown, members.all)
        rate = sum(id(o) in self._fresh for o in shown) / runs
        return Part(
            kind=full_name(type(shown[0])),
            what=describe_group(shown, rate),
            per_iteration=rate,
            edges=holding.edges,
            origin=origin,
            stack=stack,
        )

    def _made_at(self, *asked: list[Any]) -> tuple[Origin | None, tuple[Origin, ...]]:
        """Return the user's line that made the most of the first that tell one."""
        found: Counter[Origin] = Counter()
        stacks: dict[Origin, tuple[Origin, ...]] = {}
        for some in asked:
            for member in some[:_ASKED_FOR_ORIGIN]:
                frames = self._frames.get(id(member)) or self._noted(member)
                origin, stack = origin_of(frames)
                if origin is not None:
                    found[origin] += 1
                    stacks.setdefault(origin, stack)
            if found:
                origin = found.most_common(1)[0][0]
                return origin, stacks[origin]
        return None, ()


def _run_in_thread(call: Callable[[], None]) -> None:
    """Call something where the stack is short: what it allocates is traced as well."""
    done = _thread.allocate_lock()  # a Thread would be one more in Python's table
    done.acquire()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # which is the caller's
            raised.append(error)
        finally:
            done.release()

    _thread.start_new_thread(run, ())
    done.acquire()
    if raised:
        raise raised.pop()


def _alike(places: Iterable[Members], new: set[int]) -> list[Members]:
    """Put together what each call leaves at a root of its own, such as a thread."""
    by_place: dict[str | int, Members] = {}
    for members in places:
        place = place_at_root(members.chain, new) or id(members)
        first = by_place.setdefault(place, members)
        if first is not members:
            first.held += members.held
            first.all += members.all
    return sorted(by_place.values(), key=lambda members: -len(members.all))


def _merged(groups: Iterable[Group]) -> Iterator[Group]:
    """Join groups whose paths differ in nothing but indexes."""
    by_path: dict[str, Group] = {}
    told: dict[str, Counter[str]] = {}
    for group in sorted(groups, key=lambda group: -group.bytes):  # it is shown
        first = by_path.setdefault(group.erased, group)
        told.setdefault(group.erased, Counter())[group.whole.what] += 1
        if first is not group:
            first.objects += group.objects
            first.bytes += group.bytes
            for name, rate in group.members.items():
                first.members[name] = first.members.get(name, 0.0) + rate
            for signal, part in group.parts.items():
                before = first.parts.setdefault(signal, part)
                if before is not part:
                    rate = before.per_iteration + part.per_iteration
                    first.parts[signal] = replace(before, per_iteration=rate)
    for erased, group in by_path.items():
        ((what, places),) = told[erased].most_common(1)
        if places > 1 and len(told[erased]) == 1:
            what = f"{what} in each of {format_count(places)} places"
            group.parts[WHOLE] = replace(group.whole, what=what)
        yield group
