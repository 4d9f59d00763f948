"""Guests: copies of blocks that others own, here for as long as there is a crowd for them.

A guest goes when nobody has read it for a while, and before that when room is needed: before any other
block, also one of a pinned file, for pins keep what the owners hold. Guests take a share of the tiers at
most, but for those on their way; one more is not let in. Whether a block is a guest is known in memory only: after a restart it is a
block like any other, and grows old.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence

from cachefs.core.blocks import FileVersionId
from cachefs.core.tiers import pages
from cachefs.ports import Condition
from cachefs.workers.storage.cachedfile import CachedFile
from cachefs.workers.storage.tier import Tier


class Guests:
    """The guests in all tiers of a worker. Safe from any thread."""

    def __init__(self, tiers: Sequence[Tier], lock: Condition, *, block_size: int) -> None:
        """Share the worker's tiers and lock."""
        self._tiers = tiers
        self._lock = lock
        self._room = pages(block_size)

    def __len__(self) -> int:
        """Return how many there are."""
        with self._lock:
            return sum(len(tier.books.guests) for tier in self._tiers)

    def may_come(self, share: float) -> bool:
        """Say whether one more would take no more than a share of the tiers' capacity."""
        with self._lock:
            capacity = sum(tier.books.room.capacity for tier in self._tiers)
            taken = sum(len(tier.books.guests) for tier in self._tiers) * self._room
        return taken + self._room <= share * capacity

    def mark(self, file_version: FileVersionId, index: int) -> None:
        """Make a resident block a guest."""
        with self._lock:
            for tier in self._tiers:
                file = tier.books.files.get(file_version)
                if file is not None and index in file.blocks:
                    tier.books.set_guest(file, index, guest=True)

    def settle(
        self,
        is_own: Callable[[CachedFile, int], bool | None],
        *,
        now: float,
        idle_seconds: float,
        all_of_them: bool,
    ) -> int:
        """Keep those that are ours by now, and evict those that nobody reads; return how many.

        Args:
            is_own: Says whether this worker owns a block; called without any lock. If it cannot be
                known, ``None``, and the guest stays.
            now: On the runtime's clock.
            idle_seconds: One that was not read for so long goes, unless somebody has it open.
            all_of_them: Look also at those that are read: the members have changed.
        """
        with self._lock:
            looked_at = [
                (tier, file, block)
                for tier in self._tiers
                for block in tier.books.guests
                for file in (tier.books.files[block.file_version],)
                if all_of_them or file.blocks[block.index].read_at <= now - idle_seconds
            ]
        owned = {block: is_own(file, block.index) for _, file, block in looked_at}
        leaving: dict[tuple[Tier, CachedFile], list[int]] = defaultdict(list)
        with self._lock:
            for tier, file, block in looked_at:
                if file.gone or block not in tier.books.guests:
                    continue
                if owned[block]:
                    tier.books.set_guest(file, block.index, guest=False)
                    continue
                idle = file.blocks[block.index].read_at <= now - idle_seconds
                if idle and owned[block] is not None:
                    leaving[tier, file].append(block.index)
        return sum(self._evict(each, indexes, now) for each, indexes in leaving.items())

    def _evict(self, where: tuple[Tier, CachedFile], indexes: list[int], now: float) -> int:
        tier, file = where
        tier.users.look_again()
        with self._lock:
            may_go = set(tier.books.evictable(file, now)).intersection(indexes)
            if not may_go or file.gone:
                return 0
            taken = tier.books.take_out(file, sorted(may_go))
        return len(taken.blocks) if tier.evictor.punch_out(taken) else 0
