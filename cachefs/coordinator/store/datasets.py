"""Datasets, their versions, manifests and block digests in the store."""

import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, Row, delete, func, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite

from cachefs.coordinator.store.tables import BLOCK_DIGESTS, DATASETS, MANIFESTS, VERSIONS
from cachefs.core.blocks import FileVersionId
from cachefs.core.datasets import Consistency, Dataset, OriginSpec, Version
from cachefs.core.manifest import VersionId
from cachefs.core.names import DEFAULT_NAMESPACE, DatasetName
from cachefs.errors import ConflictError

_PER_STATEMENT = 500
"""Values in one ``IN``; both engines allow a thousand and more."""


def full(name: DatasetName) -> str:
    """Return the name as the store writes it."""
    return f"{name.namespace}/{name.name}"


def find(connection: Connection, name: DatasetName) -> Dataset | None:
    """Return a dataset, or ``None``."""
    row = connection.execute(select(DATASETS).where(DATASETS.c.name == full(name))).one_or_none()
    return None if row is None else _dataset(row)


def listed_at(connection: Connection, name: DatasetName) -> float:
    """Return when a dataset's origin was last listed; 0 for a dataset that is gone."""
    query = select(DATASETS.c.listed_at).where(DATASETS.c.name == full(name))
    return float(connection.execute(query).scalar() or 0.0)


def every(
    connection: Connection, *, after: str = "", limit: int | None = None
) -> tuple[Dataset, ...]:
    """Return the datasets whose full name comes after another, sorted by it."""
    query = select(DATASETS).where(DATASETS.c.name > after).order_by(DATASETS.c.name).limit(limit)
    return tuple(_dataset(row) for row in connection.execute(query))


def namespace_in_use(connection: Connection, namespace: str) -> bool:
    """Say whether a namespace has a dataset."""
    query = select(literal(1)).where(DATASETS.c.name.startswith(namespace + "/", autoescape=True))
    return connection.execute(query.limit(1)).first() is not None


def check_free(connection: Connection, name: DatasetName) -> None:
    """Make sure that a name can become a dataset's.

    Raises:
        ConflictError: It is one's already; or a dataset has the name of the namespace, or the other way round.
    """
    if find(connection, name) is not None:
        raise ConflictError(
            "there is a dataset of that name",
            subject=str(name),
            hint="choose another, or remove that one first",
        )
    if name.namespace == DEFAULT_NAMESPACE:
        if namespace_in_use(connection, name.name):
            raise ConflictError("there is a namespace of that name", subject=str(name))
    elif find(connection, DatasetName(DEFAULT_NAMESPACE, name.namespace)) is not None:
        raise ConflictError(
            f"the namespace has the name of a dataset, {name.namespace}", subject=str(name)
        )


def count(connection: Connection) -> int:
    """Return how many datasets there are."""
    return int(connection.execute(select(func.count()).select_from(DATASETS)).scalar_one())


def add(connection: Connection, dataset: Dataset, *, at: float) -> None:
    """Store a new dataset."""
    connection.execute(
        DATASETS.insert().values(name=full(dataset.name), listed_at=at, **_columns(dataset))
    )


def change(connection: Connection, dataset: Dataset) -> None:
    """Store a dataset in place of what it was."""
    connection.execute(
        update(DATASETS).where(DATASETS.c.name == full(dataset.name)).values(**_columns(dataset))
    )


def set_listed(connection: Connection, name: DatasetName, *, at: float) -> None:
    """Note that the origin was listed."""
    connection.execute(update(DATASETS).where(DATASETS.c.name == full(name)).values(listed_at=at))


def remove(connection: Connection, name: DatasetName) -> None:
    """Delete a dataset with its versions, and manifests that nobody else uses."""
    connection.execute(delete(DATASETS).where(DATASETS.c.name == full(name)))
    _remove_unused_manifests(connection)


def versions(connection: Connection, name: DatasetName) -> tuple[Version, ...]:
    """Return a dataset's versions, the newest first."""
    query = (
        select(VERSIONS).where(VERSIONS.c.dataset == full(name)).order_by(VERSIONS.c.number.desc())
    )
    return tuple(_version(row, name) for row in connection.execute(query))


def find_version(connection: Connection, name: DatasetName, version: str) -> Version | None:
    """Return one version of a dataset, or ``None``."""
    query = select(VERSIONS).where(VERSIONS.c.dataset == full(name), VERSIONS.c.id == version)
    row = connection.execute(query).one_or_none()
    return None if row is None else _version(row, name)


def version_ids(connection: Connection) -> frozenset[VersionId]:
    """Return the id of every version of every dataset."""
    return frozenset(connection.execute(select(VERSIONS.c.id).distinct()).scalars())


def add_version(connection: Connection, version: Version, encoded: bytes) -> None:
    """Store a version as the newest of its dataset; one that is there already becomes so."""
    connection.execute(
        _insert(connection, MANIFESTS)
        .values(id=version.id, encoded=encoded)
        .on_conflict_do_nothing()
    )
    dataset = full(version.dataset)
    newest = connection.execute(
        select(func.max(VERSIONS.c.number)).where(VERSIONS.c.dataset == dataset)
    ).scalar()
    values = {
        "number": (newest or 0) + 1,
        "url": version.origin.url,
        "options": _text(dict(version.origin.options)),
        "client": version.client,
        "client_reason": version.client_reason,
        "file_count": version.file_count,
        "size": version.size,
        "listed_at": version.listed_at,
    }
    connection.execute(
        _insert(connection, VERSIONS)
        .values(dataset=dataset, id=version.id, **values)
        .on_conflict_do_update(index_elements=["dataset", "id"], set_=values)
    )


