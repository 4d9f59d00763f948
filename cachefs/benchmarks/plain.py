"""Plain clients: how one would read a checkpoint from S3, or over HTTP, without cachefs.

Each reads all files, end to end, into one prepared buffer, in ranges, in threads, as well as its
library allows: obstore hands out buffers of its own, which are copied; boto3 and ``http.client``
read into the buffer.
"""

import http.client
import threading
from collections.abc import Callable, Iterator, Sequence

from cachefs.benchmarks.floors import in_threads, split
from cachefs.benchmarks.nginx import BUCKET

RANGE_BYTES = 16 * 1024 * 1024

ReadRange = Callable[[str, int, memoryview], None]
"""From an object's name and an offset into a buffer."""


def _in_ranges(
    files: Sequence[tuple[str, int]],
    into: memoryview,
    threads: int,
    open_reader: Callable[[], ReadRange],
) -> int:
    """Read ``(name, size)`` files, the next free thread taking the next range."""
    ranges = _ranges(files)
    lock = threading.Lock()

    def read(_: int) -> None:
        read_range = open_reader()
        while True:
            with lock:
                piece = next(ranges, None)
            if piece is None:
                return
            name, offset, length, position = piece
            read_range(name, offset, into[position : position + length])

    in_threads(threads, read)
    return sum(size for _, size in files)


def _ranges(files: Sequence[tuple[str, int]]) -> Iterator[tuple[str, int, int, int]]:
    position = 0
    for name, size in files:
        for offset in range(0, size, RANGE_BYTES):
            length = min(RANGE_BYTES, size - offset)
            yield name, offset, length, position + offset
        position += size


def read_with_obstore(
    endpoint: str, files: Sequence[tuple[str, int]], into: memoryview, threads: int
) -> int:
    """Read with ``obstore.get_range``."""
    import obstore  # noqa: PLC0415 - only this scenario needs it
    from obstore.store import S3Store  # noqa: PLC0415

    store = S3Store(
        BUCKET,
        endpoint=endpoint,
        region="us-east-1",
        skip_signature=True,
        client_options={"allow_http": True},
    )

    def read_range(name: str, offset: int, target: memoryview) -> None:
        target[:] = memoryview(obstore.get_range(store, name, start=offset, length=len(target)))

    return _in_ranges(files, into, threads, lambda: read_range)


def read_with_boto3(
    endpoint: str, files: Sequence[tuple[str, int]], into: memoryview, threads: int
) -> int:
    """Read with ``get_object`` and ``readinto``."""
    import boto3  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415
    from botocore import UNSIGNED  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        config=Config(signature_version=UNSIGNED, s3={"addressing_style": "path"}),
    )

    def read_range(name: str, offset: int, target: memoryview) -> None:
        last = offset + len(target) - 1
        body = client.get_object(Bucket=BUCKET, Key=name, Range=f"bytes={offset}-{last}")["Body"]
        _read_body(body._raw_stream, target)

    return _in_ranges(files, into, threads, lambda: read_range)


def read_with_http_client(
    address: str, files: Sequence[tuple[str, int]], into: memoryview, threads: int
) -> int:
    """Read each file's part with ranges of Python's own HTTP client, one connection a thread."""
    parts = split([size for _, size in files], threads)

    def read(part: int) -> None:
        connection = http.client.HTTPConnection(address)
        for file, offset, length, position in parts[part]:
            for start in range(offset, offset + length, RANGE_BYTES):
                end = min(start + RANGE_BYTES, offset + length)
                headers = {"Range": f"bytes={start}-{end - 1}"}
                connection.request("GET", f"/{BUCKET}/{files[file][0]}", headers=headers)
                at = position + start - offset
                _read_body(connection.getresponse(), into[at : at + end - start])
        connection.close()

    in_threads(threads, read)
    return sum(size for _, size in files)


def _read_body(body: http.client.HTTPResponse, target: memoryview) -> None:
    at = 0
    while at < len(target):
        got = body.readinto(target[at:])
        if not got:
            raise ConnectionError("a short answer")
        at += got
