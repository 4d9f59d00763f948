"""Policies that ask for hints: the production code of :mod:`cachefs.core.hints` decides, in a simulated world.

What they know is what the service knows: bytes by tier, transfers on their way and who uses which link,
which accelerators are free, and what outcomes have taught: how long programs start and how long jobs run
(the median of the newest of the same model, and the rule for what is overdue). No run time is known before
it has ended.

:class:`Hinting` sends the first in line to the best place that is free. :class:`Reserving` matches the
front of the line with all places (:mod:`cachefs.core.hints.matching`), keeps what is worth waiting for
(:mod:`~cachefs.core.hints.reserving`), and adds what a place costs others (:mod:`~cachefs.core.hints.demand`).
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import islice

import numpy as np

from cachefs.core.hints.answer import Breakdown
from cachefs.core.hints.asking import WantedGpu
from cachefs.core.hints.demand import Demand
from cachefs.core.hints.estimate import Estimate, Links, estimate
from cachefs.core.hints.fleet import Column
from cachefs.core.hints.learning import Lessons, taught
from cachefs.core.hints.matching import WINDOW, Match, match
from cachefs.core.hints.reserving import Asker, Reservation, Reservations
from cachefs.core.hints.scoring import ordered
from cachefs.core.hints.slots import Slots
from cachefs.core.hints.waiting import WAITS_MAX
from cachefs.hints.simulating.choosing import Placing
from cachefs.hints.simulating.links import NEVER
from cachefs.hints.simulating.seeing import Sight, row_name
from cachefs.hints.simulating.world import Gpu, Job, World

_ONE = WantedGpu()
_HEARD_SECONDS = 20.0
"""How often those in line say that they are still there; they would be forgotten after a minute."""


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

    def costs(self) -> "Costs":
        """Return what each place costs others at the moment."""
        return Costs(self)

    def reload_seconds(self, model: str) -> float:
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


class Costs:
    """The seconds that a job at each place is expected to cost those who come after it.

    Of several idle copies of a model the one that was used last is taken first, so each of the others is
    wanted only if more jobs come.
    """

    def __init__(self, hints: Hinting) -> None:
        """Look at what idle accelerators hold."""
        gpus, row, now = hints.sight.gpus, hints.sight.row, hints.world.now
        idle: dict[str, list[Gpu]] = defaultdict(list)
        for gpu in gpus:
            if gpu.job is None and gpu.holds:
                idle[gpu.holds].append(gpu)
        self._costs = np.zeros(len(gpus))
        self._rows: dict[str, list[int]] = {}
        for model, copies in idle.items():
            copies.sort(key=lambda gpu: -gpu.free_since)
            rows = self._rows[model] = [row[gpu] for gpu in copies]
            chances = [
                hints.demand.chance(model, copies=before, now=now) for before in range(len(rows))
            ]
            self._costs[rows] = np.array(chances) * hints.reload_seconds(model)

    def of(self, model: str) -> Column:
        """Return the costs for a job: nothing where it uses what is there."""
        costs = self._costs.copy()
        costs[self._rows.get(model, [])] = 0.0
        return costs


class Reserving(Hinting):
    """The front of the line is matched with all places; who declines a free one gets a reservation."""

    def __init__(self, world: World, seed: int) -> None:
        """Begin with nobody in line. A job is passed over by no more than are looked at together."""
        super().__init__(world, seed)
        self.reservations = Reservations(passes_max=WINDOW)
        self._plan: list[tuple[Job, Match]] = []
        self._planned_at = -1.0
        self._found: dict[str, Estimate] = {}
        self._line: dict[int, float] = {}

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
        while self._plan:
            job, made = self._plan.pop(0)
            gpu = self.sight.gpus[made.row]
            if self._keep(job, gpu) and made.is_free:
                self.reservations.claim(f"r{job.number}", now=now)
                self._line.pop(job.number)
                return self.start(job, [gpu], self._found[job.model])
        return None

    def wake(self) -> float:
        """Return when the first reservation expires: its job looks for another place then."""
        held = self.reservations.held(now=self.world.now)
        return min((each.expires_at for each in held if not each.claimed), default=NEVER)

    def _match(self, waiting: dict[int, Job]) -> list[tuple[Job, Match]]:
        now = self.world.now
        jobs = list(islice(waiting.values(), WINDOW))
        self._line_up(jobs)
        slot = self.slots.openings(_ONE, now=now).seconds
        if not (slot <= 0).any():
            return []
        links, costs = self.links(), self.costs()
        self._found = {}
        for job in jobs:
            if job.model not in self._found:
                self._found[job.model] = self.estimate(job, slot, links)
        names = [str(job.number) for job in jobs]
        reserving = self.reservations
        made = match(
            np.stack([self._found[job.model].ready for job in jobs]),
            slot,
            extra=np.stack([costs.of(job.model) for job in jobs]),
            waiting=len(waiting),
            urgent=[at for at, job in enumerate(names) if reserving.passed(job) >= WINDOW],
            patient=[at for at, job in enumerate(names) if reserving.waits(job) < WAITS_MAX],
        )
        return [(jobs[each.job], each) for each in made if each.is_free or each.declines]

    def _line_up(self, jobs: Sequence[Job]) -> None:
        now = self.world.now
        for job in jobs:
            if now - self._line.get(job.number, -NEVER) > _HEARD_SECONDS:
                self._line[job.number] = now
                self.reservations.line_up(Asker(job=str(job.number), wanted=_ONE), now=now)

    def _keep(self, job: Job, gpu: Gpu) -> bool:
        """Reserve a place for a job, unless it has it; ``False`` if somebody else comes first."""
        now, name = self.world.now, row_name(gpu)
        held = self.reservations.of(str(job.number), now=now)
        if held is not None and held.places[0].node == name:
            return True
        made = self.reservations.try_reserve(
            Asker(job=str(job.number), wanted=_ONE),
            [(self.sight.fleet.at(self.sight.row[gpu]), 1)],
            token=f"r{job.number}",
            now=now,
            runs_seconds=self.lessons.runs.of(job.model),
        )
        return isinstance(made, Reservation)
