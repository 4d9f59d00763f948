"""Applying: an installation's objects, made or changed in the order in which they need one another.

Everything is a server-side apply: what is said is so afterwards, what others said stays, and doing it twice
changes nothing. What an earlier installation had and this one has not, is removed, but nothing that holds data.

Before anything is changed the server is asked whether it would take all of it (``dryRun``): what it refuses, such
as another disk for a claim that is there, it refuses while all is still as it was. Objects whose namespace or kind
is not there yet can only be asked about once it is, which is before the first of them is made.
"""

import base64
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from cachefs.errors import ConfigError, ConflictError, NotKnownError
from cachefs.k8s import kinds
from cachefs.k8s.calls import Document
from cachefs.k8s.cluster import Cluster
from cachefs.k8s.installation import Installation
from cachefs.k8s.installing import readiness, remembering
from cachefs.k8s.installing.differences import changes, differences
from cachefs.k8s.manifests.parts import TOKEN_SECRET, headed
from cachefs.k8s.manifests.whole import definitions, documents, namespaces, objects
from cachefs.k8s.manifests.workers import DEFAULT_POOL
from cachefs.k8s.names import CACHE_POOLS, GROUP, MANAGED_BY, Kind
from cachefs.ports import Runtime

LEAST_VERSION = (1, 30)
"""What the rules of our custom resources need: the first with CEL's optional values and messages."""
_DEFINITION_SECONDS = 60.0
_OTHERS = frozenset({kinds.POD_MONITORS, kinds.PROMETHEUS_RULES})
"""Kinds that somebody else defines."""
_HOLDS_DATA = ("PersistentVolumeClaim", "Namespace", "CustomResourceDefinition", "CachePool")
"""Kinds of which nothing is removed because it is not wanted any more."""

