"""Reservations and lessons of hints in the store."""

from typing import NamedTuple

from sqlalchemy import Connection, delete, select

from cachefs.coordinator.store import counters
from cachefs.coordinator.store.tables import LESSONS, RESERVATIONS


class Kept(NamedTuple):
    """A reservation as it is stored."""

    document: str
    """JSON."""
    expires_at: float
    """Seconds since 1970."""


def lock(connection: Connection) -> int:
    """Make changes of reservations queue up; return the revision after this one."""
    return counters.add(connection, "hints")


def revision(connection: Connection) -> int:
    """Return a number that grows with every change of reservations."""
    return counters.read(connection)["hints"]


def every(connection: Connection) -> dict[str, Kept]:
    """Return all reservations by token."""
    query = select(RESERVATIONS).order_by(RESERVATIONS.c.token)
    return {row.token: Kept(row.document, row.expires_at) for row in connection.execute(query)}


def put(connection: Connection, token: str, kept: Kept) -> None:
    """Store a reservation, be it new or not."""
    remove(connection, token)
    connection.execute(RESERVATIONS.insert().values(token=token, **kept._asdict()))


def remove(connection: Connection, token: str) -> None:
    """Delete a reservation, if there is one."""
    connection.execute(delete(RESERVATIONS).where(RESERVATIONS.c.token == token))


def lessons(connection: Connection, name: str) -> str | None:
    """Return what was stored under a name."""
    found = connection.execute(select(LESSONS.c.document).where(LESSONS.c.name == name)).scalar()
    return None if found is None else str(found)


def put_lessons(connection: Connection, name: str, document: str) -> None:
    """Store a document under a name, in place of what was there."""
    connection.execute(delete(LESSONS).where(LESSONS.c.name == name))
    connection.execute(LESSONS.insert().values(name=name, document=document))
