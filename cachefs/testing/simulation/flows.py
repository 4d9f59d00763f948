"""Flows on a simulated cluster: the real engine, planner, coordinator and workers, on a clock that jumps.

The origin gives each worker so many bytes a second, and each transfer between workers is as slow as the
link that it has to itself. Nothing is drawn but in which order tasks run, so how long a run takes is a
number that does not depend on the machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cachefs.config.schema import FlowConfig, PlanningConfig
from cachefs.coordinator.service import Coordinator
from cachefs.core.manifest import FileEntry
from cachefs.dataflow.copying.plans import CopySizes
from cachefs.dataflow.engine.answers import RunStatus
from cachefs.dataflow.engine.documents import Documents
from cachefs.dataflow.engine.service import FlowService
from cachefs.dataflow.engine.ticking import Engine
from cachefs.dataflow.incoordinator import CoordinatorCache
from cachefs.dataflow.planning.planner import CachePlanner
from cachefs.dataflow.steps.prefetching import PrefetchStep
from cachefs.dataflow.steps.waiting import WaitStep
from cachefs.errors import NotKnownError, check
from cachefs.testing.simulation.cluster import Parts, SimCluster
from cachefs.testing.simulation.processes.stored_coordinator import StoredCoordinator
from cachefs.testing.simulation.topology import BLOCK_BYTES, FILL, ClusterPlan
from cachefs.testing.simulation.world.control import DATASET
from cachefs.testing.simulation.world.origin import SimOrigin, SimOriginClient
from cachefs.testing.simulation.world.runtime import SimRuntime

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
_LOOK_SECONDS = 0.5
_SECONDS_MAX = 3600.0


class PacedClient(SimOriginClient):
    """A worker's link to the origin: its requests share it."""

    def __init__(self, origin: SimOrigin, process: SimRuntime, given: list[int]) -> None:
        """Begin with an idle link; what is given is added up in ``given[0]``."""
        super().__init__(origin, process, process.name)
        self._given = given
        self._free_at = 0.0

    def read_range(
        self, entry: FileEntry, offset: int, length: int, buffer: memoryview | None = None
    ) -> memoryview:
        """Wait for the link, and return a range."""
        now = self._process.monotonic()
        self._free_at = max(now, self._free_at) + length / ORIGIN_RATE
        self._process.sleep(self._free_at - now)
        self._given[0] += length
        return super().read_range(entry, offset, length, buffer)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowOutcome:
    """What a run was planned to take, and what it took."""

    plan: Mapping[str, Any]  # Any: JSON
    status: RunStatus
    origin_bytes: int
    """As the origin counted them."""
    peer_bytes: int
    """As the workers did that took them."""

    @property
    def seconds(self) -> float:
        """How long the run took."""
        return self.status.run.ended_at - self.status.run.started_at

    def seconds_of(self, step: str) -> float:
        """Return how long a step took."""
        record = next(one for one in self.status.steps if one.id == step)
        return record.ended_at - record.started_at


def outcome_of(
    spec: str, *, files: Mapping[str, int], seed: int = 1, workers: int = 3, zones: int = 1
) -> FlowOutcome:
    """Plan a flow and run it on a cluster that holds nothing.

    Args:
        spec: What stands below ``spec`` of the document; ``prefetch`` and ``wait`` steps.
        files: Path → blocks.
        seed: Of the order in which tasks run.
        workers: How many.
        zones: Among which they are dealt out, as ``zone-0``, ``zone-1`` ….
    """
    contents = {
        path: bytes([number]) * (count * BLOCK_BYTES)
        for number, (path, count) in enumerate(files.items())
    }
    plan = ClusterPlan(
        workers=workers,
        readers=0,
        replicas=1,
        zones=zones,
        nodes=workers,
        capacity_blocks=10 * sum(files.values()),
        eviction="lru",
        stored=True,
        files=contents,
    )
    cluster = SimCluster(seed, plan, Parts())
    given = [0]
    origin, found = cluster.origin, list[FlowOutcome]()
    origin.read_seconds = (0.0, 0.0)
    origin.open = lambda process: PacedClient(origin, process, given)  # type: ignore[method-assign]  # paced
    cluster.network.faults.byte_seconds = PEER_BYTE_SECONDS

    def main() -> None:
        cluster.start()
        while len(cluster.view().members) < workers:
            cluster.world.sleep(_LOOK_SECONDS)
        try:
            found.append(_run(cluster, spec, given))
        finally:
            cluster.close()

    coordinator = cluster.coordinator
    try:
        cluster.world.run(main, until_seconds=_SECONDS_MAX)
    finally:
        if isinstance(coordinator, StoredCoordinator):
            coordinator.dispose()
    return found[0]


def _run(cluster: SimCluster, spec: str, given: list[int]) -> FlowOutcome:
    coordinator = cluster.coordinator
    check(isinstance(coordinator, StoredCoordinator), "a flow needs the real coordinator")
    assert isinstance(coordinator, StoredCoordinator)
    runtime = coordinator.process
    assert runtime is not None
    store = coordinator.store
    service: Coordinator = coordinator.service
    cache = CoordinatorCache(service)
    kinds = {"prefetch": PrefetchStep(cache), "wait": WaitStep(cache)}
    documents, config = Documents(runtime), FlowConfig(planning=RATES)
    planner = CachePlanner(cache, RATES, _no_copies)
    with Engine(store, runtime, kinds=kinds, documents=documents, config=config) as engine:
        flows = FlowService(
            store, runtime, engine, documents=documents, config=config, planner=planner
        )
        planned = flows.plan(HEAD + spec, {}).document
        engine.start()
        run = flows.submit(HEAD + spec, {}).run.id
        while not (status := flows.get(run)).run.over:
            cluster.world.sleep(_LOOK_SECONDS)
    taken = sum(
        worker.filler.statistics().filled_bytes["peer"]
        for worker in cluster.workers.values()
        if worker.filler is not None
    )
    return FlowOutcome(plan=planned, status=status, origin_bytes=given[0], peer_bytes=taken)


def _no_copies(namespace: str, wanted: object) -> CopySizes:
    del namespace
    raise NotKnownError("nothing is copied in a simulation", subject=str(wanted))
