"""The single door to Kubernetes' API server: any kind, as plain documents, with errors of our own.

The package ``kubernetes`` says where the server is, whom we are and whom we trust (in a pod the token of the
service account, which it reads anew as the kubelet renews it; else a kubeconfig with all its plug-ins). Its
hundreds of generated classes are left alone: an object is the document that its author would write in YAML.

**Every call has a time limit**, waits between attempts included. What can be repeated without harm (reads,
patches, deletions) is repeated when the server is busy or gone, after the time that it asks for
(``Retry-After``) and with jitter. Creating and replacing are repeated only if the server said that it did
nothing (429): for a second attempt they would find what the first one made.

**Watches end**: the server closes them after the seconds that were asked for, and where it does not, we do.
After the end one goes on from the last change's version; where that is too old (410) one lists again.
"""

import logging
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import yaml
from kubernetes import config as kubernetes_config
from kubernetes.client import Configuration

from cachefs.errors import (
    ApiServerUnavailableError,
    CacheFSError,
    ConfigError,
    ConflictError,
    NotKnownError,
)
from cachefs.k8s import kinds
from cachefs.k8s.calls import AgedError, Call, Calls, Document
from cachefs.k8s.names import FIELD_MANAGER, Kind
from cachefs.transport.runtime import ThreadRuntime

_TELL_SECONDS = 5.0
_PAGE = 500
"""Objects a page; what the server's own clients ask for."""
_WATCH_GRACE_SECONDS = 10.0
"""After its time, a watch is ended by us."""
_MESSAGE_CHARACTERS_MAX = 1024
"""Of an event; the server refuses more."""
_NO_LABELS: Mapping[str, str] = MappingProxyType({})
_OURS: Mapping[str, str] = MappingProxyType({"fieldManager": FIELD_MANAGER})
_APPLY = "application/apply-patch+yaml"
_OPERATIONS = "application/json-patch+json"
_MERGE = "application/merge-patch+json"
_LOADERS: Any = kubernetes_config  # Any: this part of the package has no types
_NO_CONFIGURATION = (
    *(kubernetes_config.ConfigException, OSError, ValueError, yaml.YAMLError),
    *(TypeError, KeyError, AttributeError),  # the package takes for granted what a file says
)
_log = logging.getLogger("cachefs.k8s")


@dataclass(frozen=True, slots=True)
class Listing:
    """The objects of a kind at one moment."""

    documents: tuple[Document, ...]
    version: str
    """From where a watch goes on."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a watch saw."""

    what: str
    """``ADDED``, ``MODIFIED``, ``DELETED``; ``BOOKMARK`` says only that the version is this by now."""
    document: Document

    @property
    def version(self) -> str:
        """From where the next watch goes on."""
        return str(self.document["metadata"]["resourceVersion"])


