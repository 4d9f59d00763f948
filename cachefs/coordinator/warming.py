"""Warming: bringing the workers to hold what warm-ups want.

Theory of operation. A warm-up is a row in the store, and the world is what workers report of their
residency. On each tick the leading coordinator compares the two (:mod:`cachefs.core.jobs`) and tells
each worker its whole share of the job: when the share has changed, when the worker's process is a
new one, and again, at growing intervals, when the worker lacks blocks and gets no further. Telling
a worker twice does no harm. So nothing but the job itself must survive a crash, and a retryable
failure of a fill needs no bookkeeping: the worker is told again.

A job ends when a plan finds everything resident, when a worker reports that a wanted block cannot be
filled, when it has come no further for ``warm_stall_seconds``, or when somebody cancels it. Then the
workers are told to forget it (an empty share), and the row is marked as released. To come further is
to lack fewer blocks than ever before: one whose blocks are evicted or expire as fast as they are
filled would else cost the origin bytes for ever. Members that change, or begin anew, begin the count anew.

Calls to workers run in threads of their own, one a worker at a time: a worker that is slow to answer
holds up nobody else.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from sqlalchemy import Connection

from cachefs.config.schema import ClusterConfig, CoordinatorConfig
from cachefs.coordinator.catalogue import Catalogue
from cachefs.coordinator.events import Events
from cachefs.coordinator.residency import Residency
from cachefs.coordinator.store import counters
from cachefs.coordinator.store import jobs as rows
from cachefs.coordinator.store import maps as map_rows
from cachefs.coordinator.store.engine import Store
from cachefs.core.blocks import FileVersionId
from cachefs.core.datasets import Dataset
from cachefs.core.jobs import (
    Assignment,
    Plan,
    State,
    Wanted,
    WantedFile,
    WarmJob,
    advance,
    assign,
    block_seconds,
    end,
    rate_shares,
    total,
)
from cachefs.core.manifest import VersionId
from cachefs.core.membership import Member, View
from cachefs.core.names import DatasetName, WorkerId, printable
from cachefs.errors import CacheFSError, CapacityError, DeadlineError, NotKnownError
from cachefs.ports import Runtime
from cachefs.wire import failures

_LOG = logging.getLogger("cachefs.coordinator")

_JOBS_KEPT = 1000
"""Jobs that are over stay listed, the newest so many of them."""
_JOBS_QUEUED_LIMIT = 1000
"""More jobs than this must not wait."""
_RETRY_SECONDS = 1.0
"""A worker that could not be told is called again after so long."""
_RESEND_FACTOR_MAX = 16
"""The interval between two tellings of the same share doubles until it is so many times longer."""


class WarmOptions(NamedTuple):
    """What else a warm-up is told, as :class:`~cachefs.core.jobs.WarmJob` has it."""

    key: str = ""
    zone: str = ""
    copies: int = 0
    rate: int = 0
    map: str = ""
    workers: tuple[str, ...] = ()


PLAIN = WarmOptions()
"""Nothing else."""


class WarmCalls(Protocol):
    """How a worker is told."""

    def warm(
        self, member: Member, job: WarmJob, wanted: Mapping[FileVersionId, int], *, rate: int
    ) -> None:
        """Tell a worker its whole share of a job, and at how many bytes a second to fill it.

        Raises:
            CacheFSError: It could not be told.
        """
        ...


@dataclass(frozen=True, slots=True)
class FailedFill:
    """A wanted block that a worker could not fill."""

    dataset: DatasetName
    version: VersionId
    file_version: FileVersionId
    index: int
    failure: CacheFSError


@dataclass
class _Told:
    """What a worker was last told of a job, and how it has come on since."""

    incarnation: str
    wanted: Wanted
    missing: int
    moved_at: float
    """When it was told, or when it last made progress."""
    factor: int = 1


@dataclass
class _Running:
    """What is computed of a job, to be computed again only when something has changed."""

    files: tuple[WantedFile, ...]
    assigned_for: tuple[object, ...] = ()
    assignment: Assignment = field(default_factory=lambda: Assignment({}, owned=False))
    planned_for: tuple[object, ...] = ()
    plan: Plan = field(default_factory=lambda: Plan(0, 0))
    rated_for: tuple[object, ...] = ()
    rates: dict[WorkerId, int] = field(default_factory=dict)
    told: dict[WorkerId, _Told] = field(default_factory=dict)
    retry_at: dict[WorkerId, float] = field(default_factory=dict)
    """When a worker that could not be told is called again."""
    refused: CapacityError | None = None
    """A worker's answer that its share of the assignment does not fit."""
    first_assigned_for: tuple[object, ...] = ()
    settled_for: tuple[object, ...] = ()
    """The members, their incarnations and what else the shares depend on."""
    unsettled_until: float = 0.0
    """That has just changed, and what who holds is not known before."""
    fewest: int | None = None
    """So many blocks were missing when the job had come furthest."""
    moved_at: float = 0.0
    """When that was."""


