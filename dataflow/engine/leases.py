"""Leases: whose the runs are, and until when.

Theory of operation. A coordinator has one row in the store, and adds to its counter with each
heartbeat; its runs name it as their owner. The others watch the rows. Whoever sees one unchanged for a
whole lease, on a clock of its own, *buries* it: in one transaction the row goes, and its runs are
nobody's and have another fence, so that whatever the old owner still writes is refused. No clocks
are compared. A run that is nobody's is taken by the next coordinator that looks.

An owner that cannot renew must not let its steps go on until another begins them: at two thirds of the
lease after the last renewal that it *began*, by its own clock, it gives all its runs up. An observer
saw that renewal later than it was begun, and waits a whole lease from then. So there is a third of a
lease in which nobody acts. What that cannot cover is a process that was stopped as a whole and goes on
later; its writes are refused, but a side effect that it was about to make is made once more. That is
why effects carry a key.

On a store that cannot be shared there is but one coordinator at a time: it takes its predecessor's
runs over at once, and renews nothing.
"""

import logging

from cachefs.coordinator.store.engine import Store
from cachefs.dataflow.engine import owners as rows
from cachefs.dataflow.engine.owners import Position
from cachefs.ports import Runtime

_LOG = logging.getLogger("cachefs.flows")

_FOREVER = float("inf")
_ONLY = "only"
_SAFE_SHARE = 2 / 3
"""Of a lease: how long after a renewal an owner may act."""
_CLAIMED_AT_ONCE = 100
"""Runs that a coordinator takes at one look; the next look takes more."""


class Leases:
    """One coordinator's claim to runs. One thread renews, any may ask."""

    def __init__(self, store: Store, runtime: Runtime, *, lease_seconds: float) -> None:
        """Claim nothing yet."""
        self._store = store
        self._runtime = runtime
        self._lease_seconds = lease_seconds
        self._owner = ""
        self._renewed_at = -_FOREVER
        self._seen: dict[str, tuple[int, float]] = {}
        """Of each other owner: its counter, and when that was first seen."""

    @property
    def owner(self) -> str:
        """The name under which the store knows us; empty before the start."""
        return self._owner

    @property
    def acts_until(self) -> float:
        """Until when we may act, on the monotonic clock; for ever where nobody else can."""
        if not self._store.is_shared:
            return _FOREVER if self._owner else -_FOREVER
        return self._renewed_at + self._lease_seconds * _SAFE_SHARE

    def start(self) -> None:
        """Become an owner.

        Raises:
            CoordinatorUnavailableError: The store does not answer.
        """
        began = self._runtime.monotonic()
        # After a burial too: under a name of our own that nobody has buried.
        owner = f"{self._runtime.random.getrandbits(64):016x}" if self._store.is_shared else _ONLY
        with self._store.write() as connection:
            if self._store.is_shared:
                rows.add_owner(connection, owner)
            else:
                rows.free(connection)
        self._owner, self._renewed_at = owner, began

    def heartbeat(self) -> None:
        """Renew our lease, and bury owners that have not renewed theirs for a whole one.

        Raises:
            CoordinatorUnavailableError: The store does not answer.
        """
        if not self._store.is_shared:
            return
        began = self._runtime.monotonic()
        with self._store.write() as connection:
            renewed = rows.renew(connection, self._owner)
        if renewed:
            self._renewed_at = began
        else:
            _LOG.warning("another coordinator has taken our runs over")
            self.start()
        self._observe()

    def _observe(self) -> None:
        with self._store.read() as connection:
            found = rows.owners(connection)
        now = self._runtime.monotonic()
        seen = {}
        for owner, renewals in found.items():
            before = self._seen.get(owner)
            since = before[1] if before is not None and before[0] == renewals else now
            seen[owner] = (renewals, since)
            if owner != self._owner and now - since >= self._lease_seconds:
                with self._store.write() as connection:
                    if rows.bury(connection, owner, renewals=renewals):
                        _LOG.warning("a coordinator is gone; its runs are free")
        self._seen = seen

    def claim(self) -> dict[str, Position]:
        """Take runs that are nobody's, and return all that are ours.

        Raises:
            CoordinatorUnavailableError: The store does not answer.
        """
        with self._store.read() as connection:
            some = rows.has_free(connection)
        if some:
            with self._store.write() as connection:
                rows.claim(connection, self._owner, limit=_CLAIMED_AT_ONCE)
        return self.owned()

    def owned(self) -> dict[str, Position]:
        """Return the runs that are ours, the first in the queue first."""
        with self._store.read() as connection:
            return rows.positions(connection, self._owner)

    def release(self) -> None:
        """Let another coordinator go on at once."""
        owner, self._owner = self._owner, ""
        self._renewed_at = -_FOREVER
        if owner:
            with self._store.write() as connection:
                rows.release(connection, owner)
