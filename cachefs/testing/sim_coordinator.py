"""A coordinator in memory, and how the others of a simulated cluster ask it.

The coordinator runs the real :class:`cachefs.core.membership.Membership` over a view that outlives
its process, as the database does. Readers ask it, or the workers they know when it is silent, as
``HttpMetadata`` does; workers ask nobody else, and go on with what they know.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from cachefs.config.schema import ClusterConfig
from cachefs.core.blocks import FileVersionId, block_count
from cachefs.core.manifest import Manifest, VersionId
from cachefs.core.membership import EMPTY_VIEW, Membership, View
from cachefs.core.names import DatasetName, WorkerId
from cachefs.core.residency import indexes
from cachefs.errors import (
    CacheFSError,
    CoordinatorUnavailableError,
    NotKnownError,
    WorkerUnavailableError,
    check,
)
from cachefs.ports import FileRef, ResolvedVersion
from cachefs.testing.network import SimNetwork
from cachefs.testing.runtime import SimRuntime
from cachefs.testing.sim_origin import SimOrigin
from cachefs.wire import digests, messages
from cachefs.wire.proto import cachefs_pb2 as pb

ADDRESS = "coordinator"
DATASET = DatasetName.parse("weights")
TIMEOUT_SECONDS = 1.0
"""How long anybody waits for an answer to a small question."""

Answer = TypeVar("Answer")


class Knowing(Protocol):
    """What answers the questions of :class:`cachefs.ports.Metadata`, at one address."""

    def known_view(self) -> View:
        """Return its view."""
        ...

    def known_version(self, version: str | None) -> ResolvedVersion:
        """Return a version, or raise ``NotKnownError``."""
        ...

    def known_digests(self, file: FileRef) -> Sequence[bytes | None]:
        """Return what digests it knows."""
        ...


Directory = dict[str, Knowing]
"""Who can answer at which address."""


class SimCoordinator:
    """The coordinator's state, and its process while it runs."""

    def __init__(
        self,
        world: SimRuntime,
        network: SimNetwork,
        cluster: ClusterConfig,
        origin: SimOrigin,
        *,
        replicas: int,
    ) -> None:
        """Know nobody, and the origin's files as version 1."""
        self._world = world
        self._network = network
        self._cluster = cluster
        self._origin = origin
        self._replicas = replicas
        self._membership = Membership(EMPTY_VIEW, lease_seconds=cluster.lease_seconds, now=0.0)
        self.versions: dict[VersionId, ResolvedVersion] = {}
        self.current = self._add(origin.manifest())
        self._digests: dict[FileVersionId, dict[int, bytes]] = {}
        self.process: SimRuntime | None = None

    def start(self) -> None:
        """Run; every member that is stored gets a full lease."""
        self.process = self._world.process(ADDRESS)
        self._membership = Membership(
            self._membership.view,
            lease_seconds=self._cluster.lease_seconds,
            now=self._world.monotonic(),
        )
        self._network.listen(ADDRESS, self.process)

    def kill(self) -> None:
        """End the process; what is stored remains."""
        if self.process is not None:
            self.process.kill()
            self._network.close(ADDRESS)
            self.process = None

    def update(self) -> ResolvedVersion:
        """List the origin again, and make what it holds the current version."""
        self.current = self._add(self._origin.manifest())
        return self.versions[self.current]

    def answer(self, method: str, request: Any) -> Any:  # Any: each method has a class of its own
        """Answer a call of the control plane."""
        if method == "Register":
            view = self._membership.register(
                messages.member_from_message(request.member), self._world.monotonic()
            )
            return pb.RegisterResponse(
                view=messages.view_to_message(view), lease_seconds=self._cluster.lease_seconds
            )
        if method == "Leave":
            self._membership.leave(request.worker, self._world.monotonic())
            return pb.LeaveResponse()
        check(method == "Renew", f"an unknown call: {method}")
        view = self._membership.renew(request.worker, request.incarnation, self._world.monotonic())
        for residency in request.residency:
            self._note_digests(residency)
        news = None if view.epoch == request.epoch else messages.view_to_message(view)
        return pb.RenewResponse(view=news)

    def _note_digests(self, residency: pb.Residency) -> None:
        if not residency.digests:
            return
        known = self._digests.setdefault(FileVersionId(residency.file_version), {})
        mask = int.from_bytes(residency.resident, "little")
        found = digests.unpack(residency.digests, digests.digest_size(self._cluster.digest))
        for index, digest in zip(indexes(mask), found, strict=True):
            if digest is not None:
                known.setdefault(index, digest)

    def drain(self, worker: WorkerId) -> View:
        """Take away what a worker owns."""
        return self._membership.drain(worker, self._world.monotonic())

    def known_view(self) -> View:
        """Return the newest view."""
        return self._membership.advance(self._world.monotonic())

    def known_version(self, version: str | None) -> ResolvedVersion:
        """Return a version, the current one for ``None``."""
        found = self.versions.get(VersionId(version) if version else self.current)
        if found is None:
            raise NotKnownError("no such version", subject=str(version))
        return found

    def known_digests(self, file: FileRef) -> Sequence[bytes | None]:
        """Return the digests that workers have reported."""
        known = self._digests.get(file.entry.file_version, {})
        count = block_count(file.entry.size, self._cluster.block_size)
        return [known.get(index) for index in range(count)]

    def _add(self, manifest: Manifest) -> VersionId:
        self.versions[manifest.id] = ResolvedVersion(
            DATASET, self._origin.spec, "memory", "default", self._replicas, manifest
        )
        return manifest.id


