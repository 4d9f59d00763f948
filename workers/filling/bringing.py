"""Bringing: where the bytes of one block come from when this worker does not have them.

The order is: peers that hold the block, then the origin. A peer is asked with ``only_cached``, so
that it never fills on our behalf, with one exception: when a *warm-up* makes a further copy of a
block, the copy is made from the block's first owner, which fills it if need be. So the origin pays
once, however many copies are wanted.

A block that was filled before, but that none of the likely peers has (many workers joined at once), is
asked of those who hold it by what the coordinator has heard, before the origin is. A block that only
*moves* is never asked of the origin: unless a read has come to wait for it.

Whatever comes is hashed before it is used. It must match the digest that the coordinator knows of
the block; bytes of a peer must match the digest that the peer itself names, too. A peer with wrong
bytes becomes a suspect, and the next one is asked. Wrong bytes from the origin count as a failed
attempt. When the digest of a whole file is known beforehand and the file is one block, its bytes must
match that too; larger files are held to theirs by :mod:`cachefs.workers.proving.prover`, which is why
workers exchange blocks that no reader may have yet.

An origin is asked ``attempts_limit`` times at most, whatever fails, with jittered waits that honour
its ``Retry-After``, and never past the fill's deadline.
"""

import logging
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cachefs.config.schema import ClusterConfig, FillConfig
from cachefs.core.backoff import Backoff
from cachefs.core.blocks import block_range
from cachefs.core.manifest import FileEntry
from cachefs.core.membership import EMPTY_VIEW, Member, View
from cachefs.core.names import WorkerId, printable
from cachefs.errors import (
    CacheFSError,
    ClusterError,
    CoordinatorUnavailableError,
    DeadlineError,
    DeniedError,
    OriginContentError,
    OriginError,
    OriginUnavailableError,
)
from cachefs.ports import (
    BlockRequest,
    BlockSource,
    CancelToken,
    FetchedBlock,
    FileRef,
    Runtime,
    WorkerMetadata,
)
from cachefs.wire import digests
from cachefs.workers.filling.origins import OpenOrigins
from cachefs.workers.filling.peers import Candidates, Peers

METADATA_SECONDS = 2.0
"""Longest wait for a digest that only *might* be known; a fill goes on without it."""
COPY_TIMEOUTS = 4
"""A first owner that fills before it answers is given so many times a peer's usual time."""

_log = logging.getLogger("cachefs.worker")


class NotHeldError(ClusterError):
    """No worker has a block that was only to be moved. It never leaves the worker."""


@dataclass(slots=True)
class Errand:
    """One block to bring, and what was tried for it so far."""

    file: FileRef
    index: int
    deadline: float
    """On the runtime's monotonic clock."""
    copies: bool
    """The first owner may be made to fill, because nobody waits for this copy."""
    asked: list[str] = field(default_factory=list)
    """Whom we asked, for the message of an error."""
    buffer: memoryview | None = None
    """Where the bytes may be received; as long as a block."""
    source: WorkerId | None = None
    """Who is asked first; ``None`` for whoever is likely to have it."""
    may_ask_origin: Callable[[], bool] = lambda: True
    """Whether the origin is asked when no worker has the block; looked at only then."""

    @property
    def subject(self) -> str:
        """What the block is called in messages."""
        return f"{self.file.dataset}/{printable(self.file.entry.path)} block {self.index}"


@dataclass(frozen=True, slots=True)
class Brought:
    """The verified bytes of a block."""

    data: memoryview
    digest: bytes
    source: str
    """``peer`` or ``origin``."""


