"""Spreading: from who holds which blocks to what each node sees of a dataset.

The bytes of a file fall into *parts*: those that the same workers hold or await, on the same tiers. A
thousand blocks that one worker holds are one part; so are a hundred thousand files of which one block
each is on the same worker. A :class:`Tally` adds the parts of many files up, and changes with one file
without looking at the others. What a node sees follows from the tally alone::

    nearest copy = the first of   its own memory · its own memory, behind another NUMA node · its own disk
                                · on its way to it · on, or on its way to, a node of its rack
                                · of its zone · any node · the origin

The parts are rows, the nodes that hold or await something are columns, and all nodes are done at once.
Nodes that have nothing differ only by rack and zone. A rack without a name is no rack: its nodes see
each other as nodes of the zone.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cachefs.core.hints.nodes import NEVER
from cachefs.core.hints.spread import Seen, Split, Spread, nowhere
from cachefs.core.names import WorkerId
from cachefs.core.residency import full_mask, mask_bytes

MEMORY, DISK, AWAITED = "memory", "disk", "awaited"
"""How a worker has something; the first two are the names of tiers."""

_CELLS_MAX = 2_000_000
"""Parts times nodes that are worked on at once: some 30 MB of memory."""

Who = tuple[tuple[WorkerId, str], ...]
"""Who has a part, and how; sorted."""

Parts = Mapping[Who, int]
"""Bytes by who has them. What nobody has is left out."""

_Matrix = NDArray[np.bool_]
_Numbers = NDArray[np.float64]


class Copy(NamedTuple):
    """Blocks of a file that a worker holds or awaits."""

    worker: WorkerId
    how: str
    mask: int


class Place(NamedTuple):
    """Where a worker is."""

    node: str
    rack: str = ""
    zone: str = ""
    is_far: bool = False
    """Its memory tier is behind another NUMA node than the accelerators."""


def parts_of(size: int, block_size: int, copies: Iterable[Copy]) -> Parts:
    """Part the bytes of a file by who has them.

    A worker that awaits what it holds already only holds it.
    """
    blocks = -(-size // block_size)
    everything = full_mask(blocks)
    parts: list[tuple[int, list[tuple[WorkerId, str]]]] = [(everything, [])]
    for copy in sorted(_settled(copies)):
        mask = copy.mask & everything
        if not mask:
            continue
        after = []
        for blocks_of_part, who in parts:
            having = blocks_of_part & mask
            if having:
                after.append((having, [*who, (copy.worker, copy.how)]))
            if lacking := blocks_of_part & ~mask:
                after.append((lacking, who))
        parts = after
    found: dict[Who, int] = {}
    for blocks_of_part, who in parts:
        if who:
            key = tuple(who)
            found[key] = found.get(key, 0) + mask_bytes(blocks_of_part, size, block_size)
    return found


def _settled(copies: Iterable[Copy]) -> Iterator[Copy]:
    """Yield the copies, without what a worker awaits and has."""
    copies = tuple(copies)
    for copy in copies:
        if copy.how != AWAITED:
            yield copy
            continue
        mask = copy.mask
        for other in copies:
            if other.worker == copy.worker and other.how != AWAITED:
                mask &= ~other.mask
        yield copy._replace(mask=mask)


class Tally:
    """The parts of many files, added up. Not safe for concurrent use."""

    def __init__(self, total: int) -> None:
        """Begin with files of so many bytes that nobody has."""
        self.total = total
        self.sizes: dict[Who, int] = {}

    def add(self, parts: Parts) -> None:
        """Count a file's parts."""
        for who, size in parts.items():
            self.sizes[who] = self.sizes.get(who, 0) + size

    def remove(self, parts: Parts) -> None:
        """Count a file's parts no more; they were added before."""
        for who, size in parts.items():
            left = self.sizes[who] - size
            if left:
                self.sizes[who] = left
            else:
                del self.sizes[who]


def spread(
    tally: Tally,
    places: Mapping[WorkerId, Place],
    *,
    origin: str = "",
    seconds: Mapping[WorkerId, float] | None = None,
) -> Spread:
    """Return what each node sees.

    Args:
        tally: The bytes, by who has them.
        places: Where the workers are. One that is not there has nothing.
        origin: The name of the origin.
        seconds: Until the last of what a worker awaits is there; what nobody has said of comes never.
    """
    table = _Table(tally, places, seconds or {})
    if not table.nodes:
        return nowhere(tally.total, origin)
    sums = _Sums(table)
    for rows in table.portions():
        sums.add(table, rows)
    return sums.spread(table, tally.total, origin)


