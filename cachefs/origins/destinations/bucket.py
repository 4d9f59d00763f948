"""``s3://`` as a destination: multipart uploads, whose parts the server keeps until they are completed.

Each part travels with its MD5, which the server compares (``Content-MD5``): a part that it has is a part
as it was sent. Who resumes asks the server which parts it has. A file of one part is put in one request.

Requests are botocore's: it signs them, and takes a body that it reads bit by bit, so that one which
nobody wants any more ends within a moment. Its retries are off, because the copying counts its own.
"""

import base64
import hashlib
import io
from collections.abc import Callable
from typing import Any, TypeVar

from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.parsers import ResponseParserError
from botocore.session import Session

from cachefs.config.schema import OriginConfig
from cachefs.core.datasets import OriginSpec
from cachefs.core.names import printable
from cachefs.errors import (
    OriginDeniedError,
    OriginError,
    OriginNotFoundError,
    OriginProtocolError,
    OriginUnavailableError,
    StepCancelledError,
)
from cachefs.origins.addresses import Addresses
from cachefs.origins.aws import client_settings, configure, find_bucket, of_status
from cachefs.origins.credentials import Credentials
from cachefs.origins.destinations.writing import NewFile, ReadBack, Resumed, Stop, Writing

PART_BYTES_MIN = 5 * 1024 * 1024
"""What S3 demands of every part but the last."""
_FAILURES = (BotoCoreError, ClientError, ResponseParserError, OSError, ValueError)

Result = TypeVar("Result")


class BucketDestination:
    """Implements :class:`.writing.Destination` on a bucket."""

    part_bytes_min = PART_BYTES_MIN
    resumes = True

    def __init__(
        self,
        spec: OriginSpec,
        config: OriginConfig,
        addresses: Addresses,
        credentials: Credentials,
    ) -> None:
        """Prepare the client; asks nothing yet.

        Raises:
            ConfigError: An option cannot be used.
            OriginDeniedError: The endpoint may not be contacted.
        """
        session = configure(Session(), credentials)
        bucket = find_bucket(spec, session, addresses)
        self.bucket = bucket.name
        self._prefix = f"{bucket.prefix}/" if bucket.prefix else ""
        settings = client_settings(bucket, config) | {"user_agent": "cachefs"}
        if bucket.anonymous:
            settings["signature_version"] = UNSIGNED
        try:
            self.client: Any = session.create_client(  # Any: botocore makes its classes at run time
                "s3",
                region_name=bucket.region,
                endpoint_url=bucket.endpoint_url or None,
                config=Config(**settings),
            )
        except (BotoCoreError, ValueError) as error:
            raise translated(error, spec.url) from error

    def key(self, path: str) -> str:
        """Return the key of a path."""
        return self._prefix + path

    def begin(self, file: NewFile) -> Writing:
        """Create a multipart upload; nothing yet for a file of one part."""
        if file.size <= file.part_bytes:
            return _WholeObject(self, file)
        answer = self.call("create_multipart_upload", file.path)
        return _Upload(self, file, str(answer["UploadId"]), {})

    def resume(self, file: NewFile, state: str) -> Resumed | None:
        """Ask which parts the server has."""
        if not state:
            return None
        found: dict[int, str] = {}
        more: dict[str, Any] = {}
        try:
            while True:
                page = self.call("list_parts", file.path, UploadId=state, **more)
                for part in page.get("Parts", ()):
                    index = int(part["PartNumber"]) - 1
                    length = min(file.part_bytes, file.size - index * file.part_bytes)
                    if int(part["Size"]) == length:
                        found[index] = str(part["ETag"])
                if not page.get("IsTruncated"):
                    break
                more = {"PartNumberMarker": page["NextPartNumberMarker"]}
        except OriginNotFoundError:
            return None
        return Resumed(_Upload(self, file, state, found), frozenset(found))

    def remove(self, path: str) -> None:
        """Delete an object."""
        self.call("delete_object", path)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def call(
        self, operation: str, path: str, stop: Stop | None = None, **arguments: Any
    ) -> dict[str, Any]:
        """Make a request about an object."""

        def ask() -> dict[str, Any]:
            answer: dict[str, Any] = getattr(self.client, operation)(
                Bucket=self.bucket, Key=self.key(path), **arguments
            )
            return answer

        return _asked(ask, path, stop)


