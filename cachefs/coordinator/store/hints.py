"""Reservations and lessons of hints in the store, as JSON text."""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, delete, select

from cachefs.coordinator.store import counters
from cachefs.coordinator.store.tables import LESSONS, RESERVATIONS


def lock(connection: Connection) -> int:
    """Make changes of reservations queue up; return the revision that this one leads to."""
    return counters.add(connection, "hints")


def revision(connection: Connection) -> int:
    """Return a number that grows with every change of reservations."""
    return counters.read(connection)["hints"]


def reservations(connection: Connection) -> dict[str, str]:
    """Return all that is kept of reservations, by key."""
    query = select(RESERVATIONS).order_by(RESERVATIONS.c.key)
    return {row.key: row.document for row in connection.execute(query)}


def change_reservations(
    connection: Connection, *, put: Mapping[str, str], remove: Iterable[str]
) -> None:
    """Store and delete by key; from within a transaction that has the lock."""
    for key in (*remove, *put):
        connection.execute(delete(RESERVATIONS).where(RESERVATIONS.c.key == key))
    if put:
        rows = [{"key": key, "document": document} for key, document in put.items()]
        connection.execute(RESERVATIONS.insert(), rows)


def lessons(connection: Connection, name: str) -> str | None:
    """Return what was stored under a name."""
    found = connection.execute(select(LESSONS.c.document).where(LESSONS.c.name == name)).scalar()
    return None if found is None else str(found)


def put_lessons(connection: Connection, name: str, document: str) -> None:
    """Store a document under a name, in place of what was there."""
    connection.execute(delete(LESSONS).where(LESSONS.c.name == name))
    connection.execute(LESSONS.insert().values(name=name, document=document))
