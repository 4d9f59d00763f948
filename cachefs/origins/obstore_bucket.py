"""``s3://``, ``gs://`` and ``az://`` through obstore: the fastest client we measured.

Each read is conditional on the ETag and must come back as exactly the range; obstore itself refuses
a 200 for a range and a wrong Content-Range, and we check length, range and ETag once more. Its
retries are off, because ours are counted, and its time limits are ours.

Two peculiarities: it removes the closing slash of folder markers, which then look like empty files
(each empty object is therefore asked for, and a marker is not found); and it cannot list keys with
an empty, ``.`` or ``..`` segment, which no dataset can hold anyway.
"""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import obstore
from botocore.session import Session
from obstore import exceptions
from obstore.store import AzureStore, GCSStore, S3Store

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
from cachefs.origins.aws import configure, credential_provider, find_bucket
from cachefs.origins.credentials import Credentials
from cachefs.ports import OriginFile

LIST_CHUNK = 1000
_STATUS = re.compile(r"status code: (\d{3})")


class ObstoreOrigin:
    """Implements :class:`cachefs.ports.Origin` on a bucket."""

    client = "obstore"

    def __init__(self, spec: OriginSpec, store: Any, prefix: str, reason: str) -> None:
        """Keep the store, an obstore one."""  # Any: obstore's stores share no public class
        self._spec = spec
        self._store = store
        self._prefix = prefix
        self.reason = reason

    def pin(self) -> OriginSpec:
        """Return the spec: a bucket does not move."""
        return self._spec

    def close(self) -> None:
        """Let go of the store: its pool belongs to it."""
        self._store = None

    def list_files(self) -> Iterator[OriginFile]:
        """Yield every object below the prefix, or the one object that has it as its key."""
        below = f"{self._prefix}/" if self._prefix else ""
        empty = True
        markers: set[str] = set()
        try:
            for chunk in obstore.list(self._store, self._prefix or None, chunk_size=LIST_CHUNK):
                for meta in chunk:
                    key = str(meta["path"])
                    if not key.startswith(below) or (meta["size"] == 0 and key in markers):
                        continue
                    if meta["size"] == 0:
                        markers.add(key)
                        if not self._exists(key):
                            continue
                    empty = False
                    yield _describe(key[len(below) :], meta)
            if empty and self._prefix:
                yield _describe(
                    self._prefix.rpartition("/")[2], obstore.head(self._store, self._prefix)
                )
                empty = False
        except FileNotFoundError:
            pass
        except (exceptions.BaseError, ValueError, OSError) as error:
            raise _translated(error, self._spec.url) from error
        if empty:
            raise OriginNotFoundError("no object there", subject=printable(self._spec.url))

    def _exists(self, key: str) -> bool:
        try:
            obstore.head(self._store, key)
        except FileNotFoundError:
            return False
        return True

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
        key = f"{self._prefix}/{entry.path}" if self._prefix else entry.path
        subject = printable(entry.path)
        options: Any = {"range": (offset, offset + length), "if_match": entry.token}
        try:
            try:
                result = obstore.get(self._store, key, options=options)
            except FileNotFoundError:
                if not self._may_be_the_file(entry):
                    raise
                result = obstore.get(self._store, self._prefix, options=options)
            meta, found = result.meta, tuple(result.range)
            encoding = result.attributes.get("Content-Encoding")
            data = memoryview(result.bytes())
        except (exceptions.BaseError, ValueError, OSError) as error:
            raise _translated(error, subject) from error
        if meta["e_tag"] != entry.token or meta["size"] != entry.size:
            raise OriginChangedError("the object has changed since it was listed", subject=subject)
        if found != (offset, offset + length):
            raise OriginProtocolError(f"another range was answered: {found}", subject=subject)
        if len(data) > length or (len(data) != length and encoding):
            raise OriginProtocolError(
                f"{len(data)} bytes, encoded as {encoding}, for {length} asked", subject=subject
            )
        if len(data) != length:
            raise OriginUnavailableError(
                f"the body ended after {len(data)} of {length} bytes", subject=subject
            )
        return data

    def _may_be_the_file(self, entry: FileEntry) -> bool:
        """Say whether the URL may name this one object instead of a folder that holds it."""
        return bool(self._prefix) and entry.path == self._prefix.rpartition("/")[2]


