"""What workers hold, in the store: a log by revision of the last state of each row."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sqlalchemy import Connection, delete, exists, select, update
from sqlalchemy.dialects import postgresql, sqlite

from cachefs.coordinator.store.tables import MEMBERS, REPORTS, RESIDENCY
from cachefs.core.names import WorkerId
from cachefs.core.residency import Holding, encode_mask


class Report(NamedTuple):
    """How far the record of a worker has come."""

    revision: int
    whole: int
    """The revision at which it last reported everything; who saw less must read everything."""


NO_REPORT = Report(0, 0)


def reports(connection: Connection, only: WorkerId | None = None) -> dict[WorkerId, Report]:
    """Return how far each worker's record has come, or that of one alone."""
    query = select(REPORTS)
    rows = connection.execute(query if only is None else query.where(REPORTS.c.worker == only))
    return {row.worker: Report(row.revision, row.whole) for row in rows}


def report(connection: Connection, worker: WorkerId) -> Report:
    """Return how far one worker's record has come."""
    row = connection.execute(select(REPORTS).where(REPORTS.c.worker == worker)).one_or_none()
    return NO_REPORT if row is None else Report(row.revision, row.whole)


def since(connection: Connection, worker: WorkerId, revision: int) -> Iterator[Holding]:
    """Yield each row of a worker that has changed after a revision."""
    query = select(RESIDENCY).where(RESIDENCY.c.worker == worker, RESIDENCY.c.revision > revision)
    for row in connection.execute(query):
        mask = int.from_bytes(row.resident, "little")
        yield Holding(worker, row.file_version, row.tier, mask)


def put(
    connection: Connection, worker: WorkerId, holdings: Iterable[Holding], *, whole: bool
) -> None:
    """Record new states of a worker's rows under the next revision.

    With ``whole``, the rows of everything that had left before are deleted.
    """
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    bump = insert(REPORTS).values(worker=worker, revision=1, whole=int(whole))
    following = REPORTS.c.revision + 1
    revision = connection.execute(
        bump.on_conflict_do_update(
            index_elements=["worker"],
            set_={"revision": following, "whole": following if whole else REPORTS.c.whole},
        ).returning(REPORTS.c.revision)
    ).scalar_one()
    rows = [
        {
            "worker": worker,
            "file_version": holding.file_version,
            "tier": holding.tier,
            "resident": encode_mask(holding.mask),
            "revision": revision,
        }
        for holding in holdings
    ]
    if rows:
        statement = insert(RESIDENCY)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["worker", "file_version", "tier"],
                set_={
                    "resident": statement.excluded.resident,
                    "revision": statement.excluded.revision,
                },
            ),
            rows,
        )
    if whole:
        connection.execute(
            delete(RESIDENCY).where(RESIDENCY.c.worker == worker, RESIDENCY.c.resident == b"")
        )


def note_gone(connection: Connection, *, at: float) -> None:
    """Note of each worker with recorded residency since when it is no member, if it is none."""
    is_member = exists().where(MEMBERS.c.worker == REPORTS.c.worker)
    is_recorded = exists().where(RESIDENCY.c.worker == REPORTS.c.worker)
    connection.execute(
        update(REPORTS).where(is_member, REPORTS.c.gone_at.is_not(None)).values(gone_at=None)
    )
    connection.execute(
        update(REPORTS)
        .where(~is_member, is_recorded, REPORTS.c.gone_at.is_(None))
        .values(gone_at=at)
    )


def gone_before(connection: Connection, at: float) -> tuple[WorkerId, ...]:
    """Return the workers that have been gone since a time before ``at``."""
    query = select(REPORTS.c.worker).where(REPORTS.c.gone_at < at).order_by(REPORTS.c.worker)
    return tuple(connection.execute(query).scalars())


def forget(connection: Connection, worker: WorkerId) -> None:
    """Delete what is recorded of a worker that is no member.

    Its report stays, as one of everything that said nothing: so whoever follows the revisions sees
    it, and a later worker of that name goes on with them.
    """
    put(connection, worker, (), whole=True)
    connection.execute(delete(RESIDENCY).where(RESIDENCY.c.worker == worker))
    connection.execute(update(REPORTS).where(REPORTS.c.worker == worker).values(gone_at=None))
