"""What hints answer, as OpenAPI shows it.

Durations are in seconds and end in ``_s``, moments are ISO 8601 in UTC, sizes are bytes. The gRPC
service has the same fields under the same names. What is shown is our own, so bodies are made without
being validated again.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cachefs.coordinator.bodies import Body
from cachefs.core.hints.answer import (
    Action,
    Breakdown,
    GangHint,
    Hint,
    NodeHint,
    Seconds,
    Start,
    Wait,
)
from cachefs.core.hints.nodes import NEVER

_FOREVER = 365 * 86400.0
"""What has no end is written as; JSON has no infinity."""


class SecondsBody(Body):
    """A time, by half of all chances and by nine in ten."""

    p50: float
    p90: float

    @classmethod
    def of(cls, seconds: Seconds) -> "SecondsBody":
        """Show a time."""
        return cls.model_construct(p50=_seconds(seconds.p50), p90=_seconds(seconds.p90))


class BreakdownBody(Body):
    """How the seconds come about: the longest of slot, image and data, and then load and init."""

    slot_s: float
    image_s: float
    data_s: float
    load_s: float
    init_s: float
    bottleneck: str
    """What the longest part waits for: ``slot:n1``, ``nvme:n1``, ``nic:n1``, ``rack:r1``, ``origin:s3``."""

    @classmethod
    def of(cls, parts: Breakdown) -> "BreakdownBody":
        """Show the parts."""
        return cls.model_construct(
            slot_s=_seconds(parts.slot),
            image_s=_seconds(parts.image),
            data_s=_seconds(parts.data),
            load_s=_seconds(parts.load),
            init_s=_seconds(parts.init),
            bottleneck=parts.bottleneck,
        )


class BytesBody(Body):
    """The job's bytes by where the nearest copy is, as the node sees it."""

    total: int
    gpu: int
    dram: int
    dram_far: int
    """Of ``dram``, what belongs to another NUMA node than the accelerator."""
    nvme: int
    inflight: int
    peer_rack: int
    peer_zone: int
    peer_remote: int
    origin: int


class InflightBody(Body):
    """Bytes that are on their way to the node already, and charged to nobody again."""

    transfer_id: str
    bytes: int
    eta_s: float


class FitsBody(Body):
    """Whether the node could take a member now."""

    ok: bool
    gpus_free: int
    mig: list[str]
    """Profiles of slices that are free."""
    numa: int | None
    reason: str | None
    """Why not."""


class PlaceBody(Body):
    """Where the node is; empty for what nobody has said."""

    rack: str
    zone: str
    region: str


class CostBody(Body):
    """What starting there costs."""

    egress_usd: float
    gpu_idle_usd: float
    """Of the accelerators, while they wait for the job's data."""


class NodeBody(Body):
    """A node, and how soon the job would be ready there."""

    node: str
    rank: int
    score: float
    """0 to 100; equal for nodes within a second of one another."""
    ready_s: SecondsBody
    breakdown: BreakdownBody
    bytes: BytesBody
    inflight: list[InflightBody]
    fits: FitsBody
    topology: PlaceBody
    cost: CostBody
    confidence: float
    """0 to 1; of fresh knowledge and proven estimates, 1."""
    age_s: float
    """Since the node was last heard of."""

    @classmethod
    def of(cls, hint: NodeHint) -> "NodeBody":
        """Show a node."""
        split, fit = hint.split, hint.fit
        return cls.model_construct(
            node=hint.node,
            rank=hint.rank,
            score=round(hint.score, 2),
            ready_s=SecondsBody.of(hint.ready),
            breakdown=BreakdownBody.of(hint.breakdown),
            bytes=BytesBody.model_construct(
                total=round(split.total),
                gpu=round(split.gpu),
                dram=round(split.dram + split.dram_far),
                dram_far=round(split.dram_far),
                nvme=round(split.nvme),
                inflight=round(split.arriving),
                peer_rack=round(split.peer_rack),
                peer_zone=round(split.peer_zone),
                peer_remote=round(split.peer_remote),
                origin=round(split.origin),
            ),
            inflight=[
                InflightBody.model_construct(
                    transfer_id=each.id, bytes=round(each.size), eta_s=_seconds(each.seconds)
                )
                for each in hint.transfers
            ],
            fits=FitsBody.model_construct(
                ok=fit.slots > 0,
                gpus_free=fit.gpus_free,
                mig=list(hint.mig),
                numa=fit.numa,
                reason=fit.reason or None,
            ),
            topology=PlaceBody.model_construct(rack=hint.rack, zone=hint.zone, region=hint.region),
            cost=CostBody.model_construct(
                egress_usd=round(hint.egress_usd, 6), gpu_idle_usd=round(hint.idle_usd, 6)
            ),
            confidence=round(hint.confidence, 3),
            age_s=_seconds(hint.age_seconds),
        )


