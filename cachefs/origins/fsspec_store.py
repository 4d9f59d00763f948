"""Any other URL that fsspec opens, through nothing but fsspec's common interface.

That interface knows no conditional reads. So the file's token (ETag, generation, modification time:
whatever the store tells) is compared before *and* after each read: a file that changes in between
is an error. A store that tells nothing of the kind is refused when it is listed.

The libraries behind fsspec bound their waits in as many ways as there are libraries, or not at all.
Each call therefore runs in a thread of its own and is given up at the deadline; the thread may stay
until its library gives up too, and when too many stay, calls are refused.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import fsspec

from cachefs.config.schema import OriginConfig
from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import FileEntry
from cachefs.core.names import printable
from cachefs.core.urls import split_url
from cachefs.errors import (
    ConfigError,
    OriginChangedError,
    OriginDeniedError,
    OriginError,
    OriginNotFoundError,
    OriginProtocolError,
    OriginUnavailableError,
)
from cachefs.origins.addresses import Addresses
from cachefs.ports import OriginFile, Runtime

Result = TypeVar("Result")

_WRAPPERS = frozenset(
    {
        *("local", "dir", "reference", "simplecache", "filecache", "blockcache", "cached"),
        *("asyncwrapper", "asynclocal", "generic", "zip", "tar", "libarchive", "git", "data"),
        *("root", "dask", "jupyter", "jlab", "arrow_hdfs", "hdfs"),
        "cachefs",  # its options name a host, and a file of ours to send there as a token
    }
)
"""Protocols that open other URLs, files of this machine, or programs: each a way around a check."""
_WITH_HOST = frozenset({"ftp", "sftp", "ssh", "smb", "webhdfs", "webdav", "webdavs"})
"""Protocols whose URL begins with a host; with the others it is a bucket or the like."""
_TOKEN_FIELDS = (
    *(
        "ETag",
        "etag",
        "e_tag",
        "generation",
        "md5Hash",
        "content_md5",
        "sha",
        "checksum",
        "version",
    ),
    *("mtime", "modify", "modificationTime", "last_modified", "LastModified", "updated", "created"),
)
"""Where stores tell what changes with the content, the surest first."""
_CREDENTIALS_HINT = "set the credentials of this store in the environment of the process"


class FsspecOrigin:
    """Implements :class:`cachefs.ports.Origin` on an fsspec file system."""

    client = "fsspec"

    def __init__(
        self,
        spec: OriginSpec,
        config: OriginConfig,
        runtime: Runtime,
        addresses: Addresses,
        reason: str = "fsspec knows this scheme",
    ) -> None:
        """Open the file system; asks nothing yet.

        Raises:
            ConfigError: There is no such protocol, or it is one that opens others.
            OriginDeniedError: The host may not be contacted.
        """
        self.reason = reason
        self._spec = spec
        self._config = config
        self._runtime = runtime
        self._changed = runtime.condition()
        self._abandoned = 0
        self._files, self._root = open_store(spec, addresses)

    def pin(self) -> OriginSpec:
        """Return the spec: nothing is known that moves."""
        return self._spec

    def close(self) -> None:
        """Do nothing: fsspec has no common way to close."""

    def list_files(self) -> Iterator[OriginFile]:
        """Yield every file that fsspec finds."""
        found = self._bounded(self._find, self._spec.url)
        root = self._root.rstrip("/")
        empty = True
        for path, info in sorted(found.items()):
            if info.get("type") != "file":
                continue
            empty = False
            single = path.rstrip("/") == root
            relative = path.rpartition("/")[2] if single else path[len(root) :].lstrip("/")
            yield OriginFile(relative, _size(info, relative), token_of(info, relative), "")
        if empty:
            raise OriginNotFoundError("no file there", subject=printable(self._spec.url))

    def _find(self) -> dict[str, dict[str, Any]]:
        self._files.invalidate_cache()
        found: dict[str, dict[str, Any]] = self._files.find(self._root, detail=True)
        return found

    def read_range(
        self,
        entry: FileEntry,
        offset: int,
        length: int,
        buffer: memoryview | None = None,  # noqa: ARG002 - the library has memory of its own
    ) -> memoryview:
        """Read between two looks at the token."""
        if length == 0:
            return memoryview(b"")
        data = self._bounded(lambda: self._read(entry, offset, length), entry.path)
        if len(data) != length:
            raise OriginProtocolError(
                f"{len(data)} bytes for {length} asked", subject=printable(entry.path)
            )
        return memoryview(data)

    def _read(self, entry: FileEntry, offset: int, length: int) -> bytes:
        root = self._root.rstrip("/")
        path = f"{root}/{entry.path}"
        if entry.path == root.rpartition("/")[2] and self._files.isfile(root):
            path = root
        self._expect(path, entry)
        data: bytes = self._files.cat_file(path, start=offset, end=offset + length)
        self._expect(path, entry)
        return data

    def _expect(self, path: str, entry: FileEntry) -> None:
        self._files.invalidate_cache()
        info = self._files.info(path)
        if (token_of(info, entry.path), _size(info, entry.path)) != (entry.token, entry.size):
            raise OriginChangedError(
                "the file has changed since it was listed", subject=printable(entry.path)
            )

    def _bounded(self, call: Callable[[], Result], subject: str) -> Result:
        """Return what a call returns, unless the deadline comes first."""
        results: list[Result] = []
        failures: list[Exception] = []
        deadline = self._runtime.monotonic() + self._config.deadline_seconds

        def body() -> None:
            try:
                outcome: tuple[list[Any], Any] = (results, call())
            except Exception as error:  # noqa: BLE001 - any library's own; it ends here
                outcome = (failures, error)
            # The outcome and the count change together: who sees the one must not find the other
            # still counting this thread.
            with self._changed:
                outcome[0].append(outcome[1])
                self._abandoned -= 1
                self._changed.notify_all()

        with self._changed:
            if self._abandoned >= 2 * self._config.requests_limit:
                raise OriginUnavailableError(
                    "too many calls have not returned", subject=printable(subject)
                )
            self._abandoned += 1
            self._runtime.start("origin call", body)
            while not results and not failures:
                left = deadline - self._runtime.monotonic()
                if left <= 0:
                    raise OriginUnavailableError(
                        f"no answer within {self._config.deadline_seconds:g} s",
                        subject=printable(subject),
                    )
                self._changed.wait(left)
        if failures:
            raise translated(failures[0], subject) from failures[0]
        return results[0]


def open_store(spec: OriginSpec, addresses: Addresses) -> tuple[Any, str]:
    """Return fsspec's file system, and the root in its words.

    Raises:
        ConfigError: There is no such protocol, or it is one that opens others.
        OriginDeniedError: The host may not be contacted.
    """
    url = split_url(spec.url)
    if "::" in spec.url or url.scheme in _WRAPPERS:
        raise ConfigError(
            "chained, archive, wrapping and local protocols are not opened",
            subject=printable(spec.url),
            hint="use file:// for files of this machine",
        )
    if url.scheme in _WITH_HOST:
        host, _, port = url.host.partition(":")
        addresses.check(host, int(port) if port.isdecimal() else 0)
    for name, value in spec.options.items():
        if name.endswith(("url", "endpoint")):
            addresses.check_endpoint(value)
        elif "host" in name or name.startswith("target_"):
            raise ConfigError(f"the option {printable(name)} is not allowed")
    options = {name: _value(value) for name, value in spec.options.items()}
    options.pop("credentials", None)
    try:
        files, root = fsspec.core.url_to_fs(
            spec.url, **options, skip_instance_cache=True, use_listings_cache=False
        )
    except ImportError as error:
        raise ConfigError(
            "the library for this protocol is not installed",
            subject=printable(spec.url),
            hint=printable(str(error)),
        ) from error
    except Exception as error:
        raise ConfigError(
            "fsspec cannot open this", subject=printable(spec.url), hint=printable(str(error)[:200])
        ) from error
    return files, str(root)


def _value(text: str) -> bool | int | str:
    """Return an option as fsspec's constructors want it."""
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.isascii() and text.isdigit() else text