def credited(
    spread: Spread, node: str, place: tuple[str, str], *, dram: float, nvme: float
) -> Spread:
    """Count at least so many bytes as being on a node, of which nobody knows which they are.

    What is known to be there counts towards it. The rest is taken evenly from all that is not there and
    not on its way; so the split still adds up.

    Args:
        spread: What is known.
        node: The node's name.
        place: Its zone and rack.
        dram: Bytes in memory.
        nvme: Bytes on disk.
    """
    seen = spread.nodes.get(node) or spread.racks.get(place) or spread.zones.get(place[0])
    split, arriving_seconds = seen or spread.elsewhere
    more_dram = max(0.0, dram - split.dram - split.dram_far)
    more_nvme = max(0.0, nvme - split.nvme)
    away = split.peer_rack + split.peer_zone + split.peer_remote + split.origin
    taken = min(more_dram + more_nvme, away)
    if taken <= 0:
        return spread
    left, part = 1 - taken / away, taken / (more_dram + more_nvme)
    changed = split._replace(
        dram=split.dram + more_dram * part,
        nvme=split.nvme + more_nvme * part,
        peer_rack=split.peer_rack * left,
        peer_zone=split.peer_zone * left,
        peer_remote=split.peer_remote * left,
        origin=split.origin * left,
    )
    return replace(spread, nodes={**spread.nodes, node: Seen(changed, arriving_seconds)})


def scaled(spread: Spread, share: float) -> Spread:
    """Return what each node sees of a share of the bytes, if that is like the whole."""

    def of(seen: Seen) -> Seen:
        return Seen(Split(*(share * size for size in seen.split)), seen.arriving_seconds)

    return replace(
        spread,
        total=share * spread.total,
        nodes={name: of(seen) for name, seen in spread.nodes.items()},
        racks={name: of(seen) for name, seen in spread.racks.items()},
        zones={name: of(seen) for name, seen in spread.zones.items()},
        elsewhere=of(spread.elsewhere),
    )


