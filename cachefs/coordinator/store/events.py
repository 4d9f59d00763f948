"""Events in the store: what happened, for people, the newest so many of them."""

from typing import NamedTuple

from sqlalchemy import Connection, delete, select

from cachefs.coordinator.store import counters
from cachefs.coordinator.store.tables import EVENTS


class Event(NamedTuple):
    """Something that happened."""

    id: int
    at: float
    """Seconds since 1970."""
    kind: str
    """Such as ``dataset-added``; one word with hyphens."""
    subject: str
    """The dataset, worker or job that it is about."""
    message: str


def add(connection: Connection, event: Event, *, kept: int) -> Event:
    """Store an event under the next id, and delete those that are too old."""
    # The id is taken from a counter, so ids become visible in their order, and whoever asks for
    # the events after the last it saw misses none. It is the last lock that a transaction takes.
    number = counters.add(connection, "events")
    stored = event._replace(id=number)
    connection.execute(EVENTS.insert().values(**stored._asdict()))
    connection.execute(delete(EVENTS).where(EVENTS.c.id <= number - kept))
    return stored


def after(connection: Connection, number: int, *, limit: int) -> tuple[Event, ...]:
    """Return the events after one, the oldest first."""
    query = select(EVENTS).where(EVENTS.c.id > number).order_by(EVENTS.c.id).limit(limit)
    return tuple(Event(**row) for row in connection.execute(query).mappings())
