"""Slots: where members could start, and when, for every node of the fleet at once.

The accelerators of all nodes are a table: a row a node, a column an accelerator of it. From it the
columns of one kind of member are reckoned as :mod:`.fitting` does for one node, and kept for as long as
that kind is asked for now and then. Of a table of thousands of nodes only those rows are done again
whose node has changed, or of which something else has been promised, since the last question.

Moments are kept, not seconds: what changes with the clock alone is reckoned on asking.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cachefs.core.hints.asking import GANG_LIMIT, WantedGpu
from cachefs.core.hints.fitting import (
    MEMORY_SLACK,
    OVERDUE_SECONDS,
    ROUNDING,
    Places,
    Taken,
    needed,
    places,
    wants_none,
)
from cachefs.core.hints.fleet import Column, Fleet, Rows
from cachefs.core.hints.fragments import growth
from cachefs.core.hints.nodes import GIB, NEVER, Node

Counts = NDArray[np.int64]

KINDS_LIMIT = 64
"""Kinds of members that columns are kept of; the one not asked for the longest is forgotten."""


@dataclass(frozen=True, slots=True)
class Openings:
    """Where and when members of one kind could start. A row a node of the fleet."""

    slots: Counts
    """How many could start now."""
    seconds: Column
    """Until one could; 0 if there is a slot, infinite if it never can."""
    growth: Column
    """How much a member would break up what is free (:mod:`.fragments`); 0 where none could start."""
    need: int
    """Places that one member fills."""
    now: Counts
    """Places by accelerator: a row a node, a column an accelerator."""
    later: Counts
    waits: Column
    """Seconds until the later places are free."""
    islands: NDArray[np.int64]
    """The NVLink island of each accelerator, counted from 0 within its node."""

    def members_by(self, seconds: Column, rows: Rows) -> Counts:
        """Return how many members could have started on each of some nodes, after so many seconds.

        Args:
            seconds: For each of these rows.
            rows: The nodes.
        """
        members: Counts = self._open(seconds, rows).sum(axis=1) // self.need
        return members

    def members_by_island(self, seconds: Column, rows: Rows) -> Counts:
        """Return the same by island: a row for each of these nodes, a column an island."""
        opened, islands = self._open(seconds, rows), self.islands[rows]
        count = int(islands.max(initial=-1)) + 1
        found = [np.where(islands == each, opened, 0).sum(axis=1) for each in range(count)]
        members = np.stack(found, axis=1) if found else np.zeros((len(rows), 0), dtype=np.int64)
        result: Counts = members // self.need
        return result

    def seconds_for(self, members: Counts, rows: Rows, island: int | None = None) -> Column:
        """Return the seconds until so many members could have started; infinite if they never can.

        Args:
            members: For each of these rows.
            rows: The nodes.
            island: Of whose accelerators alone; ``None`` for any.
        """
        now, later, waits = self.now[rows], self.later[rows], self.waits[rows]
        if island is not None:
            here = self.islands[rows] == island
            now, later = np.where(here, now, 0), np.where(here, later, 0)
        want, free = members * self.need, now.sum(axis=1)
        order = np.argsort(waits, axis=1)
        in_order = np.take_along_axis(waits, order, axis=1)
        opened = free[:, None] + np.cumsum(np.take_along_axis(later, order, axis=1), axis=1)
        enough = opened >= want[:, None]
        first = in_order[np.arange(len(rows)), enough.argmax(axis=1)]
        seconds: Column = np.where(enough.any(axis=1), first, NEVER)
        return np.where(free >= want, 0.0, seconds)

    def _open(self, seconds: Column, rows: Rows) -> Counts:
        in_time = self.waits[rows] <= seconds[:, None]
        result: Counts = self.now[rows] + np.where(in_time, self.later[rows], 0)
        return result


class Slots:
    """Keeps the openings of the kinds of members that are asked for."""

    def __init__(self, fleet: Fleet) -> None:
        """Follow a fleet. Nothing is reckoned before the first question."""
        self._fleet = fleet
        self._devices = _Devices(fleet)
        self._kept: dict[WantedGpu, _Kept] = {}

    def openings(
        self,
        wanted: WantedGpu | None,
        *,
        now: float,
        taken: Mapping[str, Sequence[Taken]] | None = None,
    ) -> Openings:
        """Return where members could start.

        Args:
            wanted: What each of them needs.
            now: The moment.
            taken: What has been promised to others, by node.
        """
        may = self._fleet.column("alive") & self._fleet.column("schedulable")
        if wanted is None or wants_none(wanted):
            return _anywhere(may)
        self._devices.follow()
        kept = self._kept.pop(wanted, None)
        if kept is None or kept.shape != self._devices.shape:
            kept = _Kept(wanted, self._devices)
        self._kept[wanted] = kept
        if len(self._kept) > KINDS_LIMIT:
            self._kept.pop(next(iter(self._kept)))
        kept.follow(self._fleet, taken or {})
        return kept.openings(now, may, self._devices)


def _anywhere(may: NDArray[np.bool_]) -> Openings:
    """Return the openings of members that need no accelerator."""
    slots = np.where(may, GANG_LIMIT, 0)
    nothing = np.zeros((len(may), 1), dtype=np.int64)
    return Openings(
        slots=slots,
        seconds=np.where(may, 0.0, NEVER),
        growth=np.zeros(len(may)),
        need=1,
        now=slots[:, None],
        later=nothing,
        waits=np.full((len(may), 1), NEVER),
        islands=nothing - 1,
    )


class _Devices:
    """The accelerators of all nodes."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._revision = -1
        self.shape = (0, 0)
        self.models: dict[str, int] = {}
        self._make(0, 0)

    def follow(self) -> None:
        """Take over what has changed of the fleet."""
        if self._revision == self._fleet.revision:
            return
        rows = self._fleet.changed_since(self._revision)
        nodes = [self._fleet.at(row) for row in rows.tolist()]
        widest = max((len(node.gpus) for node in nodes), default=0)
        if len(self._fleet) > self.shape[0] or widest > self.shape[1]:
            # Rows are added in bursts; room for twice as many makes the next ones cheap.
            height = max(2 * len(self._fleet), 64)
            self._make(height, max(widest, self.shape[1]))
            rows = np.arange(len(self._fleet))
            nodes = [self._fleet.at(row) for row in rows.tolist()]
        for row, node in zip(rows.tolist(), nodes, strict=True):
            self._put(row, node)
        self._revision = self._fleet.revision

    def offer(self, wanted: WantedGpu, rows: Rows) -> tuple[Counts, Counts]:
        """Return the places of some rows, those of now and those of later."""
        suits = self._suits(wanted, rows)
        if wanted.mig_profile is not None:
            free, used = self._slices.get(wanted.mig_profile.lower(), self._no_slices)
            return np.where(suits, free[rows], 0), np.where(suits, used[rows], 0)
        need = (wanted.memory_gib or 0.0) * GIB * MEMORY_SLACK
        share, memory = self.share[rows], self._memory_free[rows]
        fraction = wanted.fraction
        if fraction is None:
            now = ((share > 1 - ROUNDING) & (memory >= need)).astype(np.int64)
            return np.where(suits, now, 0), np.where(suits, 1 - now, 0)

        def room(of_share: Column | float, of_memory: Column) -> Counts:
            count = np.floor(of_share / fraction + ROUNDING)
            if need:
                count = np.minimum(count, np.floor(of_memory / need + ROUNDING))
            result: Counts = np.maximum(count, 0).astype(np.int64)
            return result

        now = room(share, memory)
        whole = room(np.ones_like(share), self._memory[rows])
        return np.where(suits, now, 0), np.where(suits, np.maximum(whole - now, 0), 0)

    def _suits(self, wanted: WantedGpu, rows: Rows) -> NDArray[np.bool_]:
        suits: NDArray[np.bool_] = self._there[rows].copy()
        if wanted.model is not None:
            part = wanted.model.lower()
            known = np.array([part in model for model in self.models], dtype=np.bool_)
            suits &= known[self._model[rows]] if len(known) else False
        if wanted.mig_profile is None:
            suits &= ~self._partitioned[rows]
            suits &= self._memory[rows] >= (wanted.memory_gib or 0.0) * GIB * MEMORY_SLACK
        return suits

    def _put(self, row: int, node: Node) -> None:
        self._there[row] = False
        self.share[row] = 0.0
        self.islands[row] = -1
        for free, used in self._slices.values():
            free[row] = used[row] = 0
        numbers: dict[int, int] = {}
        for at, gpu in enumerate(node.gpus):
            self._there[row, at] = True
            self.islands[row, at] = numbers.setdefault(gpu.island, len(numbers))
            self._model[row, at] = self.models.setdefault(gpu.model.lower(), len(self.models))
            self._memory[row, at] = gpu.memory_bytes
            free_bytes = gpu.memory_free_bytes
            if free_bytes is None:
                free_bytes = round(gpu.memory_bytes * (1.0 - gpu.used))
            self._memory_free[row, at] = free_bytes
            self._partitioned[row, at] = gpu.partitioned
            self.share[row, at] = 0.0 if gpu.partitioned else 1.0 - gpu.used
            self.moment[row, at] = NEVER if gpu.free_at is None else gpu.free_at
            for profile in gpu.mig:
                self._profile(profile)[0][row, at] += 1
            for profile in gpu.mig_used:
                self._profile(profile)[1][row, at] += 1

    def _profile(self, name: str) -> tuple[Counts, Counts]:
        found = self._slices.get(name.lower())
        if found is None:
            found = np.zeros(self.shape, dtype=np.int64), np.zeros(self.shape, dtype=np.int64)
            self._slices[name.lower()] = found
        return found

    def _make(self, height: int, width: int) -> None:
        self.shape = shape = (height, width)

        def full(kind: Any, value: float) -> NDArray[Any]:  # the type of NumPy's scalars
            return np.full(shape, value, dtype=kind)

        self._there, self._partitioned = full(np.bool_, 0), full(np.bool_, 0)
        self._model, self.islands = full(np.int64, 0), full(np.int64, -1)
        self._memory, self._memory_free = full(np.float64, 0), full(np.float64, 0)
        self.share, self.moment = full(np.float64, 0), full(np.float64, NEVER)
        self._no_slices: tuple[Counts, Counts] = full(np.int64, 0), full(np.int64, 0)
        self._slices: dict[str, tuple[Counts, Counts]] = {}


