"""From a seed to a plan: how the cluster is made, and which kinds of faults may happen at all.

"Swarm testing": a run with few kinds of faults goes deeper into each.
"""

from dataclasses import dataclass, replace
from random import Random

from cachefs.testing.simulation.nemesis import FAULTS
from cachefs.testing.simulation.topology import BLOCK_BYTES, HEAT, ClusterPlan

CALM_SHARE = 0.15
"""So many of the seeds have no faults at all, and prove that the origin pays once."""
WARM_SHARE = 0.3
"""So many begin with a warm-up of everything."""
DIGESTS_SHARE = 0.4
"""In so many it is known beforehand what the files must hash to."""
LOCAL_SHARE = 0.5
"""In so many, readers borrow from the workers of their node."""
DRAIN_SHARE = 0.3
"""In so many of the calm ones, a worker is drained while everybody reads."""
STORED_EVERY = 64
"""One seed of so many runs the real coordinator, and starts and kills it more than others."""
LINGER_SHARE = 0.5
"""In so many of those with local readers, files are read for longer, with pauses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that a seed decides beforehand."""

    cluster: ClusterPlan
    faults: tuple[str, ...]
    events: int
    readers_tasks: int
    reads: int
    warm: bool
    """Whether a warm-up runs from the beginning, beside the readers."""
    drain: bool = False
    """Whether a worker is drained although nothing goes wrong."""
    linger: bool = False
    """Whether readers keep files open for a while."""

    @property
    def calm(self) -> bool:
        """Whether nothing goes wrong."""
        return not self.faults


def plan_of(seed: int) -> Plan:
    """Return what a seed stands for."""
    random = Random(f"plan {seed}")
    calm = random.random() < CALM_SHARE
    sizes = [_size(random) for _ in range(random.randint(1, 4))]
    blocks = sum(-(-size // BLOCK_BYTES) for size in sizes)
    kinds = [] if calm else random.sample(FAULTS, random.randint(1, 5))
    stored = seed % STORED_EVERY == STORED_EVERY - 1
    if stored and not calm:
        kinds = sorted({"coordinator", "warm", *kinds[:3]})
    files = {
        f"model-{number:05}-of-{len(sizes):05}.safetensors": random.randbytes(size)
        for number, size in enumerate(sizes, 1)
    }
    local = random.random() < LOCAL_SHARE
    workers = random.randint(1 if calm else 2, 5)
    return Plan(
        cluster=ClusterPlan(
            workers=workers,
            readers=random.randint(1, 3),
            replicas=random.choice((1, 1, 1, 2)),
            capacity_blocks=blocks + 8 if calm else random.randint(3, 24),
            memory_blocks=random.choice((0, 0, blocks + 8 if calm else random.randint(3, 16))),
            marks=random.choice(((0.95, 0.7), (0.95, 0.85), (1.0, 0.9))),
            zones=random.choice((1, 1, 2, 3)),
            nodes=random.randint(1, 3),
            local=local,
            pins=() if calm else tuple(path for path in files if random.random() < 0.15),
            ttl_seconds=0.0 if calm else random.choice((0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 6.0)),
            versions_kept=random.choice((1, 2, 3)),
            scrub_seconds=random.choice((0.0, 0.0, 2.0)),
            stored=stored,
            eviction=random.choice(("lru", "tinylfu", "size")),
            heat=replace(HEAT, askers_limit=Random(f"heat {seed}").choice((0, 1, 1, 2))),
            with_digests=random.random() < DIGESTS_SHARE,
            files=files,
        ),
        faults=tuple(kinds),
        events=0 if calm else random.randint(2, 10),
        readers_tasks=random.randint(1, 3),
        reads=random.randint(1, 6),
        warm=random.random() < WARM_SHARE or stored,
        drain=calm and workers > 1 and random.random() < DRAIN_SHARE,
        linger=local and random.random() < LINGER_SHARE,
    )


def _size(random: Random) -> int:
    if random.random() < 0.1:
        return 0
    whole = random.randrange(1, 10) * BLOCK_BYTES
    return random.choice((whole, whole - random.randrange(BLOCK_BYTES), random.randrange(1, whole)))
