"""Whose a program or a rollout is: the object that its run was started for.

The coordinator knows its callers by the cluster's token, which is also on nodes; the rights to make Jobs are
the operator's. So the operator does in a namespace only what an object of that namespace wants, for who may
make objects there the API server knows: a ``FlowRun`` whose status names this very run, or, for what a trigger
has started, the ``Flow`` that has the trigger. Of a flow within a flow the outermost decides.
"""

from collections.abc import Collection
from typing import Any
from urllib.parse import quote

from cachefs.errors import NotKnownError
from cachefs.k8s.cluster import Cluster
from cachefs.k8s.names import FLOW_RUNS, FLOWS, Kind
from cachefs.k8s.operator.actions import Document
from cachefs.k8s.operator.flows import flows, runs
from cachefs.transport.api import Api

_WITHIN = "flow "
"""How the cause of a run begins that a step of another run has started: then comes ``RUN/STEP``."""
_BY_HAND = "manual"
"""And of one that somebody has submitted. The coordinator writes causes itself; nobody gives it one."""
_DEPTH_MAX = 16
"""Twice as deep as the coordinator lets flows be."""


class Belonging:
    """Says which runs are wanted by an object. For one thread."""

    def __init__(self, cluster: Cluster, api: Api) -> None:
        """Look at nothing yet."""
        self._cluster = cluster
        self._api = api
        self._roots: dict[str, Any] = {}  # Any: the coordinator's JSON

    def keep(self, wanted: Collection[str]) -> None:
        """Forget what was learned of other runs than these."""
        self._roots = {run: root for run, root in self._roots.items() if run in wanted}

    def refusal(self, run: str, namespace: str) -> str | None:
        """Say why nothing is done in a namespace for a run; empty if it is, ``None`` if that is not known yet.

        Raises:
            CacheFSError: The coordinator or the API server cannot be asked now.
        """
        try:
            root = self._root(run)
        except NotKnownError:
            return f"there is no run {run}"
        made_from = runs.object_of(root["key"])
        if root["cause"].startswith(_BY_HAND):
            if made_from is None:
                return f"run {root['id']} is of no FlowRun; on a cluster programs and rollouts need one"
            return self._by_object(root["id"], made_from, namespace)
        return self._by_trigger(root["flow"], namespace)

    def _root(self, run: str) -> Any:  # Any: the coordinator's JSON
        found = self._roots.get(run)
        if found is not None:
            return found
        name = run
        for _ in range(_DEPTH_MAX):
            found = self._api.get(f"/v1/runs/{quote(name)}")["run"]
            if not found["cause"].startswith(_WITHIN):
                break
            name = found["cause"].removeprefix(_WITHIN).partition("/")[0]
        self._roots[run] = found
        return found

    def _by_object(self, run: str, made_from: tuple[str, str, str], namespace: str) -> str | None:
        home, name, uid = made_from
        found = self._live(FLOW_RUNS, home, name, uid) if home == namespace else None
        if found is None:
            return f"run {run} is of no FlowRun in namespace {namespace}"
        noted = (found.get("status") or {}).get("run")
        if not noted:
            return None  # it is noted in a moment; somebody else's run with its key never is
        return "" if noted == run else f"FlowRun {home}/{name} has another run than {run}"

    def _by_trigger(self, flow: str, namespace: str) -> str:
        home, _, name = flow.partition("/")
        owner = next(
            (one["owner"] for one in self._api.get("/v1/flows")["flows"] if one["flow"] == flow), ""
        )
        kind, _, rest = str(owner).partition(" ")
        live = (
            home == namespace
            and kind == flows.OWNER
            and self._live(FLOWS, home, name, rest.partition(" ")[0]) is not None
        )
        return "" if live else f"flow {flow} is no Flow in namespace {namespace}"

    def _live(self, kind: Kind, namespace: str, name: str, uid: str) -> Document | None:
        found = self._cluster.get(kind, name, namespace)
        if found is None or found["metadata"].get("deletionTimestamp"):
            return None
        return found if found["metadata"]["uid"] == uid else None
