"""What a store hands out: reservations, held blocks, leases. Each ends once, however often it is told.

While one of them is open its file stays open too, and what it stands for stays where it is.
"""

from types import TracebackType
from typing import Self

from cachefs.errors import check
from cachefs.ports import DiskFile
from cachefs.workers.storage.cachedfile import CachedFile
from cachefs.workers.storage.tier import Tier


class StoredReservation:
    """Implements :class:`cachefs.ports.Reservation`. Belongs to one thread."""

    def __init__(self, tier: Tier, cached: CachedFile, index: int) -> None:
        """Take over room that was reserved, and one use of the file."""
        self._tier = tier
        self._cached = cached
        self._index = index
        self._has_room = True
        self._ended = False

    @property
    def medium(self) -> str:
        """``memory`` or ``disk``: where the block will be."""
        return self._tier.config.medium

    def commit(self, data: memoryview, digest: bytes) -> None:
        """Write the block, then its record; from then on it is resident.

        Raises:
            CapacityError: The disk did not take it. Nothing is resident.
        """
        check(self._has_room and not self._ended, "a reservation can be used once")
        check(len(data) == self._cached.range_of(self._index).length, "not one whole block")
        self._has_room = False
        self._tier.write(self._cached, self._index, data, digest)

    def __enter__(self) -> Self:
        """Use it once, at most."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give back what was not used."""
        if self._ended:
            return
        self._ended = True
        if self._has_room:
            self._tier.evictor.give_back(self._cached.room_of(self._index))
        self._tier.users.leave(self._cached)


class StoredBlock:
    """Implements :class:`cachefs.ports.HeldBlock`. Belongs to one thread."""

    def __init__(
        self, tier: Tier, cached: CachedFile, index: int, *, digest: bytes, handle: DiskFile
    ) -> None:
        """Take over one hold of a block, and one use of its file, which is open."""
        self._tier = tier
        self._cached = cached
        self._index = index
        self._digest = digest
        self._handle = handle
        self._ended = False

    @property
    def file(self) -> DiskFile:
        """The sparse file it is in, at the same offset as in the file version."""
        return self._handle

    @property
    def digest(self) -> bytes:
        """What its bytes must hash to."""
        return self._digest

    @property
    def medium(self) -> str:
        """``memory`` or ``disk``."""
        return self._tier.config.medium

    def release(self) -> None:
        """Let go of the block; idempotent."""
        if not self._ended:
            self._ended = True
            self._tier.users.end_hold(self._cached, self._index)

    def __enter__(self) -> Self:
        """Keep the block until the context is left."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of the block."""
        self.release()


class StoredLease:
    """Implements :class:`cachefs.ports.FileLease`. Safe from any thread."""

    def __init__(self, tier: Tier, cached: CachedFile) -> None:
        """Take over one use of a file, and one lease of it, which is this object."""
        self._tier = tier
        self._cached = cached

    @property
    def file(self) -> DiskFile:
        """The sparse file, as long as the file version.

        Raises:
            CapacityError: It cannot be made or opened.
        """
        return self._tier.open(self._cached)

    def stamp(self) -> int:
        """Return the stamp after our own last write, having verified what we do not trust.

        Raises:
            CapacityError: The disk hangs.
        """
        return self._tier.verifier.vouch(self._cached)

    def digests(self) -> list[bytes | None]:
        """Return the digest of each block that is resident and not doubtful."""
        return self._tier.verifier.digests(self._cached)

    @property
    def is_current(self) -> bool:
        """Whether the store still fills this very file, and not another under its name."""
        return not self._cached.leaving

    def release(self) -> None:
        """End the lease; idempotent."""
        self._tier.users.end_lease(self._cached, self)
