"""Policies that others use, to be compared with; ours are in :mod:`.hinting`.

All take jobs in the order of their arrival; a job that fits nowhere lets those behind it go first. What
decides by nodes alone gets any free accelerator of the node, as device plugins give them out; where a
policy knows what accelerators hold, the best one is taken.
"""

from collections.abc import Sequence

import numpy as np

from cachefs.core.hints.matching import WINDOW
from cachefs.hints.simulating.choosing import (
    Placing,
    Unlearning,
    best_gpus,
    emptiest,
    free_gpus,
    with_room,
)
from cachefs.hints.simulating.world import Gpu, Job, Machine, World


class Spread(Unlearning):
    """The node with the most free accelerators: what a scheduler does that knows of no data."""

    def __init__(self, world: World, seed: int) -> None:
        """Draw by seed between nodes that are equal."""
        self.world = world
        self._drawn = np.random.default_rng([seed, 0x7135])

    def choose(self, waiting: dict[int, Job]) -> Placing | None:
        """Return the first job that fits somewhere."""
        for job in list(waiting.values())[:WINDOW]:
            roomy = with_room(self.world, job)
            if roomy:
                machine = self.node(job, roomy)
                return Placing(job, self.gpus(machine, job))
        return None

    def gpus(self, machine: Machine, job: Job) -> Sequence[Gpu]:
        """Return any free accelerators of the node."""
        free = free_gpus(machine, job)
        return [free[at] for at in self._drawn.permutation(len(free))[: job.request.gpus].tolist()]

    def node(self, job: Job, roomy: Sequence[Machine]) -> Machine:
        """Return the node for a job, of those that it fits on."""
        del job
        return self.draw(emptiest(roomy))

    def draw(self, machines: Sequence[Machine]) -> Machine:
        """Return one of nodes that are equal."""
        return machines[int(self._drawn.integers(len(machines)))]


class Label(Spread):
    """Nodes that bear the model's label are preferred: true or false, however much is there.

    As Fluid does it: a node has the label from the moment at which data are to come to it. Between nodes
    with the label, and between those without, the one with the most free accelerators is taken.
    """

    def node(self, job: Job, roomy: Sequence[Machine]) -> Machine:
        """Return an emptiest of those with the label, or of all."""
        labelled = [each for each in roomy if each.held(job.model) or job.model in each.fills]
        return self.draw(emptiest(labelled or roomy))


class WarmLabel(Label):
    """The same, on nodes that give a job an accelerator which holds its model, if they have one."""

    def gpus(self, machine: Machine, job: Job) -> Sequence[Gpu]:
        """Return the best free accelerators of the node."""
        return best_gpus(machine, job)


class ServerlessLlm(WarmLabel):
    """The node where loading takes least, by bytes before it and its bandwidth, as ServerlessLLM.

    As in the scheduler that its authors published: nodes that lack any of the model are not reckoned
    with, neither are the network, transfers on their way, nor nodes that will be free soon. Where no
    node has it all, any with the most free accelerators is taken.
    """

    def node(self, job: Job, roomy: Sequence[Machine]) -> Machine:
        """Return the node that loads soonest."""
        times = [(self._seconds(machine, job), machine) for machine in roomy]
        least = min(seconds for seconds, _ in times)
        if least == float("inf"):
            return self.draw(emptiest(roomy))
        return self.draw(emptiest(machine for seconds, machine in times if seconds == least))

    def _seconds(self, machine: Machine, job: Job) -> float:
        gpus = best_gpus(machine, job)
        if all(gpu.holds == job.model for gpu in gpus):
            return 0.0
        site = self.world.site
        loading = [gpu.job for gpu in machine.gpus if gpu.job and self.world.now < gpu.job.ready_at]
        before = sum(other.size for other in loading) / site.load
        if machine.memory.held(job.model) >= job.size:
            return before + job.size / site.load
        if machine.disk.held(job.model) >= job.size:
            queued = sum(fill_left(machine, self.world.now, other) for other in loading)
            return before + (queued + job.size) / site.disk + job.size / site.load
        return float("inf")


def fill_left(machine: Machine, now: float, job: Job) -> float:
    """Return what a job still waits for on its node, in bytes."""
    fill = machine.fills.get(job.model)
    return sum(transfer.left_at(now) for transfer in fill.transfers) if fill else 0.0
