"""The interfaces between cachefs and the world.

Everything that can wait, fail or differ between machines is behind one of these: time and threads
(:class:`Runtime`), the store of record (:class:`Origin`), other processes (:class:`BlockSource`,
:class:`Metadata`). Production has one implementation of each, the simulation another, and one
contract suite in ``tests/contract`` holds all of them to the sentences below.

cachefs uses plain threads and blocking calls. A range read over a blocking socket straight into the
caller's buffer is the fastest thing Python can do, and reads as what it does (ADR 0003). Because
code only waits through :class:`Runtime`, the simulation can run the same code as coroutines on a
clock of its own, one at a time, in an order that a seed decides.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from random import Random
from typing import Protocol

from cachefs.core.blocks import FileVersionId
from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import FileEntry, Manifest, VersionId
from cachefs.core.membership import Member, View
from cachefs.core.names import DatasetName


class Condition(AbstractContextManager[bool], Protocol):
    """A lock with waiting, as ``threading.Condition``."""

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Release the lock, wait for a notification, take it again; ``False`` on time-out."""
        ...

    def notify_all(self) -> None:
        """Wake every waiter."""
        ...


class Task(Protocol):
    """A thread of control that was started."""

    def join(self, timeout_seconds: float | None = None) -> bool:
        """Wait until it has ended; ``False`` on time-out."""
        ...


