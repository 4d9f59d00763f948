"""Evicting: how a tier makes room.

Victims are chosen from the books, and taken out of them, before their bytes are touched. Then, with
the file's slot, whoever evicts asks whether anybody else has the file open:

- Nobody has: the blocks are punched out, or the file is unlinked if they were its last.
- Somebody has: the blocks are put back, the file counts as lent out for a while, and others are
  chosen. If nothing else is left, there is no room. To unlink the file would make none, for its
  bytes stay as long as they are open; and those who still read it would bring them anew.
- The file system cannot tell, and the file was lent out once: the whole file is unlinked. Whoever
  has it open keeps every byte. Its room counts as free, because nobody could say when it is.
"""

from cachefs.core.tiers import Room
from cachefs.errors import CapacityError
from cachefs.ports import Condition, Runtime
from cachefs.workers.storage.books import Books, Taken
from cachefs.workers.storage.datafile import PATIENCE_SECONDS, DataFiles
from cachefs.workers.storage.users import Users


class Evictor:
    """Makes room in one tier. Safe from any thread."""

    def __init__(
        self, books: Books, data: DataFiles, users: Users, *, runtime: Runtime, lock: Condition
    ) -> None:
        """Share the tier's books, data files and users."""
        self._books = books
        self._data = data
        self._users = users
        self._runtime = runtime
        self._lock = lock

    @property
    def _room(self) -> Room:
        return self._books.room

    def fit(self) -> None:
        """Promise no more than the disk can take: what others have put there is not ours to evict."""
        try:
            free = self._data.disk.free_bytes()
        except OSError:
            self._data.count_error()
            return
        with self._lock:
            self._room.limit(self._room.used + free)

    def try_reserve(self, size: int) -> bool:
        """Promise room, evicting as needed; ``False`` if what is in the way may not go."""
        if self._room.is_limited:
            self.fit()
        if self._room.excess(size) > 0:
            self._users.look_again()
        deadline = self._runtime.monotonic() + PATIENCE_SECONDS
        while True:
            now = self._runtime.monotonic()
            with self._lock:
                chosen = self._books.choose(size, now) if now < deadline else []
                if not chosen:
                    if self._room.try_reserve(size):
                        return True
                    if not self._room.leaving or now >= deadline:
                        return False
                    self._lock.wait(deadline - now)  # another thread's eviction is about to end
            for taken in chosen:
                self.punch_out(taken)

    def give_back(self, size: int) -> None:
        """End a promise that was not used."""
        with self._lock:
            self._room.give_back(size)

    def punch_out(self, taken: Taken) -> bool:
        """Free the room of blocks that were taken out of the books; say whether they went.

        They did not if somebody else has the file open; they are in the books again.
        """
        file, freed, kept = taken.file, set[int](), False
        try:
            with self._data.slot(file):
                with self._lock:
                    # One that was filled again meanwhile is not punched: its bytes are wanted.
                    freed = {index for index in taken.blocks if index in file.blocks}
                if self._users.is_ready(file):
                    is_open = self._users.is_open_elsewhere(file)
                    if self._is_leaving(taken, is_open):
                        self._users.remove(file)
                        if file.users == 1:  # else when the last one leaves
                            freed = set(taken.blocks)
                    elif is_open is False:
                        punched = sorted(taken.blocks.keys() - freed)
                        freed.update(self._data.punch(file, punched))
                    else:
                        kept = True
        except CapacityError:  # the disk hangs, or no descriptor is to be had
            self._data.count_error()
        finally:
            with self._lock:
                kept = kept and not file.gone
                self._books.settle(taken, freed=freed, kept=kept)
                self._lock.notify_all()
            self._users.leave(file)
        return not kept

    def _is_leaving(self, taken: Taken, is_open: bool | None) -> bool:  # noqa: FBT001 - an answer
        """Say whether the whole file goes, and see to it that nobody finds it any more."""
        file = taken.file
        with self._lock:
            if file.gone or is_open or (is_open is None and file.leases):  # lent out since
                return False
            file.leaving |= is_open is None or (not file.blocks and file.users == 1)
            return file.leaving
