"""Datasets for programs: a thin face on the reader library.

:func:`open_dataset` finds the running system as the command line does, opens a reader on it, and
closes it with the dataset. An open dataset stays on its version whatever happens to the dataset.
Datasets and files may be used by all threads of a process at once; :mod:`cachefs.sdk.asynchronous`
has the same for coroutines.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from cachefs.client.connecting import connect
from cachefs.client.lenders import WholeFile
from cachefs.client.reader import OpenDataset, OpenFile, Reader
from cachefs.client.statistics import ReaderStatistics
from cachefs.config.discovery import Endpoint, discover
from cachefs.config.schema import ReaderConfig
from cachefs.core.blocks import Range
from cachefs.core.manifest import FileEntry
from cachefs.core.names import Reference, parse_reference, printable
from cachefs.errors import ConfigError, NotKnownError, check
from cachefs.ports import Closing
from cachefs.sdk.files import File
from cachefs.sdk.memory import allocate
from cachefs.sdk.ranges import RangeOf, read_all
from cachefs.transport.api import Api


def open_dataset(
    reference: str,
    *,
    coordinator: str | None = None,
    token_file: str | Path | None = None,
    state: str | Path | None = None,
    config: ReaderConfig | None = None,
) -> "Dataset":
    """Open a dataset for reading.

    Args:
        reference: ``name``, ``namespace/name``, ``name@version``, with or without ``cachefs://``.
        coordinator: ``host:port`` of the HTTP API; by default it is found as the command line finds
            it: ``CACHEFS_COORDINATOR``, ``CACHEFS_STATE``, the user's own state folder.
        token_file: Goes with ``coordinator``; ``CACHEFS_TOKEN_FILE`` by default.
        state: The state folder of ``cachefs up``.
        config: How to read.

    Raises:
        CoordinatorUnavailableError: There is no running system, or it does not answer.
        NotKnownError: There is no such dataset or version.
        ConfigError: The reference is malformed, or names a file.

    Example:
        >>> with open_dataset("llama") as llama:
        ...     config = llama.read("config.json")
    """
    readings = [reading for reading in parse_reference(reference) if not reading.path]
    if not readings:
        raise ConfigError(
            f"{printable(reference)!r} names a file",
            hint="open the dataset, then the file with .open(path)",
        )
    endpoint = find_system(coordinator, token_file, state)
    return _connect(endpoint, readings, reference, config)[0]


def open_reference(
    reference: str, *, state: str | Path | None = None, config: ReaderConfig | None = None
) -> tuple["Dataset", str]:
    """Open the dataset of ``cachefs://name[@version][/path]``, and return it with the path.

    Args:
        reference: Whose path may be empty; whether it is of a file or a folder is not looked at.
        state: The state folder of ``cachefs up``.
        config: How to read.

    Raises:
        CacheFSError: As :func:`open_dataset`.
    """
    return _connect(find_system(None, None, state), parse_reference(reference), reference, config)


def find_system(
    coordinator: str | None, token_file: str | Path | None, state: str | Path | None
) -> Endpoint:
    """Find the running system; arguments and errors as of :func:`open_dataset`."""
    environment = dict(os.environ)
    if coordinator is not None:
        environment["CACHEFS_COORDINATOR"] = coordinator
    if token_file is not None:
        environment["CACHEFS_TOKEN_FILE"] = str(token_file)
    return discover(environment, state=Path(state) if state is not None else None)


def _connect(
    endpoint: Endpoint, readings: Sequence[Reference], typed: str, config: ReaderConfig | None
) -> tuple["Dataset", str]:
    """Open the first reading of a reference whose dataset exists."""
    with ExitStack() as owned:
        reader = owned.enter_context(connect(endpoint, config or ReaderConfig()))
        failure: NotKnownError | None = None
        for reading in readings:
            try:
                dataset = reader.open(reading.dataset, reading.version)
            except NotKnownError as error:
                failure = failure or error
            else:
                api = Api(endpoint.coordinator, endpoint.token)
                return Dataset(reader, dataset, owned.pop_all(), api), reading.path
        raise failure or NotKnownError("no such dataset", subject=printable(typed))


class Dataset(Closing):
    """A dataset at one version. Close it, or use it in a ``with`` statement.

    Example:
        >>> with open_dataset("llama") as llama:
        ...     for entry in llama.files:
        ...         print(entry.path, entry.size)
    """

    def __init__(
        self,
        reader: Reader,
        dataset: OpenDataset,
        owned: ExitStack,
        api: Api | None = None,
    ) -> None:
        """Come from :func:`open_dataset`; owns the reader."""
        self._reader = reader
        self._dataset = dataset
        self._owned = owned
        self._api = api
        self._guard = reader.runtime.condition()
        self._kept: dict[str, OpenFile] = {}
        self._lent: dict[str, WholeFile] = {}
        self._closed = False

    @property
    def name(self) -> str:
        """As one would type it."""
        return str(self._dataset.name)

    @property
    def version(self) -> str:
        """The version's id."""
        return self._dataset.version

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """All files, sorted by path, each with ``path``, ``size`` in bytes, ``token``, ``digest``."""
        return self._dataset.files

    @property
    def reader(self) -> Reader:
        """The reader library, for who builds on it."""
        return self._reader

    def __iter__(self) -> Iterator[str]:
        """Yield the paths."""
        return (entry.path for entry in self._dataset.files)

    def open(self, path: str) -> File:
        """Open a file: seekable, for ``read``, ``readinto``, ``io.BufferedReader`` and positions.

        Raises:
            NotKnownError: There is no such file.

        Example:
            >>> with llama.open("config.json") as file:
            ...     config = json.load(file)
        """
        return File(self.open_raw(path))

    def open_raw(self, path: str) -> OpenFile:
        """Open a file as the reader library has it: without a position of its own.

        Raises:
            NotKnownError: There is no such file.
        """
        return self._dataset.file(path)

    def keep_open(self, path: str) -> OpenFile:
        """Open a file as :meth:`open_raw` does, once for all who ask; it is closed with the dataset.

        What a worker of this node has lent is then not asked for again.

        Raises:
            NotKnownError: There is no such file.
        """
        with self._guard:
            check(not self._closed, "a look at a closed dataset")
            kept = self._kept.get(path)
            if kept is None:
                kept = self._kept[path] = self._dataset.file(path)
            return kept

    def read(self, path: str) -> bytes:
        """Return a whole file; for large ones, :meth:`open` and read into a buffer of your own.

        Raises:
            NotKnownError: There is no such file.
            CacheFSError: It could not be read, as :meth:`OpenFile.read_into` says.
        """
        with self.open_raw(path) as file:
            return file.read(0, file.size)

    def read_ranges(
        self,
        ranges: Sequence[tuple[str, int, int]],
        into: memoryview | bytearray | None = None,
    ) -> list[memoryview]:
        """Read ranges of files, several at once, end to end into one buffer.

        Args:
            ranges: ``(path, offset, length)`` in bytes; each must lie within its file.
            into: As long as the ranges together, or longer; by default a new one, in huge pages.

        Returns:
            A view of each range, in the order of the arguments, in the one buffer.

        Raises:
            NotKnownError: There is no such file; nothing was read.
            ConfigError: A range goes beyond its file, or ``into`` is too short; nothing was read.
            CacheFSError: A range could not be read; what is in the buffer is undefined.

        Example:
            >>> head, tail = llama.read_ranges([("a.bin", 0, 100), ("a.bin", 900, 100)])
        """
        wanted = []
        for path, offset, length in ranges:
            size = self._dataset.resolved.manifest.find(path).size
            if offset < 0 or length < 0 or offset + length > size:
                raise ConfigError(
                    f"{length} bytes at {offset} are beyond the file's {size}",
                    subject=printable(path),
                )
            wanted.append(RangeOf(path, Range(offset, length)))
        total = sum(length for _, _, length in ranges)
        buffer = allocate(total)[0] if into is None else memoryview(into).cast("B")
        if len(buffer) < total:
            raise ConfigError(f"{total} bytes do not go into a buffer of {len(buffer)}")
        return read_all(self._reader.runtime, self.open_raw, wanted, buffer)

    def local_path(self, path: str) -> str | None:
        """Return a path to the whole file on this node, for programs that want one.

        It is ``/proc/self/fd/N``: a read-only descriptor of this process, good until the dataset is
        closed; for a child process, ``/proc/PID/fd/N`` is the same file. Its bytes are verified, and
        stay as they are as long as anybody has the file open or mapped, evictions notwithstanding.

        Returns:
            The path, or ``None`` if no worker on this node holds the whole file now.

        Raises:
            NotKnownError: There is no such file.
        """
        file = self.keep_open(path)
        with self._guard:
            lent = self._lent.get(path)
        if lent is None:
            lent = file.whole()
            if lent is None:
                return None
            with self._guard:
                lent = self._lent.setdefault(path, lent)
        return f"/proc/self/fd/{lent.fileno()}"

    def prefetch(self, *paths: str) -> str:
        """Have the cluster bring files in ahead of use, and return at once.

        Args:
            paths: Of files or folders; none for the whole dataset.

        Returns:
            The warm-up's id, which ``cachefs status`` shows.

        Raises:
            CoordinatorUnavailableError: It does not answer.
            CapacityError: The files do not fit.
        """
        if self._api is None:
            raise ConfigError("this dataset was opened without a coordinator")
        body = {"dataset": self.name, "version": self.version, "paths": list(paths)}
        return str(self._api.post("/v1/warm", body)["id"])

    def statistics(self) -> ReaderStatistics:
        """Return what was read through this dataset, and from where."""
        return self._reader.statistics()

    def close(self) -> None:
        """Close the connections and end the threads; idempotent."""
        with self._guard:
            self._closed = True
            kept = list(self._kept.values())
            self._kept.clear()
            self._lent.clear()
        for file in kept:
            file.close()
        self._owned.close()
