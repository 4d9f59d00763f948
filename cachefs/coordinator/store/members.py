"""Members, their renewals, suspects and leaders in the store."""

from collections.abc import Collection
from dataclasses import asdict
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, select, update

from cachefs.coordinator.store import counters
from cachefs.coordinator.store.tables import LEADERS, MEMBERS, RENEWALS, SUSPECTS
from cachefs.core.membership import Member, View
from cachefs.core.names import WorkerId

_PER_STATEMENT = 500
"""Values in one ``IN``; both engines allow a thousand and more."""


class Suspect(NamedTuple):
    """A worker that was found to serve bad bytes."""

    worker: WorkerId
    reports: int
    last_at: float
    reason: str


class Leader(NamedTuple):
    """Who has a duty, and how often it said so."""

    holder: str
    renewals: int


def view(connection: Connection) -> View:
    """Return the members and their epoch."""
    rows = connection.execute(select(MEMBERS).order_by(MEMBERS.c.worker)).mappings()
    members = tuple(sorted((Member(**row) for row in rows), key=lambda member: member.worker))
    return View(counters.read(connection)["epoch"], members)


def exchange_view(connection: Connection, old: View, new: View) -> bool:
    """Store a view in place of the one it was made from; ``False`` if that is no longer stored."""
    if not counters.exchange(connection, "epoch", expected=old.epoch, value=new.epoch):
        return False
    before = {member.worker: member for member in old.members}
    after = {member.worker: member for member in new.members}
    for worker, member in before.items():
        if worker not in after:
            connection.execute(delete(MEMBERS).where(MEMBERS.c.worker == worker))
        elif after[worker] != member:
            connection.execute(
                update(MEMBERS).where(MEMBERS.c.worker == worker).values(**asdict(after[worker]))
            )
    for worker, member in after.items():
        if worker not in before:
            connection.execute(MEMBERS.insert().values(**asdict(member)))
            connection.execute(
                RENEWALS.insert().values(
                    worker=worker, renewals=0, residency_known=False, statistics="{}"
                )
            )
    return True


def renewals(connection: Connection) -> dict[WorkerId, int]:
    """Return how often each member has renewed."""
    rows = connection.execute(select(RENEWALS.c.worker, RENEWALS.c.renewals))
    return {row.worker: row.renewals for row in rows}


def renew(connection: Connection, worker: WorkerId, incarnation: str, statistics: str) -> bool:
    """Count a renewal, which locks the member's row; ``False`` if there is no such member."""
    known = connection.execute(
        select(MEMBERS.c.worker).where(
            MEMBERS.c.worker == worker, MEMBERS.c.incarnation == incarnation
        )
    ).first()
    if known is None:
        return False
    values: dict[str, Any] = {"renewals": RENEWALS.c.renewals + 1}
    if statistics:
        values["statistics"] = statistics
    changed = connection.execute(update(RENEWALS).where(RENEWALS.c.worker == worker).values(values))
    return changed.rowcount == 1


def residency_known(connection: Connection, only: WorkerId | None = None) -> dict[WorkerId, bool]:
    """Return for each member, or one alone, whether it reported everything since it registered."""
    query = select(RENEWALS.c.worker, RENEWALS.c.residency_known)
    if only is not None:
        query = query.where(RENEWALS.c.worker == only)
    return {row.worker: row.residency_known for row in connection.execute(query)}


def set_residency_known(connection: Connection, worker: WorkerId, *, known: bool) -> None:
    """Note whether a member has reported everything since it registered."""
    connection.execute(
        update(RENEWALS).where(RENEWALS.c.worker == worker).values(residency_known=known)
    )


def statistics(
    connection: Connection, only: Collection[WorkerId] | None = None
) -> dict[WorkerId, str]:
    """Return what each member, or each of some, last said of itself, as JSON."""
    query = select(RENEWALS.c.worker, RENEWALS.c.statistics)
    if only is None:
        return {row.worker: row.statistics for row in connection.execute(query)}
    found: dict[WorkerId, str] = {}
    workers = sorted(only)
    for first in range(0, len(workers), _PER_STATEMENT):
        part = query.where(RENEWALS.c.worker.in_(workers[first : first + _PER_STATEMENT]))
        found.update((row.worker, row.statistics) for row in connection.execute(part))
    return found


def suspect(connection: Connection, worker: WorkerId, *, at: float, reason: str) -> None:
    """Count a report that a worker served bad bytes."""
    changed = connection.execute(
        update(SUSPECTS)
        .where(SUSPECTS.c.worker == worker)
        .values(reports=SUSPECTS.c.reports + 1, last_at=at, reason=reason)
    )
    if changed.rowcount == 0:
        connection.execute(
            SUSPECTS.insert().values(worker=worker, reports=1, last_at=at, reason=reason)
        )


def suspects(connection: Connection) -> dict[WorkerId, Suspect]:
    """Return every suspect."""
    return {
        row.worker: Suspect(row.worker, row.reports, row.last_at, row.reason)
        for row in connection.execute(select(SUSPECTS))
    }


def suspicion_count(connection: Connection) -> int:
    """Return how many reports there were in all."""
    return int(connection.execute(select(func.sum(SUSPECTS.c.reports))).scalar() or 0)


def leader(connection: Connection, duty: str) -> Leader | None:
    """Return who has a duty."""
    query = select(LEADERS.c.holder, LEADERS.c.renewals).where(LEADERS.c.duty == duty)
    row = connection.execute(query).one_or_none()
    return None if row is None else Leader(row.holder, row.renewals)


def exchange_leader(connection: Connection, duty: str, old: Leader | None, holder: str) -> bool:
    """Take or renew a duty if nobody else did so since ``old`` was read."""
    if old is None:
        connection.execute(LEADERS.insert().values(duty=duty, holder=holder, renewals=1))
        return True
    changed = connection.execute(
        update(LEADERS)
        .where(
            LEADERS.c.duty == duty,
            LEADERS.c.holder == old.holder,
            LEADERS.c.renewals == old.renewals,
        )
        .values(holder=holder, renewals=old.renewals + 1)
    )
    return changed.rowcount == 1
