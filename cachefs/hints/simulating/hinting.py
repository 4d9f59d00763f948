"""Policies that ask for hints: the production code of :mod:`cachefs.core.hints` decides, in a simulated world.

What they know is what the service knows: bytes by tier, transfers on their way and who uses which link,
which accelerators are free, and what outcomes have taught: how long programs start and how long jobs run
(the median of the newest of the same model, and the rule for what is overdue). No run time is known before
it has ended.

:class:`Hinting` sends the first in line to the best place that is free. :class:`Reserving` matches the
front of the line with all places and keeps what is worth waiting for, with what answers whole lines in the
service (:mod:`cachefs.core.hints.lining`), and adds what a place costs others (:mod:`~cachefs.core.hints.demand`).
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import count, islice

import numpy as np

from cachefs.core.hints.answer import Breakdown
from cachefs.core.hints.asking import WantedGpu
from cachefs.core.hints.demand import Demand, Displaced, Idle
from cachefs.core.hints.estimate import Estimate, Links, estimate
from cachefs.core.hints.fleet import Column
from cachefs.core.hints.learning import Lessons, taught
from cachefs.core.hints.lining import InLine, Keeping, Promise, line_up
from cachefs.core.hints.matching import WINDOW, pressure
from cachefs.core.hints.reserving import Asker, Reservations
from cachefs.core.hints.scoring import ordered
from cachefs.core.hints.slots import Slots
from cachefs.hints.simulating.choosing import Placing
from cachefs.hints.simulating.links import NEVER
from cachefs.hints.simulating.seeing import Sight
from cachefs.hints.simulating.world import Gpu, Job, World

_ONE = WantedGpu()


class Hinting:
    """The first in line goes to the place that is free where it would be ready soonest."""

    def __init__(self, world: World, seed: int) -> None:
        """Know nothing but the nodes; nothing is drawn."""
        del seed
        self.world = world
        self.sight = Sight(world)
        self.slots = Slots(self.sight.fleet)
        self.lessons = Lessons()
        self.demand = Demand()
        self._newest = -1
        self._sizes: dict[str, float] = {}
        self._told: dict[int, Breakdown] = {}
        self.tokens = count()

    def choose(self, waiting: dict[int, Job]) -> Placing | None:
        """Return the first job that fits somewhere."""
        self.hear(waiting)
        slot = self.slots.openings(_ONE, now=self.world.now).seconds
        if not (slot <= 0).any():
            return None
        links, costs = self.links(), self.costs()
        for job in islice(waiting.values(), WINDOW):
            found = self.estimate(job, slot, links)
            gpus = self.best(job, found.ready + costs.of(job.model), slot)
            if gpus:
                return self.start(job, gpus, found)
        return None

    def hear(self, waiting: dict[int, Job]) -> None:
        """Take in who has come."""
        for job in reversed(waiting.values()):
            if job.number <= self._newest:
                break
            self.demand.asked(job.model, now=self.world.now)
            self._sizes[job.model] = job.size
        self._newest = max(self._newest, next(reversed(waiting)))

    def links(self) -> Links:
        """Return the links as they are at the moment, with what was learned of them."""
        return taught(self.lessons.efficiencies, self.sight.fleet, self.sight.links())

    def estimate(self, job: Job, slot: Column, links: Links) -> Estimate:
        """Return the estimate of a job for every place."""
        starts = self.lessons.starts.of(job.model)
        located = self.sight.locate(job)
        return estimate(self.sight.fleet, located, links, slot=slot, init=starts)

    def costs(self) -> Displaced:
        """Return what each place costs others at the moment."""
        gpus, row = self.sight.gpus, self.sight.row
        idle = [
            Idle(row[gpu], gpu.holds, gpu.free_since)
            for gpu in gpus
            if gpu.job is None and gpu.holds
        ]
        return Displaced(idle, len(gpus), self.demand, self._reload_seconds, now=self.world.now)

    def _reload_seconds(self, model: str, _row: int) -> float:
        """Return what it takes to have a model on an accelerator again that its node still holds."""
        return self.lessons.starts.of(model) + self._sizes[model] / self.world.site.load

    def best(self, job: Job, seconds: Column, slot: Column) -> Sequence[Gpu]:
        """Return the accelerators that are free where a job is best off; none if it fits nowhere."""
        gpus = self.sight.gpus
        by_node: dict[int, list[Gpu]] = defaultdict(list)
        for row in ordered(self.sight.fleet, np.flatnonzero(slot <= 0), seconds).tolist():
            found = by_node[gpus[row].node]
            found.append(gpus[row])
            if len(found) == job.request.gpus:
                return found
        return ()

    def start(self, job: Job, gpus: Sequence[Gpu], found: Estimate) -> Placing:
        """Start a job, and remember what it was told."""
        row = self.sight.row[gpus[-1]]
        told = found.breakdown(row, self.sight.fleet.names[row], ("", f"node-{gpus[0].node:04}"))
        self._told[job.number] = told
        for gpu in gpus:
            self.sight.tell(gpu, self.world.now + told.ready + self.lessons.runs.of(job.model))
        return Placing(job, gpus)

    def ready(self, job: Job) -> None:
        """Learn from how long it took."""
        told = self._told.pop(job.number)
        for gpu in job.gpus:
            self.sight.tell(gpu, job.ready_at + self.lessons.runs.of(job.model))
        if job.split.gpu:
            return
        init = self.world.site.init_seconds
        phases = {
            "data": job.loaded_at - job.placed_at,
            "load": job.ready_at - job.loaded_at - init,
            "init": init,
        }
        self.lessons.outcome(job.model, told, job.ready_at - job.placed_at, phases)

    def ended(self, job: Job) -> None:
        """Learn how long jobs of its model run."""
        self.lessons.runs.learn(job.model, job.request.runs_seconds)
        for gpu in job.gpus:
            self.sight.tell(gpu)

    def wake(self) -> float:
        """Want nothing."""
        return NEVER


class Reserving(Hinting):
    """The front of the line is matched with all places; who declines a free one gets a reservation."""

    def __init__(self, world: World, seed: int) -> None:
        """Begin with nobody in line. A job is passed over by no more than are looked at together."""
        super().__init__(world, seed)
        self.reservations = Reservations()
        self._plan: list[tuple[Job, Promise]] = []
        self._planned_at = -1.0
        self._found: dict[str, Estimate] = {}

    def choose(self, waiting: dict[int, Job]) -> Placing | None:
        """Return a job that starts now. All that start at one moment are matched at once.

        A job that wants several accelerators is no match for one: it is sent to the best node that has
        so many free, as without reservations.
        """
        self.hear(waiting)
        wide = {number: job for number, job in waiting.items() if job.request.gpus > 1}
        if wide and (placing := super().choose(wide)) is not None:
            return placing
        narrow = {number: job for number, job in waiting.items() if number not in wide}
        return self._choose_matched(narrow) if narrow else None

    def _choose_matched(self, waiting: dict[int, Job]) -> Placing | None:
        now = self.world.now
        if self._planned_at != now or not self._plan:
            self._plan = self._match(waiting)
            self._planned_at = now
        if not self._plan:
            return None
        job, promise = self._plan.pop(0)
        settle(self.reservations, promise.token, now=now)
        return self.start(job, [self.sight.gpus[promise.place]], self._found[job.model])

    def wake(self) -> float:
        """Return when the first reservation expires: its job looks for another place then."""
        held = self.reservations.held(now=self.world.now)
        return min((each.expires_at for each in held), default=NEVER)

    def _match(self, waiting: dict[int, Job]) -> list[tuple[Job, Promise]]:
        """Return who starts at once, by what answers whole lines."""
        now = self.world.now
        jobs = list(islice(waiting.values(), WINDOW))
        slot = self.slots.openings(_ONE, now=now).seconds
        if not (slot <= 0).any():
            return []
        links, costs = self.links(), self.costs()
        self._found = {}
        for job in jobs:
            if job.model not in self._found:
                self._found[job.model] = self.estimate(job, slot, links)
        promises = line_up(
            [in_line(self, job, self._found[job.model].ready, costs) for job in jobs],
            slot,
            behind=pressure(slot, len(waiting)),
            now=now,
            keeping=keeping(self, self.reservations, len(jobs)),
        )
        return [(jobs[each.job], each) for each in promises if each.is_free]


def in_line(hints: Hinting, job: Job, ready: Column, costs: Displaced) -> InLine:
    """Return a job as one that stands in line."""
    return InLine(
        asker=Asker(job=str(job.number), wanted=_ONE),
        ready=ready,
        extra=costs.of(job.model),
        runs_seconds=hints.lessons.runs.of(job.model),
    )


def keeping(hints: Hinting, reservations: Reservations, jobs: int) -> Keeping:
    """Return how places are kept for those who ask, all of them."""
    return Keeping(
        reservations=reservations,
        node=hints.sight.fleet.at,
        token=lambda: f"r{next(hints.tokens)}",
        wanted=range(jobs),
    )


def settle(reservations: Reservations, token: str, *, now: float) -> None:
    """Let a job that starts have its place: from now on the fleet shows that it is there."""
    reservations.claim(token, now=now)
    reservations.cancel(token, now=now)
