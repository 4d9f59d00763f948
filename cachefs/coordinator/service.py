"""The coordinator's service: everything that it can be asked, whoever asks.

The gRPC servicer and the HTTP API translate between their messages and these calls, and do nothing
else. The rules are here and in the modules that this one puts together: :mod:`.members`,
:mod:`.catalogue`, :mod:`.residency`, :mod:`.warming`, :mod:`.pools`, :mod:`.maps`.
"""

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection

from cachefs.config.schema import ClusterConfig, CoordinatorConfig
from cachefs.coordinator.answers import (
    BlockPlace,
    EvictedFiles,
    Explanation,
    MemberStatus,
    Renewal,
    Renewed,
)
from cachefs.coordinator.calls import (
    CALL_SECONDS,
    DEMOTE_SECONDS,
    Drained,
    Evicted,
    WorkerCalls,
)
from cachefs.coordinator.catalogue import Catalogue
from cachefs.coordinator.declaring import DatasetChange
from cachefs.coordinator.elastic.uses import Uses
from cachefs.coordinator.events import Events
from cachefs.coordinator.leading import Leadership
from cachefs.coordinator.listing import Lister, OpenOrigin
from cachefs.coordinator.maps import ResidencyMaps
from cachefs.coordinator.members import Members
from cachefs.coordinator.pools import Pools
from cachefs.coordinator.residency import Residency
from cachefs.coordinator.store import counters
from cachefs.coordinator.store import members as member_rows
from cachefs.coordinator.store.engine import Store
from cachefs.coordinator.warming import PLAIN, Warming, WarmOptions
from cachefs.core import placement
from cachefs.core.blocks import BlockId, FileVersionId, block_count, block_range
from cachefs.core.datasets import Dataset, Version
from cachefs.core.jobs import WarmJob
from cachefs.core.membership import Member
from cachefs.core.names import DatasetName, WorkerId, parse_path, printable
from cachefs.core.residency import Summary
from cachefs.core.tenants import Tenants
from cachefs.errors import (
    CacheFSError,
    ConfigError,
    ConflictError,
    LeaseExpiredError,
    NotKnownError,
    WorkerUnavailableError,
)
from cachefs.ports import Runtime
from cachefs.telemetry.metrics import Sample, by_label
from cachefs.transport.rounds import Rounds
from cachefs.wire.digests import digest_size

_LOG = logging.getLogger("cachefs.coordinator")
T = TypeVar("T")

_STATISTICS_BYTES_MAX = 256 * 1024
_FILES_PER_CALL = 1000
"""File versions that a worker is asked to let go of at once."""
_TICKS_PER_LEASE = 10
_TICK_SECONDS_MAX = 0.5


