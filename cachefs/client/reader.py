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
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial

from cachefs.client.block_cache import BlockCache, CachedBlock
from cachefs.client.fetching import BlockFetcher, Served
from cachefs.client.lanes import Fetch, Lanes
from cachefs.client.lenders import LocalFile, LocalFiles, WholeFile
from cachefs.client.readahead import Readahead
from cachefs.client.statistics import (
    LOCAL,
    MEMORY,
    Delivery,
    ReadCounters,
    ReaderStatistics,
)
from cachefs.client.views import ViewKeeper
from cachefs.config.schema import ClusterConfig, ReaderConfig
from cachefs.core.access import predict_next
from cachefs.core.blocks import BlockId, Range, block_range, blocks_of, clip
from cachefs.core.manifest import FileEntry, VersionId
from cachefs.core.names import DatasetName
from cachefs.errors import CacheFSError, NotKnownError, check
from cachefs.ports import (
    BlockSource,
    CancelToken,
    Closing,
    FileRef,
    Metadata,
    ResolvedVersion,
    Runtime,
)
from cachefs.wire.digests import digester

_DIGESTS_SECONDS = 2.0
"""A read does not wait longer for a list of digests, without which it can go on."""
_FORGOTTEN_SECONDS = 1.0
"""A read that has failed does not wait longer to learn whether its version is gone."""
Borrow = Callable[[int], AbstractContextManager[memoryview]]
"""Lends a buffer of so many bytes, whose content is anything."""
_OPENED_KEPT = 2
"""Files of the past that a guess at the next one looks at."""


class Reader(Closing):
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


