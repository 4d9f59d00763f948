"""Datasets for programs: a thin face on the reader library.

:func:`open_dataset` finds the running system as the command line does, opens a reader on it, and
closes it with the dataset. An open dataset stays on its version whatever happens to the dataset.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from cachefs.client.connecting import connect
from cachefs.client.reader import OpenDataset, OpenFile, Reader
from cachefs.client.statistics import ReaderStatistics
from cachefs.config.discovery import discover
from cachefs.config.schema import ReaderConfig
from cachefs.core.manifest import FileEntry
from cachefs.core.names import parse_reference, printable
from cachefs.errors import ConfigError, NotKnownError

File = OpenFile
"""A file that is open for reading; see :class:`cachefs.client.reader.OpenFile`."""


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
    """
    environment = dict(os.environ)
    if coordinator is not None:
        environment["CACHEFS_COORDINATOR"] = coordinator
    if token_file is not None:
        environment["CACHEFS_TOKEN_FILE"] = str(token_file)
    endpoint = discover(environment, state=Path(state) if state is not None else None)
    with ExitStack() as owned:
        reader = owned.enter_context(connect(endpoint, config or ReaderConfig()))
        return Dataset(reader, _open(reader, reference), owned.pop_all())


def _open(reader: Reader, reference: str) -> OpenDataset:
    readings = [reading for reading in parse_reference(reference) if not reading.path]
    if not readings:
        raise ConfigError(
            f"{printable(reference)!r} names a file",
            hint="open the dataset, then the file with .open(path)",
        )
    failure: NotKnownError | None = None
    for reading in readings:
        try:
            return reader.open(reading.dataset, reading.version)
        except NotKnownError as error:
            failure = failure or error
    raise failure or NotKnownError("no such dataset", subject=printable(reference))


class Dataset:
    """A dataset at one version. Close it, or use it in a ``with`` statement."""

    def __init__(self, reader: Reader, dataset: OpenDataset, owned: ExitStack) -> None:
        """Come from :func:`open_dataset`; owns the reader."""
        self._reader = reader
        self._dataset = dataset
        self._owned = owned

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
        """All files, sorted by path."""
        return self._dataset.files

    def __iter__(self) -> Iterator[str]:
        """Yield the paths."""
        return (entry.path for entry in self._dataset.files)

    def open(self, path: str) -> File:
        """Open a file.

        Raises:
            NotKnownError: There is no such file.
        """
        return self._dataset.file(path)

    def read(self, path: str) -> bytes:
        """Return a whole file; for large ones, :meth:`open` and read into a buffer of your own.

        Raises:
            NotKnownError: There is no such file.
            CacheFSError: It could not be read, as :meth:`OpenFile.read` says.
        """
        with self.open(path) as file:
            return file.read(0, file.size)

    def statistics(self) -> ReaderStatistics:
        """Return what was read through this dataset, and from where."""
        return self._reader.statistics()

    def close(self) -> None:
        """Close the connections and end the threads; idempotent."""
        self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