class Coordinator:
    """The service. Safe from any thread; its owner calls ``start`` once and ``close`` at the end."""

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        *,
        config: CoordinatorConfig,
        cluster: ClusterConfig,
        open_origin: OpenOrigin,
        calls: WorkerCalls,
    ) -> None:
        """Put the parts together, and load what is stored."""
        self._store = store
        self._runtime = runtime
        self._calls = calls
        self._residency_kept_seconds = config.residency_kept_seconds
        self.cluster = cluster
        self.events = Events(store, runtime, kept=config.events_kept)
        self.members = Members(store, runtime, cluster, self.events)
        self.uses = Uses(store, runtime)
        named = config.tenants
        lister = Lister(
            open_origin,
            config.origin,
            runtime,
            tenants=Tenants(named.trusted, named.sources, named.destinations),
            manifest_limit_bytes=config.manifest_limit_bytes,
        )
        self.catalogue = Catalogue(store, runtime, config, self.events, lister)
        self.residency = Residency(
            store,
            runtime,
            self.events,
            block_size=cluster.block_size,
            digest_size=digest_size(cluster.digest),
        )
        self.warming = Warming(
            store,
            runtime,
            config,
            cluster,
            events=self.events,
            catalogue=self.catalogue,
            residency=self.residency,
            calls=calls,
        )
        self.maps = ResidencyMaps(
            store,
            runtime,
            events=self.events,
            catalogue=self.catalogue,
            residency=self.residency,
            members=self.members,
        )
        self.pools = Pools(
            store,
            runtime,
            events=self.events,
            members=self.members,
            catalogue=self.catalogue,
            residency=self.residency,
        )
        self._leadership = Leadership(
            store, runtime, "warming", lease_seconds=cluster.lease_seconds
        )
        every = min(cluster.lease_seconds / _TICKS_PER_LEASE, _TICK_SECONDS_MAX)
        self._rounds = Rounds(runtime, "coordinator", self.tick, every_seconds=every)

    # ---- members ------------------------------------------------------------------------------

    def renew(self, renewal: Renewal) -> Renewed:
        """Take a worker's renewal, with all that it reports, in one transaction.

        Raises:
            LeaseExpiredError: It is no member any more.
            ConflictError: Another process took its place.
            ConfigError: What it reports makes no sense; nothing of it is stored.
        """
        worker = renewal.worker
        with self._store.write() as connection:
            statistics = _checked_statistics(renewal.statistics)
            if not member_rows.renew(connection, worker, renewal.incarnation, statistics):
                if member_rows.view(connection).find(worker) is not None:
                    raise ConflictError("another process took this worker's place", subject=worker)
                raise LeaseExpiredError("it is no member; register anew", subject=worker)
            live = self.catalogue.live(connection)
            pins = self.catalogue.pins.read(connection)
            want_residency = self.residency.store_report(
                connection, worker, renewal.residency, live, whole=renewal.residency_is_whole
            )
            self.warming.store_failures(connection, worker, renewal.failures)
            self._store_suspects(connection, worker, renewal.suspects)
            revisions = counters.read(connection)
        if renewal.residency or renewal.residency_is_whole:
            self.residency.refresh(worker)
        view = self.members.heard(worker, renewal.incarnation, revisions["epoch"])
        return Renewed(
            view if view.epoch != renewal.epoch else None,
            want_residency,
            pins if pins.revision != renewal.pins_revision else None,
            self.residency.foreign(worker, live, revisions["catalogue"]),
        )

    def member_statuses(self) -> tuple[MemberStatus, ...]:
        """Return all that is known of each member."""
        with self._store.read() as connection:
            statistics = member_rows.statistics(connection)
            suspects = member_rows.suspects(connection)
        statuses = []
        for member in self.members.view.members:
            suspect = suspects.get(member.worker)
            statuses.append(
                MemberStatus(
                    member,
                    json.loads(statistics.get(member.worker, "{}")),
                    0 if suspect is None else suspect.reports,
                    "" if suspect is None else suspect.reason,
                )
            )
        return tuple(statuses)

    def drain(self, worker: WorkerId, *, dry_run: bool) -> Drained:
        """Take away what a member owns and make it hand over what only it holds; or plan that.

        Called again, it says how far the worker is.

        Raises:
            NotKnownError: There is no such member.
            WorkerUnavailableError: It does not answer.
        """
        member = self.members.view.find(worker)
        if member is None:
            raise NotKnownError(
                "no such worker",
                subject=printable(worker),
                hint="`cachefs worker list` lists them",
            )
        if not dry_run:
            self.members.drain(worker)
        return self._calls.drain(member, dry_run=dry_run)

    # ---- datasets and files -------------------------------------------------------------------

    def change(self, name: DatasetName, change: DatasetChange) -> Dataset:
        """Change how a dataset is kept; the workers that it matters to hear of its pins at once.

        Whoever cannot be told now hears of them with its next renewal.

        Raises:
            NotKnownError: There is no such dataset or version.
            ConfigError: Something in the change is not acceptable.
        """
        dataset = self.catalogue.change(name, change)
        if change.touches_pins:
            self._tell_pins(dataset)
        return dataset

    def declare(self, dataset: Dataset) -> Dataset:
        """Make a dataset as it is declared here; workers hear of its pins as when it is changed.

        Raises:
            ConfigError: Something in the declaration is not acceptable.
            ConflictError: There is a namespace of that name; or the pool is exclusive to another one.
            OriginError: The origin cannot be listed; nothing has changed then.
        """
        declared = self.catalogue.declare(dataset)
        self._tell_pins(declared)
        return declared

    def _tell_pins(self, dataset: Dataset) -> None:
        try:
            self._push_pins(dataset)
        except CacheFSError as error:
            _LOG.warning("workers hear of pins later", extra={"failure": str(error)})

    def _push_pins(self, dataset: Dataset) -> None:
        _, summary = self.summary(dataset.name, dataset.current)
        holding = {share.worker for share in summary.shares}
        members = [
            member
            for member in self.members.view.members
            if member.worker in holding or member.pool == dataset.pool
        ]
        with self._store.read() as connection:
            pins = self.catalogue.pins.read(connection)
        self._ask_all(members, lambda member: self._calls.pin(member, pins))

    def digests(self, file_version: FileVersionId) -> list[bytes | None]:
        """Return the known digests of a file version's blocks.

        Raises:
            NotKnownError: No dataset has it.
        """
        with self._store.read() as connection:
            size = self.catalogue.live(connection).get(file_version)
        if size is None:
            raise NotKnownError("no such file version", subject=printable(file_version))
        return self.residency.digests(file_version, size)

    def summary(self, name: DatasetName, version: str | None) -> tuple[Version, Summary]:
        """Return how much of a version is resident, and where."""
        chosen = self._chosen(name, version)
        manifest = self.catalogue.manifest(chosen.id)
        sizes = {entry.file_version: entry.size for entry in manifest.files}
        return chosen, self.residency.summary(sizes, self.members.view)

    def explain(
        self, name: DatasetName, version: str | None, path: str, *, first: int = 0, limit: int
    ) -> Explanation:
        """Return where the blocks of a file are, from block ``first`` on, at most ``limit``.

        Raises:
            NotKnownError: There is no such dataset, version or file.
        """
        chosen = self._chosen(name, version)
        dataset = self.catalogue.get(name)
        entry = self.catalogue.manifest(chosen.id).find(parse_path(path))
        view = self.members.view
        digests = self.residency.digests(entry.file_version, entry.size)
        holdings = self.residency.holders(entry.file_version, view)
        blocks = []
        size = self.cluster.block_size
        for index in range(first, min(first + limit, block_count(entry.size, size))):
            owners = placement.owners(
                BlockId(entry.file_version, index),
                view.members,
                pool=dataset.pool,
                replicas=dataset.replicas,
            )
            blocks.append(
                BlockPlace(
                    index,
                    block_range(index, entry.size, size).length,
                    tuple(owner.worker for owner in owners),
                    tuple((held.worker, held.tier) for held in holdings if held.mask >> index & 1),
                    digests[index] is not None,
                )
            )
        accounts, unreachable = self._ask_all(
            view.members, lambda member: self._calls.explain(member, entry.file_version)
        )
        return Explanation(
            chosen,
            entry,
            tuple(blocks),
            _added(account.served_bytes for account in accounts),
            _added(account.filled_bytes for account in accounts),
            unreachable,
        )

    def warm(
        self,
        name: DatasetName,
        version: str | None,
        paths: Sequence[str],
        options: WarmOptions = PLAIN,
    ) -> WarmJob:
        """Ask for files of a version to be filled, or for the blocks of a residency map.

        Raises:
            NotKnownError: There is no such dataset, version, path or map.
            CapacityError: Too many jobs wait already.
        """
        if options.map:
            head = self.maps.find(name, options.map)
            options = options._replace(map=head.id)
            version = version or head.version
        self.uses.note(name)
        return self.warming.start(name, version, paths, options)

    def evict(self, name: DatasetName, version: str | None, paths: Sequence[str]) -> EvictedFiles:
        """Make all members drop the blocks of some files of a version; of all for no paths.

        Raises:
            NotKnownError: There is no such dataset, version or path.
        """
        manifest = self.catalogue.manifest(self._chosen(name, version).id)
        chosen = {entry.file_version: entry.path for entry in manifest.chosen(paths)}
        file_versions = tuple(chosen)
        answers: list[Evicted]
        answers, unreachable = self._ask_all(
            self.members.view.members, lambda member: self._calls.evict(member, file_versions)
        )
        refused = {chosen[one] for answer in answers for one in answer.refused if one in chosen}
        size = sum(answer.size for answer in answers)
        with self._store.write() as connection:
            self.events.record(connection, "evicted", name, f"{size} bytes on request")
        return EvictedFiles(size, tuple(sorted(refused)), unreachable)

    def let_go(
        self,
        name: DatasetName,
        file_versions: Sequence[FileVersionId],
        *,
        only_memory: bool,
        reason: str,
    ) -> int:
        """Make all members evict file versions of an idle dataset, or bring them from memory to disk.

        Returns the bytes that were freed.
        """
        size = 0
        for at in range(0, len(file_versions), _FILES_PER_CALL):
            part = file_versions[at : at + _FILES_PER_CALL]
            answers, _ = self._ask_all(
                self.members.view.members,
                partial(self._calls.evict, file_versions=part, only_memory=only_memory),
                seconds=DEMOTE_SECONDS if only_memory else CALL_SECONDS,
            )
            size += sum(answer.size for answer in answers)
        if size:
            done = "went from memory to disk" if only_memory else "were evicted"
            with self._store.write() as connection:
                kind = "idle-demoted" if only_memory else "idle-evicted"
                self.events.record(connection, kind, name, f"{size} bytes {done}: {reason}")
        return size

    # ---- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to tick in a thread of its own."""
        self._rounds.start()

    def tick(self) -> None:
        """Follow the store, let leases run out, and bring warm-ups further if we lead."""
        view = self.members.tick()
        self.residency.refresh()
        if self._leadership.tick():
            self.warming.tick(view)
            self.residency.forget_gone(kept_seconds=self._residency_kept_seconds)

    def close(self) -> None:
        """End the ticking, and what it has started."""
        self._rounds.close(wait_seconds=5.0)
        self.warming.close(wait_seconds=1.0)
        self.catalogue.close()
        try:
            self._leadership.resign()
        except CacheFSError as error:
            _LOG.warning("another must wait to lead", extra={"failure": str(error)})

    def samples(self) -> Iterable[Sample]:
        """Yield what is measured, for the metrics."""
        view = self.members.view
        yield "cachefs_coordinator_members", (), len(view.members)
        yield "cachefs_coordinator_epoch", (), view.epoch
        yield "cachefs_coordinator_datasets", (), self.catalogue.count()
        yield from by_label("cachefs_coordinator_warm_jobs", self.warming.counts())
        with self._store.read() as connection:
            live = self.catalogue.live(connection)
            suspicions = member_rows.suspicion_count(connection)
        resident = self.residency.resident_bytes(live, view)
        yield "cachefs_coordinator_resident_bytes", (), resident
        yield "cachefs_coordinator_suspicions_total", (), suspicions

    def _chosen(self, name: DatasetName, version: str | None) -> Version:
        """Return a version without listing the origin: the question is about what is here."""
        if version is not None:
            return self.catalogue.resolve(name, version).version
        current = self.catalogue.get(name).current
        if current is None:
            raise NotKnownError("it has no version yet", subject=str(name))
        return self.catalogue.resolve(name, current).version

    def _store_suspects(
        self, connection: Connection, reporter: WorkerId, suspects: Sequence[WorkerId]
    ) -> None:
        known = {member.worker for member in self.members.view.members}
        for worker in sorted(set(suspects) & known):
            reason = f"{reporter} found that it served bad bytes"
            member_rows.suspect(connection, worker, at=self._runtime.wall(), reason=reason)
            self.events.record(connection, "worker-suspected", worker, reason)

    def _ask_all(
        self,
        members: Sequence[Member],
        ask: Callable[[Member], T],
        *,
        seconds: float = CALL_SECONDS,
    ) -> tuple[list[T], tuple[WorkerId, ...]]:
        """Ask members at once; return their answers, and who gave none."""
        answers: list[T] = []
        unreachable: list[WorkerId] = []

        def ask_one(member: Member) -> None:
            try:
                answers.append(ask(member))
            except CacheFSError as error:
                unreachable.append(member.worker)
                _LOG.warning(
                    "a worker gave no answer",
                    extra={"worker": member.worker, "failure": str(error)},
                )

        tasks = [
            self._runtime.start(f"ask-{member.worker}", partial(ask_one, member))
            for member in members
        ]
        for task in tasks:
            if not task.join(2 * seconds):
                raise WorkerUnavailableError("a worker neither answered nor failed")
        return answers, tuple(sorted(unreachable))


def _added(counts: Iterable[Any]) -> dict[str, int]:  # Any: mappings of numbers
    totals: dict[str, int] = {}
    for count in counts:
        for source, size in count.items():
            totals[source] = totals.get(source, 0) + size
    return totals


def _checked_statistics(text: str) -> str:
    if len(text) > _STATISTICS_BYTES_MAX:
        raise ConfigError("a worker's statistics are too long")
    try:
        document = json.loads(text or "{}")
    except ValueError as error:
        raise ConfigError("a worker's statistics are not JSON") from error
    if not isinstance(document, dict):
        raise ConfigError("a worker's statistics are not an object")
    return text
