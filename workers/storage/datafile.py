"""Data files: one sparse file per file version, and how far its bytes can be trusted.

After each write of our own the data file's change time, its *stamp*, is kept. Before a block is
handed out, one ``fstat`` compares: if the stamp is still ours, nobody else has written, truncated,
renamed or unlinked the file, and its blocks are what we wrote. If it is not, every block becomes
*doubtful* and is verified against its digest when it is next asked for. So is it after a restart
whenever the journal's last stamp is not the file's.

What the stamp cannot show: damage below the file system (the digest that a reader computes shows it,
and the scrubber), a foreign write in the instant between our own write and the ``fstat`` after it,
and, on kernels before 6.13, one within the same timer tick (4 ms) as our last write.

Whoever opens, writes or punches has the file's *slot*, one at a time per file: the kernel lets only
one write to a file at once anyway, and the stamp after a write is then surely that of this write.

**Others who have it open.** A process on the node that borrowed the file may read it, map it, or have
the kernel read it for others, longer than its lease lasts, and longer than the process that lent it. So
bytes that somebody may have been promised are never replaced by a hole. Before a block is punched out,
or the size put right, the kernel is asked whether anybody else has the file open
(:meth:`cachefs.ports.DiskFile.shared`); if so, the bytes stay. Over a block that is not resident only
that very block is ever written. Unlinking is always harmless: whoever has the file open keeps it.
"""

import errno
import resource
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from cachefs.config.schema import ClusterConfig
from cachefs.core.tiers import pages
from cachefs.errors import CapacityError
from cachefs.ports import Condition, Disk, DiskFile, Runtime
from cachefs.wire.digests import digest_size, digester
from cachefs.workers.storage.cachedfile import DATA_SUFFIX, Block, CachedFile
from cachefs.workers.storage.journal import (
    DRAFT_NAME,
    BlockAdded,
    BlockGone,
    FileAdded,
    FileRemoved,
    Journal,
    Record,
    Stamped,
)

OPEN_FILES_LIMIT = 256
"""Data files that a tier keeps open without a user: opening one again costs microseconds."""
_DESCRIPTORS_SHARE = 8
"""But no more than one in so many of what the process may have open: there may be two tiers, and
descriptors that are lent out and connections need the rest."""
PATIENCE_SECONDS = 10.0
"""Whoever waits so long for another's work on a file gives up: the disk hangs."""

_PASSING = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT)
)
"""Failures that say nothing about the file."""


