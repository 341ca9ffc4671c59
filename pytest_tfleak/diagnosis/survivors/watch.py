"""Run the body a few more times, and find what holds and makes the objects it leaves.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import _thread
import atexit
import gc
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from itertools import chain
from itertools import islice
from time import perf_counter
from typing import Any
from typing import TypeVar

from pytest_tfleak.diagnosis.holder.parts import parts_of
from pytest_tfleak.diagnosis.holder.path import AT_ROOT
from pytest_tfleak.diagnosis.holder.path import describe_path
from pytest_tfleak.diagnosis.holder.roots import Start
from pytest_tfleak.diagnosis.holder.roots import at_exit
from pytest_tfleak.diagnosis.holder.roots import is_of_ours
from pytest_tfleak.diagnosis.holder.search import Paths
from pytest_tfleak.diagnosis.origin.stores import Stores
from pytest_tfleak.diagnosis.origin.stores import count_renewals
from pytest_tfleak.diagnosis.origin.stores import find_lines
from pytest_tfleak.diagnosis.origin.stores import find_stores
from pytest_tfleak.diagnosis.survivors.containers import Containers
from pytest_tfleak.diagnosis.survivors.containers import Longer
from pytest_tfleak.diagnosis.survivors.containers import Turnover
from pytest_tfleak.diagnosis.survivors.groups import ASKED_FOR_ORIGIN
from pytest_tfleak.diagnosis.survivors.groups import Describer
from pytest_tfleak.diagnosis.survivors.groups import Group
from pytest_tfleak.diagnosis.survivors.groups import Place
from pytest_tfleak.diagnosis.survivors.groups import Survivors
from pytest_tfleak.diagnosis.survivors.groups import group_by_place
from pytest_tfleak.diagnosis.survivors.groups import ids_of_attributes
from pytest_tfleak.diagnosis.survivors.groups import join_at_roots
from pytest_tfleak.diagnosis.survivors.groups import merge_same_paths
from pytest_tfleak.diagnosis.survivors.groups import within_sequence
from pytest_tfleak.diagnosis.survivors.weights import without_collections
from pytest_tfleak.retaining_path import RetainingPath
from pytest_tfleak.retaining_path import Root
from pytest_tfleak.run.budget import Deadline
from pytest_tfleak.run.loop import Loop
from pytest_tfleak.user_code import DEPTH
from pytest_tfleak.user_code import Frame
from pytest_tfleak.user_code import frames_of

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST_GROUPS = 24
#: For how many survivors to look up the allocation site: some of each type, and the
#: last ones of any.
_OF_EACH_TYPE, _MOST_ASKED = ASKED_FOR_ORIGIN, 5_000
#: The share of the remaining time for the runs without and with tracemalloc, and for
#: that which watches lines.
_UNTRACED, _TRACED, _STORES = 0.3, 0.6, 0.3
_MOST_GROWN = 500  # containers whose lines are looked for
_ALL_OF_IT = 60.0  # seconds without a switch to another thread
#: If the fewest traced iterations took so many seconds, there are no more.
_FEWEST_TRACED, _SPARE, _SECONDS_TRACED = 2, 2, 1.0
_LEAST_TRACED = 1.5  # seconds before tracemalloc is stopped within an iteration


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What more iterations leave, described by values."""

    groups: list[Group]  # largest first
    is_complete: bool  # whether the search saw all objects that may hold others
    asked: RetainingPath | None  # the path to the object in question, if there is one


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    """The objects after the last iteration; release them before measuring again."""

    recent: list[Any]  # objects that the last iterations made
    newest: frozenset[int]  # ids of those that the very last one made, if known
    older: list[Any]  # objects made earlier that need an explanation, too
    runs: int  # how many iterations made the recent objects
    at_exit: int  # how many atexit functions exist, if each iteration registers one
    frames: dict[int, list[Frame]]  # the stacks that made objects, by id of the object
    stores: Stores  # the lines that make containers longer


