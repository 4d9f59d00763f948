"""The real coordinator in a simulated cluster, on a database that outlives its process.

The service, its servicer and all its rules are the real ones, on SQLite in a temporary folder. What is
simulated is the process around them and the way to the workers. A kill ends the process wherever it
waits, and rolls back the transaction that it is in; the next start finds what was committed.

SQLite would block the one thread that all tasks share, so :class:`SimStore` lets one task write at a
time, and nobody lose a turn within a transaction.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection

from cachefs.config.schema import CoordinatorConfig
from cachefs.coordinator.calls import WorkerCalls
from cachefs.coordinator.control import CoordinatorServicer
from cachefs.coordinator.declaring import DatasetChange
from cachefs.coordinator.service import Coordinator
from cachefs.coordinator.store.engine import Store
from cachefs.core.datasets import Dataset
from cachefs.core.jobs import WarmJob
from cachefs.core.membership import Member, View
from cachefs.core.names import WorkerId
from cachefs.errors import WorkerUnavailableError, check
from cachefs.ports import FileRef, Origin, ResolvedVersion
from cachefs.testing.simulation.processes.worker import TOKEN, Surroundings
from cachefs.testing.simulation.topology import ClusterPlan
from cachefs.testing.simulation.world.control import COORDINATOR, DATASET, SimChannel
from cachefs.testing.simulation.world.runtime import SimRuntime
from cachefs.transport.control import ControlChannel
from cachefs.wire import digests
from cachefs.wire.proto import cachefs_pb2 as pb
from cachefs.wire.proto import cachefs_pb2_grpc as rpc

STALL_SECONDS = 60.0
"""A warm-up without progress for so long has failed."""
RESEND_SECONDS = 2.0
"""A worker without progress is told again after so long."""
JOBS_LIMIT = 1000
"""More warm-ups than any run starts."""


class SimStore(Store):
    """A store whose transactions do not interleave in a way that would block the only thread."""

    def __init__(self, path: Path, world: SimRuntime) -> None:
        """Begin with an empty database of the newest schema."""
        self._world = world
        self._writing = False
        path.write_bytes(_empty_database())
        super().__init__(f"sqlite:///{path}")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads."""
        with self._world.uninterrupted(), super().read() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction, when nobody else has one that writes."""
        while self._writing:
            self._world.sleep(0.001)
        self._writing = True
        try:
            with self._world.uninterrupted(), super().write() as connection:
                yield connection
        finally:
            self._writing = False

    def _migrate(self) -> None:
        """Do nothing: the schema is there."""


@cache
def _empty_database() -> bytes:
    """Return a database without anything in it; making its schema takes longer than a run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        store = Store(f"sqlite:///{path}")
        with store.read() as connection:
            raw = cast("Any", connection.connection.driver_connection)
            data: bytes = raw.serialize()
        store.close()
    return data


class SimCalls(WorkerCalls):
    """Calls to workers over the simulated network."""

    def __init__(self, process: SimRuntime, around: Surroundings) -> None:
        """Belong to the coordinator's process."""
        super().__init__(process, TOKEN)
        self._process = process
        self._around = around

    def _stub(self, member: Member) -> tuple[ControlChannel, rpc.WorkerStub]:
        around, address = self._around, member.control_address
        channel = SimChannel(self._process, around.network, around.directory, address)
        stub = rpc.WorkerStub(channel)  # type: ignore[no-untyped-call]  # generated
        return cast("ControlChannel", channel), stub


