"""Elasticity as a duty of the coordinator's process: once a second it looks, decides, and does.

Every coordinator looks, so that each can say what would be decided; only the one that leads acts. What
idle datasets must let go is asked of workers in a thread of its own, one dataset after the other, so
that a worker that does not answer keeps no pool waiting.

A coordinator that has just begun knows nothing of what was read while it was away. For the time of a
lease, within which every worker renews, it takes nothing for idle.
"""

import logging
from collections.abc import Iterable, Sequence

from fastapi import APIRouter

from cachefs.coordinator.duties import Duty, Surroundings
from cachefs.coordinator.elastic.forms import PoliciesChangeForm
from cachefs.coordinator.elastic.observing import Report, read_report
from cachefs.coordinator.elastic.policies import Policies, PolicySet
from cachefs.coordinator.elastic.recovering import Planned, Recoverer
from cachefs.coordinator.elastic.routes import Outlook, policy_routes
from cachefs.coordinator.elastic.scaling import UNUSED_SECONDS, History, Verdict, judge
from cachefs.coordinator.leading import Leadership
from cachefs.coordinator.pools import PoolStanding
from cachefs.coordinator.store import counters
from cachefs.coordinator.store import jobs as job_rows
from cachefs.coordinator.store import members as member_rows
from cachefs.core.autoscaling import Observation, Policy
from cachefs.core.datasets import Dataset
from cachefs.core.membership import Member
from cachefs.core.names import WorkerId
from cachefs.errors import CacheFSError
from cachefs.ports import Task
from cachefs.telemetry.metrics import Sample
from cachefs.transport.rounds import Rounds

_LOG = logging.getLogger("cachefs.coordinator")

LOOK_SECONDS = 1.0
_CLOSE_SECONDS = 5.0


