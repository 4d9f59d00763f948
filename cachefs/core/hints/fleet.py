"""The fleet: all nodes as a table, a row each, so that they are estimated all at once.

What changes seldom (where a node is, its rates, its accelerators) comes in as a :class:`Node`; what
changes by the second (streams, queued bytes, learned efficiencies, releases) is written into columns.
Rows are never moved: a node that leaves keeps its row, dead, and gets it back when it returns.

It is not safe for concurrent use: its owner takes care of that.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cachefs.core.hints.nodes import NEVER, Node

Column = NDArray[np.float64]
Rows = NDArray[np.intp]

_LINKS = ("nic", "disk", "memory", "numa", "load")
"""The parts of a node that have a rate, as the fields of :class:`~.nodes.Rates`."""


class Fleet:
    """The nodes. Columns have one number a row; rows beyond ``len(fleet)`` do not exist."""

    def __init__(self) -> None:
        """Start with nobody."""
        self.names: list[str] = []
        self._row: dict[str, int] = {}
        self._nodes: list[Node] = []
        self._racks: dict[tuple[str, str], int] = {}
        self._zones: dict[str, int] = {}
        self._regions: dict[str, int] = {}
        self._revision = 0
        self._by_name: Rows = np.empty(0, dtype=np.intp)
        self._columns: dict[str, NDArray[Any]] = {}
        self._grow(64)

    def __len__(self) -> int:
        """Return how many rows there are, dead ones included."""
        return len(self.names)

    @property
    def revision(self) -> int:
        """Grows with every node that is put or removed; not with streams and queues."""
        return self._revision

    def put(self, node: Node, *, now: float) -> None:
        """Take in what a node is, and that it was heard of now."""
        row = self._row.get(node.name)
        if row is None:
            row = self._add(node.name)
        self._columns["heard_at"][row] = now
        if self._nodes[row] == node and self._columns["alive"][row]:
            return
        self._nodes[row] = node
        self._columns["alive"][row] = True
        self._columns["schedulable"][row] = node.schedulable
        self._columns["zone"][row] = self._zones.setdefault(node.zone, len(self._zones))
        self._columns["region"][row] = self._regions.setdefault(node.region, len(self._regions))
        place = (node.zone, node.rack)
        self._columns["rack"][row] = self._racks.setdefault(place, len(self._racks))
        for link in _LINKS:
            self._columns[link][row] = getattr(node.rates, link)
        self._touch(row)

    def heard(self, name: str, *, now: float) -> None:
        """Note that a node is there, and has not changed."""
        row = self._row.get(name)
        if row is not None:
            self._columns["heard_at"][row] = now

    def remove(self, name: str) -> None:
        """Take a node off the list; unknown ones are ignored."""
        row = self._row.get(name)
        if row is not None and self._columns["alive"][row]:
            self._columns["alive"][row] = False
            self._touch(row)

    def node(self, name: str) -> Node | None:
        """Return a node by name, unless it is not there."""
        row = self._row.get(name)
        return self._nodes[row] if row is not None and self._columns["alive"][row] else None

    def at(self, row: int) -> Node:
        """Return the node of a row."""
        return self._nodes[row]

    def row(self, name: str) -> int | None:
        """Return a node's row, dead or alive; ``None`` if it was never there."""
        return self._row.get(name)

    def rows(self, names: Iterable[str]) -> Rows:
        """Return the rows of the nodes of these names that are there."""
        found = (self._row.get(name, -1) for name in names)
        rows = np.fromiter(found, dtype=np.intp)
        rows = rows[rows >= 0]
        there: Rows = rows[self.column("alive")[rows]]
        return there

    def column(self, name: str) -> NDArray[Any]:
        """Return a column, to read and, but for those of :meth:`put`, to write.

        ``alive`` and ``schedulable`` (truths), ``heard_at`` (moment), ``zone``, ``rack`` and
        ``region`` (numbers, those of :attr:`zones` and :attr:`racks`), ``nic``, ``disk``, ``memory``,
        ``numa``, ``load`` (nominal rates),
        ``efficiency_nic`` … (learned efficiencies, 1 to begin with), ``streams_in``, ``streams_out``,
        ``streams_disk`` (transfers running), ``queued_in``, ``queued_disk`` (bytes promised ahead).
        """
        return self._columns[name][: len(self.names)]

    def changed_since(self, revision: int) -> Rows:
        """Return the rows that were put or removed since a revision."""
        return np.flatnonzero(self.column("changed_at") > revision)

    @property
    def by_name(self) -> Rows:
        """The place of each row among all, sorted by name."""
        if len(self._by_name) != len(self.names):
            self._by_name = np.empty(len(self.names), dtype=np.intp)
            self._by_name[np.argsort(np.array(self.names))] = np.arange(len(self.names))
        return self._by_name

    @property
    def racks(self) -> Mapping[tuple[str, str], int]:
        """The numbers of racks, by zone and rack."""
        return self._racks

    @property
    def zones(self) -> Mapping[str, int]:
        """The numbers of zones."""
        return self._zones

    def _add(self, name: str) -> int:
        row = len(self.names)
        if row == len(self._columns["alive"]):
            self._grow(2 * row)
        self._row[name] = row
        self.names.append(name)
        self._nodes.append(Node(name=name))
        return row

    def _touch(self, row: int) -> None:
        self._revision += 1
        self._columns["changed_at"][row] = self._revision

    def _grow(self, rows: int) -> None:
        kinds: dict[str, tuple[Any, float]] = {
            "alive": (np.bool_, False),
            "schedulable": (np.bool_, True),
            "heard_at": (np.float64, -NEVER),
            "changed_at": (np.int64, 0),
            "zone": (np.intp, 0),
            "region": (np.intp, 0),
            "rack": (np.intp, 0),
            **dict.fromkeys(_LINKS, (np.float64, 1.0)),
            **{f"efficiency_{link}": (np.float64, 1.0) for link in _LINKS},
            **{f"streams_{way}": (np.float64, 0.0) for way in ("in", "out", "disk")},
            **{f"queued_{way}": (np.float64, 0.0) for way in ("in", "disk")},
        }
        for name, (kind, value) in kinds.items():
            grown = np.full(rows, value, dtype=kind)
            old = self._columns.get(name)
            if old is not None:
                grown[: len(old)] = old
            self._columns[name] = grown
