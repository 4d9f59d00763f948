"""Who may connect to whom, by the network policies together."""

import pytest

from cachefs.k8s.manifests.whole import documents
from tests.unit.k8s.manifests.installations import FULL, PLAIN, each, workloads

SYSTEM, NODES = "models", "models-node"


def _holds(selector, marks):
    """Say whether a label selector means an object with these labels."""
    exact = selector.get("matchLabels", {}).items() <= marks.items()
    return exact and all(
        one["operator"] == "In" and marks.get(one["key"]) in one["values"]
        for one in selector.get("matchExpressions", ())
    )


def _may(wanted, asker, asked, port):
    """Say whether a pod may connect to another, as the API's documentation has it.

    Args:
        wanted: The installation.
        asker: Namespace and component of the pod; ``None`` for an address that is no pod's.
        asked: Likewise.
        port: Of the other pod.
    """
    namespace, component = asked
    marks = _marks(component)
    policies = [
        one["spec"]
        for one in documents(wanted)
        if one["kind"] == "NetworkPolicy"
        and one["metadata"]["namespace"] == namespace
        and _holds(one["spec"]["podSelector"], marks)
        and "Ingress" in one["spec"]["policyTypes"]
    ]
    rules = [rule for spec in policies for rule in spec.get("ingress", ())]
    return not policies or any(
        port in [one["port"] for one in rule["ports"]]
        and ("from" not in rule or (asker and any(_is(peer, asker) for peer in rule["from"])))
        for rule in rules
    )


def _is(peer, asker):
    namespace, component = asker
    where = {"kubernetes.io/metadata.name": namespace}
    return _holds(peer.get("namespaceSelector", {}), where) and _holds(
        peer.get("podSelector", {}), _marks(component)
    )


def _marks(component):
    return {
        "app.kubernetes.io/name": "cachefs",
        "app.kubernetes.io/component": f"cachefs-{component}",
    }


USER = ("team", "training")
COORDINATOR, WORKER = (SYSTEM, "coordinator"), (SYSTEM, "worker")


@pytest.mark.parametrize(
    ("asker", "asked", "port", "may"),
    [
        (USER, COORDINATOR, 7070, True),
        (USER, WORKER, 7080, True),
        (USER, (NODES, "worker"), 7080, True),
        (USER, COORDINATOR, 7071, False),
        (USER, WORKER, 7081, False),
        (USER, (SYSTEM, "operator"), 22, False),
        (USER, (NODES, "mounts"), 7080, False),
        (USER, (NODES, "csi"), 22, False),
        (USER, (SYSTEM, "debugging"), 80, False),
        (USER, (SYSTEM, "webhook"), 9080, True),
        (None, (SYSTEM, "webhook"), 9443, True),
        (None, COORDINATOR, 7071, False),
        (WORKER, COORDINATOR, 7071, True),
        ((NODES, "worker"), COORDINATOR, 7071, True),
        (("team", "worker"), COORDINATOR, 7071, False),
        (COORDINATOR, WORKER, 7081, True),
        (COORDINATOR, (NODES, "worker"), 7081, True),
        (("team", "coordinator"), WORKER, 7081, False),
        ((SYSTEM, "operator"), COORDINATOR, 7070, True),
        ((NODES, "mounts"), WORKER, 7080, True),
    ],
)
def test_who_may_connect_to_whom(asker, asked, port, may):
    assert _may(FULL, asker, asked, port) is may


@each
def test_every_port_of_a_pod_can_be_reached_and_no_other(wanted):
    for workload, pod in workloads(wanted):
        namespace = workload["metadata"]["namespace"]
        component = workload["spec"]["template"]["metadata"]["labels"][
            "app.kubernetes.io/component"
        ]
        asked = (namespace, component.removeprefix("cachefs-"))
        allowed = {
            one["port"]
            for policy in documents(wanted)
            if policy["kind"] == "NetworkPolicy"
            and policy["metadata"]["namespace"] == namespace
            and policy["spec"]["podSelector"].get("matchLabels") == _marks(asked[1])
            for rule in policy["spec"].get("ingress", ())
            for one in rule["ports"]
        }
        opened = {port["containerPort"] for port in pod["containers"][0].get("ports", ())}
        assert opened == allowed


def test_the_webhook_asks_the_coordinator_and_nobody_else():
    (policy,) = (
        one["spec"]
        for one in documents(FULL)
        if one["kind"] == "NetworkPolicy" and one["metadata"]["name"] == "cachefs-webhook"
    )
    assert "Egress" in policy["policyTypes"]
    names, coordinator = policy["egress"]
    assert {one["port"] for one in names["ports"]} == {53}
    assert [one["port"] for one in coordinator["ports"]] == [7070]
    assert _is(coordinator["to"][0], COORDINATOR)
    assert not _is(coordinator["to"][0], WORKER)


def test_a_plain_installation_knows_no_namespace_of_nodes():
    assert "cachefs-node" not in str(documents(PLAIN))
