"""Membership: who is a member, until when, and how others learn of it.

Theory of operation. A worker is a member while its lease runs. It renews every quarter of it, so
that two renewals in a row may be lost. Time is given in, never read: the same events in the same
order reach the same view, in production as in the simulator.

Expiry is lazy. Nothing happens *at* the deadline; the next event that carries a later time retires
the members it finds expired, and the epoch grows by one however many they are. A reader therefore
never sees a view in which half of a rack has gone.

A *view* is the list of members with an epoch. It only advises readers where to ask first: a reader
with an old view asks a worker that no longer owns a block, and gets the right bytes all the same,
because blocks are immutable and carry digests. So no consensus is needed for reads to be right.

A worker's *incarnation* is new at each start of its process. A renewal from an older incarnation is
refused, so that a process that was stopped for long and wakes beside its successor stands down.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from cachefs.core.names import WorkerId
from cachefs.errors import ConflictError, LeaseExpiredError

RENEWALS_PER_LEASE = 4
"""How often a worker renews within one lease: two renewals in a row may be lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A worker in good standing, as everyone needs to know it."""

    worker: WorkerId
    incarnation: str
    """Changes at every start of the worker's process."""
    node: str
    """The machine's lasting identity; equal for processes that can share descriptors."""
    zone: str
    pool: str
    weight: float
    """Share of the blocks, relative to others: the worker's capacity in bytes."""
    data_address: str
    """``host:port`` of the HTTP data plane."""
    control_address: str
    """``host:port`` of the gRPC control server."""
    socket_path: str
    """Unix socket that hands out descriptors, for processes on the same node."""
    draining: bool = False
    """It still serves, but owns nothing."""


@dataclass(frozen=True, slots=True)
class View:
    """The members at one epoch."""

    epoch: int
    members: tuple[Member, ...]
    """Sorted by worker."""

    def find(self, worker: WorkerId) -> Member | None:
        """Return a member, or ``None`` if the worker is not one."""
        return next((member for member in self.members if member.worker == worker), None)


EMPTY_VIEW = View(0, ())


class Membership:
    """The state machine that turns events into views.

    It is not safe for concurrent use: its owner handles one event at a time.
    """

    def __init__(self, view: View, *, lease_seconds: float, now: float) -> None:
        """Start from a stored view; every member in it gets a full lease from ``now``."""
        self._lease_seconds = lease_seconds
        self._view = view
        self._until = {member.worker: now + lease_seconds for member in view.members}

    @property
    def view(self) -> View:
        """The members as of the last event."""
        return self._view

    def register(self, member: Member, now: float) -> View:
        """Admit a worker, or its new incarnation in place of the old one."""
        self._retire(now)
        self._until[member.worker] = now + self._lease_seconds
        if self._view.find(member.worker) != member:
            self._change(
                [other for other in self._view.members if other.worker != member.worker] + [member]
            )
        return self._view

    def renew(self, worker: WorkerId, incarnation: str, now: float) -> View:
        """Extend a lease.

        Raises:
            LeaseExpiredError: It ran out.
            ConflictError: Another incarnation has taken the worker's place.
        """
        self._retire(now)
        member = self._view.find(worker)
        if member is None:
            raise LeaseExpiredError("the lease has run out; register anew", subject=worker)
        if member.incarnation != incarnation:
            raise ConflictError("another process took this worker's place", subject=worker)
        self._until[worker] = now + self._lease_seconds
        return self._view

    def drain(self, worker: WorkerId, now: float) -> View:
        """Take away what a member owns; it goes on serving."""
        self._retire(now)
        if any(member.worker == worker and not member.draining for member in self._view.members):
            self._change(
                replace(member, draining=True) if member.worker == worker else member
                for member in self._view.members
            )
        return self._view

    def leave(self, worker: WorkerId, now: float) -> View:
        """Remove a worker that says goodbye."""
        self._until.pop(worker, None)
        self._retire(now, leaving=worker)
        return self._view

    def advance(self, now: float) -> View:
        """Let time pass: retire whoever has not renewed."""
        self._retire(now)
        return self._view

    def is_due(self, now: float) -> bool:
        """Whether somebody's lease has run out, so that the next event makes a new view."""
        return any(until <= now for until in self._until.values())

    def adopt(self, view: View, heard: Collection[WorkerId], now: float) -> None:
        """Take over a view that another coordinator stored.

        Members that it has ``heard`` of since we last looked, and those new to us, get a full
        lease from ``now``; for the others time goes on as before.
        """
        fresh = now + self._lease_seconds
        self._until = {
            member.worker: fresh
            if member.worker in heard
            else self._until.get(member.worker, fresh)
            for member in view.members
        }
        self._view = view

    def _retire(self, now: float, leaving: WorkerId | None = None) -> None:
        staying = [
            member
            for member in self._view.members
            if member.worker != leaving and self._until[member.worker] > now
        ]
        if len(staying) < len(self._view.members):
            self._until = {member.worker: self._until[member.worker] for member in staying}
            self._change(staying)

    def _change(self, members: Iterable[Member]) -> None:
        ordered = tuple(sorted(members, key=lambda member: member.worker))
        self._view = View(self._view.epoch + 1, ordered)
