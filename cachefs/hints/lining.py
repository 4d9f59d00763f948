"""Lining up: a question about a whole queue, answered for all of its jobs at once.

Theory of operation. Who is asked about one job at a time sends each where *it* is best off, and the first in
line takes what the second had better have. Who is asked about the line matches all of it with all places
(:mod:`cachefs.core.hints.lining`, which the simulation calls as well). There are two kinds of places:

- those of the inventory: wherever members of a kind fit, now or when something is expected to end. Jobs that
  want different accelerators are matched kind after kind, each beside what the kinds before got;
- the asker's own: accelerators that it gives out itself, with the programs that run there. What a program has in
  its accelerator need not be loaded, and to displace it costs those who come for it
  (:mod:`cachefs.core.hints.demand`). Reservations know such a place as a node of its own.

Gangs are placed first and one by one, as if they had been asked about alone: their members are no match for
single places. All of this happens while the inventory stands still.
"""

import secrets
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cachefs.core.hints.answer import Start, Wait
from cachefs.core.hints.asking import Line, OwnPlace, Question, Reading, WantedGpu
from cachefs.core.hints.demand import Demand, Displaced, Idle
from cachefs.core.hints.estimate import Links
from cachefs.core.hints.fitting import Taken, places, slot_seconds
from cachefs.core.hints.fleet import Column
from cachefs.core.hints.learning import KEYS_LIMIT, Lessons
from cachefs.core.hints.lining import (
    InLine,
    Keeping,
    Places,
    Promise,
    line_up,
    places_of,
    ready_at,
    useful,
)
from cachefs.core.hints.matching import WINDOW, pressure
from cachefs.core.hints.nodes import NEVER, Gpu, Node
from cachefs.core.hints.reserving import Asker, Reservations
from cachefs.hints.deciding import Asked, Decided, Decider
from cachefs.hints.inventory import Found
from cachefs.hints.placing import Placed, Placer, asker_of

