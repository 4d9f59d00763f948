"""Users of a tier's files: whoever keeps one in memory and open, and what happens when they leave.

*Users* are reservations, held blocks, leases and evictions under way. Whoever leaves a file last
tidies up: a file without blocks is unlinked, strays are punched out. A file that is gone from the
tier is closed, and its room is free, when it has no user left.

**Strangers** are those outside of this process who have a file open: the kernel, which passes reads of a
mount through; a process that mapped it and hung up; one that borrowed it before this worker was
restarted. No lease tells of them, only the kernel does
(:meth:`cachefs.workers.storage.datafile.DataFiles.is_open_elsewhere`). Nothing is punched under them, and
the room of an unlinked file is taken as long as they have it. They do not say when they leave, so
files that wait for them are looked at now and then (:meth:`Users.look_again`).
"""

from cachefs.errors import CapacityError, check
from cachefs.ports import Condition, DiskFile, Runtime
from cachefs.workers.storage.books import Books
from cachefs.workers.storage.cachedfile import CachedFile
from cachefs.workers.storage.datafile import DataFiles
from cachefs.workers.storage.journal import FileRemoved

LOOK_SECONDS = 1.0
"""A file that was found open is not asked about again for so long."""


class Users:
    """Counts who uses the files of one tier. Safe from any thread."""

    def __init__(self, books: Books, data: DataFiles, runtime: Runtime, lock: Condition) -> None:
        """Share the tier's books and data files."""
        self._books = books
        self._data = data
        self._runtime = runtime
        self._lock = lock
        self._waiting: dict[CachedFile, None] = {}
        """Files with something to be tidied up when strangers have left them."""
        self._look_at = 0.0

    # ---- leaving ----------------------------------------------------------------------------

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
        with self._lock:
            file.users -= 1
            check(file.users >= 0, "a file was left more often than entered")
            is_over = file.gone and not file.users
        if is_over:
            self._close(file)

    def _tidy(self, file: CachedFile) -> None:
        try:
            with self._data.slot(file):
                if file.leaving:
                    if not file.gone:
                        self.remove(file)
                    return
                if not self.is_ready(file):
                    return
                is_open = self.is_open_elsewhere(file)
                with self._lock:
                    strays = sorted(file.strays)
                    if is_open:
                        self._waiting[file] = None
                if strays and is_open is False:
                    freed = self._data.punch(file, strays)
                    with self._lock:
                        self._books.free_strays(file, freed)
                        self._lock.notify_all()
        except CapacityError:
            self._data.count_error()
            with self._lock:
                file.leaving = file.gone

    def _close(self, file: CachedFile) -> None:
        """Close a file that is gone, and free its room, unless strangers have it open."""
        try:
            shared = file.handle is not None and file.handle.shared()
        except OSError:
            self._data.count_error()
            shared = True
        with self._lock:
            if shared:
                self._waiting[file] = None
                return
            handle, file.handle = file.handle, None
            self._books.end(file)
            self._lock.notify_all()
        if handle is not None:
            handle.close()

    # ---- strangers --------------------------------------------------------------------------

    def is_open_elsewhere(self, file: CachedFile) -> bool | None:
        """Ask whether strangers have the file open, in the slot, and remember if they do.

        ``None`` if that cannot be known, and somebody may.
        """
        is_open = self._data.is_open_elsewhere(file)
        if is_open:
            with self._lock:
                file.open_until = self._runtime.monotonic() + LOOK_SECONDS
        return is_open

    def look_again(self) -> None:
        """Tidy up the files that strangers have left; does nothing if it was called a moment ago."""
        now = self._runtime.monotonic()
        with self._lock:
            if not self._waiting or now < self._look_at:
                return
            self._look_at = now + LOOK_SECONDS
            waiting, self._waiting = self._waiting, {}
            for file in waiting:
                file.users += 1
        for file in waiting:
            self.leave(file)

    def close(self) -> list[DiskFile]:
        """Return what is open of files that are gone; nobody asks about them any more."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            return [file.handle for file in waiting if file.gone and file.handle is not None]

    # ---- files that go ----------------------------------------------------------------------

    def drop(self, file: CachedFile) -> None:
        """Remove a file version; who has it open keeps it. The caller is a user of it."""
        with self._lock:
            file.leaving = True
        with self._data.slot(file):
            if not file.gone:
                self.remove(file)

    def is_ready(self, file: CachedFile) -> bool:
        """Open a file and look for foreign changes, in the slot; one that is lost is removed.

        Raises:
            CapacityError: It cannot be opened just now.
        """
        if self._data.make_ready(file):
            return True
        if not file.gone:
            with self._lock:
                file.leaving = True
                file.doubtful = set(file.blocks)
                file.suspicions += 1
                self._books.counts.lost_files += bool(file.blocks)
            self.remove(file)
        return False

    def remove(self, file: CachedFile) -> None:
        """Unlink a file that is leaving, in the slot: nobody new can find it."""
        self._data.remove(file)
        if file.recorded:
            self._data.record([FileRemoved(file.file_version)])
        with self._lock:
            self._books.forget(file)
            self._lock.notify_all()
