"""Consumers and the service that really answers them: what one says of nodes the other understands."""

import json

import pytest

from cachefs.core.hints.nodes import GIB
from cachefs.core.names import DatasetName
from tests.unit.hints.consumers.schedulers import applied, patch_in, pod, review_of, scheduler
from tests.unit.hints.service.known import LLAMA, Site

TOKENS = DatasetName.parse("tokens")
NODES = ["n1", "n2", "n3", "n4"]
BOTH = {"cachefs.io/datasets": "llama, tokens", "cachefs.io/affinity": "required"}
REQUIRED = {"cachefs.io/datasets": "llama", "cachefs.io/affinity": "required"}


@pytest.fixture
def site():
    site = Site()
    for name in NODES:
        site.known.put(name)
    site.known.hold(LLAMA, 30 * GIB, n1=1.0, n2=0.5)
    site.known.hold(TOKENS, 3 * GIB, n2=1.0, n3=1.0)
    return site


def filtered(site, annotations, names=NODES):
    sent = {"Pod": pod(annotations), "Nodes": None, "NodeNames": list(names)}
    return scheduler(site.service.answer).post("/k8s/extender/filter", json=sent).json()


def prioritized(site, annotations=None, names=NODES):
    sent = {"Pod": pod(annotations), "Nodes": None, "NodeNames": list(names)}
    answered = scheduler(site.service.answer).post("/k8s/extender/prioritize", json=sent)
    return {each["Host"]: each["Score"] for each in answered.json()}


def mutated(site, made):
    return scheduler(site.service.answer).post("/k8s/mutate", json=review_of(made)).json()


def test_nodes_are_scored_by_what_they_hold(site):
    scored = prioritized(site)
    assert scored["n1"] == 10
    assert scored["n1"] > scored["n2"] > scored["n3"] == scored["n4"]


def test_two_required_datasets_mean_and(site):
    assert filtered(site, BOTH)["NodeNames"] == ["n2"]
    after = applied(patch_in(mutated(site, pod(BOTH))), pod(BOTH))
    required = after["spec"]["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    (term,) = required["nodeSelectorTerms"]
    assert term["matchExpressions"][0]["values"] == ["n2"]


def test_a_required_dataset_keeps_a_pod_from_nodes_that_hold_nothing(site):
    answered = filtered(site, REQUIRED)
    assert answered["NodeNames"] == ["n1", "n2"]
    assert answered["FailedAndUnresolvableNodes"] == dict.fromkeys(
        ("n3", "n4"), "it holds nothing of a dataset that is required"
    )
    assert filtered(site, REQUIRED, ["n3", "n4"])["NodeNames"] == []


def test_a_dataset_that_nobody_holds_or_knows_keeps_a_pod_from_nowhere(site):
    site.known.hold(LLAMA, 30 * GIB)
    assert filtered(site, REQUIRED)["NodeNames"] == NODES
    unknown = {"cachefs.io/datasets": "qwen", "cachefs.io/affinity": "required"}
    assert filtered(site, unknown)["NodeNames"] == NODES
    assert patch_in(mutated(site, pod(unknown))) == []


def test_a_store_that_is_down_keeps_a_pod_from_nowhere(site):
    site.known.is_down = True
    assert filtered(site, REQUIRED)["NodeNames"] == NODES
    assert set(prioritized(site).values()) == {0}
    assert patch_in(mutated(site, pod())) == []


def test_old_knowledge_keeps_a_pod_from_nowhere(site):
    site.clock.now += 3600.0
    assert filtered(site, REQUIRED)["NodeNames"] == NODES


def test_no_nodes_at_all_keep_a_pod_from_nowhere():
    site = Site()
    site.known.hold(LLAMA, 30 * GIB)
    assert filtered(site, REQUIRED)["NodeNames"] == NODES
    assert set(prioritized(site).values()) == {0}


def test_weights_are_the_pods_own_and_turn_the_order(site):
    def best(weight):
        return prioritized(
            site,
            {"cachefs.io/datasets": "llama, tokens", "cachefs.io/weights": f"tokens={weight}"},
            ["n1", "n3"],
        )

    assert best(0.1)["n1"] > best(0.1)["n3"]
    assert best(200)["n1"] < best(200)["n3"]


def test_a_busy_node_may_still_be_where_a_required_dataset_is(site):
    site.known.put("n1", busy=8, free_in=None)
    (affinity, _) = patch_in(mutated(site, pod(REQUIRED)))
    required = affinity["value"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"][0]["matchExpressions"][0]["values"] == ["n1", "n2"]


def test_an_inventory_without_labels_does_not_cost_a_pod_its_hint(site):
    patch = patch_in(mutated(site, pod(nodeSelector={"kubernetes.io/os": "linux"})))
    assert json.dumps(patch).count('"weight"') == 4


def test_the_data_of_a_job_that_is_kept_from_the_queue_is_brought(site):
    site.known.hold(LLAMA, 300 * GIB)
    marks = {"cachefs.io/datasets": "llama", "cachefs.io/hold": "1h"}

    def vote(created):
        job = {"Tasks": {"t": {"Pod": pod(marks)}}, "CreationTimestamp": created}
        client = scheduler(site.service.answer)
        return client.post("/volcano/jobEnqueueable", json={"job": job}).json()["status"]

    assert vote("2100-01-01T00:00:00Z") == -1
    assert [dataset for dataset, _ in site.warmed] == ["llama"]
    assert vote("2020-01-01T00:00:00Z") == 0