class DataFiles:
    """The data files of one tier. Methods that touch the disk want the file's slot."""

    def __init__(
        self,
        disk: Disk,
        journal: Journal,
        *,
        digest: str,
        runtime: Runtime,
        lock: Condition,
        note_strays: Callable[[CachedFile, list[int]], None],
    ) -> None:
        """Work on an open disk.

        Args:
            disk: The tier's folder.
            journal: Its records.
            digest: The cluster's algorithm.
            runtime: Time.
            lock: The worker's.
            note_strays: Is told, with the lock held, of blocks that take room and are in no book.
        """
        self.disk = disk
        self.errors = 0
        """Operations that the disk refused; guarded by the worker's lock."""
        self._journal = journal
        self._digest = digester(digest)
        self._runtime = runtime
        self._lock = lock
        self._note_strays = note_strays
        self._open: OrderedDict[CachedFile, None] = OrderedDict()
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._open_limit = min(OPEN_FILES_LIMIT, descriptors // _DESCRIPTORS_SHARE)

    def recover(self, cluster: ClusterConfig, now: float) -> list[CachedFile]:
        """Return the files that an earlier process left, and remove what nobody can use.

        Raises:
            OSError: The folder cannot be read, or no journal can be written.
        """
        self._journal.load()
        present = set(self.disk.names())
        files: list[CachedFile] = []
        useless: list[Record] = []
        digest_bytes = digest_size(cluster.digest)
        for file_version, recorded in self._journal.files.items():
            file = CachedFile(
                file_version,
                size=recorded.size,
                block_size=cluster.block_size,
                dataset=recorded.dataset,
                version=recorded.version,
            )
            limit = file.block_count
            file.blocks = {
                index: Block(digest, now)
                for index, digest in recorded.blocks.items()
                if index < limit and len(digest) == digest_bytes
            }
            if not file.blocks or file.name not in present:
                useless.append(FileRemoved(file_version))
                continue
            file.created = file.recorded = file.was_lent = True
            file.stamp = recorded.stamp
            file.doubtful = set() if recorded.stamp else set(file.blocks)
            files.append(file)
        self.record(useless)
        known = {file.name for file in files}
        for name in sorted(present - known):
            if name == DRAFT_NAME or name.endswith(DATA_SUFFIX):
                self.remove_name(name)
        return files

    @property
    def is_full(self) -> bool:
        """Whether the disk did not even take the journal."""
        return self._journal.is_behind

    def close(self) -> None:
        """Sync everything, say so in the journal, and let go of the folder."""
        try:
            self.disk.sync()
            self._journal.close(clean=True)
        except OSError:
            self.count_error()
        finally:
            self.disk.close()

    @contextmanager
    def slot(self, file: CachedFile) -> Iterator[None]:
        """Be the only one who changes the file. The caller is a user of it.

        Raises:
            CapacityError: Somebody else has been at it for so long that the disk must hang.
        """
        deadline = self._runtime.monotonic() + PATIENCE_SECONDS
        with self._lock:
            while file.busy:
                left = deadline - self._runtime.monotonic()
                if left <= 0:
                    raise CapacityError("the tier's disk does not answer", subject=file.name)
                self._lock.wait(left)
            file.busy = True
        try:
            yield
        finally:
            with self._lock:
                file.busy = False
                file.turns += 1
                self._lock.notify_all()

    def is_current(self, file: CachedFile) -> bool:
        """Say whether an open file is as we left it; without the slot, by one ``fstat``.

        While somebody of ours writes, the stamp moves and nothing can be said: the writer compared
        before it began, and so that counts as unchanged.
        """
        with self._lock:
            handle, stamp, turns, busy = file.handle, file.stamp, file.turns, file.busy
            if handle is None:
                return False
            if busy:
                return True
        try:
            if handle.stamp() == stamp:
                return True
        except OSError:
            self.count_error()
        with self._lock:
            return file.busy or file.turns != turns

    def make_ready(self, file: CachedFile) -> bool:
        """Open the file and compare its stamp, in the slot; ``False`` if it is lost.

        Raises:
            CapacityError: It cannot be opened just now, which says nothing about it.
        """
        try:
            handle = file.handle or self._open_handle(file)
            if handle is None:
                return False
            if handle.stamp() == file.stamp:
                return True
            if not file.gone and not self.disk.refers(file.name, handle):
                return False
            return self._doubt(file, handle)
        except OSError as error:
            self.count_error()
            if error.errno in _PASSING:
                raise CapacityError(
                    f"a cached file cannot be opened: {error.strerror}", subject=file.name
                ) from error
            return False

    def is_open_elsewhere(self, file: CachedFile) -> bool | None:
        """Say whether anybody else has the file open, in the slot, with the file ready.

        ``None`` if that cannot be known, and somebody may. Who borrows the file from now on is
        promised what is in the books by then.
        """
        with self._lock:
            if file.leases:
                return True
        try:
            shared = _opened(file).shared()
        except OSError:
            self.count_error()
            shared = True
        if shared is None and not file.was_lent:
            return False
        return shared

    def write(self, file: CachedFile, index: int, data: memoryview, digest: bytes) -> None:
        """Write a block and its record, in the slot, with the file ready.

        Raises:
            OSError: It may be written in part, and is not recorded.
        """
        handle = _opened(file)
        handle.pwrite(data, file.range_of(index).offset)
        file.stamp = handle.stamp()
        provable = 0 if file.doubtful - {index} else file.stamp
        records: list[Record] = []
        if not file.recorded:
            records.append(FileAdded(file.file_version, file.size, file.dataset, file.version))
        records.append(BlockAdded(file.file_version, index, digest, provable))
        self._journal.append(records)
        file.recorded = True

    def punch(self, file: CachedFile, indexes: Sequence[int]) -> list[int]:
        """Punch out blocks, in the slot, with the file ready; return those whose room is free.

        Nobody else may have the file open.
        """
        freed = self._punch_runs(file, indexes)
        self._renew_stamp(file)
        self.record_gone(file, indexes)
        return freed

    def record_gone(self, file: CachedFile, indexes: Sequence[int]) -> None:
        """Record that blocks do not count any more; in the slot."""
        stamp = 0 if file.doubtful else file.stamp
        if file.recorded and not file.gone:
            self.record([BlockGone(file.file_version, index, stamp) for index in indexes])

    def record_trust(self, file: CachedFile) -> None:
        """Record that no block is doubtful, if that is so; in the slot."""
        with self._lock:
            settled = file.recorded and not file.gone and not file.doubtful
        if settled:
            self.record([Stamped(file.file_version, file.stamp)])

    def record(self, records: Sequence[Record]) -> None:
        """Record what has happened; the journal catches up later if it cannot now."""
        if records:
            try:
                self._journal.append(records)
            except OSError:
                self.count_error()

    def remove(self, file: CachedFile) -> None:
        """Unlink the data file, in the slot. That moves the stamp, which is our doing.

        But what moved it before was not: whoever still holds the file must not trust that.
        """
        before = file.stamp
        if file.handle is not None:
            self._renew_stamp(file)
        is_foreign = file.stamp != before
        if file.created:
            self.remove_name(file.name)
        if file.handle is not None:
            self._renew_stamp(file)
        with self._lock:
            self._open.pop(file, None)
            if is_foreign:
                file.doubtful = set(file.blocks)
                file.suspicions += 1

    def remove_name(self, name: str) -> None:
        """Unlink; what cannot be unlinked is counted and found again at the next start."""
        try:
            self.disk.remove(name)
        except OSError:
            self.count_error()

    def matches(self, file: CachedFile, index: int, digest: bytes) -> bool:
        """Read a block and compare it with a digest; unreadable bytes do not match."""
        handle = file.handle
        length = file.range_of(index).length
        content = memoryview(bytearray(length))
        try:
            if handle is None or handle.pread_into(content, file.range_of(index).offset) < length:
                return False
        except OSError:
            self.count_error()
            return False
        return self._digest(content) == digest

    def count_error(self) -> None:
        """Count a failure of the disk."""
        with self._lock:
            self.errors += 1

    def _open_handle(self, file: CachedFile) -> DiskFile | None:
        if file.gone:
            return None
        if not file.created:
            self.disk.remove(file.name)  # whatever has the name, somebody may have it open
        handle = self.disk.open(file.name, create=not file.created)
        try:
            if not file.created:
                handle.truncate(file.size)
                file.stamp = handle.stamp()
                file.created = True
        except OSError:
            handle.close()
            self.remove_name(file.name)
            raise
        with self._lock:
            file.handle = handle
            self._open[file] = None
            idle = self._close_idle() if len(self._open) > self._open_limit else None
        if idle is not None:
            idle.close()
        return handle

    def _close_idle(self) -> DiskFile | None:
        for file in self._open:
            if not file.users and not file.busy:
                handle, file.handle = file.handle, None
                del self._open[file]
                return handle
        return None

    def _doubt(self, file: CachedFile, handle: DiskFile) -> bool:
        """Somebody else wrote: every block must prove itself before it is handed out again.

        The length is put right, and what is in no block of ours takes no room, unless others have
        the file open. To them a wrong length may be an error now; mended, it would be zeros.
        """
        is_open = self.is_open_elsewhere(file)
        if handle.size() != file.size:
            if is_open is False:
                handle.truncate(file.size)
            elif not file.gone:
                return False
        with self._lock:
            ours = file.blocks.keys() | file.strays
        others = [] if file.gone else [i for i in range(file.block_count) if i not in ours]
        if is_open is False:
            self._punch_runs(file, others)
        else:
            others = [i for i in others if handle.takes_room(*file.range_of(i))]
        with self._lock:
            if is_open is not False:
                self._note_strays(file, others)
            file.doubtful = set(file.blocks)
            file.suspicions += 1
        self._renew_stamp(file)
        return True

    def _punch_runs(self, file: CachedFile, indexes: Iterable[int]) -> list[int]:
        handle = _opened(file)
        freed: list[int] = []
        for run in _runs(indexes):
            # To the end of the page, even beyond the end of the file: else its last page stays.
            begin, end = file.range_of(run[0]).offset, file.range_of(run[-1]).end
            try:
                handle.punch(begin, end - begin if end < file.size else pages(end - begin))
            except OSError:
                self.count_error()
            else:
                freed.extend(run)
        return freed

    def _renew_stamp(self, file: CachedFile) -> None:
        try:
            file.stamp = _opened(file).stamp()
        except OSError:
            file.stamp = 0
            self.count_error()


def _opened(file: CachedFile) -> DiskFile:
    if file.handle is None:
        raise OSError(errno.EBADF, "the data file is not open")
    return file.handle


def _runs(indexes: Iterable[int]) -> Iterator[range]:
    first = last = -1
    for index in sorted(indexes):
        if last >= 0 and index == last + 1:
            last = index
            continue
        if last >= 0:
            yield range(first, last + 1)
        first = last = index
    if last >= 0:
        yield range(first, last + 1)
