"""The interface of a rollout to whatever has replicas: processes of this machine, or a cluster's.

A target is told its *shape*, how many replicas of each revision there shall be, and makes it so by itself;
telling it the same again is nothing. It keeps what each revision is, so that an older one can come back
as it was. The contract suite is ``tests/contract/test_rollout_target.py``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from cachefs.dataflow.ports import StepContext
from cachefs.dataflow.spec.arguments import Rollout
from cachefs.errors import ConfigError

ReplicaState = Literal["starting", "ready", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One replica that is there, or that has failed."""

    id: str
    """Never used for another one."""
    revision: str
    state: ReplicaState
    """``failed``: it has ended, and nobody had asked it to."""
    started_at: float
    """Seconds since 1970."""
    ready_seconds: float | None = None
    """From its start until it was ready."""
    failure: str = ""


class Towards(NamedTuple):
    """Where a rollout is going, for targets that move by themselves."""

    revision: str
    """All replicas are of it in the end."""
    goal: int
    """Replicas of it after this batch."""
    replicas: int
    """In the end, in all."""
    surge: int
    """Replicas beyond these that may be there while old ones are replaced."""


class RolloutTarget(Protocol):
    """Something that has replicas."""

    exact: bool
    """Whether it holds any shape. One that does not replaces replicas by rules of its own: it stops near
    a batch's goal, and has the shape of the last batch exactly."""

    def replicas(self) -> Sequence[Replica]:
        """Return those that are there, and those that failed lately.

        Raises:
            CacheFSError: That cannot be known now.
        """
        ...

    def keep(self, revision: str, wanted: Rollout) -> None:
        """Remember what a revision is.

        Args:
            revision: Its name.
            wanted: The rollout that says it.

        Raises:
            ConflictError: It has replicas that are something else.
        """
        ...

    def knows(self, revision: str) -> bool:
        """Say whether a revision was kept, so that it can come back."""
        ...

    def reshape(self, context: StepContext, shape: Mapping[str, int], *, towards: Towards) -> None:
        """Have so many replicas of each revision, and none of any other; failed ones do not count.

        Returns soon: new ones become ready by themselves. Those that leave are asked to end first, then
        made to, and those come after that take their places.

        Args:
            context: Of the step that wants it.
            shape: Revision → replicas; each was kept.
            towards: What it is a part of.

        Raises:
            CacheFSError: It cannot be done now.
        """
        ...


class Targets(Protocol):
    """Finds targets by what flows call them."""

    def open(self, context: StepContext, target: str) -> RolloutTarget:
        """Return a target.

        Args:
            context: Of the step; ``local/NAME`` is of the flow's namespace.
            target: ``local/NAME``, ``deployment/NAME`` …

        Raises:
            ConfigError: There is no such kind of target here.
        """
        ...


class NoCluster(Targets):
    """Stands where there is no cluster."""

    def open(self, context: StepContext, target: str) -> RolloutTarget:
        """Raise ``ConfigError``."""
        del context
        raise ConfigError(
            "this coordinator knows no cluster", subject=target, hint="write target: local/NAME"
        )
