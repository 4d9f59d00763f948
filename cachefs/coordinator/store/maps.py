"""Residency maps in the store."""

import json
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import Connection, delete, select

from cachefs.coordinator.store.datasets import full
from cachefs.coordinator.store.tables import RESIDENCY_MAPS
from cachefs.core.blocks import FileVersionId
from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName


class MapHead(NamedTuple):
    """A residency map without its blocks."""

    id: str
    dataset: DatasetName
    version: VersionId
    saved_at: float
    """Seconds since 1970."""
    blocks: int
    size: int
    """Bytes of these blocks."""


def add(connection: Connection, head: MapHead, masks: Mapping[FileVersionId, int]) -> None:
    """Store a map."""
    text = json.dumps({name: f"{mask:x}" for name, mask in masks.items()})
    connection.execute(
        RESIDENCY_MAPS.insert().values(
            id=head.id,
            dataset=full(head.dataset),
            version=head.version,
            saved_at=head.saved_at,
            blocks=head.blocks,
            bytes=head.size,
            encoded=zlib.compress(text.encode()),
        )
    )


def every(connection: Connection, dataset: DatasetName) -> tuple[MapHead, ...]:
    """Return the maps of a dataset, the newest first."""
    table = RESIDENCY_MAPS
    columns = [column for column in table.c if column.name != "encoded"]
    query = (
        select(*columns)
        .where(table.c.dataset == full(dataset))
        .order_by(table.c.saved_at.desc(), table.c.id)
    )
    return tuple(
        MapHead(row.id, dataset, VersionId(row.version), row.saved_at, row.blocks, row.bytes)
        for row in connection.execute(query)
    )


def masks(connection: Connection, number: str) -> Mapping[FileVersionId, int] | None:
    """Return the blocks of a map, or ``None`` if there is none of that id."""
    table = RESIDENCY_MAPS
    encoded = connection.execute(
        select(table.c.encoded).where(table.c.id == number)
    ).scalar_one_or_none()
    if encoded is None:
        return None
    document = json.loads(zlib.decompress(encoded))
    return {FileVersionId(name): int(mask, 16) for name, mask in document.items()}


def trim(connection: Connection, dataset: DatasetName, *, kept: int) -> None:
    """Delete all but the newest maps of a dataset."""
    old = [head.id for head in every(connection, dataset)[kept:]]
    if old:
        connection.execute(delete(RESIDENCY_MAPS).where(RESIDENCY_MAPS.c.id.in_(old)))