class Watch:
    """Runs the body a few more times and examines what it leaves."""

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
        #: What holds the only object of a group, and by which name, by the place.
        self._renewed: dict[tuple[str, ...], tuple[Any, Hashable]] = {}

    def run(
        self,
        iterations: int,
        deadline: Deadline,
        *,
        older: Callable[[int], list[object]],
        asked: Callable[[], object] = lambda: None,
        after: Sequence[Callable[[], None]] = (),
        is_traced: bool = True,
        rates: Mapping[str, float] | None = None,
        gap: int = 1,
    ) -> Kept:
        """Return what the body leaves. Raises what the body raises.

        After the last iteration, ``older`` is called with the number of iterations; it
        returns earlier objects that need an explanation, too. Then ``asked`` returns
        one more object whose holder is wanted. ``after`` is called after each
        iteration. With ``is_traced=False``, allocation sites stay unknown. ``rates`` is
        the judged growth by signal, with which the descriptions agree; ``gap`` is how
        many iterations lie between two rises at most.
        """
        untraced = self._run_untraced(iterations, deadline.share(_UNTRACED), after)
        # a single iteration may outlast the deadline, so tracing has a time limit; it
        # is set up before the freeze, so that it does not count as a survivor
        early = _Early()
        tracing = Tracing(is_on=is_traced, before_stop=early.note)
        with ExitStack() as searching:
            self._containers.find_longer(deadline)
            stores = self._find_stores(iterations, deadline.share(_STORES), after)
            part = deadline.share(_TRACED)
            tracing.seconds = part.at_least(_LEAST_TRACED).seconds
            with tracing:
                functions = atexit._ncallbacks()
                # if only two rises show, each iteration is needed
                spare = _SPARE if iterations + 1 > 2 * gap else 0
                fewest = max(_FEWEST_TRACED, iterations + 1 - spare)
                traced, apart = self._run_traced(fewest, spare, part, after)
                tracing.stop_the_clock()
                early.release()
                is_more = atexit._ncallbacks() - functions >= traced
                recent, newest = self._survivors(apart)
                snapshot = _Snapshot(
                    recent=early.without_notes(recent),
                    newest=newest,
                    older=older(untraced + stores.iterations + traced),
                    runs=traced,
                    at_exit=atexit._ncallbacks() if is_more else 0,
                    frames=early.frames,
                    stores=stores,
                )
                del recent
                searching.enter_context(self._loop.thawed(is_last=True))
                searching.enter_context(without_collections())
                searching.callback(self._containers.forget)
                _in_thread(partial(self._note_origins, snapshot))
            try:
                kept = self._explain(snapshot, asked(), deadline, rates or {}, gap)
            finally:
                del snapshot  # or it would be frozen with all its objects
        return self._with_lines(kept, iterations, deadline.share(_STORES), after)

    def _with_lines(
        self,
        kept: Kept,
        iterations: int,
        deadline: Deadline,
        after: Sequence[Callable[[], None]],
    ) -> Kept:
        """Add the lines that replace what a single attribute or variable holds."""
        renewed, self._renewed = self._renewed, {}
        places = [g.path.place for g in kept.groups if g.is_steady and not g.stored]
        places = [place for place in places if place in renewed]
        if self._loop.guard.is_reached:
            places = []
        figures = [count_renewals(*renewed[place]) for place in places]
        found, _ = find_lines(self._loop, figures, iterations, after, deadline)
        lines = dict(zip(places, found, strict=True))
        groups = [
            replace(group, stored=lines[group.path.place].of(group.kinds))
            if group.path.place in lines
            else group
            for group in kept.groups
        ]
        return replace(kept, groups=groups)

    def _run_traced(
        self,
        fewest: int,
        spare: int,
        deadline: Deadline,
        after: Sequence[Callable[[], None]],
    ) -> tuple[int, frozenset[int]]:
        """Run the iterations whose objects are examined, and some to spare if quick.

        Return how many they are, and the ids of what is there before the last one; none
        if there is no time to tell it from what the last one makes.
        """
        self._loop.guard.allow_more()  # without these, the others are in vain
        run = partial(self._loop.run_again, after, warmup=0, clear=False)
        started = perf_counter()
        rows = run(iterations=fewest - 1, deadline=deadline).rows
        is_quick = perf_counter() - started < _SECONDS_TRACED
        if spare and rows == fewest - 1 and is_quick and self._has_room():
            rows += run(iterations=spare, deadline=deadline).rows
        if not self._has_room():
            return rows, frozenset()
        has_time = deadline.fits(self._loop.refreeze_seconds)
        apart = self._loop.set_apart(_in_thread) if has_time else frozenset()
        return rows + run(iterations=1, deadline=deadline).rows, apart

    def _has_room(self) -> bool:
        return not self._loop.guard.is_reached

    def _survivors(self, apart: frozenset[int]) -> tuple[list[Any], frozenset[int]]:
        """Return what the traced iterations left, and the ids of the last one's."""
        if apart:
            return self._loop.recall(apart, _in_thread)
        gc.collect()
        return gc.get_objects(), frozenset()

    def _run_untraced(
        self, iterations: int, deadline: Deadline, after: Sequence[Callable[[], None]]
    ) -> int:
        """Run the iterations that the comparison of containers still needs."""
        missing = iterations - self._containers.iterations
        if missing <= 0:
            return 0
        return self._loop.run_again(
            after, warmup=0, iterations=missing, deadline=deadline
        ).rows

    def _find_stores(
        self, iterations: int, deadline: Deadline, after: Sequence[Callable[[], None]]
    ) -> Stores:
        """Find the lines that make longer what has grown, without tracemalloc."""
        grown = self._containers.candidates[-_MOST_GROWN:]
        if self._loop.guard.iterations_left < iterations + _FEWEST_TRACED:
            grown = []  # the iterations that show the holders come first
        stores = find_stores(self._loop, grown, iterations, after, deadline)
        if stores.iterations:
            self._containers.begin_again()
        return stores

    def _note_origins(self, snapshot: _Snapshot) -> None:
        """Note what was added to containers, and allocation sites of new objects."""
        self._containers.find_longer_again()
        added = (
            o for one in self._containers.longer for o in one.added[:ASKED_FOR_ORIGIN]
        )
        for made in (*_sample(snapshot.recent), *added):
            frames = frames_of(made)
            if frames:
                snapshot.frames[id(made)] = frames

    def _explain(
        self,
        snapshot: _Snapshot,
        asked: Any,
        deadline: Deadline,
        rates: Mapping[str, float],
        gap: int,
    ) -> Kept:
        """Find the holders, group the survivors, and describe each group."""
        paths = self._find_paths(snapshot, asked, deadline)
        longer = self._containers.longer
        survivors = _survivors(snapshot, longer, paths)
        places = group_by_place(survivors, paths)
        places = self._without_replaced(places, snapshot.runs)
        places = [_held_at_exit(place, snapshot.at_exit) for place in places]
        if paths.is_complete:
            places = [_held_in_loose(place, longer) for place in places]
        places = [
            *join_at_roots(places)[:_MOST_GROUPS],
            *_places_in_longer(longer, places, survivors, paths),
        ]
        describer = Describer(
            runs=snapshot.runs,
            signal_of=self._signal_of,
            frames_of=lambda o: snapshot.frames.get(id(o)) or self._noted(o),
            is_searched=paths.is_complete,
            references=paths.references(),
            stored_in=snapshot.stores.line_of,
            size_when_judged=self._containers.size_when_judged,
            rates=rates,
            gap=gap,
        )
        described = _each(
            filter(None, [paths.path_to(asked)]),
            partial(describe_path, new=survivors.ids),
        )
        groups = merge_same_paths(_each(places, partial(self._describe, describer)))
        return Kept(
            groups=[group for group in groups if not group.is_replaced],
            is_complete=paths.is_complete,
            asked=next(iter(described), None),
        )

    def _describe(self, describer: Describer, place: Place) -> Group:
        group = describer.describe(within_sequence(place))
        if group.stored is None:
            for renewed in _held_alone(place):
                self._renewed[group.path.place] = renewed
        return group

    def _find_paths(self, snapshot: _Snapshot, asked: Any, deadline: Deadline) -> Paths:
        """Search for paths to all objects that need an explanation."""
        paths = Paths(self._handed, deadline)
        containers = [one.container for one in self._containers.longer]
        asked_too = [] if asked is None else [asked]
        # a search for our own objects, which nothing holds, would see all there are
        recent = (o for o in snapshot.recent if not is_of_ours(o))
        wanted = [*recent, *snapshot.older, *containers, *asked_too]
        paths.find(wanted, newest=snapshot.newest)
        return paths

    def _without_replaced(self, places: Iterable[Place], runs: int) -> list[Place]:
        """Leave out full caches, windows and state, which drop as much as they gain."""
        every = self._loop.trace.rows + self._loop.ran_again
        turnover = Turnover(containers=self._containers, runs=runs, every=every)
        kept = []
        for place in places:
            with suppress(Exception):  # a place that cannot be read counts as a leak
                if turnover.is_replaced(place):
                    continue
            kept.append(place)
        return kept


