"""The reader: the one road from a range of a file to the caller's buffer.

Theory of operation. A read is cut into blocks. For each block the bytes come from the first of

1. a descriptor that a worker on this node lent (:class:`LocalFiles`): one ``preadv`` for all
   neighbouring blocks that are in it, straight into the caller's buffer;
2. the reader's own memory, if the block was fetched for an earlier part or ahead of use
   (:mod:`cachefs.client.remote`);
3. the block's owner, a replica, any other worker (:mod:`cachefs.client.fetching`), which has it, or
   fills it from a peer or the origin.

A read returns when all of its blocks are there and verified, or raises; in both cases nobody writes
into the buffer afterwards.

The data path asks nobody for permission: with a view and a manifest, reads go on while the
coordinator is down. Everything here waits through :class:`cachefs.ports.Runtime` and can run in the
simulation.
"""

import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING

from cachefs.client.block_cache import BlockCache
from cachefs.client.fetching import BlockFetcher
from cachefs.client.lanes import Lanes
from cachefs.client.lenders import LocalFile, LocalFiles, WholeFile
from cachefs.client.remote import RemoteFile, RemoteParts
from cachefs.client.statistics import (
    LOCAL,
    Delivery,
    ReadCounters,
    ReaderStatistics,
)
from cachefs.client.views import ViewKeeper
from cachefs.config.schema import ClusterConfig, ReaderConfig
from cachefs.core.access import predict_next
from cachefs.core.blocks import Range, clip
from cachefs.core.manifest import FileEntry, VersionId
from cachefs.core.names import DatasetName
from cachefs.errors import CacheFSError, NotKnownError, check
from cachefs.ports import (
    BlockSource,
    Closing,
    FileRef,
    Metadata,
    ResolvedVersion,
    Runtime,
)
from cachefs.wire.digests import digester

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

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
        node: str = "",
    ) -> None:
        """Ask nobody yet, and start no thread. The collaborators stay the caller's to close.

        Args:
            runtime: Time and threads.
            config: How to read.
            cluster: What all processes agree on.
            metadata: Who knows what there is.
            blocks: Who has bytes.
            local: Who lends files on this machine, if anybody does.
            node: This machine's identity; empty for nobody's.
        """
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
            node=node,
        )
        self.cache = BlockCache(runtime, capacity_bytes=config.block_cache_bytes)
        self.lanes = Lanes(runtime, config.connections_limit)
        self.parts = RemoteParts(
            runtime=runtime,
            config=config,
            block_size=cluster.block_size,
            metadata=metadata,
            fetcher=self.fetcher,
            cache=self.cache,
            lanes=self.lanes,
            counters=self.counters,
        )

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
        self._local: LocalFile | None = None
        self._local_tried = False
        self._guard = reader.runtime.condition()
        self._remote = RemoteFile(reader.parts, ref, following, on_fetched=self._expect_local)
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
    def block_size(self) -> int:
        """Of its blocks, in bytes; the last one may be shorter."""
        return self._reader.cluster.block_size

    @property
    def ref(self) -> FileRef:
        """What names the file's bytes for workers."""
        return self._ref

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes of a range, cut at the end of the file."""
        wanted = clip(offset, length, self.size)
        # What has a buffer of one byte reads straight into the bytes that it returns: nobody copies.
        return io.BufferedReader(_Rest(self, wanted.offset), 1).read(wanted.length)

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
        missing, deliveries = self._read_local(wanted, into, deadline)
        if missing:
            deliveries += self._remote.read_into(missing, wanted, into, deadline)
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
        with ExitStack() as held:
            views: Sequence[memoryview] = ()
            missing, deliveries = [wanted], list[Delivery]()
            if self._open_local(deadline) is not None:
                buffer = held.enter_context(borrow(wanted.length))
                missing, deliveries = self._read_local(wanted, buffer, deadline)
                views = (buffer,)
            if missing == [wanted]:
                views, deliveries = self._remote.hold(wanted, deadline, held)
            elif missing:
                deliveries += self._remote.read_into(missing, wanted, buffer, deadline)
            self._reader.counters.delivered(deliveries)
            yield views

    def expect_all(self) -> None:
        """Read ahead further and sooner, because the whole file will probably be read."""
        check(not self._closed, "a read on a closed file")
        # What a worker on this node may lend is not fetched before a read has missed it.
        alone = self._reader.local is None or (self._local_tried and self._local is None)
        self._remote.expect_all(at_once=alone)

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

    def whole(self, *, timeout_seconds: float | None = None) -> WholeFile | None:
        """Return the file of this node that holds all bytes, vouched for at this moment, if any.

        Args:
            timeout_seconds: Nobody is asked for longer; as long as for a read if ``None``.

        Raises:
            CoordinatorUnavailableError: There never was a view, and nobody answers.
        """
        check(not self._closed, "a look at a closed file")
        limit = self._reader.config.deadline_seconds
        wait = limit if timeout_seconds is None else min(limit, timeout_seconds)
        deadline = self._reader.runtime.monotonic() + wait
        local = self._open_local(deadline)
        return None if local is None else local.whole(deadline=deadline)

    def close(self) -> None:
        """Stop reading ahead and give back descriptors; idempotent."""
        with self._guard:
            self._closed = True
            local, self._local = self._local, None
        self._remote.close()
        if local is not None:
            local.close()

    def _read_local(
        self, wanted: Range, into: memoryview, deadline: float
    ) -> tuple[list[Range], list[Delivery]]:
        """Read what descriptors have; return the rest, and what was delivered."""
        local = self._open_local(deadline)
        if local is None:
            return [wanted], []
        missing, zone = local.read_into(wanted.offset, into, deadline=deadline)
        read = wanted.length - sum(each.length for each in missing)
        return missing, [Delivery(LOCAL, zone, read)] if read else []

    def _open_local(self, deadline: float) -> LocalFile | None:
        if self._reader.local is None or self._local_tried:
            return self._local
        view = self._reader.views.current(deadline=deadline)
        with self._guard:
            if not self._local_tried:
                self._local = self._reader.local.open(self._ref, view)
                self._local_tried = True
            return self._local

    def _expect_local(self) -> None:
        """Note that workers of this node may have blocks by now that they lacked."""
        if self._local is not None:
            self._local.expect()


class _Rest(io.RawIOBase):
    """A file from a position on, which is left open."""

    def __init__(self, file: OpenFile, position: int) -> None:
        super().__init__()
        self._file = file
        self._position = position

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        count = self._file.read_into(self._position, memoryview(buffer).cast("B"))
        self._position += count
        return count