class _WholeObject:
    """An object that is put in one request, when it is finished."""

    in_order = True
    read_back: ReadBack | None = None
    state = ""

    def __init__(self, destination: BucketDestination, file: NewFile) -> None:
        self._destination = destination
        self._file = file
        self._data = memoryview(b"")
        self._stop: Stop = _never

    def write(self, offset: int, data: memoryview, stop: Stop) -> None:
        """Keep it until it is finished."""
        del offset
        self._data = data
        self._stop = stop

    def finish(self) -> str:
        """Put the object."""
        answer = self._destination.call(
            "put_object", self._file.path, self._stop, **_body(self._data, self._stop)
        )
        return str(answer["ETag"])

    def discard(self) -> None:
        """Nothing was sent."""

    def close(self) -> None:
        """Nothing was sent."""


class _Upload:
    """A multipart upload."""

    in_order = False
    read_back: ReadBack | None = None

    def __init__(
        self, destination: BucketDestination, file: NewFile, upload: str, parts: dict[int, str]
    ) -> None:
        self._destination = destination
        self._file = file
        self.state = upload
        self._parts = parts

    def write(self, offset: int, data: memoryview, stop: Stop) -> None:
        """Upload a part."""
        index = offset // self._file.part_bytes
        answer = self._destination.call(
            "upload_part",
            self._file.path,
            stop,
            UploadId=self.state,
            PartNumber=index + 1,
            **_body(data, stop),
        )
        self._parts[index] = str(answer["ETag"])

    def finish(self) -> str:
        """Complete the upload."""
        parts = [
            {"PartNumber": index + 1, "ETag": tag} for index, tag in sorted(self._parts.items())
        ]
        answer = self._destination.call(
            "complete_multipart_upload",
            self._file.path,
            UploadId=self.state,
            MultipartUpload={"Parts": parts},
        )
        return str(answer["ETag"])

    def discard(self) -> None:
        """Abort the upload: the server forgets its parts."""
        try:
            self._destination.call("abort_multipart_upload", self._file.path, UploadId=self.state)
        except OriginNotFoundError:
            return

    def close(self) -> None:
        """The server keeps the parts."""


class _Body(io.RawIOBase):
    """Bytes that are sent, unless somebody says stop in between."""

    def __init__(self, data: memoryview, stop: Stop) -> None:
        super().__init__()
        self._data = data
        self._stop = stop
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self._data)

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        self._at = start + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        if self._stop():
            raise StepCancelledError("the copy was stopped")
        left = len(self._data) - self._at
        wanted = left if size is None or size < 0 else min(size, left)
        part = bytes(self._data[self._at : self._at + wanted])
        self._at += wanted
        return part


def _body(data: memoryview, stop: Stop) -> dict[str, Any]:  # Any: arguments of botocore
    digest = hashlib.md5(data, usedforsecurity=False).digest()
    return {
        "Body": _Body(data, stop),
        "ContentLength": len(data),
        "ContentMD5": base64.b64encode(digest).decode(),
    }


def _asked(ask: Callable[[], Result], subject: str, stop: Stop | None) -> Result:
    try:
        return ask()
    except StepCancelledError:
        raise
    except _FAILURES as error:
        if stop is not None and stop():
            # Whatever the library made of it: the body that it was reading has said stop.
            raise StepCancelledError("the copy was stopped", subject=printable(subject)) from error
        raise translated(error, subject) from error


def translated(error: Exception, subject: str) -> OriginError:
    """Return what an exception of botocore means."""
    subject = printable(subject)
    hint = printable(str(error).partition("\n")[0][:200])
    if isinstance(error, ClientError):
        return of_status(error, subject)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return OriginDeniedError("no credentials found", subject=subject, hint=hint)
    if isinstance(error, ParamValidationError | ResponseParserError | ValueError):
        return OriginProtocolError("the store's answer cannot be used", subject=subject, hint=hint)
    return OriginUnavailableError("the store did not answer", subject=subject, hint=hint)


def _never() -> bool:
    return False
