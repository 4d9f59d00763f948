"""The reader: the one road from a range of a file to the caller's buffer.

Theory of operation. A read is cut into blocks. For each block the bytes come from the first of

1. a descriptor that a worker on this node lent (:class:`LocalFiles`): one ``preadv`` for all
   neighbouring blocks that are in it, straight into the caller's buffer;
2. the reader's own memory, if the block was fetched for an earlier part or ahead of use;
3. the block's owner, a replica, any other worker (:mod:`cachefs.client.fetching`), which has it, or
   fills it from a peer or the origin.

A block that is wanted whole is received in the caller's buffer and verified there; a block of which
a part is wanted is received in the block cache, verified, and the part copied. Several blocks are
fetched at once (:mod:`cachefs.client.lanes`): while one thread computes a digest, with the
interpreter's lock released, others receive. A read returns when all of its blocks are there and
verified, or raises; in both cases nobody writes into the buffer afterwards.

Digests. The block's digest as metadata has it decides. While metadata has none (the block is being
filled for the first time), the one that comes with the block is believed: that finds damage on the
way, but not a worker that lies about a block that nobody ever read before.

The data path asks nobody for permission: with a view and a manifest, reads go on while the
coordinator is down. Everything here waits through :class:`cachefs.ports.Runtime` and can run in the
simulation.
"""

from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from cachefs.client.block_cache import BlockCache, CachedBlock
from cachefs.client.fetching import BlockFetcher, Served
from cachefs.client.lanes import Fetch, Lanes
from cachefs.client.statistics import (
    LOCAL,
    MEMORY,
    Delivery,
    ReadCounters,
    ReaderStatistics,
)
from cachefs.client.views import ViewKeeper
from cachefs.config.schema import ClusterConfig, ReaderConfig
from cachefs.core.access import AccessHistory, predict_next
from cachefs.core.blocks import BlockId, Range, block_range, blocks_of, clip
from cachefs.core.manifest import FileEntry, VersionId
from cachefs.core.membership import View
from cachefs.core.names import DatasetName
from cachefs.errors import CacheFSError, check
from cachefs.ports import (
    BlockSource,
    CancelToken,
    FileRef,
    Metadata,
    ResolvedVersion,
    Runtime,
)
from cachefs.wire.digests import digester

_DIGESTS_SECONDS = 2.0
"""A read does not wait longer for a list of digests, without which it can go on."""
_OPENED_KEPT = 2
"""Files of the past that a guess at the next one looks at."""


class LocalFile(Protocol):
    """A file version as the workers on this node have lent it. Safe from any thread."""

    def read_into(self, offset: int, into: memoryview) -> tuple[list[Range], str]:
        """Read what is here; return the ranges that are not, and the zone of those that lent it."""
        ...

    def expect(self) -> None:
        """Note that blocks have come in since the last look."""
        ...

    def close(self) -> None:
        """Give the descriptors back; idempotent."""
        ...


class LocalFiles(Protocol):
    """Workers on this node that lend descriptors."""

    def open(self, file: FileRef, view: View) -> LocalFile | None:
        """Return a file, or ``None`` if no worker of the view is on this node."""
        ...


class Reader:
    """Reads datasets of one cluster. Meant to be shared by all threads of a process."""

    def __init__(
        self,
        runtime: Runtime,
        config: ReaderConfig,
        cluster: ClusterConfig,
        *,
        metadata: Metadata,
        blocks: BlockSource,
        local: LocalFiles | None = None,
    ) -> None:
        """Ask nobody yet, and start no thread. The collaborators stay the caller's to close."""
        self.runtime = runtime
        self.config = config
        self.cluster = cluster
        self.metadata = metadata
        self.local = local if config.local else None
        self.counters = ReadCounters(runtime)
        self.views = ViewKeeper(runtime, metadata, view_seconds=config.view_seconds)
        self.fetcher = BlockFetcher(
            runtime,
            config,
            blocks,
            self.views,
            digester=digester(cluster.digest),
            counters=self.counters,
        )
        self.cache = BlockCache(runtime, capacity_bytes=config.block_cache_bytes)
        self.lanes = Lanes(runtime, config.connections_limit)

    def open(self, name: DatasetName | str, version: str | None = None) -> "OpenDataset":
        """Open a dataset at a version; the current one for ``None``, by the dataset's policy.

        Raises:
            NotKnownError: There is no such dataset or version.
            CoordinatorUnavailableError: Nobody answers, and we have not seen it before.
            DeniedError: The token is wrong.
        """
        if isinstance(name, str):
            name = DatasetName.parse(name)
        deadline = self.runtime.monotonic() + self.config.deadline_seconds
        return OpenDataset(self, self.metadata.resolve(name, version, deadline=deadline))

    def statistics(self) -> ReaderStatistics:
        """Return what was read so far, and from where."""
        return self.counters.snapshot(
            hedges=self.fetcher.hedges,
            p50=self.fetcher.latency(0.5),
            p99=self.fetcher.latency(0.99),
        )

    def close(self) -> None:
        """Cancel what is under way and end all threads; idempotent."""
        self.lanes.close()
        self.fetcher.close()
        self.views.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class OpenDataset:
    """A dataset at one version, which never changes under it."""

    def __init__(self, reader: Reader, resolved: ResolvedVersion) -> None:
        """Come from :meth:`Reader.open`."""
        self._reader = reader
        self.resolved = resolved
        self._paths = {entry.path for entry in resolved.manifest.files}
        self._opened: deque[str] = deque(maxlen=_OPENED_KEPT)

    @property
    def name(self) -> DatasetName:
        """The dataset's name."""
        return self.resolved.dataset

    @property
    def version(self) -> VersionId:
        """The version that is open."""
        return self.resolved.manifest.id

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """All files, sorted by path."""
        return self.resolved.manifest.files

    def file(self, path: str) -> "OpenFile":
        """Open a file.

        Raises:
            NotKnownError: There is no such file.
        """
        entry = self.resolved.manifest.find(path)
        self._opened.append(path)
        following = predict_next(list(self._opened), self._paths)
        return OpenFile(
            self._reader,
            self.resolved.file(entry),
            self.resolved.file(self.resolved.manifest.find(following)) if following else None,
        )


