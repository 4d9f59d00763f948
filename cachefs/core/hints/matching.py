"""Matching: which of several waiting jobs starts where, when places are scarce.

One job after the other, each at its best place, is fine while there are free places for all. When there
are not, it matters more *who* gets a place than which place somebody gets: a place that has just become
free holds the data of some job in line, seldom those of the first. So all jobs near the front of the line
and all places, those included that will be free soon, are looked at together, and the cheapest pairs are
made first. A job's seconds at a place are those of its estimate; where many are in line, the time for
which a place would stand still until the job runs counts again for each of those behind.

Nobody starves: jobs that were passed over too often (:mod:`.reserving` counts) choose before all others.
What is matched with a place that is not free yet waits, under the rule of :mod:`.waiting`, and whoever
declines a free place for it gets a reservation.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cachefs.core.hints.fleet import Column
from cachefs.core.hints.nodes import NEVER
from cachefs.core.hints.waiting import is_worth_waiting

WINDOW = 64
"""How many jobs of the line are looked at together."""
_BEHIND = 3.0
"""How often a place's standing still counts for each job behind: it delays those who are yet to come as
well. In simulations 3 had a twentieth less at the 99th percentile than 1, and the same mean."""


class Match(NamedTuple):
    """A job and its place."""

    job: int
    """Its place in line, from 0."""
    row: int
    is_free: bool
    """Whether it can start at once."""
    declines: bool
    """Whether it waits although it could start elsewhere at once: only with a reservation."""


def pressure(slot: Column, waiting: int) -> float:
    """Return for how many of those behind a place stands still while its job has not begun.

    Args:
        slot: Seconds until each place is free; 0 if it is, infinite if it never will be.
        waiting: How many are in line.
    """
    free, known = int((slot <= 0).sum()), int(np.isfinite(slot).sum())
    return max(waiting - free, 0) / max(known, 1)


def match(
    ready: Column,
    slot: Column,
    *,
    extra: Column | None = None,
    behind: float = 0.0,
    urgent: Collection[int] = (),
    patient: Collection[int] | None = None,
) -> list[Match]:
    """Match jobs with places, the cheapest pair first; places that nobody gets stay free.

    Args:
        ready: Seconds until each job would be ready at each place: a row a job, in the order of the
            line, a column a place; infinite where it cannot be.
        slot: Seconds until each place is free; 0 if it is, infinite if it never will be.
        extra: Seconds that a pair costs others, of the shape of ``ready``.
        behind: What :func:`pressure` returns, with all places and all who are in line.
        urgent: Jobs that choose first, by their places in line.
        patient: Jobs that may decline a free place; all for ``None``.
    """
    free = slot <= 0
    with np.errstate(invalid="ignore"):  # never less never
        still = np.where(np.isfinite(ready), ready - slot, 0.0)
    costs = ready + _BEHIND * behind * still
    if extra is not None:
        costs = costs + extra
    pairs = _Pairs(costs, free, patient)
    for job in sorted(urgent):
        pairs.settle(job)
    for pair in np.argsort(costs, axis=None, kind="stable").tolist():
        if not pairs.open_rows:
            break
        job, row = divmod(pair, costs.shape[1])
        pairs.take(job, row)
    return pairs.made


class _Pairs:
    """The pairs made so far."""

    def __init__(
        self, costs: Column, free: NDArray[np.bool_], patient: Collection[int] | None
    ) -> None:
        self._costs = costs
        self._free = free.tolist()
        self._patient = range(len(costs)) if patient is None else patient
        self._spare = free.copy()  # free, and nobody's yet
        self._taken = [False] * len(self._free)
        self._done: set[int] = set()
        self.made: list[Match] = []
        self.open_rows = int(self._spare.sum()) if len(costs) else 0
        """Free places that nobody has got; without any, nobody can start, and the rest is idle."""

    def settle(self, job: int) -> None:
        """Give a job the best of what is free."""
        if self.open_rows and job not in self._done:
            row = self._best_free(job)
            if self._spare[row] and self._costs[job, row] < NEVER:
                self._make(Match(job, row, is_free=True, declines=False))

    def take(self, job: int, row: int) -> None:
        """Give a job a place, or a free one instead if the place is not worth waiting for."""
        if job in self._done or self._taken[row] or self._costs[job, row] == NEVER:
            return
        if self._free[row]:
            self._make(Match(job, row, is_free=True, declines=False))
            return
        best = self._best_free(job)
        instead = float(self._costs[job, best]) if self._spare[best] else NEVER
        worth = is_worth_waiting(float(self._costs[job, row]), instead=instead)
        if instead < NEVER and not (worth and job in self._patient):
            self._make(Match(job, best, is_free=True, declines=False))
        else:
            self._make(Match(job, row, is_free=False, declines=instead < NEVER))

    def _best_free(self, job: int) -> int:
        return int(np.argmin(np.where(self._spare, self._costs[job], NEVER)))

    def _make(self, match: Match) -> None:
        self._done.add(match.job)
        self._taken[match.row] = True
        if match.is_free:
            self._spare[match.row] = False
            self.open_rows -= 1
        self.made.append(match)
