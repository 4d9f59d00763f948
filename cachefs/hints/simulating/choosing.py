"""Choosing: what a policy is asked, and what policies have in common.

A policy is told what happens and is asked, whenever a job arrived or ended or it wanted to be asked, which
of the waiting jobs start where.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from cachefs.hints.simulating.links import NEVER
from cachefs.hints.simulating.world import Gpu, Job, Machine, World


class Placing(NamedTuple):
    """A job is to start on these accelerators."""

    job: Job
    gpus: Sequence[Gpu]


class Policy(Protocol):
    """Says which waiting job starts where."""

    def choose(self, waiting: dict[int, Job]) -> Placing | None:
        """Return one job that starts now, or ``None``; asked again until it is ``None``.

        Args:
            waiting: Jobs by number, in the order of their arrival.
        """
        ...

    def ready(self, job: Job) -> None:
        """Take in that a job was ready."""
        ...

    def ended(self, job: Job) -> None:
        """Take in that a job has ended."""
        ...

    def wake(self) -> float:
        """Return the moment at which it wants to be asked even if nothing happens."""
        ...


class Unlearning:
    """A policy that takes nothing in, and is content to be asked when something happens."""

    def ready(self, job: Job) -> None:
        """Ignore it."""

    def ended(self, job: Job) -> None:
        """Ignore it."""

    def wake(self) -> float:
        """Want nothing."""
        return NEVER


def free_gpus(machine: Machine, job: Job) -> list[Gpu]:
    """Return a node's free accelerators; none if there are too few for a job."""
    free = [gpu for gpu in machine.gpus if gpu.job is None]
    return free if len(free) >= job.request.gpus else []


def best_gpus(machine: Machine, job: Job) -> Sequence[Gpu]:
    """Return those that a job had best take on a node.

    First those that hold its model, the one that was used last in front; then empty ones; then those
    that have been free for longest.
    """

    def order(gpu: Gpu) -> tuple[bool, bool, float, int]:
        is_warm = gpu.holds == job.model
        since = -gpu.free_since if is_warm else gpu.free_since
        return (not is_warm, gpu.holds != "", since, gpu.index)

    return sorted(free_gpus(machine, job), key=order)[: job.request.gpus]


def with_room(world: World, job: Job) -> Sequence[Machine]:
    """Return the nodes that a job fits on now."""
    return [machine for machine in world.machines if machine.free() >= job.request.gpus]


def emptiest(machines: Iterable[Machine]) -> Sequence[Machine]:
    """Return those that have the most free accelerators."""
    known = list(machines)
    most = max((machine.free() for machine in known), default=0)
    return [machine for machine in known if machine.free() == most]
