"""One tier of a worker: a folder with a capacity, and the file versions that are in it.

Each file version is one sparse file, ``<file version>.data``, as long as the whole file, in one flat
folder. What is in it is known from memory; the journal
(:mod:`cachefs.workers.storage.journal`) brings that back after a restart. The parts of a tier:

- :mod:`~cachefs.workers.storage.books`: which blocks are resident, and what room they take; memory alone;
- :mod:`~cachefs.workers.storage.datafile`: the files on the disk, and how far their bytes can be trusted;
- :mod:`~cachefs.workers.storage.users`: who uses a file, and who tidies up after whom;
- :mod:`~cachefs.workers.storage.evicting`: how room is made;
- :mod:`~cachefs.workers.storage.verifying`: which blocks are doubtful, and which are bad.

**Order.** The worker's one lock guards all bookkeeping and is never held while the disk works. A
block is taken out of the books before its hole is punched, and enters them after its bytes and its
record are written.

**Bytes that others may see.** While a file is lent out, or anybody else has it open, none of its blocks
is punched. If it must go (its dataset was deleted), it is unlinked: holders keep it, and its room is
free when the last of them is gone.
"""

from cachefs.config.schema import ClusterConfig, TierConfig
from cachefs.core.eviction import open_policy
from cachefs.core.tiers import Room
from cachefs.errors import CapacityError
from cachefs.ports import Condition, Disk, DiskFile, FileRef, Runtime
from cachefs.workers.storage.books import Books
from cachefs.workers.storage.cachedfile import CachedFile
from cachefs.workers.storage.datafile import DataFiles
from cachefs.workers.storage.evicting import Evictor
from cachefs.workers.storage.journal import Journal, Setting
from cachefs.workers.storage.users import Users
from cachefs.workers.storage.verifying import Verifier


class Tier:
    """A folder of cached files. What is in :attr:`books` wants the worker's lock."""

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
        self._cluster = cluster
        self._runtime = runtime
        self._lock = lock
        room = Room.of(config.capacity_bytes, high_mark=config.high_mark, low_mark=config.low_mark)
        self.books = Books(room, open_policy(config.eviction))
        setting = Setting(boot_id=boot_id, block_size=cluster.block_size, digest=cluster.digest)
        self._data = DataFiles(
            disk,
            Journal(disk, runtime, setting),
            digest=cluster.digest,
            runtime=runtime,
            lock=lock,
            note_strays=self.books.note_strays,
        )
        self.users = Users(self.books, self._data, runtime, lock)
        self.evictor = Evictor(self.books, self._data, self.users, runtime=runtime, lock=lock)
        self.verifier = Verifier(self.books, self._data, self.users, lock)

    @property
    def disk_errors(self) -> int:
        """How many operations the disk refused."""
        return self._data.errors

    def recover(self) -> None:
        """Find what an earlier process left, and remove what nobody can use.

        A tier whose disk is full has less capacity, and grows as the disk empties.

        Raises:
            OSError: The folder cannot be read, or its disk refuses to be written.
        """
        files = self._data.recover(self._cluster, self._runtime.monotonic())
        with self._lock:
            for file in files:
                self.books.restore(file)
        # A process that was killed may have written bytes that no record knows. They can only be
        # in files of which some blocks are missing, and they show in the stamp. All other files
        # are looked at when they are first used.
        for file in files:
            if len(file.blocks) < file.block_count:
                with self._lock:
                    file.users += 1
                try:
                    self.verifier.check(file)
                finally:
                    self.users.leave(file)
        if self._data.is_full:
            self.evictor.fit()

    def close(self) -> None:
        """Sync everything, say so in the journal, and let go of the folder."""
        with self._lock:
            files = self.books.files.values()
            handles = [file.handle for file in files if file.handle is not None]
        self._data.close()
        for handle in handles + self.users.close():
            handle.close()

    def adopt(self, ref: FileRef) -> CachedFile:
        """Begin a file version that is not here; with the worker's lock held."""
        file = CachedFile(
            ref.entry.file_version,
            size=ref.entry.size,
            block_size=self._cluster.block_size,
            dataset=ref.dataset,
            version=ref.version,
        )
        self.books.adopt(file, self._runtime.monotonic())
        return file

    def adopt_copy(self, file: CachedFile) -> CachedFile:
        """Begin a copy of another tier's file; with the worker's lock held."""
        copy = CachedFile(
            file.file_version,
            size=file.size,
            block_size=file.block_size,
            dataset=file.dataset,
            version=file.version,
        )
        self.books.adopt(copy, self._runtime.monotonic())
        return copy

    def is_ours(self, file: CachedFile) -> bool:
        """Say whether surely nobody outside of this process has a file open; we are a user of it.

        Raises:
            CapacityError: The disk hangs.
        """
        with self._data.slot(file):
            return self.users.is_ready(file) and self.users.is_open_elsewhere(file) is False

    def open(self, file: CachedFile) -> DiskFile:
        """Return the open data file, made if there is none. The caller is a user of it.

        Raises:
            CapacityError: It cannot be made or opened.
        """
        self.verifier.check(file)
        with self._lock:
            if file.handle is None:
                raise CapacityError("the data file cannot be opened", subject=file.name)
            return file.handle

    def write(self, file: CachedFile, index: int, data: memoryview, digest: bytes) -> None:
        """Use a reservation: write a block, then its record, then enter it in the books.

        Raises:
            CapacityError: The disk did not take it, or the file was dropped. Nothing is resident,
                and the reservation is used up all the same.
        """
        settled = False
        try:
            with self._data.slot(file):
                with self._lock:
                    if index in file.blocks and index not in file.doubtful:
                        return
                if file.leaving or not self.users.is_ready(file):
                    raise CapacityError("the file is not kept any more", subject=file.name)
                try:
                    self._data.write(file, index, data, digest)
                except OSError as error:
                    settled = self._undo(file, index)
                    self.evictor.fit()  # if it is full, the next block finds room
                    raise CapacityError(
                        f"the {self.config.medium} tier cannot take a block: {error.strerror}",
                        subject=str(self.config.folder),
                    ) from error
                with self._lock:
                    self.books.enter(file, index, digest, self._runtime.monotonic())
                settled = True
        finally:
            if not settled:
                self.evictor.give_back(file.room_of(index))

    def _undo(self, file: CachedFile, index: int) -> bool:
        # Any part of the block may have been written. Where it was resident, it is not any more.
        with self._lock:
            self.books.counts.write_errors += 1
            if index in file.blocks:
                self.books.strike(file, index)
            if index in file.strays:
                return False
        # What was written are the right bytes: a stranger may have been promised them, and no hole.
        is_open = self.users.is_open_elsewhere(file)
        if is_open is False and self._data.punch(file, [index]):
            return False
        with self._lock:
            self.books.room.keep(file.room_of(index))
            file.strays.add(index)
        return True
