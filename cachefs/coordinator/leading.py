"""Leading: which of several coordinators does what one of them should do.

The leader adds to a counter in the store; the others watch it. Whoever sees it unchanged for a
whole lease, on a clock of its own, takes over by compare and exchange. No clocks are compared. Two
may still believe that they lead for a moment, so leading only saves work: what leaders do can be
done twice without harm.
"""

from cachefs.coordinator.store import members as rows
from cachefs.coordinator.store.engine import Store
from cachefs.ports import Runtime


class Leadership:
    """One coordinator's claim to a duty."""

    def __init__(self, store: Store, runtime: Runtime, duty: str, *, lease_seconds: float) -> None:
        """Begin as a follower."""
        self._store = store
        self._runtime = runtime
        self._duty = duty
        self._lease_seconds = lease_seconds
        # On a store that cannot be shared there is but one coordinator: whoever holds the duty
        # there was our own predecessor, and need not be waited for.
        self._own = f"{runtime.random.getrandbits(64):016x}" if store.is_shared else "only"
        self._seen: rows.Leader | None = None
        self._seen_at = runtime.monotonic()
        self._leads = False

    def tick(self) -> bool:
        """Renew, watch or take over; return whether we lead now."""
        now = self._runtime.monotonic()
        with self._store.write() as connection:
            found = rows.leader(connection, self._duty)
            if found != self._seen:
                self._seen, self._seen_at = found, now
            vacant = found is None or found.holder in ("", self._own)
            self._leads = (
                vacant or now - self._seen_at >= self._lease_seconds
            ) and rows.exchange_leader(connection, self._duty, found, self._own)
        return self._leads

    def resign(self) -> None:
        """Let another take over at once."""
        if not self._leads:
            return
        self._leads = False
        with self._store.write() as connection:
            found = rows.leader(connection, self._duty)
            if found is not None and found.holder == self._own:
                rows.exchange_leader(connection, self._duty, found, "")