class _Early:
    """The allocation sites of what exists when tracing ends within an iteration."""

    def __init__(self) -> None:
        self.frames: dict[int, list[Frame]] = {}  # by id of the object
        self._kept: list[Any] = []  # so that the iteration reuses no id

    def without_notes(self, objects: list[Any]) -> list[Any]:
        """Return the objects that are not these notes."""
        ids = frozenset(map(id, (self.frames, *self.frames.values())))
        return [o for o in objects if id(o) not in ids]

    def note(self) -> None:
        """Note the sites of objects that the iterations have made until now.

        This runs while the body does. The body waits meanwhile, and no tuple is kept:
        Python cannot complete a tuple that something else refers to.
        """
        interval = sys.getswitchinterval()
        sys.setswitchinterval(_ALL_OF_IT)
        try:
            oldest_first = chain.from_iterable(map(gc.get_objects, (2, 1, 0)))
            made = [o for o in oldest_first if type(o) is not tuple]
            self._kept = list(_sample(made))
            self.frames.update((id(o), frames_of(o)) for o in self._kept)
        finally:
            sys.setswitchinterval(interval)

    def release(self) -> None:
        """Release the objects, when the iteration has ended."""
        self._kept = []


def _sample(objects: Sequence[Any]) -> Iterator[Any]:
    """Yield the last objects of each type, then the last ones of all."""
    of_type: Counter[int] = Counter()
    for o in reversed(objects):
        kind = id(type(o))
        if of_type[kind] < _OF_EACH_TYPE:
            of_type[kind] += 1
            yield o
    yield from objects[-_MOST_ASKED:]


