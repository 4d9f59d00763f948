"""Block digests: how they are computed, and how a whole file's are packed.

xxh3-128 finds every accident and runs at memory speed; it does not resist a worker that *wants* to
serve a wrong block under the right digest. A cluster that fears that asks for BLAKE3. Both release
the interpreter's lock, so a digest costs one core and not the process.
"""

from collections.abc import Callable, Sequence
from typing import Any

import xxhash

from cachefs.errors import ConfigError, IntegrityError

Digester = Callable[[Any], bytes]
"""From a buffer to its digest."""


def _blake3(block: Any) -> bytes:  # Any: the buffer protocol has no name in Python 3.11.
    import blake3  # noqa: PLC0415 - an optional package, loaded by clusters that ask for it

    return blake3.blake3(block).digest()


_DIGESTERS: dict[str, tuple[Digester, int]] = {
    "xxh3-128": (xxhash.xxh3_128_digest, 16),
    "blake3": (_blake3, 32),
}


def digester(algorithm: str) -> Digester:
    """Return the function that computes a block's digest."""
    return _known(algorithm)[0]


def digest_size(algorithm: str) -> int:
    """Return the bytes of one digest."""
    return _known(algorithm)[1]


def _known(algorithm: str) -> tuple[Digester, int]:
    try:
        return _DIGESTERS[algorithm]
    except KeyError:
        known = ", ".join(_DIGESTERS)
        raise ConfigError(f"no digest {algorithm!r}", hint=f"one of {known}") from None


def pack(digests: Sequence[bytes | None], size: int) -> bytes:
    """Join the digests of a file's blocks; a block without one is ``size`` zeros."""
    return b"".join(digest or bytes(size) for digest in digests)


def unpack(packed: bytes, size: int) -> list[bytes | None]:
    """Split what :func:`pack` joined.

    Raises:
        IntegrityError: It is not a whole number of digests.
    """
    if len(packed) % size:
        raise IntegrityError("a digest list of broken length")
    digests = (packed[at : at + size] for at in range(0, len(packed), size))
    return [digest if any(digest) else None for digest in digests]