class _Kept:
    """What is kept of one kind of member."""

    def __init__(self, wanted: WantedGpu, devices: _Devices) -> None:
        self._wanted = wanted
        self._devices = devices
        self._revision = -1
        self._taken: dict[int, tuple[Taken, ...]] = {}
        self.shape = shape = devices.shape
        self._now = np.zeros(shape, dtype=np.int64)
        self._later = np.zeros(shape, dtype=np.int64)
        self._moment = np.full(shape, NEVER)
        self._growth = np.zeros(shape[0])

    def follow(self, fleet: Fleet, taken: Mapping[str, Sequence[Taken]]) -> None:
        """Do again what has changed."""
        promised = {
            row: tuple(each) for name, each in taken.items() if (row := fleet.row(name)) is not None
        }
        if self._revision == fleet.revision and promised == self._taken:
            return
        changed = set(fleet.changed_since(self._revision).tolist())
        both = promised.keys() | self._taken.keys()
        changed |= {row for row in both if promised.get(row) != self._taken.get(row)}
        rows = np.array(sorted(changed), dtype=np.intp)
        self._now[rows], self._later[rows] = self._devices.offer(self._wanted, rows)
        self._moment[rows] = self._devices.moment[rows]
        share = self._devices.share[rows]
        for at, row in enumerate(rows.tolist()):
            if row in promised:
                offered = places(fleet.at(row), self._wanted, promised[row])
                self._put(row, offered)
                share[at, : len(offered)] = [each.share for each in offered]
        self._growth[rows] = growth(share, self._now[rows], self._wanted)
        self._revision, self._taken = fleet.revision, promised

    def openings(self, now: float, may: NDArray[np.bool_], devices: _Devices) -> Openings:
        """Return the openings at a moment."""
        count = len(may)
        need = needed(self._wanted)
        places_now = np.where(may[:, None], self._now[:count], 0)
        later = np.where(may[:, None], self._later[:count], 0)
        moment = self._moment[:count]
        waits = np.where(moment > now, moment - now, OVERDUE_SECONDS + (now - moment))
        slots = places_now.sum(axis=1) // need
        return Openings(
            slots=slots,
            seconds=_first(slots, places_now, later, waits, need),
            growth=np.where(slots > 0, self._growth[:count], 0.0),
            need=need,
            now=places_now,
            later=later,
            waits=waits,
            islands=devices.islands[:count],
        )

    def _put(self, row: int, offered: Sequence[Places]) -> None:
        width = len(offered)
        self._now[row, :width] = [each.now for each in offered]
        self._later[row, :width] = [each.later for each in offered]
        self._moment[row, :width] = [each.moment for each in offered]


def _first(slots: Counts, now: Counts, later: Counts, waits: Column, need: int) -> Column:
    """Return the seconds until there is one slot."""
    seconds = np.zeros(len(slots))
    full = np.flatnonzero(slots == 0)
    if not len(full):
        return seconds
    if need > now.shape[1]:
        seconds[full] = NEVER
        return seconds
    times = np.where(later[full] > 0, waits[full], NEVER)
    # Of several, only whole accelerators: each is one place, of now or of later.
    times = np.where(now[full] > 0, 0.0, times)
    if need == 1:
        seconds[full] = times.min(axis=1, initial=NEVER)
    else:
        seconds[full] = np.partition(times, need - 1, axis=1)[:, need - 1]
    return seconds