NOTHING_TO_CHANGE = "nothing to change"

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
            ConfigError: The cluster is too old, or refuses something, or the namespaces have different tokens.
            ConflictError: It is installed in another namespace.
            NotKnownError: The cluster lacks a kind of object that somebody else should have defined.
            DeniedError: Whoever asks may not.
            DeadlineError: Something is not ready in time; what was done stays.
            ApiServerUnavailableError: Nobody answers.
        """
        self._check_version()
        self._check_place(wanted)
        first = [*definitions(wanted), *namespaces(wanted)]
        # What is wanted is remembered before it is so: whoever tries again after a failure means the same.
        rest = [remembering.record(wanted), *objects(wanted)]
        rest = [self._sized(document, resizes=resizes) for document in rest]
        later = self._rehearse([*first, *rest], hint="nothing was changed")
        found = [self._apply(document) for document in first]
        names = [one["metadata"]["name"] for one in definitions(wanted)]
        readiness.wait_for(
            self.runtime,
            self.runtime.monotonic() + _DEFINITION_SECONDS,
            "custom resources",
            lambda: readiness.unready_definitions(self.cluster, names),
        )
        self._rehearse(later, hint="only definitions and namespaces were made")
        found.append(self._share_token(wanted))
        found += [self._apply(document) for document in rest]
        left_over = self._left_over(wanted)
        for document in left_over:
            metadata = document["metadata"]
            self.cluster.delete(
                kinds.of(document),
                metadata["name"],
                metadata.get("namespace", ""),
                uid=metadata["uid"],
            )
            self.say(f"removed {named(document)}")
        if not any(found) and not left_over:
            self.say(NOTHING_TO_CHANGE)
        if wait_seconds:
            self._wait(wanted, wait_seconds)

    def plan(self, wanted: Installation, *, resizes: bool) -> Iterator[str]:
        """Yield what ``install`` would do, a line for each object that is not as it is wanted; raises as it would."""
        self._check_version()
        self._check_place(wanted)
        all_of_it = [*documents(wanted), remembering.record(wanted)]
        all_of_it = [self._sized(document, resizes=resizes) for document in all_of_it]
        for document in all_of_it:
            there = self._get(document)
            if there is None:
                yield f"make {named(document)}"
                continue
            found = list(self._changes(document, there))
            if found:
                yield f"change {named(document)}"
                yield from (f"  {change}" for change in found)
        for namespace in self._namespaces(wanted):
            if self.cluster.get(kinds.SECRETS, TOKEN_SECRET, namespace) is None:
                yield f"make Secret {namespace}/{TOKEN_SECRET}, with the token that all share"
        for document in self._left_over(wanted):
            yield f"remove {named(document)}"
        self._rehearse(all_of_it, hint="nothing was changed")

    def _changes(self, document: Document, there: Document) -> Iterator[str]:
        """Yield what applying changes of an object, by the server's word, or by ours where it refuses."""
        try:
            yield from changes(there, self.cluster.apply(document, dry_run=True))
        except (ConfigError, NotKnownError):
            yield from differences(there, document)

    def _rehearse(self, all_of_it: Sequence[Document], *, hint: str) -> list[Document]:
        """Ask the server whether it takes objects; return those that it cannot be asked about yet."""
        later = []
        spaces: dict[str, bool] = {}
        changing = {
            one["metadata"]["name"]
            for one in all_of_it
            if one["kind"] == kinds.CUSTOM_RESOURCES.kind
            and ((there := self._get(one)) is None or any(differences(there, one)))
        }
        for kind in {kinds.of(document) for document in all_of_it} & _OTHERS:
            self._check_kind(kind)
        for document in all_of_it:
            kind, namespace = kinds.of(document), document["metadata"].get("namespace", "")
            if namespace and namespace not in spaces:
                spaces[namespace] = self.cluster.get(kinds.NAMESPACES, namespace) is not None
            if f"{kind.plural}.{GROUP}" in changing or not spaces.get(namespace, True):
                later.append(document)
                continue
            try:
                self.cluster.apply(document, dry_run=True)
            except (ConfigError, NotKnownError, ConflictError) as error:
                raise type(error)(
                    f"refused: {error.message}", subject=named(document), hint=hint
                ) from error
        return later

    def _check_kind(self, kind: Kind) -> None:
        """Refuse monitors where nobody has defined them."""
        try:
            self.cluster.find(kind)
        except NotKnownError as error:
            raise NotKnownError(
                f"the cluster has no {kind.plural}.{kind.group}",
                hint="they are the Prometheus operator's; or --no-observing",
            ) from error

    def _check_place(self, wanted: Installation) -> None:
        """Refuse to take over what has no namespace from an installation in another one."""
        binding = self.cluster.get(kinds.CLUSTER_ROLE_BINDINGS, "cachefs-operator")
        subjects = (binding or {}).get("subjects") or ()
        where = next((one["namespace"] for one in subjects if one.get("namespace")), None)
        if not wanted.plain and where not in (None, wanted.namespace):
            raise ConflictError(
                f"installed in {where}", hint=f"--namespace {where}, or uninstall first"
            )

    def _check_version(self) -> None:
        version = self.cluster.version()
        if version < LEAST_VERSION:
            raise ConfigError(
                f"Kubernetes {version[0]}.{version[1]} is too old",
                hint=f"{LEAST_VERSION[0]}.{LEAST_VERSION[1]} or newer",
            )

    def _apply(self, document: Document) -> bool:
        """Make or change an object; return whether it was not so before."""
        before = self._get(document)
        after = self.cluster.apply(document)
        if before is None:
            self.say(f"made {named(document)}")
        elif before["metadata"]["resourceVersion"] != after["metadata"]["resourceVersion"]:
            self.say(f"changed {named(document)}")
        else:
            return False
        return True

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

    def _share_token(self, wanted: Installation) -> bool:
        """See to it that all namespaces have the same token; return whether one was made."""
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
        return len(held) < len(self._namespaces(wanted))

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
            unready = readiness.unready_workloads(self.cluster, where)
            found = [one.what for one in unready if not one.is_meant]
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
