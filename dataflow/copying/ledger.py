"""The ledger: what a copy notes, so that whoever goes on after a crash fetches nothing twice.

A step's checkpoint is small (one MiB), so the ledger is. Of a file that is done it keeps a *receipt* of
fifteen bytes: which content of the source it was made from, as which content it is at the destination,
and whether this step wrote it. What is done is seen by comparing both listings with the receipts, and
nothing is read for it. Of an unfinished file it keeps what the store gave to resume by, and the digest of
each part as it came from the source.

Digests of parts have sixteen bytes, of SHA-256 too: 128 bits, against accidents and forgeries alike.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cachefs.core.manifest import FileEntry
from cachefs.dataflow.spec.model import Value
from cachefs.errors import CapacityError

DIGEST_BYTES = 16
FILES_MAX = 30_000
"""Receipts of so many are 600 kB of base64; the rest of a checkpoint is for unfinished files."""
_NAME_BYTES = 7
_RECEIPT_BYTES = 2 * _NAME_BYTES + 1
_INDEX_BYTES = 2


@dataclass(slots=True)
class Unfinished:
    """A file of which parts are at the destination."""

    token: str
    """Of the source's content."""
    size: int
    part_bytes: int
    state: str
    """What the destination resumes by."""
    parts: dict[int, bytes] = field(default_factory=dict)
    """Number of each part that is there → digest of what came from the source."""

    @property
    def whole(self) -> bool:
        """Whether each part is there."""
        return len(self.parts) == -(-self.size // self.part_bytes)


class Ledger:
    """What is known of a copy. For one thread at a time."""

    def __init__(self) -> None:
        """Know nothing."""
        self.unfinished: dict[str, Unfinished] = {}
        self.origin_bytes = 0
        """Taken from the source, in all attempts."""
        self._receipts: dict[bytes, tuple[bytes, bool]] = {}

    def done(self, source: FileEntry, there: FileEntry) -> bool:
        """Say whether a file at the destination is the copy of the source's."""
        receipt = self._receipts.get(_named(there))
        return receipt is not None and receipt[0] == _named(source) and source.size == there.size

    def wrote(self, there: FileEntry) -> bool:
        """Say whether what is at the destination was written by this step."""
        receipt = self._receipts.get(_named(there))
        return receipt is not None and receipt[1]

    def settle(self, source: FileEntry, token: str, *, wrote: bool) -> None:
        """Note that a file is done.

        Raises:
            CapacityError: There are too many.
        """
        there = source._replace(token=token)
        if len(self._receipts) >= FILES_MAX:
            raise CapacityError(
                f"more than {FILES_MAX} files in one step", hint="make several, with include"
            )
        before = self._receipts.get(_named(there))
        # What this step wrote once stays its own, also when a later look found it equal.
        self._receipts[_named(there)] = (_named(source), wrote or bool(before and before[1]))
        self.unfinished.pop(source.path, None)

    def find(self, source: FileEntry, part_bytes: int) -> Unfinished | None:
        """Return what there is of a file; ``None`` if it is of another content, or cut otherwise."""
        found = self.unfinished.get(source.path)
        if found is None:
            return None
        same = (found.token, found.size, found.part_bytes)
        return found if same == (source.token, source.size, part_bytes) else None

    def encode(self) -> Mapping[str, Value]:
        """Return what is noted in a checkpoint."""
        receipts = b"".join(
            there + source + bytes([wrote])
            for there, (source, wrote) in sorted(self._receipts.items())
        )
        return {
            "copied": _text(receipts),
            "origin_bytes": self.origin_bytes,
            "unfinished": {
                path: {
                    "token": one.token,
                    "size": one.size,
                    "part_bytes": one.part_bytes,
                    "state": one.state,
                    "parts": _text(
                        b"".join(
                            index.to_bytes(_INDEX_BYTES, "big") + digest
                            for index, digest in sorted(one.parts.items())
                        )
                    ),
                }
                for path, one in self.unfinished.items()
            },
        }

    @classmethod
    def decode(cls, noted: Mapping[str, Any]) -> "Ledger":  # Any: JSON
        """Return the ledger of a checkpoint; an empty one, if there is none in it."""
        ledger = cls()
        for receipt in _cut(noted.get("copied", ""), _RECEIPT_BYTES):
            there, source = receipt[:_NAME_BYTES], receipt[_NAME_BYTES:-1]
            ledger._receipts[there] = (source, bool(receipt[-1]))
        ledger.origin_bytes = int(noted.get("origin_bytes", 0))
        for path, one in noted.get("unfinished", {}).items():
            parts = {
                int.from_bytes(part[:_INDEX_BYTES], "big"): part[_INDEX_BYTES:]
                for part in _cut(one["parts"], _INDEX_BYTES + DIGEST_BYTES)
            }
            ledger.unfinished[path] = Unfinished(
                one["token"], one["size"], one["part_bytes"], one["state"], parts
            )
        return ledger


def _named(entry: FileEntry) -> bytes:
    text = f"{entry.path}\0{entry.size}\0{entry.token}"
    return hashlib.blake2b(text.encode(), digest_size=_NAME_BYTES).digest()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _cut(text: str, size: int) -> list[bytes]:
    data = base64.b64decode(text)
    return [data[at : at + size] for at in range(0, len(data), size)]
