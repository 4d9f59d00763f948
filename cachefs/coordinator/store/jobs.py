"""Warm-ups in the store."""

import json
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from cachefs.coordinator.store.datasets import full
from cachefs.coordinator.store.tables import WARM_JOBS
from cachefs.core.jobs import ACTIVE, WarmJob
from cachefs.core.names import DatasetName


def add(connection: Connection, job: WarmJob) -> None:
    """Store a new job."""
    connection.execute(WARM_JOBS.insert().values(released=False, **_columns(job)))


def save(connection: Connection, job: WarmJob) -> bool:
    """Store a job's new state unless it has ended meanwhile; say whether it was stored."""
    changed = connection.execute(
        update(WARM_JOBS)
        .where(WARM_JOBS.c.id == job.id, WARM_JOBS.c.state.in_(ACTIVE))
        .values(**_columns(job))
    )
    return changed.rowcount == 1


def find(connection: Connection, job: str) -> WarmJob | None:
    """Return a job, or ``None``."""
    row = connection.execute(select(WARM_JOBS).where(WARM_JOBS.c.id == job)).one_or_none()
    return None if row is None else _job(row)


def find_active(connection: Connection, key: str) -> WarmJob | None:
    """Return the job that was asked for with a key and has not ended, or ``None``."""
    query = select(WARM_JOBS).where(WARM_JOBS.c.key == key, WARM_JOBS.c.state.in_(ACTIVE))
    row = connection.execute(query.limit(1)).one_or_none()
    return None if row is None else _job(row)


def every(connection: Connection, *, limit: int) -> tuple[WarmJob, ...]:
    """Return the newest jobs, the newest first."""
    query = select(WARM_JOBS).order_by(WARM_JOBS.c.created_at.desc(), WARM_JOBS.c.id).limit(limit)
    return tuple(_job(row) for row in connection.execute(query))


def unreleased(connection: Connection) -> tuple[WarmJob, ...]:
    """Return the jobs that workers may know of, the oldest first: active ones, and the just ended."""
    query = (
        select(WARM_JOBS)
        .where(WARM_JOBS.c.released.is_(False))
        .order_by(WARM_JOBS.c.created_at, WARM_JOBS.c.id)
    )
    return tuple(_job(row) for row in connection.execute(query))


def release(connection: Connection, job: str) -> None:
    """Note that the workers were told to forget a job."""
    connection.execute(update(WARM_JOBS).where(WARM_JOBS.c.id == job).values(released=True))


def trim(connection: Connection, *, kept: int) -> None:
    """Delete all but the newest of the jobs that are over."""
    over = select(WARM_JOBS.c.id).where(WARM_JOBS.c.released.is_(True))
    old = over.order_by(WARM_JOBS.c.created_at.desc(), WARM_JOBS.c.id).offset(kept).limit(1000)
    ids = list(connection.execute(old).scalars())
    if ids:
        connection.execute(delete(WARM_JOBS).where(WARM_JOBS.c.id.in_(ids)))


def _columns(job: WarmJob) -> dict[str, Any]:
    return {
        "id": job.id,
        "dataset": full(job.dataset),
        "version": job.version,
        "paths": json.dumps(job.paths),
        "state": job.state,
        "bytes_total": job.bytes_total,
        "blocks_total": job.blocks_total,
        "bytes_done": job.bytes_done,
        "blocks_done": job.blocks_done,
        "failure": job.failure,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "key": job.key,
        "zone": job.zone,
        "copies": job.copies,
        "rate": job.rate,
        "map": job.map,
        "workers": " ".join(job.workers),
    }


def _job(row: Row[Any]) -> WarmJob:
    return WarmJob(
        id=row.id,
        dataset=DatasetName.parse(row.dataset),
        version=row.version,
        paths=tuple(json.loads(row.paths)),
        state=row.state,
        bytes_total=row.bytes_total,
        blocks_total=row.blocks_total,
        bytes_done=row.bytes_done,
        blocks_done=row.blocks_done,
        failure=row.failure,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        key=row.key,
        zone=row.zone,
        copies=row.copies,
        rate=row.rate,
        map=row.map,
        workers=tuple(row.workers.split()),
    )