class Warming:
    """The warm-ups. ``tick`` is called by one thread; the rest is safe from any."""

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        config: CoordinatorConfig,
        cluster: ClusterConfig,
        *,
        events: Events,
        catalogue: Catalogue,
        residency: Residency,
        calls: WarmCalls,
    ) -> None:
        """Work on what is stored."""
        self._store = store
        self._runtime = runtime
        self._config = config
        self._block_size = cluster.block_size
        self._lease_seconds = cluster.lease_seconds
        self._events = events
        self._catalogue = catalogue
        self._residency = residency
        self._calls = calls
        self._running: dict[str, _Running] = {}
        self._turn = runtime.condition()
        self._busy: set[WorkerId] = set()

    # ---- jobs ---------------------------------------------------------------------------------

    def start(
        self,
        name: DatasetName,
        version: str | None,
        paths: Sequence[str],
        options: WarmOptions = PLAIN,
    ) -> WarmJob:
        """Ask for files of a version to be filled; returns at once.

        Raises:
            NotKnownError: There is no such dataset, version, path or map.
            CapacityError: Too many jobs wait already.
        """
        if options.key:
            with self._store.read() as connection:
                asked_before = rows.find_active(connection, options.key)
            if asked_before is not None:
                return asked_before
        resolved = self._catalogue.resolve(name, version)
        wanted = self._files(resolved.version.id, paths, options.map)
        blocks, size = total(wanted, block_size=self._block_size)
        job = WarmJob(
            id=f"{self._runtime.random.getrandbits(64):016x}",
            dataset=name,
            version=resolved.version.id,
            paths=tuple(paths),
            **options._asdict(),
            bytes_total=size,
            blocks_total=blocks,
            created_at=self._runtime.wall(),
        )
        with self._store.write() as connection:
            if options.key:
                counters.add(connection, "pools")  # of two with one key, one comes first
                asked_before = rows.find_active(connection, options.key)
                if asked_before is not None:
                    return asked_before
            if len(rows.unreleased(connection)) >= _JOBS_QUEUED_LIMIT:
                raise CapacityError("too many warm-ups wait", hint="cancel some of them")
            rows.add(connection, job)
            rows.trim(connection, kept=_JOBS_KEPT)
            self._events.record(
                connection, "warm-started", job.id, f"{name}: {blocks} blocks, {size} bytes"
            )
        return job

    def get(self, job: str) -> WarmJob:
        """Return a job.

        Raises:
            NotKnownError: There is none of that id.
        """
        with self._store.read() as connection:
            found = rows.find(connection, job)
        if found is None:
            raise NotKnownError("no such warm-up", subject=printable(job))
        return found

    def every(self, *, limit: int) -> tuple[WarmJob, ...]:
        """Return the newest jobs, the newest first."""
        with self._store.read() as connection:
            return rows.every(connection, limit=limit)

    def cancel(self, job: str) -> WarmJob:
        """End a job; what it has filled stays. One that has ended stays as it is.

        Raises:
            NotKnownError: There is none of that id.
        """
        with self._store.write() as connection:
            found = rows.find(connection, job)
            if found is None:
                raise NotKnownError("no such warm-up", subject=printable(job))
            return self._end(connection, found, "cancelled")

    def store_failures(
        self, connection: Connection, worker: WorkerId, failed: Iterable[FailedFill]
    ) -> None:
        """End the jobs that want a block which, as a worker reports, cannot be filled."""
        permanent = [one for one in failed if not one.failure.retryable]
        if not permanent:
            return
        jobs = [job for job in rows.unreleased(connection) if job.active]
        for one in permanent:
            for job in jobs:
                if (job.dataset, job.version) == (one.dataset, one.version) and any(
                    one.file_version == file.file_version
                    for file in self._files(job.version, job.paths, "")
                ):
                    where = f"{worker} cannot fill block {one.index} of {one.file_version}"
                    self._end(connection, job, "failed", one.failure, where)

    def counts(self) -> dict[str, int]:
        """Return how many jobs are waiting and running."""
        counts = {"waiting": 0, "running": 0}
        with self._store.read() as connection:
            for job in rows.unreleased(connection):
                if job.active:
                    counts[job.state] += 1
        return counts

    # ---- the reconciling ----------------------------------------------------------------------

    def tick(self, view: View) -> None:
        """Bring every job one step further."""
        with self._store.read() as connection:
            jobs = rows.unreleased(connection)
        for gone in self._running.keys() - {job.id for job in jobs}:
            del self._running[gone]
        running = 0
        for job in jobs:
            if not job.active:
                self._release(job, view)
            elif running < self._config.warm_jobs_limit:
                running += 1
                self._reconcile(job, view)

    def _reconcile(self, job: WarmJob, view: View) -> None:
        now = self._runtime.monotonic()
        try:
            state = self._running.get(job.id)
            if state is None:
                state = _Running(self._files(job.version, job.paths, job.map), moved_at=now)
                self._running[job.id] = state
            dataset = self._catalogue.get(job.dataset)
        except NotKnownError as error:
            self._fail(job, error)
            return
        if job.state == "waiting":
            running = replace(job, state="running", started_at=self._runtime.wall())
        else:
            running = job
        self._assign(job, state, view, dataset)
        planned_for = (state.assigned_for, self._residency.revision)
        if state.planned_for != planned_for:
            state.plan = self._residency.plan(state.files, state.assignment)
            state.planned_for = planned_for
            if state.rated_for != state.assigned_for:
                state.rates = rate_shares(job.rate, state.assignment, state.plan.missing)
                state.rated_for = state.assigned_for
        self._measure(state, view, now)
        advanced = advance(running, state.plan, wall=self._runtime.wall())
        if advanced != job:
            self._save(advanced)
        if advanced.active:
            # A share that grew because a member is away shrinks when it returns; then no job fails.
            if state.refused is not None and state.assigned_for == state.first_assigned_for:
                self._fail(advanced, state.refused)
                return
            self._tell_all(advanced, state, view, now)
            self._give_up_if_stalled(advanced, state, now)

    def _assign(self, job: WarmJob, state: _Running, view: View, dataset: Dataset) -> None:
        pool, replicas = dataset.pool, job.copies or dataset.replicas
        members = tuple(member for member in view.members if member.pool == pool)
        # Incarnations and addresses do not take part: a worker that returns owns what it owned.
        shape = tuple((one.worker, one.zone, one.weight, one.draining) for one in members)
        assigned_for = (shape, pool, replicas)
        if state.assigned_for != assigned_for:
            state.assignment = assign(
                state.files,
                members,
                pool=pool,
                replicas=replicas,
                block_size=self._block_size,
                zone=job.zone,
                workers=job.workers,
            )
            state.assigned_for = assigned_for
            state.first_assigned_for = state.first_assigned_for or assigned_for
            state.refused = None

    def _measure(self, state: _Running, view: View, now: float) -> None:
        """Note whether a job has come further."""
        incarnations = tuple(member.incarnation for member in view.members)
        settled_for = (state.assigned_for, incarnations)
        if state.settled_for != settled_for:
            state.settled_for, state.unsettled_until = settled_for, now + self._lease_seconds
        missing = sum(state.plan.missing.values())
        if missing == state.fewest:
            return
        if state.fewest is None or missing < state.fewest or now < state.unsettled_until:
            state.fewest, state.moved_at = missing, now

    def _tell_all(self, job: WarmJob, state: _Running, view: View, now: float) -> None:
        for member in view.members:
            wanted = dict(state.assignment.by_worker.get(member.worker, {}))
            told = state.told.get(member.worker)
            missing = state.plan.missing.get(member.worker, 0)
            if told is None and not wanted:
                continue
            if now < state.retry_at.get(member.worker, 0.0):
                continue
            if told is not None and told.incarnation == member.incarnation:
                if told.missing != missing:
                    told.missing, told.moved_at, told.factor = missing, now, 1
                pace = block_seconds(state.rates.get(member.worker, 0), self._block_size)
                patience = self._config.warm_resend_seconds * told.factor + pace
                stuck = missing > 0 and now - told.moved_at >= patience
                if told.wanted == wanted and not stuck:
                    continue
                if told.wanted == wanted:
                    told.factor = min(2 * told.factor, _RESEND_FACTOR_MAX)
                    told.moved_at = now
                    self._residency.doubt(member.worker)
            self._tell(job, state, member, wanted, missing, state.rates.get(member.worker, 0))

    def _tell(  # noqa: PLR0917 - one call, with all that it says
        self, job: WarmJob, state: _Running, member: Member, wanted: Wanted, missing: int, rate: int
    ) -> bool:
        """Call a worker from a thread, unless it is being called already: the next tick tries again."""
        with self._turn:
            if member.worker in self._busy:
                return False
            self._busy.add(member.worker)

        def call() -> None:
            try:
                self._calls.warm(member, job, wanted, rate=rate)
                before = state.told.get(member.worker)
                state.told[member.worker] = _Told(
                    member.incarnation,
                    wanted,
                    missing,
                    self._runtime.monotonic(),
                    before.factor if before is not None and before.wanted == wanted else 1,
                )
            except CacheFSError as error:
                if isinstance(error, CapacityError):
                    state.refused = CapacityError(
                        error.message, subject=member.worker, hint=error.hint
                    )
                state.retry_at[member.worker] = self._runtime.monotonic() + _RETRY_SECONDS
                _LOG.warning(
                    "a worker was not told of a warm-up",
                    extra={"worker": member.worker, "job": job.id, "failure": str(error)},
                )
            finally:
                with self._turn:
                    self._busy.discard(member.worker)
                    self._turn.notify_all()

        self._runtime.start(f"warm-{member.worker}", call)
        return True

    def _release(self, job: WarmJob, view: View) -> None:
        """Tell every member to forget a job; once that was tried with all, the job is over."""
        state = self._running.pop(job.id, None) or _Running(())
        told = [self._tell(job, state, member, {}, 0, 0) for member in view.members]
        if all(told):
            with self._store.write() as connection:
                rows.release(connection, job.id)

    def _give_up_if_stalled(self, job: WarmJob, state: _Running, now: float) -> None:
        slowest = block_seconds(min(state.rates.values(), default=0), self._block_size)
        if now - state.moved_at < self._config.warm_stall_seconds + slowest:
            return
        if state.refused is not None:
            self._fail(job, state.refused)
            return
        if state.assignment.owned:
            lacks = ", ".join(f"{worker} lacks {n}" for worker, n in state.plan.missing.items())
            message = f"no progress for {self._config.warm_stall_seconds:g} s: {lacks}"
        else:
            message = "there is no worker in the dataset's pool"
        self._fail(job, DeadlineError(message, subject=str(job.dataset)))

    def _save(self, job: WarmJob) -> None:
        with self._store.write() as connection:
            if rows.save(connection, job) and job.state == "done":
                self._events.record(
                    connection, "warm-done", job.id, f"{job.dataset}: {job.bytes_total} bytes"
                )

    def _fail(self, job: WarmJob, error: CacheFSError) -> None:
        with self._store.write() as connection:
            self._end(connection, job, "failed", error)

    def _end(
        self,
        connection: Connection,
        job: WarmJob,
        state: State,
        error: CacheFSError | None = None,
        where: str = "",
    ) -> WarmJob:
        failure = "" if error is None else failures.encode(error).decode()
        ended = end(job, state, wall=self._runtime.wall(), failure=failure)
        if ended is not job and rows.save(connection, ended):
            message = ": ".join(str(part) for part in (job.dataset, where, error) if part)
            self._events.record(connection, f"warm-{state}", job.id, message)
        return ended

    def _files(
        self, version: VersionId, paths: Sequence[str], map_id: str
    ) -> tuple[WantedFile, ...]:
        manifest = self._catalogue.manifest(version)
        only: Mapping[FileVersionId, int] | None = None
        if map_id:
            with self._store.read() as connection:
                only = map_rows.masks(connection, map_id)
            if only is None:
                raise NotKnownError("no such residency map", subject=printable(map_id))
        found: dict[FileVersionId, WantedFile] = {}
        for entry in manifest.chosen(paths):
            mask = None if only is None else only.get(entry.file_version, 0)
            if mask != 0:
                found[entry.file_version] = WantedFile(entry.file_version, entry.size, mask)
        return tuple(found.values())

    def close(self, *, wait_seconds: float) -> None:
        """Wait a little for calls under way."""
        deadline = self._runtime.monotonic() + wait_seconds
        with self._turn:
            while self._busy:
                left = deadline - self._runtime.monotonic()
                if left <= 0:
                    return
                self._turn.wait(left)
