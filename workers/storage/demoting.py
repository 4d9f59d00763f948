"""Demoting: a file version moves from memory to disk, because nobody has used it for a while.

It is copied while the copy in memory goes on serving; then that one is dropped, and the one on disk is
found instead. So at no moment is a block missing, and a worker that is killed half way finds on disk
what was copied so far. Every block is verified on its way. Nothing else is evicted for it: a disk
that has no room beside what it holds takes nothing, and the file stays in memory until it must go.
"""

from collections.abc import Iterator, Mapping, Sequence

from cachefs.core.blocks import FileVersionId
from cachefs.errors import CapacityError
from cachefs.ports import Condition
from cachefs.wire.digests import digester
from cachefs.workers.storage.cachedfile import CachedFile
from cachefs.workers.storage.holding import StoredReservation
from cachefs.workers.storage.tier import Tier


class Demoter:
    """Moves files from the memory tier to the disk tier of a worker. Safe from any thread."""

    def __init__(self, tiers: Sequence[Tier], lock: Condition, *, digest: str) -> None:
        """Share the worker's tiers and lock."""
        self._tiers = tiers
        self._lock = lock
        self._digest = digester(digest)

    def demote(self, name: FileVersionId) -> int | None:
        """Move a file version; return the bytes that left memory, ``None`` if it must stay there."""
        with self._lock:
            source = next((tier for tier in self._on("memory") if _holds(tier, name)), None)
            target = next(self._on("disk"), None)
            if source is None or target is None:
                return 0
            file = source.books.files[name]
            room = sum(file.room_of(index) for index in file.blocks)
            if (
                file.users
                or not source.books.retention.may_evict(name)
                or name in target.books.files
                or not target.books.room.takes_below_high(room)
            ):
                return None
            digests = {index: block.digest for index, block in sorted(file.blocks.items())}
            copy = target.adopt_copy(file)
            file.users += 1
            copy.users += 1
        size, moved = sum(file.range_of(index).length for index in digests), False
        try:
            moved = source.is_ours(file) and self._copied(source, file, target, copy, digests)
            moved = moved and self._leaves(file)
            (source if moved else target).users.drop(file if moved else copy)
        except CapacityError:  # a disk is full, or hangs
            moved = moved and file.leaving
        finally:
            source.users.leave(file)
            target.users.leave(copy)
        return size if moved else None

    def _on(self, medium: str) -> Iterator[Tier]:
        return (tier for tier in self._tiers if tier.config.medium == medium)

    def _copied(
        self,
        source: Tier,
        file: CachedFile,
        target: Tier,
        copy: CachedFile,
        digests: Mapping[int, bytes],
    ) -> bool:
        """Copy blocks; ``False`` if one cannot be."""
        handle = source.open(file)
        buffer = memoryview(bytearray(file.block_size))
        for index, digest in digests.items():
            place = file.range_of(index)
            data = buffer[: place.length]
            if handle.pread_into(data, place.offset) < place.length or self._digest(data) != digest:
                return False
            if not target.evictor.try_reserve(copy.room_of(index)):
                return False
            with self._lock:
                copy.users += 1
            with StoredReservation(target, copy, index) as reservation:
                reservation.commit(data, digest)
        return True

    def _leaves(self, file: CachedFile) -> bool:
        """Let nobody find the file in memory any more, unless somebody uses it by now."""
        with self._lock:
            if file.users > 1 or file.leaving:
                return False
            file.leaving = True
            return True


def _holds(tier: Tier, name: FileVersionId) -> bool:
    file = tier.books.files.get(name)
    return file is not None and not file.leaving and bool(file.blocks)
