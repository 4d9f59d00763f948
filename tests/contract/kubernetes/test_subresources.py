"""Subresources: scale, eviction, binding.

Held to "Custom Resources" (scale), "API-initiated Eviction" and "Disruptions".
"""

import pytest

from tests.contract.kubernetes.clients import PODS, THINGS, definition, thing
from tests.contract.kubernetes.test_patching import DEPLOYMENTS, deployment
from tests.contract.kubernetes.test_reading import pod

BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"


@pytest.fixture
def scalable(server):
    scale = {
        "specReplicasPath": ".spec.size",
        "statusReplicasPath": ".status.size",
        "labelSelectorPath": ".status.selector",
    }
    subresources = {"status": {}, "scale": scale}
    server.install(
        definition({"size": {"type": "integer", "maximum": 9}}, subresources=subresources)
    )
    return THINGS


def test_scale_shows_what_the_paths_of_a_definition_lead_to(api, scalable):
    """ "Scale subresource": specReplicasPath, statusReplicasPath, labelSelectorPath."""
    api.post(scalable, thing("a", size=2))
    api.merge(f"{scalable}/a/status", {"status": {"size": 1, "selector": "app=a"}})
    scale = api.get(f"{scalable}/a/scale")
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert scale["spec"] == {"replicas": 2}
    assert scale["status"] == {"replicas": 1, "selector": "app=a"}


def test_scale_is_written_and_patched_under_the_rules_of_the_kind(api, scalable):
    """ "Scale subresource": PUT and PATCH change the number; schema and generation count."""
    api.post(scalable, thing("a", size=2))
    scale = api.get(f"{scalable}/a/scale").body
    assert api.put(f"{scalable}/a/scale", {**scale, "spec": {"replicas": 4}}).code == 200
    assert api.put(f"{scalable}/a/scale", {**scale, "spec": {"replicas": 5}}).code == 409
    patched = api.merge(f"{scalable}/a/scale", {"spec": {"replicas": 5}})
    assert patched["spec"]["replicas"] == 5
    assert api.merge(f"{scalable}/a/scale", {"spec": {"replicas": 99}}).code == 422
    now = api.get(f"{scalable}/a")
    assert (now["spec"]["size"], now["metadata"]["generation"]) == (5, 3)


def test_deployments_are_scaled_alike(api):
    """ "Deployments": scale of a built-in kind; its selector is shown as text."""
    api.post(DEPLOYMENTS, deployment())
    scale = api.get(f"{DEPLOYMENTS}/d/scale")
    assert (scale["spec"], scale["status"]["selector"]) == ({"replicas": 1}, "app=d")
    api.merge(f"{DEPLOYMENTS}/d/scale", {"spec": {"replicas": 0}})
    assert api.get(f"{DEPLOYMENTS}/d")["spec"]["replicas"] == 0


def eviction(name):
    return {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}


def budget(name="b", **spec):
    spec = {"selector": {"matchLabels": {"app": "x"}}, **spec}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name},
        "spec": spec,
    }


def ready_pod(api, name):
    api.post(PODS, pod(name, labels={"app": "x"}))
    conditions = [{"type": "Ready", "status": "True"}]
    api.merge(f"{PODS}/{name}/status", {"status": {"phase": "Running", "conditions": conditions}})


def test_a_pod_is_evicted_where_no_budget_holds_it(api):
    """ "API-initiated Eviction": 201, and the pod is deleted."""
    api.post(PODS, pod("a"))
    assert api.post(f"{PODS}/a/eviction", eviction("a")).code == 201
    assert api.get(f"{PODS}/a").code == 404


def test_a_budget_that_allows_no_disruption_refuses_with_429(api):
    """ "How API-initiated eviction works": 429 while a budget does not allow it."""
    api.post(BUDGETS, budget(minAvailable=1))
    ready_pod(api, "a")
    refused = api.post(f"{PODS}/a/eviction", eviction("a"))
    assert (refused.code, refused.reason) == (429, "TooManyRequests")
    assert refused.causes[0]["reason"] == "DisruptionBudget"
    assert int(refused.headers["Retry-After"]) > 0
    ready_pod(api, "b")
    assert api.post(f"{PODS}/a/eviction", eviction("a")).code == 201
    assert api.post(f"{PODS}/b/eviction", eviction("b")).code == 429


def test_a_budgets_status_counts_down_with_each_eviction(api):
    """The eviction API takes one from status.disruptionsAllowed, which a controller keeps."""
    api.post(BUDGETS, budget(maxUnavailable=1))
    status = {"status": {"observedGeneration": 1, "disruptionsAllowed": 1}}
    api.merge(f"{BUDGETS}/b/status", status)
    for name in "ab":
        ready_pod(api, name)
    assert api.post(f"{PODS}/a/eviction", eviction("a")).code == 201
    assert api.post(f"{PODS}/b/eviction", eviction("b")).code == 429


def test_two_budgets_for_one_pod_are_an_error(api):
    """ "How API-initiated eviction works": 500 for a misconfiguration."""
    for name in ("one", "two"):
        api.post(BUDGETS, budget(name, maxUnavailable=1))
    ready_pod(api, "a")
    assert api.post(f"{PODS}/a/eviction", eviction("a")).code == 500


def test_a_pod_is_bound_once(api):
    """Schedulers bind pods by the binding subresource; a second binding conflicts."""
    api.post(PODS, pod("a"))
    target = {"apiVersion": "v1", "kind": "Node", "name": "n1"}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": target}
    assert api.post(f"{PODS}/a/binding", binding).code == 201
    assert api.get(f"{PODS}/a")["spec"]["nodeName"] == "n1"
    assert api.post(f"{PODS}/a/binding", binding).code == 409
