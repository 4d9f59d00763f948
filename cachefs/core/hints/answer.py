"""What is answered: nodes in order, and how the seconds of each come about.

All renderings (affinity terms, features, selectors, scores of 0 to 10) are made of these values and of
nothing else, so that every scheduler is told the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cachefs.core.hints.spread import Split


class Seconds(NamedTuple):
    """A time to wait, and how sure that is."""

    p50: float
    p90: float


class Breakdown(NamedTuple):
    """The parts of a time to ready, in seconds.

    ``ready = max(slot, image, data) + load + init``.
    """

    slot: float
    """Until enough accelerators are free."""
    image: float
    """Until the container image is there."""
    data: float
    """Until the bytes are in the node's memory."""
    load: float
    """From there into the accelerators."""
    init: float
    """What the program does before it is ready, as learned."""
    bottleneck: str
    """What the longest part waits for: ``slot:n1``, ``nvme:n1``, ``nic:n1``, ``rack:r1``, ``origin`` …"""

    @property
    def ready(self) -> float:
        """All of it."""
        return max(self.slot, self.image, self.data) + self.load + self.init


class Fit(NamedTuple):
    """Whether a node could take a member."""

    slots: int
    """Members that could start there now."""
    gpus_free: int = 0
    reason: str = ""
    """Why there is no slot; empty if there is one."""
    numa: int | None = None
    """The NUMA node of the accelerators that would be taken; ``None`` for several or none."""


class Transfer(NamedTuple):
    """Bytes of a dataset that are on their way to a node."""

    id: str
    """What brings them: ``llama@3fb2>n1``."""
    size: float
    seconds: float
    """Until the last of them is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeHint:
    """A node, and how soon the job would be ready there."""

    node: str
    rank: int
    """From 1; nodes that are told apart by nothing that matters have ranks of their own all the same."""
    score: float
    """0 to 100, 100 for the best; equal for nodes within a second of one another."""
    ready: Seconds
    breakdown: Breakdown
    split: Split
    arriving_seconds: float
    fit: Fit
    rack: str
    zone: str
    region: str
    egress_usd: float
    idle_usd: float
    """What the node's accelerators cost while they wait for this job."""
    confidence: float
    """0 to 1: of fresh knowledge and proven estimates, 1."""
    age_seconds: float
    """Since the node was last heard of."""
    transfers: tuple[Transfer, ...] = ()
    """What of the split's ``arriving`` belongs to which dataset."""
    mig: tuple[str, ...] = ()
    """Profiles of slices that are free there."""

    @property
    def cached(self) -> float:
        """The share of the bytes that the node holds; 1 if nothing is to be read."""
        return self.split.local / self.split.total if self.split.total else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GangHint:
    """Where the members of a gang would be ready together soonest."""

    assignment: tuple[str, ...]
    """The node of each member, by rank."""
    level: str
    """The level of topology at which they are together: ``rack``; ``cluster`` for nowhere closer."""
    domain: str
    """Its name: ``a/r1``."""
    ready: Seconds
    bottleneck: str
    breakdown: Breakdown | None = None
    """Of the node that is ready last, with what all wait for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """That waiting for a place is quicker than any place that is free, and that it is kept."""

    node: str
    free_seconds: float
    ready_seconds: float
    reservation: str
    """A token; see :mod:`cachefs.core.hints.reserving`."""
    expires_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where a job of a line is to start, as all of them are best off."""

    node: str
    place: str
    """The asker's own name of it; empty for any of the node's that the job fits."""
    breakdown: Breakdown
    """Of the seconds there."""
    is_loaded: bool = False
    """Whether a program there has all that the job reads in its accelerator: nothing is to be read, nor
    to be learned of reading from it."""

    @property
    def is_now(self) -> bool:
        """Whether it can start at once."""
        return self.breakdown.slot <= 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What would make the hint true: a prefetch that somebody should start, or that has been started."""

    kind: str
    dataset: str
    node: str
    size: float
    seconds: float
    job: str = ""
    """The warm-up that does it, once it has been started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """The answer to a question."""

    id: str
    generated_at: float
    """Wall clock, seconds since 1970."""
    valid_until: float
    epoch: int
    """Of the members that it was reckoned with."""
    nodes: tuple[NodeHint, ...] = ()
    """The best first."""
    gang: GangHint | None = None
    wait: Wait | None = None
    reservation: str = ""
    """The token of the place that was kept, if one was asked for and could be kept."""
    start: Start | None = None
    """Of a job that was asked about with all others of its line: where it starts, or waits for. ``None``
    while others come first."""
    actions: tuple[Action, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    """Candidates that could not take the job, and why; all others are among the nodes or beyond the limit."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """To ready, by half of all chances, of every candidate that could take the job, those beyond the
    limit included, as the weights of the datasets have it: what the order comes from. Empty unless the
    question asks for ``every`` one."""
    degraded: str = ""
    """Why the answer is worth less than usual; empty if it is not."""

    @property
    def token(self) -> str:
        """The token of the place that is kept, whether the job waits for it or not; empty for none."""
        return self.wait.reservation if self.wait is not None else self.reservation

    @property
    def has_opinion(self) -> bool:
        """Whether any node is better known than another."""
        return bool(self.nodes)
