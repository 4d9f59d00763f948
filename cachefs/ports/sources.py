"""Other processes of the cluster: who gives bytes, and who knows what they are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import FileEntry, Manifest, VersionId
from cachefs.core.membership import Member, View
from cachefs.core.names import DatasetName, WorkerId
from cachefs.ports.runtimes import CancelToken


@dataclass(frozen=True, slots=True)
class FileRef:
    """All that is needed to find a file version's bytes anywhere."""

    dataset: DatasetName
    version: VersionId
    entry: FileEntry
    pool: str
    replicas: int


@dataclass(frozen=True, slots=True)
class FetchedBlock:
    """What came with the bytes of a block."""

    digest: bytes
    """As the worker that served it has it; 16 bytes (xxh3-128) or 32 (BLAKE3)."""
    source: str
    """Where the *worker* had it from: ``memory``, ``disk``, ``peer`` or ``origin``; or ``local``:
    it was read from the worker's own file, through a descriptor."""
    vouched: bool = False
    """The bytes are known to match the digest: nobody has written to the worker's file since the
    worker said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRequest:
    """What is asked of a worker: one whole block, and where its bytes go."""

    file: FileRef
    index: int
    into: memoryview
    """Receives the bytes; as long as the block."""
    only_cached: bool
    """Do not make the worker fill the block."""
    from_peers: bool = False
    """If the worker lacks the block, have it take a copy for a while from another worker, never from
    the origin."""
    zone: str | None = None
    """Where the asker is (empty if it does not know), if the worker may refer it to another one;
    ``None`` if not."""
    verify: bool = False
    """Make the worker check its own copy first, because it has just served a wrong one; a copy that
    has rotted is dropped, and filled anew unless ``only_cached``."""
    deadline: float
    """On the runtime's monotonic clock."""
    cancel: CancelToken
    """Aborts the call, which then raises ``WorkerUnavailableError``."""


@dataclass(frozen=True, slots=True)
class Referral:
    """The worker sends the block to many already, and names another one that does, too."""

    worker: WorkerId


class BlockSource(Protocol):
    """The data plane of other workers, as a reader or a peer uses it."""

    def fetch(self, member: Member, request: BlockRequest) -> FetchedBlock | Referral | None:
        """Read one whole block from a worker.

        Returns once ``request.into`` is full, or raises; after that nobody writes into it any more.
        Unless the answer is ``vouched``, the bytes are *not* verified: the caller does that. With
        ``only_cached`` the answer is ``None`` when the worker does not hold the block, with
        ``from_peers`` also when no other worker does; else the worker fills it first. A referral is
        an answer only if ``zone`` is given; nothing is in ``request.into`` then.

        Raises:
            WorkerUnavailableError: It cannot be reached, died, stalled, or was cancelled.
            OriginError: The worker could not fill the block; asking another worker does not help.
            CapacityError: The worker is at a limit.
            DeadlineError: The deadline passed.
            DeniedError: The token is wrong.
        """
        ...


class ProofSource(BlockSource, Protocol):
    """The data plane as workers use it among themselves: its blocks may be unproven ones.

    What a file's known digest has not been compared with yet, only a worker may fetch: it needs the
    blocks to compare. See :mod:`cachefs.workers.proving.prover`.
    """

    def proof(
        self,
        member: Member,
        file: FileRef,
        *,
        only_cached: bool,
        deadline: float,
        on_wait: Callable[[str], None],
    ) -> bytes | None:
        """Return the packed digests of a file's blocks from a worker that has proven the file.

        Args:
            member: Whom to ask.
            file: Which file version.
            only_cached: Return ``None`` if the worker has not proven it yet, instead of waiting.
            deadline: On the runtime's monotonic clock.
            on_wait: Told now and then what the worker is doing, while it is waited for.

        Raises:
            OriginError: The file cannot be proven; asking another worker does not help.
            WorkerUnavailableError: It cannot be reached, died, or stalled.
            CapacityError: The worker is at a limit.
            DeadlineError: The deadline passed.
            DeniedError: The token is wrong.
        """
        ...


@dataclass(frozen=True, slots=True)
class ResolvedVersion:
    """A version with all that is needed to read and to fill it."""

    dataset: DatasetName
    origin: OriginSpec
    client: str
    """Which origin client to use."""
    pool: str
    replicas: int
    manifest: Manifest
    listed_at: float = 0.0
    """When the coordinator first listed it, in seconds since 1970; 0 if nobody said."""

    def file(self, entry: FileEntry) -> FileRef:
        """Return what names a file's bytes for others."""
        return FileRef(self.dataset, self.manifest.id, entry, self.pool, self.replicas)


class Metadata(Protocol):
    """What a reader must know before it can ask for bytes; served by any process of the cluster.

    All three answer from the coordinator or, when it is down, from a worker. They raise
    ``CoordinatorUnavailableError`` when nobody answers before ``deadline``, ``NotKnownError`` when
    there is no such thing, and ``DeniedError`` when the token is wrong.
    """

    def view(self, *, deadline: float) -> View:
        """Return the newest view that can be had."""
        ...

    def resolve(
        self, name: DatasetName, version: str | None, *, deadline: float
    ) -> ResolvedVersion:
        """Return a version by id, by unambiguous prefix, or the current one for ``None``.

        For ``None`` the dataset's consistency policy is applied first.
        """
        ...

    def digests(self, file: FileRef, *, deadline: float) -> Sequence[bytes | None]:
        """Return the known digest of each block, ``None`` where nobody has filled it yet."""
        ...


class WorkerMetadata(Metadata, Protocol):
    """What a worker must know besides, to bring blocks in."""

    def holders(self, file: FileRef, *, deadline: float) -> Mapping[WorkerId, int]:
        """Return which members hold which blocks of a file version, as masks.

        It is what they last reported, so a second old; a block may have been evicted since.

        Raises:
            CoordinatorUnavailableError: The coordinator, who alone knows, did not answer.
        """
        ...
