"""Renewing: the operator's leader keeps the webhook's certificates, as :mod:`.certificates` decides.

Two secrets: the authorities' keys are in one that no pod mounts, and what servers show is in another,
together with the schedulers' token, by which the webhook asks for hints. What is trusted stands in the
webhook's configuration, and in a config map for whoever else calls (a scheduler's extender).

Every write names the version of what was read before, so of two who write the slower one is refused, looks
again, and finds nothing left to do. All objects are there from the installation on, so nothing has to be made,
and the rights to write them are by their names.
"""

import base64
import binascii
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cachefs.config.secrets import Secret
from cachefs.errors import ConflictError, NotKnownError
from cachefs.hints.consumers.tokens import scheduler_token
from cachefs.k8s import kinds
from cachefs.k8s.names import Kind
from cachefs.k8s.webhook.certificates import (
    Authority,
    Keep,
    Pair,
    Seen,
    Serve,
    Step,
    Trust,
    bundle_of,
    next_step,
)
from cachefs.k8s.webhook.serving import CERTIFICATE, KEY, TOKEN
from cachefs.ports import Runtime

CONFIGURATION = "cachefs"
"""The webhook's configuration."""
SERVING_SECRET = "cachefs-webhook"  # noqa: S105 - a secret's name
AUTHORITY_SECRET = "cachefs-webhook-ca"  # noqa: S105 - likewise
BUNDLE_MAP = "cachefs-webhook-ca"
BUNDLE = "ca.crt"
"""The config map's key."""
_AUTHORITIES = "authorities.json"
_SERVICE = "cachefs-webhook"
_STEPS_LIMIT = 8
"""Of one pass: a new installation takes five."""

Document = dict[str, Any]

_log = logging.getLogger("cachefs.k8s")


class Objects(Protocol):
    """What is needed of :class:`cachefs.k8s.cluster.Cluster`."""

    def get(self, kind: Kind, name: str, namespace: str = "") -> Document | None:
        """Return an object."""
        ...

    def replace(self, document: Document) -> Document:
        """Change an object that nobody has changed since it was read."""
        ...


@dataclass(frozen=True, slots=True)
class _Read:
    """The objects, each as it was read."""

    authorities: Document
    serving: Document
    configuration: Document | None
    bundle: Document | None


class Renewal:
    """Keeps one installation's certificates. One thread at a time calls it."""

    def __init__(
        self, cluster: Objects, runtime: Runtime, *, namespace: str, token: Secret
    ) -> None:
        """Do nothing yet.

        Args:
            cluster: Where the objects are.
            runtime: For its clock.
            namespace: Of the webhook.
            token: The cluster's; the webhook is given the schedulers', which follows from it.
        """
        self._cluster = cluster
        self._runtime = runtime
        self._namespace = namespace
        self._token = scheduler_token(token)
        self._names = names_of(namespace)

    def work(self) -> None:
        """Look what is there and bring it in order; for calling about once a minute.

        Raises:
            NotKnownError: A secret of the installation is gone.
            CacheFSError: The API server does not answer, or we may not; nothing is half done by that.
        """
        for _ in range(_STEPS_LIMIT):
            read = self._read()
            step = next_step(self._runtime.wall(), _seen(read), self._names)
            try:
                if step is not None:
                    self._carry_out(step, read)
                elif not self._tend(read):
                    return
            except ConflictError:
                # Somebody else was faster. What is left to do is seen from what they did.
                _log.info("the webhook's certificates were changed by somebody else")
        _log.warning("the webhook's certificates are not yet in order")

    def _read(self) -> _Read:
        return _Read(
            self._needed(AUTHORITY_SECRET),
            self._needed(SERVING_SECRET),
            self._cluster.get(kinds.MUTATING_WEBHOOKS, CONFIGURATION),
            self._cluster.get(kinds.CONFIG_MAPS, BUNDLE_MAP, self._namespace),
        )

    def _needed(self, name: str) -> Document:
        found = self._cluster.get(kinds.SECRETS, name, self._namespace)
        if found is None:
            raise NotKnownError(
                "the webhook's secret is gone",
                subject=f"{self._namespace}/{name}",
                hint="apply the installation's manifests again",
            )
        return found

    def _carry_out(self, step: Step, read: _Read) -> None:
        match step:
            case Keep(authorities):
                written = {_AUTHORITIES: _encoded(authorities)}
                self._cluster.replace(_with_secrets(read.authorities, written))
            case Trust(bundle):
                if read.configuration is not None:
                    self._cluster.replace(_trusting(read.configuration, bundle))
            case Serve(pair):
                written = {CERTIFICATE: pair.certificate, KEY: pair.key}
                self._cluster.replace(_with_secrets(read.serving, written))
        _log.info("changed the webhook's certificates", extra={"step": type(step).__name__.lower()})

    def _tend(self, read: _Read) -> bool:
        """Bring what nothing else hangs on in order; return whether anything was changed."""
        token = self._token.reveal().encode()
        if _secrets(read.serving).get(TOKEN) != token:
            self._cluster.replace(_with_secrets(read.serving, {TOKEN: token}))
            return True
        bundle = bundle_of(_decoded(_secrets(read.authorities))).decode()
        if read.bundle is not None and (read.bundle.get("data") or {}).get(BUNDLE) != bundle:
            data = {**(read.bundle.get("data") or {}), BUNDLE: bundle}
            self._cluster.replace({**read.bundle, "data": data})
            return True
        return False


