"""Hints as tests need them: a few nodes, ready after so many seconds."""

import numpy as np

from cachefs.core.hints.answer import (
    Breakdown,
    Fit,
    GangHint,
    Hint,
    NodeHint,
    Seconds,
)
from cachefs.core.hints.asking import Affinity, Gang, Question, Reading
from cachefs.core.hints.scoring import hundredths
from cachefs.core.hints.spread import Split
from cachefs.core.names import DatasetName

GIB = 1 << 30
NOON = 1_800_000_000.0
"""A moment: 2027-01-15T08:00:00Z."""


def node(name: str, seconds: float, **facts) -> NodeHint:
    """Return a node that holds ``held`` GiB of 100, awaits ``arriving``, and reads for ``data`` seconds."""
    held, arriving = facts.pop("held", 0.0) * GIB, facts.pop("arriving", 0.0) * GIB
    data = facts.pop("data", seconds)
    return NodeHint(
        node=name,
        rank=1,
        score=facts.pop("score", 100.0),
        ready=Seconds(seconds, seconds * 1.3),
        breakdown=Breakdown(
            0.0, 0.0, data, seconds - data, 0.0, facts.pop("bottleneck", "origin:s3")
        ),
        split=Split(nvme=held, arriving=arriving, origin=100 * GIB - held - arriving),
        arriving_seconds=data if arriving else 0.0,
        fit=Fit(1, 1),
        rack=facts.pop("rack", "r1"),
        zone=facts.pop("zone", "a"),
        region="x",
        egress_usd=0.0,
        idle_usd=0.0,
        confidence=1.0,
        age_seconds=0.2,
        **facts,
    )


def hint(*nodes: NodeHint, **facts) -> Hint:
    """Return a hint of these nodes, the soonest first, with their scores."""
    ready = sorted(nodes, key=lambda each: each.ready.p50)
    scores = hundredths(np.array([each.ready.p50 for each in ready])).tolist()
    ranked = [
        type(each)(
            **{**{f: getattr(each, f) for f in each.__slots__}, "rank": rank, "score": score}
        )
        for rank, (each, score) in enumerate(zip(ready, scores, strict=True), 1)
    ]
    facts = {"id": "h-01", "generated_at": NOON, "valid_until": NOON + 5, "epoch": 7, **facts}
    return Hint(nodes=tuple(ranked), **facts)


def gang_of(*names: str) -> GangHint:
    """Return a gang that is placed on these nodes, within a rack."""
    return GangHint(
        assignment=names,
        level="rack",
        domain="a/r1",
        ready=Seconds(9.0, 12.0),
        bottleneck="origin:s3",
    )


def question(*names: str, required: tuple[str, ...] = (), members: int = 1, **facts) -> Question:
    """Return a question about datasets, some of them required."""
    readings = tuple(
        Reading(
            dataset=DatasetName.parse(name),
            affinity=Affinity.REQUIRED if name in required else Affinity.PREFERRED,
        )
        for name in (*names, *required)
    )
    gang = Gang(size=members) if members > 1 else None
    return Question(readings=readings, gang=gang, **facts)


THREE = hint(
    node("n1", 3.0, held=100, data=1.0, bottleneck="nvme:n1"),
    node("n2", 12.0, held=40, arriving=60, data=10.0),
    node("n3", 300.0, zone="b", rack="r9"),
)
"""One node holds the dataset, one awaits it, one would read it from the origin."""
HELD = hint(*THREE.nodes[:2], refused={"n3": "it holds nothing of a dataset that is required"})
"""The same, if it must be held."""
COMING = hint(node("n1", 45.0, arriving=100, data=40.0), node("n2", 300.0))
"""A node is being filled; the job had better wait for it."""
ALIKE = hint(node("n1", 3.0), node("n2", 3.4), node("n3", 3.9))
NOTHING = Hint(id="h-02", generated_at=NOON, valid_until=NOON, epoch=7, degraded="not known: llama")
GANG = hint(
    node("n1", 3.0, held=100, data=1.0),
    node("n2", 9.0, held=40, arriving=60, data=8.0),
    gang=gang_of("n1", "n1", "n2"),
)
