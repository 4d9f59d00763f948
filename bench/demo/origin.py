"""The origin of the demo: moto's S3 server, a process of its own on a free port of loopback."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from cachefs.cli.system.children import die_with_parent
from cachefs.ports import Runtime
from cachefs.testing.s3 import ENVIRONMENT, REGION

BUCKET = "models"
RANGE_BYTES = 8 * 1024 * 1024
"""A block: what the workers ask for, too."""
RANGES_AT_ONCE = 8
_START_SECONDS = 20.0
_POLL_SECONDS = 0.05


class S3:
    """The running server, as its users see it."""

    def __init__(self, endpoint_url: str) -> None:
        """Connect, and make the bucket."""
        self.endpoint_url = endpoint_url
        self.client: Any = boto3.client(  # Any: boto3 makes its classes at run time
            "s3",
            endpoint_url=endpoint_url,
            region_name=REGION,
            aws_access_key_id=ENVIRONMENT["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"total_max_attempts": 2}, read_timeout=20),
        )
        self.client.create_bucket(Bucket=BUCKET)

    def upload(self, prefix: str, files: Mapping[str, Path]) -> None:
        """Write files as objects."""
        for path, source in files.items():
            with source.open("rb") as content:
                self.client.put_object(Bucket=BUCKET, Key=f"{prefix}/{path}", Body=content)

    def read(self, prefix: str, path: str) -> bytes:
        """Read one object whole, as a program without a cache does."""
        content: bytes = self.client.get_object(Bucket=BUCKET, Key=f"{prefix}/{path}")[
            "Body"
        ].read()
        return content

    def read_ranges(self, prefix: str, path: str, size: int) -> bytes:
        """Read one object in ranges, several at once, as every fast client does."""

        def read(offset: int) -> bytes:
            until = min(offset + RANGE_BYTES, size) - 1
            answer = self.client.get_object(
                Bucket=BUCKET, Key=f"{prefix}/{path}", Range=f"bytes={offset}-{until}"
            )
            content: bytes = answer["Body"].read()
            return content

        with ThreadPoolExecutor(RANGES_AT_ONCE) as pool:
            return b"".join(pool.map(read, range(0, size, RANGE_BYTES)))


@contextmanager
def s3_process(runtime: Runtime) -> Iterator[S3]:
    """Run the server while the context lasts.

    Raises:
        RuntimeError: It did not start.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    parent = os.getpid()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us; we end it when nobody needs it any more
        preexec_fn=lambda: die_with_parent(parent, signal.SIGKILL),  # noqa: PLW1509 - one thread yet
    )
    try:
        give_up = runtime.monotonic() + _START_SECONDS
        while not _accepts(port):
            if server.poll() is not None or runtime.monotonic() > give_up:
                raise RuntimeError("the S3 server did not start")
            runtime.sleep(_POLL_SECONDS)
        yield S3(f"http://127.0.0.1:{port}")
    finally:
        server.terminate()
        try:
            server.wait(timeout=5)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
