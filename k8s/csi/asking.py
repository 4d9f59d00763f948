"""Whom the driver asks: the coordinator about versions, the API server about who may use a dataset.

Neither must be up for everything. A target that was published before has its version, and datasets of a pod's
own namespace need nobody's word. For a dataset that another namespace shares, the last answer counts as long as
the API server gives none.
"""

from collections import OrderedDict
from typing import Any, Protocol
from urllib.parse import urlencode

from cachefs.core.names import DatasetName
from cachefs.errors import CacheFSError
from cachefs.k8s import names
from cachefs.ports import Runtime
from cachefs.transport.api import Api
from cachefs.wire.http import decode_version

FRESH_SECONDS = 10.0
"""How long an answer of the API server counts without asking again."""
_ANSWERS_MAX = 4096
_ANSWER_SECONDS_MIN = 1.0


class HttpVersions:
    """Implements :class:`cachefs.k8s.csi.publishing.Versions` on the coordinator's HTTP API."""

    def __init__(self, runtime: Runtime, api: Api) -> None:
        """Ask nobody yet."""
        self._runtime = runtime
        self._api = api

    def identify(self, name: DatasetName, version: str, *, deadline: float) -> str:
        """Return the whole id of a version."""
        query = urlencode({"dataset": str(name), **({"version": version} if version else {})})
        seconds = max(_ANSWER_SECONDS_MIN, deadline - self._runtime.monotonic())
        answer = self._api.fetch("GET", f"/v1/versions?{query}", timeout_seconds=seconds)
        return decode_version(answer).version


class Objects(Protocol):
    """The part of :class:`cachefs.k8s.cluster.Cluster` that is needed here."""

    def get(
        self, kind: names.Kind, name: str, namespace: str = ""
    ) -> dict[str, Any] | None:  # Any: a document of Kubernetes
        """Return an object; ``None`` if there is none."""
        ...


class SharedDatasets:
    """Who may use a dataset, by ``spec.sharedWith`` of its object. Safe from any thread."""

    def __init__(self, runtime: Runtime, objects: Objects | None) -> None:
        """Ask nobody yet; without an API server, nothing is shared."""
        self._runtime = runtime
        self._objects = objects
        self._guard = runtime.condition()
        self._answers: OrderedDict[DatasetName, tuple[float, tuple[str, ...]]] = OrderedDict()

    def namespaces(self, name: DatasetName) -> tuple[str, ...]:
        """Return the namespaces that may use a dataset besides its own.

        Raises:
            CacheFSError: The API server does not answer, and never did about this one.
        """
        if self._objects is None:
            return ()
        now = self._runtime.monotonic()
        with self._guard:
            known = self._answers.get(name)
        if known is not None and now - known[0] < FRESH_SECONDS:
            return known[1]
        try:
            document = self._objects.get(names.DATASETS, name.name, name.namespace)
        except CacheFSError:
            if known is None:
                raise
            # Counts for a while again: nobody shall wait for the API server at each volume.
            shared = known[1]
        else:
            shared = () if document is None else _shared(document)
        with self._guard:
            self._answers[name] = now, shared
            self._answers.move_to_end(name)
            while len(self._answers) > _ANSWERS_MAX:
                self._answers.popitem(last=False)
        return shared


def _shared(document: dict[str, Any]) -> tuple[str, ...]:  # Any: a document of Kubernetes
    listed = (document.get("spec") or {}).get("sharedWith") or []
    return (
        tuple(each for each in listed if isinstance(each, str)) if isinstance(listed, list) else ()
    )
