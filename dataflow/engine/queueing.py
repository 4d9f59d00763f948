"""Queueing: whose turn it is, and how many steps may begin.

A flow within a flow must not wait for places that those hold which wait for it. So:

- a run that another one runs takes no place: its outer run has one;
- a run of which nothing is carried out but waiting for such runs gives its place up meanwhile;
- steps are counted for each depth of flows within flows by itself. A step that waits for a run waits for
  deeper ones only, and the deepest ones wait for nobody, so there is always one that comes further.

Namespaces take turns: of the runs that wait, the next is of whichever has fewest runs that take places, and if
several have as many, of the one whose last run began first. One that is not trusted takes another place only while it has fewer than are free (:class:`Shares`): alone it gets
half of them, and whoever has none yet finds one, however long the runs of others last.

What there is at most follows from the limits all the same: each run within another has a step that
waits for it, and a depth has at most :attr:`.FlowConfig.steps_limit` of these.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import replace

from cachefs.coordinator.store.engine import Store
from cachefs.core.tenants import Tenants
from cachefs.dataflow.engine import owners, story
from cachefs.dataflow.engine import store as rows
from cachefs.dataflow.engine.owned import OwnedRun

_WITHIN_AT_ONCE = 100
"""Runs within others that begin at one look; the next look takes more."""


class Shares:
    """How many places of a number of them a namespace may take."""

    def __init__(self, limit: int, tenants: Tenants, taken: Mapping[str, int]) -> None:
        """Begin with how many places each namespace has."""
        self._tenants = tenants
        self._taken = Counter(taken)
        self.left = limit - self._taken.total()
        """How many are free; negative if more are taken than there are."""

    def taken(self, namespace: str) -> int:
        """Return how many a namespace has."""
        return self._taken[namespace]

    def free(self, namespace: str) -> int:
        """Return how many more a namespace may take: untrusted, only while it has fewer than are free."""
        if self._tenants.is_trusted(namespace):
            return max(0, self.left)
        return max(0, (self.left - self._taken[namespace] + 1) // 2)

    def take(self, namespace: str, count: int = 1) -> None:
        """Note that a namespace takes so many."""
        self._taken[namespace] += count
        self.left -= count


def start_queued(store: Store, owner: str, *, shares: Shares, now: float) -> None:
    """End the runs of an owner that were cancelled before they began, and begin those that may.

    Args:
        store: Where runs are.
        owner: The owner.
        shares: The places for runs, besides those within others.
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
        waiting = owners.waiting(connection, owner) if shares.left > 0 else []
        last = owners.last_begun(connection) if len({each[1] for each in waiting}) > 1 else {}
        begins = [
            *owners.startable(connection, owner, limit=_WITHIN_AT_ONCE),
            *owners.named(connection, turns(waiting, shares, last)),
        ]
        for run in begins:
            begun = replace(run, state="Running", started_at=run.started_at or now)
            rows.write(connection, begun, events=[story.of_run(begun, now=now)])


def turns(
    waiting: Iterable[tuple[str, str]], shares: Shares, last_begun: Mapping[str, float]
) -> list[str]:
    """Return which runs take places.

    Always the first of the namespace that has fewest, and of several such, of the one whose last began first.

    Args:
        waiting: The runs that may begin with their namespaces, in the order of the queue.
        shares: The places; what the runs take is noted.
        last_begun: When the last run of a namespace began.
    """
    queues: dict[str, deque[str]] = {}
    for run, namespace in waiting:
        queues.setdefault(namespace, deque()).append(run)
    chosen = []
    while may := [one for one, queue in queues.items() if queue and shares.free(one)]:
        namespace = min(may, key=lambda one: (shares.taken(one), last_begun.get(one, 0.0)))
        shares.take(namespace)
        chosen.append(queues[namespace].popleft())
    return chosen


def run_shares(runs: Iterable[OwnedRun], limit: int, tenants: Tenants) -> Shares:
    """Return the places for runs, as those that take one leave them."""
    taking = (one for one in runs if not one.depth and not one.only_waits)
    return Shares(limit, tenants, Counter(one.flow.namespace for one in taking))


class StepPlaces:
    """How many steps may begin, for each depth."""

    def __init__(self, limit: int, tenants: Tenants, running: Iterable[OwnedRun]) -> None:
        """Begin with the runs of the steps that are carried out, each as often as it has some."""
        taken: dict[int, Counter[str]] = {}
        for run in running:
            taken.setdefault(run.depth, Counter())[run.flow.namespace] += 1
        self._none = (limit, tenants)
        self._depths = {depth: Shares(limit, tenants, found) for depth, found in taken.items()}

    def taken(self, run: OwnedRun) -> int:
        """Return how many steps the namespace of a run has in its depth: who has fewest is first."""
        return self._shares(run).taken(run.flow.namespace)

    def free(self, run: OwnedRun) -> int:
        """Return how many steps of a run may begin."""
        return self._shares(run).free(run.flow.namespace)

    def take(self, run: OwnedRun, count: int) -> None:
        """Note that so many begin."""
        self._shares(run).take(run.flow.namespace, count)

    def _shares(self, run: OwnedRun) -> Shares:
        limit, tenants = self._none
        return self._depths.setdefault(run.depth, Shares(limit, tenants, {}))
