"""One tier of a worker: a folder with a capacity, and the file versions that are in it.

Each file version is one sparse file, ``<file version>.data``, as long as the whole file, in one flat
folder (:mod:`cachefs.workers.storage.datafile`). What is in it is known from memory; the journal
(:mod:`cachefs.workers.storage.journal`) brings that back after a restart.

**Order.** The worker's one lock guards all bookkeeping and is never held while the disk works. A
block is taken out of the books before its hole is punched, and enters them after its bytes and its
record are written. *Users* of a file (reservations, held blocks, leases, evictions under way) keep it
in memory and open; whoever leaves it last tidies up: a file without blocks is removed, bad bytes are
punched out.

**Leases.** While a file is lent out, none of its blocks is punched. If it must go (its dataset was
deleted), it is unlinked: holders keep their descriptor, and its room is free when the last of them
is gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cachefs.config.schema import ClusterConfig, TierConfig
from cachefs.core.blocks import BlockId, FileVersionId
from cachefs.core.eviction import Retention, open_policy
from cachefs.core.tiers import Room
from cachefs.errors import CapacityError, check
from cachefs.ports import Condition, Disk, DiskFile, FileRef, Runtime
from cachefs.workers.storage.datafile import PATIENCE_SECONDS, Block, CachedFile, DataFiles
from cachefs.workers.storage.journal import FileRemoved, Journal, Setting

ROUNDS_LIMIT = 3
"""How often a block is verified anew because somebody wrote meanwhile, before it is discarded."""


@dataclass(slots=True)
class Counts:
    """What happened to a tier since it was opened."""

    evictions: int = 0
    evicted_bytes: int = 0
    corrupt_blocks: int = 0
    lost_files: int = 0
    write_errors: int = 0


class Tier:
    """A folder of cached files. Methods that say *locked* are called with the worker's lock held."""

    def __init__(
        self,
        config: TierConfig,
        *,
        cluster: ClusterConfig,
        disk: Disk,
        runtime: Runtime,
        lock: Condition,
        boot_id: str,
    ) -> None:
        """Prepare an empty tier over an open disk; :meth:`recover` finds what is there."""
        self.config = config
        self.room = Room.of(
            config.capacity_bytes, high_mark=config.high_mark, low_mark=config.low_mark
        )
        self.counts = Counts()
        self.files: dict[FileVersionId, CachedFile] = {}
        self.changed: dict[FileVersionId, CachedFile] = {}
        """Files whose blocks are other ones than at the last report."""
        self.retention = Retention()
        self.policy = open_policy(config.eviction)
        self._cluster = cluster
        self._runtime = runtime
        self._lock = lock
        setting = Setting(boot_id=boot_id, block_size=cluster.block_size, digest=cluster.digest)
        journal = Journal(disk, runtime, setting)
        self._data = DataFiles(disk, journal, digest=cluster.digest, runtime=runtime, lock=lock)

    @property
    def disk_errors(self) -> int:
        """How many operations the disk refused."""
        return self._data.errors

    # ---- beginning and end ------------------------------------------------------------------

    def recover(self) -> None:
        """Find what an earlier process left, and remove what nobody can use.

        Raises:
            OSError: The folder cannot be read, or no journal can be written.
        """
        for file in self._data.recover(self._cluster, self._runtime.monotonic()):
            with self._lock:
                self.files[file.file_version] = file
                self.changed[file.file_version] = file
                for index in file.blocks:
                    self.room.restore(file.room_of(index))
                    self.policy.add(BlockId(file.file_version, index), file.room_of(index))
        # A process that was killed may have written bytes that no record knows. They can only be
        # in files of which some blocks are missing, and they show in the stamp. All other files
        # are looked at when they are first used.
        for file in list(self.files.values()):
            if len(file.blocks) < file.block_count:
                with self._lock:
                    file.users += 1
                try:
                    self.check(file)
                finally:
                    self.leave(file)

    def close(self) -> None:
        """Sync everything, say so in the journal, and let go of the folder."""
        with self._lock:
            handles = [file.handle for file in self.files.values() if file.handle is not None]
        self._data.close()
        for handle in handles:
            handle.close()

    # ---- room -------------------------------------------------------------------------------

    def coldest(self) -> float | None:
        """Return when the next victim was last read; ``None`` if nothing may go; *locked*."""
        for victim in self.policy.victims():
            file = self.files[victim.file_version]
            if self._may_evict(file, victim.index):
                return file.blocks[victim.index].read_at
        return None

    def try_reserve(self, size: int) -> bool:
        """Promise room, evicting as needed; ``False`` if what is in the way may not go."""
        deadline = self._runtime.monotonic() + PATIENCE_SECONDS
        while True:
            with self._lock:
                chosen = self._choose(size)
                if not chosen:
                    if self.room.try_reserve(size):
                        return True
                    left = deadline - self._runtime.monotonic()
                    if not self.room.leaving or left <= 0:
                        return False
                    self._lock.wait(left)  # another thread's eviction is about to free room
            for file, indexes in chosen:
                self.punch_out(file, indexes)

    def give_back(self, size: int) -> None:
        """End a promise that was not used."""
        with self._lock:
            self.room.give_back(size)

    def _choose(self, size: int) -> list[tuple[CachedFile, list[int]]]:
        missing = self.room.excess(size)
        if missing <= 0 or size > self.room.capacity:
            return []
        chosen: dict[CachedFile, list[int]] = {}
        for victim in self.policy.victims():
            file = self.files[victim.file_version]
            if self._may_evict(file, victim.index):
                chosen.setdefault(file, []).append(victim.index)
                missing -= file.room_of(victim.index)
                if missing <= 0:
                    break
        # If all that may go does not make the room, it stays: nobody would be served.
        if self.room.low + missing > self.room.capacity:
            return []
        for file, indexes in chosen.items():
            self.take_out(file, indexes)
        return list(chosen.items())

    def _may_evict(self, file: CachedFile, index: int) -> bool:
        return (
            not file.leases
            and not file.leaving
            and index not in file.held
            and self.retention.may_evict(file.file_version)
        )

    def evictable(self, file: CachedFile) -> list[int]:
        """Return the blocks of a file that may be evicted now; *locked*."""
        return [index for index in file.blocks if self._may_evict(file, index)]

    def take_out(self, file: CachedFile, indexes: Sequence[int]) -> None:
        """Take blocks out of the books; :meth:`punch_out` must follow; *locked*."""
        for index in indexes:
            del file.blocks[index]
            file.doubtful.discard(index)
            self.policy.remove(BlockId(file.file_version, index), evicted=True)
            self.room.choose(file.room_of(index))
            self.counts.evictions += 1
            self.counts.evicted_bytes += file.range_of(index).length
        self.changed[file.file_version] = file
        file.users += 1

    def punch_out(self, file: CachedFile, indexes: Sequence[int]) -> None:
        """Free the room of blocks that were taken out of the books."""
        freed: list[int] = []
        try:
            with self._data.slot(file):
                with self._lock:
                    file.leaving |= not file.blocks and file.users == 1
                    # One that was filled again meanwhile is not punched: its bytes are wanted.
                    freed = [index for index in indexes if index in file.blocks]
                if file.leaving and not file.gone:
                    self._remove(file)
                    freed = list(indexes)
                elif self._is_ready(file):
                    freed += self._data.punch(file, sorted(set(indexes).difference(freed)))
        except CapacityError:  # the disk hangs, or no descriptor is to be had
            self._data.count_error()
        finally:
            with self._lock:
                for index in indexes:
                    self.room.stay(file.room_of(index))
                for index in freed:
                    self.room.free(file.room_of(index))
                file.strays.update(set(indexes).difference(freed))
                self._lock.notify_all()
            self.leave(file)

    # ---- users ------------------------------------------------------------------------------

    def adopt(self, ref: FileRef) -> CachedFile:
        """Begin a file version that is not here; *locked*."""
        file = CachedFile(
            ref.entry.file_version,
            size=ref.entry.size,
            block_size=self._cluster.block_size,
            dataset=ref.dataset,
            version=ref.version,
        )
        self.files[file.file_version] = file
        return file

    def end_hold(self, file: CachedFile, index: int) -> None:
        """End one hold of a block."""
        with self._lock:
            file.held[index] -= 1
            if not file.held[index]:
                del file.held[index]
        self.leave(file)

    def end_lease(self, file: CachedFile, lease: object) -> None:
        """End a lease; idempotent."""
        with self._lock:
            if lease not in file.leases:
                return
            file.leases.discard(lease)
        self.leave(file)

    def leave(self, file: CachedFile) -> None:
        """End one use; the last to leave tidies up."""
        with self._lock:
            if file.users == 1 and not file.gone:
                file.leaving |= not file.blocks
                untidy = file.leaving or bool(file.strays)
            else:
                untidy = False
        if untidy:
            self._tidy(file)
        handle: DiskFile | None = None
        with self._lock:
            file.users -= 1
            check(file.users >= 0, "a file was left more often than entered")
            if file.gone and not file.users:
                handle, file.handle = file.handle, None
                taken = file.blocks.keys() | file.strays
                self.room.free(sum(file.room_of(index) for index in taken))
                file.blocks, file.strays = {}, set()
                self._lock.notify_all()
        if handle is not None:
            handle.close()

    def _tidy(self, file: CachedFile) -> None:
        try:
            with self._data.slot(file):
                if file.leaving:
                    if not file.gone:
                        self._remove(file)
                    return
                with self._lock:
                    strays = [] if file.leases else sorted(file.strays)
                if strays and self._is_ready(file):
                    freed = self._data.punch(file, strays)
                    with self._lock:
                        file.strays.difference_update(freed)
                        self.room.free(sum(file.room_of(index) for index in freed))
                        self._lock.notify_all()
        except CapacityError:
            self._data.count_error()
            with self._lock:
                file.leaving = file.gone

    def drop(self, file: CachedFile) -> None:
        """Remove a file version; who has it open keeps it. The caller is a user of it."""
        with self._lock:
            file.leaving = True
        with self._data.slot(file):
            if not file.gone:
                self._remove(file)

    def _remove(self, file: CachedFile) -> None:
        # In the slot, and nobody new can find it.
        self._data.remove(file)
        if file.recorded:
            self._data.record([FileRemoved(file.file_version)])
        with self._lock:
            for index in file.blocks:
                self.policy.remove(BlockId(file.file_version, index))
            del self.files[file.file_version]
            self.changed[file.file_version] = file
            file.gone = True
            self._lock.notify_all()

    # ---- blocks -----------------------------------------------------------------------------

    def check(self, file: CachedFile) -> None:
        """Look for foreign changes, opening the file if need be. The caller is a user of it.

        Raises:
            CapacityError: It cannot be opened just now.
        """
        if not self._data.is_current(file):
            with self._data.slot(file):
                self._is_ready(file)

    def open(self, file: CachedFile) -> DiskFile:
        """Return the open data file, made if there is none. The caller is a user of it.

        Raises:
            CapacityError: It cannot be made or opened.
        """
        self.check(file)
        with self._lock:
            if file.handle is None:
                raise CapacityError("the data file cannot be opened", subject=file.name)
            return file.handle

    def _is_ready(self, file: CachedFile) -> bool:
        if self._data.make_ready(file):
            return True
        if not file.gone:
            with self._lock:
                file.leaving = True
                file.doubtful = set(file.blocks)
                file.suspicions += 1
                self.counts.lost_files += bool(file.blocks)
            self._remove(file)
        return False

    def write(self, file: CachedFile, index: int, data: memoryview, digest: bytes) -> None:
        """Use a reservation: write a block, then its record, then enter it in the books.

        Raises:
            CapacityError: The disk did not take it, or the file was dropped. Nothing is resident,
                and the reservation is used up all the same.
        """
        size = file.room_of(index)
        settled = False
        try:
            with self._data.slot(file):
                with self._lock:
                    if index in file.blocks and index not in file.doubtful:
                        return
                if file.leaving or not self._is_ready(file):
                    raise CapacityError("the file is not kept any more", subject=file.name)
                try:
                    self._data.write(file, index, data, digest)
                except OSError as error:
                    settled = self._undo(file, index)
                    raise CapacityError(
                        f"the {self.config.medium} tier cannot take a block: {error.strerror}",
                        subject=str(self.config.folder),
                    ) from error
                settled = self._enter(file, index, digest)
        finally:
            if not settled:
                self.give_back(size)

    def _enter(self, file: CachedFile, index: int, digest: bytes) -> bool:
        block, size = BlockId(file.file_version, index), file.room_of(index)
        with self._lock:
            is_new = index not in file.blocks and index not in file.strays
            (self.room.keep if is_new else self.room.give_back)(size)
            file.strays.discard(index)
            file.doubtful.discard(index)
            file.blocks[index] = Block(digest, self._runtime.monotonic())
            self.policy.add(block, size)
            self.changed[file.file_version] = file
        return True

    def _undo(self, file: CachedFile, index: int) -> bool:
        # Any part of the block may have been written. Where it was resident, it is not any more.
        with self._lock:
            self.counts.write_errors += 1
            if index in file.blocks:
                self._strike(file, index)
            if index in file.strays:
                return False
        if self._data.punch(file, [index]):
            return False
        with self._lock:
            self.room.keep(file.room_of(index))
            file.strays.add(index)
        return True

    def verify(self, file: CachedFile, index: int) -> bool:
        """Compare a block with its digest, and discard it if it is bad. The caller holds it.

        Raises:
            CapacityError: The disk hangs.
        """
        for _ in range(ROUNDS_LIMIT):
            with self._lock:
                block, suspicions = file.blocks.get(index), file.suspicions
            if block is None:
                return False
            if not self._data.matches(file, index, block.digest):
                break
            with self._lock:
                confirmed = file.suspicions == suspicions and file.blocks.get(index) is block
                settled = confirmed and file.doubtful == {index}
                if confirmed:
                    file.doubtful.discard(index)
            if settled:
                with self._data.slot(file):
                    self._data.record_trust(file)
            if confirmed:
                return True
        self.discard(file, index)
        return False

    def discard(self, file: CachedFile, index: int) -> None:
        """Take a bad block out of a file that may be lent out. The caller holds it.

        Raises:
            CapacityError: The disk hangs.
        """
        with self._data.slot(file):
            with self._lock:
                if index not in file.blocks:
                    return
                self.counts.corrupt_blocks += 1
                self._strike(file, index)
            self._data.record_gone(file, [index])

    def _strike(self, file: CachedFile, index: int) -> None:
        del file.blocks[index]
        file.doubtful.discard(index)
        file.strays.add(index)
        self.policy.remove(BlockId(file.file_version, index))
        self.changed[file.file_version] = file

    def trust(self, file: CachedFile, index: int) -> bool:
        """Say whether a block may be handed out, having verified what is doubtful.

        The caller holds the block.

        Raises:
            CapacityError: The disk hangs, or the file cannot be opened just now.
        """
        self.check(file)
        with self._lock:
            if index not in file.doubtful:
                return index in file.blocks and file.handle is not None
        return self.verify(file, index)

    def vouch(self, file: CachedFile) -> int:
        """Verify all that is doubtful in a lent file, and return its stamp.

        Raises:
            CapacityError: The disk hangs.
        """
        for _ in range(ROUNDS_LIMIT):
            self.check(file)
            with self._lock:
                doubtful = sorted(file.doubtful)
                if not doubtful:
                    break
            for index in doubtful:
                self.verify(file, index)
        with self._lock:
            return file.stamp

    def digests(self, file: CachedFile) -> list[bytes | None]:
        """Return the digest of each block that is resident and not doubtful."""
        digests: list[bytes | None] = [None] * file.block_count
        with self._lock:
            for index, block in file.blocks.items():
                if index not in file.doubtful:
                    digests[index] = block.digest
        return digests
