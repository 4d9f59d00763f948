"""Targets that are handed out: deployments and stateful sets of a cluster.

Whenever a step wants to know how a target stands, it asks anew and waits for an answer that was given after
that: so it never decides from how the target stood before. Between two questions nobody touches the target.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from cachefs.coordinator.store.engine import Store
from cachefs.dataflow.handing import store as rows
from cachefs.dataflow.handing.desk import Presence
from cachefs.dataflow.handing.store import TargetRow
from cachefs.dataflow.ports import StepContext
from cachefs.dataflow.spec.arguments import Rollout
from cachefs.dataflow.steps.rollouts.targets import (
    Replica,
    RolloutTarget,
    Targets,
    Towards,
)
from cachefs.errors import ConfigError, ConflictError, FlowError, InvariantError, StepTransientError
from cachefs.ports import Runtime

_KINDS = ("deployment", "statefulset")
_LOOK_SECONDS = 0.1
_REVISIONS_KEPT = 100
_NAMELESS = ""
"""What a revision is called of which the target says no name: what was there before the first rollout."""


class HandedOutTargets(Targets):
    """Finds the targets of a cluster."""

    def __init__(self, store: Store, runtime: Runtime, *, executor_seconds: float) -> None:
        """Use a store.

        Args:
            store: Where rows are.
            runtime: The clock.
            executor_seconds: Rollouts fail when no executor has asked for so long.
        """
        self._store = store
        self._presence = Presence(runtime)
        self._patience = executor_seconds

    def open(self, context: StepContext, target: str) -> RolloutTarget:
        """Return a target of the flow's namespace."""
        kind, _, name = target.partition("/")
        if kind not in _KINDS:
            raise ConfigError(
                "no such kind of target", subject=target, hint=f"there are {', '.join(_KINDS)}"
            )
        return HandedOutTarget(
            context,
            f"{context.namespace}/{kind}/{name}",
            self._store,
            self._presence,
            patience=self._patience,
        )


class HandedOutTarget(RolloutTarget):
    """One target of a cluster, as one step sees it."""

    exact = False

    def __init__(
        self,
        context: StepContext,
        name: str,
        store: Store,
        presence: Presence,
        *,
        patience: float,
    ) -> None:
        """Ask nothing yet."""
        self._context = context
        self._name = name
        self._store = store
        self._presence = presence
        self._patience = patience

    def replicas(self) -> Sequence[Replica]:
        """Ask how many there are, and wait for the answer.

        Raises:
            FlowError: There is no such target, or it cannot be rolled out to.
            StepTransientError: No executor asks what is wanted.
        """
        return [Replica(**one) for one in self._answered().report.get("replicas", ())]

    def keep(self, revision: str, wanted: Rollout) -> None:
        """Remember what a revision is."""
        if self._row() is None:
            self._answered()
        with self._store.write() as connection:
            found = rows.find_target(connection, self._name, lock=True)
            if found is None:
                raise InvariantError("a target that was asked about is gone")
            known = found.revisions.get(revision, {}).get("image", "")
            another = known and wanted.image not in ("", known)
            if another and _has(found, revision):
                raise ConflictError(
                    "replicas of this revision run another image",
                    subject=f"{self._name}@{revision}",
                    hint="give the new one another revision",
                )
            self._note(connection, found, revision, wanted.image or known)

    def knows(self, revision: str) -> bool:
        """Say whether a revision was kept; what had no name before the first rollout is any other."""
        row = self._row()
        return row is not None and (revision in row.revisions or _NAMELESS in row.revisions)

    def reshape(self, context: StepContext, shape: Mapping[str, int], *, towards: Towards) -> None:
        """Write what it shall have; an executor makes it so when it is asked how it stands."""
        row = self._row() or self._answered()
        kept = row.revisions.get(towards.revision) or row.revisions.get(_NAMELESS) or {}
        wanted: dict[str, Any] = {  # Any: JSON
            "by": context.key,
            "revision": towards.revision,
            "image": kept.get("image", ""),
            "goal": towards.goal if shape else 0,
            "replicas": towards.replicas,
            "surge": towards.surge,
        }
        if wanted != row.shape:
            with self._store.write() as connection:
                rows.change_target(connection, self._name, shape=wanted)

    def _answered(self) -> TargetRow:
        """Ask, and return how it stands after that."""
        asked = self._ask()
        while True:
            with self._store.read() as connection:
                row = rows.find_target(connection, self._name)
                silent = self._presence.silent_seconds(connection, patience=self._patience)
            if row is not None and row.answered >= asked:
                failure = row.report.get("failure", "")
                if failure:
                    raise FlowError(str(failure), subject=self._name)
                return self._learned(row)
            if silent > self._patience:
                raise StepTransientError(
                    f"no executor has asked for rollouts in {self._patience:g} s",
                    subject=self._name,
                    hint="does the operator run, and does it reach the coordinator?",
                )
            self._context.sleep(_LOOK_SECONDS)

    def _ask(self) -> int:
        """Ask how it stands; what another step wanted of it is wanted no more."""
        with self._store.write() as connection:
            asked = rows.ask_target(connection, self._name)
            row = rows.find_target(connection, self._name)
            if row is not None and row.shape.get("by") != self._context.key:
                rows.change_target(connection, self._name, shape={"by": self._context.key})
        return asked

    def _learned(self, row: TargetRow) -> TargetRow:
        """Keep what the revision is that new replicas have now, so that it can come back."""
        revision = str(row.report.get("revision", _NAMELESS))
        image = str(row.report.get("image", ""))
        if row.revisions.get(revision, {}).get("image") != image:
            with self._store.write() as connection:
                found = rows.find_target(connection, self._name, lock=True) or row
                self._note(connection, found, revision, image)
        return row

    def _note(self, connection: Connection, row: TargetRow, revision: str, image: str) -> None:
        kept = {name: one for name, one in row.revisions.items() if name != revision}
        kept[revision] = {"image": image}
        newest = dict(list(kept.items())[-_REVISIONS_KEPT:])
        rows.change_target(connection, self._name, revisions=newest)

    def _row(self) -> TargetRow | None:
        with self._store.read() as connection:
            return rows.find_target(connection, self._name)


def _has(row: TargetRow, revision: str) -> bool:
    """Say whether a target has replicas of a revision, or is about to."""
    about_to = row.shape.get("revision") == revision
    return about_to or any(one["revision"] == revision for one in row.report.get("replicas", ()))
