"""Tenants: what a namespace may do that is not trusted with everything.

Who has the cluster's token can do anything, in the name of any namespace. Where others act for namespaces,
as the operator does for whoever may write custom resources in them, that is too much: a dataset is listed
and filled with the cluster's own credentials, and a step that reads a file reads the coordinator's. So a
namespace is trusted or it is not, and one that is not

- names only origins that ``sources`` lists for it, endpoints included, and no credentials but the profile
  that has the namespace's name;
- has flows that name datasets of its own only, no pools but those that are its own, and no secrets of the
  coordinator's machine.

By default every namespace is trusted: on one's own machine there is nobody else.
"""

import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from typing import NamedTuple

from cachefs.core.datasets import OriginSpec
from cachefs.core.names import DatasetName, printable
from cachefs.core.urls import split_url
from cachefs.errors import ConfigError, NotAllowedError

_SCHEMES = frozenset({"s3", "gs", "az", "hf", "http", "https", "file"})
"""Whose options are known one by one; what others mean by theirs, nobody here can say."""
_UPWARDS = re.compile(r"(^|/)(\.|%2e){2}(/|$)", re.IGNORECASE)


class Source(NamedTuple):
    """An origin that a namespace may name."""

    namespace: re.Pattern[str]
    url: re.Pattern[str]

    @classmethod
    def parse(cls, text: str) -> "Source":
        """Return what ``NAMESPACE=URL`` says; ``*`` in either is any run of characters.

        Raises:
            ConfigError: It is not of that form.
        """
        namespace, is_pair, url = text.partition("=")
        if not is_pair or not namespace or "://" not in url:
            raise ConfigError(
                "not a source",
                subject=printable(text),
                hint="write NAMESPACE=SCHEME://…, or *=s3://*",
            )
        return cls(_glob(namespace), _glob(url))


class Tenants:
    """Says what is denied. Immutable."""

    def __init__(self, trusted: Iterable[str] = ("*",), sources: Iterable[str] = ()) -> None:
        """Take the configuration.

        Args:
            trusted: Globs of the namespaces that may do everything.
            sources: ``NAMESPACE=URL``, globs both, for the others.

        Raises:
            ConfigError: A source is not of that form.
        """
        self._trusted = [_glob(each) for each in trusted]
        self._sources = [Source.parse(each) for each in sources]

    def is_trusted(self, namespace: str) -> bool:
        """Return whether a namespace may do everything."""
        return any(each.fullmatch(namespace) for each in self._trusted)

    def check_origin(self, namespace: str, spec: OriginSpec) -> None:
        """Check that a namespace may name an origin.

        Raises:
            NotAllowedError: It may not; says which part.
        """
        if self.is_trusted(namespace):
            return
        if split_url(spec.url).scheme not in _SCHEMES:
            raise NotAllowedError(
                "origins of this kind are not for this namespace", subject=namespace
            )
        self._check_url(namespace, spec.url)
        for value in spec.options.values():
            if "://" in value:
                self._check_url(namespace, value)
        self._check_credentials(namespace, spec.options)

    def check_dataset(self, namespace: str, dataset: DatasetName) -> None:
        """Check that flows of a namespace may name a dataset.

        Raises:
            NotAllowedError: It is another namespace's.
        """
        if dataset.namespace != namespace and not self.is_trusted(namespace):
            raise NotAllowedError(
                "flows of this namespace may only name datasets of their own", subject=str(dataset)
            )

    def _check_url(self, namespace: str, url: str) -> None:
        parts = split_url(url)
        port = "" if parts.port is None else f":{parts.port}"
        plain = f"{parts.scheme}://{parts.host}{port}{parts.path}".removesuffix("/")
        known = any(
            each.namespace.fullmatch(namespace) and each.url.fullmatch(plain)
            for each in self._sources
        )
        if not known or _UPWARDS.search(parts.path):
            raise NotAllowedError(
                f"not a source of namespace {namespace}",
                subject=printable(plain),
                hint="whoever runs the cluster can add it to tenants.sources",
            )

    @staticmethod
    def _check_credentials(namespace: str, options: Mapping[str, str]) -> None:
        reference = options.get("credentials", "")
        if reference and reference != f"profile:{namespace}":
            raise NotAllowedError(
                "credentials of the cluster are not for this namespace",
                subject=namespace,
                hint=f"leave them out, or write profile:{namespace}",
            )


def _glob(text: str) -> re.Pattern[str]:
    return re.compile(translate(text))


EVERYBODY = Tenants()
"""Trusts every namespace."""
