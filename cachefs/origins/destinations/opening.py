"""Opening a destination: from a URL to what writes there.

===========  =====================================================================================
``file://``  :mod:`~cachefs.origins.destinations.folder`: parts in any order, resumed
``s3://``    :mod:`~cachefs.origins.destinations.bucket`: multipart uploads, resumed
``http://``  refused, like ``https://``: a web server is read-only
``hf://``    refused: the Hub takes commits, not files
others       :mod:`~cachefs.origins.destinations.store`: whole files through fsspec
===========  =====================================================================================
"""

import os

from cachefs.config.schema import OriginConfig
from cachefs.core.datasets import OriginSpec
from cachefs.core.names import printable
from cachefs.core.urls import split_url
from cachefs.errors import ConfigError
from cachefs.origins.credentials import find_credentials
from cachefs.origins.destinations.writing import Destination
from cachefs.origins.opening import addresses_of, check_spec, unconfined

_READ_ONLY = {
    "hf": "the Hub takes commits: push to it with its own client",
    "http": "a web server is read-only; copy to what it serves from",
    "https": "a web server is read-only; copy to what it serves from",
}


def check_writable(url: str) -> None:
    """Check a URL as text.

    Raises:
        ConfigError: It is none, or nothing can be written there.
    """
    hint = _READ_ONLY.get(split_url(url).scheme)
    if hint is not None:
        raise ConfigError("nothing can be written there", subject=printable(url), hint=hint)


def check_destination(spec: OriginSpec) -> None:
    """Check URL and options as text, without opening anything.

    Raises:
        ConfigError: Nothing can be written there, or an option holds a secret.
    """
    check_spec(spec)
    check_writable(spec.url)


def open_destination(spec: OriginSpec, config: OriginConfig) -> Destination:
    """Open a destination by its URL. Does not retry.

    Raises:
        ConfigError: Nothing can be written there, or an option cannot be used.
        OriginDeniedError: It may not be contacted.
    """
    spec, confinement = unconfined(spec)
    check_destination(spec)
    scheme = split_url(spec.url).scheme
    addresses = addresses_of(spec, config, confinement)
    if scheme == "file":
        from cachefs.origins.destinations.folder import FolderDestination

        return FolderDestination(spec, config.file_roots)
    if scheme == "s3":
        from cachefs.origins.destinations.bucket import BucketDestination

        credentials = find_credentials(spec.options, os.environ)
        return BucketDestination(spec, config, addresses, credentials)
    from cachefs.origins.destinations.store import StoreDestination

    return StoreDestination(spec, addresses)