_ONE = WantedGpu()
_NOTES_MAX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """A place of the asker's, with what was found of what its program holds."""

    place: OwnPlace
    found: Found | None

    @property
    def name(self) -> str:
        """The name under which reservations know it."""
        return f"{self.place.node}/{self.place.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lined:
    """What a job of a line is told."""

    decided: Decided
    placed: Placed = field(default_factory=Placed)
    start: Start | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What all jobs of a line are decided upon."""

    line: Line
    own: Sequence[Own]
    links: Links
    reservations: Reservations
    keeps: bool
    """Whether places may be kept, within a change of the reservations."""
    now: float


class Liner:
    """Answers for lines; with the inventory's turn only."""

    def __init__(self, decider: Decider, placer: Placer, lessons: Lessons) -> None:
        """Know of no job yet."""
        self._decider = decider
        self._placer = placer
        self._lessons = lessons
        self._demand = Demand()
        self._heard: OrderedDict[str, None] = OrderedDict()

    def decide(self, asked: Sequence[Asked], ground: Ground) -> Sequence[Lined]:
        """Say of each job where it starts, in the order of the line."""
        self._hear(asked, ground)
        nodes = {own.name: _own_node(own, self._lessons, ground.now) for own in ground.own}
        if ground.keeps:
            self._placer.follow(ground.reservations, ground.now, nodes)
        groups: dict[WantedGpu | None, list[int]] = defaultdict(list)
        lined: dict[int, Lined] = {}
        for index, each in enumerate(asked):
            if each.question.gang is not None:
                lined[index] = self._alone(each, ground)
            else:
                groups[None if ground.own else each.question.gpu].append(index)
        given: dict[str, tuple[Taken, ...]] = {}
        for members in groups.values():
            group = _Group(self._decider, [asked[index] for index in members], ground, given, nodes)
            extra = self._displaced(group, ground)
            lined |= dict(zip(members, self._matched(group, extra), strict=True))
        return [lined[index] for index in range(len(asked))]

    def _hear(self, asked: Sequence[Asked], ground: Ground) -> None:
        """Take in who has come: each counts once, however often its line is asked about."""
        for each in asked:
            if not each.question.dry_run and each.job not in self._heard:
                self._heard[each.job] = None
                self._demand.asked(each.subject, now=ground.now)
        while len(self._heard) > KEYS_LIMIT:
            self._heard.popitem(last=False)

    def _alone(self, asked: Asked, ground: Ground) -> Lined:
        taken = ground.reservations.taken(now=ground.now, but_for=asked.job)
        decided = self._decider.decide(asked, ground.links, taken=taken, now=ground.now)
        placed = self._placer.place(decided)
        if ground.keeps and asked.question.keep_seconds is not None:
            placed = self._placer.keep(decided, placed, ground.reservations)
        return Lined(decided=decided, placed=placed)

    def _displaced(self, group: "_Group", ground: Ground) -> Displaced:
        idle = [
            Idle(at, str(own.found.dataset), ground.now - own.place.idle_seconds)
            for at, own in enumerate(group.own)
            if own.place.busy_seconds is None and own.found is not None
        ]
        load = self._decider.fleet.column("load") * self._decider.fleet.column("efficiency_load")

        def reload_seconds(key: str, at: int) -> float:
            found = group.own[at].found
            size = 0.0 if found is None else found.spread.total
            return self._lessons.starts.of(key) + size / float(load[group.places.rows[at]])

        return Displaced(idle, len(group.places.rows), self._demand, reload_seconds, now=ground.now)

    def _matched(self, group: "_Group", displaced: Displaced) -> list[Lined]:
        """Match a group with its places, as many at a time as are looked at together."""
        ground, seconds = group.ground, group.places.seconds.copy()
        behind = pressure(seconds, max(ground.line.waiting, len(group.asked)))
        told: dict[int, Lined] = {}
        left = list(range(len(group.asked)))
        while left:
            some = left[:WINDOW]
            chosen = group.chosen(some, seconds)
            promises = line_up(
                [
                    InLine(
                        asker=group.asker(at),
                        ready=np.where(seconds < NEVER, group.ready(at), NEVER)[chosen],
                        extra=displaced.of(group.asked[at].subject)[chosen],
                        runs_seconds=group.asked[at].question.expected_seconds
                        or self._lessons.runs.of(group.asked[at].subject),
                    )
                    for at in some
                ],
                seconds[chosen],
                behind=behind,
                now=ground.now,
                keeping=group.keeping(some, chosen),
            )
            for each in promises:
                place = int(chosen[each.place])
                at = some[each.job]
                seconds[place] = NEVER
                told[at] = self._told(group, at, place, each)
            if not any(each.is_free for each in promises):
                break
            left = [at for at in left if at not in told]
        others = Placed(notes=group.notes)
        return [
            told.get(at, Lined(decided=group.decided(at), placed=others))
            for at in range(len(group.asked))
        ]

    def _told(self, group: "_Group", at: int, place: int, promise: Promise) -> Lined:
        decided = group.decided(at, place)
        row = int(group.places.rows[place])
        node = decided.fleet.at(row)
        parts = decided.estimate.breakdown(row, node.name, (node.zone, node.rack))
        slot = float(group.places.seconds[place])
        if slot >= max(parts.image, parts.data, parts.load, parts.init) and slot > 0:
            parts = parts._replace(bottleneck=f"slot:{node.name}")
        parts = parts._replace(slot=slot)
        own = group.own[place].place.name if group.own else ""
        placed = self._placer.on(decided, (node.name,))
        wait = None
        if not promise.is_free:
            held = group.ground.reservations.of(decided.asked.job, now=decided.now)
            until = 0.0 if held is None else held.expires_at - decided.now
            wait = Wait(
                node=node.name,
                free_seconds=slot,
                ready_seconds=parts.ready,
                reservation=promise.token,
                expires_seconds=until,
            )
        elif not promise.token:
            group.give(node.name, at)
        split = decided.estimate.located.seen(row).split
        start = Start(
            node=node.name,
            place=own,
            breakdown=parts,
            is_loaded=0 < split.total <= split.gpu,
        )
        return Lined(
            decided=decided,
            placed=replace(placed, token=promise.token, wait=wait, notes=group.notes),
            start=start,
        )


