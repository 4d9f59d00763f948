"""Descriptors from workers on this node: the client of :mod:`cachefs.wire.local`.

A file version is lent by every worker of this node that owns some of its blocks; each lends its own
sparse file, with the blocks that it holds. A read goes through the descriptors with ``preadv``: no
request, no copy but the kernel's, no digest. What vouches for the bytes is the *stamp*: the file's
change time, asked from the kernel **after** the bytes were read, equals the one that the worker gave
when it last knew the file to be right. The kernel changes it before it changes a byte, so equal
stamps mean that the bytes are those that the worker verified.

When the stamps differ (the worker filled another block, or somebody damaged the file), the worker is
asked for the new one, and the bytes that were read are verified by their digests, here, because they
may have been read before the worker healed them. Blocks that fail are reported and left to the
remote path, as are blocks that are not in any descriptor.

One connection per worker carries all leases, one question at a time. When it breaks, the leases are
over for the worker, but a descriptor stays readable, and its stamp goes on telling the truth.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cachefs.config.secrets import Secret
from cachefs.core.blocks import Range, block_count, block_range, blocks_of, clip
from cachefs.core.membership import Member, View
from cachefs.errors import CacheFSError
from cachefs.ports import FileRef, Runtime
from cachefs.transport.connections import Patience
from cachefs.transport.node import node_identity
from cachefs.transport.sockets import (
    RETRY_SECONDS,
    UNIX_LINES,
    Descriptor,
    LentFile,
    Lines,
    LocalWorker,
    LocalWorkers,
    incarnation_of,
)
from cachefs.wire import digests

_BORROW_SECONDS = 5.0
"""How long a read waits for another thread that borrows for it."""


class _Known(NamedTuple):
    """What a worker said of its sparse file, all at one time.

    Stamp and digests are replaced together. A thread that took a block from older digests and
    compared with a newer stamp would trust bytes that the worker has dropped in between.
    """

    stamp: int
    digests: Sequence[bytes | None]

    def holds(self, index: int) -> bool:
        return index < len(self.digests) and self.digests[index] is not None

    def without(self, index: int) -> "_Known":
        digests = [None if at == index else digest for at, digest in enumerate(self.digests)]
        return _Known(self.stamp, digests)


@dataclass(slots=True, eq=False)
class _Lease:
    """One worker's sparse file of one file version."""

    worker: LocalWorker
    number: int
    descriptor: LentFile
    known: _Known
    stale: bool = False
    """Blocks may have come in since the last look."""

    def is_whole(self, count: int) -> bool:
        """Say whether all of so many blocks are here, and untouched since the worker said so."""
        known = self.known
        complete = len(known.digests) >= count and None not in known.digests[:count]
        return complete and self.descriptor.stamp() == known.stamp


class _Run(NamedTuple):
    """Neighbouring blocks that come from one descriptor, or from none."""

    lease: _Lease | None
    known: _Known | None
    part: Range


class LocalNode:
    """Finds the workers on this node and opens files through them."""

    def __init__(
        self,
        runtime: Runtime,
        token: Secret,
        *,
        block_size: int,
        digest: str,
        node: str | None = None,
        timeout_seconds: float = 2.0,
        lines: Lines = UNIX_LINES,
    ) -> None:
        """Connect to nobody yet.

        Args:
            runtime: For its clock and conditions.
            token: The cluster's.
            block_size: The cluster's.
            digest: The cluster's algorithm.
            node: This machine's identity; ``None`` to find it out.
            timeout_seconds: For an answer on the socket; a worker that is slower is passed over.
            lines: Connects to the workers' sockets.
        """
        self.runtime = runtime
        self.block_size = block_size
        self.digester = digests.digester(digest)
        self.digest_size = digests.digest_size(digest)
        self._node = node_identity() if node is None else node
        self._timeout = timeout_seconds
        self._lines = lines
        self._guard = runtime.condition()
        self._workers = LocalWorkers(
            runtime, token, block_size=block_size, timeout_seconds=timeout_seconds, lines=lines
        )
        self._known: dict[str, LocalWorker] = {}

    def open(self, file: FileRef, view: View) -> "LocalFile | None":
        """Return a file as this node's workers lend it; ``None`` if there are none here."""
        here = [
            member
            for member in view.members
            if member.node == self._node and self._lines.exists(member.socket_path)
        ]
        return LocalFile(self, file, here) if here else None

    def patience(self, deadline: float) -> Patience:
        """Return how long a question may take within a read that has a deadline."""
        return Patience(deadline, self._timeout)

    def worker(self, member: Member, deadline: float) -> LocalWorker | None:
        """Return the connection to a worker, or ``None`` if it failed a moment ago."""
        name = incarnation_of(member)
        with self._guard:
            known = self._known.get(name)
            if known is not None and not known.broken:
                return known
        connected = self._workers.connect(member, deadline)
        if connected is None:
            return None
        with self._guard:
            known = self._known.get(name)
            if known is not None and not known.broken:
                connected.close()
                return known
            self._known[name] = connected
        return connected

    def close(self) -> None:
        """End all connections and with them all leases."""
        with self._guard:
            workers = list(self._known.values())
            self._known.clear()
        for worker in workers:
            worker.close()


