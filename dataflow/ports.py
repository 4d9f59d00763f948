"""The interfaces of a flow to the world: what steps are, and what of the cache they use.

A step reconciles. ``observe`` says whether the world is already as the step wants it, and changes
nothing; ``apply`` makes it so, and may be called any number of times with the same key, by processes that
know nothing of each other but the checkpoint. So after a crash nobody needs to know how far a step had
come: it is observed, and applied if need be. A step has succeeded when ``observe`` says so, whatever
``apply`` returned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from cachefs.core.coverage import Coverage
from cachefs.core.jobs import WarmJob
from cachefs.core.membership import View
from cachefs.core.names import DatasetName, WorkerId
from cachefs.dataflow.records import Progress
from cachefs.dataflow.spec.model import Value
from cachefs.ports import CancelToken, FileRef, ResolvedVersion, Runtime


@dataclass(frozen=True, slots=True)
class Observed:
    """What a step found of the world."""

    done: bool
    progress: Progress = field(default_factory=Progress)
    outputs: Mapping[str, Value] = field(default_factory=dict)
    """When done."""


class StepContext(Protocol):
    """What a step has besides its arguments. Safe from any thread."""

    run: str
    """The run's id."""
    step: str
    """The step's id, with the instance's number: ``copy[0]``."""
    key: str
    """Of idempotency: the same for each attempt, another for each run and step."""
    attempt: int
    """Which one this is; a coordinator that takes a run over goes on with the same."""
    namespace: str
    """The flow's; names of datasets without one are in it."""
    runtime: Runtime
    cancel: CancelToken
    """Steps look at it at least once a second, and end with ``StepCancelledError``."""
    deadline: float
    """Of this attempt, on the runtime's monotonic clock."""
    abandoned: bool
    """Whether it was cancelled only because another process goes on with this very attempt, now or
    later: what it has begun in the world is then left as it is."""

    def report(self, progress: Progress) -> None:
        """Note how far it is; cheap, may be called often."""
        ...

    def checkpoint(self) -> Mapping[str, Value]:
        """Return what was noted last, by this attempt or an earlier one."""
        ...

    def note(self, checkpoint: Mapping[str, Value]) -> None:
        """Store a checkpoint; it is durable when this returns.

        Raises:
            LeaseExpiredError: Another coordinator has taken the run over; the step must end.
        """
        ...

    def tell(self, message: str) -> None:
        """Append an event to the run."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait, unless cancelled or out of time.

        Raises:
            DeadlineError: The attempt's time is over.
            StepCancelledError: The step was cancelled.
        """
        ...


class StepKind(Protocol):
    """One kind of step."""

    def observe(self, context: StepContext, arguments: Mapping[str, Value]) -> Observed:
        """Say whether the world is as the step wants it; changes nothing.

        Raises:
            CacheFSError: That cannot be known now.
        """
        ...

    def apply(self, context: StepContext, arguments: Mapping[str, Value]) -> None:
        """Make it so; returns when :meth:`observe` may be asked again.

        Raises:
            CacheFSError: It cannot be; ``retryable`` says whether it may be later.
        """
        ...

    def compensate(
        self,
        context: StepContext,
        arguments: Mapping[str, Value],
        how: Mapping[str, Value],
    ) -> None:
        """Undo it, as the step's ``compensate`` says; idempotent like :meth:`apply`."""
        ...


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """A pool of workers, as it shall be and as it is."""

    name: str
    wanted: int | None
    """``None`` while nobody has said."""
    wanted_by_zone: Mapping[str, int]
    live: int
    live_by_zone: Mapping[str, int]
    draining: int
    exclusive: str = ""
    """The namespace whose own it is; empty if it is for all."""


class Cache(Protocol):
    """What steps ask of the cache. The coordinator's own service behind it, or its API."""

    def view(self) -> View:
        """Return the members."""
        ...

    def resolve(self, name: DatasetName, version: str | None) -> ResolvedVersion:
        """Return a version with its manifest.

        Raises:
            NotKnownError: There is no such dataset or version.
        """
        ...

    def publish(
        self, name: DatasetName, url: str, options: Mapping[str, str], *, label: str
    ) -> ResolvedVersion:
        """List an origin as a version of a dataset, and label it; publishing the same again is nothing.

        The dataset is declared if there is none of the name. What it was before stays current until
        :meth:`make_current`, unless there was nothing.

        Args:
            name: The dataset.
            url: Where the version's files are.
            options: Of that origin; credentials only by reference.
            label: Another name for the version, such as ``v2``; :meth:`resolve` takes it. Empty for none.
                A label that another version has moves to this one.

        Raises:
            OriginError: It cannot be listed.
        """
        ...

    def labelled(self, name: DatasetName) -> Sequence[str]:
        """Return the ids of the versions that have labels, each once.

        Raises:
            NotKnownError: There is no such dataset.
        """
        ...

    def make_current(self, name: DatasetName, version: str) -> None:
        """Have new opens see a version that is kept already."""
        ...

    def warm(
        self,
        name: DatasetName,
        version: str | None,
        paths: Sequence[str],
        *,
        key: str,
        zone: str = "",
        copies: int = 0,
        rate: int = 0,
    ) -> WarmJob:
        """Start a warm-up, or return the one that was started with the same key.

        ``zone`` restricts it to the workers of one; ``copies`` 0 is the dataset's own number;
        ``rate`` is in bytes a second, over all workers, 0 for no limit.
        """
        ...

    def warm_job(self, job: str) -> WarmJob:
        """Return a warm-up as it stands."""
        ...

    def cancel_warm(self, job: str) -> None:
        """End a warm-up; what it has filled stays."""
        ...

    def residency(self, name: DatasetName, version: str | None, paths: Sequence[str]) -> Coverage:
        """Say how much of the files is resident and verified, at this moment."""
        ...

    def holders(self, file: FileRef) -> Mapping[WorkerId, int]:
        """Return which live members hold which blocks of a file version, as masks."""
        ...

    def digests(self, file: FileRef) -> Sequence[bytes | None]:
        """Return the known digest of each block, ``None`` where nobody has filled it yet.

        Raises:
            NotKnownError: No dataset has this file version any more.
        """
        ...

    def evict(self, name: DatasetName, version: str | None, paths: Sequence[str]) -> int:
        """Drop files from all workers; return the bytes that went."""
        ...

    def pool(self, name: str) -> PoolStatus:
        """Return a pool as it stands."""
        ...

    def pool_of(self, name: DatasetName) -> str:
        """Return the pool of a dataset."""
        ...

    def scale(self, pool: str, workers: int, *, by_zone: Mapping[str, int]) -> None:
        """Say how many workers a pool shall have; returns at once. Leaving ones drain first."""
        ...


class Soonest(NamedTuple):
    """Where a reader of a dataset would be ready soonest."""

    node: str
    seconds: float
    """By half of all chances."""
    bottleneck: str
    """What it would wait for: ``nvme:n1``, ``nic:n1``, ``origin`` …"""


class Hints(Protocol):
    """What steps ask of whoever reckons how soon something is ready where."""

    def soonest(self, name: DatasetName, version: str | None) -> Soonest | None:
        """Say where a reader of a dataset would be ready soonest; changes nothing.

        ``None`` for no opinion: nobody knows the dataset or the nodes, or not well enough.
        """
        ...


class NoHints(Hints):
    """Stands where nobody answers for hints."""

    def soonest(self, name: DatasetName, version: str | None) -> Soonest | None:
        """Have no opinion."""
        del name, version
        return None
