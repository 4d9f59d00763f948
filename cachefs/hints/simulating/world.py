"""The world: nodes, their accelerators and caches, and the jobs that start on them.

A job that is placed takes its accelerators at once, and is ready when its model is there::

    ready = when its bytes are in the node's memory, then loaded, then initialised

Bytes come at the same time from the node's disk, from peers if the site has that, and from the origin;
links are shared fairly. Two jobs that want one model on one node share one fill. An accelerator keeps
the model that it ran: a job that gets accelerators which all hold its model is ready at once, and its
program need not start. When a job has run, its accelerators are free and keep what they hold.

What is left out: writing to a disk costs nothing (a fill lands in both tiers), and an accelerator holds
one model.

The world moves from event to event, and asks nobody what to do: whoever drives it
(:mod:`.replay`) looks who waits, and calls :meth:`World.place`.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from cachefs.core.hints.spread import NOTHING, Split
from cachefs.errors import check
from cachefs.hints.simulating.caches import Tier
from cachefs.hints.simulating.links import NEVER, Links, Transfer
from cachefs.hints.simulating.traces import Request

_SENDERS = 4
"""Peers that send parts of one model at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What the world is made of. Rates are in bytes per second."""

    gpus: tuple[int, ...] = (4,) * 16
    """How many accelerators each node has."""
    origin: float = 20e9 / 8
    nic: float = 25e9 / 8
    disk: float = 3e9
    load: float = 20e9
    """From a node's memory into its accelerators: one link a node."""
    init_seconds: float = 4.0
    memory_bytes: float = 96e9
    disk_bytes: float = 400e9
    peers: bool = False
    """Whether nodes read from one another what the origin need not send then."""


@dataclass(eq=False, slots=True)
class Gpu:
    """An accelerator."""

    node: int
    index: int
    holds: str = ""
    """The model in its memory; empty for none, or for one that is being loaded."""
    job: "Job | None" = None
    free_since: float = 0.0


@dataclass(eq=False, slots=True)
class Job:
    """A request, and what became of it. Moments are seconds on the world's clock."""

    number: int
    request: Request
    size: float
    placed_at: float = NEVER
    loaded_at: float = NEVER
    """When its bytes were in the node's memory."""
    ready_at: float = NEVER
    ended_at: float = NEVER
    gpus: tuple[Gpu, ...] = ()
    split: Split = NOTHING.split
    """Where its bytes came from."""

    @property
    def model(self) -> str:
        """The model it wants."""
        return self.request.model

    @property
    def wait_seconds(self) -> float:
        """From its arrival until it was ready."""
        return self.ready_at - self.request.at


@dataclass(eq=False, slots=True)
class Fill:
    """Bytes of a model that are on their way into a node's memory."""

    pending: int = 0
    memory_bytes: float = 0.0
    disk_bytes: float = 0.0
    """What each tier will keep of them."""
    transfers: list[Transfer] = field(default_factory=list)
    followers: list[Callable[[], None]] = field(default_factory=list)


class Machine:
    """A node."""

    def __init__(self, number: int, gpus: int, site: Site, first_link: int) -> None:
        """Begin with empty tiers."""
        self.number = number
        self.name = f"node-{number:04}"
        self.gpus = [Gpu(number, index) for index in range(gpus)]
        self.memory = Tier(site.memory_bytes)
        self.disk = Tier(site.disk_bytes)
        self.fills: dict[str, Fill] = {}
        self.nic_in, self.nic_out, self.disk_link, self.load_link = range(
            first_link, first_link + LINKS_PER_NODE
        )

    def held(self, model: str) -> float:
        """Return how many bytes of a model some tier holds."""
        return max(self.memory.held(model), self.disk.held(model))

    def free(self) -> int:
        """Return how many accelerators are free."""
        return sum(gpu.job is None for gpu in self.gpus)


LINKS_PER_NODE = 4
_ORIGIN = 0


