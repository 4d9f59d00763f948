"""``s3://`` through s3fs: for servers that obstore and they do not understand each other.

fsspec's own ``cat_ranges`` knows no conditions, so a file that changes between two ranges would be
mixed. We therefore make the two requests that we need through s3fs's connection ourselves:
``ListObjectsV2``, and ``GetObject`` with ``IfMatch`` and ``Range``. A server that answers 200 to a
range is tolerated here, for that is why this client is chosen: the range is then cut out of the
stream, and the ETag of the answer says that it is the right object.
"""

from collections.abc import Iterator
from typing import Any

import aiohttp
import fsspec.asyn
import s3fs
from aiobotocore.session import AioSession
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.parsers import ResponseParserError

from cachefs.config.schema import OriginConfig
from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import FileEntry
from cachefs.core.names import printable
from cachefs.errors import (
    OriginChangedError,
    OriginDeniedError,
    OriginError,
    OriginNotFoundError,
    OriginProtocolError,
    OriginUnavailableError,
)
from cachefs.origins.addresses import Addresses
from cachefs.origins.aws import client_settings, configure, find_bucket, of_status
from cachefs.origins.credentials import Credentials
from cachefs.ports import OriginFile

_FAILURES = (
    OSError,
    ValueError,
    BotoCoreError,
    ClientError,
    ResponseParserError,
    aiohttp.ClientError,
    fsspec.asyn.FSTimeoutError,
)
"""All that s3fs, aiobotocore and aiohttp raise; the last of them let some of theirs through."""
SKIP_BYTES = 1024 * 1024
"""How much of an unwanted beginning is taken at once."""


