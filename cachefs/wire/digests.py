"""Block digests: how they are computed, and how a whole file's are packed.

xxh3-128 finds every accident and runs at memory speed; it does not resist a worker that *wants* to
serve a wrong block under the right digest. A cluster that fears that asks for BLAKE3. Both release
the interpreter's lock, so a digest costs one core and not the process.

The digest of a *whole file*, known beforehand from the origin or from a list of checksums, is written
``algorithm:hex``; any algorithm that every Python has will do.
"""

import hashlib
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


class WholeFile:
    """Compares a file's bytes, given in order, with the digest that is known of it."""

    def __init__(self, known: str) -> None:
        """Begin. The digest must be one that :func:`is_provable` accepts."""
        algorithm, _, self._expected = known.lower().partition(":")
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm, usedforsecurity=False)

    def update(self, data: Any) -> None:  # Any: the buffer protocol, as above
        """Take the next bytes."""
        self._hash.update(data)

    @property
    def found(self) -> str:
        """The digest of the bytes so far, as ``algorithm:hex``."""
        return f"{self._algorithm}:{self._hash.hexdigest()}"

    @property
    def matches(self) -> bool:
        """Whether the bytes so far are the file."""
        return self._hash.hexdigest() == self._expected


def is_provable(known: str) -> bool:
    """Say whether a file can be held to what is known of it."""
    algorithm = known.lower().partition(":")[0]
    # A digest of the SHAKE family has any length that the caller likes.
    return algorithm in hashlib.algorithms_guaranteed and not algorithm.startswith("shake_")


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