def _survivors(
    snapshot: _Snapshot, longer: Iterable[Longer], paths: Paths
) -> Survivors:
    """Return the objects that need an explanation, except our own."""
    # the collector does not list arrays, which may hold other survivors
    arrays = [o for one in longer for o in one.added if paths.is_array(o)]
    recent = {id(o): o for o in (*snapshot.recent, *arrays)}
    older = {id(o): o for o in snapshot.older}
    objects = [
        o
        for o in {**recent, **older}.values()
        if not paths.is_ours(o) and not is_of_ours(o)
    ]
    ids = {*map(id, objects), *ids_of_attributes(snapshot.older)}
    return Survivors(
        objects=objects,
        ids=frozenset(ids),
        recent=frozenset(recent),
        newest=snapshot.newest,
    )


def _held_at_exit(place: Place, functions: int) -> Place:
    """Name atexit as the holder of objects that nothing else holds."""
    if not place.chain:
        start = at_exit(place.held[0], functions)
        if start is not None:
            return replace(place, chain=[start, start.holds, place.held[0]])
    return place


def _held_in_loose(place: Place, longer: Iterable[Longer]) -> Place:
    """Name a list that has grown as the holder of objects to which no root leads.

    Only C code refers to such a list, as to that of functions to call after a fork.
    """
    for one in longer if not place.chain else ():
        held = place.held[0]
        if type(one.container) is list and any(o is held for o in one.added):
            start = Start(Root(kind="loose", size=len(one.container)), one.container)
            return replace(place, chain=[start, one.container, held])
    return place