class S3Origin:
    """Implements :class:`cachefs.ports.Origin` on a bucket."""

    client = "fsspec"

    def __init__(
        self,
        spec: OriginSpec,
        config: OriginConfig,
        addresses: Addresses,
        credentials: Credentials,
        reason: str,
    ) -> None:
        """Prepare the connection; asks nothing yet."""
        session = configure(AioSession(), credentials)
        bucket = find_bucket(spec, session, addresses)
        self.reason = reason
        self._spec = spec
        self._bucket = bucket
        self._deadline_seconds = config.deadline_seconds
        self._files: Any = s3fs.S3FileSystem(  # Any: s3fs has no types
            anon=bucket.anonymous,
            session=session,
            endpoint_url=bucket.endpoint_url or None,
            client_kwargs={"region_name": bucket.region},
            config_kwargs=client_settings(bucket, config),
            skip_instance_cache=True,
            use_listings_cache=False,
        )
        self._files.retries = 1

    def pin(self) -> OriginSpec:
        """Return the spec: a bucket does not move."""
        return self._spec

    def close(self) -> None:
        """Close the connections; idempotent."""
        connection, self._files._s3 = self._files._s3, None  # s3fs has no public way
        if connection is not None:
            s3fs.S3FileSystem.close_session(self._files.loop, self._files._s3creator)

    def list_files(self) -> Iterator[OriginFile]:
        """Yield every object below the prefix, or the one object that has it as its key."""
        below = f"{self._bucket.prefix}/" if self._bucket.prefix else ""
        empty = True
        for item in self._list(below):
            if not item["Key"].endswith("/"):
                empty = False
                yield _describe(item["Key"][len(below) :], item)
        if empty and below:
            # Listed and not asked with HEAD, whose failures carry no explanation.
            for item in self._list(self._bucket.prefix, limit=1):
                if item["Key"] == self._bucket.prefix:
                    empty = False
                    yield _describe(self._bucket.prefix.rpartition("/")[2], item)
        if empty:
            raise OriginNotFoundError("no object there", subject=printable(self._spec.url))

    def _list(self, prefix: str, *, limit: int = 1000) -> Iterator[dict[str, Any]]:
        more: dict[str, Any] = {}
        while True:
            page = self._call("list_objects_v2", Prefix=prefix, MaxKeys=limit, **more)
            yield from page.get("Contents", ())
            if limit == 1 or not page.get("IsTruncated") or not page.get("NextContinuationToken"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def read_range(
        self,
        entry: FileEntry,
        offset: int,
        length: int,
        buffer: memoryview | None = None,  # noqa: ARG002 - the library has memory of its own
    ) -> memoryview:
        """Read a range under the ETag."""
        if length == 0:
            return memoryview(b"")
        prefix = self._bucket.prefix
        key = f"{prefix}/{entry.path}" if prefix else entry.path
        data: memoryview
        try:
            data = self._wait(self._read(key, entry, offset, length), entry.path)
        except OriginNotFoundError:
            if not prefix or entry.path != prefix.rpartition("/")[2]:
                raise
            data = self._wait(self._read(prefix, entry, offset, length), entry.path)
        return data

    async def _read(self, key: str, entry: FileEntry, offset: int, length: int) -> memoryview:
        """Make the request, and take exactly the range from the answer's body."""
        answer = await self._files._call_s3(
            "get_object",
            Bucket=self._bucket.name,
            Key=key,
            IfMatch=entry.token,
            Range=f"bytes={offset}-{offset + length - 1}",
        )
        async with answer["Body"] as body:
            skip = _check(answer, entry, offset, length)
            data = bytearray(length)
            filled = 0
            while filled < length:
                part = await body.read(min(SKIP_BYTES, skip) if skip else length - filled)
                if not part:
                    raise OriginUnavailableError(
                        f"the body ended after {filled} of {length} bytes",
                        subject=printable(entry.path),
                    )
                if skip:
                    skip -= len(part)
                    continue
                data[filled : filled + len(part)] = part
                filled += len(part)
        return memoryview(data)

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._wait(
            self._files._call_s3(operation, Bucket=self._bucket.name, **arguments),
            self._spec.url,
        )
        return answer

    def _wait(self, coroutine: Any, subject: str) -> Any:
        """Run on fsspec's own loop, which has a thread of its own."""
        try:
            return fsspec.asyn.sync(
                self._files.loop, _forward, coroutine, timeout=self._deadline_seconds
            )
        except OriginError:
            raise
        except _FAILURES as error:
            raise _translated(error, subject) from error


async def _forward(coroutine: Any) -> Any:
    return await coroutine


def _check(answer: dict[str, Any], entry: FileEntry, offset: int, length: int) -> int:
    """Return how many bytes of the body come before the range."""
    subject = printable(entry.path)
    if answer.get("ETag") != entry.token:
        if not answer.get("ETag"):
            raise OriginProtocolError("the answer has no ETag", subject=subject)
        raise OriginChangedError("the object has changed since it was listed", subject=subject)
    if answer.get("ContentEncoding") in ("gzip", "deflate", "br", "zstd"):
        # An object may be stored so; its bytes are then delivered as they are. But aiohttp takes
        # the encoding off, and the bytes are not those of the range any more.
        raise OriginProtocolError(
            f"the object is stored with Content-Encoding {answer['ContentEncoding']}",
            subject=subject,
            hint="store it without",
        )
    status = answer["ResponseMetadata"]["HTTPStatusCode"]
    announced = answer.get("ContentLength")
    if status == 206:
        expected = f"bytes {offset}-{offset + length - 1}/{entry.size}"
        if answer.get("ContentRange") != expected:
            raise OriginProtocolError(
                f"{printable(str(answer.get('ContentRange')))} was answered for {expected}",
                subject=subject,
            )
        if announced != length:
            raise OriginProtocolError(
                f"a body of {announced} bytes for {length} asked", subject=subject
            )
        return 0
    if status != 200 or announced != entry.size:
        raise OriginProtocolError(
            f"{status} with {announced} bytes was answered for a range", subject=subject
        )
    return offset


def _describe(path: str, item: dict[str, Any]) -> OriginFile:
    if not item.get("ETag"):
        raise OriginProtocolError("the store tells no ETag", subject=printable(path))
    return OriginFile(path, int(item["Size"]), str(item["ETag"]), "")


def _translated(error: Exception, subject: str) -> OriginError:
    """Return what an exception means: s3fs turns most of botocore's into ``OSError``."""
    subject = printable(subject)
    cause = error if isinstance(error, BotoCoreError | ClientError) else error.__cause__
    if isinstance(cause, ClientError):
        return of_status(cause, subject)
    if isinstance(cause, HTTPClientError) and isinstance(
        cause.kwargs.get("error"), aiohttp.TooManyRedirects
    ):
        return OriginProtocolError("too many redirects", subject=subject)
    if isinstance(error, FileNotFoundError):
        return OriginNotFoundError("no such object or bucket", subject=subject)
    if isinstance(error, PermissionError | NoCredentialsError | PartialCredentialsError):
        return OriginDeniedError(
            "the store refused the credentials, or there are none",
            subject=subject,
            hint=_hint(error),
        )
    if isinstance(error, ValueError | ResponseParserError | ParamValidationError):
        return OriginProtocolError(
            "the store's answer cannot be used", subject=subject, hint=_hint(error)
        )
    return OriginUnavailableError("the store did not answer", subject=subject, hint=_hint(error))


def _hint(error: Exception) -> str:
    return printable(str(error).partition("\n")[0][:200])
