"""Hits: what share of a trace's bytes a cache of some size would have served, under each eviction policy.

The policies are those of the workers (:mod:`cachefs.core.eviction`), asked as a tier asks them: a block that
is read is touched, or filled and added, and victims go until it fits. Blocks of the model that is being read
are leased, and do not go. One cache stands for all; requests read their model whole, one after the other.

Blocks are larger than the workers', so that a trace of some hundred terabytes takes seconds. That changes
little for the order of models; ``tinylfu``'s sketch ages by what it notes, and so more slowly.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cachefs.core.blocks import BlockId, FileVersionId, block_count, block_range
from cachefs.core.eviction import EvictionPolicy, open_policy
from cachefs.hints.simulating.traces import Trace

BLOCK_BYTES = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """How a cache would have done."""

    policy: str
    capacity_bytes: int
    seed: int
    requests: int
    read_bytes: float
    hit_bytes: float
    whole_hits: int
    """Requests of which every byte was there."""
    distinct_bytes: float
    """Of all models: what no cache can save is to read these once."""

    @property
    def ratio(self) -> float:
        """The share of the bytes that were there."""
        return self.hit_bytes / self.read_bytes if self.read_bytes else 0.0

    @property
    def best_ratio(self) -> float:
        """What a cache without a limit would have reached."""
        return 1 - self.distinct_bytes / self.read_bytes if self.read_bytes else 0.0


def play_hits(
    trace: Trace,
    sizes: Mapping[str, float],
    policy: str,
    capacity: int,
    *,
    seed: int,
    block_size: int = BLOCK_BYTES,
) -> Hits:
    """Play a trace through one cache.

    Raises:
        ConfigError: There is no such eviction policy.
    """
    cache = _Cache(open_policy(policy), capacity)
    whole = 0
    read = hit = 0.0
    for request in trace.requests:
        size = int(sizes[request.model])
        found = cache.read(request.model, list(_blocks(request.model, size, block_size)))
        read += size
        hit += found
        whole += found == size
    return Hits(
        policy=policy,
        capacity_bytes=capacity,
        seed=seed,
        requests=len(trace.requests),
        read_bytes=read,
        hit_bytes=hit,
        whole_hits=whole,
        distinct_bytes=sum(sizes[model] for model in trace.models),
    )


class _Cache:
    def __init__(self, policy: EvictionPolicy, capacity: int) -> None:
        self._policy = policy
        self._room = capacity
        self._held: dict[BlockId, int] = {}

    def read(self, model: str, blocks: Sequence[tuple[BlockId, int]]) -> int:
        """Read a model's blocks, and fill those that are not here; return how many bytes were."""
        missing = []
        found = 0
        for block, size in blocks:
            if block in self._held:
                self._policy.touch(block)
                found += size
            else:
                missing.append((block, size))
        self._make_room(sum(size for _, size in missing), model)
        for block, size in missing:
            if size <= self._room:
                self._policy.add(block, size)
                self._held[block] = size
                self._room -= size
        return found

    def _make_room(self, size: int, model: str) -> None:
        victims: list[BlockId] = []
        room = self._room
        for victim in self._policy.victims() if room < size else ():
            if victim.file_version != model:
                victims.append(victim)
                room += self._held[victim]
                if room >= size:
                    break
        for victim in victims:
            self._policy.remove(victim, evicted=True)
            self._room += self._held.pop(victim)


def _blocks(model: str, size: int, block_size: int) -> Iterator[tuple[BlockId, int]]:
    for index in range(block_count(size, block_size)):
        yield BlockId(FileVersionId(model), index), block_range(index, size, block_size).length
