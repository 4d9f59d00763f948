"""Gathering: all blocks of a file, in order, from wherever they are; to compare the whole with its digest.

A block is taken from this worker's tiers if it is there; else from its owner, which fills it if nobody
has, or from whoever would own it next if that one is silent. So the cluster fills it once, where it
belongs, and nothing is kept here that is not ours. Several blocks are on their way while one is hashed.

After the file was found to be wrong, its blocks are gathered *anew*: from the origin alone, because
any worker may hold the wrong one.
"""

import logging
import mmap
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cachefs.config.schema import ClusterConfig, FillConfig
from cachefs.core import placement
from cachefs.core.blocks import BlockId, block_count, block_range
from cachefs.core.membership import Member
from cachefs.core.names import WorkerId
from cachefs.errors import CacheFSError, CapacityError, ClusterError, OriginError
from cachefs.ports import (
    BlockRequest,
    BlockSource,
    BlockStore,
    CancelToken,
    FetchedBlock,
    FileRef,
    Metadata,
    Runtime,
)
from cachefs.wire import digests
from cachefs.wire.http import PROGRESS_SECONDS
from cachefs.workers.filling.filler import Filler
from cachefs.workers.filling.fills import ObtainedBlock
from cachefs.workers.proving.attempts import name_of

BLOCK_SECONDS = 5.0
"""On top of a fill's own limit, for its place in the owner's queue."""

_log = logging.getLogger("cachefs.worker")


class Gathered(NamedTuple):
    """The bytes of a block, and the digest that was computed of exactly these."""

    data: memoryview
    digest: bytes


_Bring = Callable[[FileRef, int, memoryview], Gathered]
"""Brings a block, mostly into the buffer that is given."""


class Gatherer:
    """Reads whole files. Safe from any thread."""

    def __init__(
        self,
        runtime: Runtime,
        store: BlockStore,
        filler: Filler,
        source: BlockSource,
        metadata: Metadata,
        *,
        config: FillConfig,
        cluster: ClusterConfig,
        own: WorkerId,
    ) -> None:
        """Take what is ours from the filler, and the rest from ``source``."""
        self._runtime = runtime
        self._store = store
        self._filler = filler
        self._source = source
        self._metadata = metadata
        self._config = config
        self._own = own
        self._block_size = cluster.block_size
        self._digest_of = digests.digester(cluster.digest)

    def blocks(self, file: FileRef, *, anew: bool) -> Iterator[Gathered]:
        """Yield all blocks in order, while the next ones are on their way.

        The bytes of one are there until the next is asked for.

        Raises:
            OriginError: A block cannot be filled.
            ClusterError: Nobody serves a block.
        """
        bring = self._bring_anew if anew else self._bring
        coming: deque[_Coming] = deque()
        free: list[memoryview] = []
        for index in range(block_count(file.entry.size, self._block_size)):
            if len(coming) >= self._config.inflight_fills_limit:
                first = coming.popleft()
                yield first.wait()
                free.append(first.buffer)
            length = block_range(index, file.entry.size, self._block_size).length
            # New memory costs as much as copying a block into it.
            buffer = free.pop() if free else memoryview(mmap.mmap(-1, length))
            coming.append(_Coming(self._runtime, bring, file, index, buffer[:length]))
        while coming:
            yield coming.popleft().wait()

    def order(self, file: FileRef, index: int) -> list[Member]:
        """Return the block's owners and those after them, whoever is silent last."""
        view = self._metadata.view(deadline=self._runtime.monotonic())
        block = BlockId(file.entry.file_version, index)
        order = placement.order(block, view.members, pool=file.pool)
        return sorted(order, key=lambda member: self._filler.peers.avoids(member.worker))

    def _bring(self, file: FileRef, index: int, into: memoryview) -> Gathered:
        """Return a block from here, else from its owner, else from whoever would own it next."""
        held = self._store.holds(file.entry.file_version, index)
        brought = self._read_own(file, index, into, only_cached=True) if held else None
        for member in self.order(file, index):
            if brought is not None:
                break
            if member.worker == self._own:
                brought = self._read_own(file, index, into, only_cached=False)
            else:
                brought = self._fetch(file, index, into, member)
        if brought is None:
            brought = self._read_own(file, index, into, only_cached=False)
        if brought is None:
            raise ClusterError("nobody serves a block", subject=f"{name_of(file)} block {index}")
        return brought

    def _bring_anew(self, file: FileRef, index: int, _into: memoryview) -> Gathered:
        data = self._filler.read_origin(file, index, deadline=self._block_deadline())
        return Gathered(data, self._digest_of(data))

    def _read_own(
        self, file: FileRef, index: int, into: memoryview, *, only_cached: bool
    ) -> Gathered | None:
        for verify in (False, True):
            block = self._filler.obtain(
                file,
                index,
                only_cached=only_cached,
                verify=verify,
                deadline=self._block_deadline(),
            )
            if block is None:
                return None
            with block:
                data = self._bytes_of(block, index, into)
            digest = self._digest_of(data)
            if digest == block.digest:
                return Gathered(data, digest)
        return None

    def _bytes_of(self, block: ObtainedBlock, index: int, into: memoryview) -> memoryview:
        if block.held is None:
            into[:] = block.view()  # whose memory is used again once the block is let go
            return into
        try:
            block.held.file.pread_into(into, index * self._block_size)
        except OSError as error:
            # What is in the buffer now will not match.
            _log.info("a block cannot be read", extra={"failure": str(error)})
        return into

    def _fetch(
        self, file: FileRef, index: int, into: memoryview, member: Member
    ) -> Gathered | None:
        """Return a block from another worker, which fills it if need be."""
        for verify in (False, True):
            request = BlockRequest(
                file=file,
                index=index,
                into=into,
                only_cached=False,
                verify=verify,
                deadline=self._block_deadline(),
                cancel=CancelToken(),
            )
            try:
                fetched = self._source.fetch(member, request)
            except OriginError:
                raise
            except CacheFSError as error:
                if not isinstance(error, CapacityError):
                    self._filler.peers.avoid_silent(member.worker)
                _log.info("no block", extra={"peer": member.worker, "failure": str(error)})
                return None
            digest = self._digest_of(into)
            if isinstance(fetched, FetchedBlock) and fetched.digest == digest:
                return Gathered(into, digest)
        self._filler.peers.suspect(member.worker)
        return None

    def _block_deadline(self) -> float:
        return self._runtime.monotonic() + self._config.fill_seconds + BLOCK_SECONDS


class _Coming:
    """A block on its way, in a thread of its own."""

    def __init__(
        self, runtime: Runtime, bring: _Bring, file: FileRef, index: int, buffer: memoryview
    ) -> None:
        """Set out."""
        self.buffer = buffer
        self._changed = runtime.condition()
        self._bring = bring
        self._file = file
        self._index = index
        self._brought: Gathered | None = None
        self._error: CacheFSError | None = None
        runtime.start("prove-block", self._run)

    def wait(self) -> Gathered:
        """Return it; every step of bringing has a deadline, and so this ends."""
        with self._changed:
            while self._brought is None:
                if self._error is not None:
                    raise self._error
                self._changed.wait(PROGRESS_SECONDS)
        return self._brought

    def _run(self) -> None:
        brought = None
        error: CacheFSError = ClusterError("reading a block failed in an unexpected way")
        try:
            brought = self._bring(self._file, self._index, self.buffer)
        except CacheFSError as failure:
            error = failure
        finally:
            with self._changed:
                self._brought = brought
                self._error = error if brought is None else None
                self._changed.notify_all()