class OpenFile:
    """A file version open for reading; safe from any thread."""

    def __init__(self, reader: Reader, ref: FileRef, following: FileRef | None) -> None:
        """Come from :meth:`OpenDataset.file`; ``following`` is what may be read after it."""
        self._reader = reader
        self._ref = ref
        self._following = following
        self._block_size = reader.cluster.block_size
        self._digests: Sequence[bytes | None] = ()
        self._digests_asked_at = float("-inf")
        self._local: LocalFile | None = None
        self._local_tried = False
        self._guard = reader.runtime.condition()
        # The block that is being read needs its place in the cache as well.
        room = max(0, reader.config.block_cache_bytes - self._block_size)
        self._history = AccessHistory(
            window_start=self._block_size,
            window_limit=min(reader.config.readahead_bytes, room),
        )
        self._ahead_running: dict[CancelToken, None] = {}
        """Cancelled at close."""
        self._closed = False

    @property
    def path(self) -> str:
        """Within the dataset."""
        return self._ref.entry.path

    @property
    def size(self) -> int:
        """In bytes."""
        return self._ref.entry.size

    @property
    def ref(self) -> FileRef:
        """What names the file's bytes for workers."""
        return self._ref

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes of a range, cut at the end of the file."""
        wanted = clip(offset, length, self.size)
        buffer = bytearray(wanted.length)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)  # A copy; who minds brings a buffer.

    def read_into(self, offset: int, into: memoryview) -> int:
        """Read into the caller's buffer until it is full or the file ends; return the count.

        After the return, or an exception, nobody writes into the buffer. After an exception its
        content is undefined.

        Raises:
            DeadlineError: It did not end within ``deadline_seconds``; names whom it asked.
            OriginError: A block could not be filled.
            IntegrityError: All that was served was wrong.
            WorkerUnavailableError: Nobody could serve a block.
        """
        check(not self._closed, "a read on a closed file")
        wanted = clip(offset, len(into), self.size)
        if wanted.length == 0:
            return 0
        into = into.cast("B")[: wanted.length]
        deadline = self._reader.runtime.monotonic() + self._reader.config.deadline_seconds
        deliveries: list[Delivery] = []
        missing = self._read_local(wanted, into, deadline, deliveries)
        if missing:
            self._read_remote(missing, wanted, into, deadline, deliveries)
        self._reader.counters.delivered(deliveries)
        return wanted.length

    def close(self) -> None:
        """Stop reading ahead and give back descriptors; idempotent."""
        with self._guard:
            self._closed = True
            running = list(self._ahead_running)
            local, self._local = self._local, None
        for token in running:
            token.cancel()
        if local is not None:
            local.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read_local(
        self, wanted: Range, into: memoryview, deadline: float, deliveries: list[Delivery]
    ) -> list[Range]:
        """Read what descriptors have; return the rest."""
        local = self._open_local(deadline)
        if local is None:
            return [wanted]
        missing, zone = local.read_into(wanted.offset, into)
        read = wanted.length - sum(each.length for each in missing)
        if read:
            deliveries.append(Delivery(LOCAL, zone, read))
        return missing

    def _open_local(self, deadline: float) -> LocalFile | None:
        if self._reader.local is None or self._local_tried:
            return self._local
        view = self._reader.views.current(deadline=deadline)
        with self._guard:
            if not self._local_tried:
                self._local = self._reader.local.open(self._ref, view)
                self._local_tried = True
            return self._local

    def _read_remote(
        self,
        missing: list[Range],
        wanted: Range,
        into: memoryview,
        deadline: float,
        deliveries: list[Delivery],
    ) -> None:
        known = self._known_digests(missing, deadline)
        fetches: list[Fetch] = []
        for part in missing:
            for index, piece in blocks_of(part, self._block_size):
                start = piece.offset - wanted.offset
                target = into[start : start + piece.length]
                digest = known[index] if index < len(known) else None
                fetches.append(
                    self._block_fetch(
                        index,
                        piece,
                        target,
                        digest=digest,
                        deadline=deadline,
                        deliveries=deliveries,
                    )
                )
        self._read_ahead(wanted)
        self._reader.lanes.run(fetches, deadline=deadline)
        if self._local is not None:
            self._local.expect()

    def _block_fetch(
        self,
        index: int,
        piece: Range,
        target: memoryview,
        *,
        digest: bytes | None,
        deadline: float,
        deliveries: list[Delivery],
    ) -> Fetch:
        """Return the unit of work that brings one block, or a part of it, to where it is wanted."""
        whole = block_range(index, self.size, self._block_size)
        block = BlockId(self._ref.entry.file_version, index)
        start = piece.offset - whole.offset

        def fetch(into: memoryview, cancel: CancelToken) -> Served:
            return self._reader.fetcher.fetch(
                self._ref, index, into, known=digest, deadline=deadline, cancel=cancel
            )

        def bring(cancel: CancelToken) -> None:
            cache = self._reader.cache
            held = cache.find(block, target, start)
            if held is not None:
                deliveries.append(_from_cache(held, piece.length))
            elif piece == whole and not cache.holds(block):
                served = fetch(target, cancel)
                deliveries.append(Delivery(served.source, served.member.zone, piece.length))
            else:
                with cache.obtain(
                    block, whole.length, lambda into: fetch(into, cancel), deadline=deadline
                ) as held:
                    target[:] = held.view[start : start + piece.length]
                    deliveries.append(_from_cache(held, piece.length))

        return bring

    def _known_digests(self, missing: list[Range], deadline: float) -> Sequence[bytes | None]:
        """Return the digests that metadata has, asking again while it lacks one that is wanted."""
        now = self._reader.runtime.monotonic()
        with self._guard:
            known = self._digests
            last = max(part.end - 1 for part in missing) // self._block_size
            first = min(part.offset for part in missing) // self._block_size
            complete = last < len(known) and all(known[first : last + 1])
            if complete or now - self._digests_asked_at < self._reader.config.view_seconds:
                return known
            self._digests_asked_at = now
        try:
            until = min(deadline, now + _DIGESTS_SECONDS)
            known = self._reader.metadata.digests(self._ref, deadline=until)
        except CacheFSError:
            return known  # Without them, the digests that come with the blocks are used.
        with self._guard:
            self._digests = known
        return known

    def _read_ahead(self, wanted: Range) -> None:
        """Fetch into the block cache what will probably be read next."""
        config = self._reader.config
        if config.readahead_bytes == 0:
            return
        with self._guard:
            ahead = self._history.record(wanted)
        if wanted.length >= config.connections_limit * self._block_size:
            return  # Such a read keeps every connection busy; a copy would only slow it down.
        inside = clip(ahead.offset, ahead.length, self.size)
        for index, _ in blocks_of(inside, self._block_size):
            self._fetch_ahead(self._ref, index)
        over = min(ahead.end - self.size, self._block_size)
        if over > 0 and self._following is not None:
            beginning = clip(0, over, self._following.entry.size)
            for index, _ in blocks_of(beginning, self._block_size):
                self._fetch_ahead(self._following, index)

    def _fetch_ahead(self, ref: FileRef, index: int) -> None:
        reader = self._reader
        block = BlockId(ref.entry.file_version, index)
        length = block_range(index, ref.entry.size, self._block_size).length
        if reader.cache.holds(block) or not reader.cache.has_room(length):
            return

        def fetch(cancel: CancelToken) -> None:
            with self._guard:
                if self._closed:
                    return
                self._ahead_running[cancel] = None
            try:
                self._bring_ahead(ref, block, length, cancel)
            finally:
                with self._guard:
                    self._ahead_running.pop(cancel, None)

        reader.lanes.submit(fetch)

    def _bring_ahead(self, ref: FileRef, block: BlockId, length: int, cancel: CancelToken) -> None:
        reader = self._reader
        known = self._digests if ref is self._ref else ()
        digest = known[block.index] if block.index < len(known) else None
        deadline = reader.runtime.monotonic() + reader.config.deadline_seconds

        def fetch(into: memoryview) -> Served:
            reader.counters.read_ahead()
            return reader.fetcher.fetch(
                ref, block.index, into, known=digest, deadline=deadline, cancel=cancel
            )

        try:
            with reader.cache.obtain(block, length, fetch, deadline=deadline):
                pass
        except CacheFSError:
            return  # Who reads the block meets the same trouble, and says so.


def _from_cache(held: CachedBlock, length: int) -> Delivery:
    """Say where cached bytes came from; only their first delivery counts for the worker."""
    if held.delivered or held.served is None:
        return Delivery(MEMORY, "", length)
    held.delivered = True
    return Delivery(held.served.source, held.served.member.zone, length)
