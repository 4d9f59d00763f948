"""Members: the state machine of :mod:`cachefs.core.membership`, over a store that outlives it.

Theory of operation. Every change of the view is one transaction that compares and exchanges the
epoch, so that of several coordinators on one store only one makes each next view; the others load
it and try again. Between changes nobody writes but the renewals.

Leases run on each coordinator's own monotonic clock, and nothing is compared between machines. A
coordinator hears the workers that renew with it, and *observes* the others: a renewal counter in
the store that has changed since the last look is as good as a renewal. So a worker may renew with
any coordinator, and is retired by the first that saw nothing of it for a whole lease.

A coordinator that was not running cannot have heard anybody. After a start, and after a pause (the
process was stopped, or the store did not answer) every stored member gets a full lease from now.
"""

import logging
from collections.abc import Callable

from sqlalchemy import Connection

from cachefs.config.schema import ClusterConfig
from cachefs.coordinator.events import Events
from cachefs.coordinator.store import members as rows
from cachefs.coordinator.store.engine import Store
from cachefs.core.membership import RENEWALS_PER_LEASE, Member, Membership, View
from cachefs.core.names import WorkerId, parse_name
from cachefs.errors import (
    CacheFSError,
    ConfigError,
    ConflictError,
    CoordinatorUnavailableError,
    LeaseExpiredError,
    NotKnownError,
)
from cachefs.ports import Runtime
from cachefs.wire.http import encode_view

_LOG = logging.getLogger("cachefs.coordinator")

_EXCHANGES_LIMIT = 20
"""Attempts at one change of the view; each that fails means that another coordinator made one."""
_OBSERVATIONS_PER_LEASE = 2 * RENEWALS_PER_LEASE
"""How often a coordinator looks at the stored renewals: a look adds at most an eighth to a lease."""

Change = Callable[[Membership, float], View]


