"""Applying: an installation's objects, made or changed in the order in which they need one another.

Everything is a server-side apply: what is said is so afterwards, what others said stays, and doing it twice
changes nothing. What an earlier installation had and this one has not, is removed, but nothing that holds data.
"""

import base64
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from cachefs.errors import ConfigError
from cachefs.k8s import kinds
from cachefs.k8s.calls import Document
from cachefs.k8s.cluster import Cluster
from cachefs.k8s.installation import Installation
from cachefs.k8s.installing import readiness
from cachefs.k8s.installing.differences import differences
from cachefs.k8s.manifests.parts import TOKEN_SECRET, headed
from cachefs.k8s.manifests.whole import definitions, documents, namespaces, objects
from cachefs.k8s.manifests.workers import DEFAULT_POOL
from cachefs.k8s.names import CACHE_POOLS, MANAGED_BY, Kind
from cachefs.ports import Runtime

LEAST_VERSION = (1, 30)
"""What the rules of our custom resources need: the first with CEL's optional values and messages."""
_DEFINITION_SECONDS = 60.0
_HOLDS_DATA = ("PersistentVolumeClaim", "Namespace", "CustomResourceDefinition", "CachePool")
"""Kinds of which nothing is removed because it is not wanted any more."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Installer:
    """Installs on one cluster."""

    cluster: Cluster
    runtime: Runtime
    say: Say
    """Told what was done, a line at a time."""

    def install(self, wanted: Installation, *, resizes: bool, wait_seconds: float) -> None:
        """Make everything so, and wait until it is ready.

        Args:
            wanted: What is to be there.
            resizes: Whether the default pool shall have the installation's number of workers even if it is
                there and has another: whoever scaled it meant that.
            wait_seconds: For all pods together; 0 does not wait.

        Raises:
            ConfigError: The cluster is too old, or the namespaces have different tokens.
            DeniedError: Whoever asks may not.
            DeadlineError: Something is not ready in time; what was done stays.
            ApiServerUnavailableError: Nobody answers.
        """
        self._check_version()
        for document in (*definitions(wanted), *namespaces(wanted)):
            self._apply(document)
        names = [one["metadata"]["name"] for one in definitions(wanted)]
        readiness.wait_for(
            self.runtime,
            self.runtime.monotonic() + _DEFINITION_SECONDS,
            "custom resources",
            lambda: readiness.unready_definitions(self.cluster, names),
        )
        self._share_token(wanted)
        for document in objects(wanted):
            self._apply(self._sized(document, resizes=resizes))
        for document in self._left_over(wanted):
            metadata = document["metadata"]
            self.cluster.delete(
                kinds.of(document),
                metadata["name"],
                metadata.get("namespace", ""),
                uid=metadata["uid"],
            )
            self.say(f"removed {named(document)}")
        if wait_seconds:
            self._wait(wanted, wait_seconds)

    def plan(self, wanted: Installation, *, resizes: bool) -> Iterator[str]:
        """Yield what ``install`` would do, a line for each object that is not as it is wanted."""
        self._check_version()
        for document in documents(wanted):
            there = self._get(document)
            if there is None:
                yield f"make {named(document)}"
                continue
            changes = list(differences(self._sized(document, resizes=resizes), there))
            if changes:
                yield f"change {named(document)}"
                yield from (f"  {change}" for change in changes)
        for namespace in self._namespaces(wanted):
            if self.cluster.get(kinds.SECRETS, TOKEN_SECRET, namespace) is None:
                yield f"make Secret {namespace}/{TOKEN_SECRET}, with the token that all share"
        for document in self._left_over(wanted):
            yield f"remove {named(document)}"

    def _check_version(self) -> None:
        version = self.cluster.version()
        if version < LEAST_VERSION:
            raise ConfigError(
                f"Kubernetes {version[0]}.{version[1]} is too old",
                hint=f"{LEAST_VERSION[0]}.{LEAST_VERSION[1]} or newer",
            )

    def _apply(self, document: Document) -> None:
        before = self._get(document)
        after = self.cluster.apply(document)
        if before is None:
            self.say(f"made {named(document)}")
        elif before["metadata"]["resourceVersion"] != after["metadata"]["resourceVersion"]:
            self.say(f"changed {named(document)}")

    def _get(self, document: Document) -> Document | None:
        metadata = document["metadata"]
        return self.cluster.get(kinds.of(document), metadata["name"], metadata.get("namespace", ""))

    def _sized(self, document: Document, *, resizes: bool) -> Document:
        """Return a pool with the number of workers that it has, if it is there."""
        if document["kind"] != CACHE_POOLS.kind or resizes:
            return document
        there = self._get(document)
        if there is None or "workers" not in there["spec"]:
            return document
        return {**document, "spec": {**document["spec"], "workers": there["spec"]["workers"]}}

    def _namespaces(self, wanted: Installation) -> list[str]:
        return [one["metadata"]["name"] for one in namespaces(wanted)]

    def _share_token(self, wanted: Installation) -> None:
        """See to it that all namespaces have the same token; make one if none has."""
        held: dict[str, str] = {}
        for namespace in self._namespaces(wanted):
            secret = self.cluster.get(kinds.SECRETS, TOKEN_SECRET, namespace)
            if secret is not None:
                held[namespace] = (secret.get("data") or {}).get("token", "")
        if len(set(held.values())) > 1:
            raise ConfigError(
                "the namespaces have different tokens",
                subject=", ".join(f"{namespace}/{TOKEN_SECRET}" for namespace in held),
                hint="delete the wrong one; it is then copied from the other",
            )
        made = next(iter(held.values()), "") or _new_token()
        for namespace in self._namespaces(wanted):
            if namespace not in held:
                head = headed("v1", "Secret", TOKEN_SECRET, "token", namespace)
                self.cluster.create({**head, "type": "Opaque", "data": {"token": made}})
                self.say(f"made Secret {namespace}/{TOKEN_SECRET}, with the token that all share")

    def _left_over(self, wanted: Installation) -> list[Document]:
        """Return what an earlier installation made and this one does not want."""
        keep = {_key(document) for document in documents(wanted)}
        whole = replace(wanted, plain=False, csi=True, webhook=True, observing=True)
        left = {}
        for document in documents(whole):
            key = _key(document)
            # Beside a plain installation there may be another one, to which the rest belongs.
            is_elsewhere = (
                wanted.plain and document["metadata"].get("namespace") != wanted.namespace
            )
            if key in keep or document["kind"] in _HOLDS_DATA or is_elsewhere:
                continue
            there = self._get(document)
            if there is not None and _is_ours(there):
                left[key] = there
        return list(left.values())

    def _wait(self, wanted: Installation, seconds: float) -> None:
        self.say("waiting for pods")
        where = self._namespaces(wanted)

        def missing() -> Sequence[str]:
            found = readiness.unready_workloads(self.cluster, where)
            return found if wanted.plain else [*found, *self._unready_pool(wanted)]

        readiness.wait_for(self.runtime, self.runtime.monotonic() + seconds, "not ready", missing)
        self.say("all pods are ready")

    def _unready_pool(self, wanted: Installation) -> list[str]:
        pools = readiness.unready_objects(self.cluster, [wanted.namespace])
        return [line for line in pools if line.startswith(f"pool {DEFAULT_POOL}:")]


def named(document: Document) -> str:
    """Return what an object is called, for people: ``Deployment cachefs/cachefs-operator``."""
    metadata = document["metadata"]
    where = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{document['kind']} {where}{metadata['name']}"


def _key(document: Document) -> tuple[Kind, str, str]:
    metadata = document["metadata"]
    return kinds.of(document), metadata.get("namespace", ""), metadata["name"]


def _is_ours(document: Document) -> bool:
    labels = document["metadata"].get("labels") or {}
    return bool(labels.get(MANAGED_BY) == "cachefs")


def _new_token() -> str:
    """Return a token as a secret's ``data`` has it."""
    return base64.b64encode(secrets.token_urlsafe(32).encode()).decode()
