"""Looking at flows: what the API server and the coordinator have, for the pure part to compare."""

from dataclasses import replace
from typing import Any

from cachefs.errors import CacheFSError, ConfigError, NotAllowedError
from cachefs.k8s.cluster import Cluster
from cachefs.k8s.crds.flows import FlowSpec, parse
from cachefs.k8s.names import FLOWS
from cachefs.k8s.operator.actions import Action, Ask
from cachefs.k8s.operator.carrying import Carrier
from cachefs.k8s.operator.flows import flows
from cachefs.ports import Runtime
from cachefs.transport.api import Api

_KNOWN_SECONDS = 1.0
"""A thousand flows are looked at at once when an operator begins: they do not ask for one list each."""
AGAIN_SECONDS = 30.0
"""How often a flow is looked at: its last run is shown so late at most."""


class FlowKeeper:
    """Checks flows, and registers what starts them."""

    name = "flows"
    watched = (FLOWS,)

    def __init__(self, runtime: Runtime, cluster: Cluster, api: Api, carrier: Carrier) -> None:
        """Look at nothing yet."""
        self._runtime = runtime
        self._cluster = cluster
        self._api = api
        self._carrier = carrier
        self._known: tuple[float, dict[str, Any]] = (float("-inf"), {})

    def keep(self, namespace: str, name: str) -> float | None:
        """Look at a flow, and do what is missing."""
        document = self._cluster.get(FLOWS, name, namespace)
        registered = self._registered().get(f"{namespace}/{name}")
        if document is None or document["metadata"].get("deletionTimestamp"):
            self._carry_out(flows.gone(namespace, name, registered))
            return None
        problem: CacheFSError | None = None
        try:
            spec = parse(document)
            if flows.needs_check(document):
                text = flows.text_of(spec.document())
                self._api.post("/v1/flows/validate", {"document": text, "file": flows.FILE})
        except CacheFSError as error:
            problem = error
            spec = FlowSpec(name=name, namespace=namespace, spec={}, labels={})
        seen = flows.Seen(
            at=self._runtime.wall(),
            registered=registered,
            last_run=self._last_run(f"{namespace}/{name}"),
            problem=problem,
        )
        try:
            self._carry_out(flows.reconcile(document, spec, seen))
        except (ConfigError, NotAllowedError) as error:
            # What triggers say is only seen when they are registered.
            seen = replace(seen, problem=error)
            self._carry_out(flows.reconcile(document, spec, seen))
        if problem is not None and not isinstance(problem, ConfigError):
            raise problem
        return AGAIN_SECONDS

    def sweep(self) -> tuple[tuple[str, str], ...]:
        """Return every flow that is an object, or is registered in the name of one."""
        found = {
            (one["metadata"]["namespace"], one["metadata"]["name"])
            for one in self._cluster.find(FLOWS)
        }
        for flow, registered in self._registered().items():
            if str(registered["owner"]).startswith(f"{flows.OWNER} "):
                namespace, _, name = flow.partition("/")
                found.add((namespace, name))
        return tuple(sorted(found))

    def _carry_out(self, actions: tuple[Action, ...]) -> None:
        try:
            self._carrier.carry_out(actions)
        finally:
            if any(isinstance(one, Ask) for one in actions):
                self._known = (float("-inf"), {})

    def _registered(self) -> dict[str, Any]:  # Any: the coordinator's JSON
        """Return what is registered, as it was a moment ago: what is done again for that is done once."""
        now = self._runtime.monotonic()
        known_at, known = self._known
        if now - known_at >= _KNOWN_SECONDS:
            known = {one["flow"]: one for one in self._api.get("/v1/flows")["flows"]}
            self._known = now, known
        return known

    def _last_run(self, flow: str) -> str:
        found = self._api.get(f"/v1/runs?flow={flow}&limit=1")["runs"]
        return str(found[0]["id"]) if found else ""
