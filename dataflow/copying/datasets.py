"""A dataset as an origin: its bytes come through the cache.

Steps read as every other reader does, from the workers over the data plane: what is resident costs the
origin nothing, and what is not is filled, once, for all who read it. Inside the coordinator's process only
what is known of datasets needs no wire.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from cachefs.client.reader import OpenDataset, Reader
from cachefs.client.statistics import ORIGIN
from cachefs.config.schema import ClusterConfig, ReaderConfig
from cachefs.config.secrets import Secret
from cachefs.core.datasets import OriginSpec
from cachefs.core.globs import Globs
from cachefs.core.manifest import FileEntry
from cachefs.core.membership import View
from cachefs.core.names import DatasetName
from cachefs.dataflow.ports import Cache
from cachefs.errors import CacheFSError, IntegrityError, OriginError, OriginUnavailableError
from cachefs.ports import FileRef, OriginFile, ResolvedVersion, Runtime
from cachefs.transport.blocks import HttpBlockSource

_DEADLINE_SECONDS = 120.0
"""Of one read: a worker may have to fill its blocks from a slow origin first."""


class CacheMetadata:
    """Implements :class:`cachefs.ports.Metadata` on what steps ask of the cache."""

    def __init__(self, cache: Cache) -> None:
        """Ask this cache."""
        self._cache = cache

    def view(self, *, deadline: float) -> View:
        """Return the members."""
        del deadline
        return self._cache.view()

    def resolve(
        self, name: DatasetName, version: str | None, *, deadline: float
    ) -> ResolvedVersion:
        """Return a version with its manifest."""
        del deadline
        return self._cache.resolve(name, version)

    def digests(self, file: FileRef, *, deadline: float) -> Sequence[bytes | None]:
        """Return the known digest of each block."""
        del deadline
        return self._cache.digests(file)


class DataPlane:
    """How steps read blocks from workers."""

    def __init__(self, cache: Cache, cluster: ClusterConfig, token: Secret) -> None:
        """Open nothing yet."""
        self.cluster = cluster
        self._cache = cache
        self._token = token

    @contextmanager
    def blocks(self, runtime: Runtime) -> Iterator[HttpBlockSource]:
        """Lend what fetches blocks."""
        source = HttpBlockSource(runtime, self._token, block_size=self.cluster.block_size)
        with closing(source):
            yield source

    @contextmanager
    def reader(self, runtime: Runtime, streams: int) -> Iterator[Reader]:
        """Lend a reader for so many threads, each of which reads a file in large ranges."""
        config = ReaderConfig(
            deadline_seconds=_DEADLINE_SECONDS,
            connections_limit=max(4, streams),
            local=False,
            # Whole blocks are read, by the thread that wants them.
            readahead_bytes=0,
            block_cache_bytes=2 * streams * self.cluster.block_size,
        )
        metadata = CacheMetadata(self._cache)
        with (
            self.blocks(runtime) as blocks,
            Reader(runtime, config, self.cluster, metadata=metadata, blocks=blocks) as reader,
        ):
            yield reader


class DatasetOrigin:
    """Implements :class:`cachefs.ports.Origin` on an open dataset, which stays the caller's."""

    client = "cache"
    reason = "the dataset is read through the cache"

    def __init__(self, reader: Reader, opened: OpenDataset, spec: OriginSpec, globs: Globs) -> None:
        """Show the files that match."""
        self._reader = reader
        self._opened = opened
        self._spec = spec
        self._globs = globs

    @property
    def version(self) -> str:
        """The version that is open."""
        return self._opened.version

    def pin(self) -> OriginSpec:
        """Return the version's origin."""
        return self._spec

    def list_files(self) -> Iterator[OriginFile]:
        """Yield the version's files."""
        for entry in self._opened.files:
            if self._globs.select(entry.path):
                # A file version is its content: it is what must not change.
                yield OriginFile(entry.path, entry.size, entry.file_version, entry.digest)

    def read_range(
        self, entry: FileEntry, offset: int, length: int, buffer: memoryview | None = None
    ) -> memoryview:
        """Read from whoever has it."""
        into = memoryview(bytearray(length)) if buffer is None else buffer[:length]
        try:
            with self._opened.file(entry.path) as file:
                file.read_into(offset, into)
        except (OriginError, IntegrityError):
            raise
        except CacheFSError as error:
            # Workers come and go: what is asked again finds others.
            raise OriginUnavailableError(
                f"the cache cannot give it now: {error.message}", subject=error.subject
            ) from error
        return into

    def spent(self) -> int:
        """Return the bytes that workers took from the origin for this reader."""
        return self._reader.statistics().bytes_by_source[ORIGIN]

    def close(self) -> None:
        """Do nothing: the reader is its owner's."""
