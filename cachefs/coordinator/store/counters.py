"""The counters. Adding to one also locks it, so transactions that add to the same one queue up."""

from sqlalchemy import Connection, select, update

from cachefs.coordinator.store.tables import COUNTERS
from cachefs.errors import InvariantError


def read(connection: Connection) -> dict[str, int]:
    """Return every counter."""
    rows = connection.execute(select(COUNTERS.c.name, COUNTERS.c.value))
    return {row.name: row.value for row in rows}


def add(connection: Connection, name: str) -> int:
    """Add one, and return the new value."""
    row = connection.execute(
        update(COUNTERS)
        .where(COUNTERS.c.name == name)
        .values(value=COUNTERS.c.value + 1)
        .returning(COUNTERS.c.value)
    ).one_or_none()
    if row is None:
        raise InvariantError(f"the store has no counter {name!r}")
    return int(row.value)


def exchange(connection: Connection, name: str, *, expected: int, value: int) -> bool:
    """Set a counter if it still has the expected value, and say whether it had."""
    changed = connection.execute(
        update(COUNTERS)
        .where(COUNTERS.c.name == name, COUNTERS.c.value == expected)
        .values(value=value)
    )
    return changed.rowcount == 1