class GangHintBody(Body):
    """Where the members of a gang would be ready together soonest."""

    assignment: dict[str, str]
    """The node of each member, by rank."""
    domain: str
    """What they share: ``rack=a/r1``; ``cluster`` for nothing closer."""
    ready_s: SecondsBody
    bottleneck: str

    @classmethod
    def of(cls, gang: GangHint) -> "GangHintBody":
        """Show a gang."""
        return cls.model_construct(
            assignment={str(rank): node for rank, node in enumerate(gang.assignment)},
            domain=f"{gang.level}={gang.domain}" if gang.domain else gang.level,
            ready_s=SecondsBody.of(gang.ready),
            bottleneck=gang.bottleneck,
        )


class WaitBody(Body):
    """Whether waiting for a place is quicker than any place that is free; then it is kept."""

    worth_waiting: bool
    node: str | None = None
    free_in_s: float | None = None
    ready_s: float | None = None
    reservation_token: str | None = None
    expires_at: str | None = None

    @classmethod
    def of(cls, wait: Wait | None, hint: Hint) -> "WaitBody":
        """Show a wait, or that there is none."""
        if wait is None:
            return cls(worth_waiting=False)
        return cls(
            worth_waiting=True,
            node=wait.node,
            free_in_s=_seconds(wait.free_seconds),
            ready_s=_seconds(wait.ready_seconds),
            reservation_token=wait.reservation,
            expires_at=moment(hint.generated_at + wait.expires_seconds),
        )


class ActionBody(Body):
    """What would make the hint true, or does so already."""

    kind: str
    dataset: str
    node: str
    bytes: int
    seconds: float
    job: str
    """The warm-up that does it; empty while nobody has started one."""

    @classmethod
    def of(cls, action: Action) -> "ActionBody":
        """Show an action."""
        return cls.model_construct(
            kind=action.kind,
            dataset=action.dataset,
            node=action.node,
            bytes=round(action.size),
            seconds=_seconds(action.seconds),
            job=action.job,
        )


class StartBody(Body):
    """Where a job of a line starts, so that all of it is best off."""

    node: str
    place: str | None
    """The asker's own name of it; absent for any of the node's accelerators that fit."""
    now: bool
    """Whether it can start at once; else the place is kept, and ``wait`` says when it is free."""
    ready_s: float
    breakdown: BreakdownBody

    @classmethod
    def of(cls, start: Start) -> "StartBody":
        """Show where a job starts."""
        return cls.model_construct(
            node=start.node,
            place=start.place or None,
            now=start.is_now,
            ready_s=_seconds(start.breakdown.ready),
            breakdown=BreakdownBody.of(start.breakdown),
        )


class ReservationBody(Body):
    """A place that is kept."""

    token: str
    nodes: list[str]
    """The node of each member."""
    job_id: str
    expires_at: str


class HintBody(Body):
    """The answer; with no nodes, nobody knows better than anybody else."""

    hint_id: str
    generated_at: str
    epoch: int
    """Of the members that it was reckoned with."""
    valid_until: str
    nodes: list[NodeBody]
    """The best first."""
    gang: GangHintBody | None
    wait: WaitBody
    reservation: ReservationBody | None
    """The place that was kept, if one was asked for and could be."""
    start: StartBody | None
    """Where it starts, if it was asked about with the others of its line; absent while others come first."""
    actions: list[ActionBody]
    refused: dict[str, str]
    """Candidates that cannot take the job, and why."""
    degraded: str
    """Why the answer is worth less than usual; empty if it is not."""
    renderings: dict[str, Any]  # Any: each scheduler's own form
    """The same for each scheduler, in the form that it takes."""

    @classmethod
    def of(
        cls,
        hint: Hint,
        renderings: Mapping[str, Any] | None = None,  # Any: likewise
        reservation: ReservationBody | None = None,
    ) -> "HintBody":
        """Show a hint."""
        return cls.model_construct(
            hint_id=hint.id,
            generated_at=moment(hint.generated_at),
            epoch=hint.epoch,
            valid_until=moment(hint.valid_until),
            nodes=[NodeBody.of(each) for each in hint.nodes],
            gang=None if hint.gang is None else GangHintBody.of(hint.gang),
            wait=WaitBody.of(hint.wait, hint),
            reservation=reservation,
            start=None if hint.start is None else StartBody.of(hint.start),
            actions=[ActionBody.of(each) for each in hint.actions],
            refused=dict(hint.refused),
            degraded=hint.degraded,
            renderings=dict(renderings or {}),
        )


class LineHintsBody(Body):
    """The answers for a line."""

    hints: list[HintBody]
    """One for each job, in the order of the line."""


class LearnedBody(Body):
    """What an outcome was compared with."""

    node: str
    estimated_s: float
    actual_s: float
    bottleneck: str
    """To which the difference is put down, unless phases say otherwise."""
    error_ratio: float
    """The median of actual over estimated seconds, this outcome included."""


class ReservationsBody(Body):
    """Places that are kept, those that expire first in front."""

    reservations: list[ReservationBody]


def moment(seconds: float) -> str:
    """Return a moment, given in seconds since 1970, as people and programs write it."""
    at = datetime.fromtimestamp(seconds, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(seconds: float) -> float:
    """Return a time that JSON can hold, with no more digits than anybody can mean."""
    return round(seconds, 4) if seconds < NEVER else _FOREVER
