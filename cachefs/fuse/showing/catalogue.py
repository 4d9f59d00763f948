"""The coordinator's lists, as a mount of all datasets and ``user.cachefs.residency`` need them."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName
from cachefs.errors import CoordinatorUnavailableError
from cachefs.fuse.showing.currents import KeptVersion
from cachefs.ports import Metadata, Runtime
from cachefs.transport.api import Api, pages


class HttpCatalogue:
    """Implements :class:`cachefs.fuse.showing.namespace.Catalogue` on the coordinator's HTTP API."""

    def __init__(self, runtime: Runtime, api: Api, metadata: Metadata, *, node: str) -> None:
        """Ask nobody yet.

        Args:
            runtime: For its clock.
            api: The coordinator's.
            metadata: For the members, to tell which of them are here.
            node: This machine's identity.
        """
        self._runtime = runtime
        self._api = api
        self._metadata = metadata
        self._node = node

    def datasets(self, *, timeout_seconds: float) -> Sequence[DatasetName]:
        """Return all datasets."""
        get = partial(self._get, until=self._runtime.monotonic() + timeout_seconds)
        listed = pages(get, "/v1/datasets", following="after")
        return [DatasetName.parse(each["name"]) for page in listed for each in page["datasets"]]

    def versions(self, name: DatasetName, *, timeout_seconds: float) -> Sequence[KeptVersion]:
        """Return the versions of a dataset that are kept, the newest first."""
        until = self._runtime.monotonic() + timeout_seconds
        answer = self._get(f"/v1/datasets/{name.namespace}/{name.name}/versions", until)
        return [
            KeptVersion(VersionId(each["id"]), each["listed_at"]) for each in answer["versions"]
        ]

    def residency(
        self, name: DatasetName, version: VersionId, path: str, *, timeout_seconds: float
    ) -> dict[str, Any]:  # Any: JSON
        """Return how many blocks of a file are on this node, and on each worker."""
        until = self._runtime.monotonic() + timeout_seconds
        here = {
            member.worker
            for member in self._metadata.view(deadline=until).members
            if member.node == self._node
        }
        workers: Counter[str] = Counter()
        near = 0
        query = {"dataset": str(name), "version": version, "path": path}
        get = partial(self._get, until=until)
        for page in pages(get, "/v1/explain", following="first", query=query):
            for block in page["blocks"]:
                holders = {holder["worker"] for holder in block["holders"]}
                workers.update(holders)
                near += bool(holders & here)
        return {"here": near, "workers": dict(workers)}

    def _get(self, path: str, until: float) -> Any:  # Any: JSON
        left = until - self._runtime.monotonic()
        if left <= 0:
            raise CoordinatorUnavailableError("the coordinator did not answer in time")
        return self._api.get(path, timeout_seconds=left)
