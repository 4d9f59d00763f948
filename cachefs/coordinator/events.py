"""Events: what happened, for people and for the log."""

import logging

from sqlalchemy import Connection

from cachefs.coordinator.store import events as rows
from cachefs.coordinator.store.engine import Store
from cachefs.coordinator.store.events import Event
from cachefs.core.names import printable
from cachefs.ports import Runtime

_LOG = logging.getLogger("cachefs.coordinator")

_MESSAGE_LENGTH_MAX = 1000


class Events:
    """Records events in the transactions of those who cause them."""

    def __init__(self, store: Store, runtime: Runtime, *, kept: int) -> None:
        """Keep the newest ``kept`` events in a store."""
        self._store = store
        self._runtime = runtime
        self._kept = kept

    def record(self, connection: Connection, kind: str, subject: object, message: str) -> None:
        """Record an event. It is the last thing that a transaction does: see :mod:`.store.events`."""
        text = printable(message)[:_MESSAGE_LENGTH_MAX]
        event = Event(0, self._runtime.wall(), kind, printable(str(subject)), text)
        rows.add(connection, event, kept=self._kept)
        _LOG.info("event", extra={"kind": kind, "subject": event.subject, "text": text})

    def after(self, number: int, *, limit: int) -> tuple[Event, ...]:
        """Return the events after one, the oldest first."""
        with self._store.read() as connection:
            return rows.after(connection, number, limit=limit)