class _Table:
    """Parts as rows, nodes that have something as columns."""

    def __init__(
        self, tally: Tally, places: Mapping[WorkerId, Place], seconds: Mapping[WorkerId, float]
    ) -> None:
        here: dict[str, Place] = {}
        rows = []
        for who, size in tally.sizes.items():
            known = [(places[worker], how, worker) for worker, how in who if worker in places]
            if known:
                rows.append((size, known))
                for place, _, _ in known:
                    here.setdefault(place.node, place)
        self._rows = rows
        self._seconds = seconds
        self.nodes = list(here)
        self._column = {node: column for column, node in enumerate(self.nodes)}
        self.rack, self.racks = _numbered(
            [(place.zone, place.rack) if place.rack else None for place in here.values()]
        )
        self.zone, self.zones = _numbered([place.zone for place in here.values()])

    def portions(self) -> Iterator["_Portion"]:
        """Yield all rows, as many at once as memory should hold."""
        step = max(1, _CELLS_MAX // len(self.nodes))
        for first in range(0, len(self._rows), step):
            yield self._portion(self._rows[first : first + step])

    def _portion(self, rows: list[tuple[int, list[tuple[Place, str, WorkerId]]]]) -> "_Portion":
        shape = len(rows), len(self.nodes)
        dram, far, disk = (np.zeros(shape, dtype=np.bool_) for _ in range(3))
        awaited = np.full(shape, NEVER)
        is_awaited = np.zeros(shape, dtype=np.bool_)
        for row, (_, known) in enumerate(rows):
            for place, how, worker in known:
                column = self._column[place.node]
                if how == AWAITED:
                    is_awaited[row, column] = True
                    soon = self._seconds.get(worker, NEVER)
                    awaited[row, column] = min(awaited[row, column], soon)
                elif how == DISK:
                    disk[row, column] = True
                elif place.is_far:
                    far[row, column] = True
                else:
                    dram[row, column] = True
        sizes = np.array([size for size, _ in rows], dtype=np.float64)
        return _Portion(sizes, dram, far, disk, is_awaited, awaited)


class _Portion(NamedTuple):
    """Some rows of the table."""

    sizes: _Numbers
    dram: _Matrix
    far: _Matrix
    disk: _Matrix
    is_awaited: _Matrix
    awaited: _Numbers
    """Seconds; infinite where nothing is awaited, or nobody knows how long."""


class _Sums:
    """Bytes by kind, and seconds, of each node that has something, and of racks and zones."""

    def __init__(self, table: _Table) -> None:
        nodes, racks, zones = len(table.nodes), len(table.racks), len(table.zones)
        self.own = np.zeros((4, nodes))
        self.peers = {name: np.zeros((3, n)) for name, n in _levels(nodes, racks, zones)}
        self.late = {name: np.zeros(n) for name, n in _levels(nodes, racks, zones)}
        self.known = 0.0

    def add(self, table: _Table, rows: _Portion) -> None:
        """Add some rows up."""
        sizes = rows.sizes
        held = rows.dram | rows.far | rows.disk
        has = held | rows.is_awaited
        here = rows.is_awaited & ~held
        for kind, which in enumerate(
            (rows.dram, rows.far & ~rows.dram, rows.disk & ~rows.dram & ~rows.far, here)
        ):
            self.own[kind] += sizes @ which
        self.known += float(sizes.sum())
        wait = np.where(held, 0.0, rows.awaited)
        rack = _Near.of(has, wait, table.rack, len(table.racks))
        zone = _Near.of(has, wait, table.zone, len(table.zones))
        whole = _Near(np.any(has, axis=1)[:, None], np.min(wait, axis=1)[:, None])
        nothing = np.zeros((len(sizes), 1), dtype=np.bool_)
        zones = np.arange(len(table.zones))
        of_rack = np.array([table.zones[name] for name, _ in table.racks], dtype=np.intp)
        racks = np.arange(len(table.racks))
        # A node that has a part sees no peers of it; a rack that has one, none beyond it; and so on.
        self._add_peers("node", sizes, has, (rack.at(table.rack), zone.at(table.zone), whole))
        self._add_peers("rack", sizes, nothing, (rack.at(racks), zone.at(of_rack), whole))
        self._add_peers("zone", sizes, nothing, (None, zone.at(zones), whole))
        self._add_peers("elsewhere", sizes, nothing, (None, None, whole))
        own_late = np.where(here, rows.awaited, 0.0).max(axis=0, initial=0.0)
        np.maximum(self.late["node"], own_late, out=self.late["node"])

    def _add_peers(
        self,
        name: str,
        sizes: _Numbers,
        nearer: _Matrix,
        levels: tuple["_Near | None", "_Near | None", "_Near"],
    ) -> None:
        for kind, level in enumerate(levels):
            if level is None:
                continue
            which = level.has & ~nearer
            self.peers[name][kind] += sizes @ which
            late = np.where(which, level.wait, 0.0).max(axis=0, initial=0.0)
            np.maximum(self.late[name], late, out=self.late[name])
            nearer = level.has | nearer

    def spread(self, table: _Table, total: int, origin: str) -> Spread:
        """Return all of it as a spread."""
        bare = total - self.known

        def seen(name: str, column: int, own: tuple[float, ...] = (0.0,) * 4) -> Seen:
            peers = self.peers[name][:, column].tolist()
            return Seen(Split._make((0.0, *own, *peers, bare)), float(self.late[name][column]))

        return Spread(
            total=total,
            nodes={
                node: seen("node", column, tuple(self.own[:, column].tolist()))
                for column, node in enumerate(table.nodes)
            },
            racks={place: seen("rack", number) for place, number in table.racks.items()},
            zones={zone: seen("zone", number) for zone, number in table.zones.items()},
            elsewhere=seen("elsewhere", 0),
            origin=origin,
        )


class _Near(NamedTuple):
    """Which parts somebody of a rack, or a zone, has; a column for each."""

    has: _Matrix
    wait: _Numbers
    """Seconds until the first of them has it; 0 where one holds it."""

    @classmethod
    def of(cls, has: _Matrix, wait: _Numbers, number: NDArray[np.intp], count: int) -> "_Near":
        """Join the columns of nodes that are in the same; those with -1 are in none."""
        # The column after the last has nothing: it is what -1 finds.
        joined = cls(
            np.zeros((len(has), count + 1), dtype=np.bool_), np.full((len(has), count + 1), NEVER)
        )
        for column, at in enumerate(number):
            if at >= 0:
                joined.has[:, at] |= has[:, column]
                np.minimum(joined.wait[:, at], wait[:, column], out=joined.wait[:, at])
        return joined

    def at(self, number: NDArray[np.intp]) -> "_Near":
        """Return the columns of these; -1 is one that has nothing."""
        return _Near(self.has[:, number], self.wait[:, number])


def _numbered(names: list[Any]) -> tuple[NDArray[np.intp], dict[Any, int]]:
    """Number the names in order; ``None`` is -1."""
    numbers: dict[Any, int] = {}
    column = [-1 if each is None else numbers.setdefault(each, len(numbers)) for each in names]
    return np.array(column, dtype=np.intp), numbers


def _levels(nodes: int, racks: int, zones: int) -> list[tuple[str, int]]:
    return [("node", nodes), ("rack", racks), ("zone", zones), ("elsewhere", 1)]
