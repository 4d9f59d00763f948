"""Policies and uses of datasets in the store."""

from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple

from sqlalchemy import Connection, delete, select, update

from cachefs.coordinator.store.datasets import full
from cachefs.coordinator.store.tables import DATASET_USES, DATASETS, POLICIES
from cachefs.core.names import DatasetName

Kind = Literal["pool", "idle"]


class Use(NamedTuple):
    """When a dataset was used, as far as one that was not there can know."""

    uses: int
    """Grows with every use that is noted."""
    used_at: float
    """Seconds since 1970."""


def every(connection: Connection, kind: Kind) -> dict[str, str]:
    """Return the policies of a kind, as they were written, by scope."""
    query = select(POLICIES).where(POLICIES.c.kind == kind).order_by(POLICIES.c.scope)
    return {row.scope: row.document for row in connection.execute(query)}


def put(connection: Connection, kind: Kind, scope: str, document: str) -> None:
    """Store a policy, be it new or not; from within a transaction that has locked the pools."""
    remove(connection, kind, scope)
    connection.execute(POLICIES.insert().values(kind=kind, scope=scope, document=document))


def remove(connection: Connection, kind: Kind, scope: str) -> None:
    """Delete a policy, if there is one."""
    connection.execute(delete(POLICIES).where(POLICIES.c.kind == kind, POLICIES.c.scope == scope))


def uses(connection: Connection) -> dict[DatasetName, Use]:
    """Return when each dataset was used."""
    return {
        DatasetName(*row.dataset.split("/", 1)): Use(row.uses, row.used_at)
        for row in connection.execute(select(DATASET_USES))
    }


def note_uses(
    connection: Connection, used: Iterable[tuple[DatasetName, float]]
) -> dict[DatasetName, int]:
    """Store that datasets were used, and when; return how often that was noted of each."""
    table, noted = DATASET_USES, {}
    for name, at in used:
        noted[name] = connection.execute(
            update(table)
            .where(table.c.dataset == full(name))
            .values(uses=table.c.uses + 1, used_at=at)
            .returning(table.c.uses)
        ).scalar()
        if noted[name] is None:
            noted[name] = 1
            connection.execute(table.insert().values(dataset=full(name), uses=1, used_at=at))
    return {name: int(count or 0) for name, count in noted.items()}


def forget_uses(connection: Connection, names: Collection[DatasetName]) -> None:
    """Forget the uses of datasets that are gone."""
    for name in names:
        gone = ~select(DATASETS.c.name).where(DATASETS.c.name == full(name)).exists()
        connection.execute(delete(DATASET_USES).where(DATASET_USES.c.dataset == full(name), gone))
