"""The store of a worker: its tiers, fastest first, as one :class:`cachefs.ports.BlockStore`.

**Where a file version goes.** It lives in exactly one tier, as one sparse file, because a process on
the node is handed one descriptor. The tier is chosen when its first block is reserved, or when it is
first lent out: the fastest tier that takes the *whole* file below its high mark without evicting
anything, beside all that the files which are just coming in will still take
(:mod:`cachefs.workers.storage.growing`); if there is none, the tier whose coldest block has been unread
for the longest time, then the others. So nothing leaves memory to make room while the disk has some,
and when all are full, the least missed bytes of the whole worker give way. A file that is there stays
where it is until its last block is gone.

**Locking.** One lock for all bookkeeping, never held while a disk works; every wait is bounded. See
:mod:`cachefs.workers.storage.tier`.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from cachefs.config.schema import ClusterConfig, TierConfig
from cachefs.core.blocks import BlockId, FileVersionId, block_range
from cachefs.core.eviction import Retention
from cachefs.core.tiers import pages
from cachefs.errors import CapacityError, ConfigError, check
from cachefs.ports import Disk, FileRef, Runtime
from cachefs.workers.storage.cachedfile import CachedFile
from cachefs.workers.storage.datafile import PATIENCE_SECONDS
from cachefs.workers.storage.demoting import Demoter
from cachefs.workers.storage.disk import OsDisk, read_boot_id
from cachefs.workers.storage.guests import Guests
from cachefs.workers.storage.holding import StoredBlock, StoredLease, StoredReservation
from cachefs.workers.storage.inventory import (
    FileResidency,
    StoreStatistics,
    residency_of,
    statistics_of,
)
from cachefs.workers.storage.tier import Tier


class TieredStore:
    """Implements :class:`cachefs.ports.BlockStore`. Safe from any thread."""

    def __init__(
        self,
        tiers: Sequence[TierConfig],
        *,
        cluster: ClusterConfig,
        runtime: Runtime,
        open_disk: Callable[[Path], Disk] = OsDisk,
        boot_id: str | None = None,
    ) -> None:
        """Open the folders; :meth:`recover` must follow before anything else.

        Args:
            tiers: Fastest first.
            cluster: Block size and digest.
            runtime: Time and conditions.
            open_disk: Makes the disk of a folder.
            boot_id: What tells this run of the machine from others; ``None`` asks the kernel.

        Raises:
            ConfigError: There is no tier, or a folder cannot be used.
        """
        if not tiers:
            raise ConfigError("a worker needs a tier", hint="configure a folder and a capacity")
        self._runtime = runtime
        self._block_size = cluster.block_size
        self._lock = runtime.condition()
        self._tiers: list[Tier] = []
        self._hits = self._misses = 0
        self._closed = False
        self._demoter = Demoter(self._tiers, self._lock, digest=cluster.digest)
        self.guests = Guests(self._tiers, self._lock, block_size=cluster.block_size)
        identity = read_boot_id() if boot_id is None else boot_id
        for config in tiers:
            try:
                disk = open_disk(config.folder)
            except ConfigError:
                self._close_tiers()
                raise
            self._tiers.append(
                Tier(
                    config,
                    cluster=cluster,
                    disk=disk,
                    runtime=runtime,
                    lock=self._lock,
                    boot_id=identity,
                )
            )

    def recover(self) -> None:
        """Find the blocks that an earlier process left.

        Raises:
            CapacityError: A folder cannot be read or written.
        """
        seen: set[FileVersionId] = set()
        for tier in self._tiers:
            try:
                tier.recover()
            except OSError as error:
                raise CapacityError(
                    f"the tier's folder cannot be used: {error.strerror}",
                    subject=str(tier.config.folder),
                ) from error
            files = tier.books.files
            self._remove(tier, [files[name] for name in seen & files.keys()])
            seen |= files.keys()
            if not tier.books.room.is_limited:  # else nothing goes before the pins are known
                tier.evictor.try_reserve(0)  # the capacity may have been lowered since

    def close(self) -> None:
        """Sync, mark the tiers clean and let go of them; idempotent."""
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            self._close_tiers()

    def _close_tiers(self) -> None:
        for tier in self._tiers:
            tier.close()

    # ---- BlockStore -------------------------------------------------------------------------

    def reserve(self, file: FileRef, index: int) -> "StoredReservation":
        """Promise room for a block before its bytes are asked for.

        Raises:
            CapacityError: Everything that is in the way is pinned, leased or reserved.
        """
        length = min(self._block_size, file.entry.size - index * self._block_size)
        check(index >= 0 and length > 0, "block index outside of its file")
        size = pages(length)
        for tier in self._candidates(file):
            if not tier.evictor.try_reserve(size):
                continue
            joined = None
            try:
                joined = self._join(file, tier)
                if joined is not None:
                    return StoredReservation(tier, joined, index)
            finally:
                if joined is None:  # another thread has just put the file into another tier
                    tier.evictor.give_back(size)
        raise CapacityError(
            "no tier has room for a block",
            subject=file.entry.path,
            hint="everything is pinned, lent out or being filled; raise a tier's capacity",
        )

    def check_fits(self, wanted: Mapping[FileRef, Iterable[int]]) -> None:
        """Refuse what the tiers cannot hold all at once: it would evict itself for ever.

        Raises:
            CapacityError: Eviction would start before all of it is here, whatever else went.
        """
        sizes = [
            sum(pages(block_range(i, file.entry.size, self._block_size).length) for i in indexes)
            for file, indexes in wanted.items()
        ]
        with self._lock:
            rooms = [tier.books.room.high for tier in self._tiers]
        if sum(sizes) > sum(rooms) or max(sizes, default=0) > max(rooms):
            raise CapacityError(
                "the worker's tiers cannot hold its share of the warm-up",
                hint=f"{sum(sizes)} bytes of {sum(rooms)}: add workers, raise the capacity, or "
                "warm fewer paths",
            )

    def find(self, file: FileRef, index: int) -> "StoredBlock | None":
        """Return a resident block and count the access; ``None`` if it is not here."""
        name = file.entry.file_version
        with self._lock:
            tier, cached = self._located(name)
            block = cached.blocks.get(index) if cached else None
            if tier is None or cached is None or block is None:
                self._misses += 1
                return None
            block.read_at = self._runtime.monotonic()
            tier.books.policy.touch(BlockId(name, index))
            self._hold(cached, index)
        held: StoredBlock | None = None
        try:
            if tier.verifier.trust(cached, index):
                handle = tier.open(cached)
                held = StoredBlock(tier, cached, index, digest=block.digest, handle=handle)
        except CapacityError:  # it cannot be looked at just now; others hold the block, or can
            pass
        finally:
            with self._lock:
                self._hits += held is not None
                self._misses += held is None
            if held is None:
                tier.users.end_hold(cached, index)
        return held

    def holds(self, file_version: FileVersionId, index: int) -> bool:
        """Say whether a block is resident, without counting an access."""
        with self._lock:
            cached = self._located(file_version)[1]
            return cached is not None and index in cached.blocks

    def mark_guest(self, file_version: FileVersionId, index: int) -> None:
        """Count a resident block as a copy that is here for a while, and goes before all others."""
        self.guests.mark(file_version, index)

    def lease(self, file: FileRef) -> "StoredLease":
        """Lend out a file version.

        Raises:
            CapacityError: Its sparse file cannot be made or opened.
        """
        for tier in self._candidates(file):
            cached = self._join(file, tier)
            if cached is None:
                continue
            lease = StoredLease(tier, cached)
            with self._lock:
                cached.leases.add(lease)
                cached.was_lent = True
            try:
                tier.open(cached)
            except BaseException:
                lease.release()
                raise
            return lease
        raise CapacityError("the file is being removed", subject=file.entry.path)

    def quarantine(self, file_version: FileVersionId, index: int) -> bool:
        """Verify a block whatever is believed of it; drop it if it is bad, and say so."""
        with self._lock:
            tier, cached = self._located(file_version)
            if tier is None or cached is None or index not in cached.blocks:
                return False
            self._hold(cached, index)
        try:
            tier.open(cached)
            return not tier.verifier.verify(cached, index)
        except CapacityError:
            return False
        finally:
            tier.users.end_hold(cached, index)

    def discard(self, file_version: FileVersionId, index: int, digest: bytes) -> None:
        """Drop a block if it is the one of that digest, which is known to be wrong."""
        with self._lock:
            tier, cached = self._located(file_version)
            block = cached.blocks.get(index) if cached else None
            if tier is None or cached is None or block is None or block.digest != digest:
                return
            self._hold(cached, index)
        try:
            tier.verifier.discard(cached, index)
        except CapacityError:  # the disk hangs; who asks for the block finds it again
            pass
        finally:
            tier.users.end_hold(cached, index)

    # ---- what the worker and the coordinator decide -----------------------------------------

    def set_pins(
        self, pinned: Collection[FileVersionId], ttls: Mapping[FileVersionId, float]
    ) -> None:
        """Replace what may not be evicted, and the times to live."""
        retention = Retention(frozenset(pinned), dict(ttls))
        with self._lock:
            for tier in self._tiers:
                tier.books.retention = retention

    def drop(self, file_versions: Collection[FileVersionId]) -> None:
        """Remove file versions that nobody wants any more; pins do not keep them.

        Who has one open keeps it, unlinked; its room is taken until then.
        """
        for name in file_versions:
            with self._lock:
                tier, cached = self._located(name)
            if tier is not None and cached is not None:
                self._remove(tier, [cached])

    def evict(
        self, file_versions: Collection[FileVersionId]
    ) -> tuple[int, tuple[FileVersionId, ...]]:
        """Evict file versions; return the bytes freed, and those that are open or pinned."""
        freed = 0
        refused: list[FileVersionId] = []
        for name in file_versions:
            now = self._runtime.monotonic()
            with self._lock:
                tier, cached = self._located(name)
                if tier is None or cached is None:
                    continue
                books = tier.books
                if cached.leases or not books.retention.may_evict(name):
                    refused.append(name)
                    continue
                cached.open_until = 0.0  # who asks by name gets an answer of this moment
                indexes = books.evictable(cached, now)
                if not indexes:
                    continue
                taken = books.take_out(cached, indexes)
            size = sum(cached.range_of(index).length for index in taken.blocks)
            if tier.evictor.punch_out(taken):
                freed += size
            else:
                refused.append(name)
        return freed, tuple(refused)

    def demote(
        self, file_versions: Collection[FileVersionId]
    ) -> tuple[int, tuple[FileVersionId, ...]]:
        """Bring file versions from memory to disk; return the bytes moved, and those that stay."""
        moved = {name: self._demoter.demote(name) for name in file_versions}
        refused = tuple(name for name, size in moved.items() if size is None)
        return sum(size or 0 for size in moved.values()), refused

    def expire(self, now: float) -> int:
        """Evict the blocks that have outlived their time to live; return how many."""
        expired = 0
        for each in self._tiers:
            each.users.look_again()
        with self._lock:
            names = list(self._tiers[0].books.retention.ttls)
        for name in names:
            with self._lock:
                tier, cached = self._located(name)
                if tier is None or cached is None:
                    continue
                books = tier.books
                indexes = [
                    index
                    for index in books.evictable(cached, self._runtime.monotonic())
                    if books.retention.is_expired(
                        name, read_at=cached.blocks[index].read_at, now=now
                    )
                ]
                if not indexes:
                    continue
                taken = books.take_out(cached, indexes)
            if tier.evictor.punch_out(taken):
                expired += len(indexes)
        return expired

    # ---- what others want to know -----------------------------------------------------------

    def residency_changes(self) -> list[FileResidency]:
        """Return what changed since the last call; each file version as it is now, by tier."""
        with self._lock:
            changes = []
            for tier in self._tiers:
                changed, tier.books.changed = tier.books.changed, {}
                for name, was in changed.items():
                    cached = tier.books.files.get(name)
                    changes.append(residency_of(tier, cached or was))
            return changes

    def residency(self) -> list[FileResidency]:
        """Return everything that is resident."""
        with self._lock:
            return [
                residency_of(tier, cached)
                for tier in self._tiers
                for cached in tier.books.files.values()
                if cached.blocks and not cached.leaving
            ]

    def resident_blocks(self) -> list[BlockId]:
        """Return the name of every resident block, file by file."""
        with self._lock:
            return [
                BlockId(name, index)
                for tier in self._tiers
                for name, cached in tier.books.files.items()
                for index in sorted(cached.blocks)
            ]

    def block_length(self, block: BlockId) -> int:
        """Return the bytes of a resident block; 0 if it is not resident."""
        with self._lock:
            cached = self._located(block.file_version)[1]
            if cached is None or block.index not in cached.blocks:
                return 0
            return cached.range_of(block.index).length

    def inspect(self, file_version: FileVersionId) -> FileResidency | None:
        """Return what is resident of one file version; ``None`` if nothing is."""
        with self._lock:
            tier, cached = self._located(file_version)
            return residency_of(tier, cached) if tier and cached and cached.blocks else None

    def is_leased(self, file_version: FileVersionId) -> bool:
        """Say whether a file version is lent out."""
        with self._lock:
            cached = self._located(file_version)[1]
            return cached is not None and bool(cached.leases)

    def is_pinned(self, file_version: FileVersionId) -> bool:
        """Say whether a file version is pinned."""
        with self._lock:
            return not self._tiers[0].books.retention.may_evict(file_version)

    def statistics(self) -> StoreStatistics:
        """Return the state of all tiers."""
        with self._lock:
            return StoreStatistics(
                tiers=tuple(statistics_of(tier) for tier in self._tiers),
                hits=self._hits,
                misses=self._misses,
            )

    # ---- inside -----------------------------------------------------------------------------

    def _located(self, name: FileVersionId) -> tuple[Tier | None, CachedFile | None]:
        for tier in self._tiers:
            cached = tier.books.files.get(name)
            if cached is not None and not cached.leaving:
                return tier, cached
        return None, None

    def _wait_for_leaving(self, name: FileVersionId) -> None:
        # A new data file must not be made before the old one of that name is unlinked.
        deadline = self._runtime.monotonic() + PATIENCE_SECONDS
        all_files = [tier.books.files for tier in self._tiers]
        while any(name in files and files[name].leaving for files in all_files):
            left = deadline - self._runtime.monotonic()
            if left <= 0:
                raise CapacityError("a file is still being removed", subject=name)
            self._lock.wait(left)

    def _candidates(self, file: FileRef) -> list[Tier]:
        """Return the tiers to try, best first: the one it is in, or where it may go."""
        name = file.entry.file_version
        with self._lock:
            check(not self._closed, "the store is closed")
            self._wait_for_leaving(name)
            tier, _ = self._located(name)
            if tier is not None:
                return [tier]
            whole, now = pages(file.entry.size), self._runtime.monotonic()
            roomy = [
                tier
                for tier in self._tiers
                if tier.books.room.takes_below_high(whole + tier.books.growing.wanted(now))
            ][:1]
            rest = [tier for tier in self._tiers if tier not in roomy]
            coldest = {id(tier): tier.books.coldest(now) for tier in rest}
            rest.sort(key=lambda tier: _unread_since(coldest[id(tier)]))
            return roomy + rest

    def _join(self, file: FileRef, tier: Tier) -> CachedFile | None:
        """Become a user of the file in this tier; ``None`` if it is in another by now."""
        name = file.entry.file_version
        with self._lock:
            self._wait_for_leaving(name)
            home, cached = self._located(name)
            if cached is None:
                home, cached = tier, tier.adopt(file)
            if home is not tier:
                return None
            cached.users += 1
            return cached

    def _remove(self, tier: Tier, files: Sequence[CachedFile]) -> None:
        for cached in files:
            with self._lock:
                if cached.gone:
                    continue
                cached.users += 1
            try:
                tier.users.drop(cached)
            except CapacityError:  # the disk hangs; the next drop or eviction tries again
                continue
            finally:
                tier.users.leave(cached)

    @staticmethod
    def _hold(cached: CachedFile, index: int) -> None:
        cached.users += 1
        cached.held[index] = cached.held.get(index, 0) + 1


def _unread_since(read_at: float | None) -> float:
    return math.inf if read_at is None else read_at
