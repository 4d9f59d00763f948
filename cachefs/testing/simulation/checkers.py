"""What must be true of reads and of requests to the origin, whatever befell the cluster.

Each checker looks at the whole cluster from outside and says in a sentence what is wrong. The
guarantees that need no fault to end are checked at each read; the others when all is over.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cachefs.core.blocks import FileVersionId
from cachefs.errors import CacheFSError
from cachefs.testing.simulation.cluster import SimCluster
from cachefs.testing.simulation.world.origin import OriginRequest
from cachefs.workers.storage.cachedfile import DATA_SUFFIX

POISON = 0xA5
"""What a caller's buffer is filled with once its read has returned."""
LATENESS_SECONDS = 0.05
"""How much later than its deadline a read may return: it must still cancel what it started."""


class ViolationError(AssertionError):
    """A promise was broken."""


@dataclass(slots=True)
class ReadRecord:
    """One read as its caller saw it."""

    reader: str
    path: str
    file_version: FileVersionId
    offset: int
    length: int
    began: float
    ended: float
    buffer: bytearray
    error: CacheFSError | None
    count: int

    def __str__(self) -> str:
        """Return who read what and when."""
        return (
            f"{self.reader} {self.path}[{self.offset}:{self.offset + self.length}] "
            f"{self.began:.3f}-{self.ended:.3f} {type(self.error).__name__ if self.error else 'ok'}"
        )


def check_read(cluster: SimCluster, read: ReadRecord, *, node: str | None) -> None:
    """Hold one read to what every read promises, then poison its buffer.

    Args:
        cluster: In which it was read.
        read: What came of it.
        node: Where the reader is, if it may read decayed bytes through a descriptor: those that a
            medium of this node forgot, and that its worker has not scrubbed yet. ``None`` if not.

    Raises:
        ViolationError: It gave wrong bytes, or came back too late.
    """
    took = read.ended - read.began
    if took > cluster.plan.reader.deadline_seconds + LATENESS_SECONDS:
        raise ViolationError(f"late by its deadline, after {took:.3f} s: {read}")
    if read.error is None:
        truth = cluster.truth[read.file_version][read.offset : read.offset + read.length]
        if read.count != len(truth):
            raise ViolationError(f"{read.count} bytes instead of {len(truth)}: {read}")
        if read.buffer[: read.count] != truth:
            decayed = _decayed(cluster, read, node)
            wrong = (at for at, byte in enumerate(truth) if read.buffer[at] != byte)
            at = next((at for at in wrong if read.offset + at not in decayed), None)
            if at is not None:
                raise ViolationError(f"wrong bytes from {at} on: {read}")
    read.buffer[:] = bytes((POISON,)) * len(read.buffer)


def _decayed(cluster: SimCluster, read: ReadRecord, node: str | None) -> set[int]:
    """Return where a node's media have forgotten bytes of the file that was read."""
    if node is None or not cluster.plan.local:
        return set()
    return {
        at
        for worker in cluster.workers.values()
        if worker.place.node == node
        for drive in worker.drives.values()
        for name, at in drive.rotted
        if name == read.file_version + DATA_SUFFIX
    }


def check_buffers(reads: Iterable[ReadRecord]) -> Iterator[str]:
    """Nobody writes into a caller's buffer after its read has returned."""
    for read in reads:
        if read.buffer.count(POISON) != len(read.buffer):
            yield f"bytes were written into a buffer after its read had returned: {read}"


def check_requests(cluster: SimCluster) -> Iterator[str]:
    """A fill makes a limited number of requests to an origin, and a failed one is not made anew."""
    fill = cluster.plan.fill
    failed: dict[tuple[str, str, int], list[OriginRequest]] = defaultdict(list)
    for request in cluster.origin.requests:
        key = (request.client, request.path, request.offset)
        if request.succeeded:
            failed[key].clear()
            continue
        recent = failed[key]
        recent.append(request)
        if len(recent) > fill.attempts_limit:
            window = request.at - recent[-1 - fill.attempts_limit].at
            if window < fill.failure_memory_seconds:
                yield (
                    f"{request.client} asked for {request.path}@{request.offset} "
                    f"{fill.attempts_limit + 1} times in {window:.3f} s"
                )


def check_delivered(cluster: SimCluster, reads: Iterable[ReadRecord]) -> Iterator[str]:
    """The bytes by source are the bytes that were delivered."""
    delivered: dict[str, int] = defaultdict(int)
    for read in reads:
        if read.error is None:
            delivered[read.reader] += read.count
    for one in cluster.readers:
        if one.process.dead:
            continue
        counted = one.reader.statistics().bytes_delivered
        if counted != delivered[one.process.name]:
            yield (
                f"{one.process.name} counts {counted} bytes by source "
                f"and delivered {delivered[one.process.name]}"
            )


def check_single_flight(cluster: SimCluster) -> Iterator[str]:
    """A worker never asks for a block while it is being given that block.

    A file with a known digest that does not match is read once more, beside the fills.
    """
    if cluster.plan.with_digests:
        return
    ended: dict[tuple[str, str, int], float] = {}
    for request in sorted(cluster.origin.requests, key=lambda one: one.began):
        key = (request.client, request.path, request.offset)
        if request.began < ended.get(key, 0.0):
            yield f"{request.client} asks twice at once for {request.path}@{request.offset}"
        ended[key] = request.at


def check_origin_paid_once(cluster: SimCluster, *, times: int) -> Iterator[str]:
    """Without faults, every block is read from the origin exactly once, whoever reads it.

    While a member leaves, its blocks may be filled both by it and by who owns them now: ``times`` is
    how many owners a block can have had.
    """
    counts = cluster.origin.memory.reads
    for (path, offset), count in sorted(counts.items()):
        if count > times:
            yield f"{path}@{offset} was read {count} times from the origin"
    size = sum(len(content) for content in cluster.origin.memory.files.values())
    if times == 1 and cluster.origin.memory.bytes_read != size:
        yield f"{cluster.origin.memory.bytes_read} bytes from the origin instead of {size}"


class LoggedErrors(logging.Handler):
    """Collects what our own code logs as an error: an exception that it did not expect."""

    def __init__(self) -> None:
        """Collect nothing yet."""
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message, with the exception."""
        cause = record.exc_info[1] if record.exc_info else None
        self.messages.append(f"{record.name}: {record.getMessage()} {cause!r}")