class LocalFile:
    """A file version through the descriptors of this node's workers; safe from any thread."""

    def __init__(self, node: LocalNode, file: FileRef, members: Sequence[Member]) -> None:
        """Borrow nothing before the first read."""
        self._node = node
        self._file = file
        self._members = members
        self._guard = node.runtime.condition()
        self._leases: dict[str, _Lease] = {}
        self._tried_at = float("-inf")
        self._borrowing = False
        self._closed = False

    def read_into(
        self, offset: int, into: memoryview, *, deadline: float
    ) -> tuple[list[Range], str]:
        """Read what is here; return the ranges that are not, and the zone of the lenders.

        After the deadline no worker is asked any more.
        """
        wanted = clip(offset, len(into), self._file.entry.size)
        missing: list[Range] = []
        zone = ""
        for lease, known, part in self._runs(wanted, self._borrow(deadline), deadline):
            start = part.offset - offset
            if lease is None or known is None:
                missing.append(part)
            else:
                zone = lease.worker.member.zone
                target = into[start : start + part.length]
                missing += self._read_run(lease, known, part, target, deadline)
        return missing, zone

    def whole(self, *, deadline: float) -> Descriptor | None:
        """Return a descriptor that holds all bytes; ``None`` if no worker of this node holds them all.

        Its worker holds every block verified, and the stamp, which is looked at last, says that
        nobody has written since. It stays readable as long as it is referred to; whether the bytes
        are still vouched for later is for a later call to say.
        """
        count = block_count(self._file.entry.size, self._node.block_size)
        for lease in self._borrow(deadline):
            if lease.is_whole(count) or (self._check(lease, deadline) and lease.is_whole(count)):
                return lease.descriptor if isinstance(lease.descriptor, Descriptor) else None
        return None

    def expect(self) -> None:
        """Look for new blocks before the next read that lacks one."""
        for lease in list(self._leases.values()):
            lease.stale = True

    def close(self) -> None:
        """Give the descriptors back; idempotent."""
        with self._guard:
            self._closed = True
            leases = list(self._leases.values())
            self._leases.clear()
        for lease in leases:
            try:
                lease.worker.ask({"op": "close", "lease": lease.number})
            except CacheFSError:
                continue  # With the connection gone, the lease is over as well.

    def _borrow(self, deadline: float) -> list[_Lease]:
        """Return the leases, borrowing from workers that have not lent yet.

        One thread borrows for all. Who comes while nothing is lent yet waits for it: a read that
        went ahead without would bring over the network what is on this node.
        """
        now = self._node.runtime.monotonic()
        until = min(now + _BORROW_SECONDS, deadline)
        with self._guard:
            while self._borrowing and not self._leases and now < until:
                self._guard.wait(until - now)
                now = self._node.runtime.monotonic()
            complete = len(self._leases) >= len(self._members)
            if complete or self._borrowing or now - self._tried_at < RETRY_SECONDS:
                return list(self._leases.values())
            self._borrowing = True
            lacking = [each for each in self._members if each.worker not in self._leases]
        try:
            for member in lacking:
                self._open(member, deadline)
        finally:
            with self._guard:
                self._borrowing = False
                self._tried_at = self._node.runtime.monotonic()
                self._guard.notify_all()
        return list(self._leases.values())

    def _open(self, member: Member, deadline: float) -> None:
        worker = self._node.worker(member, deadline)
        if worker is None:
            return
        request = {
            "op": "open",
            "dataset": str(self._file.dataset),
            "version": self._file.version,
            "file": self._file.entry.file_version,
        }
        try:
            answer, descriptor = worker.ask(request, self._node.patience(deadline))
        except CacheFSError:
            return
        if descriptor is None or descriptor.size() != self._file.entry.size:
            return
        lease = _Lease(worker, int(answer["lease"]), descriptor, self._parse(answer))
        with self._guard:
            keep = not self._closed and member.worker not in self._leases
            if keep:
                self._leases[member.worker] = lease
        if not keep:
            worker.ask({"op": "close", "lease": lease.number})

    def _parse(self, answer: dict[str, Any]) -> _Known:
        packed = bytes.fromhex(answer["digests"])
        return _Known(int(answer["stamp"]), digests.unpack(packed, self._node.digest_size))

    def _check(self, lease: _Lease, deadline: float) -> bool:
        """Ask the worker what is in its file by now; ``False`` when it does not answer."""
        patience = self._node.patience(deadline)
        try:
            answer, _ = lease.worker.ask({"op": "check", "lease": lease.number}, patience)
        except CacheFSError:
            self._drop(lease)
            return False
        lease.known = self._parse(answer)
        lease.stale = False
        return True

    def _drop(self, lease: _Lease) -> None:
        with self._guard:
            name = lease.worker.member.worker
            if self._leases.get(name) is lease:
                del self._leases[name]

    def _runs(self, wanted: Range, leases: list[_Lease], deadline: float) -> Iterator[_Run]:
        """Cut a range into the longest parts that come from one descriptor, or from none."""
        run: _Run | None = None
        for index, part in blocks_of(wanted, self._node.block_size):
            lease, known = self._holder(index, leases, deadline)
            if run is not None and lease is run.lease and known is run.known:
                joined = Range(run.part.offset, run.part.length + part.length)
                run = _Run(lease, known, joined)
                continue
            if run is not None:
                yield run
            run = _Run(lease, known, part)
        if run is not None:
            yield run

    def _holder(
        self, index: int, leases: list[_Lease], deadline: float
    ) -> tuple[_Lease, _Known] | tuple[None, None]:
        for lease in leases:
            known = lease.known
            if known.holds(index):
                return lease, known
        for lease in leases:
            if lease.stale and self._check(lease, deadline):
                known = lease.known
                if known.holds(index):
                    return lease, known
        return None, None

    def _read_run(
        self, lease: _Lease, known: _Known, part: Range, into: memoryview, deadline: float
    ) -> list[Range]:
        """Read a part from a descriptor; return what of it turned out bad."""
        descriptor = lease.descriptor
        if not descriptor.read_at(part.offset, into):
            return [part]
        if descriptor.stamp() == known.stamp:
            return []
        self._check(lease, deadline)
        return self._verify(lease, known, part, into, deadline)

    def _verify(
        self, lease: _Lease, known: _Known, part: Range, into: memoryview, deadline: float
    ) -> list[Range]:
        """Verify the blocks that a part touches; return the ranges that are not right."""
        bad = []
        for index, piece in blocks_of(part, self._node.block_size):
            whole = block_range(index, self._file.entry.size, self._node.block_size)
            start = piece.offset - part.offset
            target = into[start : start + piece.length]
            block = target
            if piece != whole:
                block = memoryview(bytearray(whole.length))
                lease.descriptor.read_at(whole.offset, block)
                inside = piece.offset - whole.offset
                target[:] = block[inside : inside + piece.length]
            if self._node.digester(block) != known.digests[index]:
                bad.append(piece)
                self._report(lease, index, deadline)
        return bad

    def _report(self, lease: _Lease, index: int, deadline: float) -> None:
        request = {"op": "report", "lease": lease.number, "index": index}
        try:
            lease.worker.ask(request, self._node.patience(deadline))
        except CacheFSError:
            self._drop(lease)
        else:
            lease.known = lease.known.without(index)
            lease.stale = True
