"""Placement: which workers own a block, by weighted rendezvous hashing.

Every worker of the block's pool gets a score from a hash of (worker, block) and its weight; the
order of the scores is the order of the owners. Nobody keeps a table, everyone who has the same view
computes the same owners, and when a worker joins or leaves, only the blocks that it gains or loses
move: about 1/N of them. The score is ``-weight / ln(u)`` with ``u`` uniform in (0, 1), which gives
each worker blocks in proportion to its weight (Schindelhauer and Schomaker, "Weighted Distributed
Hash Tables", SPAA 2005, the logarithmic method).

With zones, the first owner is the best worker of all; each further one is the best worker of a zone
that holds no copy yet, while there is such a zone. So replicas survive the loss of a zone, and which
worker comes first does not depend on zones at all.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence

from cachefs.core.blocks import BlockId
from cachefs.core.membership import Member

_HASH_RANGE = float(1 << 64)


def order(block: BlockId, members: Iterable[Member], *, pool: str) -> list[Member]:
    """Return the members of a pool in the order in which they should own a block.

    Draining members and members without capacity are left out. The first ``replicas`` of the
    result own the block; the rest follow as its owners would if these were gone.
    """
    key = f"{block.file_version}/{block.index}".encode()
    candidates = [
        (_score(key, member), member)
        for member in members
        if member.pool == pool and member.weight > 0 and not member.draining
    ]
    candidates.sort(key=lambda scored: (-scored[0], scored[1].worker))
    return _spread([member for _, member in candidates])


def owners(
    block: BlockId, members: Iterable[Member], *, pool: str, replicas: int
) -> Sequence[Member]:
    """Return the members that should hold a block."""
    return order(block, members, pool=pool)[:replicas]


def _score(key: bytes, member: Member) -> float:
    digest = hashlib.blake2b(key, digest_size=8, key=member.worker.encode()).digest()
    uniform = (int.from_bytes(digest, "little") + 0.5) / _HASH_RANGE
    # The largest hashes round to exactly 1.0, whose logarithm is zero.
    return member.weight / -math.log(min(uniform, 1 - 2**-53))


def _spread(ranked: list[Member]) -> list[Member]:
    """Reorder so that zones without a copy come first, keeping the rank among equals."""
    if len({member.zone for member in ranked}) <= 1:
        return ranked
    spread: list[Member] = []
    while ranked:
        seen: set[str] = set()
        later: list[Member] = []
        for member in ranked:
            if member.zone in seen:
                later.append(member)
            else:
                seen.add(member.zone)
                spread.append(member)
        ranked = later
    return spread
