"""Opening an origin: from a URL to a decorated client, and which client that is.

========================  =========================================================================
``file://``               :mod:`~cachefs.origins.local`
``http://`` ``https://``  :mod:`~cachefs.origins.http`
``s3://``                 at an endpoint without TLS ``direct``, our own reader of ranges; else
                          ``obstore``, if a probe shows that it and the server understand each
                          other; else ``fsspec`` (s3fs, with conditional reads)
``gs://`` ``az://``       ``obstore``, else ``fsspec`` (gcsfs, adlfs)
``hf://``                 ``hub``, our own reader again, pinned to a commit
anything else             ``fsspec``, with the token compared before and after each read
========================  =========================================================================

The probe lists, and reads one byte of the first file that has one, under its ETag. A server that
answers 200 with the whole object to that is common; it works with a client that can take it, and
would be asked for every block over and over by one that cannot. The outcome is recorded with the
version, so that workers do not probe again.

Clients are imported when a URL first needs them: they cost more start-up time than all the rest.
"""

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from cachefs.config.schema import OriginConfig
from cachefs.core.datasets import OriginSpec
from cachefs.core.globs import Globs
from cachefs.core.manifest import FileEntry, name_file_version
from cachefs.core.names import printable
from cachefs.core.urls import CONFINED, Confinement, HostRules, split_url
from cachefs.errors import CacheFSError, ConfigError, OriginDeniedError, OriginNotFoundError
from cachefs.origins.addresses import Addresses
from cachefs.origins.credentials import (
    Credentials,
    bearer_token,
    check_options,
    check_plain,
    find_credentials,
)
from cachefs.origins.decorators import FilteredOrigin, LimitedOrigin, MeteredOrigin
from cachefs.ports import Origin, Runtime

CLIENTS = {
    "file": ("local",),
    "http": ("http",),
    "https": ("http",),
    "s3": ("direct", "obstore", "fsspec"),
    "gs": ("obstore", "fsspec"),
    "az": ("obstore", "fsspec"),
    "hf": ("hub",),
}
"""What can open a scheme, the preferred one first; ``fsspec`` for all others."""

_BUCKET = re.compile(r"[\w.$-]*", re.ASCII)
"""It becomes part of a host's name: with a ``?`` or ``:`` in it, that would be another host's."""
_PROBED_FILES_MAX = 1000
"""So many files without two bytes in a row are believed to be all there is."""


def check_spec(spec: OriginSpec) -> None:
    """Check URL and options as text, without opening anything.

    Raises:
        ConfigError: One of them cannot be used, or holds a secret.
    """
    url = split_url(spec.url)
    check_options(url.scheme, spec.options)
    if url.scheme in ("s3", "gs", "az") and not _BUCKET.fullmatch(url.host):
        raise ConfigError(
            f"not the name of a bucket: {printable(url.host)!r}",
            hint="letters, digits, dots, - and _",
        )


def unconfined(spec: OriginSpec) -> tuple[OriginSpec, Confinement | None]:
    """Return an origin as it was declared, and what may be contacted for it, if that is not everything."""
    if CONFINED not in spec.options:
        return spec, None
    options = dict(spec.options)
    confinement = Confinement.parse(options.pop(CONFINED))
    return replace(spec, options=options), confinement


def addresses_of(
    spec: OriginSpec, config: OriginConfig, confinement: Confinement | None
) -> Addresses:
    """Return whom we may connect to for an origin.

    A host that the platform itself names, such as an endpoint in the environment, is not confined.
    """
    addresses = Addresses(HostRules(config.allowed_hosts, config.allow_private))
    is_named_here = split_url(spec.url).scheme in ("http", "https") or any(
        name.endswith(("url", "endpoint")) for name in spec.options
    )
    return addresses.confined(confinement) if is_named_here else addresses


def open_origin(
    spec: OriginSpec,
    config: OriginConfig,
    runtime: Runtime,
    *,
    client: str | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
) -> MeteredOrigin:
    """Open an origin by its URL. Does not retry.

    Args:
        spec: URL, options, credentials by reference.
        config: Limits, and what may be contacted.
        runtime: Time and waiting.
        client: The client that a version was listed with; ``None`` chooses one, which may ask the
            origin something.
        include: Globs; a file must match one, if there are any.
        exclude: Globs; a file that matches one is left out.

    Raises:
        ConfigError: The URL, an option or a glob cannot be used.
        OriginError: The origin may not be contacted, or does not answer the probe.
    """
    spec, confinement = unconfined(spec)
    check_spec(spec)
    globs = Globs(include, exclude)
    opened = _open_client(spec, config, runtime, client, confinement)
    return MeteredOrigin(LimitedOrigin(FilteredOrigin(opened, globs), config, runtime))


