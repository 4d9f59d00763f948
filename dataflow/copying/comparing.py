"""Comparing a copy with what came from the source: part by part, and as a whole."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import xxhash

from cachefs.core.manifest import FileEntry
from cachefs.core.names import printable
from cachefs.dataflow.copying.ledger import DIGEST_BYTES
from cachefs.dataflow.spec.arguments import Verification
from cachefs.errors import CacheFSError, IntegrityError, OriginContentError
from cachefs.wire.digests import WholeFile, is_provable

Digest = Callable[[Any], bytes]
"""From a part's bytes to its digest."""  # Any: the buffer protocol has no name in Python 3.11


def digest_by(verify: Verification) -> Digest:
    """Return how parts are digested; also without verification, they are, to resume by."""
    return _sha256 if verify == "sha256" else xxhash.xxh3_128_digest


def _sha256(data: Any) -> bytes:  # Any: as above
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]


def is_whole_known(entry: FileEntry) -> bool:
    """Say whether the source vouches for a digest of the whole file that can be computed."""
    return bool(entry.digest) and is_provable(entry.digest)


class Expected:
    """What a copy of a file must be."""

    def __init__(
        self,
        entry: FileEntry,
        part_bytes: int,
        parts: Mapping[int, bytes] | None,
        digest: Digest,
    ) -> None:
        """Keep what is known.

        Args:
            entry: The file, as the source lists it.
            part_bytes: Of each part but the last.
            parts: Digest of each part, as it came from the source; ``None`` to look at the whole only.
            digest: How those were computed.
        """
        self._entry = entry
        self._part_bytes = part_bytes
        self._parts = parts
        self._digest = digest

    @property
    def several(self) -> bool:
        """Whether it has more than one part."""
        return self._entry.size > self._part_bytes

    def first_wrong(self, read: Callable[[int, int], memoryview]) -> CacheFSError | None:
        """Read a copy from end to end; return what is wrong with it, or ``None``."""
        entry = self._entry
        subject = printable(entry.path)
        whole = WholeFile(entry.digest) if is_whole_known(entry) else None
        for index, offset in enumerate(range(0, entry.size, self._part_bytes)):
            length = min(self._part_bytes, entry.size - offset)
            data = read(offset, length)
            right = len(data) == length
            if right and self._parts is not None:
                right = self._digest(data) == self._parts[index]
            if not right:
                return IntegrityError(
                    f"the copy differs from what was read, at byte {offset} or after",
                    subject=subject,
                )
            if whole is not None:
                whole.update(data)
        if whole is not None and not whole.matches:
            return OriginContentError(
                f"its bytes are {whole.found}, and {entry.digest} was expected", subject=subject
            )
        return None
