"""Tenants: what a namespace may do that is not trusted with everything.

Who has the cluster's token can do anything, in the name of any namespace. Where others act for namespaces,
as the operator does for whoever may write custom resources in them, that is too much: a dataset is listed
and filled with the cluster's own credentials, and a step that reads a file reads the coordinator's. So a
namespace is trusted or it is not, and one that is not

- names only origins that ``sources`` lists for it, and no credentials but the profile that has the
  namespace's name. To an endpoint the cluster's own credentials are sent, so a source must name its host
  in full, unless none are sent or they are the namespace's own;
- reaches private addresses only of hosts that a source names in full, and is redirected only to what
  ``sources`` lists (:class:`~cachefs.core.urls.Confinement`);
- has flows that write only to what ``destinations`` lists for it, which is nothing at first: what the
  cluster's credentials can read is often others' to write;
- has flows that name datasets of its own only, no pools but those that are its own, and no secrets of the
  coordinator's machine.

By default every namespace is trusted: on one's own machine there is nobody else.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import translate
from typing import NamedTuple

from cachefs.core.datasets import OriginSpec
from cachefs.core.names import DatasetName, printable
from cachefs.core.urls import CONFINED, Confinement, UrlGlob, split_url
from cachefs.errors import ConfigError, NotAllowedError

_SCHEMES = frozenset({"s3", "gs", "az", "hf", "http", "https", "file"})
"""Whose options are known one by one; what others mean by theirs, nobody here can say."""


class Source(NamedTuple):
    """An origin that a namespace may name."""

    namespace: re.Pattern[str]
    url: UrlGlob

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
        return cls(_glob(namespace), UrlGlob(url))


class Tenants:
    """Says what is denied. Immutable."""

    def __init__(
        self,
        trusted: Iterable[str] = ("*",),
        sources: Iterable[str] = (),
        destinations: Iterable[str] = (),
    ) -> None:
        """Take the configuration.

        Args:
            trusted: Globs of the namespaces that may do everything.
            sources: ``NAMESPACE=URL``, globs both, for the others to read.
            destinations: The same, for the others to write.

        Raises:
            ConfigError: A source is not of that form.
        """
        self._trusted = [_glob(each) for each in trusted]
        self._sources = [Source.parse(each) for each in sources]
        self._destinations = [Source.parse(each) for each in destinations]

    def is_trusted(self, namespace: str) -> bool:
        """Return whether a namespace may do everything."""
        return any(each.fullmatch(namespace) for each in self._trusted)

    def check_origin(self, namespace: str, spec: OriginSpec) -> None:
        """Check that a namespace may read from an origin.

        Raises:
            NotAllowedError: It may not; says which part.
        """
        self._check(namespace, spec, self._sources, "source")

    def check_destination(self, namespace: str, spec: OriginSpec) -> None:
        """Check that a namespace may have something written to an origin.

        Raises:
            NotAllowedError: It may not; says which part.
        """
        self._check(namespace, spec, self._destinations, "destination")

    def confined(self, namespace: str, spec: OriginSpec) -> OriginSpec:
        """Return an origin with what may be contacted for it, beside what the platform itself names."""
        spec = declared(spec)
        if self.is_trusted(namespace):
            return spec
        text = self._confinement(namespace).text
        return replace(spec, options={**spec.options, CONFINED: text})

    def confinement(self, namespace: str) -> Confinement | None:
        """Return what may be contacted for a namespace; ``None`` if it is trusted."""
        return None if self.is_trusted(namespace) else self._confinement(namespace)

    def _confinement(self, namespace: str) -> Confinement:
        listed = (*self._sources, *self._destinations)
        return Confinement(
            tuple(each.url for each in listed if each.namespace.fullmatch(namespace))
        )

    def _check(self, namespace: str, spec: OriginSpec, listed: Iterable[Source], what: str) -> None:
        if self.is_trusted(namespace):
            return
        known = [each.url for each in listed if each.namespace.fullmatch(namespace)]
        if split_url(spec.url).scheme not in _SCHEMES:
            raise NotAllowedError(
                "origins of this kind are not for this namespace", subject=namespace
            )
        _check_url(namespace, spec.url, known, what)
        _check_credentials(namespace, spec.options)
        options = declared(spec).options
        sends_ours = options.get("anon") != "true" and "credentials" not in options
        for name, value in options.items():
            if "://" in value or name == "endpoint_url":
                in_full = [each for each in known if each.host] if sends_ours else known
                _check_url(namespace, value, in_full, what, "named in full " if sends_ours else "")

    def check_dataset(self, namespace: str, dataset: DatasetName) -> None:
        """Check that flows of a namespace may name a dataset.

        Raises:
            NotAllowedError: It is another namespace's.
        """
        if dataset.namespace != namespace and not self.is_trusted(namespace):
            raise NotAllowedError(
                "flows of this namespace may only name datasets of their own", subject=str(dataset)
            )


def _check_url(
    namespace: str, url: str, known: Iterable[UrlGlob], what: str, how: str = ""
) -> None:
    parts = split_url(url)
    if not any(each.matches(parts) for each in known):
        raise NotAllowedError(
            f"not a {what} {how}of namespace {namespace}",
            subject=printable(parts.plain.removesuffix("/")),
            hint=f"whoever runs the cluster can add it to tenants.{what}s",
        )


def _check_credentials(namespace: str, options: Mapping[str, str]) -> None:
    reference = options.get("credentials", "")
    if reference and reference != f"profile:{namespace}":
        raise NotAllowedError(
            "credentials of the cluster are not for this namespace",
            subject=namespace,
            hint=f"leave them out, or write profile:{namespace}",
        )


def declared(spec: OriginSpec) -> OriginSpec:
    """Return an origin without what the coordinator wrote beside it for a namespace."""
    options = {name: value for name, value in spec.options.items() if name != CONFINED}
    return replace(spec, options=options)


def _glob(text: str) -> re.Pattern[str]:
    return re.compile(translate(text))


EVERYBODY = Tenants()
"""Trusts every namespace."""
