"""Blocks from workers on this node, without the network: a block source around another one.

A block that no descriptor has yet must be filled by its owner. When that owner is a worker on this
node, the block is asked for on its Unix socket: the worker fills it, answers with its digest and a
descriptor, and the bytes are read from the page cache straight into the caller's buffer. That saves
a copy through the loopback device at both ends, and mostly the digest too: when the file's change
time after the read is still the one that the worker answered with, the bytes are those that it has
verified (:mod:`cachefs.wire.local`). When it is not, because the next block is being written behind
this one, the caller verifies as ever.

A worker's connections are kept, and each is used by one call at a time, for a fill may take long.
Only what says something about the block or the worker is an error here: the origin's failures, a
wrong token, a worker that is silent. Whatever else is wrong with a socket, the network may still do.
"""

import contextlib
import threading

from cachefs.config.secrets import Secret
from cachefs.core.membership import Member
from cachefs.errors import (
    CacheFSError,
    DeadlineError,
    DeniedError,
    OriginError,
    WorkerUnavailableError,
)
from cachefs.ports import BlockRequest, BlockSource, FetchedBlock, Referral, Runtime
from cachefs.transport.connections import Patience
from cachefs.transport.node import node_identity
from cachefs.transport.sockets import (
    UNIX_LINES,
    LentFile,
    Lines,
    LocalWorker,
    LocalWorkers,
    incarnation_of,
)

_IDLE_LIMIT = 16
"""Idle connections kept for each worker."""
_FILL_SECONDS_MAX = 3600.0
"""What a worker accepts as a deadline."""


class NearbyBlockSource:
    """Implements :class:`cachefs.ports.BlockSource`; asks ``remote`` for all that is not near."""

    def __init__(
        self,
        runtime: Runtime,
        token: Secret,
        remote: BlockSource,
        *,
        block_size: int,
        node: str | None = None,
        timeout_seconds: float = 2.0,
        stall_seconds: float = 5.0,
        lines: Lines = UNIX_LINES,
    ) -> None:
        """Connect to nobody yet.

        Args:
            runtime: For its clock.
            token: The cluster's.
            remote: Asked for blocks of other nodes; stays the caller's to close.
            block_size: The cluster's, which says where a block lies in its file.
            node: This machine's identity; ``None`` to find it out.
            timeout_seconds: For a greeting on the socket.
            stall_seconds: A worker that says nothing for so long during a fill has stalled.
            lines: Connects to the workers' sockets.
        """
        self._runtime = runtime
        self._remote = remote
        self._block_size = block_size
        self._node = node_identity() if node is None else node
        self._timeout = timeout_seconds
        self._stall_seconds = stall_seconds
        self._workers = LocalWorkers(
            runtime, token, block_size=block_size, timeout_seconds=timeout_seconds, lines=lines
        )
        self._lock = threading.Lock()
        self._idle: dict[str, list[LocalWorker]] = {}
        self._closed = False

    def fetch(self, member: Member, request: BlockRequest) -> FetchedBlock | Referral | None:
        """Read one whole block from a worker; see the port."""
        limited = request.only_cached or request.from_peers or request.verify
        if member.node == self._node and not limited:
            fetched = self._fetch_near(member, request)
            if fetched is not None:
                return fetched
        return self._remote.fetch(member, request)

    def close(self) -> None:
        """Close the idle connections; those in use close when they are given back."""
        with self._lock:
            self._closed = True
            closing = [each for idle in self._idle.values() for each in idle]
            self._idle.clear()
        for connection in closing:
            connection.close()

    def _fetch_near(self, member: Member, request: BlockRequest) -> FetchedBlock | None:
        """Fetch through the socket; ``None`` if the network must do."""
        connection = self._take(member, request.deadline)
        if connection is None:
            return None
        try:
            with connection.cancelled_by(request.cancel):
                return self._fill_and_read(connection, request)
        except (OriginError, DeniedError, DeadlineError) as error:
            if isinstance(error, DeadlineError) and self._runtime.monotonic() < request.deadline:
                raise WorkerUnavailableError(str(error), subject=member.worker) from error
            raise
        except WorkerUnavailableError as error:
            if isinstance(error.__cause__, TimeoutError) or request.cancel.cancelled:
                raise
            return None
        except CacheFSError:
            return None
        finally:
            self._give(connection)

    def _fill_and_read(self, connection: LocalWorker, request: BlockRequest) -> FetchedBlock | None:
        file = request.file
        seconds = min(request.deadline - self._runtime.monotonic(), _FILL_SECONDS_MAX)
        question = {
            "op": "fill",
            "dataset": str(file.dataset),
            "version": file.version,
            "file": file.entry.file_version,
            "index": request.index,
            "deadline_seconds": max(seconds, 0.001),
        }
        patience = Patience(request.deadline, self._stall_seconds)
        answer, descriptor = connection.ask(question, patience)
        try:
            return self._read(answer, descriptor, request)
        finally:
            # The bytes are here; if the worker falls silent now, its lease ends with the connection.
            with contextlib.suppress(CacheFSError):
                patience = Patience(request.deadline, self._timeout)
                connection.ask({"op": "close", "lease": int(answer["lease"])}, patience)

    def _read(
        self, answer: dict[str, object], descriptor: LentFile | None, request: BlockRequest
    ) -> FetchedBlock | None:
        offset = request.index * self._block_size
        if descriptor is None or not descriptor.read_at(offset, request.into):
            return None
        source = str(answer["source"])
        return FetchedBlock(
            bytes.fromhex(str(answer["digest"])),
            source if source in {"peer", "origin"} else "local",
            vouched=descriptor.stamp() == answer["stamp"],
        )

    def _take(self, member: Member, deadline: float) -> LocalWorker | None:
        """Return a connection to a worker, or ``None`` if its socket cannot be reached."""
        with self._lock:
            idle = self._idle.get(incarnation_of(member))
            if idle:
                return idle.pop()
        return self._workers.connect(member, deadline)

    def _give(self, connection: LocalWorker) -> None:
        name = incarnation_of(connection.member)
        with self._lock:
            idle = self._idle.setdefault(name, [])
            keep = not connection.broken and not self._closed and len(idle) < _IDLE_LIMIT
            if keep:
                idle.append(connection)
        if not keep:
            connection.close()
