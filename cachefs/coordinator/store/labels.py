"""Labels of versions in the store."""

import json
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, delete, select

from cachefs.coordinator.store.datasets import full
from cachefs.coordinator.store.tables import LABELS
from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName


class Label(NamedTuple):
    """Another name of a version."""

    name: str
    version: VersionId
    origin: OriginSpec
    """Where the version was listed, as somebody wrote it."""


def put(connection: Connection, dataset: DatasetName, label: Label) -> None:
    """Give a version a label; another version that has it loses it."""
    connection.execute(
        delete(LABELS).where(LABELS.c.dataset == full(dataset), LABELS.c.label == label.name)
    )
    connection.execute(
        LABELS.insert().values(
            dataset=full(dataset),
            label=label.name,
            version=label.version,
            url=label.origin.url,
            options=json.dumps(dict(label.origin.options)),
        )
    )


def find(connection: Connection, dataset: DatasetName, name: str) -> Label | None:
    """Return a label, or ``None``."""
    query = select(LABELS).where(LABELS.c.dataset == full(dataset), LABELS.c.label == name)
    row = connection.execute(query).one_or_none()
    return None if row is None else _label(row)


def of_version(connection: Connection, dataset: DatasetName, version: VersionId) -> Label | None:
    """Return a label of a version, the first by its name; ``None`` if it has none."""
    query = (
        select(LABELS)
        .where(LABELS.c.dataset == full(dataset), LABELS.c.version == version)
        .order_by(LABELS.c.label)
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else _label(row)


def every(connection: Connection, dataset: DatasetName) -> tuple[Label, ...]:
    """Return a dataset's labels, sorted."""
    query = select(LABELS).where(LABELS.c.dataset == full(dataset)).order_by(LABELS.c.label)
    return tuple(_label(row) for row in connection.execute(query))


def _label(row: Row[Any]) -> Label:
    return Label(row.label, row.version, OriginSpec(row.url, json.loads(row.options)))
