"""The HTTP API's routes of pools and residency maps, with their bodies."""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import Field

from cachefs.coordinator.bodies import Body, Text
from cachefs.coordinator.maps import ResidencyMaps
from cachefs.coordinator.pools import Pools, PoolStanding, ScalePlan
from cachefs.coordinator.warmbodies import MapBody, MapsBody, NewMapBody
from cachefs.core.names import DatasetName, WorkerId
from cachefs.core.pools import WORKERS_MAX, PoolChange

Part = Annotated[str, Path(max_length=63)]
Count = Annotated[int, Field(ge=0, le=WORKERS_MAX)]
Workers = Annotated[list[Text], Field(max_length=WORKERS_MAX, default_factory=list)]


class PoolChangeBody(Body):
    """What shall be different about a pool; what is absent stays. Every change says who and why."""

    wanted: Count | None = None
    wanted_by_zone: dict[Text, Count] | None = None
    least: Count | None = None
    most: Count | None = None
    """``null`` takes the bound away."""
    exclusive: Text | None = None
    by: Text = ""
    reason: Text = ""

    def value(self) -> PoolChange:
        """Return the change."""
        unbounded = "most" in self.model_fields_set and self.most is None
        return PoolChange(**self.model_dump(), unbounded=unbounded)


class GrowBody(Body):
    """Workers to add."""

    count: Annotated[int, Field(ge=1, le=WORKERS_MAX)] = 1
    zone: Text = ""
    by: Text = ""
    reason: Text = ""


class ShrinkBody(Body):
    """Workers that shall leave."""

    workers: Annotated[list[Text], Field(max_length=WORKERS_MAX)]
    by: Text = ""
    reason: Text = ""


class PlanBody(Body):
    """What to plan: a change, or who shall leave."""

    change: PoolChangeBody | None = None
    workers: Workers


class ReportBody(Body):
    """What a provider says of a pool."""

    left: Workers
    """Who was stopped for good."""
    problem: Text = ""
    """What keeps it from doing what is wanted; empty for nothing."""
    stopped: Annotated[dict[Text, Text], Field(default_factory=dict)]
    """Who was stopped although it still held what others lack, and why."""


class PoolBody(Body):
    """A pool as it shall be and as it is."""

    name: str
    wanted: int | None
    wanted_by_zone: dict[str, int]
    least: int
    most: int | None
    exclusive: str
    leaving: list[str]
    """Who was named to leave."""
    problem: str
    changed_at: float
    changed_by: str
    reason: str
    live: int
    live_by_zone: dict[str, int]
    draining: list[str]
    settled: bool
    """Whether it is as it shall be."""

    @classmethod
    def of(cls, standing: PoolStanding) -> "PoolBody":
        """Show a pool."""
        pool: dict[str, Any] = {  # Any: each as the pool's field of that name
            name: getattr(standing.pool, name)
            for name in cls.model_fields
            if hasattr(standing.pool, name)
        }
        pool["leaving"] = list(standing.pool.leaving)
        return cls(
            **pool,
            live=standing.live,
            live_by_zone=dict(standing.live_by_zone),
            draining=list(standing.draining),
            settled=standing.settled,
        )


class PoolsBody(Body):
    """Pools, sorted by name."""

    pools: list[PoolBody]


class ScalePlanBody(Body):
    """What a change would do."""

    pool: str
    wanted: int | None
    start: list[str]
    """A zone for each worker to start; empty for any."""
    leave: list[str]
    blocks: int
    """Copies of blocks that must move; those that newcomers would get are an estimate."""
    bytes: int
    seconds: float
    """An estimate."""
    lost_bytes: int
    """Bytes that nobody is there to take."""

    @classmethod
    def of(cls, plan: ScalePlan) -> "ScalePlanBody":
        """Show a plan."""
        return cls(
            pool=plan.pool.name,
            wanted=plan.pool.wanted,
            start=list(plan.difference.start),
            leave=list(plan.difference.leave),
            blocks=plan.handover.blocks,
            bytes=plan.handover.size,
            seconds=plan.handover.seconds,
            lost_bytes=plan.handover.lost,
        )


def pool_routes(pools: Pools) -> APIRouter:
    """Return the routes of pools."""
    router = APIRouter(prefix="/v1/pools", tags=["pools"])

    @router.get("")
    def list_pools() -> PoolsBody:
        """List pools, sorted by name."""
        return PoolsBody(pools=[PoolBody.of(one) for one in pools.every()])

    @router.get("/{name}")
    def get_pool(name: Part) -> PoolBody:
        """Return a pool; one that nobody has named yet is empty."""
        return PoolBody.of(pools.get(name))

    @router.put("/{name}")
    def change_pool(name: Part, body: PoolChangeBody) -> PoolBody:
        """Say how a pool shall be; returns at once. Leaving workers drain first."""
        return PoolBody.of(pools.change(name, body.value()))

    @router.post("/{name}/grow")
    def grow_pool(name: Part, body: GrowBody) -> PoolBody:
        """Want so many workers more."""
        return PoolBody.of(
            pools.grow(name, body.count, zone=body.zone, by=body.by, reason=body.reason)
        )

    @router.post("/{name}/shrink")
    def shrink_pool(name: Part, body: ShrinkBody) -> PoolBody:
        """Have workers leave, and nobody come for them."""
        workers = [WorkerId(one) for one in body.workers]
        return PoolBody.of(pools.shrink(name, workers, by=body.by, reason=body.reason))

    @router.post("/{name}/plan")
    def plan_pool(name: Part, body: PlanBody) -> ScalePlanBody:
        """Say what a change, or the leaving of some workers, would do; changes nothing."""
        change = None if body.change is None else body.change.value()
        workers = [WorkerId(one) for one in body.workers]
        return ScalePlanBody.of(pools.plan(name, change, leaving=workers))

    @router.post("/{name}/report")
    def report_on_pool(name: Part, body: ReportBody) -> PoolBody:
        """Take what a provider says: who has left, and what keeps it from doing more."""
        left = [WorkerId(one) for one in body.left]
        stopped = {WorkerId(one): why for one, why in body.stopped.items()}
        return PoolBody.of(pools.report(name, left=left, problem=body.problem, stopped=stopped))

    return router


def map_routes(maps: ResidencyMaps) -> APIRouter:
    """Return the routes of residency maps."""
    router = APIRouter(prefix="/v1/maps", tags=["blocks"])

    @router.post("", status_code=201)
    def save_map(body: NewMapBody) -> MapBody:
        """Keep which blocks of a version are resident, to warm from that later."""
        return MapBody.of(maps.save(DatasetName.parse(body.dataset), body.version or None))

    @router.get("/{namespace}/{name}")
    def list_maps(namespace: Part, name: Part) -> MapsBody:
        """List the residency maps of a dataset, the newest first."""
        found = maps.every(DatasetName.parse(f"{namespace}/{name}"))
        return MapsBody(maps=[MapBody.of(one) for one in found])

    return router
