"""What a store tells about itself: what is resident, and what happened."""

from dataclasses import dataclass

from cachefs.core.blocks import FileVersionId
from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName
from cachefs.workers.storage.cachedfile import CachedFile
from cachefs.workers.storage.tier import Tier


@dataclass(frozen=True, slots=True)
class FileResidency:
    """What a tier holds of one file version."""

    file_version: FileVersionId
    dataset: DatasetName
    version: VersionId
    """The version it was first filled for."""
    medium: str
    """``memory`` or ``disk``."""
    resident: int
    """A mask: bit *i* is block *i*; 0 when the file version has left the tier."""
    digests: tuple[bytes, ...]
    """Of the resident blocks, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierStatistics:
    """One tier, now and since the store was opened."""

    medium: str
    folder: str
    capacity_bytes: int
    lacking_bytes: int
    """What the configured capacity has beyond that, because others fill the disk."""
    used_bytes: int
    reserved_bytes: int
    blocks: int
    files: int
    leased_files: int
    evictions: int
    evicted_bytes: int
    corrupt_blocks: int
    """Blocks that did not match their digest, and were discarded."""
    lost_files: int
    """Data files that were deleted, swapped or made unreadable by somebody else."""
    write_errors: int
    """Blocks that the disk did not take."""
    disk_errors: int
    """All operations that the disk refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatistics:
    """All tiers of a worker."""

    tiers: tuple[TierStatistics, ...]
    hits: int
    misses: int


def residency_of(tier: Tier, file: CachedFile) -> FileResidency:
    """Return what a tier holds of a file; with the worker's lock held."""
    blocks = {} if file.leaving else file.blocks
    indexes = sorted(blocks)
    mask = bytearray((indexes[-1] // 8 + 1) if indexes else 0)
    for index in indexes:
        mask[index // 8] |= 1 << index % 8
    return FileResidency(
        file_version=file.file_version,
        dataset=file.dataset,
        version=file.version,
        medium=tier.config.medium,
        resident=int.from_bytes(mask, "little"),
        digests=tuple(blocks[index].digest for index in indexes),
    )


def statistics_of(tier: Tier) -> TierStatistics:
    """Return the state of a tier; with the worker's lock held."""
    books = tier.books
    files = books.files.values()
    return TierStatistics(
        medium=tier.config.medium,
        folder=str(tier.config.folder),
        capacity_bytes=books.room.capacity,
        lacking_bytes=books.room.configured - books.room.capacity,
        used_bytes=books.room.used,
        reserved_bytes=books.room.reserved,
        blocks=sum(len(file.blocks) for file in files),
        files=sum(bool(file.blocks) for file in files),
        leased_files=sum(bool(file.leases) for file in files),
        evictions=books.counts.evictions,
        evicted_bytes=books.counts.evicted_bytes,
        corrupt_blocks=books.counts.corrupt_blocks,
        lost_files=books.counts.lost_files,
        write_errors=books.counts.write_errors,
        disk_errors=tier.disk_errors,
    )