class World:
    """Everything, at one moment."""

    def __init__(self, site: Site) -> None:
        """Begin at second 0 with nobody there."""
        self.site = site
        self.now = 0.0
        self.machines = [
            Machine(number, gpus, site, 1 + LINKS_PER_NODE * number)
            for number, gpus in enumerate(site.gpus)
        ]
        per_node = (site.nic, site.nic, site.disk, site.load)
        self.links = Links([site.origin, *per_node * len(self.machines)])
        self.ready: list[Job] = []
        """Jobs that became ready since whoever drives the world last took them off."""
        self.ended: list[Job] = []
        """Likewise, those that ended."""
        self.changed: set[int] = set()
        """Nodes whose tiers, fills or accelerators changed since somebody last cleared it."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    @property
    def origin_users(self) -> int:
        """How many transfers come from the origin."""
        return self.links.users(_ORIGIN)

    @property
    def origin_bytes(self) -> float:
        """What the origin has sent."""
        return self.links.carried[_ORIGIN]

    def next(self) -> float:
        """Return the moment at which something will happen by itself."""
        return min(self._events[0][0] if self._events else NEVER, self.links.next())

    def advance(self, moment: float) -> None:
        """Let everything happen that happens until a moment."""
        while (due := self.next()) <= moment:
            self.now = due
            self.links.finish(due)
            while self._events and self._events[0][0] <= due:
                heapq.heappop(self._events)[2]()
        self.now = moment

    def place(self, job: Job, gpus: Sequence[Gpu]) -> None:
        """Start a job on accelerators of one node."""
        check(len(gpus) == job.request.gpus, "a job gets as many accelerators as it wants")
        check(len({gpu.node for gpu in gpus}) == 1, "a job runs on one node")
        for gpu in gpus:
            check(gpu.job is None, "an accelerator is used once")
            gpu.job = job
        machine = self.machines[gpus[0].node]
        self.changed.add(machine.number)
        job.placed_at, job.gpus = self.now, tuple(gpus)
        if all(gpu.holds == job.model for gpu in gpus):
            job.split = Split(gpu=job.size)
            job.loaded_at = self.now
            machine.memory.touch(job.model)
            machine.disk.touch(job.model)
            self._start(job)
            return
        for gpu in gpus:
            gpu.holds = ""
        for tier in (machine.memory, machine.disk):
            tier.pin(job.model)
            tier.touch(job.model)
        self._bring(job, machine)

    def _bring(self, job: Job, machine: Machine) -> None:
        def load() -> None:
            job.loaded_at = self.now
            self.links.start((machine.load_link,), job.size, self.now, loaded)

        def loaded() -> None:
            machine.memory.unpin(job.model)
            machine.disk.unpin(job.model)
            self._after(self.site.init_seconds, lambda: self._start(job))

        fill = machine.fills.get(job.model)
        if fill is not None:
            left = sum(transfer.left_at(self.now) for transfer in fill.transfers)
            arriving = min(left, job.size)
            in_memory = job.size - arriving
            job.split = Split(dram=in_memory, arriving=arriving)
            fill.followers.append(load)
            return
        memory, disk = machine.memory.held(job.model), machine.disk.held(job.model)
        nvme = max(disk - memory, 0.0)
        missing = job.size - max(memory, disk)
        if not nvme + missing:
            job.split = Split(dram=job.size)
            load()
            return
        fill = Fill(followers=[load])
        fill.memory_bytes = machine.memory.promise(job.size - memory)
        fill.disk_bytes = machine.disk.promise(job.size - disk)
        machine.fills[job.model] = fill
        senders, from_peers = self._senders(job, machine, missing)
        job.split = Split(
            dram=memory, nvme=nvme, peer_remote=from_peers, origin=missing - from_peers
        )
        self._transfer(fill, job, machine, (machine.disk_link,), nvme)
        for sender in senders:
            way: tuple[int, ...] = (sender.nic_out, machine.nic_in)
            if sender.memory.held(job.model) < job.size and job.model not in sender.fills:
                way = (sender.disk_link, *way)
            self._transfer(fill, job, machine, way, from_peers / len(senders))
            self._follow(fill, job, machine, sender)
        self._transfer(fill, job, machine, (_ORIGIN, machine.nic_in), missing - from_peers)

    def _transfer(
        self, fill: Fill, job: Job, machine: Machine, way: tuple[int, ...], size: float
    ) -> None:
        if not size:
            return
        fill.pending += 1
        done = self._arrival(fill, job.model, machine)
        fill.transfers.append(self.links.start(way, size, self.now, done))

    def _follow(self, fill: Fill, job: Job, machine: Machine, sender: Machine) -> None:
        """Bytes that a peer awaits itself are not here before they are there."""
        theirs = sender.fills.get(job.model)
        if theirs is not None:
            fill.pending += 1
            theirs.followers.append(self._arrival(fill, job.model, machine))

    def _arrival(self, fill: Fill, model: str, machine: Machine) -> Callable[[], None]:
        def arrived() -> None:
            fill.pending -= 1
            if fill.pending:
                return
            del machine.fills[model]
            self.changed.add(machine.number)
            machine.memory.land(model, fill.memory_bytes)
            machine.disk.land(model, fill.disk_bytes)
            for follower in fill.followers:
                follower()

        return arrived

    def _senders(
        self, job: Job, machine: Machine, missing: float
    ) -> tuple[Sequence[Machine], float]:
        """Return the peers that send, and how much they have of what is missing."""
        if not (self.site.peers and missing):
            return (), 0.0
        others = [each for each in self.machines if each is not machine]
        whole = [each for each in others if each.held(job.model) >= job.size]
        if not whole:
            whole = [each for each in others if job.model in each.fills][:1]
        if whole:
            whole.sort(key=lambda each: (self.links.users(each.nic_out), each.number))
            return whole[:_SENDERS], missing
        here = job.size - missing
        most = max(others, key=lambda each: each.held(job.model), default=None)
        if most is None or most.held(job.model) <= here:
            return (), 0.0
        return (most,), most.held(job.model) - here

    def _start(self, job: Job) -> None:
        job.ready_at = self.now
        for gpu in job.gpus:
            gpu.holds = job.model
        self.ready.append(job)
        self._after(job.request.runs_seconds, lambda: self._end(job))

    def _end(self, job: Job) -> None:
        job.ended_at = self.now
        for gpu in job.gpus:
            gpu.job = None
            gpu.free_since = self.now
        self.changed.add(job.gpus[0].node)
        self.ended.append(job)

    def _after(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), happen))
