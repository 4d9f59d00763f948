"""Pools in the store."""

import json
from typing import Any

from sqlalchemy import Connection, Row, select, update

from cachefs.coordinator.store.tables import DATASETS, POOLS
from cachefs.core.names import WorkerId
from cachefs.core.pools import Pool
from cachefs.errors import ConflictError


def find(connection: Connection, name: str) -> Pool:
    """Return a pool; one that nobody has said anything about wants nothing."""
    row = connection.execute(select(POOLS).where(POOLS.c.name == name)).one_or_none()
    return Pool(name=name) if row is None else _pool(row)


def every(connection: Connection) -> tuple[Pool, ...]:
    """Return the pools that somebody has said something about, sorted by name."""
    return tuple(_pool(row) for row in connection.execute(select(POOLS).order_by(POOLS.c.name)))


def save(connection: Connection, pool: Pool) -> None:
    """Store a pool, be it new or not; from within a transaction that has locked the pools."""
    columns = _columns(pool)
    changed = connection.execute(update(POOLS).where(POOLS.c.name == pool.name).values(**columns))
    if changed.rowcount == 0:
        connection.execute(POOLS.insert().values(**columns))


def namespaces(connection: Connection, name: str) -> set[str]:
    """Return the namespaces of the datasets that are in a pool."""
    query = select(DATASETS.c.name).where(DATASETS.c.pool == name)
    return {str(full).partition("/")[0] for full in connection.execute(query).scalars()}


def check_admitted(connection: Connection, pool: str, namespace: str) -> None:
    """Make sure that a pool takes datasets of a namespace; in a transaction that locked the catalogue.

    Raises:
        ConflictError: It is exclusive to another one.
    """
    exclusive = find(connection, pool).exclusive
    if exclusive and exclusive != namespace:
        raise ConflictError(
            f"the pool is exclusive to the namespace {exclusive}",
            subject=pool,
            hint="choose another pool, or `cachefs pool set --exclusive ''`",
        )


def used(connection: Connection) -> set[str]:
    """Return the names of the pools that datasets are in."""
    return set(connection.execute(select(DATASETS.c.pool).distinct()).scalars())


def _columns(pool: Pool) -> dict[str, Any]:
    return {
        "name": pool.name,
        "wanted": pool.wanted,
        "wanted_by_zone": json.dumps(dict(pool.wanted_by_zone), sort_keys=True),
        "least": pool.least,
        "most": pool.most,
        "exclusive": pool.exclusive,
        "leaving": json.dumps(pool.leaving),
        "problem": pool.problem,
        "changed_at": pool.changed_at,
        "changed_by": pool.changed_by,
        "reason": pool.reason,
    }


def _pool(row: Row[Any]) -> Pool:
    return Pool(
        name=row.name,
        wanted=row.wanted,
        wanted_by_zone=json.loads(row.wanted_by_zone),
        least=row.least,
        most=row.most,
        exclusive=row.exclusive,
        leaving=tuple(WorkerId(one) for one in json.loads(row.leaving)),
        problem=row.problem,
        changed_at=row.changed_at,
        changed_by=row.changed_by,
        reason=row.reason,
    )