class Cluster:
    """One API server; safe from any thread. It raises errors of :mod:`cachefs.errors` only."""

    def __init__(self, calls: Calls) -> None:
        """Connect to nobody yet."""
        self._calls = calls

    def get(self, kind: Kind, name: str, namespace: str = "") -> Document | None:
        """Return an object; ``None`` if there is none.

        Raises:
            DeniedError: We may not.
            ApiServerUnavailableError: Nobody answers.
        """
        try:
            return self._make("GET", _path(kind, namespace, name))
        except NotKnownError:
            return None

    def find(
        self, kind: Kind, namespace: str = "", *, labels: Mapping[str, str] = _NO_LABELS
    ) -> list[Document]:
        """Return the objects of a kind, of all namespaces for an empty one.

        Raises:
            NotKnownError: The server has no such kind.
            DeniedError: We may not.
            ApiServerUnavailableError: Nobody answers.
        """
        return list(self.listing(kind, namespace, labels=labels).documents)

    def listing(
        self, kind: Kind, namespace: str = "", *, labels: Mapping[str, str] = _NO_LABELS
    ) -> Listing:
        """Return the objects of a kind, and from where to watch for what follows; raises as ``find``."""
        query = {"limit": str(_PAGE), **_selector(labels)}
        found: list[Document] = []
        while True:
            try:
                page = self._make("GET", _path(kind, namespace), query)
            except AgedError:
                # The pages that are left have aged away: all of it in one piece, then.
                query, found = _selector(labels), []
                continue
            head = page["metadata"]
            # In a list, objects do not say what they are.
            one = {"apiVersion": kind.api_version, "kind": kind.kind}
            found += [{**one, **item} for item in page.get("items") or ()]
            if not head.get("continue"):
                return Listing(tuple(found), str(head.get("resourceVersion", "")))
            query["continue"] = head["continue"]

    def watch(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        labels: Mapping[str, str] = _NO_LABELS,
        since: str,
        seconds: float,
    ) -> Iterator[Change]:
        """Yield what changes after a version, until a time is over; closing it ends the connection.

        Args:
            kind: Of which objects.
            namespace: Of which; empty for all.
            labels: That they have.
            since: A listing's version, or a change's.
            seconds: How long; whole seconds, one at least.

        Raises:
            NotKnownError: The version is too old: list again. Or the server has no such kind.
            DeniedError: We may not.
            ApiServerUnavailableError: It broke off; one may go on from the last change.
        """
        whole = max(1, round(seconds))
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": since,
            "timeoutSeconds": str(whole),
            **_selector(labels),
        }
        call = Call(
            method="GET",
            path=_path(kind, namespace),
            query=query,
            timeout_seconds=whole + _WATCH_GRACE_SECONDS,
        )
        for change in self._calls.stream(call):
            yield Change(str(change["type"]), change["object"])

    def create(self, document: Document) -> Document:
        """Make an object.

        Raises:
            ConflictError: It is there.
            ConfigError: The server takes no such object.
            DeniedError: We may not.
            ApiServerUnavailableError: Nobody answered; it may have been made.
        """
        kind = kinds.of(document)
        return self._make("POST", _path(kind, _namespace(document)), _OURS, document)

    def apply(self, document: Document, *, dry_run: bool = False) -> Document:
        """Make an object as it is said here, or change it so; what is not said here stays others'.

        What we said before and do not say now is removed. With ``dry_run`` nothing changes, and the answer is what
        would be there. Raises as ``create`` but for ``ConflictError``.
        """
        kind, name = kinds.of(document), str(document["metadata"]["name"])
        query = {**_OURS, "force": "true", **({"dryRun": "All"} if dry_run else {})}
        return self._make("PATCH", _path(kind, _namespace(document), name), query, document, _APPLY)

    def replace(self, document: Document) -> Document:
        """Change an object that was read before, and that nobody has changed since.

        Raises:
            ConflictError: Somebody has, or it is gone and another of its name is there.
            NotKnownError: It is gone.
            ConfigError: The server takes no such object.
            DeniedError: We may not.
            ApiServerUnavailableError: Nobody answered; it may have been changed.
        """
        kind, name = kinds.of(document), str(document["metadata"]["name"])
        return self._make("PUT", _path(kind, _namespace(document), name), _OURS, document)

    def patch(
        self, kind: Kind, name: str, namespace: str, patch: Document, *, subresource: str = ""
    ) -> Document:
        """Change some fields of an object (a JSON merge patch; ``None`` removes one).

        With ``metadata.resourceVersion`` in the patch it is refused if somebody changed the object.

        Raises:
            ConflictError: Somebody has.
            NotKnownError: There is no such object.
            ConfigError: The server takes no such change.
            DeniedError: We may not.
            ApiServerUnavailableError: Nobody answers.
        """
        path = _path(kind, namespace, name) + (f"/{subresource}" if subresource else "")
        return self._make("PATCH", path, _OURS, patch, _MERGE)

    def edit(
        self, kind: Kind, name: str, namespace: str, operations: Sequence[Document]
    ) -> Document:
        """Change an object by operations (a JSON patch): all of them, or none.

        Raises:
            ConfigError: A test among them fails, or the server takes no such change.
            NotKnownError: There is no such object.
            DeniedError: We may not.
            ApiServerUnavailableError: Nobody answers.
        """
        path = _path(kind, namespace, name)
        return self._make("PATCH", path, _OURS, list(operations), _OPERATIONS)

    def delete(self, kind: Kind, name: str, namespace: str = "", *, uid: str = "") -> None:
        """Remove an object, and in the background what it owns; one that is gone is no error.

        Args:
            kind: Its kind.
            name: Its name.
            namespace: Its namespace.
            uid: Only if it is the very one; another of the same name stays.

        Raises:
            DeniedError: We may not.
            ApiServerUnavailableError: Nobody answers.
        """
        options: Document = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
        }
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            self._make("DELETE", _path(kind, namespace, name), {}, options)
        except NotKnownError:
            return
        except ConflictError:
            if not uid:
                raise

    def log(self, pod: str, namespace: str, *, container: str, lines: int, bytes_max: int) -> str:
        """Return the end of what a container wrote.

        Args:
            pod: The pod's name.
            namespace: Its namespace.
            container: Which of its containers.
            lines: How many of the last lines.
            bytes_max: And of these no more than the first so many bytes.

        Raises:
            ConfigError: The container has not begun.
            NotKnownError: There is no such pod.
            DeniedError: We may not.
            ApiServerUnavailableError: Nobody answers.
        """
        path = _path(kinds.PODS, namespace, pod) + "/log"
        query = {"container": container, "tailLines": str(lines), "limitBytes": str(bytes_max)}
        content = self._calls.fetch(Call(method="GET", path=path, query=query))
        return content.decode(errors="replace")

    def version(self) -> tuple[int, int]:
        """Return the API server's version: ``(1, 34)``.

        Raises:
            DeniedError: It does not know us.
            ApiServerUnavailableError: Nobody answers, or something else does.
        """
        told = self._make("GET", "/version")
        numbers = [re.match(r"\d+", str(told.get(each))) for each in ("major", "minor")]
        if numbers[0] is None or numbers[1] is None:
            raise ApiServerUnavailableError("who answers is no API server of Kubernetes")
        return int(numbers[0][0]), int(numbers[1][0])

    def tell(self, about: Document, reason: str, message: str, *, warning: bool = False) -> None:
        """Tell whoever looks at an object (``kubectl describe``) what happened; never fails.

        Args:
            about: The object.
            reason: A word, ``LikeThis``, by which programs sort events.
            message: For people.
            warning: Whether somebody should look.
        """
        head = about["metadata"]
        now = datetime.fromtimestamp(self._calls.runtime.wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        namespace = head.get("namespace", "")
        if len(message) > _MESSAGE_CHARACTERS_MAX:
            message = message[: _MESSAGE_CHARACTERS_MAX - 1] + "…"
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{head['name'][:200]}.{uuid.uuid4().hex[:16]}",
                # Events about what has no namespace are kept there.
                "namespace": namespace or "default",
            },
            "involvedObject": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": head["name"],
                **({"namespace": namespace} if namespace else {}),
                **({"uid": head["uid"]} if "uid" in head else {}),
            },
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "message": message,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": FIELD_MANAGER},
            "reportingComponent": FIELD_MANAGER,
        }
        call = Call(
            method="POST",
            path=_path(kinds.EVENTS, namespace or "default"),
            query=_OURS,
            body=event,
            timeout_seconds=_TELL_SECONDS,
            once=True,
        )
        try:
            self._calls.make(call)
        except CacheFSError as error:
            _log.warning("an event was not told", extra={"reason": reason, "problem": str(error)})

    def identity(self) -> dict[str, Any]:  # Any: flags and texts
        """Return where the server is and who we are, in the words of kopf's ``ConnectionInfo``."""
        return self._calls.identity()

    def _make(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] = _NO_LABELS,
        body: Document | list[Document] | None = None,
        form: str = "application/json",
    ) -> Document:
        return self._calls.make(Call(method=method, path=path, query=query, body=body, form=form))


