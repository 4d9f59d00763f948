"""Machines: the fleet, made of what sources and workers say of each node.

What a source says comes first, then what the node's workers report; several workers of one node are one
machine. A node is there as long as a source lists it or a member runs on it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cachefs.core.hints.fleet import Fleet
from cachefs.core.hints.nodes import Node
from cachefs.core.hints.spreading import Place
from cachefs.core.membership import View
from cachefs.core.names import WorkerId
from cachefs.hints.inventory.facts import Facts, merged, reported
from cachefs.hints.inventory.hearing import Heard
from cachefs.hints.inventory.linking import Streams
from cachefs.hints.inventory.sources import Listing
from cachefs.ports import Condition
from cachefs.wire.nodereports import NodeReport

_NODES_AT_ONCE = 200
"""Nodes that are written in one turn: about a millisecond."""


@dataclass(frozen=True, slots=True)
class _Worker:
    node: str
    report: NodeReport | None
    zone: str


class Machines:
    """Keeps the fleet. Used by one thread, but for :meth:`expect_release`."""

    def __init__(self, fleet: Fleet, turn: Condition) -> None:
        """Write into a fleet, with its turn."""
        self.fleet = fleet
        self._turn = turn
        self._listings: tuple[Listing, ...] = ()
        self._epoch = -1
        self._workers: dict[WorkerId, _Worker] = {}
        self._on_node: dict[str, list[WorkerId]] = {}
        self._releases: dict[tuple[str, int], float] = {}
        self.places: Mapping[WorkerId, Place] = {}
        """Where each member is; replaced whenever one is elsewhere."""

    def survey(
        self,
        view: View,
        heard: Mapping[WorkerId, Heard],
        moved: Collection[WorkerId],
        listings: Sequence[Listing],
        *,
        known: Collection[WorkerId],
    ) -> bool:
        """Take in who is where, and write what has changed; return whether any place is another one.

        Args:
            view: The workers that are members.
            heard: What they said last.
            moved: Those who said something else of their nodes than before, or are known since.
            listings: What the sources say, the one that is believed first in front.
            known: Those who have reported what they hold. One that has not, and says nothing of its
                node, has just registered: it is nowhere yet.
        """
        is_same_view = self._epoch == view.epoch
        same_listings = tuple(map(id, listings)) == tuple(map(id, self._listings))
        if is_same_view and same_listings and not moved:
            return False
        changed = set() if same_listings else self._relisted(listings)
        self._listings, self._epoch = tuple(listings), view.epoch
        members = view.members
        if is_same_view:
            members = tuple(member for member in members if member.worker in moved)
        else:
            here = {member.worker for member in members}
            changed |= self._take_out(self._workers.keys() - here)
        for member in members:
            report = heard[member.worker].node if member.worker in heard else None
            if report is None and member.worker not in known:
                changed |= self._take_out([member.worker])
                continue
            name = report.name if report is not None else member.node
            said = _Worker(name, report, member.zone)
            if member.worker in moved or self._workers.get(member.worker) != said:
                changed |= self._take_out([member.worker])
                self._workers[member.worker] = said
                self._on_node.setdefault(name, []).append(member.worker)
                changed.add(name)
        self._write(changed)
        there = (worker for name in changed for worker in self._on_node.get(name, ()))
        places = {worker: self._place(self._workers[worker]) for worker in there}
        gone = self.places.keys() - self._workers.keys()
        if not gone and all(self.places.get(worker) == each for worker, each in places.items()):
            return False
        kept = {worker: each for worker, each in self.places.items() if worker not in gone}
        self.places = {**kept, **places}
        return True

    def _relisted(self, listings: Sequence[Listing]) -> set[str]:
        """Return the nodes of which sources say something else than before."""
        changed: set[str] = set()
        for index in range(max(len(listings), len(self._listings))):
            one, other = (
                each[index].nodes if index < len(each) else {}
                for each in (listings, self._listings)
            )
            if one is not other:
                names = one.keys() | other.keys()
                changed |= {name for name in names if one.get(name) != other.get(name)}
        return changed

    def _take_out(self, workers: Iterable[WorkerId]) -> set[str]:
        """Forget workers; return their nodes."""
        names = set()
        for worker in list(workers):
            known = self._workers.pop(worker, None)
            if known is not None:
                names.add(known.node)
                self._on_node[known.node].remove(worker)
                if not self._on_node[known.node]:
                    del self._on_node[known.node]
        return names

    def hear(self, names: Iterable[str], *, now: float) -> None:
        """Note that nodes were heard of."""
        with self._turn:
            for name in names:
                self.fleet.heard(name, now=now)

    def hear_workers(self, workers: Iterable[WorkerId], heard: Mapping[WorkerId, Heard]) -> None:
        """Note that workers were heard of, and their nodes with them."""
        with self._turn:
            for worker in workers:
                place = self.places.get(worker)
                row = None if place is None else self.fleet.row(place.node)
                if place is not None and row is not None:
                    before = float(self.fleet.column("heard_at")[row])
                    self.fleet.heard(place.node, now=max(before, heard[worker].at))

    def write_streams(self, streams: Streams) -> bool:
        """Write what runs to and from each node; return whether that is something else than before."""
        columns = {
            "streams_in": streams.into,
            "streams_out": streams.out,
            "streams_disk": streams.disk,
            "queued_in": streams.queued,
        }
        changed = False
        with self._turn:
            for name, counts in columns.items():
                column = self.fleet.column(name)
                wanted = column * 0
                for node, count in counts.items():
                    row = self.fleet.row(node)
                    if row is not None:
                        wanted[row] = count
                if (wanted != column).any():
                    column[:] = wanted
                    changed = True
        return changed

    def expect_release(self, node: str, gpu: int, at: float | None) -> None:
        """Say when what runs on an accelerator is expected to end."""
        with self._turn:
            before = self._releases.pop((node, gpu), None)
            if at is not None:
                self._releases[node, gpu] = at
            known = self.fleet.node(node)
            if at != before and known is not None:
                row = self.fleet.row(node)
                heard_at = float(self.fleet.column("heard_at")[row])
                self.fleet.put(self._with_releases(known), now=heard_at)

    def labelled(self) -> list[Node]:
        """Return all nodes that have labels."""
        with self._turn:
            rows = self.fleet.column("alive").nonzero()[0].tolist()
            nodes = [self.fleet.at(row) for row in rows]
        return [node for node in nodes if node.labels]

    def _write(self, names: Collection[str]) -> None:
        """Put nodes into the fleet, or take them out."""
        ordered = sorted(names)
        for first in range(0, len(ordered), _NODES_AT_ONCE):
            nodes = [(name, self._node(name)) for name in ordered[first : first + _NODES_AT_ONCE]]
            with self._turn:
                for name, node in nodes:
                    if node is None:
                        self.fleet.remove(name)
                    else:
                        row = self.fleet.row(name)
                        at = float("-inf") if row is None else self.fleet.column("heard_at")[row]
                        self.fleet.put(self._with_releases(node), now=float(at))

    def _node(self, name: str) -> Node | None:
        facts: list[Facts] = [
            listing.nodes[name] for listing in self._listings if name in listing.nodes
        ]
        for worker in sorted(self._on_node.get(name, ())):
            known = self._workers[worker]
            facts.append(reported(known.report or NodeReport(name=name), zone=known.zone))
        return merged(name, facts) if facts else None

    def _with_releases(self, node: Node) -> Node:
        gpus = tuple(
            gpu if gpu.free_at == at else replace(gpu, free_at=at)
            for gpu in node.gpus
            for at in (self._releases.get((node.name, gpu.index)),)
        )
        return node if gpus == node.gpus else replace(node, gpus=gpus)

    def _place(self, worker: _Worker) -> Place:
        node = self.fleet.node(worker.node) or Node(name=worker.node)
        numas = {gpu.numa for gpu in node.gpus}
        bound = None if worker.report is None else worker.report.memory_numa
        is_far = bound is not None and bool(numas) and bound not in numas
        return Place(worker.node, node.rack, node.zone, is_far)
