"""A worker's tiers, as those see them who fill, serve and lend out."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from cachefs.core.blocks import FileVersionId
from cachefs.ports.disks import DiskFile
from cachefs.ports.sources import FileRef


class Reservation(AbstractContextManager["Reservation"], Protocol):
    """Capacity promised to one block in flight; leaving the context gives back what was not used."""

    def commit(self, data: memoryview, digest: bytes) -> None:
        """Write the block, then its record; from then on it is resident.

        Raises:
            CapacityError: The disk is full in spite of the reservation. Nothing is resident.
        """
        ...


class HeldBlock(AbstractContextManager["HeldBlock"], Protocol):
    """A resident block that cannot be evicted until the context is left."""

    @property
    def file(self) -> DiskFile:
        """The sparse file it is in, at the same offset as in the file version."""
        ...

    @property
    def digest(self) -> bytes:
        """What its bytes must hash to."""
        ...

    @property
    def medium(self) -> str:
        """``memory`` or ``disk``."""
        ...


class FileLease(Protocol):
    """A whole file version lent out: none of its blocks is punched out while the lease lasts."""

    @property
    def file(self) -> DiskFile:
        """The sparse file, as long as the file version."""
        ...

    @property
    def is_current(self) -> bool:
        """Whether the store still fills this very file, and not another under its name."""
        ...

    def stamp(self) -> int:
        """Return the file's stamp after our own last write, having verified what we do not trust."""
        ...

    def digests(self) -> Sequence[bytes | None]:
        """Return the digest of each resident block, ``None`` for the others."""
        ...

    def release(self) -> None:
        """End the lease; idempotent."""
        ...


class BlockStore(Protocol):
    """Where a worker keeps blocks: its tiers. Safe from any thread."""

    def reserve(self, file: FileRef, index: int) -> Reservation:
        """Promise room for a block *before* its bytes are asked for, evicting if need be.

        Raises:
            CapacityError: Everything that is in the way is pinned, leased or reserved.
        """
        ...

    def find(self, file: FileRef, index: int) -> HeldBlock | None:
        """Return a resident block and count the access; ``None`` if it is not here.

        A block that is no longer trusted (the file's stamp is not ours, the machine lost power) is
        verified first, and is dropped if it is bad.
        """
        ...

    def holds(self, file_version: FileVersionId, index: int) -> bool:
        """Say whether a block is resident, without counting an access."""
        ...

    def mark_guest(self, file_version: FileVersionId, index: int) -> None:
        """Count a resident block as a copy that is here for a while, and goes before all others."""
        ...

    def lease(self, file: FileRef) -> FileLease:
        """Lend out a file version, making its sparse file if there is none."""
        ...

    def quarantine(self, file_version: FileVersionId, index: int) -> bool:
        """Verify a block that somebody complained about; drop it if it is bad, and say so."""
        ...