def names_of(namespace: str) -> tuple[str, ...]:
    """Return the DNS names of the webhook; API servers use the first."""
    return (
        f"{_SERVICE}.{namespace}.svc",
        f"{_SERVICE}.{namespace}.svc.cluster.local",
        f"{_SERVICE}.{namespace}",
        _SERVICE,
    )


def _seen(read: _Read) -> Seen:
    serving = _secrets(read.serving)
    pair = None
    if CERTIFICATE in serving and KEY in serving:
        pair = Pair(serving[CERTIFICATE], serving[KEY])
    return Seen(_decoded(_secrets(read.authorities)), _trusted(read.configuration), pair)


def _trusted(configuration: Document | None) -> bytes | None:
    """Return what all entries of a configuration trust; nothing where they differ, so that all are written."""
    webhooks = (configuration or {}).get("webhooks")
    if not webhooks:
        return None
    bundles = {str(each["clientConfig"].get("caBundle") or "") for each in webhooks}
    return _plain(bundles.pop()) if len(bundles) == 1 else b""


def _trusting(configuration: Document, bundle: bytes) -> Document:
    written = base64.b64encode(bundle).decode()
    webhooks = [
        {**each, "clientConfig": {**each["clientConfig"], "caBundle": written}}
        for each in configuration["webhooks"]
    ]
    return {**configuration, "webhooks": webhooks}


def _secrets(secret: Document) -> dict[str, bytes]:
    return {key: _plain(str(value)) for key, value in (secret.get("data") or {}).items()}


def _with_secrets(secret: Document, written: Mapping[str, bytes]) -> Document:
    encoded = {key: base64.b64encode(value).decode() for key, value in written.items()}
    return {**secret, "data": {**(secret.get("data") or {}), **encoded}}


def _plain(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return b""


def _encoded(authorities: tuple[Authority, ...]) -> bytes:
    rows = [
        {
            "certificate": each.certificate.decode(),
            "key": each.key.decode(),
            "trusted_since": each.trusted_since,
        }
        for each in authorities
    ]
    return json.dumps(rows).encode()


def _decoded(secrets: Mapping[str, bytes]) -> tuple[Authority, ...]:
    """Return the authorities that were kept; none if what is there makes no sense."""
    try:
        rows = json.loads(secrets.get(_AUTHORITIES, b"[]"))
        return tuple(
            Authority(
                str(row["certificate"]).encode(),
                str(row["key"]).encode(),
                None if row["trusted_since"] is None else float(row["trusted_since"]),
            )
            for row in rows
        )
    except (ValueError, TypeError, KeyError):
        return ()
