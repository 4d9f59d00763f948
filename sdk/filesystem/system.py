"""What fsspec calls: ``cachefs://`` as an asynchronous, read-only file system.

fsspec makes a synchronous method of every coroutine here by running it on its own event loop, in a
thread of its own. What is asked most is therefore answered without the detour, and what a coroutine
has to wait for waits in a thread, as all of our reading does.
"""

import asyncio
import errno
import os
import weakref
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from fsspec.asyn import AsyncFileSystem, get_loop
from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.spec import make_instance

from cachefs.config.schema import ReaderConfig
from cachefs.sdk.asynchronous import AsyncFile
from cachefs.sdk.dataset import find_system
from cachefs.sdk.files import File
from cachefs.sdk.filesystem.contents import Contents, Description
from cachefs.sdk.filesystem.files import BufferedFile
from cachefs.sdk.filesystem.pins import Pins

BUFFER_BYTES = 256 * 1024
"""Of an open file. A local read of so much takes 30 µs, and the reader reads ahead by itself."""
Bound = int | None


class CacheFileSystem(AsyncFileSystem):  # type: ignore[misc] # fsspec has no types
    """Datasets as folders: ``cachefs://[namespace/]name[@version]/path``, for reading.

    A dataset is seen at one version: the one typed, or else the one that was current when it was
    first asked for. A copy sent to another process, and the child of a fork, see the same versions.
    ``invalidate_cache`` lets newer ones be seen; files that are open stay as they are.

    Safe from any thread. Failures are ``FileNotFoundError``, ``PermissionError``, and our own
    :class:`cachefs.errors.CacheFSError`; whatever would write raises ``OSError`` with ``EROFS``.
    What fsspec makes of many calls (``cat``, ``get``, ``find`` …) raises its ``FSTimeoutError`` for
    our ``DeadlineError``, which is then the cause: both are ``TimeoutError``.

    Example:
        >>> system = fsspec.filesystem("cachefs")
        >>> system.ls("llama", detail=False)
        ['llama/config.json', 'llama/model.safetensors']
    """

    protocol = "cachefs"
    root_marker = ""
    _pid: int

    def __init__(
        self,
        *,
        coordinator: str | None = None,
        token_file: str | Path | None = None,
        state: str | Path | None = None,
        config: ReaderConfig | None = None,
        versions: Mapping[str, str] | None = None,
        **options: Any,  # Any: fsspec's own
    ) -> None:
        """Ask nobody yet.

        Args:
            coordinator: As in :func:`cachefs.sdk.open_dataset`.
            token_file: Likewise.
            state: Likewise.
            config: How to read.
            versions: At which version a dataset is seen when none is typed: name → version.
            options: fsspec's: ``asynchronous``, ``loop``, ``batch_size``, ``skip_instance_cache``.
        """
        super().__init__(**options)
        pins = Pins(partial(find_system, coordinator, token_file, state), config, versions or {})
        self._contents = Contents(pins)
        # fsspec keeps its file systems as long as the process lives, so at the latest it is then.
        self._end = weakref.finalize(self, self._contents.end)

    @property
    def loop(self) -> Any:  # Any: an event loop, or None
        """The event loop of this process, also after a fork."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._loop = None if self.asynchronous else get_loop()
        return self._loop

    @property
    def versions(self) -> dict[str, str]:
        """The versions at which datasets are seen when none is typed: name → version."""
        return self._contents.pins.versions

    def __reduce__(self) -> tuple[Any, ...]:
        """Become one that sees the same versions, wherever it is made anew."""
        options = dict(self.storage_options)
        if self.versions:
            options["versions"] = self.versions
        return make_instance, (type(self), self.storage_args, options)

    def close(self) -> None:
        """End the connections; the next use makes new ones, and sees the same versions."""
        self._contents.pins.close()

    def invalidate_cache(self, path: str | None = None) -> None:
        """See every dataset anew when it is next asked for."""
        super().invalidate_cache(path)
        self._contents.pins.forget()

    # What is there.

    def info(self, path: str, **_options: Any) -> Description:
        """Return ``name``, ``size``, ``type``, and of a dataset's: ``version``, ``mtime`` …."""
        return self._contents.describe(self._strip_protocol(path))

    async def _info(self, path: str, **_options: Any) -> Description:
        return await self._ask(self._contents.describe, self._strip_protocol(path))  # type: ignore[no-any-return]

    async def _ls(
        self,
        path: str,
        detail: bool = True,  # noqa: FBT001, FBT002 - as fsspec has it
        **_options: Any,
    ) -> list[Description] | list[str]:
        found = await self._ask(self._contents.list_folder, self._strip_protocol(path))
        return found if detail else [each["name"] for each in found]

    async def _exists(self, path: str, **_options: Any) -> bool:
        with suppress(FileNotFoundError):
            return bool(await self._info(path))
        return False

    async def _isdir(self, path: str) -> bool:
        return await self._is(path, "directory")

    async def _isfile(self, path: str) -> bool:
        return await self._is(path, "file")

    async def _is(self, path: str, kind: str) -> bool:
        with suppress(FileNotFoundError):  # and nothing else, which fsspec would take for a no
            return bool((await self._info(path))["type"] == kind)
        return False

    async def _walk(
        self, path: str, maxdepth: int | None = None, **options: Any
    ) -> AsyncIterator[Any]:
        with suppress(FileNotFoundError):  # and nothing else, which fsspec would take for an end
            await self._info(path)
        async for each in super()._walk(path, maxdepth=maxdepth, **options):
            yield each

    def checksum(self, path: str) -> int:
        """Return a number that stands for the content."""
        return int(self.ukey(path), 16)

    def ukey(self, path: str) -> str:
        """Return what stands for the content, in hexadecimal digits; of a folder, its version."""
        found = self.info(path)
        return str(found.get("file_version") or found.get("version") or "0")

    def modified(self, path: str) -> datetime:
        """Return when the version was first listed, which is the same for all of its files."""
        return datetime.fromtimestamp(self.info(path).get("mtime", 0.0), UTC)

    def created(self, path: str) -> datetime:
        """Return what :meth:`modified` does."""
        return self.modified(path)

    # Bytes.

    def cat_file(self, path: str, start: Bound = None, end: Bound = None, **_options: Any) -> bytes:
        """Return a file, or a range of it as in a slice of bytes."""
        return self._contents.read(self._strip_protocol(path), start, end)

    async def _cat_file(
        self, path: str, start: Bound = None, end: Bound = None, **_options: Any
    ) -> bytes:
        return await asyncio.to_thread(self.cat_file, path, start, end)

    def cat_ranges(
        self,
        paths: Sequence[str],
        starts: Iterable[Bound] | Bound,
        ends: Iterable[Bound] | Bound,
        *,
        on_error: str = "return",
        **_options: Any,
    ) -> list[bytes | Exception]:
        """Return ranges of files, several of which are read at once.

        ``max_gap`` is taken and left aside: what is near each other comes with one block anyway.

        Args:
            paths: One for each range.
            starts: As in a slice of bytes; one for all, or one for each.
            ends: Likewise.
            on_error: ``return`` an error in its place, or ``raise`` the first.
        """
        if not isinstance(paths, list):
            raise TypeError("paths must be a list")
        firsts = list(starts) if isinstance(starts, Iterable) else [starts] * len(paths)
        lasts = list(ends) if isinstance(ends, Iterable) else [ends] * len(paths)
        stripped = [self._strip_protocol(path) for path in paths]
        found = self._contents.read_each(list(zip(stripped, firsts, lasts, strict=True)))
        failures = [each for each in found if isinstance(each, Exception)]
        if failures and on_error != "return":
            raise failures[0]
        return found

    async def _cat_ranges(
        self,
        paths: Sequence[str],
        starts: Iterable[Bound] | Bound,
        ends: Iterable[Bound] | Bound,
        *,
        on_error: str = "return",
        **_options: Any,
    ) -> list[bytes | Exception]:
        return await asyncio.to_thread(self.cat_ranges, paths, starts, ends, on_error=on_error)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | str | None = None,
        **_options: Any,
    ) -> BufferedFile:
        if mode != "rb":
            _refuse(path)
        size = block_size if isinstance(block_size, int) and block_size > 0 else BUFFER_BYTES
        return self._contents.open(self, self._strip_protocol(path), size)

    async def open_async(self, path: str, mode: str = "rb", **_options: Any) -> AsyncFile:
        """Open a file whose reads are coroutines."""
        if mode != "rb":
            _refuse(path)
        raw = await asyncio.to_thread(self._contents.open_raw, self._strip_protocol(path))
        return AsyncFile(File(raw))

    def get_file(
        self, rpath: str, lpath: str, callback: Callback = DEFAULT_CALLBACK, **_options: Any
    ) -> None:
        """Copy a file to this machine: it is there whole, or as it was; folders are made."""
        text = self._strip_protocol(rpath)
        callback.set_size(self._contents.describe(text)["size"])
        self._contents.copy(text, os.fspath(lpath), callback.relative_update)

    async def _get_file(
        self, rpath: str, lpath: str, callback: Callback = DEFAULT_CALLBACK, **_options: Any
    ) -> None:
        await asyncio.to_thread(self.get_file, rpath, lpath, callback)

    async def _ask(self, question: Any, text: str) -> Any:  # Any: whatever the question returns
        """Put a question, in a thread if somebody has to be asked."""
        if text and self._contents.find_nowait(text) is not None:
            return question(text)
        return await asyncio.to_thread(question, text)

    # What a read-only file system refuses.

    async def _pipe_file(self, path: str, *_words: Any, **_options: Any) -> None:
        _refuse(path)

    async def _put_file(self, _lpath: str, rpath: str, **_options: Any) -> None:
        _refuse(rpath)

    async def _cp_file(self, _path1: str, path2: str, **_options: Any) -> None:
        _refuse(path2)

    async def _mv_file(self, _path1: str, path2: str) -> None:
        _refuse(path2)

    async def _rm_file(self, path: str, **_options: Any) -> None:
        _refuse(path)

    async def _rm(self, path: str | list[str], *_words: Any, **_options: Any) -> None:
        _refuse(path if isinstance(path, str) else path[0])

    async def _mkdir(self, path: str, *_words: Any, **_options: Any) -> None:
        _refuse(path)

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:  # noqa: FBT001, FBT002
        if not (exist_ok and await self._isdir(path)):
            _refuse(path)

    def rmdir(self, path: str) -> None:
        """Refuse."""
        _refuse(path)

    def touch(self, path: str, *_words: Any, **_options: Any) -> None:
        """Refuse."""
        _refuse(path)


def _refuse(path: str) -> NoReturn:
    raise OSError(errno.EROFS, f"{os.strerror(errno.EROFS)}: datasets are not written to", path)
