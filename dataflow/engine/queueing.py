"""Queueing: whose turn it is, and how many steps may begin.

A flow within a flow must not wait for places that those hold which wait for it. So:

- a run that another one runs takes no place: its outer run has one;
- a run of which nothing is carried out but waiting for such runs gives its place up meanwhile;
- steps are counted for each depth of flows within flows by itself. A step that waits for a run waits for
  deeper ones only, and the deepest ones wait for nobody, so there is always one that comes further.

What there is at most follows from the limits all the same: each run within another has a step that
waits for it, and a depth has at most :attr:`.FlowConfig.steps_limit` of these.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from cachefs.coordinator.store.engine import Store
from cachefs.dataflow.engine import owners, story
from cachefs.dataflow.engine import store as rows
from cachefs.dataflow.engine.owned import OwnedRun

_WITHIN_AT_ONCE = 100
"""Runs within others that begin at one look; the next look takes more."""


def start_queued(store: Store, owner: str, *, free: int, now: float) -> None:
    """End the runs of an owner that were cancelled before they began, and begin those that may.

    Args:
        store: Where runs are.
        owner: The owner.
        free: How many runs may begin, besides those within others.
        now: Seconds since 1970.

    Raises:
        CoordinatorUnavailableError: The store does not answer.
    """
    with store.write() as connection:
        for run in owners.unwanted(connection, owner):
            ended = replace(run, state="Cancelled", ended_at=now)
            steps = [
                replace(record, state="Cancelled", ended_at=now)
                for record in rows.steps(connection, run.id)
                if not record.over
            ]
            rows.write(connection, ended, steps=steps, events=[story.of_run(ended, now=now)])
        begins = [
            *owners.startable(connection, owner, within=True, limit=_WITHIN_AT_ONCE),
            *owners.startable(connection, owner, within=False, limit=max(0, free)),
        ]
        for run in begins:
            begun = replace(run, state="Running", started_at=run.started_at or now)
            rows.write(connection, begun, events=[story.of_run(begun, now=now)])


def places_taken(runs: Iterable[OwnedRun]) -> int:
    """Return how many runs take a place."""
    return sum(not one.depth and not one.only_waits for one in runs)


class StepPlaces:
    """How many steps may begin, for each depth."""

    def __init__(self, limit: int, taken: Iterable[int]) -> None:
        """Begin with the depths of the steps that are carried out."""
        self._limit = limit
        self._taken = Counter(taken)

    def free(self, run: OwnedRun) -> int:
        """Return how many steps of a run may begin."""
        return max(0, self._limit - self._taken[run.depth])

    def take(self, run: OwnedRun, count: int) -> None:
        """Note that so many begin."""
        self._taken[run.depth] += count