class Bringer:
    """Brings blocks in; safe from any thread, each call in the thread that makes it."""

    def __init__(
        self,
        runtime: Runtime,
        peers: BlockSource,
        metadata: WorkerMetadata,
        origins: OpenOrigins,
        config: FillConfig,
        *,
        cluster: ClusterConfig,
        own: WorkerId,
    ) -> None:
        """Work for the worker ``own``."""
        self._runtime = runtime
        self._source = peers
        self._metadata = metadata
        self._origins = origins
        self._config = config
        self._block_size = cluster.block_size
        self._digest_of = digests.digester(cluster.digest)
        self.peers = Peers(
            runtime,
            own,
            lease_seconds=cluster.lease_seconds,
            asked_limit=config.peers_asked_limit,
        )

    def bring(self, errand: Errand) -> Brought:
        """Return a block's bytes from wherever they can be had.

        Raises:
            NotHeldError: No peer has it, and the origin is not to be asked.
            OriginError: No peer has it, and the origin did not give it.
            OriginContentError: What the origin gives is not what it must be.
            ClusterError: Nobody says where the origin is.
            DeadlineError: There was no time left.
        """
        known, certain = self._known_digest(errand)
        brought = self._from_workers(errand, known, certain=certain)
        if brought is not None:
            return brought
        if not errand.may_ask_origin():
            raise NotHeldError("no worker has the block", subject=errand.subject)
        return self.from_origin(errand, known)

    def _from_workers(
        self, errand: Errand, known: bytes | None, *, certain: bool
    ) -> Brought | None:
        candidates, view = self._candidates(errand)
        may_be_held = known is not None or not (certain and candidates.settled)
        first = candidates.first_owner
        if first is None and not may_be_held and errand.source is None:
            return None
        asked = set()
        for member in self._likely(errand, candidates, view):
            asked.add(member.worker)
            brought = self._try_peer(errand, member, known, copies=False)
            if brought is not None:
                return brought
        if errand.copies and first is not None:
            brought = self._try_peer(errand, first, known, copies=True)
            if brought is not None:
                return brought
        for member in self._holders(errand, view) if may_be_held else ():
            if member.worker not in asked:
                brought = self._try_peer(errand, member, known, copies=False)
                if brought is not None:
                    return brought
        return None

    @staticmethod
    def _likely(errand: Errand, candidates: Candidates, view: View) -> tuple[Member, ...]:
        source = view.find(errand.source) if errand.source else None
        if source is None:
            return candidates.members
        return tuple(dict.fromkeys((source, *candidates.members)))

    def _holders(self, errand: Errand, view: View) -> Iterator[Member]:
        """Yield the members that hold the block, as far as the coordinator has heard."""
        deadline = min(errand.deadline, self._runtime.monotonic() + METADATA_SECONDS)
        try:
            held = self._metadata.holders(errand.file, deadline=deadline)
        except CacheFSError:
            return  # It was only to find a shorter way.
        for worker, mask in held.items():
            member = view.find(worker)
            if mask >> errand.index & 1 and member is not None and not self.peers.avoids(worker):
                yield member

    def _known_digest(self, errand: Errand) -> tuple[bytes | None, bool]:
        """Return the digest, if the coordinator has one, and whether it was there to be asked."""
        deadline = min(errand.deadline, self._runtime.monotonic() + METADATA_SECONDS)
        try:
            known = self._metadata.digests(errand.file, deadline=deadline)
        except CoordinatorUnavailableError:
            return None, False
        return (known[errand.index] if errand.index < len(known) else None), True

    def _candidates(self, errand: Errand) -> tuple[Candidates, View]:
        deadline = min(errand.deadline, self._runtime.monotonic() + METADATA_SECONDS)
        try:
            view = self._metadata.view(deadline=deadline)
        except CoordinatorUnavailableError:
            return Candidates(None, (), settled=False), EMPTY_VIEW
        return self.peers.candidates(errand.file, errand.index, view), view

    def _try_peer(
        self, errand: Errand, member: Member, known: bytes | None, *, copies: bool
    ) -> Brought | None:
        now = self._runtime.monotonic()
        patience = self._config.peer_timeout_seconds * (COPY_TIMEOUTS if copies else 1)
        if now >= errand.deadline:
            raise self._too_late(errand)
        errand.asked.append(f"worker {member.worker}")
        # A mapping of its own goes back to the system as soon as it is not needed any more; the
        # allocator would keep blocks of this size for each thread.
        length = self._length(errand)
        buffer = memoryview(mmap.mmap(-1, length)) if errand.buffer is None else errand.buffer
        buffer = buffer[:length]
        request = BlockRequest(
            file=errand.file,
            index=errand.index,
            into=buffer,
            only_cached=not copies,
            deadline=min(errand.deadline, now + patience),
            cancel=CancelToken(),
        )
        try:
            fetched = self._source.fetch(member, request)
        except OriginError:
            # The first owner has asked the origin as often as is allowed.
            raise
        except (ClusterError, DeadlineError, DeniedError) as error:
            self.peers.avoid_silent(member.worker)
            _log.info("a peer did not answer", extra={"peer": member.worker, "failure": str(error)})
            return None
        except CacheFSError as error:
            _log.info("a peer refused", extra={"peer": member.worker, "failure": str(error)})
            return None
        if not isinstance(fetched, FetchedBlock):
            return None
        digest = self._digest_of(buffer)
        is_known = known is None or digest == known
        if digest != fetched.digest or not is_known or not _is_whole(errand.file.entry, buffer):
            self.peers.suspect(member.worker)
            _log.warning(
                "a peer served wrong bytes",
                extra={"peer": member.worker, "block": errand.subject},
            )
            return None
        return Brought(buffer, digest, "peer")

    def from_origin(self, errand: Errand, known: bytes | None) -> Brought:
        """Return a block's bytes as the origin has them, whoever else may hold it.

        Raises:
            OriginError: The origin did not give it, or gave something else.
            ClusterError: Nobody says where the origin is.
            DeadlineError: There was no time left.
        """
        backoff = Backoff(
            attempts_limit=self._config.attempts_limit, first_seconds=self._config.backoff_seconds
        )
        attempt = 1
        while True:
            if self._runtime.monotonic() >= errand.deadline:
                raise self._too_late(errand)
            try:
                return self._ask_origin(errand, known)
            except OriginError as error:
                # Wrong bytes may have been an accident on the way.
                if not error.retryable and not isinstance(error, OriginContentError):
                    raise
                retry_after = (
                    error.retry_after_seconds if isinstance(error, OriginUnavailableError) else None
                )
                wait = backoff.wait_after(
                    attempt,
                    draw=self._runtime.random.random(),
                    retry_after_seconds=retry_after,
                )
                if wait is None or self._runtime.monotonic() + wait >= errand.deadline:
                    raise
            self._runtime.sleep(wait)
            attempt += 1

    def _ask_origin(self, errand: Errand, known: bytes | None) -> Brought:
        errand.asked.append("origin")
        entry = errand.file.entry
        wanted = block_range(errand.index, entry.size, self._block_size)
        data = self._origins.read(
            errand.file, wanted, deadline=errand.deadline, buffer=errand.buffer
        )
        digest = self._digest_of(data)
        if known is not None and digest != known:
            raise OriginContentError(
                "the origin gave other bytes than when the block was filled before",
                subject=errand.subject,
                hint=f"digest {digest.hex()}, expected {known.hex()}; update the dataset",
            )
        if not _is_whole(entry, data):
            raise OriginContentError(
                "the origin gave bytes that do not match the file's checksum",
                subject=errand.subject,
                hint=f"expected {entry.digest}",
            )
        return Brought(data, digest, "origin")

    def _length(self, errand: Errand) -> int:
        return block_range(errand.index, errand.file.entry.size, self._block_size).length

    def _too_late(self, errand: Errand) -> DeadlineError:
        asked = ", ".join(errand.asked) or "nobody yet"
        return DeadlineError(
            "the fill ran out of time", subject=errand.subject, hint=f"asked: {asked}"
        )


def _is_whole(entry: FileEntry, data: memoryview) -> bool:
    """Say whether bytes can be the file's, as far as a digest of the whole file tells."""
    if len(data) != entry.size or not digests.is_provable(entry.digest):
        return True
    whole = digests.WholeFile(entry.digest)
    whole.update(data)
    return whole.matches