class Elastic(Duty):
    """Applies policies. Safe from any thread; its owner calls ``start`` once and ``close`` at the end."""

    def __init__(self, parts: Surroundings) -> None:
        """Begin nothing yet."""
        self._coordinator = parts.coordinator
        self._store = parts.store
        self._runtime = parts.runtime
        self._lease_seconds = parts.cluster.lease_seconds
        self._uses = parts.coordinator.uses
        self.policies = Policies(parts.store, parts.coordinator.events)
        self._leadership = Leadership(
            parts.store, parts.runtime, "elastic", lease_seconds=parts.cluster.lease_seconds
        )
        self._recoverer = Recoverer(parts.coordinator, parts.store, self._uses)
        self._turn = parts.runtime.condition()
        self._rounds = Rounds(parts.runtime, "elastic", self.tick, every_seconds=LOOK_SECONDS)
        self._began_at = parts.runtime.monotonic()
        self._said: dict[WorkerId, tuple[str, Report]] = {}
        self._datasets: tuple[int, tuple[Dataset, ...]] = (-1, ())
        self._histories: dict[str, History] = {}
        self._recovering: Task | None = None
        self._changes = {"pool": 0, "demote": 0, "evict": 0}

    # ---- asked by others ------------------------------------------------------------------------

    @property
    def routers(self) -> Sequence[APIRouter]:
        """The routes of policies."""
        return (policy_routes(self.policies, self.outlook),)

    def admits(self, path: str, token: str) -> bool:  # noqa: ARG002 - a duty's
        """Let in nobody without the cluster's token."""
        return False

    def outlook(self, change: PoliciesChangeForm | None = None) -> Outlook:
        """Say what would be decided right now, and why; changes nothing.

        Args:
            change: Policies that would be set before.

        Raises:
            ConfigError: Something in the change makes no sense.
        """
        chosen = self.policies.every()
        if change is not None:
            chosen = chosen.changed(change)
        with self._turn:
            datasets, reports = self._look()
            verdicts = []
            for name, policy in sorted(chosen.pool_policies().items()):
                known = self._histories.get(name, History())
                tried = History(known.observer, list(known.kept))
                verdicts.append(self._judge(name, policy, tried, datasets, reports))
            planned = self._recoverer.plan(chosen.idle_policies(), datasets)
        return Outlook(tuple(verdicts), tuple(one.recovery for one in planned))

    def samples(self) -> Iterable[Sample]:
        """Yield what was done, for the metrics."""
        for action, count in self._changes.items():
            yield "cachefs_coordinator_policy_actions_total", (action,), count

    # ---- life -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look in a thread of its own."""
        self._rounds.start()

    def close(self) -> None:
        """End the looking."""
        self._rounds.close(wait_seconds=_CLOSE_SECONDS)
        if self._recovering is not None:
            self._recovering.join(_CLOSE_SECONDS)
        try:
            self._leadership.resign()
        except CacheFSError as error:
            _LOG.warning("another must wait to lead", extra={"failure": str(error)})

    def tick(self) -> None:
        """Look once; decide and act if we lead."""
        with self._turn:
            datasets, reports = self._look()
            chosen = self.policies.every()
            self._histories = {
                name: history for name, history in self._histories.items() if name in chosen.pools
            }
            leads = not chosen.is_empty and self._leadership.tick()
            for name, policy in chosen.pool_policies().items():
                history = self._histories.setdefault(name, History())
                verdict = self._judge(name, policy, history, datasets, reports)
                if leads and verdict.change is not None:
                    self._scale(verdict)
            if leads and not self._is_settling:
                self._recover(chosen, datasets)

    @property
    def _is_settling(self) -> bool:
        return self._runtime.monotonic() - self._began_at < self._lease_seconds

    @property
    def _is_free(self) -> bool:
        return self._recovering is None or self._recovering.join(0.0)

    # ---- looking --------------------------------------------------------------------------------

    def _look(self) -> tuple[tuple[Dataset, ...], dict[WorkerId, Report]]:
        """Learn what there is, what workers say, and so what was used."""
        with self._store.read() as connection:
            revision = counters.read(connection)["catalogue"]
            statistics = member_rows.statistics(connection)
            warmed = {job.dataset for job in job_rows.unreleased(connection) if job.active}
        for name in warmed:
            self._uses.note(name)
        if self._datasets[0] != revision:
            self._datasets = (revision, self._coordinator.catalogue.every())
        datasets = self._datasets[1]
        said: dict[WorkerId, tuple[str, Report]] = {}
        for worker, text in statistics.items():
            before = self._said.get(worker)
            if before is not None and before[0] == text:
                said[worker] = before
                continue
            report = read_report(text)
            said[worker] = (text, report)
            for dataset, seconds in report.uses.items():
                self._uses.note(dataset, seconds_ago=seconds)
        self._said = said
        self._uses.tick([dataset.name for dataset in datasets])
        return datasets, {worker: report for worker, (_, report) in said.items()}

    def _judge(
        self,
        name: str,
        policy: Policy,
        history: History,
        datasets: Sequence[Dataset],
        reports: dict[WorkerId, Report],
    ) -> Verdict:
        standing = self._coordinator.pools.get(name)
        history.add(self._observe(standing, history, datasets, reports), policy)
        return judge(policy, standing.pool, history)

    def _observe(
        self,
        standing: PoolStanding,
        history: History,
        datasets: Sequence[Dataset],
        reports: dict[WorkerId, Report],
    ) -> Observation:
        pool = standing.pool
        members: list[Member] = [
            member
            for member in self._coordinator.members.view.members
            if member.pool == pool.name and not member.draining
        ]
        workers = standing.live if pool.wanted is None else pool.wanted
        return history.observer.look(
            members,
            reports,
            workers=workers,
            idle_seconds=self._idle_seconds(standing, workers, datasets),
            at=self._runtime.wall(),
        )

    def _idle_seconds(
        self, standing: PoolStanding, workers: int, datasets: Sequence[Dataset]
    ) -> float:
        pool = standing.pool
        idle = min(
            (self._uses.idle_seconds(each.name) for each in datasets if each.pool == pool.name),
            default=UNUSED_SECONDS,
        )
        begun = self._runtime.monotonic() - self._began_at
        changed = self._runtime.wall() - pool.changed_at if pool.changed_at else begun
        if not workers:
            # Who used something before the pool went to zero wakes nobody.
            return idle if idle < changed else UNUSED_SECONDS
        if self._is_settling:
            return 0.0
        # Who wants workers wants them for something.
        return min(idle, changed) if changed >= 0 else idle

    # ---- acting ---------------------------------------------------------------------------------

    def _scale(self, verdict: Verdict) -> None:
        change = verdict.change
        if change is None:
            return
        try:
            self._coordinator.pools.change(verdict.pool, change)
        except CacheFSError as error:
            _LOG.warning(
                "a policy's decision cannot be",
                extra={"pool": verdict.pool, "failure": str(error)},
            )
            return
        self._changes["pool"] += 1

    def _recover(self, chosen: PolicySet, datasets: Sequence[Dataset]) -> None:
        if not chosen.datasets or not self._is_free:
            return
        now = self._runtime.monotonic()
        planned = self._recoverer.due(chosen.idle_policies(), datasets, now=now)
        if planned:
            self._recovering = self._runtime.start("recovery", lambda: self._carry_out(planned))

    def _carry_out(self, planned: Sequence[Planned]) -> None:
        for one in planned:
            if self._rounds.ended:
                return
            try:
                if self._recoverer.carry_out(one):
                    self._changes[one.recovery.action] += 1
                    with self._turn:
                        self._recoverer.wake(one.recovery.dataset)
            except CacheFSError as error:
                _LOG.warning(
                    "an idle dataset makes no room",
                    extra={"dataset": str(one.recovery.dataset), "failure": str(error)},
                )
