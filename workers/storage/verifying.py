"""Verifying: which blocks of a tier may be trusted, and what happens to a bad one.

A *doubtful* block is compared with its digest before it is handed out. A bad one is taken out of the
books and left where it is: whoever has the file open may have it before their eyes, and what mends
it under them is the right bytes, not a hole.
"""

from cachefs.ports import Condition
from cachefs.workers.storage.books import Books
from cachefs.workers.storage.cachedfile import CachedFile
from cachefs.workers.storage.datafile import DataFiles
from cachefs.workers.storage.users import Users

ROUNDS_LIMIT = 3
"""How often a block is verified anew because somebody wrote meanwhile, before it is discarded."""
NO_STAMP = 0
"""The change time of no file: who compares with it verifies what was read."""


class Verifier:
    """Verifies the blocks of one tier. Safe from any thread."""

    def __init__(self, books: Books, data: DataFiles, users: Users, lock: Condition) -> None:
        """Share the tier's books, data files and users."""
        self._books = books
        self._data = data
        self._users = users
        self._lock = lock

    def check(self, file: CachedFile) -> None:
        """Look for foreign changes, opening the file if need be. The caller is a user of it.

        Raises:
            CapacityError: It cannot be opened just now.
        """
        if not self._data.is_current(file):
            with self._data.slot(file):
                self._users.is_ready(file)

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
                self._books.counts.corrupt_blocks += 1
                self._books.strike(file, index)
            self._data.record_gone(file, [index])

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

        The stamp is read together with the finding that nothing is doubtful: one read a moment later
        might already be that of a foreign write which another thread noticed in between, and would
        vouch for it. While somebody writes faster than we verify, it is ``NO_STAMP``.

        Raises:
            CapacityError: The disk hangs.
        """
        for _ in range(ROUNDS_LIMIT):
            self.check(file)
            with self._lock:
                doubtful = sorted(file.doubtful)
                if not doubtful:
                    return file.stamp
            for index in doubtful:
                self.verify(file, index)
        return NO_STAMP

    def digests(self, file: CachedFile) -> list[bytes | None]:
        """Return the digest of each block that is resident and not doubtful."""
        digests: list[bytes | None] = [None] * file.block_count
        with self._lock:
            for index, block in file.blocks.items():
                if index not in file.doubtful:
                    digests[index] = block.digest
        return digests
