"""Waiting: when a place that is not free yet is worth more than the best that is.

A node that holds a job's data and is free in two seconds beats one that is free now and reads for a
minute. But who waits without a promise waits with everybody else who was told the same: in
simulations that made matters many times worse. So waiting is offered only when it is clearly quicker,
and whoever is told to wait gets a reservation (:mod:`.reserving`) or is told nothing.

Every wait is bounded, as in delay scheduling: a job may decline what is free at most ``WAITS_MAX``
times, each time for at most four fifths of what it would have taken to be ready at once. After that it
is sent to the best place that is free. Who waits and asks again may be moved to a place that has turned out
to be clearly quicker, a bounded number of times as well.
"""

from typing import NamedTuple

import numpy as np

from cachefs.core.hints.fleet import Column, Rows
from cachefs.core.hints.nodes import NEVER

PATIENCE = 0.8
"""Waiting is offered if it takes less than this share of the best that is free: estimates of releases
are the least certain of all, and a fifth is about what they are wrong by."""

WAITS_MAX = 4
"""How often a job may decline what is free; a release that did not come in time counts as well."""

MOVES_MAX = 16
"""How often a job that waits, or is matched with others, may be given another place to wait for: more often
than one may decline at first, because it is moved for the good of others, too. In simulations of matching,
means were 5 % longer with 4."""


class Offer(NamedTuple):
    """A place to wait for."""

    row: int
    """Of the node in the fleet."""
    free_seconds: float
    ready_seconds: float
    instead_seconds: float
    """What the best place that is free would take; infinite if none is."""


def is_worth_waiting(ready: float, *, instead: float) -> bool:
    """Return whether to wait.

    Args:
        ready: Seconds until the job would be ready if it waited.
        instead: Seconds if it took the best that is free; infinite if nothing is.
    """
    return ready < PATIENCE * instead


def offer(ready: Column, slot: Column, rows: Rows, *, waits: int = 0) -> Offer | None:
    """Return the best place to wait for, or nothing if waiting is not worth it.

    Args:
        ready: Seconds to ready, a row a node of the fleet; what is promised to others is in them.
        slot: Of these, until a member could start.
        rows: The nodes that may be chosen.
        waits: How often this job has waited already. With nothing free there is nothing to decline,
            and any number is allowed.
    """
    free = slot[rows] <= 0
    instead = float(ready[rows[free]].min(initial=NEVER))
    if waits >= WAITS_MAX and instead < NEVER:
        return None
    busy = rows[~free]
    if not len(busy):
        return None
    best = int(busy[np.argmin(ready[busy])])
    if not is_worth_waiting(float(ready[best]), instead=instead):
        return None
    return Offer(best, float(slot[best]), float(ready[best]), instead)


def better(ready: Column, slot: Column, rows: Rows, held: int, *, waits: int = 0) -> int | None:
    """Return the place that is worth giving up another for, which is kept; nothing to stay with that.

    Args:
        ready: Seconds to ready, a row a node of the fleet, what it costs others included.
        slot: Of these, until a member could start.
        rows: The nodes that may be chosen.
        held: The one where a place is kept.
        waits: How often this job has waited already.
    """
    if waits >= MOVES_MAX:
        rows = rows[slot[rows] <= 0]
    if not len(rows):
        return None
    best = int(rows[np.argmin(ready[rows])])
    return best if is_worth_waiting(float(ready[best]), instead=float(ready[held])) else None