def _held_alone(place: Place) -> Iterator[tuple[Any, Hashable]]:
    """Yield the older object that holds the only object of a place, and by which name.

    In each call, a longer list or an object that refers to the last one replaces it.
    """
    if len(place.held) != 1 or len(place.chain) < AT_ROOT:
        return
    holder, held = place.chain[-2:]
    if id(holder) not in place.survivors.recent:
        names = (name for name, part in parts_of(holder).items() if part is held)
        yield from ((holder, name) for name in islice(names, 1))


def _places_in_longer(
    longer: Iterable[Longer],
    places: Iterable[Place],
    survivors: Survivors,
    paths: Paths,
) -> Iterator[Place]:
    """Yield containers that grew by objects which are not among the survivors.

    These are strings and numbers, which the collector does not list. Containers of
    pytest and this package grow too, as when an iteration is reported.
    """
    known = {id(place.chain[-2]) for place in places if place.chain}
    for one in longer:
        if paths.is_ours(one.container):
            continue
        last = one.added[-1]
        chain = paths.path_to(one.container)
        is_known = id(one.container) in known or _has_survivor(one, survivors)
        if chain and not is_known:
            ids = frozenset(map(id, one.added))
            added = Survivors(objects=one.added, ids=ids, recent=survivors.recent | ids)
            yield Place(
                survivors=added, held=one.added, all=one.added, chain=[*chain, last]
            )


def _has_survivor(one: Longer, survivors: Survivors) -> bool:
    """Return whether a container grew by a survivor; a set has no order."""
    is_set = issubclass(type(one.container), set)
    added = list(set.__iter__(one.container)) if is_set else one.added[-1:]
    return not survivors.ids.isdisjoint(map(id, added))


def _each(items: Iterable[Item], look: Callable[[Item], Result]) -> list[Result]:
    """Return the results for all items that can be read.

    A thread may change an object meanwhile, and an object's own code may raise.
    """
    results = []
    for item in items:
        with suppress(Exception):
            results.append(look(item))
    return results


def _in_thread(call: Callable[[], Result]) -> Result:
    """Call a function in a thread, whose short stack keeps tracemalloc's cost low."""
    done = _thread.allocate_lock()  # a Thread would count as a new one of the body
    done.acquire()
    returned: list[Result] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(call())
        except BaseException as error:  # raised again in the caller
            raised.append(error)
        finally:
            done.release()

    _thread.start_new_thread(run, ())
    done.acquire()
    if raised:
        raise raised.pop()
    return returned.pop()


class Tracing:
    """A context manager that runs tracemalloc, and stops it as soon as time is up.

    It stops even within an iteration, as a body that allocates a lot may become a
    hundred times slower; ``before_stop`` is called before, in another thread.
    ``is_on=False`` traces nothing. If tracemalloc already runs, it is left alone.
    """

    def __init__(
        self,
        seconds: float = 0.0,
        *,
        is_on: bool = True,
        before_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self.seconds = seconds
        self._before_stop = before_stop
        self._starts = is_on and not tracemalloc.is_tracing()
        self._is_timed = False
        self._left = _thread.allocate_lock()
        self._ended = _thread.allocate_lock()

    def __enter__(self) -> Tracing:
        if self._starts:
            tracemalloc.start(DEPTH)
            self._left.acquire()
            self._ended.acquire()
            self._is_timed = True
            # a Thread would count as a new one of the body
            _thread.start_new_thread(self._watch_the_clock, ())
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_the_clock()
        if self._starts:
            tracemalloc.stop()

    def stop_the_clock(self) -> None:
        """Cancel the time limit, so that the traces stay until the end of the block."""
        if self._is_timed:
            self._is_timed = False
            self._left.release()
            self._ended.acquire()

    def _watch_the_clock(self) -> None:
        seconds = min(max(0.0, self.seconds), _thread.TIMEOUT_MAX)
        try:
            if not self._left.acquire(timeout=seconds):
                with suppress(Exception):  # of an object that cannot be read
                    self._before_stop()
                tracemalloc.stop()
        finally:
            self._ended.release()
