"""Plans of copies: what is to be copied, of two listings and a ledger. Pure.

A file that is at the destination with the right size may be the right one. What decides that without
reading both is looked at here; what remains is compared, byte for byte, before anything is written.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cachefs.core.manifest import FileEntry
from cachefs.dataflow.copying.ledger import Ledger
from cachefs.dataflow.spec.arguments import Verification

PART_BYTES = 8 * 1024 * 1024
"""Of files of up to 80 GB: the block size of most caches, and more than S3's smallest part."""
PARTS_MAX = 10_000
"""S3's limit; also what a number of two bytes holds."""
_MIB = 1024 * 1024
_MD5_TAG = re.compile(r'"?[0-9a-f]{32}"?', re.ASCII)
READS_BACK: frozenset[Verification] = frozenset(("sha256", "xxh128"))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that is not known to be done."""

    entry: FileEntry
    """As the source lists it."""
    there: FileEntry | None
    """What is at its path at the destination."""

    @property
    def same_size(self) -> bool:
        """Whether something of the right size is there."""
        return self.there is not None and self.there.size == self.entry.size


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyPlan:
    """What a copy would do."""

    done: tuple[FileEntry, ...]
    """Known to be there."""
    candidates: tuple[Candidate, ...]

    @property
    def bytes_done(self) -> int:
        """Of the files that are there."""
        return sum(entry.size for entry in self.done)

    @property
    def bytes_left(self) -> int:
        """Of the others."""
        return sum(one.entry.size for one in self.candidates)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySizes:
    """What a copy would cost, before it is begun."""

    files: int
    bytes: int
    """All that match."""
    files_to_copy: int
    bytes_to_copy: int
    """Not at the destination, or of another size."""
    files_to_compare: int
    bytes_to_compare: int
    """There with the right size: the source's bytes are read to compare them, unless the digests or
    ETags that both ends tell say enough; only what differs is written."""


def compare(sources: Iterable[FileEntry], there: Iterable[FileEntry], ledger: Ledger) -> CopyPlan:
    """Compare two listings."""
    found = {entry.path: entry for entry in there}
    done: list[FileEntry] = []
    candidates: list[Candidate] = []
    for entry in sources:
        copy = found.get(entry.path)
        if copy is not None and ledger.done(entry, copy):
            done.append(entry)
        else:
            candidates.append(Candidate(entry, copy))
    return CopyPlan(done=tuple(done), candidates=tuple(candidates))


def is_equal(candidate: Candidate, verify: Verification) -> bool:
    """Say whether the listings alone show that a file is there.

    An ETag of 32 hexadecimal digits is the MD5 of the whole object, wherever it is one at all: two that
    are the same at the same size are the same content. For ``sha256`` that is not enough.
    """
    entry, there = candidate.entry, candidate.there
    if there is None or there.size != entry.size:
        return False
    if verify not in READS_BACK or not entry.size:
        return True
    tags = (entry.token, there.token)
    same = tags[0].strip('"') == tags[1].strip('"')
    return verify == "xxh128" and same and all(_MD5_TAG.fullmatch(tag) for tag in tags)


def sizes_of(plan: CopyPlan, verify: Verification) -> CopySizes:
    """Return what a plan comes to."""
    left = [one for one in plan.candidates if not is_equal(one, verify)]
    copied = [one.entry for one in left if not one.same_size]
    compared = [one.entry for one in left if one.same_size]
    every = [*plan.done, *(one.entry for one in plan.candidates)]
    return CopySizes(
        files=len(every),
        bytes=sum(entry.size for entry in every),
        files_to_copy=len(copied),
        bytes_to_copy=sum(entry.size for entry in copied),
        files_to_compare=len(compared),
        bytes_to_compare=sum(entry.size for entry in compared),
    )


def part_bytes_of(size: int, *, least: int, usual: int = PART_BYTES) -> int:
    """Return the size of a file's parts: never more of them than there may be."""
    needed = -(-size // PARTS_MAX)
    usual = max(least, usual)
    return usual if needed <= usual else -(-needed // _MIB) * _MIB
