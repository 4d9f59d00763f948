"""A real S3 server in this process: moto's, on a free port, with a bucket.

It holds objects in memory and is slow; it is for small objects, and for what a server of our own
would leave out: signatures, paging, conditions, odd keys.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from cachefs.core.datasets import OriginSpec

REGION = "us-east-1"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}
"""Credentials that only a test server takes, and nothing of this machine's own."""
_REMOVED = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server."""

    endpoint_url: str
    client: Any  # Any: boto3 makes its classes at run time

    def make_bucket(self, name: str) -> None:
        """Make an empty bucket."""
        self.client.create_bucket(Bucket=name)

    def put(self, bucket: str, files: Mapping[str, bytes]) -> None:
        """Write objects."""
        for key, content in files.items():
            self.client.put_object(Bucket=bucket, Key=key, Body=content)

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object."""
        self.client.delete_object(Bucket=bucket, Key=key)

    def spec(self, path: str, **options: str) -> OriginSpec:
        """Return how ``bucket/prefix`` is opened as an origin."""
        return OriginSpec(f"s3://{path}", {"endpoint_url": self.endpoint_url, **options})


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Run a server, with credentials for it in the environment of this process."""
    saved = {name: os.environ.pop(name, None) for name in (*ENVIRONMENT, *_REMOVED)}
    os.environ.update(ENVIRONMENT)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client = boto3.client("s3", endpoint_url=endpoint, region_name=REGION)
        yield S3Server(endpoint, client)
        client.close()
    finally:
        server.stop()
        for name, value in saved.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
