"""Datasets for coroutines: the same reads, each in a thread, so that the event loop never waits."""

import asyncio
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from cachefs.client.statistics import ReaderStatistics
from cachefs.config.schema import ReaderConfig
from cachefs.core.manifest import FileEntry
from cachefs.sdk.dataset import Dataset, open_dataset
from cachefs.sdk.files import File


async def aopen_dataset(
    reference: str,
    *,
    coordinator: str | None = None,
    token_file: str | Path | None = None,
    state: str | Path | None = None,
    config: ReaderConfig | None = None,
) -> "AsyncDataset":
    """Open a dataset; arguments and errors as of :func:`cachefs.sdk.open_dataset`.

    Example:
        >>> async with await aopen_dataset("llama") as llama:
        ...     config = await llama.read("config.json")
    """
    dataset = await asyncio.to_thread(
        open_dataset,
        reference,
        coordinator=coordinator,
        token_file=token_file,
        state=state,
        config=config,
    )
    return AsyncDataset(dataset)


class _AsyncClosing(ABC):
    """Makes an asynchronous context manager of whatever can be closed."""

    @abstractmethod
    async def close(self) -> None:
        """Release what is held; idempotent."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class AsyncDataset(_AsyncClosing):
    """A :class:`cachefs.sdk.Dataset` whose waiting methods are coroutines.

    A read that is cancelled ends by its deadline in its thread; whoever gave it a buffer leaves that
    alone until then.
    """

    def __init__(self, dataset: Dataset) -> None:
        """Own an open dataset."""
        self.dataset = dataset

    @property
    def name(self) -> str:
        """As one would type it."""
        return self.dataset.name

    @property
    def version(self) -> str:
        """The version's id."""
        return self.dataset.version

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """All files, sorted by path."""
        return self.dataset.files

    def __iter__(self) -> Iterator[str]:
        """Yield the paths."""
        return iter(self.dataset)

    async def open(self, path: str) -> "AsyncFile":
        """Open a file; see :meth:`Dataset.open`."""
        return AsyncFile(await asyncio.to_thread(self.dataset.open, path))

    async def read(self, path: str) -> bytes:
        """Return a whole file; see :meth:`Dataset.read`."""
        return await asyncio.to_thread(self.dataset.read, path)

    async def read_ranges(
        self,
        ranges: Sequence[tuple[str, int, int]],
        into: memoryview | bytearray | None = None,
    ) -> list[memoryview]:
        """Read ranges of files at once; see :meth:`Dataset.read_ranges`."""
        return await asyncio.to_thread(self.dataset.read_ranges, ranges, into)

    async def local_path(self, path: str) -> str | None:
        """Return a path to the whole file on this node; see :meth:`Dataset.local_path`."""
        return await asyncio.to_thread(self.dataset.local_path, path)

    async def prefetch(self, *paths: str) -> str:
        """Have the cluster bring files in; see :meth:`Dataset.prefetch`."""
        return await asyncio.to_thread(self.dataset.prefetch, *paths)

    def statistics(self) -> ReaderStatistics:
        """Return what was read, and from where."""
        return self.dataset.statistics()

    async def close(self) -> None:
        """Close it; idempotent."""
        await asyncio.to_thread(self.dataset.close)


class AsyncFile(_AsyncClosing):
    """A :class:`cachefs.sdk.File` whose reads are coroutines. The position is for one of them."""

    def __init__(self, file: File) -> None:
        """Own an open file."""
        self.file = file

    @property
    def path(self) -> str:
        """Within the dataset."""
        return self.file.path

    @property
    def size(self) -> int:
        """In bytes."""
        return self.file.size

    def tell(self) -> int:
        """Return the position, in bytes."""
        return self.file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position and return it."""
        return self.file.seek(offset, whence)

    async def read(self, size: int = -1) -> bytes:
        """Return ``size`` bytes from the position on, or all."""
        return await asyncio.to_thread(self.file.read, size)

    async def readinto(self, buffer: memoryview | bytearray) -> int:
        """Fill a buffer from the position on, and return how many bytes there were."""
        return await asyncio.to_thread(self.file.readinto, buffer)

    async def read_into(self, offset: int, into: memoryview) -> int:
        """Read a range into a buffer; see :meth:`File.read_into`."""
        return await asyncio.to_thread(self.file.read_into, offset, into)

    async def close(self) -> None:
        """Give back what was lent; idempotent."""
        await asyncio.to_thread(self.file.close)
