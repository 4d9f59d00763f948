"""What must be true of a simulated cluster, whatever befell it.

Each checker looks at the whole cluster from outside and says in a sentence what is wrong. The
guarantees that need no fault to end are checked at each read; the others when all is over.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cachefs.core.blocks import FileVersionId
from cachefs.errors import CacheFSError
from cachefs.testing.cluster import SimCluster
from cachefs.testing.sim_origin import OriginRequest

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


def check_read(cluster: SimCluster, read: ReadRecord) -> None:
    """Hold one read to what every read promises, then poison its buffer.

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
            at = next(at for at, byte in enumerate(truth) if read.buffer[at] != byte)
            raise ViolationError(f"wrong bytes from {at} on: {read}")
    read.buffer[:] = bytes((POISON,)) * len(read.buffer)


def check_buffers(reads: Iterable[ReadRecord]) -> Iterator[str]:
    """Nobody writes into a caller's buffer after its read has returned."""
    for read in reads:
        if read.buffer.count(POISON) != len(read.buffer):
            yield f"bytes were written into a buffer after its read had returned: {read}"


def check_capacity(cluster: SimCluster) -> Iterator[str]:
    """No tier ever takes more than its capacity."""
    for worker in cluster.workers.values():
        most = worker.drive.most_allocated_bytes
        if most > worker.tier.capacity_bytes:
            yield f"{worker.name} took {most} bytes of {worker.tier.capacity_bytes}"


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
        counted = one.reader.statistics().bytes_delivered
        if counted != delivered[one.process.name]:
            yield (
                f"{one.process.name} counts {counted} bytes by source "
                f"and delivered {delivered[one.process.name]}"
            )


def check_origin_paid_once(cluster: SimCluster) -> Iterator[str]:
    """Without faults, every block is read from the origin exactly once, whoever reads it."""
    counts = cluster.origin.memory.reads
    for (path, offset), count in sorted(counts.items()):
        if count > 1:
            yield f"{path}@{offset} was read {count} times from the origin"
    size = sum(len(content) for content in cluster.origin.memory.files.values())
    if cluster.origin.memory.bytes_read != size:
        yield f"{cluster.origin.memory.bytes_read} bytes from the origin instead of {size}"


def check_idle(cluster: SimCluster) -> Iterator[str]:
    """When nobody reads, nothing is reserved, held or being filled."""
    for worker in cluster.workers.values():
        if worker.filler is None or worker.store is None:
            continue
        filler = worker.filler.statistics()
        if filler.inflight_fills or filler.queued_fills or filler.uncached_blocks:
            yield f"{worker.name} is still filling: {filler}"
        for tier in worker.store.statistics().tiers:
            if tier.reserved_bytes or tier.leased_files:
                yield f"{worker.name} still has reserved or lent: {tier}"
        for inner in worker.store._tiers:
            for file in inner.files.values():
                if file.users or file.held or file.busy or file.strays:
                    yield (
                        f"{worker.name} still uses {file.name}: {file.users} users, "
                        f"held {file.held}, busy {file.busy}, strays {file.strays}"
                    )


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
