"""Looking at runs: what the API server and the coordinator have, for the pure part to compare."""

import logging
from typing import Any
from urllib.parse import quote

from cachefs.errors import (
    CacheFSError,
    ConfigError,
    ConflictError,
    CoordinatorUnavailableError,
    NotKnownError,
)
from cachefs.k8s.cluster import Cluster
from cachefs.k8s.crds import flows as flow_objects
from cachefs.k8s.crds.runs import FlowRunSpec, parse
from cachefs.k8s.names import FLOW_RUNS, FLOWS
from cachefs.k8s.operator.actions import Ask, Document
from cachefs.k8s.operator.carrying import Carrier
from cachefs.k8s.operator.flows import runs
from cachefs.k8s.operator.flows.flows import FILE, text_of
from cachefs.ports import Runtime
from cachefs.transport.api import Api

LIVE_SECONDS = 2.0
"""How often a run is looked at that goes on."""
AGAIN_SECONDS = 15.0
"""When it is tried again to submit what could not be."""
OVER_SECONDS = 3600.0
_RUNS_LISTED = 1000
_LOG = logging.getLogger("cachefs.operator")


class RunKeeper:
    """Submits runs, passes wishes on, and shows how runs stand."""

    name = "runs"
    watched = (FLOW_RUNS,)

    def __init__(self, runtime: Runtime, cluster: Cluster, api: Api, carrier: Carrier) -> None:
        """Look at nothing yet."""
        self._runtime = runtime
        self._cluster = cluster
        self._api = api
        self._carrier = carrier

    def keep(self, namespace: str, name: str) -> float | None:
        """Look at a run, and do what is missing; a coordinator that is away is asked again soon."""
        try:
            return self._look(namespace, name)
        except CoordinatorUnavailableError as error:
            _LOG.warning("a run is not seen", extra={"run": name, "failure": str(error)})
            return AGAIN_SECONDS

    def _look(self, namespace: str, name: str) -> float | None:
        document = self._cluster.get(FLOW_RUNS, name, namespace)
        if document is None or document["metadata"].get("deletionTimestamp"):
            self._cancel(namespace, name, but="")
            return None
        if runs.is_over(document):
            return OVER_SECONDS
        status = document.get("status") or {}
        run = str(status.get("run", ""))
        if not run and status.get("phase") in runs.OVER:
            return OVER_SECONDS  # it was refused for good
        if not run:
            # One of the same name may have been here before.
            self._cancel(namespace, name, but=document["metadata"]["uid"])
            run = self._submit(document)
        if not run:
            return AGAIN_SECONDS
        return self._follow(document, run)

    def sweep(self) -> tuple[tuple[str, str], ...]:
        """Return every run that is an object, or goes on in the name of one."""
        found = {
            (one["metadata"]["namespace"], one["metadata"]["name"])
            for one in self._cluster.find(FLOW_RUNS)
        }
        for run in self._active():
            made_from = runs.object_of(run["key"])
            if made_from is not None:
                found.add(made_from[:2])
        return tuple(sorted(found))

    def _submit(self, document: Document) -> str:
        """Return the id of an object's run, which is submitted now or was before; empty if it cannot be."""
        at = self._runtime.wall()
        key = runs.key_of(document)
        try:
            spec = parse(document)
            known = self._known(key)
            if known:
                return known
            if spec.cancel:
                self._carrier.carry_out(runs.never_submitted(document, at=at))
                return ""
            body = {
                "document": text_of(self._flow(spec)),
                "params": spec.params,
                "file": FILE,
                "by": f"FlowRun {spec.namespace}/{spec.name}",
            }
            made = self._api.post("/v1/runs", body, headers={"Idempotency-Key": key})
            return str(made["id"])
        except CacheFSError as error:
            self._carrier.carry_out(runs.unsubmitted(document, error, at=at))
            if not isinstance(error, ConfigError | ConflictError | NotKnownError):
                raise
            return ""

    def _flow(self, spec: FlowRunSpec) -> Document:
        """Return the document that is to be run; always of the object's own namespace."""
        inline = spec.document()
        if inline is not None:
            return inline
        found = self._cluster.get(FLOWS, spec.flow or "", spec.namespace)
        if found is None:
            raise NotKnownError(f"there is no Flow {spec.flow} in namespace {spec.namespace}")
        return flow_objects.parse(found).document()

    def _follow(self, document: Document, run: str) -> float:
        at = self._runtime.wall()
        try:
            found = self._api.get(f"/v1/runs/{quote(run)}")
            asked = runs.wishes(document, parse(document), found["run"])
            if asked:
                self._ask(asked)
                found = self._api.get(f"/v1/runs/{quote(run)}")
        except NotKnownError:
            self._carrier.carry_out(runs.forgotten(document, at=at))
            return OVER_SECONDS
        self._carrier.carry_out(runs.mirror(document, found, at=at))
        return OVER_SECONDS if found["run"]["state"] in runs.OVER else LIVE_SECONDS

    def _cancel(self, namespace: str, name: str, *, but: str) -> None:
        """Cancel what goes on in the name of an object that is gone; with one uid it is not."""
        for run in self._active():
            made_from = runs.object_of(run["key"])
            if made_from is None or made_from[:2] != (namespace, name) or made_from[2] == but:
                continue
            if run["wants"] != "cancel" and not run["ending"]:
                by = {"by": f"FlowRun {namespace}/{name}, which was deleted"}
                self._ask((Ask(method="POST", path=f"/v1/runs/{run['id']}/cancel", body=by),))

    def _ask(self, asked: tuple[Ask, ...]) -> None:
        try:
            self._carrier.carry_out(asked)
        except ConflictError:
            return  # it is over, or ending, by now; the next look shows it

    def _known(self, key: str) -> str:
        """Return the run that was submitted for an object by an operator that could not note it."""
        listed = self._api.get(f"/v1/runs?limit={_RUNS_LISTED}")["runs"]
        return next((str(run["id"]) for run in listed if run["key"] == key), "")

    def _active(self) -> list[Any]:  # Any: the coordinator's JSON
        found: list[Any] = self._api.get(f"/v1/runs?active=true&limit={_RUNS_LISTED}")["runs"]
        return found
