"""Confining: of a namespace that is not trusted, pods get hints about its own datasets."""

import pytest

from cachefs.core.tenants import Tenants
from cachefs.hints.consumers.admission import Admission, released
from cachefs.hints.renderings.affinity import own_name
from tests.unit.hints.consumers.schedulers import Knowing, patch_in, pod, review_of, scheduler
from tests.unit.hints.making import hint, node

STRICT = Tenants(trusted=("ops",))
FOREIGN = {"cachefs.io/datasets": "team-b/secret", "cachefs.io/hold": "10m"}
BOUND = {**FOREIGN, "cachefs.io/affinity": "required"}
BOTH = {"cachefs.io/datasets": "team-b/secret, team-a/own"}
GATE = {"name": "cachefs.io/data-ready"}


def far(seconds=60.0):
    """Answer that the data is far, and that nobody brings it yet."""
    return hint(node("n1", seconds, arriving=0.0))


def mutated(ask, annotations, namespace="team-a", tenants=STRICT):
    review = review_of(pod(annotations), namespace=namespace)
    review["request"]["object"]["metadata"]["namespace"] = namespace
    client = scheduler(ask, gates=True, tenants=tenants)
    return client.post("/k8s/mutate", json=review).json()


def test_a_pod_gets_no_hint_about_anothers_dataset_and_is_told_so():
    ask = Knowing()
    review = mutated(ask, FOREIGN)
    assert patch_in(review) == []
    assert review["response"]["allowed"]
    (warning,) = review["response"]["warnings"]
    assert "team-b/secret" in warning
    assert "not trusted" in warning
    assert ask.asked == []


@pytest.mark.parametrize(("namespace", "tenants"), [("ops", STRICT), ("team-a", Tenants())])
def test_a_namespace_that_is_trusted_asks_about_all_datasets(namespace, tenants):
    ask = Knowing()
    assert patch_in(mutated(ask, {"cachefs.io/datasets": "team-b/secret"}, namespace, tenants))
    assert {str(each.dataset) for each in ask.asked[0].readings} == {"team-b/secret"}


def test_of_several_datasets_a_pods_own_are_asked_about():
    ask = Knowing()
    review = mutated(ask, BOTH)
    assert patch_in(review)
    assert [str(each.dataset) for each in ask.asked[0].readings] == ["team-a/own"]
    assert "team-a/own" not in review["response"]["warnings"][0]


def test_a_review_holds_a_pod_whose_data_is_far_and_begins_nothing():
    asked = []

    def ask(question):
        asked.append(question)
        return far()

    own = {"cachefs.io/datasets": "team-a/own", "cachefs.io/hold": "10m"}
    assert patch_in(mutated(ask, own))[0]["value"] == [GATE]
    assert not any(each.prefetch or each.reserve_seconds for each in asked)


def test_a_release_brings_a_pods_own_data_and_nobody_elses():
    ask = Knowing()
    admission = Admission(ask=ask, hostname=own_name, gates=True, tenants=STRICT)
    patch = released(pod(FOREIGN, schedulingGates=[GATE]), admission, gated_seconds=1.0)
    assert [each["op"] for each in patch] == ["test", "remove"]
    assert ask.asked == []
    own = {"cachefs.io/datasets": "team-a/own", "cachefs.io/hold": "10m"}
    released(pod(own, schedulingGates=[GATE]), admission, gated_seconds=1.0)
    assert ask.asked[0].prefetch


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/k8s/extender/prioritize", {"Pod": pod(FOREIGN), "NodeNames": ["n1", "n2"]}),
        ("/k8s/extender/filter", {"Pod": pod(BOUND), "NodeNames": ["n1", "n2"]}),
        ("/volcano/prioritize", {"task": {"Pod": pod(FOREIGN)}, "nodes": [{"Name": "n1"}]}),
        (
            "/volcano/jobEnqueueable",
            {
                "job": {
                    "Name": "j",
                    "Namespace": "team-a",
                    "MinAvailable": 1,
                    "Tasks": {"t": {"Pod": pod(FOREIGN)}},
                    "PodGroup": {},
                }
            },
        ),
        (
            "/k8s/kueue",
            {
                "workload": {
                    "metadata": {"name": "w", "namespace": "team-a"},
                    "spec": {"podSets": [{"name": "m", "count": 1, "template": pod(FOREIGN)}]},
                }
            },
        ),
    ],
)
def test_schedulers_ask_nothing_about_anothers_dataset_for_a_pod(path, body):
    ask = Knowing()
    assert scheduler(ask, tenants=STRICT).post(path, json=body).status_code == 200
    assert ask.asked == []
    scheduler(ask, tenants=Tenants()).post(path, json=body)
    assert ask.asked
