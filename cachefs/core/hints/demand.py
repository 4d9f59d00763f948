"""Demand: how likely somebody wants what an accelerator holds, before long.

A program that starts on an accelerator drives out what is there. That costs nothing now; it costs the next
job that would have found it, if one comes. The expected cost, in seconds, is what a place costs others, and
belongs to a choice among places as much as the seconds of the job itself does.

How often a dataset is asked for is kept as a count that fades: what was asked for an hour ago counts for a
third. Arrivals are taken to be independent of one another, so those of the next while have a Poisson
distribution, and the *k*-th copy that stands idle is wanted if more than *k* come.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from math import exp
from typing import NamedTuple

import numpy as np

from cachefs.core.hints.fleet import Column
from cachefs.core.hints.learning import KEYS_LIMIT

SOON_SECONDS = 100.0
"""Who comes within this time finds what is there now: in simulations 30 s did no better, 300 s worse."""
FADING_SECONDS = 3000.0
"""A question of so long ago counts for a third; with 300 s, in simulations, means were 4 to 9 % longer."""


class Demand:
    """How often each dataset is asked for. Moments are on the clock of the calls."""

    def __init__(self) -> None:
        """Know of no question."""
        self._counts: dict[str, float] = {}
        self._heard: dict[str, float] = {}

    def asked(self, key: str, *, now: float) -> None:
        """Note a question."""
        count = self._count(key, now) + 1
        self._counts.pop(key, None)
        self._counts[key], self._heard[key] = count, now
        if len(self._counts) > KEYS_LIMIT:
            oldest = next(iter(self._counts))
            del self._counts[oldest], self._heard[oldest]

    def chance(self, key: str, *, copies: int, now: float) -> float:
        """Return how likely more than so many jobs come soon, 0 to 1.

        Args:
            key: The dataset.
            copies: How many idle copies are taken before the one that is asked about.
            now: The moment.
        """
        expected = self._count(key, now) * SOON_SECONDS / FADING_SECONDS
        term = none_left = exp(-expected)
        for number in range(1, copies + 1):
            term *= expected / number
            none_left += term
        return max(1.0 - none_left, 0.0)

    def _count(self, key: str, now: float) -> float:
        count = self._counts.get(key)
        return 0.0 if count is None else count * exp((self._heard[key] - now) / FADING_SECONDS)


class Idle(NamedTuple):
    """A place that is free, and holds a dataset in its accelerator."""

    place: int
    key: str
    """The dataset."""
    since: float
    """The moment at which it was used last."""


class Displaced:
    """The seconds that a job at each place is expected to cost those who come after it.

    Of several idle copies of a dataset the one that was used last is taken first, so each of the others is
    wanted only if more jobs come.
    """

    def __init__(
        self,
        idle: Iterable[Idle],
        places: int,
        demand: Demand,
        reload_seconds: Callable[[str, int], float],
        *,
        now: float,
    ) -> None:
        """Look at what idle places hold.

        Args:
            idle: Those that hold something.
            places: How many places there are in all.
            demand: How often each dataset is asked for.
            reload_seconds: Returns what it takes to have a dataset at a place again that is displaced.
            now: The moment.
        """
        copies: dict[str, list[Idle]] = defaultdict(list)
        for each in idle:
            copies[each.key].append(each)
        self._costs = np.zeros(places)
        self._places: dict[str, list[int]] = {}
        for key, held in copies.items():
            held.sort(key=lambda each: -each.since)
            self._places[key] = [each.place for each in held]
            for before, each in enumerate(held):
                chance = demand.chance(key, copies=before, now=now)
                self._costs[each.place] = chance * reload_seconds(key, each.place)

    def of(self, key: str) -> Column:
        """Return the costs for a job that reads a dataset: nothing where it uses what is there."""
        costs = self._costs.copy()
        costs[self._places.get(key, [])] = 0.0
        return costs
