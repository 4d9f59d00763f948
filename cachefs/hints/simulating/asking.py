"""Asking one at a time: what jobs get that ask the service each for itself, as lines of one.

No job knows of another. Each asks in the order of its arrival, is told of the best place that is free or of one
that is worth waiting for, and holds what it was promised until it is free or the promise expires. While it
waits, or is told of none because nothing is free, it asks again every second, and may be told of a place that
is better meanwhile. What is promised to others counts in every answer.
"""

from itertools import islice

from cachefs.core.hints.asking import WantedGpu
from cachefs.core.hints.lining import line_up
from cachefs.core.hints.matching import WINDOW
from cachefs.core.hints.reserving import Reservations
from cachefs.hints.simulating.choosing import Placing
from cachefs.hints.simulating.hinting import Hinting, in_line, keeping, settle
from cachefs.hints.simulating.links import NEVER
from cachefs.hints.simulating.world import Job, World

_ONE = WantedGpu()
_AGAIN_SECONDS = 1.0
"""How often a job asks again."""


class Asking(Hinting):
    """Each job asks for itself, and holds what it was promised."""

    def __init__(self, world: World, seed: int) -> None:
        """Begin with nothing promised. A job is passed over by no more than may ask."""
        super().__init__(world, seed)
        self.reservations = Reservations()
        self._asked_at: dict[int, float] = {}

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
        row = None if held is None else self.sight.fleet.row(held.places[0].node)
        waits = row is None or self.sight.gpus[row].job is not None
        if waits and now < self._asked_at.get(job.number, -NEVER) + _AGAIN_SECONDS:
            return None
        self._asked_at[job.number] = now
        taken = self.reservations.taken(now=now, but_for=name)
        slot = self.slots.openings(_ONE, now=now, taken=taken).seconds
        found = self.estimate(job, slot, self.links())
        promises = line_up(
            [in_line(self, job, found.ready, self.costs())],
            slot,
            behind=0.0,
            now=now,
            keeping=keeping(self, self.reservations, 1),
        )
        for each in promises:
            if each.is_free:
                del self._asked_at[job.number]
                settle(self.reservations, each.token, now=now)
                return self.start(job, [self.sight.gpus[each.place]], found)
        return None
