"""Flows on a simulated cluster: the real engine, planner, coordinator and workers, on a clock that jumps.

The origin gives each worker so many bytes a second, and each transfer between workers is as slow as the
link that it has to itself. Nothing is drawn but in which order tasks run, so how long a run takes is a
number that does not depend on the machine.
"""

from dataclasses import dataclass

from cachefs.config.schema import FlowConfig, PlanningConfig
from cachefs.dataflow.engine.documents import Documents
from cachefs.dataflow.engine.service import FlowService
from cachefs.dataflow.engine.ticking import Engine
from cachefs.dataflow.incoordinator import CoordinatorCache
from cachefs.dataflow.planning.planner import CachePlanner
from cachefs.dataflow.steps.prefetching import PrefetchStep
from cachefs.dataflow.steps.waiting import WaitStep
from cachefs.testing.simulation.cluster import Parts, SimCluster
from cachefs.testing.simulation.topology import BLOCK_BYTES, FILL, ClusterPlan
from cachefs.testing.simulation.world.control import DATASET
from cachefs.testing.simulation.world.origin import SimOriginClient

ORIGIN_RATE = 20_000
"""Bytes a second that the origin gives one worker."""
PEER_BYTE_SECONDS = 1e-4
RATES = PlanningConfig(
    origin_bytes_per_second=ORIGIN_RATE,
    peer_bytes_per_second=round(FILL.inflight_fills_limit / PEER_BYTE_SECONDS),
    egress_usd_per_gb=1.0,
)
HEAD = (
    "apiVersion: cachefs/v1\nkind: Flow\nmetadata: {name: planned, namespace: "
    f"{DATASET.namespace}}}\nspec:\n"
)


class PacedClient(SimOriginClient):
    """A worker's link to the origin: requests share it."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._free_at = 0.0

    def read_range(self, entry, offset, length, buffer=None):
        now = self._process.monotonic()
        self._free_at = max(now, self._free_at) + length / ORIGIN_RATE
        self._process.sleep(self._free_at - now)
        self._origin.bytes_given += length
        return super().read_range(entry, offset, length, buffer)


@dataclass
class Outcome:
    """What a run was planned to take, and what it took."""

    plan: dict
    status: object
    origin_bytes: int
    """As the origin counted them."""
    peer_bytes: int
    """As the workers did that took them."""

    @property
    def seconds(self):
        return self.status.run.ended_at - self.status.run.started_at

    def seconds_of(self, step):
        record = next(one for one in self.status.steps if one.id == step)
        return record.ended_at - record.started_at

    def planned(self, step):
        return next(one for one in self.plan["steps"] if one["id"] == step)


def outcome_of(spec, *, files, seed=1, workers=3, zones=1, replicas=1):
    """Plan a flow and run it on a cluster that holds nothing; ``files`` are path → blocks."""
    cluster = SimCluster(
        seed,
        ClusterPlan(
            workers=workers,
            readers=0,
            replicas=replicas,
            zones=zones,
            nodes=workers,
            capacity_blocks=4000,
            eviction="lru",
            stored=True,
            files={
                path: bytes([n]) * (count * BLOCK_BYTES)
                for n, (path, count) in enumerate(files.items())
            },
        ),
        Parts(),
    )
    origin, found = cluster.origin, []
    origin.bytes_given = 0
    origin.read_seconds = (0.0, 0.0)
    origin.open = lambda process: PacedClient(origin, process, process.name)
    cluster.network.faults.byte_seconds = PEER_BYTE_SECONDS

    def main():
        cluster.start()
        while len(cluster.view().members) < workers:
            cluster.world.sleep(0.1)
        try:
            found.append(_run(cluster, spec))
        finally:
            cluster.close()

    try:
        cluster.world.run(main, until_seconds=3600.0)
    finally:
        cluster.coordinator.dispose()
    return found[0]


def _run(cluster, spec):
    coordinator = cluster.coordinator
    runtime, store = coordinator.process, coordinator._store
    cache = CoordinatorCache(coordinator._service)
    kinds = {"prefetch": PrefetchStep(cache), "wait": WaitStep(cache)}
    documents, config = Documents(runtime), FlowConfig(planning=RATES)
    engine = Engine(store, runtime, kinds=kinds, documents=documents, config=config)
    service = FlowService(
        store,
        runtime,
        engine,
        documents=documents,
        config=config,
        planner=CachePlanner(cache, RATES, measure=None),
    )
    planned = service.plan(HEAD + spec, {}).document
    engine.start()
    run = service.submit(HEAD + spec, {}).run.id
    while not (status := service.get(run)).run.over:
        cluster.world.sleep(0.5)
    engine.close()
    taken = sum(
        worker.filler.statistics().filled_bytes["peer"] for worker in cluster.workers.values()
    )
    return Outcome(planned, status, cluster.origin.bytes_given, taken)