def open_obstore(
    spec: OriginSpec,
    config: OriginConfig,
    addresses: Addresses,
    credentials: Credentials,
    reason: str,
) -> ObstoreOrigin:
    """Open a bucket. Asks nothing yet.

    Raises:
        ConfigError: An option cannot be used.
        OriginDeniedError: There are no credentials, or the endpoint may not be contacted.
    """
    scheme = split_url(spec.url).scheme
    shared = {
        "client_options": {
            "connect_timeout": timedelta(seconds=config.timeout_seconds),
            "read_timeout": timedelta(seconds=config.timeout_seconds),
            "timeout": timedelta(seconds=config.deadline_seconds),
            "pool_max_idle_per_host": str(config.requests_limit),
            "user_agent": "cachefs",
        },
        "retry_config": {"max_retries": 0, "retry_timeout": timedelta(0)},
    }
    endpoint = spec.options.get("endpoint_url", "")
    if endpoint and scheme != "s3":
        addresses.check_endpoint(endpoint)
    try:
        if scheme == "s3":
            return _open_s3(spec, addresses, credentials, shared, reason)
        url = split_url(spec.url)
        shared["client_options"]["allow_http"] = endpoint.startswith("http://")
        store = _open_gs(spec, credentials, shared) if scheme == "gs" else _open_az(spec, shared)
        return ObstoreOrigin(spec, store, url.path.strip("/"), reason)
    except (exceptions.BaseError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            "the object store cannot be opened", subject=printable(spec.url), hint=_first(error)
        ) from error


def _open_s3(
    spec: OriginSpec,
    addresses: Addresses,
    credentials: Credentials,
    shared: dict[str, Any],  # Any: obstore's own typed dictionaries
    reason: str,
) -> ObstoreOrigin:
    session = configure(Session(), credentials)
    bucket = find_bucket(spec, session, addresses)
    config: Any = {
        "region": bucket.region,
        "virtual_hosted_style_request": not bucket.path_style,
    }
    if bucket.endpoint_url:
        config["endpoint"] = bucket.endpoint_url
    if bucket.anonymous:
        config["skip_signature"] = True
    else:
        shared["credential_provider"] = credential_provider(session, spec.url)
    shared["client_options"]["allow_http"] = bucket.endpoint_url.startswith("http://")
    store = S3Store(bucket.name, config=config, **shared)
    return ObstoreOrigin(spec, store, bucket.prefix, reason)


def _open_gs(spec: OriginSpec, credentials: Credentials, shared: dict[str, Any]) -> GCSStore:
    config: Any = {}
    if "endpoint_url" in spec.options:
        config["base_url"] = spec.options["endpoint_url"]
    if spec.options.get("anon") == "true":
        config["skip_signature"] = True
    if credentials.file:
        config["service_account"] = credentials.file
    elif credentials != Credentials():
        raise ConfigError("gs takes credentials=file:PATH only")
    return GCSStore(split_url(spec.url).host, config=config, **shared)


def _open_az(spec: OriginSpec, shared: dict[str, Any]) -> AzureStore:
    if "credentials" in spec.options:
        raise ConfigError("az takes its credentials from the environment: AZURE_STORAGE_…")
    config: Any = {}
    if "account" in spec.options:
        config["account_name"] = spec.options["account"]
    if "endpoint_url" in spec.options:
        config["endpoint"] = spec.options["endpoint_url"]
    if spec.options.get("anon") == "true":
        config["skip_signature"] = True
    return AzureStore(split_url(spec.url).host, config=config, **shared)


def _describe(path: str, meta: Any) -> OriginFile:  # Any: obstore's own typed dictionary
    if not meta["e_tag"]:
        raise OriginProtocolError("the store tells no ETag", subject=printable(path))
    return OriginFile(path, int(meta["size"]), str(meta["e_tag"]), "")


def _translated(error: Exception, subject: str) -> OriginError:
    """Return what an obstore exception means; it tells most things in its text only."""
    if isinstance(error, OriginError):
        return error
    subject = printable(subject)
    text = str(error)
    status = _STATUS.search(text)
    code = int(status[1]) if status else 0
    if isinstance(error, FileNotFoundError) or code == 404:
        return OriginNotFoundError("no such object or bucket", subject=subject)
    if isinstance(error, exceptions.PreconditionError) or code in (412, 416):
        return OriginChangedError("the object has changed since it was listed", subject=subject)
    if isinstance(
        error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError
    ) or code in (401, 403):
        return OriginDeniedError(
            "the store refused the credentials", subject=subject, hint=_first(error)
        )
    if isinstance(error, exceptions.InvalidPathError):
        return OriginProtocolError(
            "a key with an empty, . or .. segment, which cannot be a file name",
            subject=subject,
            hint="rename it, or choose a folder without it",
        )
    return _of_answer(code, error, subject)


def _of_answer(code: int, error: Exception, subject: str) -> OriginError:
    """Return what a failure means that obstore has no class for."""
    # Without a status, the answer either never came whole, or came and was not understood.
    misunderstood = any(sign in str(error) for sign in _MISUNDERSTOOD)
    if misunderstood or (code and code < 500 and code not in (408, 425, 429)):
        return OriginProtocolError(
            "the store's answer cannot be used", subject=subject, hint=_first(error)
        )
    return OriginUnavailableError(
        f"the store answered {code}" if code else "the store did not answer",
        subject=subject,
        hint=_first(error),
    )


_MISUNDERSTOOD = (
    "non-partial",
    "Content-Range",
    "content range",
    "Requested",
    "invalid list response",
    "ETag",
    "redirect",
)


def _first(error: Exception) -> str:
    """Return a message's first line: the rest is a dump of internals."""
    return printable(str(error).partition("\n")[0][:200])