class Runtime(Protocol):
    """Time, threads and randomness: what a simulation must own to replay a run."""

    @property
    def random(self) -> Random:
        """The source of jitter and of identities that need not be secret."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that never jumps."""
        ...

    def wall(self) -> float:
        """Return seconds since 1970, for people; it may jump."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def condition(self) -> Condition:
        """Make a condition with a lock of its own."""
        ...

    def start(self, name: str, body: Callable[[], None]) -> Task:
        """Run ``body`` in a thread of its own, which never keeps the process alive."""
        ...


class CancelToken:
    """Tells a call in another thread that nobody wants its answer any more.

    The call registers what aborts it (a socket's shutdown). Both methods are safe from any thread;
    an abort registered after the cancellation runs at once, and no abort runs twice.
    """

    def __init__(self) -> None:
        """Make a token that is not cancelled."""
        self._abort: Callable[[], None] | None = None
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """Abort the call."""
        self._cancelled = True
        self._run()

    def on_cancel(self, abort: Callable[[], None] | None) -> None:
        """Say what aborts the call now; ``None`` when there is nothing to abort any more."""
        self._abort = abort
        if self._cancelled:
            self._run()

    def _run(self) -> None:
        # Both threads may get here; the swap is atomic under the interpreter's lock, and so one
        # of them finds the function and the other finds nothing.
        abort, self._abort = self._abort, None
        if abort is not None:
            abort()


@dataclass(frozen=True, slots=True)
class OriginFile:
    """One file as the origin lists it."""

    path: str
    """Relative to the dataset's URL."""
    size: int
    token: str
    digest: str
    """``algorithm:hex`` if the origin vouches for the whole content, else empty."""


class Origin(Protocol):
    """The store of record, read-only, at one URL.

    Methods are safe from any thread, and block. They raise ``OriginError`` and nothing else. They do
    not retry: decorators do. Each call ends within the deadline that the origin was opened with.
    """

    @property
    def client(self) -> str:
        """``direct``, ``obstore``, ``fsspec``, ``local``, ``http`` or ``hub``: what moves the bytes."""
        ...

    @property
    def reason(self) -> str:
        """Why this client was chosen, in a phrase."""
        ...

    def pin(self) -> OriginSpec:
        """Return the spec with anything that moves pinned down, such as a branch to its commit."""
        ...

    def list_files(self) -> Iterator[OriginFile]:
        """Yield every file below the URL, once, in any order; folders and their markers are not files.

        Raises:
            OriginNotFoundError: Nothing is there.
            OriginDeniedError: The credentials are wrong.
            OriginUnavailableError: It did not answer, or asked us to wait.
        """
        ...

    def read_range(
        self, entry: FileEntry, offset: int, length: int, buffer: memoryview | None = None
    ) -> memoryview:
        """Return exactly the bytes of a range that lies within the file.

        They are in ``buffer``, if there is one that is long enough and the client can receive
        there, else in memory that nobody else uses.

        They are from the content that ``entry.token`` names, or it is an error: an answer is never
        short, never of another version, never decompressed or padded.

        Raises:
            OriginChangedError: The object is another one by now.
            OriginNotFoundError: The object is gone.
            OriginProtocolError: The answer cannot be used.
            OriginDeniedError: The credentials are wrong.
            OriginUnavailableError: It did not answer, or asked us to wait.
        """
        ...

    def close(self) -> None:
        """Release connections; idempotent."""
        ...


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


class BlockSource(Protocol):
    """The data plane of other workers, as a reader or a peer uses it."""

    def fetch(
        self,
        member: Member,
        file: FileRef,
        index: int,
        into: memoryview,
        *,
        only_cached: bool,
        verify: bool = False,
        deadline: float,
        cancel: CancelToken,
    ) -> FetchedBlock | None:
        """Read one whole block from a worker into ``into``, whose length is the block's.

        Returns once ``into`` is full, or raises; after that nobody writes into it any more.
        Unless the answer is ``vouched``, the bytes are *not* verified: the caller does that. With
        ``only_cached`` the answer is ``None`` when the worker does not hold the block; else the
        worker fills it first.

        Args:
            member: Whom to ask.
            file: Which file version.
            index: Which block.
            into: Receives the bytes.
            only_cached: Do not make the worker fill the block.
            verify: Make the worker check its own copy first, because it has just served a wrong
                one; a copy that has rotted is dropped, and filled anew unless ``only_cached``.
            deadline: On the runtime's monotonic clock.
            cancel: Aborts the call, which then raises ``WorkerUnavailableError``.

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
    ) -> "ResolvedVersion":
        """Return a version by id, by unambiguous prefix, or the current one for ``None``.

        For ``None`` the dataset's consistency policy is applied first.
        """
        ...

    def digests(self, file: FileRef, *, deadline: float) -> Sequence[bytes | None]:
        """Return the known digest of each block, ``None`` where nobody has filled it yet."""
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

    def file(self, entry: FileEntry) -> FileRef:
        """Return what names a file's bytes for others."""
        return FileRef(self.dataset, self.manifest.id, entry, self.pool, self.replicas)


class DiskFile(Protocol):
    """An open file of a :class:`Disk`. Failures are ``OSError``, as the operating system says them."""

    def fileno(self) -> int:
        """Return a read-only descriptor for ``sendfile`` and SCM_RIGHTS; a simulated disk has none."""
        ...

    def pread_into(self, into: memoryview, offset: int) -> int:
        """Read until ``into`` is full or the file ends; return how many bytes were read."""
        ...

    def pwrite(self, data: memoryview, offset: int) -> None:
        """Write all of ``data``, or fail; after a failure any part of it may have been written."""
        ...

    def sync(self) -> None:
        """Return when what was written survives a power cut."""
        ...

    def truncate(self, size: int) -> None:
        """Set the size; new bytes are a hole and read as zeros."""
        ...

    def punch(self, offset: int, length: int) -> None:
        """Make a hole: the bytes read as zeros and take no space."""
        ...

    def size(self) -> int:
        """Return the bytes from begin to end, holes included."""
        ...

    def stamp(self) -> int:
        """Return the change time in nanoseconds: it differs after anybody's write."""
        ...

    def close(self) -> None:
        """Release the descriptor; idempotent."""
        ...


class Disk(Protocol):
    """One folder, without sub-folders as far as its users can see. Failures are ``OSError``."""

    def open(self, name: str, *, create: bool = False) -> DiskFile:
        """Open a file for reading and writing; without ``create`` it must exist."""
        ...

    def names(self) -> Iterator[str]:
        """Yield the name of every file."""
        ...

    def remove(self, name: str) -> None:
        """Delete a file; one that is gone already is no error."""
        ...

    def replace(self, name: str, target: str) -> None:
        """Rename over ``target`` atomically and durably."""
        ...

    def refers(self, name: str, file: DiskFile) -> bool:
        """Say whether ``name`` is still this very file: neither deleted nor swapped for another."""
        ...

    def free_bytes(self) -> int:
        """Return what the file system could still take."""
        ...

    def sync(self) -> None:
        """Return when everything written to the folder's files survives a power cut."""
        ...

    def close(self) -> None:
        """Let go of the folder, so that another may open it; idempotent."""
        ...


class Reservation(AbstractContextManager["Reservation"], Protocol):
    """Capacity promised to one block in flight; leaving the context gives back what was not used."""

    def commit(self, data: memoryview, digest: bytes) -> None:
        """Write the block, then its record; from then on it is resident.

        Raises:
            CapacityError: The disk is full in spite of the reservation. Nothing is resident.
        """
        ...


class HeldBlock(AbstractContextManager["HeldBlock"], Protocol):
    """A resident block that cannot be evicted until the context is left."""

    @property
    def file(self) -> DiskFile:
        """The sparse file it is in, at the same offset as in the file version."""
        ...

    @property
    def digest(self) -> bytes:
        """What its bytes must hash to."""
        ...

    @property
    def medium(self) -> str:
        """``memory`` or ``disk``."""
        ...


class FileLease(Protocol):
    """A whole file version lent out: none of its blocks is punched out while the lease lasts."""

    @property
    def file(self) -> DiskFile:
        """The sparse file, as long as the file version."""
        ...

    @property
    def is_current(self) -> bool:
        """Whether the store still fills this very file, and not another under its name."""
        ...

    def stamp(self) -> int:
        """Return the file's stamp after our own last write, having verified what we do not trust."""
        ...

    def digests(self) -> Sequence[bytes | None]:
        """Return the digest of each resident block, ``None`` for the others."""
        ...

    def release(self) -> None:
        """End the lease; idempotent."""
        ...


class BlockStore(Protocol):
    """Where a worker keeps blocks: its tiers. Safe from any thread."""

    def reserve(self, file: FileRef, index: int) -> Reservation:
        """Promise room for a block *before* its bytes are asked for, evicting if need be.

        Raises:
            CapacityError: Everything that is in the way is pinned, leased or reserved.
        """
        ...

    def find(self, file: FileRef, index: int) -> HeldBlock | None:
        """Return a resident block and count the access; ``None`` if it is not here.

        A block that is no longer trusted (the file's stamp is not ours, the machine lost power) is
        verified first, and is dropped if it is bad.
        """
        ...

    def holds(self, file_version: FileVersionId, index: int) -> bool:
        """Say whether a block is resident, without counting an access."""
        ...

    def lease(self, file: FileRef) -> FileLease:
        """Lend out a file version, making its sparse file if there is none."""
        ...

    def quarantine(self, file_version: FileVersionId, index: int) -> bool:
        """Verify a block that somebody complained about; drop it if it is bad, and say so."""
        ...