class Members:
    """Who is a member. Safe from any thread."""

    def __init__(
        self, store: Store, runtime: Runtime, cluster: ClusterConfig, events: Events
    ) -> None:
        """Load the stored members, each with a full lease from now."""
        self._store = store
        self._runtime = runtime
        self._cluster = cluster
        self._events = events
        self._turn = runtime.condition()
        with store.read() as connection:
            view = rows.view(connection)
            self._renewals = rows.renewals(connection)
        self._membership = self._with_full_leases(view)
        self._observed_at = runtime.monotonic()
        self._view = view
        self._encoded = (view.epoch, encode_view(view))

    @property
    def view(self) -> View:
        """The newest view that is stored, as far as we know."""
        return self._view

    @property
    def encoded_view(self) -> bytes:
        """The same, as it is served; it is encoded once for each epoch."""
        view = self._view
        epoch, encoded = self._encoded
        if epoch != view.epoch:
            encoded = encode_view(view)
            self._encoded = (view.epoch, encoded)
        return encoded

    def register(self, member: Member, fingerprint: str) -> View:
        """Admit a worker.

        Raises:
            ConfigError: Its cluster configuration is another, or its name is not one.
        """
        if fingerprint != self._cluster.fingerprint():
            raise ConfigError(
                "the worker's cluster configuration differs from the coordinator's",
                subject=member.worker,
                hint="give both the same block size, digest and lease, and restart the worker",
            )
        _check(member)
        return self._happen(
            lambda membership, now: membership.register(member, now),
            event=("worker-joined", member.worker, f"at {member.data_address}"),
            registering=member.worker,
        )

    def heard(self, worker: WorkerId, incarnation: str, epoch: int) -> View:
        """Extend the lease of a worker whose renewal was stored, ``epoch`` being the store's then.

        Raises:
            LeaseExpiredError: It is no member any more.
            ConflictError: Another process took its place.
        """
        with self._turn:
            now = self._runtime.monotonic()
            quiet = epoch == self._view.epoch and not self._is_due(now)
            if quiet and not self._membership.is_due(now):
                return self._membership.renew(worker, incarnation, now)
        return self._happen(lambda membership, now: membership.renew(worker, incarnation, now))

    def drain(self, worker: WorkerId) -> View:
        """Take away what a member owns.

        Raises:
            NotKnownError: There is no such member.
        """
        if self._view.find(worker) is None:
            raise NotKnownError("no such worker", subject=worker)
        return self._happen(
            lambda membership, now: membership.drain(worker, now),
            event=("worker-draining", worker, "it owns nothing any more, and goes on serving"),
        )

    def leave(self, worker: WorkerId, incarnation: str) -> View:
        """Remove a worker that says goodbye; one whose place another process took is ignored."""
        member = self._view.find(worker)
        if member is None or member.incarnation != incarnation:
            return self._view
        return self._happen(
            lambda membership, now: membership.leave(worker, now),
            event=("worker-left", worker, "it said goodbye"),
        )

    def tick(self) -> View:
        """Look at what other coordinators stored, and retire whoever nobody has heard of."""
        if self._is_due(self._runtime.monotonic()):
            return self._happen(lambda membership, now: membership.advance(now))
        return self._view

    def _happen(
        self,
        change: Change,
        *,
        event: tuple[str, WorkerId, str] | None = None,
        registering: WorkerId | None = None,
    ) -> View:
        """Store the view that a change leads to, with an event that says so."""
        with self._turn:
            for _ in range(_EXCHANGES_LIMIT):
                with self._store.write() as connection:
                    stored = self._catch_up(connection)
                    refusal: CacheFSError | None = None
                    try:
                        view = change(self._membership, self._runtime.monotonic())
                    except (LeaseExpiredError, ConflictError) as error:
                        # The lease may have been found expired just now: that is to be stored too.
                        refusal, view = error, self._membership.view
                    changed = view.epoch != stored.epoch
                    if changed and not rows.exchange_view(connection, stored, view):
                        continue
                    if registering is not None:
                        rows.set_residency_known(connection, registering, known=False)
                    if changed:
                        self._record(connection, stored, view, event)
                self._view = view
                if refusal is not None:
                    raise refusal
                return view
        raise CoordinatorUnavailableError("too many changes of the members at once")

    def _catch_up(self, connection: Connection) -> View:
        """Take over what is stored, before a change that builds upon it."""
        now = self._runtime.monotonic()
        stored = rows.view(connection)
        renewals = rows.renewals(connection)
        if now - self._observed_at > self._cluster.lease_seconds / 2:
            _LOG.warning("the coordinator paused", extra={"seconds": now - self._observed_at})
            self._membership = self._with_full_leases(stored)
        heard = {worker for worker, n in renewals.items() if n != self._renewals.get(worker)}
        # Adopting also undoes what a failed transaction left in the state machine.
        self._membership.adopt(stored, heard, now)
        self._renewals = renewals
        self._observed_at = now
        return stored

    def _record(
        self,
        connection: Connection,
        old: View,
        new: View,
        event: tuple[str, WorkerId, str] | None,
    ) -> None:
        if event is not None:
            self._events.record(connection, *event)
        here = {member.worker for member in new.members}
        for member in old.members:
            if member.worker not in here and not (event and event[1] == member.worker):
                self._events.record(
                    connection, "worker-gone", member.worker, "its lease has run out"
                )

    def _is_due(self, now: float) -> bool:
        return now - self._observed_at >= self._cluster.lease_seconds / _OBSERVATIONS_PER_LEASE

    def _with_full_leases(self, view: View) -> Membership:
        return Membership(
            view, lease_seconds=self._cluster.lease_seconds, now=self._runtime.monotonic()
        )


def _check(member: Member) -> None:
    parse_name(member.worker, kind="worker")
    parse_name(member.pool, kind="pool")
    if not 0 <= member.weight < float("inf"):
        raise ConfigError("a worker's weight must be a number from 0 on", subject=member.worker)
    for address in (member.data_address, member.control_address):
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ConfigError(f"not an address: {address!r}", subject=member.worker)
