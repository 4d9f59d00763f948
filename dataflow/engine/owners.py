"""Who owns which runs: statements, as functions of a connection. :mod:`.leases` has the rules."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, delete, exists, func, select, update

from cachefs.coordinator.store.tables import RUN_OWNERS, RUNS
from cachefs.dataflow.engine.store import ACTIVE, run_of, unbegun
from cachefs.dataflow.records import WITHIN, Run

_WITHIN = RUNS.c.cause.startswith(WITHIN)
"""The runs that are within others."""


class Position(NamedTuple):
    """Where a run stands for its owner."""

    fence: int
    changes: int
    """Another number than before: somebody wrote what the owner must look at."""
    begun: bool
    """Whether it waits for its turn no more."""


def positions(connection: Connection, owner: str) -> dict[str, Position]:
    """Return the runs that a coordinator owns."""
    query = (
        select(RUNS.c.id, RUNS.c.fence, RUNS.c.changes, unbegun().label("waits"))
        .where(RUNS.c.owner == owner, RUNS.c.state.in_(ACTIVE))
        .order_by(RUNS.c.number)
    )
    return {
        row.id: Position(row.fence, row.changes, not row.waits) for row in connection.execute(query)
    }


def has_free(connection: Connection) -> bool:
    """Say whether there is a run that nobody owns."""
    query = select(RUNS.c.id).where(RUNS.c.owner == "", RUNS.c.state.in_(ACTIVE)).limit(1)
    return connection.execute(query).first() is not None


def claim(connection: Connection, owner: str, *, limit: int) -> None:
    """Take runs that nobody owns, the first in the queue first."""
    chosen = (
        select(RUNS.c.id)
        .where(RUNS.c.owner == "", RUNS.c.state.in_(ACTIVE))
        .order_by(RUNS.c.number)
        .limit(limit)
        .with_for_update(skip_locked=True)  # another coordinator is taking those
    )
    for run in list(connection.execute(chosen).scalars()):
        connection.execute(
            update(RUNS).where(RUNS.c.id == run).values(owner=owner, fence=RUNS.c.fence + 1)
        )


def free(connection: Connection) -> None:
    """Make every run nobody's, on a store that one coordinator uses at a time."""
    connection.execute(update(RUNS).where(RUNS.c.owner != "").values(owner=""))


def release(connection: Connection, owner: str) -> None:
    """Let others take the runs of a coordinator at once, and forget it."""
    connection.execute(update(RUNS).where(RUNS.c.owner == owner).values(owner=""))
    connection.execute(delete(RUN_OWNERS).where(RUN_OWNERS.c.owner == owner))


def owners(connection: Connection) -> dict[str, int]:
    """Return how often each owner has renewed its lease."""
    return {row.owner: row.renewals for row in connection.execute(select(RUN_OWNERS))}


def renew(connection: Connection, owner: str) -> bool:
    """Renew an owner's lease; ``False`` if there is none: it was buried, or is new."""
    changed = connection.execute(
        update(RUN_OWNERS)
        .where(RUN_OWNERS.c.owner == owner)
        .values(renewals=RUN_OWNERS.c.renewals + 1)
    )
    return changed.rowcount == 1


def add_owner(connection: Connection, owner: str) -> None:
    """Begin an owner's lease."""
    connection.execute(RUN_OWNERS.insert().values(owner=owner, renewals=1))


def bury(connection: Connection, owner: str, *, renewals: int) -> bool:
    """Free the runs of an owner that has not renewed since; ``False`` if it has."""
    # Whoever renews at this moment waits for this row, and then finds it gone.
    gone = connection.execute(
        delete(RUN_OWNERS).where(RUN_OWNERS.c.owner == owner, RUN_OWNERS.c.renewals == renewals)
    )
    if gone.rowcount:
        connection.execute(
            update(RUNS).where(RUNS.c.owner == owner).values(owner="", fence=RUNS.c.fence + 1)
        )
    return bool(gone.rowcount)


def startable(connection: Connection, owner: str, *, limit: int) -> tuple[Run, ...]:
    """Return queued runs of an owner within others that need not wait for another of their group."""
    query = _startable(select(RUNS), owner).where(_WITHIN).order_by(RUNS.c.number).limit(limit)
    return tuple(run_of(row) for row in connection.execute(query))


def waiting(connection: Connection, owner: str) -> list[tuple[str, str]]:
    """Return all other such runs with their namespaces, the first in the queue first."""
    query = _startable(select(RUNS.c.id, RUNS.c.flow), owner).where(~_WITHIN)
    found = connection.execute(query.order_by(RUNS.c.number))
    return [(row.id, str(row.flow).partition("/")[0]) for row in found]


def last_begun(connection: Connection) -> dict[str, float]:
    """Return for each namespace when the last of its runs began, as far as they are remembered."""
    query = select(RUNS.c.flow, func.max(RUNS.c.started_at).label("at")).where(~_WITHIN)
    last: dict[str, float] = {}
    for row in connection.execute(query.group_by(RUNS.c.flow)):
        namespace = str(row.flow).partition("/")[0]
        last[namespace] = max(last.get(namespace, 0.0), float(row.at))
    return last


def named(connection: Connection, ids: Sequence[str]) -> tuple[Run, ...]:
    """Return runs, the first in the queue first."""
    query = select(RUNS).where(RUNS.c.id.in_(ids)).order_by(RUNS.c.number)
    return tuple(run_of(row) for row in connection.execute(query)) if ids else ()


def _startable(query: Select[Any], owner: str) -> Select[Any]:  # Any: whatever is selected
    """Narrow a query down to queued runs of an owner that need not wait for another of their group."""
    before = RUNS.alias("before")
    blocked = exists().where(
        RUNS.c.group_name != "",
        before.c.group_name == RUNS.c.group_name,
        before.c.number < RUNS.c.number,
        before.c.state.in_(ACTIVE),
    )
    return query.where(
        RUNS.c.owner == owner, RUNS.c.state == "Queued", RUNS.c.wants == "", ~blocked
    )


def unwanted(connection: Connection, owner: str) -> tuple[Run, ...]:
    """Return queued runs of an owner that somebody cancelled."""
    query = select(RUNS).where(RUNS.c.owner == owner, unbegun(), RUNS.c.wants == "cancel")
    return tuple(run_of(row) for row in connection.execute(query))