class _Group:
    """Jobs of a line that are matched with the same places."""

    def __init__(
        self,
        decider: Decider,
        asked: Sequence[Asked],
        ground: Ground,
        given: dict[str, tuple[Taken, ...]],
        nodes: Mapping[str, Node],
    ) -> None:
        self.asked = asked
        self.ground = ground
        self.own = [own for own in ground.own if decider.fleet.row(own.place.node) is not None]
        self.notes = tuple(
            f"place {own.place.name} is on {own.place.node}, which is not known"
            for own in ground.own
            if own not in self.own
        )[:_NOTES_MAX]
        self._decider = decider
        self._given = given
        self._taken = _both(
            ground.reservations.taken(
                now=ground.now, but_for=frozenset(each.job for each in asked)
            ),
            given,
        )
        self._decided: dict[object, Decided] = {}
        self._ready: dict[object, Column] = {}
        self._nodes = [nodes[own.name] for own in self.own]
        self.places = self._own_places() if ground.own else self._places()

    def asker(self, at: int) -> Asker:
        """Return who stands in line for a job."""
        asker = asker_of(self.decided(at))
        return replace(asker, wanted=_ONE, candidates=frozenset()) if self.own else asker

    def decided(self, at: int, place: int | None = None) -> Decided:
        """Return what is decided of a job, for those places alone that hold what one place holds."""
        asked = self.asked[at]
        loaded = self._loaded(asked, None if place is None else self.own[place]) if self.own else ()
        key = (_kind(asked.question), loaded)
        found = self._decided.get(key)
        if found is None:
            question = replace(asked.question, gpu=None) if self.ground.own else asked.question
            found = self._decided[key] = self._decider.decide(
                replace(asked, question=question),
                self.ground.links,
                taken=self._taken,
                now=self.ground.now,
                loaded=loaded,
            )
        return replace(found, asked=asked)

    def ready(self, at: int) -> Column:
        """Return the seconds until a job would be ready at each place."""
        asked = self.asked[at]
        kind = _kind(asked.question)
        if kind not in self._ready:
            ready = self._ready_at(at, None)
            loaded: dict[tuple[int, ...], Column] = {}
            for place, own in enumerate(self.own):
                key = self._loaded(asked, own)
                if key and key not in loaded:
                    loaded[key] = self._ready_at(at, place)
                if key:
                    ready[place] = loaded[key][place]
            self._ready[kind] = ready
        return self._ready[kind]

    def chosen(self, some: Sequence[int], seconds: Column) -> NDArray[np.intp]:
        """Return the places that matter to some of the jobs, of those that are still to be had."""
        kinds = {_kind(self.asked[at].question): at for at in some}
        if self.ground.own:
            return np.arange(len(self.places.rows))
        left = Places(rows=self.places.rows, seconds=seconds)
        ready = [np.where(seconds < NEVER, self.ready(at), NEVER) for at in kinds.values()]
        return useful(ready, left, jobs=len(some))

    def keeping(self, some: Sequence[int], chosen: NDArray[np.intp]) -> Keeping | None:
        """Return how places are kept for those of some jobs who ask for that."""
        ground = self.ground
        asking = {at: self.asked[at].question.keep_seconds for at in some}
        wanted = [number for number, at in enumerate(some) if asking[at] is not None]
        if not (ground.keeps and wanted):
            return None
        return Keeping(
            reservations=ground.reservations,
            node=lambda place: self._node(int(chosen[place])),
            token=lambda: f"r-{secrets.token_hex(12)}",
            wanted=wanted,
            seconds=max(each for each in asking.values() if each is not None),
        )

    def give(self, node: str, at: int) -> None:
        """Note for the groups that come after that a job starts on a node without a reservation."""
        if not self.own:
            taken = Taken(self.asked[at].question.gpu, 1, NEVER)
            self._given[node] = (*self._given.get(node, ()), taken)

    def _node(self, place: int) -> Node:
        if self.own:
            return self._nodes[place]
        return self._decider.fleet.at(int(self.places.rows[place]))

    def _places(self) -> Places:
        decided = self.decided(0)
        rows = np.flatnonzero(decided.fleet.column("alive") & decided.fleet.column("schedulable"))
        return places_of(decided.openings, rows, most=len(self.asked))

    def _own_places(self) -> Places:
        rows = [self._decider.fleet.row(own.place.node) or 0 for own in self.own]
        seconds = [
            slot_seconds(
                places(node, _ONE, self._taken.get(node.name, ())), _ONE, now=self.ground.now
            )
            for node in self._nodes
        ]
        return Places(rows=np.array(rows, dtype=np.intp), seconds=np.array(seconds))

    def _loaded(self, asked: Asked, own: Own | None) -> tuple[int, ...]:
        """Return the readings that are in a place's accelerator."""
        if own is None or own.found is None:
            return ()
        held = own.found.dataset, own.found.version
        return tuple(
            index
            for index, found in enumerate(asked.found)
            if found is not None and (found.dataset, found.version) == held
        )

    def _ready_at(self, at: int, place: int | None) -> Column:
        decided = self.decided(at, place)
        ready = ready_at(decided.estimate, self.places, decided.may)
        rows = self.places.rows
        known = np.isfinite(decided.ready[rows])
        # What weights add to the seconds of a node, they add at each of its places.
        ready[known] += (decided.weighed[rows] - decided.ready[rows])[known]
        return ready


def _own_node(own: Own, lessons: Lessons, now: float) -> Node:
    """Return a place of the asker's as reservations know it."""
    free_at = None
    if own.place.busy_seconds is not None:
        runs = lessons.runs.of(str(own.place.dataset or ""))
        free_at = now - own.place.busy_seconds + runs
    used = 0.0 if free_at is None else 1.0
    return Node(name=own.name, gpus=(Gpu(index=0, used=used, free_at=free_at, memory_bytes=0),))


def _kind(question: Question) -> object:
    """Return what is equal for questions that have the same estimate."""
    selector = tuple(sorted(question.selector.items()))
    alike = question.readings, question.gpu, question.image, question.image_bytes
    return (*alike, question.candidates, selector, question.loader)


def _both(
    taken: Mapping[str, tuple[Taken, ...]], given: Mapping[str, tuple[Taken, ...]]
) -> dict[str, tuple[Taken, ...]]:
    names = {**taken, **given}
    return {name: (*taken.get(name, ()), *given.get(name, ())) for name in names}


def held_readings(line: Line) -> Iterator[Reading | None]:
    """Yield what the program at each of the asker's places has in its accelerator, as one reads it."""
    for place in line.places:
        yield (
            None if place.dataset is None else Reading(dataset=place.dataset, version=place.version)
        )
