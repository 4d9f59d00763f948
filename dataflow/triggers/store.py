"""Registered flows and their triggers in the store: statements, as functions of a connection."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from sqlalchemy import Connection, delete, func, select, update

from cachefs.coordinator.store.datasets import full
from cachefs.coordinator.store.tables import FLOWS, TRIGGERS, VERSIONS
from cachefs.core.names import DatasetName
from cachefs.dataflow.spec.model import Value

Kind = Literal["cron", "event", "webhook"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerRow:
    """A trigger of a registered flow."""

    flow: str
    number: int
    """Its place among the flow's triggers."""
    kind: Kind
    spec: Mapping[str, Value]
    """What it waits for, rendered; of a webhook, the digest of its token."""
    position: int
    """How far it has looked: see :data:`~cachefs.coordinator.store.tables.TRIGGERS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A flow that something other than a person starts."""

    name: str
    document: str
    params: Mapping[str, Value]
    registered_at: float
    """Seconds since 1970."""
    triggers: tuple[TriggerRow, ...] = ()
    owner: str = ""
    """What a program that registered it wants to know it by again; empty for a person's."""


class NumberedVersion(NamedTuple):
    """A version of a dataset, and its place in the order in which they were found."""

    id: str
    number: int


def put(connection: Connection, flow: Registered) -> None:
    """Store a flow with its triggers, in place of what was registered under its name."""
    remove(connection, flow.name)
    connection.execute(
        FLOWS.insert().values(
            name=flow.name,
            document=flow.document,
            params=json.dumps(flow.params),
            registered_at=flow.registered_at,
            owner=flow.owner,
        )
    )
    for row in flow.triggers:
        connection.execute(
            TRIGGERS.insert().values(
                flow=row.flow,
                number=row.number,
                kind=row.kind,
                spec=json.dumps(row.spec, sort_keys=True),
                position=row.position,
            )
        )


def remove(connection: Connection, name: str) -> bool:
    """Forget a flow; ``False`` if it is not registered."""
    connection.execute(delete(TRIGGERS).where(TRIGGERS.c.flow == name))
    return connection.execute(delete(FLOWS).where(FLOWS.c.name == name)).rowcount == 1


def every(connection: Connection) -> tuple[Registered, ...]:
    """Return the registered flows, sorted by name."""
    rows = triggers(connection)
    return tuple(
        Registered(
            name=row.name,
            document=row.document,
            params=json.loads(row.params),
            registered_at=row.registered_at,
            triggers=tuple(one for one in rows if one.flow == row.name),
            owner=row.owner,
        )
        for row in connection.execute(select(FLOWS).order_by(FLOWS.c.name))
    )


def find(connection: Connection, name: str) -> Registered | None:
    """Return a registered flow, or ``None``."""
    row = connection.execute(select(FLOWS).where(FLOWS.c.name == name)).one_or_none()
    if row is None:
        return None
    return Registered(
        name=row.name,
        document=row.document,
        params=json.loads(row.params),
        registered_at=row.registered_at,
        triggers=triggers(connection, flow=name),
        owner=row.owner,
    )


def triggers(connection: Connection, *, flow: str = "") -> tuple[TriggerRow, ...]:
    """Return the triggers of a flow, or of all."""
    query = select(TRIGGERS).order_by(TRIGGERS.c.flow, TRIGGERS.c.number)
    if flow:
        query = query.where(TRIGGERS.c.flow == flow)
    return tuple(
        TriggerRow(
            flow=row.flow,
            number=row.number,
            kind=row.kind,
            spec=json.loads(row.spec),
            position=row.position,
        )
        for row in connection.execute(query)
    )


def move(connection: Connection, row: TriggerRow, position: int) -> None:
    """Note how far a trigger has looked; never back."""
    connection.execute(
        update(TRIGGERS)
        .where(
            TRIGGERS.c.flow == row.flow,
            TRIGGERS.c.number == row.number,
            TRIGGERS.c.position < position,
        )
        .values(position=position)
    )


def last_version(connection: Connection, dataset: DatasetName) -> int:
    """Return the number of a dataset's last version; 0 if it has none, or is not declared."""
    query = select(func.max(VERSIONS.c.number)).where(VERSIONS.c.dataset == full(dataset))
    return int(connection.execute(query).scalar() or 0)


def versions_after(
    connection: Connection, dataset: DatasetName, number: int, *, limit: int
) -> Sequence[NumberedVersion]:
    """Return the versions of a dataset that were found after one, the oldest first."""
    query = (
        select(VERSIONS.c.id, VERSIONS.c.number)
        .where(VERSIONS.c.dataset == full(dataset), VERSIONS.c.number > number)
        .order_by(VERSIONS.c.number)
        .limit(limit)
    )
    return [NumberedVersion(row.id, row.number) for row in connection.execute(query)]
