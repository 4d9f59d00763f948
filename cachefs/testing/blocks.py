"""File versions and blocks whose right bytes anybody can compute from their names."""

import hashlib

from cachefs.core.blocks import FileVersionId, block_range
from cachefs.core.manifest import FileEntry, VersionId
from cachefs.core.names import DatasetName
from cachefs.ports import BlockStore, FileRef, HeldBlock
from cachefs.wire.digests import digester

_digest = digester("xxh3-128")


def make_file(name: str, size: int) -> FileRef:
    """Return a file version of that name and size, in the dataset ``tests/data``."""
    file_version = FileVersionId(hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest())
    entry = FileEntry(name, size, "token", "", file_version)
    return FileRef(DatasetName("tests", "data"), VersionId("ab" * 20), entry, "default", 1)


def block_bytes(file: FileRef, index: int, block_size: int) -> bytes:
    """Return the right bytes of a block: no two blocks are alike, and none is all zeros."""
    length = block_range(index, file.entry.size, block_size).length
    seed = f"{file.entry.file_version}/{index}".encode()
    return hashlib.shake_128(seed).digest(length)


def block_digest(file: FileRef, index: int, block_size: int) -> bytes:
    """Return the digest of the right bytes."""
    return _digest(block_bytes(file, index, block_size))


def fill_block(store: BlockStore, file: FileRef, index: int, block_size: int) -> None:
    """Bring a block in, as a worker does."""
    content = block_bytes(file, index, block_size)
    with store.reserve(file, index) as reservation:
        reservation.commit(memoryview(content), _digest(content))


def read_block(store: BlockStore, file: FileRef, index: int, block_size: int) -> bytes | None:
    """Return a block's bytes as the store serves them; ``None`` if it is not resident."""
    held = store.find(file, index)
    return None if held is None else read_held(held, file, index, block_size)


def read_held(held: HeldBlock, file: FileRef, index: int, block_size: int) -> bytes:
    """Return the bytes of a held block, and let go of it."""
    wanted = block_range(index, file.entry.size, block_size)
    into = memoryview(bytearray(wanted.length))
    with held:
        done = held.file.pread_into(into, wanted.offset)
    return bytes(into[:done])
