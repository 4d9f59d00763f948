"""Hints: what a decision costs in a large fleet, without the wire.

5,000 nodes of eight accelerators in 200 racks, half of them busy; 1,000 datasets, each held in part by
eight nodes. Before each decision some nodes change, as they do between two questions. What is measured
is everything from a spread to an order: bytes by node, openings, estimate, choice.
"""

import random
import time
from collections.abc import Callable, Sequence
from math import ceil

from cachefs.benchmarks.context import Bench
from cachefs.benchmarks.measuring import Meter, Row, limit_row
from cachefs.core.hints.asking import Gang, Question, WantedGpu
from cachefs.core.hints.candidates import Truths, candidates
from cachefs.core.hints.estimate import Link, Links, estimate, locate
from cachefs.core.hints.fleet import Fleet
from cachefs.core.hints.gangs import GangChoice, NoPlace, solve
from cachefs.core.hints.joint import Work, joined
from cachefs.core.hints.nodes import Gpu, Node
from cachefs.core.hints.scoring import hundredths, ordered
from cachefs.core.hints.slots import Openings, Slots
from cachefs.core.hints.spread import Seen, Split, Spread
from cachefs.errors import InvariantError

_NODES = 5_000
_DATASETS = 1_000
_HOLDERS = 8
_GPUS = 8
_ZONES = "abcde"
_RACKS = 40
"""In each zone."""
_CHANGES = 10
"""Nodes that are reported anew between two decisions."""
_DECISIONS = 400
_GANG = 64
_GIGABYTE = 1e9
_ONE_LIMIT_MS = 20.0
_GANG_LIMIT_MS = 100.0
_WANTED = WantedGpu(model="H100")
_QUESTION = Question(gpu=_WANTED)


def hints(bench: Bench) -> list[Row]:
    """Decide on one job, and on gangs of 64, for 5,000 nodes, 1,000 datasets and 8 holders of each."""
    world = _World(random.Random(bench.seed), nodes=100 if bench.quick else _NODES)
    plans: list[tuple[str, Callable[[int], object], float]] = [
        ("one job", world.one, _ONE_LIMIT_MS),
        ("gang", lambda at: world.gang(at, by_rank=False), _GANG_LIMIT_MS),
        ("gang by rank", lambda at: world.gang(at, by_rank=True), _GANG_LIMIT_MS),
    ]
    count = 10 if bench.quick else _DECISIONS
    return [_row(f"hints {name}", world, decide, limit, count) for name, decide, limit in plans]


def _row(
    name: str, world: "_World", decide: Callable[[int], object], limit: float, count: int
) -> Row:
    seconds: list[float] = []
    cpu: list[float] = []

    def decide_all() -> int:
        for at in range(count):
            world.change()
            started, started_cpu = time.perf_counter(), time.process_time()
            decide(at)
            seconds.append(time.perf_counter() - started)
            cpu.append(time.process_time() - started_cpu)
        return count

    decide(0)
    others = Meter().take(decide_all).other_share
    note = (
        f"p50 {_percentile(seconds, 50):.1f} ms; CPU p50 {_percentile(cpu, 50):.1f}, "
        f"p99 {_percentile(cpu, 99):.1f} ms; others used {others:.0%} of the machine"
    )
    return limit_row(name, [_percentile(seconds, 99)], "ms p99", limit=limit, note=note)


def _percentile(seconds: Sequence[float], percent: int) -> float:
    """Return the smallest of the times that so many of them do not exceed, in milliseconds."""
    return 1000 * sorted(seconds)[max(ceil(len(seconds) * percent / 100) - 1, 0)]


class _World:
    """A fleet, and where the bytes of datasets are in it."""

    def __init__(self, source: random.Random, *, nodes: int) -> None:
        self._source = source
        self._now = 1000.0
        self._fleet = Fleet()
        for at in range(nodes):
            self._fleet.put(self._node(at), now=self._now)
        self._slots = Slots(self._fleet)
        self._spreads = [self._spread() for _ in range(_DATASETS)]
        self._links = Links(
            racks={
                place: Link(rate=12.5 * _GIGABYTE, streams=source.randrange(4))
                for place in self._fleet.racks
            },
            zones={zone: Link(rate=50 * _GIGABYTE) for zone in self._fleet.zones},
            origins={"origin": Link(rate=5 * _GIGABYTE, streams=2)},
        )

    def change(self) -> None:
        """Let a moment pass, in which some nodes change."""
        self._now += 0.1
        for _ in range(_CHANGES):
            self._fleet.put(self._node(self._source.randrange(len(self._fleet))), now=self._now)

    def one(self, at: int) -> object:
        """Order all nodes for one job."""
        openings, may = self._openings()
        located = locate(self._spreads[at % _DATASETS], self._fleet)
        found = estimate(self._fleet, located, self._links, slot=openings.seconds, init=4.0)
        rows = (may & (openings.seconds < float("inf"))).nonzero()[0]
        order = ordered(self._fleet, rows, found.ready, fragments=openings.growth)
        return hundredths(found.ready[order])[:32]

    def gang(self, at: int, *, by_rank: bool) -> GangChoice:
        """Place a gang."""
        openings, may = self._openings()
        located = locate(self._spreads[at % _DATASETS], self._fleet)
        work = Work(
            every=None if by_rank else located,
            shares=located if by_rank else None,
            links=self._links,
            init=4.0,
        )
        found = solve(joined(self._fleet, openings, Gang(size=_GANG), work, may=may))
        if isinstance(found, NoPlace):
            raise InvariantError(found.reason)
        return found

    def _openings(self) -> tuple[Openings, Truths]:
        may = candidates(self._fleet, _QUESTION, ())
        return self._slots.openings(_WANTED, now=self._now), may

    def _node(self, at: int) -> Node:
        gpus = []
        for index in range(_GPUS):
            busy = self._source.random() < 0.5
            free_at = self._now + self._source.uniform(0, 600) if busy else None
            gpus.append(
                Gpu(
                    index=index,
                    model="NVIDIA H100 80GB HBM3",
                    numa=index // 4,
                    used=float(busy),
                    free_at=free_at,
                )
            )
        zone, rack = _ZONES[at % len(_ZONES)], f"r{at // len(_ZONES) % _RACKS}"
        return Node(name=f"node-{at:05}", zone=zone, rack=rack, region="x", gpus=tuple(gpus))

    def _spread(self) -> Spread:
        """Return the spread of a dataset: each holder has a part, and some is in the origin alone."""
        total = self._source.uniform(5, 200) * _GIGABYTE
        cached = total * self._source.uniform(0.5, 1.0)
        lacking = total - cached
        nodes, racks, zones = {}, {}, {}
        for row in self._source.sample(range(len(self._fleet)), _HOLDERS):
            node = self._fleet.at(row)
            held = cached * self._source.uniform(0.2, 1.0)
            rest = cached - held
            memory = held * self._source.random()
            there = Split(dram=memory, nvme=held - memory, peer_zone=rest, origin=lacking)
            nodes[node.name] = Seen(there)
            near = Split(peer_rack=held, peer_zone=rest, origin=lacking)
            racks[node.zone, node.rack] = Seen(near)
            zones[node.zone] = Seen(Split(peer_zone=cached, origin=lacking))
        return Spread(
            total=total,
            nodes=nodes,
            racks=racks,
            zones=zones,
            elsewhere=Seen(Split(peer_remote=cached, origin=lacking)),
            origin="origin",
        )
