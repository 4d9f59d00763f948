"""The books of a tier: which blocks are in it, what room they take, and which of them go first.

Everything here is memory, and is called with the worker's lock held; nothing waits.

A block is *resident* while it is in the books. One that is chosen for an eviction is *taken* out of
them before its bytes are touched, so that nobody is promised it any more; if it turns out that the
bytes may not be touched, it is put back. A *stray* is in no book and takes room all the same.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

from cachefs.core.blocks import BlockId, FileVersionId
from cachefs.core.eviction import EvictionPolicy, Retention
from cachefs.core.tiers import Counts, Room
from cachefs.workers.storage.cachedfile import Block, CachedFile
from cachefs.workers.storage.growing import Growing


class Taken:
    """Blocks of one file that were taken out of the books, to be evicted."""

    __slots__ = ("blocks", "doubtful", "file", "suspicions")

    def __init__(self, file: CachedFile, blocks: dict[int, Block], doubtful: set[int]) -> None:
        """Remember what it takes to put them back."""
        self.file = file
        self.blocks = blocks
        self.doubtful = doubtful
        self.suspicions = file.suspicions


class Books:
    """What a tier knows. All methods are called with the worker's lock held."""

    def __init__(self, room: Room, policy: EvictionPolicy) -> None:
        """Begin empty."""
        self.room = room
        self.policy = policy
        self.counts = Counts()
        self.files: dict[FileVersionId, CachedFile] = {}
        self.changed: dict[FileVersionId, CachedFile] = {}
        """Files whose blocks are other ones than at the last report."""
        self.growing = Growing()
        self.retention = Retention()
        self.guests: dict[BlockId, None] = {}
        """Copies for a crowd, the oldest first: they go before anything else does."""

    def restore(self, file: CachedFile) -> None:
        """Enter a file that an earlier process left."""
        self.files[file.file_version] = file
        self.changed[file.file_version] = file
        for index in file.blocks:
            self.room.restore(file.room_of(index))
            self.policy.add(BlockId(file.file_version, index), file.room_of(index))

    def adopt(self, file: CachedFile, now: float) -> None:
        """Enter a file that begins without blocks."""
        self.files[file.file_version] = file
        self.growing.note(file, now)

    def enter(self, file: CachedFile, index: int, digest: bytes, now: float) -> None:
        """Enter a block that was written into reserved room."""
        block, size = BlockId(file.file_version, index), file.room_of(index)
        is_new = index not in file.blocks and index not in file.strays
        (self.room.keep if is_new else self.room.give_back)(size)
        file.strays.discard(index)
        file.doubtful.discard(index)
        file.blocks[index] = Block(digest, now)
        self.growing.note(file, now)
        self.policy.add(block, size)
        self.changed[file.file_version] = file

    def strike(self, file: CachedFile, index: int) -> None:
        """Take out a block that is bad; its bytes stay where they are."""
        del file.blocks[index]
        file.doubtful.discard(index)
        file.strays.add(index)
        self._leave_out(BlockId(file.file_version, index))
        self.changed[file.file_version] = file

    def forget(self, file: CachedFile) -> None:
        """Take out a file whose data file was unlinked; its room is taken until it is closed."""
        for index in file.blocks:
            self._leave_out(BlockId(file.file_version, index))
        del self.files[file.file_version]
        self.growing.forget(file)
        self.changed[file.file_version] = file
        file.gone = True

    def _leave_out(self, block: BlockId, *, evicted: bool = False) -> None:
        self.policy.remove(block, evicted=evicted)
        self.guests.pop(block, None)

    def set_guest(self, file: CachedFile, index: int, *, guest: bool) -> None:
        """Say whether a resident block is a copy for a crowd."""
        file.blocks[index].guest = guest
        block = BlockId(file.file_version, index)
        if guest:
            self.guests[block] = None
        else:
            self.guests.pop(block, None)

    def end(self, file: CachedFile) -> None:
        """Give back the room of a file that is gone and closed."""
        taken = file.blocks.keys() | file.strays
        self.room.free(sum(file.room_of(index) for index in taken))
        file.blocks, file.strays = {}, set()

    # ---- strays -----------------------------------------------------------------------------

    def note_strays(self, file: CachedFile, indexes: Iterable[int]) -> None:
        """Count the room of blocks that nobody knew of."""
        for index in indexes:
            if index not in file.blocks and index not in file.strays:
                file.strays.add(index)
                self.room.restore(file.room_of(index))

    def free_strays(self, file: CachedFile, indexes: Iterable[int]) -> None:
        """Give back the room of strays that were punched out."""
        for index in file.strays.intersection(indexes):
            file.strays.discard(index)
            self.room.free(file.room_of(index))

    # ---- victims ----------------------------------------------------------------------------

    def may_evict(self, file: CachedFile, index: int, now: float) -> bool:
        """Say whether a block may be chosen; whether its bytes may go, the disk must say."""
        return (
            not file.leases
            and not file.leaving
            and file.open_until <= now
            and index not in file.held
            and (self.retention.may_evict(file.file_version) or file.blocks[index].guest)
        )

    def evictable(self, file: CachedFile, now: float) -> list[int]:
        """Return the blocks of a file that may be chosen now."""
        return [index for index in file.blocks if self.may_evict(file, index, now)]

    def coldest(self, now: float) -> float | None:
        """Return when the next victim was last read; ``None`` if nothing may go."""
        for file, index in self._victims(now):
            return file.blocks[index].read_at
        return None

    def choose(self, size: int, now: float) -> list[Taken]:
        """Take out what must go before ``size`` is reserved; nothing if that would not do."""
        missing = self.room.excess(size)
        if missing <= 0 or size > self.room.capacity:
            return []
        chosen: dict[CachedFile, list[int]] = {}
        for file, index in self._victims(now):
            chosen.setdefault(file, []).append(index)
            missing -= file.room_of(index)
            if missing <= 0:
                break
        # If all that may go does not make the room, it stays: nobody would be served.
        if self.room.low + missing > self.room.capacity:
            return []
        return [self.take_out(file, indexes) for file, indexes in chosen.items()]

    def _victims(self, now: float) -> Iterator[tuple[CachedFile, int]]:
        others = (block for block in self.policy.victims() if block not in self.guests)
        for victim in chain(tuple(self.guests), others):
            file = self.files[victim.file_version]
            if self.may_evict(file, victim.index, now):
                yield file, victim.index

    def take_out(self, file: CachedFile, indexes: Iterable[int]) -> Taken:
        """Take blocks out, and become a user of their file; :meth:`settle` must follow."""
        taken = Taken(file, {index: file.blocks.pop(index) for index in indexes}, set())
        for index in taken.blocks:
            if index in file.doubtful:
                file.doubtful.discard(index)
                taken.doubtful.add(index)
            self._leave_out(BlockId(file.file_version, index), evicted=True)
            self.room.choose(file.room_of(index))
        self.changed[file.file_version] = file
        file.users += 1
        return taken

    def settle(self, taken: Taken, *, freed: Iterable[int], kept: bool) -> None:
        """End what :meth:`take_out` began.

        Args:
            taken: The blocks.
            freed: Those whose room is free. Among them is one that was filled again meanwhile: its
                room was counted twice.
            kept: Whether the others are resident as before; else they become strays.
        """
        file = taken.file
        # One that was found to be a stray since is counted twice as well, and may be bad.
        strays = file.strays.intersection(taken.blocks)
        self.free_strays(file, strays)
        for index in taken.blocks:
            self.room.stay(file.room_of(index))
        free = set(freed)
        self.room.free(sum(file.room_of(index) for index in free))
        left = {index: block for index, block in taken.blocks.items() if index not in free}
        if file.gone or not kept:
            file.strays.update(left)
            self.counts.evictions += len(taken.blocks)
            self.counts.evicted_bytes += sum(file.range_of(at).length for at in taken.blocks)
            return
        is_same = taken.suspicions == file.suspicions
        doubtful = taken.doubtful | strays if is_same else set(left)
        for index, block in left.items():
            file.blocks[index] = block
            self.policy.add(BlockId(file.file_version, index), file.room_of(index))
            self.set_guest(file, index, guest=block.guest)
        file.doubtful.update(doubtful.intersection(left))
        self.changed[file.file_version] = file