class SimChannel:
    """What a worker calls the coordinator through, in place of a gRPC channel."""

    def __init__(
        self, process: SimRuntime, network: SimNetwork, coordinator: SimCoordinator
    ) -> None:
        """Belong to the process that calls."""
        self._process = process
        self._network = network
        self._coordinator = coordinator

    @property
    def channel(self) -> "SimChannel":
        """What a generated stub is built on."""
        return self

    def unary_unary(self, path: str, **_codecs: object) -> str:
        """Return what the stub keeps as a method: its name."""
        return path.rpartition("/")[2]

    unary_stream = unary_unary

    def call(self, method: str, request: Any, *, timeout_seconds: float | None = None) -> Any:
        # Any: each method has a class of its own
        """Make a call, as ``ControlChannel`` does.

        Raises:
            CacheFSError: What the coordinator raised, or that it could not be reached.
        """
        try:
            return self._network.call(
                self._process,
                ADDRESS,
                lambda: self._coordinator.answer(method, request),
                timeout_seconds=timeout_seconds or TIMEOUT_SECONDS,
            )
        except WorkerUnavailableError as error:
            raise CoordinatorUnavailableError(error.message) from error


class SimMetadata:
    """Implements :class:`cachefs.ports.Metadata`: by default the coordinator, else workers."""

    def __init__(
        self,
        process: SimRuntime,
        network: SimNetwork,
        directory: Directory,
        *,
        asks_coordinator: bool = True,
        workers: Callable[[], View] | None = None,
    ) -> None:
        """Ask nobody yet.

        Args:
            process: Who asks.
            network: Between it and the others.
            directory: Who answers where.
            asks_coordinator: Whether the coordinator is asked, and first.
            workers: Says which workers are asked; by default those of the last view.
        """
        self._process = process
        self._network = network
        self._directory = directory
        self._asks_coordinator = asks_coordinator
        self._view = EMPTY_VIEW
        self._workers = workers if workers is not None else lambda: self._view
        self._resolved: dict[str | None, ResolvedVersion] = {}

    def view(self, *, deadline: float) -> View:
        """Return the newest view that can be had."""
        for address, view in self._answers(lambda one: one.known_view(), deadline):
            if address == ADDRESS or view.epoch >= self._view.epoch:
                self._view = view
            return self._view
        raise CoordinatorUnavailableError("nobody answered with a view")

    def resolve(
        self, name: DatasetName, version: str | None, *, deadline: float
    ) -> ResolvedVersion:
        """Return a version; the last known answer when nobody answers."""
        if name != DATASET:
            raise NotKnownError("no such dataset", subject=str(name))
        for _, resolved in self._answers(lambda one: one.known_version(version), deadline):
            self._resolved[version] = self._resolved[resolved.manifest.id] = resolved
            return resolved
        if version in self._resolved:
            return self._resolved[version]
        raise CoordinatorUnavailableError("nobody answered with the version")

    def digests(self, file: FileRef, *, deadline: float) -> Sequence[bytes | None]:
        """Return the known digest of each block."""
        for _, known in self._answers(lambda one: one.known_digests(file), deadline):
            return known
        raise CoordinatorUnavailableError("nobody answered with digests")

    def _answers(
        self, question: Callable[[Knowing], Answer], deadline: float
    ) -> Iterator[tuple[str, Answer]]:
        workers = [member.data_address for member in self._workers().members]
        self._process.random.shuffle(workers)
        for address in (*((ADDRESS,) if self._asks_coordinator else ()), *workers):
            left = deadline - self._process.monotonic()
            if left <= 0:
                return
            try:
                answer = ask(
                    self._process,
                    self._network,
                    self._directory,
                    address,
                    question,
                    timeout_seconds=min(left, TIMEOUT_SECONDS),
                )
            except NotKnownError:
                if address == ADDRESS:
                    raise
            except CacheFSError:
                continue
            else:
                yield address, answer


def ask(
    process: SimRuntime,
    network: SimNetwork,
    directory: Directory,
    address: str,
    question: Callable[[Knowing], Answer],
    *,
    timeout_seconds: float,
) -> Answer:
    """Put a question to whoever listens at an address."""

    def answer() -> Answer:
        knowing = directory.get(address)
        if knowing is None:
            raise WorkerUnavailableError("nobody there", subject=address)
        return question(knowing)

    return network.call(process, address, answer, timeout_seconds=timeout_seconds)
