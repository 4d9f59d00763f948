"""Machines: the fleet, made of what sources and workers say of each node.

What a source says comes first, then what the node's workers report; several workers of one node are one
machine. A node is there as long as a source lists it or a member runs on it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from cachefs.core.hints.fleet import Fleet
from cachefs.core.hints.nodes import Node
from cachefs.core.hints.spreading import Place
from cachefs.core.membership import Member
from cachefs.core.names import WorkerId
from cachefs.hints.inventory.facts import Facts, merged, reported
from cachefs.hints.inventory.hearing import Heard
from cachefs.hints.inventory.linking import Streams
from cachefs.hints.inventory.sources import Listing
from cachefs.ports import Condition
from cachefs.wire.nodereports import NodeReport

_NODES_AT_ONCE = 200
"""Nodes that are written in one turn: about a millisecond."""


class Machines:
    """Keeps the fleet. Used by one thread, but for :meth:`expect_release`."""

    def __init__(self, fleet: Fleet, turn: Condition) -> None:
        """Write into a fleet, with its turn."""
        self.fleet = fleet
        self._turn = turn
        self._listings: tuple[Listing, ...] = ()
        self._workers: dict[str, tuple[WorkerId, ...]] = {}
        self._reports: Mapping[WorkerId, tuple[NodeReport | None, str]] = {}
        self._releases: dict[tuple[str, int], float] = {}
        self.places: Mapping[WorkerId, Place] = {}
        """Where each member is; replaced whenever one is elsewhere."""

    def survey(
        self,
        members: Iterable[Member],
        heard: Mapping[WorkerId, Heard],
        listings: Sequence[Listing],
    ) -> bool:
        """Take in who is where, and write what has changed; return whether any place is another one.

        Args:
            members: The workers that are members.
            heard: What they said last.
            listings: What the sources say, the one that is believed first in front.
        """
        reports = {
            member.worker: (heard[member.worker].node if member.worker in heard else None, member)
            for member in members
        }
        names = {worker: _name(report, member) for worker, (report, member) in reports.items()}
        workers: dict[str, tuple[WorkerId, ...]] = {}
        for worker, name in names.items():
            workers[name] = (*workers.get(name, ()), worker)
        said = {worker: (report, member.zone) for worker, (report, member) in reports.items()}
        changed = {
            name
            for name in workers.keys() | self._workers.keys()
            if workers.get(name) != self._workers.get(name)
        }
        changed.update(
            names[worker]
            for worker, each in said.items()
            if not _is_same(each, self._reports.get(worker))
        )
        for index in range(max(len(listings), len(self._listings))):
            one, other = (
                each[index].nodes if index < len(each) else {}
                for each in (listings, self._listings)
            )
            if one is not other:
                changed |= {
                    name for name in one.keys() | other.keys() if one.get(name) != other.get(name)
                }
        self._listings, self._workers, self._reports = tuple(listings), workers, said
        self._write(changed)
        if not changed and self.places.keys() == names.keys():
            return False
        places = {worker: self._place(name, said[worker][0]) for worker, name in names.items()}
        if places == self.places:
            return False
        self.places = places
        return True

    def listed(self) -> Collection[str]:
        """Return the nodes that a source lists."""
        return {name for listing in self._listings for name in listing.nodes}

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
                if place is not None:
                    self.fleet.heard(place.node, now=heard[worker].at)

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

    def labels(self) -> Mapping[str, Mapping[str, str]]:
        """Return the labels of all nodes that have any."""
        with self._turn:
            nodes = [self.fleet.at(row) for row in range(len(self.fleet))]
        return {node.name: node.labels for node in nodes if node.labels}

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
        workers = self._workers.get(name, ())
        if not facts and not workers:
            return None
        for worker in workers:
            report, zone = self._reports[worker]
            report = report or NodeReport(name=name)
            facts.append(reported(report, zone=zone))
        return merged(name, facts)

    def _with_releases(self, node: Node) -> Node:
        if not self._releases:
            return node
        gpus = tuple(
            gpu if gpu.free_at == at else replace(gpu, free_at=at)
            for gpu in node.gpus
            for at in (self._releases.get((node.name, gpu.index)),)
        )
        return node if gpus == node.gpus else replace(node, gpus=gpus)

    def _place(self, name: str, report: NodeReport | None) -> Place:
        node = self.fleet.node(name) or Node(name=name)
        numas = {gpu.numa for gpu in node.gpus}
        bound = None if report is None else report.memory_numa
        is_far = bound is not None and bool(numas) and bound not in numas
        return Place(name, node.rack, node.zone, is_far)


def _name(report: NodeReport | None, member: Member) -> str:
    return report.name if report is not None else member.node


def _is_same(
    one: tuple[NodeReport | None, str], other: tuple[NodeReport | None, str] | None
) -> bool:
    """Say whether two reports make the same node: free memory is not part of one."""
    if other is None or one[1] != other[1]:
        return False
    first, second = one[0], other[0]
    if first is second:
        return True
    if first is None or second is None:
        return False
    return replace(first, memory_free_bytes=0) == replace(second, memory_free_bytes=0)