def open_cluster(kubeconfig: Path | None = None) -> Cluster:
    """Return the cluster that we are in, or else the one that a kubeconfig names.

    Args:
        kubeconfig: Its path, which then counts before anything else; ``None`` for a pod's own
            configuration, or the usual path outside of one.

    Raises:
        ConfigError: Neither is there, or it makes no sense.
    """
    configuration = Configuration()
    try:
        if kubeconfig is not None:
            _LOADERS.load_kube_config(
                str(kubeconfig), client_configuration=configuration, persist_config=False
            )
        else:
            _load(configuration)
    except _NO_CONFIGURATION as error:
        where = kubeconfig or _LOADERS.KUBE_CONFIG_DEFAULT_LOCATION
        mark = getattr(error, "problem_mark", None)
        told = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ConfigError(
            "cannot tell which cluster is meant",
            subject=f"{where}:{mark.line + 1}" if mark else str(where),
            hint=told or type(error).__name__,
        ) from error
    return Cluster(Calls(configuration, ThreadRuntime()))


def _load(configuration: Configuration) -> None:
    try:
        _LOADERS.load_incluster_config(client_configuration=configuration)
    except kubernetes_config.ConfigException:
        _LOADERS.load_kube_config(client_configuration=configuration, persist_config=False)


def _path(kind: Kind, namespace: str, name: str | None = None) -> str:
    root = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.api_version}"
    where = f"/namespaces/{quote(namespace, safe='')}" if kind.namespaced and namespace else ""
    if name is not None and not name:
        # A path without it would mean all of them.
        raise ConfigError("an object has a name", subject=kind.kind)
    return f"{root}{where}/{kind.plural}" + (f"/{quote(name, safe='')}" if name else "")


def _namespace(document: Document) -> str:
    return str(document["metadata"].get("namespace", ""))


def _selector(labels: Mapping[str, str]) -> dict[str, str]:
    if not labels:
        return {}
    terms = (f"{name}={value}" for name, value in sorted(labels.items()))
    return {"labelSelector": ",".join(terms)}
