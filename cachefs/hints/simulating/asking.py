"""Asking one at a time: what jobs get of reservations that ask the service, each for itself.

No job knows of another. Each asks in the order of the line, is told the best place that is free or one that
is worth waiting for, and holds what it was promised until it is free or the promise expires; then it asks
again. What is promised to others counts in every answer.
"""

from itertools import islice

import numpy as np

from cachefs.core.hints.asking import WantedGpu
from cachefs.core.hints.fleet import Column, Rows
from cachefs.core.hints.matching import WINDOW
from cachefs.core.hints.reserving import Asker, Reservation, Reservations
from cachefs.core.hints.scoring import ordered
from cachefs.core.hints.waiting import offer
from cachefs.hints.simulating.choosing import Placing
from cachefs.hints.simulating.hinting import Hinting
from cachefs.hints.simulating.links import NEVER
from cachefs.hints.simulating.world import Job, World

_ONE = WantedGpu()


class Asking(Hinting):
    """Each job asks for itself, and holds what it was promised."""

    def __init__(self, world: World, seed: int) -> None:
        """Begin with nothing promised. A job is passed over by no more than may ask."""
        super().__init__(world, seed)
        self.reservations = Reservations(passes_max=WINDOW)

    def choose(self, waiting: dict[int, Job]) -> Placing | None:
        """Return the first job whose place is free."""
        self.hear(waiting)
        for job in islice(waiting.values(), WINDOW):
            is_wide = job.request.gpus > 1
            placing = super().choose({job.number: job}) if is_wide else self._ask(job)
            if placing is not None:
                return placing
        return None

    def wake(self) -> float:
        """Return when the first promise expires: its job asks again then."""
        held = self.reservations.held(now=self.world.now)
        return min((each.expires_at for each in held), default=NEVER)

    def _ask(self, job: Job) -> Placing | None:
        now, name = self.world.now, str(job.number)
        held = self.reservations.of(name, now=now)
        if held is not None:
            row = self.sight.fleet.row(held.places[0].node)
            if row is None or self.sight.gpus[row].job is not None:
                return None
            slot = np.full(len(self.sight.gpus), NEVER)
            slot[row] = 0.0
            return self._start(job, row, slot)
        taken = self.reservations.taken(now=now, but_for=name)
        slot = self.slots.openings(_ONE, now=now, taken=taken).seconds
        found = self.estimate(job, slot, self.links())
        rows = np.flatnonzero(np.isfinite(found.ready))
        waits = self.reservations.waits(name)
        wait = offer(found.ready, slot, rows, waits=waits)
        if wait is not None and self._try_keep(job, wait.row):
            return None
        free: Rows = rows[slot[rows] <= 0]
        seconds = found.ready + self.costs().of(job.model)
        for row in ordered(self.sight.fleet, free, seconds).tolist()[:1]:
            if self._try_keep(job, row):
                return self._start(job, row, slot)
        return None

    def _start(self, job: Job, row: int, slot: Column) -> Placing:
        self.reservations.claim(f"r{job.number}", now=self.world.now)
        self.reservations.cancel(f"r{job.number}", now=self.world.now)  # the fleet shows the job
        return self.start(job, [self.sight.gpus[row]], self.estimate(job, slot, self.links()))

    def _try_keep(self, job: Job, row: int) -> bool:
        made = self.reservations.try_reserve(
            Asker(job=str(job.number), wanted=_ONE),
            [(self.sight.fleet.at(row), 1)],
            token=f"r{job.number}",
            now=self.world.now,
            runs_seconds=self.lessons.runs.of(job.model),
        )
        return isinstance(made, Reservation)