def _size(info: Mapping[str, Any], path: str) -> int:
    size = info.get("size")
    if not isinstance(size, int):
        raise OriginProtocolError("the store does not tell the size", subject=printable(path))
    return size


def token_of(info: Mapping[str, Any], path: str) -> str:
    """Return what a store tells of a file that changes with the content."""
    for name in _TOKEN_FIELDS:
        value = info.get(name)
        if value is not None and value != "":
            return f"{name}={_plain(value)}"
    raise OriginProtocolError(
        "the store tells nothing that changes with the content",
        subject=printable(path),
        hint="a changed file could not be told from the old one",
    )


def _plain(value: object) -> object:
    """Return a time as seconds: libraries say it one way in a listing, another for one file."""
    if not isinstance(value, datetime):
        return value
    return (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).timestamp()


def translated(error: Exception, subject: str) -> OriginError:
    """Return what an exception of any of the libraries means."""
    if isinstance(error, OriginError):
        return error
    subject = printable(subject)
    hint = printable(str(error).partition("\n")[0][:200])
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return OriginNotFoundError("no such file", subject=subject)
    if isinstance(error, PermissionError):
        return OriginDeniedError(
            "the store refused the credentials", subject=subject, hint=_CREDENTIALS_HINT
        )
    if isinstance(error, TypeError | ValueError | NotImplementedError):
        return OriginProtocolError("the library cannot do this", subject=subject, hint=hint)
    return OriginUnavailableError("the store did not answer", subject=subject, hint=hint)