def _open_client(
    spec: OriginSpec,
    config: OriginConfig,
    runtime: Runtime,
    client: str | None,
    confinement: Confinement | None,
) -> Origin:
    scheme = split_url(spec.url).scheme
    known = CLIENTS.get(scheme, ("fsspec",))
    if client is not None and client not in known:
        raise ConfigError(
            f"{printable(client)} does not open {scheme}://", hint="use " + " or ".join(known)
        )
    addresses = addresses_of(spec, config, confinement)
    credentials = find_credentials(spec.options, os.environ)
    if scheme == "file":
        from cachefs.origins.local import LocalOrigin

        return LocalOrigin(spec, config.file_roots)
    if scheme in ("http", "https"):
        return _open_http(spec, config, runtime, addresses, credentials, confinement=confinement)
    if scheme == "hf":
        from cachefs.origins.hub import HubOrigin

        return HubOrigin(spec, config, runtime, addresses, bearer_token(credentials))
    if "obstore" in known:
        return _open_bucket(spec, config, runtime, addresses, credentials, client=client)
    from cachefs.origins.fsspec_store import FsspecOrigin

    return FsspecOrigin(spec, config, runtime, addresses)


def _open_http(
    spec: OriginSpec,
    config: OriginConfig,
    runtime: Runtime,
    addresses: Addresses,
    credentials: Credentials,
    *,
    confinement: Confinement | None,
) -> Origin:
    from cachefs.origins.exchange import Exchange
    from cachefs.origins.http import HttpOrigin

    url = split_url(spec.url)
    addresses.check(url.host, url.port or (443 if url.scheme == "https" else 80))
    token = bearer_token(credentials)
    bearer = token.reveal() if token is not None else ""
    exchange = Exchange(
        config, runtime, addresses=addresses, bearer=bearer, confinement=confinement
    )
    return HttpOrigin(spec, exchange)


def _open_bucket(
    spec: OriginSpec,
    config: OriginConfig,
    runtime: Runtime,
    addresses: Addresses,
    credentials: Credentials,
    *,
    client: str | None,
) -> Origin:
    is_s3 = split_url(spec.url).scheme == "s3"
    if not is_s3 and _sends_token():
        check_plain(spec.options)

    def direct(reason: str) -> Origin:
        from cachefs.origins.direct import open_direct

        return open_direct(spec, config, runtime, addresses, credentials, reason)

    def fastest(reason: str) -> Origin:
        from cachefs.origins.obstore_bucket import open_obstore

        return open_obstore(spec, config, addresses, credentials, reason)

    def fallback(reason: str) -> Origin:
        if is_s3:
            from cachefs.origins.s3_bucket import S3Origin

            return S3Origin(spec, config, addresses, credentials, reason)
        from cachefs.origins.fsspec_store import FsspecOrigin

        return FsspecOrigin(spec, config, runtime, addresses, reason)

    if client is not None:
        openers = {"direct": direct, "obstore": fastest}
        return openers.get(client, fallback)("recorded with the version")
    if is_s3 and _is_plain(spec, addresses, credentials):
        return _probed(
            direct,
            lambda _: _probed(fastest, fallback),
            "our own reader, the fastest without TLS, and the server passed its probe",
        )
    return _probed(fastest, fallback)


def _sends_token() -> bool:
    """Return whether the clients of gs and az send a token; with a key of theirs, az signs instead."""
    keys = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY")
    return "AZURE_STORAGE_TOKEN" in os.environ or not any(key in os.environ for key in keys)


def _is_plain(spec: OriginSpec, addresses: Addresses, credentials: Credentials) -> bool:
    try:
        from cachefs.origins.direct import can_open
    except ImportError:
        return False
    return can_open(spec, addresses, credentials)


def _probed(
    first: Callable[[str], Origin],
    second: Callable[[str], Origin],
    reason: str = "the fastest client, and the server passed its probe",
) -> Origin:
    """Return the first client if it passes the probe, else the second."""
    try:
        origin = first(reason)
    except ImportError:
        return second("obstore is not installed")
    try:
        _probe(origin)
    except (OriginNotFoundError, OriginDeniedError):
        # Another client would be told the same.
        origin.close()
        raise
    except CacheFSError as error:
        origin.close()
        return second(f"obstore failed the probe: {error.message}")
    return origin


def _probe(origin: Origin) -> None:
    """List, and read the last byte of the first file that has two, as a fill would."""
    for seen, file in enumerate(origin.list_files()):
        if file.size > 1:
            version = name_file_version(
                "", path=file.path, size=file.size, token=file.token, digest=file.digest
            )
            entry = FileEntry(file.path, file.size, file.token, file.digest, version)
            origin.read_range(entry, file.size - 1, 1)
            return
        if seen >= _PROBED_FILES_MAX:
            return