class OpenFile(Closing):
    """A file version open for reading; safe from any thread."""

    def __init__(self, reader: Reader, ref: FileRef, following: FileRef | None) -> None:
        """Come from :meth:`OpenDataset.file`; ``following`` is what may be read after it."""
        self._reader = reader
        self._ref = ref
        self._block_size = reader.cluster.block_size
        self._digests: Sequence[bytes | None] = ()
        self._digests_asked_at = float("-inf")
        self._local: LocalFile | None = None
        self._local_tried = False
        self._guard = reader.runtime.condition()
        self._ahead = Readahead(
            reader.runtime,
            reader.config,
            block_size=self._block_size,
            cache=reader.cache,
            lanes=reader.lanes,
            fetch=self._fetch_ahead,
            ref=ref,
            following=following,
        )
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

    @contextmanager
    def lend(self, offset: int, length: int, borrow: Borrow) -> Iterator[Sequence[memoryview]]:
        """Lend the bytes of a range, cut at the end of the file, in as many pieces as it takes.

        They are valid, and do not change, in the body of the ``with`` statement. Blocks from the
        network are lent as they were received and verified; what a descriptor has is read into a
        buffer of the caller's.

        Args:
            offset: Where the range begins.
            length: How long it is.
            borrow: Lends a buffer of so many bytes.

        Raises:
            CacheFSError: As :meth:`read_into`.
        """
        check(not self._closed, "a read on a closed file")
        wanted = clip(offset, length, self.size)
        deadline = self._reader.runtime.monotonic() + self._reader.config.deadline_seconds
        deliveries: list[Delivery] = []
        with ExitStack() as held:
            views: Sequence[memoryview] = ()
            missing = [wanted]
            if self._open_local(deadline) is not None:
                buffer = held.enter_context(borrow(wanted.length))
                missing = self._read_local(wanted, buffer, deadline, deliveries)
                views = (buffer,)
            if missing == [wanted]:
                views = self._hold(wanted, deadline, deliveries, held)
            elif missing:
                self._read_remote(missing, wanted, buffer, deadline, deliveries)
            self._reader.counters.delivered(deliveries)
            yield views

    def expect_all(self) -> None:
        """Read ahead further and sooner, because the whole file will probably be read."""
        check(not self._closed, "a read on a closed file")
        # What a worker on this node may lend is not fetched before a read has missed it.
        alone = self._reader.local is None or (self._local_tried and self._local is None)
        self._ahead.expect_all(at_once=alone)

    def is_forgotten(self) -> bool:
        """Say whether the cluster knows the version no more; ``False`` if nobody answers at once."""
        deadline = self._reader.runtime.monotonic() + _FORGOTTEN_SECONDS
        try:
            self._reader.metadata.resolve(self._ref.dataset, self._ref.version, deadline=deadline)
        except NotKnownError:
            return True
        except CacheFSError:
            return False
        return False

    def whole(self) -> WholeFile | None:
        """Return the file of this node that holds all bytes, vouched for at this moment, if any.

        Raises:
            CoordinatorUnavailableError: There never was a view, and nobody answers.
        """
        check(not self._closed, "a look at a closed file")
        deadline = self._reader.runtime.monotonic() + self._reader.config.deadline_seconds
        local = self._open_local(deadline)
        return None if local is None else local.whole(deadline=deadline)

    def close(self) -> None:
        """Stop reading ahead and give back descriptors; idempotent."""
        with self._guard:
            self._closed = True
            local, self._local = self._local, None
        self._ahead.close()
        if local is not None:
            local.close()

    def _read_local(
        self, wanted: Range, into: memoryview, deadline: float, deliveries: list[Delivery]
    ) -> list[Range]:
        """Read what descriptors have; return the rest."""
        local = self._open_local(deadline)
        if local is None:
            return [wanted]
        missing, zone = local.read_into(wanted.offset, into, deadline=deadline)
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
        self._ahead.note(wanted)
        self._reader.lanes.run(fetches, deadline=deadline)
        if self._local is not None:
            self._local.expect()

    def _hold(
        self, wanted: Range, deadline: float, deliveries: list[Delivery], held: ExitStack
    ) -> Sequence[memoryview]:
        """Return a range as parts of cached blocks, which are in use until ``held`` is left."""
        cache = self._reader.cache
        self._ahead.note(wanted)
        pieces = list(blocks_of(wanted, self._block_size))
        blocks: dict[int, CachedBlock] = {}
        for index, _ in pieces:
            # What is on its way is waited for here, which keeps no lane busy.
            block = BlockId(self._ref.entry.file_version, index)
            joined = cache.join(block, deadline=deadline)
            if joined is not None:
                held.callback(cache.release, joined)
                blocks[index] = joined
        absent = [index for index, _ in pieces if index not in blocks]
        if absent:
            self._hold_absent(absent, blocks, deadline, held)
        views = []
        for index, piece in pieces:
            start = piece.offset - index * self._block_size
            views.append(blocks[index].view[start : start + piece.length])
            deliveries.append(_from_cache(blocks[index], piece.length))
            # Two threads at once may lose one's count: then the block stays until room is needed.
            blocks[index].spent += piece.length
        return views

    def _hold_absent(
        self, absent: list[int], blocks: dict[int, CachedBlock], deadline: float, held: ExitStack
    ) -> None:
        """Fetch blocks into the cache and hold them."""
        cache = self._reader.cache
        wholes = [block_range(index, self.size, self._block_size) for index in absent]
        known = self._known_digests(wholes, deadline)

        def bring(index: int, length: int, cancel: CancelToken) -> None:
            digest = known[index] if index < len(known) else None

            def fetch(into: memoryview) -> Served:
                return self._reader.fetcher.fetch(
                    self._ref, index, into, known=digest, deadline=deadline, cancel=cancel
                )

            block = BlockId(self._ref.entry.file_version, index)
            blocks[index] = cache.acquire(block, length, fetch, deadline=deadline)
            held.callback(cache.release, blocks[index])

        fetches = [
            partial(bring, index, whole.length) for index, whole in zip(absent, wholes, strict=True)
        ]
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

    def _fetch_ahead(
        self, ref: FileRef, index: int, into: memoryview, deadline: float, cancel: CancelToken
    ) -> Served:
        known = self._digests if ref is self._ref else ()
        digest = known[index] if index < len(known) else None
        self._reader.counters.read_ahead()
        return self._reader.fetcher.fetch(
            ref, index, into, known=digest, deadline=deadline, cancel=cancel
        )


def _from_cache(held: CachedBlock, length: int) -> Delivery:
    """Say where cached bytes came from; only their first delivery counts for the worker."""
    if held.delivered or held.served is None:
        return Delivery(MEMORY, "", length)
    held.delivered = True
    return Delivery(held.served.source, held.served.member.zone, length)