def remove_versions(
    connection: Connection, name: DatasetName, versions: Iterable[VersionId]
) -> None:
    """Delete versions of a dataset, and manifests that nobody else uses."""
    for version in versions:
        connection.execute(
            delete(VERSIONS).where(VERSIONS.c.dataset == full(name), VERSIONS.c.id == version)
        )
    _remove_unused_manifests(connection)


def manifest(connection: Connection, version: str) -> bytes | None:
    """Return a manifest's encoding, or ``None``."""
    encoded = connection.execute(
        select(MANIFESTS.c.encoded).where(MANIFESTS.c.id == version)
    ).scalar()
    return None if encoded is None else bytes(encoded)


def has_manifest(connection: Connection, version: str) -> bool:
    """Say whether a manifest is stored."""
    query = select(literal(1)).where(MANIFESTS.c.id == version)
    return connection.execute(query).first() is not None


def digests(connection: Connection, file_version: str) -> bytes | None:
    """Return a file version's packed digests, or ``None``."""
    packed = connection.execute(
        select(BLOCK_DIGESTS.c.digests).where(BLOCK_DIGESTS.c.file_version == file_version)
    ).scalar()
    return None if packed is None else bytes(packed)


def lock_digests(
    connection: Connection, file_versions: Collection[FileVersionId]
) -> dict[FileVersionId, bytes]:
    """Return the packed digests of some file versions, locked until the transaction ends."""
    found = _digests_of(connection, file_versions)
    missing = set(file_versions) - found.keys()
    if missing and connection.dialect.name != "sqlite":
        # Two workers may report the first digests of one file at once, to two coordinators. On
        # SQLite the transaction has the only lock there is; elsewhere a row must be there first.
        rows = [{"file_version": one, "digests": b""} for one in sorted(missing)]
        connection.execute(_insert(connection, BLOCK_DIGESTS).on_conflict_do_nothing(), rows)
        found |= _digests_of(connection, missing)
    return found


def put_digests(connection: Connection, packed: Iterator[tuple[FileVersionId, bytes]]) -> None:
    """Store packed digests in place of what there was."""
    rows = [{"file_version": one, "digests": digests} for one, digests in packed]
    if rows:
        statement = _insert(connection, BLOCK_DIGESTS)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["file_version"], set_={"digests": statement.excluded.digests}
            ),
            rows,
        )


def _digests_of(
    connection: Connection, file_versions: Collection[FileVersionId]
) -> dict[FileVersionId, bytes]:
    found: dict[FileVersionId, bytes] = {}
    ordered = sorted(file_versions)  # in one order, so that two transactions cannot wait in a ring
    for at in range(0, len(ordered), _PER_STATEMENT):
        query = (
            select(BLOCK_DIGESTS)
            .where(BLOCK_DIGESTS.c.file_version.in_(ordered[at : at + _PER_STATEMENT]))
            .order_by(BLOCK_DIGESTS.c.file_version)
            .with_for_update()
        )
        found.update((row.file_version, bytes(row.digests)) for row in connection.execute(query))
    return found


def _remove_unused_manifests(connection: Connection) -> None:
    connection.execute(delete(MANIFESTS).where(MANIFESTS.c.id.not_in(select(VERSIONS.c.id))))


def _insert(connection: Connection, table: Any) -> Any:  # Any: the two dialects share no type
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    return dialect.insert(table)


def _columns(dataset: Dataset) -> dict[str, Any]:
    return {
        "url": dataset.origin.url,
        "options": _text(dict(dataset.origin.options)),
        "include": _text(dataset.include),
        "exclude": _text(dataset.exclude),
        "consistency": str(dataset.consistency),
        "pool": dataset.pool,
        "replicas": dataset.replicas,
        "pins": _text(dataset.pins),
        "ttl_seconds": dataset.ttl_seconds,
        "versions_kept": dataset.versions_kept,
        "current": dataset.current,
    }


def _dataset(row: Row[Any]) -> Dataset:
    return Dataset(
        name=DatasetName.parse(row.name),
        origin=OriginSpec(row.url, json.loads(row.options)),
        include=tuple(json.loads(row.include)),
        exclude=tuple(json.loads(row.exclude)),
        consistency=Consistency.parse(row.consistency),
        pool=row.pool,
        replicas=row.replicas,
        pins=tuple(json.loads(row.pins)),
        ttl_seconds=row.ttl_seconds,
        versions_kept=row.versions_kept,
        current=row.current,
    )


def _version(row: Row[Any], name: DatasetName) -> Version:
    return Version(
        id=row.id,
        dataset=name,
        origin=OriginSpec(row.url, json.loads(row.options)),
        client=row.client,
        client_reason=row.client_reason,
        file_count=row.file_count,
        size=row.size,
        listed_at=row.listed_at,
    )


def _text(value: Any) -> str:  # Any: whatever JSON can hold
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