class StoredCoordinator:
    """Implements :class:`.coordinator.Coordinating`."""

    def __init__(self, plan: ClusterPlan, around: Surroundings) -> None:
        """Declare the dataset, as version 1 what the origin holds."""
        self._plan = plan
        self._around = around
        self._folder = tempfile.TemporaryDirectory()
        self._store = SimStore(Path(self._folder.name) / "store.db", around.world)
        self.process: SimRuntime | None = None
        self._servicer: CoordinatorServicer | None = None
        self._other = self._open(around.world)
        """Another one on the same store, which is never started: people ask it, whoever is dead."""
        self._service = self._other
        dataset = Dataset(
            name=DATASET,
            origin=around.origin.spec,
            replicas=plan.replicas,
            pins=plan.pins,
            versions_kept=plan.versions_kept,
            ttl_seconds=plan.ttl_seconds or None,
        )
        checksums = {
            entry.path: entry.digest for entry in around.origin.manifest().files if entry.digest
        }
        self._other.catalogue.add(dataset, checksums)

    def _open(self, process: SimRuntime) -> Coordinator:
        def open_origin(*_arguments: object, **_named: object) -> Origin:
            return self._around.origin.open(process)

        return Coordinator(
            self._store,
            process,
            config=CoordinatorConfig(
                store_url="sqlite:///store.db",
                warm_resend_seconds=RESEND_SECONDS,
                warm_stall_seconds=STALL_SECONDS,
            ),
            cluster=self._plan.cluster,
            open_origin=open_origin,
            calls=SimCalls(process, self._around),
        )

    @property
    def store(self) -> Store:
        """What outlives the process."""
        return self._store

    @property
    def service(self) -> Coordinator:
        """The one that was started last."""
        return self._service

    def start(self) -> None:
        """Run, with what is stored."""
        around = self._around
        self.process = process = around.world.process(COORDINATOR)
        self._service = service = self._open(process)
        digest_size = digests.digest_size(self._plan.cluster.digest)
        self._servicer = CoordinatorServicer(service, process, digest_size=digest_size)
        around.network.listen(COORDINATOR, process)
        around.directory[COORDINATOR] = self
        service.start()

    def kill(self) -> None:
        """End the process; what is stored remains."""
        if self.process is not None:
            self.process.kill()
            self._around.network.close(COORDINATOR)
            self._around.directory.pop(COORDINATOR, None)
            self.process = self._servicer = None

    def dispose(self) -> None:
        """Delete the database."""
        self._store.close()
        self._folder.cleanup()

    def answer(self, method: str, request: Any) -> Any:  # Any: each method has a class of its own
        """Answer a call of the control plane, by the real servicer."""
        check(self._servicer is not None, "a coordinator that does not run was asked")
        return getattr(self._servicer, method)(request, None)

    def update(self) -> ResolvedVersion:
        """List the origin again, and make what it holds the current version."""
        self._other.catalogue.update(DATASET)
        return self.known_version(None)

    def warm(self) -> bool:
        """Start a warm-up of the current version, if the coordinator runs."""
        process, service = self.process, self._service

        def begin() -> None:
            service.warming.start(DATASET, None, ())

        if process is not None:
            process.start("warm", begin)
        return True

    def pin(self, paths: Sequence[str]) -> None:
        """Begin to pin these paths, and no others; the workers are told at once."""
        process, service = self.process, self._service
        pinned = set(self._other.catalogue.get(DATASET).pins)
        change = DatasetChange(
            pin=tuple(sorted(set(paths) - pinned)), unpin=tuple(sorted(pinned - set(paths)))
        )

        def push() -> None:
            service.change(DATASET, change)

        if process is not None:
            process.start("pin", push)

    def jobs(self) -> Sequence[WarmJob]:
        """Return all warm-ups that were started."""
        return self._other.warming.every(limit=JOBS_LIMIT)

    def drain(self, worker: WorkerId) -> bool:
        """Drain a worker, or ask how far it has come."""
        if self.process is None:
            raise WorkerUnavailableError("the coordinator does not run", subject=worker)
        return self._service.drain(worker, dry_run=False).done

    def known_view(self) -> View:
        """Return the newest view."""
        return self._service.members.view

    def known_version(self, version: str | None) -> ResolvedVersion:
        """Return a version, the current one for ``None``."""
        catalogue = self._other.catalogue
        resolved = catalogue.resolve(DATASET, version)
        return ResolvedVersion(
            DATASET,
            resolved.version.origin,
            resolved.version.client,
            resolved.pool,
            resolved.replicas,
            catalogue.manifest(resolved.version.id),
        )

    def known_digests(self, file: FileRef) -> Sequence[bytes | None]:
        """Return the digests that workers have reported."""
        return self._service.digests(file.entry.file_version)

    def known_holders(self, file: FileRef) -> Mapping[WorkerId, int]:
        """Return who holds which blocks, as workers have reported."""
        request = pb.GetHoldersRequest(file_version=file.entry.file_version)
        return {
            WorkerId(holder.worker): int.from_bytes(holder.blocks, "little")
            for holder in self.answer("GetHolders", request).holders
        }
