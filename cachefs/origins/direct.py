"""``s3://`` by our own HTTP exchange, for stores that are reached without TLS.

Listing is left to obstore, whose keys and ETags are the very same. Reading is one signed GET of a
range under the object's ETag, and is done here because the body can go straight into a buffer that is
used again and again: a library hands out memory of its own, and the first touch of fresh memory
costs more than everything else about a range. Under TLS the decryption outweighs that, and obstore's
is faster than Python's; so such endpoints are obstore's.

Signatures are botocore's, and so are the credentials (:mod:`cachefs.origins.aws`). A signature is for
one host, and therefore no redirect is followed. What an answer must be like is what the HTTP reader
demands of any web server (:mod:`cachefs.origins.http`).
"""

from collections.abc import Iterator
from urllib.parse import quote, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as AwsCredentials
from botocore.exceptions import BotoCoreError
from botocore.session import Session

from cachefs.config.schema import OriginConfig
from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import FileEntry
from cachefs.core.names import printable
from cachefs.errors import ConfigError, OriginChangedError, OriginDeniedError, OriginNotFoundError
from cachefs.origins.addresses import Addresses
from cachefs.origins.aws import Bucket, configure, find_bucket
from cachefs.origins.credentials import Credentials
from cachefs.origins.exchange import Answer, Exchange
from cachefs.origins.http import check_range, check_token, room_for
from cachefs.origins.obstore_bucket import open_obstore
from cachefs.ports import Origin, OriginFile, Runtime


class DirectOrigin:
    """Implements :class:`cachefs.ports.Origin` on a bucket behind a plain HTTP endpoint."""

    client = "direct"

    def __init__(
        self,
        listing: Origin,
        exchange: Exchange,
        bucket: Bucket,
        credentials: AwsCredentials | None,
        reason: str,
    ) -> None:
        """Keep all of them, which are closed with this origin; no credentials for no signature."""
        self._listing = listing
        self._exchange = exchange
        self._bucket = bucket
        self._credentials = credentials
        self.reason = reason
        url = urlsplit(bucket.endpoint_url)
        self._base = (
            f"{bucket.endpoint_url}/{bucket.name}"
            if bucket.path_style
            else f"{url.scheme}://{bucket.name}.{url.netloc}{url.path}"
        )

    def pin(self) -> OriginSpec:
        """Return the spec: a bucket does not move."""
        return self._listing.pin()

    def close(self) -> None:
        """Close the connections."""
        self._exchange.close()
        self._listing.close()

    def list_files(self) -> Iterator[OriginFile]:
        """Yield every object below the prefix."""
        return self._listing.list_files()

    def read_range(
        self, entry: FileEntry, offset: int, length: int, buffer: memoryview | None = None
    ) -> memoryview:
        """Read a range under the ETag, straight into the buffer."""
        if length == 0:
            return memoryview(b"")
        prefix = self._bucket.prefix
        data = room_for(length, buffer)
        try:
            self._read(f"{prefix}/{entry.path}" if prefix else entry.path, entry, offset, data)
        except OriginNotFoundError:
            # The URL may name this one object instead of a folder that holds it.
            if not prefix or entry.path != prefix.rpartition("/")[2]:
                raise
            self._read(prefix, entry, offset, data)
        return data

    def _read(self, key: str, entry: FileEntry, offset: int, into: memoryview) -> None:
        url = f"{self._base}/{quote(key, safe='/-_.~')}"
        headers = {
            "Range": f"bytes={offset}-{offset + len(into) - 1}",
            "If-Match": entry.token,
        }

        def check(answer: Answer) -> None:
            check_token(answer, entry)
            check_range(answer, entry, offset, len(into))

        try:
            self._exchange.request(
                "GET", url, self._signed(url, headers), into, check, follow=False
            )
        except OriginChangedError as error:
            raise OriginChangedError(error.message, subject=printable(entry.path)) from error

    def _signed(self, url: str, headers: dict[str, str]) -> dict[str, str]:
        if self._credentials is None:
            return headers
        try:
            frozen = self._credentials.get_frozen_credentials()
            request = AWSRequest("GET", url, headers=headers)
            S3SigV4Auth(frozen, "s3", self._bucket.region).add_auth(request)
        except BotoCoreError as error:
            raise OriginDeniedError("the credentials cannot be used", hint=str(error)) from error
        return dict(request.headers.items())


def can_open(spec: OriginSpec, addresses: Addresses, credentials: Credentials) -> bool:
    """Say whether a bucket is behind a plain HTTP endpoint."""
    bucket = find_bucket(spec, configure(Session(), credentials), addresses)
    return bucket.endpoint_url.startswith("http://")


def open_direct(  # noqa: PLR0917 - what every client is opened with
    spec: OriginSpec,
    config: OriginConfig,
    runtime: Runtime,
    addresses: Addresses,
    credentials: Credentials,
    reason: str,
) -> DirectOrigin:
    """Open a bucket. Asks nothing yet.

    Raises:
        ConfigError: An option cannot be used.
        OriginDeniedError: There are no credentials, or the endpoint may not be contacted.
    """
    session = configure(Session(), credentials)
    bucket = find_bucket(spec, session, addresses)
    try:
        found = None if bucket.anonymous else session.get_credentials()
    except BotoCoreError as error:
        raise ConfigError("the AWS credentials cannot be found", hint=str(error)) from error
    listing = open_obstore(spec, config, addresses, credentials, reason)
    exchange = Exchange(config, runtime, addresses=addresses)
    return DirectOrigin(listing, exchange, bucket, found, reason)
