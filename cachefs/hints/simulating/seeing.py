"""Seeing: the world as the inventory of hints would tell it.

Each accelerator is a row of the fleet, so that an answer says not only on which node a job starts but
whether on an accelerator that holds its model. The rows of a node share its tiers and its links, and are
told as one rack; what transfers use the links is written into the columns before each estimate, as the
inventory does it.
"""

from collections.abc import Mapping

import numpy as np

from cachefs.core.hints import nodes
from cachefs.core.hints.estimate import Link, Links, Located, locate
from cachefs.core.hints.fleet import Fleet
from cachefs.core.hints.nodes import NEVER, Node, Rates
from cachefs.core.hints.spread import Seen, Split, Spread
from cachefs.hints.simulating.world import Gpu, Job, Machine, World

_ORIGIN = "origin"


class Sight:
    """A fleet, links and spreads, made of the world as it is at the moment."""

    def __init__(self, world: World) -> None:
        """Take in the nodes, which never change."""
        self._world = world
        self.fleet = Fleet()
        self.gpus: list[Gpu] = [gpu for machine in world.machines for gpu in machine.gpus]
        self.row: Mapping[Gpu, int] = {gpu: row for row, gpu in enumerate(self.gpus)}
        site = world.site
        self._rates = Rates(nic=site.nic, disk=site.disk, memory=NEVER, load=site.load)
        for gpu in self.gpus:
            self.tell(gpu)
        self._node = np.array([gpu.node for gpu in self.gpus], dtype=np.intp)

    def tell(self, gpu: Gpu, free_at: float | None = None) -> None:
        """Tell the fleet when what runs on an accelerator is expected to end; it is free for ``None``."""
        used = 0.0 if free_at is None else 1.0
        device = nodes.Gpu(index=gpu.index, used=used, free_at=free_at)
        node = Node(
            name=row_name(gpu), rack=f"node-{gpu.node:04}", gpus=(device,), rates=self._rates
        )
        self.fleet.put(node, now=self._world.now)

    def links(self) -> Links:
        """Write what transfers use a node's links into the fleet, and return the links that all share."""
        users, machines = self._world.links.users, self._world.machines
        for column, streams in (
            ("streams_in", [users(machine.nic_in) for machine in machines]),
            ("streams_out", [users(machine.nic_out) for machine in machines]),
            ("streams_disk", [users(machine.disk_link) for machine in machines]),
        ):
            self.fleet.column(column)[:] = np.array(streams, dtype=np.float64)[self._node]
        rate, streams_out = self._world.site.origin, self._world.origin_users
        return Links(origins={_ORIGIN: Link(rate=rate, streams=float(streams_out))})

    def locate(self, job: Job) -> Located:
        """Return where a job's bytes are, for every row."""
        return locate(self._spread(job.model, job.size), self.fleet)

    def _spread(self, model: str, size: float) -> Spread:
        most = 0.0
        here: list[Machine] = []
        for machine in self._world.machines:
            held, filling = machine.held(model), model in machine.fills
            if held or filling:
                here.append(machine)
                most = size if filling else max(most, held)
        if not self._world.site.peers:
            most = 0.0
        return Spread(
            total=size,
            nodes={
                row_name(gpu): Seen(Split(gpu=size)) for gpu in self.gpus if will_hold(gpu) == model
            },
            racks={("", machine.name): self._seen(machine, model, size, most) for machine in here},
            elsewhere=Seen(Split(peer_zone=most, origin=size - most)),
            origin=_ORIGIN,
        )

    def _seen(self, machine: Machine, model: str, size: float, most: float) -> Seen:
        """Return what accelerators of a node see that do not hold the model themselves."""
        now = self._world.now
        fill = machine.fills.get(model)
        if fill is not None:
            left = min(sum(each.left_at(now) for each in fill.transfers), size)
            arrival = max((each.finish for each in fill.transfers), default=now)
            return Seen(Split(dram=size - left, arriving=left), max(arrival - now, 0.0))
        memory = machine.memory.held(model)
        here = max(machine.disk.held(model), memory)
        peers = max(most - here, 0.0)
        return Seen(
            Split(dram=memory, nvme=here - memory, peer_zone=peers, origin=size - here - peers)
        )


def row_name(gpu: Gpu) -> str:
    """Return the name under which an accelerator is in the fleet."""
    return f"node-{gpu.node:04}/{gpu.index}"


def will_hold(gpu: Gpu) -> str:
    """Return the model that an accelerator holds once it is free."""
    return gpu.job.model if gpu.job is not None else gpu.holds
