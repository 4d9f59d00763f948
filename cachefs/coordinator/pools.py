"""Pools: how many workers there shall be, who said so, and how it stands.

Nothing here starts or stops a worker. Whoever can, a provider (the supervisor of ``cachefs up``, an
operator), asks for the pools again and again, does what is missing (:mod:`cachefs.core.pools`), and
reports who has left and what keeps it from doing more. So the wish survives everybody who carries
it out, and a command that scales returns at once.

A pool has a row as soon as somebody has said something about it. Changes queue up at a counter, so
that two that each add a worker add two. A pool that is *exclusive* to a namespace takes no dataset
of another: its bytes and its workers' bandwidth are that namespace's alone.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from cachefs.coordinator.catalogue import Catalogue
from cachefs.coordinator.events import Events
from cachefs.coordinator.members import Members
from cachefs.coordinator.residency import Residency
from cachefs.coordinator.store import counters
from cachefs.coordinator.store import pools as rows
from cachefs.coordinator.store.engine import Store
from cachefs.core.blocks import FileVersionId
from cachefs.core.membership import Member, View
from cachefs.core.moving import Handover, PlacedFile
from cachefs.core.names import WorkerId, parse_name, printable
from cachefs.core.pools import (
    Difference,
    Pool,
    PoolChange,
    Provided,
    changed,
    compare,
    describe,
    grown,
    shrunk,
)
from cachefs.errors import ConflictError, NotKnownError
from cachefs.ports import Runtime


@dataclass(frozen=True, slots=True)
class PoolStanding:
    """A pool as it shall be and as it is."""

    pool: Pool
    live: int
    """Members that own blocks."""
    live_by_zone: Mapping[str, int]
    draining: tuple[WorkerId, ...]
    """Members on their way out."""

    @property
    def settled(self) -> bool:
        """Whether it is as it shall be."""
        pool = self.pool
        if self.draining or pool.leaving or pool.wanted not in (None, self.live):
            return False
        return all(self.live_by_zone.get(z, 0) >= n for z, n in pool.wanted_by_zone.items())


@dataclass(frozen=True, slots=True)
class ScalePlan:
    """What a change of a pool would do."""

    pool: Pool
    """As it would be."""
    difference: Difference
    handover: Handover
    """What those who leave would hand over; what those who join would get, about."""


class Pools:
    """The pools. Safe from any thread."""

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        *,
        events: Events,
        members: Members,
        catalogue: Catalogue,
        residency: Residency,
    ) -> None:
        """Work on what is stored."""
        self._store = store
        self._runtime = runtime
        self._events = events
        self._members = members
        self._catalogue = catalogue
        self._residency = residency

    def get(self, name: str) -> PoolStanding:
        """Return a pool; one that nobody has named yet is empty.

        Raises:
            ConfigError: That cannot be a pool's name.
        """
        parse_name(name, kind="pool")
        with self._store.read() as connection:
            return self._standing(rows.find(connection, name), self._members.view)

    def every(self) -> tuple[PoolStanding, ...]:
        """Return every pool that has a row, a member or a dataset, sorted by name."""
        view = self._members.view
        with self._store.read() as connection:
            found = {pool.name: pool for pool in rows.every(connection)}
            names = rows.used(connection) | {member.pool for member in view.members}
        for name in names:
            found.setdefault(name, Pool(name=name))
        return tuple(self._standing(pool, view) for _, pool in sorted(found.items()))

    def change(self, name: str, change: PoolChange) -> PoolStanding:
        """Say how a pool shall be; returns at once. Leaving workers drain first.

        Raises:
            ConfigError: That makes no sense, or is out of the pool's bounds.
            ConflictError: It shall be exclusive, and another namespace has datasets in it.
        """
        return self._write(
            name,
            lambda pool: changed(pool, change, at=self._runtime.wall()),
            exclusive=change.exclusive is not None,
        )

    def grow(self, name: str, count: int, *, zone: str, by: str, reason: str) -> PoolStanding:
        """Want so many workers more.

        Raises:
            ConfigError: That is out of the pool's bounds.
        """
        live = self.get(name).live
        return self._write(
            name,
            lambda pool: grown(
                pool, count, live=live, zone=zone, by=by, reason=reason, at=self._runtime.wall()
            ),
        )

    def shrink(
        self, name: str, workers: Sequence[WorkerId], *, by: str, reason: str
    ) -> PoolStanding:
        """Have members leave a pool, and nobody come for them.

        Raises:
            NotKnownError: One is no member of the pool.
            ConfigError: That is out of the pool's bounds.
        """
        leaving = self._provided(workers)
        live = self.get(name).live
        return self._write(
            name,
            lambda pool: shrunk(
                pool, leaving, live=live, by=by, reason=reason, at=self._runtime.wall()
            ),
        )

    def report(
        self,
        name: str,
        *,
        left: Collection[WorkerId],
        problem: str,
        stopped: Mapping[WorkerId, str] | None = None,
    ) -> PoolStanding:
        """Note what a provider says: who has left for good, and what keeps it from doing more.

        Args:
            name: The pool.
            left: Who was named to leave, and has left.
            problem: Why there are too few workers; empty for nothing.
            stopped: Who was stopped before it had handed over all, and why.
        """
        with self._store.write() as connection:
            counters.add(connection, "pools")
            old = rows.find(connection, name)
            leaving = tuple(one for one in old.leaving if one not in left)
            new = replace(old, leaving=leaving, problem=problem)
            if new != old:
                rows.save(connection, new)
            for worker in sorted(left):
                self._events.record(connection, "worker-removed", worker, f"from pool {name}")
            for worker, why in (stopped or {}).items():
                self._events.record(connection, "worker-stopped", worker, why)
            if problem and problem != old.problem:
                self._events.record(connection, "pool-short", name, problem)
        return self._standing(new, self._members.view)

    def plan(
        self, name: str, change: PoolChange | None = None, *, leaving: Sequence[WorkerId] = ()
    ) -> ScalePlan:
        """Say what a change, or the leaving of some members, would do; changes nothing.

        Raises:
            NotKnownError: One of those who shall leave is no member of the pool.
            ConfigError: That makes no sense, or is out of the pool's bounds.
        """
        standing = self.get(name)
        pool, wall = standing.pool, self._runtime.wall()
        if leaving:
            pool = shrunk(
                pool, self._provided(leaving), live=standing.live, by="", reason="", at=wall
            )
        if change is not None:
            pool = changed(pool, change, at=wall)
        members = [member for member in self._members.view.members if member.pool == name]
        difference = compare(pool, map(_provided, members))
        files = self._placed_files(name)
        going = {*difference.leave, *standing.draining}
        handover = self._residency.handover(files, members, going, pool=name)
        if difference.start and standing.live:
            self._add_joins(handover, files, members, len(difference.start), standing.live)
        return ScalePlan(pool, difference, handover)

    def _add_joins(
        self,
        handover: Handover,
        files: Sequence[PlacedFile],
        members: Sequence[Member],
        joining: int,
        live: int,
    ) -> None:
        """Add what newcomers would get: their share of what is resident, for their names are not known."""
        blocks, size = self._residency.owned(files, members)
        share = joining / (live + joining)
        handover.blocks += round(blocks * share)
        handover.size += round(size * share)
        for number in range(joining):
            handover.by_receiver[WorkerId(f"joining {number}")] = round(size * share / joining)

    def _placed_files(self, name: str) -> list[PlacedFile]:
        found: dict[FileVersionId, PlacedFile] = {}
        for dataset in self._catalogue.every():
            if dataset.pool != name:
                continue
            for version in self._catalogue.versions(dataset.name):
                for entry in self._catalogue.manifest(version.id).files:
                    found[entry.file_version] = PlacedFile(
                        entry.file_version, entry.size, dataset.replicas
                    )
        return list(found.values())

    def _write(
        self, name: str, make: Callable[[Pool], Pool], *, exclusive: bool = False
    ) -> PoolStanding:
        parse_name(name, kind="pool")
        with self._store.write() as connection:
            if exclusive:
                counters.add(connection, "catalogue")  # no dataset comes in meanwhile
            counters.add(connection, "pools")
            old = rows.find(connection, name)
            new = make(old)
            if exclusive:
                _check_inhabitants(connection, new)
            rows.save(connection, new)
            self._events.record(connection, "pool-changed", name, describe(old, new))
        return self._standing(new, self._members.view)

    def _provided(self, workers: Sequence[WorkerId]) -> list[Provided]:
        view = self._members.view
        found = []
        for worker in workers:
            member = view.find(worker)
            if member is None:
                raise NotKnownError(
                    "no such worker",
                    subject=printable(worker),
                    hint="`cachefs worker list` lists them",
                )
            found.append(_provided(member))
        return found

    @staticmethod
    def _standing(pool: Pool, view: View) -> PoolStanding:
        members = [member for member in view.members if member.pool == pool.name]
        live = [member for member in members if not member.draining]
        return PoolStanding(
            pool,
            len(live),
            dict(sorted(Counter(member.zone for member in live).items())),
            tuple(member.worker for member in members if member.draining),
        )


def _check_inhabitants(connection: Connection, pool: Pool) -> None:
    others = rows.namespaces(connection, pool.name) - {pool.exclusive}
    if pool.exclusive and others:
        raise ConflictError(
            f"datasets of other namespaces are in the pool: {', '.join(sorted(others))}",
            subject=pool.name,
            hint="move them to another pool first",
        )


def _provided(member: Member) -> Provided:
    return Provided(member.worker, member.pool, member.zone, member.draining)
