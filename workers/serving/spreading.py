"""Spreading: what a crowd asks for at once is served by several workers.

Theory of operation. The owner of a block refers those who are too many to replicas
(:mod:`cachefs.core.heat`): to the next workers in placement order, each behind a link of its own, those
in the asker's zone first. A replica that lacks the block takes it from a worker that has it, as a guest
(:mod:`cachefs.workers.storage.guests`): never from the origin, so the origin pays once, however large the
crowd. One that cannot have it says so, and the asker goes back to the owner, who then serves it.

Only the owner refers, because it alone sees all who ask; by its view, so two workers with different views
may both do so for a while. A referral tells only whom to ask: whatever a reader or a worker believes, the
bytes are right, and who does not find them at a replica has lost a moment.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cachefs.config.schema import HeatConfig
from cachefs.core import placement
from cachefs.core.blocks import BlockId, FileVersionId
from cachefs.core.heat import Crowd
from cachefs.core.membership import Member
from cachefs.core.names import WorkerId
from cachefs.errors import CacheFSError, NotKnownError
from cachefs.ports import FileRef, Runtime
from cachefs.workers.knowledge import Knowledge
from cachefs.workers.storage.cachedfile import CachedFile
from cachefs.workers.storage.store import TieredStore

METADATA_SECONDS = 2.0
"""Longest wait to learn whose the guests are; much less than a lease."""


class Spreading:
    """The crowds at one worker, and the copies that it keeps for crowds at others."""

    def __init__(
        self,
        runtime: Runtime,
        store: TieredStore,
        knowledge: Knowledge,
        *,
        own: WorkerId,
        config: HeatConfig,
    ) -> None:
        """Begin without a crowd."""
        self._runtime = runtime
        self._store = store
        self._knowledge = knowledge
        self._own = own
        self._config = config
        self._lock = threading.Lock()
        self._crowds: dict[BlockId, Crowd] = {}
        self._referred = 0
        self._settled_epoch = -1

    @property
    def referred(self) -> int:
        """How many askers were referred to replicas."""
        return self._referred

    @contextmanager
    def sending(self, file: FileRef, index: int) -> Iterator[None]:
        """Count somebody who asks for a block over the network, until it is sent."""
        block = BlockId(file.entry.file_version, index)
        began = self._runtime.monotonic()
        with self._lock:
            crowd = self._crowds.get(block)
            if crowd is None:
                crowd = self._crowds[block] = Crowd(self._config.askers_limit)
            crowd.begin()
        try:
            yield
        finally:
            ended = self._runtime.monotonic()
            with self._lock:
                crowd.end(ended - began)
                if not crowd.sending:
                    del self._crowds[block]

    def refer(self, file: FileRef, index: int, zone: str) -> Member | None:
        """Return who shall send a block to an asker; ``None`` if it is this worker.

        Args:
            file: Which file version.
            index: Which block.
            zone: Of the asker; empty if it does not know.
        """
        block = BlockId(file.entry.file_version, index)
        limit = self._config.askers_limit
        with self._lock:
            crowd = self._crowds.get(block)
            is_hot = crowd is not None and limit > 0 and crowd.sending >= limit
        if not is_hot or not self._store.holds(block.file_version, index):
            return None
        replicas = {member.worker: member for member in self._replicas(file, block, zone)}
        near = sum(member.zone == zone for member in replicas.values()) if zone else 0
        now = self._runtime.monotonic()
        with self._lock:
            crowd = self._crowds.get(block)
            chosen = crowd and crowd.refer(list(replicas), near=near, now=now)
            self._referred += bool(chosen)
        return replicas[chosen] if chosen else None

    def welcomes(self, file: FileRef, index: int) -> bool:
        """Say whether a block may be read here as a copy: it is here, or there is room for a guest."""
        share = self._config.capacity_share
        is_here = self._store.holds(file.entry.file_version, index)
        return is_here or self._store.guests.may_come(share)

    def expire(self) -> None:
        """Let the guests go that nobody reads any more; waits :data:`METADATA_SECONDS` at most."""
        view = self._knowledge.view(deadline=0.0)
        now = self._runtime.monotonic()
        files: dict[FileVersionId, FileRef | None] = {}

        def is_own(cached: CachedFile, index: int) -> bool | None:
            name = cached.file_version
            if name not in files:
                files[name] = self._file(cached, now + METADATA_SECONDS)
            file = files[name]
            if file is None:
                return None
            block = BlockId(name, index)
            owners = placement.owners(block, view.members, pool=file.pool, replicas=file.replicas)
            return any(owner.worker == self._own for owner in owners)

        # Placing a block costs a hash for each member; who owns it changes with them only.
        changed, self._settled_epoch = view.epoch != self._settled_epoch, view.epoch
        idle_seconds = self._config.idle_seconds
        self._store.guests.settle(is_own, now=now, idle_seconds=idle_seconds, all_of_them=changed)

    def _file(self, cached: CachedFile, deadline: float) -> FileRef | None:
        """Return what a cached file is; ``None`` if nobody can say."""
        try:
            return self._knowledge.file(
                cached.dataset, cached.version, cached.file_version, deadline=deadline
            )
        except NotKnownError:  # that version is gone, and another one may have the file
            return self._knowledge.known_file(cached.file_version)
        except CacheFSError:
            return None

    def _replicas(self, file: FileRef, block: BlockId, zone: str) -> list[Member]:
        """Return who may send a block besides us, the best first; nobody if we do not own it."""
        order = placement.order(block, self._knowledge.view(deadline=0.0).members, pool=file.pool)
        if not order or order[0].worker != self._own:
            return []
        links = {_host(order[0])}
        replicas: list[Member] = []
        for member in order[1:]:
            if len(replicas) + 1 < self._config.replicas_max and _host(member) not in links:
                links.add(_host(member))
                replicas.append(member)
        return sorted(replicas, key=lambda member: member.zone != zone)


def _host(member: Member) -> str:
    """Return what tells links apart: workers at one address share theirs."""
    return member.data_address.rpartition(":")[0]
