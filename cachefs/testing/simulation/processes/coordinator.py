"""The coordinator of a simulated cluster, as the others see it, and a light one in memory.

The light one runs the real :class:`cachefs.core.membership.Membership` over a view that outlives its
process, as the database does. The real one is in :mod:`.stored_coordinator`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from cachefs.core.blocks import FileVersionId, block_count
from cachefs.core.eviction import Retention
from cachefs.core.jobs import WarmJob
from cachefs.core.manifest import Manifest, VersionId
from cachefs.core.membership import EMPTY_VIEW, Membership, View
from cachefs.core.names import WorkerId
from cachefs.core.residency import indexes
from cachefs.errors import NotKnownError, check
from cachefs.ports import FileRef, ResolvedVersion
from cachefs.testing.simulation.processes.worker import Surroundings
from cachefs.testing.simulation.topology import ClusterPlan
from cachefs.testing.simulation.world.control import COORDINATOR, DATASET, Answering, SimChannel
from cachefs.testing.simulation.world.runtime import SimRuntime
from cachefs.wire import digests, messages
from cachefs.wire.proto import cachefs_pb2 as pb


class Coordinating(Answering, Protocol):
    """A coordinator whose process can die and start again."""

    process: SimRuntime | None

    def start(self) -> None:
        """Run, with what is stored."""
        ...

    def kill(self) -> None:
        """End the process; what is stored remains."""
        ...

    def dispose(self) -> None:
        """Give up what outlives the process."""
        ...

    def update(self) -> ResolvedVersion:
        """List the origin again, and make what it holds the current version."""
        ...

    def warm(self) -> bool:
        """Start a warm-up of the current version; ``False`` if it has no such jobs."""
        ...

    def pin(self, paths: Sequence[str]) -> None:
        """Begin to pin these paths, and no others."""
        ...

    def jobs(self) -> Sequence[WarmJob]:
        """Return all warm-ups that were started."""
        ...

    def drain(self, worker: WorkerId) -> bool:
        """Drain a worker, or ask how far it has come; ``True`` once it has handed over everything.

        From a task of the coordinator's process.

        Raises:
            NotKnownError: It is no member.
            ClusterError: It does not answer.
        """
        ...


class SimCoordinator:
    """The coordinator's state, and its process while it runs."""

    def __init__(self, plan: ClusterPlan, around: Surroundings) -> None:
        """Know nobody, and the origin's files as version 1."""
        cluster = plan.cluster
        self._world = around.world
        self._network = around.network
        self._directory = around.directory
        self._cluster = cluster
        self._origin = around.origin
        self._replicas = plan.replicas
        self._pins = plan.pins
        self._ttl_seconds = plan.ttl_seconds
        self._versions_kept = plan.versions_kept
        self._updates = 1
        self._held: dict[WorkerId, dict[tuple[FileVersionId, str], int]] = {}
        """What each worker says that it holds, and in which tier: a mask of blocks."""
        self._membership = Membership(EMPTY_VIEW, lease_seconds=cluster.lease_seconds, now=0.0)
        self.versions: dict[VersionId, ResolvedVersion] = {}
        self.current = self._add(self._origin.manifest())
        self._digests: dict[FileVersionId, dict[int, bytes]] = {}
        self.process: SimRuntime | None = None

    def start(self) -> None:
        """Run; every member that is stored gets a full lease."""
        self.process = self._world.process(COORDINATOR)
        self._membership = Membership(
            self._membership.view,
            lease_seconds=self._cluster.lease_seconds,
            now=self._world.monotonic(),
        )
        self._network.listen(COORDINATOR, self.process)
        self._directory[COORDINATOR] = self

    def kill(self) -> None:
        """End the process; what is stored remains."""
        if self.process is not None:
            self.process.kill()
            self._network.close(COORDINATOR)
            self._directory.pop(COORDINATOR, None)
            self.process = None

    def dispose(self) -> None:
        """Do nothing: there is only memory."""

    def warm(self) -> bool:
        """Refuse: there are no jobs here."""
        return False

    def pin(self, paths: Sequence[str]) -> None:
        """Pin these paths, and no others."""
        self._pins = tuple(paths)
        self._updates += 1

    def jobs(self) -> Sequence[WarmJob]:
        """Return nothing."""
        return ()

    def update(self) -> ResolvedVersion:
        """List the origin again, and make what it holds the current version."""
        self.current = self._add(self._origin.manifest())
        self._updates += 1
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
        held = self._held.setdefault(request.worker, {})
        if request.residency_is_whole:
            held.clear()
        for residency in request.residency:
            self._note_digests(residency)
            key = (FileVersionId(residency.file_version), residency.tier)
            held[key] = int.from_bytes(residency.resident, "little")
        news = None if view.epoch == request.epoch else messages.view_to_message(view)
        live = self._live()
        is_told = request.pins_revision == self._updates
        return pb.RenewResponse(
            view=news,
            pins=None if is_told else messages.retention_to_message(self._retention()),
            dropped=sorted({name for (name, _), mask in held.items() if mask and name not in live}),
        )

    def _note_digests(self, residency: pb.Residency) -> None:
        if not residency.digests:
            return
        known = self._digests.setdefault(FileVersionId(residency.file_version), {})
        mask = int.from_bytes(residency.resident, "little")
        found = digests.unpack(residency.digests, digests.digest_size(self._cluster.digest))
        for index, digest in zip(indexes(mask), found, strict=True):
            if digest is not None:
                known.setdefault(index, digest)

    def drain(self, worker: WorkerId) -> bool:
        """Take away what a worker owns, and have it hand over what it holds."""
        now = self._world.monotonic()
        member = self._membership.advance(now).find(worker)
        if member is None or self.process is None:
            raise NotKnownError("no such worker", subject=worker)
        if not member.draining:
            self._membership.drain(worker, now)
        channel = SimChannel(self.process, self._network, self._directory, member.control_address)
        return bool(channel.call("Drain", pb.DrainRequest()).done)

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

    def known_holders(self, file: FileRef) -> Mapping[WorkerId, int]:
        """Return who holds which blocks, as workers have reported."""
        found: dict[WorkerId, int] = {}
        for worker, held in self._held.items():
            for (name, _), mask in held.items():
                if name == file.entry.file_version and mask:
                    found[worker] = found.get(worker, 0) | mask
        return found

    def _add(self, manifest: Manifest) -> VersionId:
        # One that comes back is the newest again.
        self.versions.pop(manifest.id, None)
        self.versions[manifest.id] = ResolvedVersion(
            DATASET, self._origin.spec, "memory", "default", self._replicas, manifest
        )
        return manifest.id

    def _live(self) -> set[FileVersionId]:
        """Return the file versions of the versions that are kept."""
        kept = list(self.versions.values())[-self._versions_kept :]
        kept.append(self.versions[self.current])
        return {entry.file_version for each in kept for entry in each.manifest.files}

    def _retention(self) -> Retention:
        """Return what workers must keep, and for how long they may keep the rest."""
        files = [entry for each in self.versions.values() for entry in each.manifest.files]
        current = self.versions[self.current].manifest.files
        pinned = frozenset(entry.file_version for entry in current if entry.path in self._pins)
        mortal = {entry.file_version for entry in files} - pinned if self._ttl_seconds else set()
        ttls = dict.fromkeys(sorted(mortal), self._ttl_seconds)
        return Retention(pinned, ttls, self._updates)
