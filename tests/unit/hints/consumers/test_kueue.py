"""Kueue's admission check: the status that a workload gets."""

from datetime import UTC, datetime

import pytest

from cachefs.hints.consumers.kueue import question_of_workload, review, unanswered
from tests.unit.hints.consumers.schedulers import pod
from tests.unit.hints.making import COMING, NOON, NOTHING, THREE, hint, node

LONG = hint(node("n1", 200.0, arriving=100, data=190.0))


def ago(seconds: float) -> str:
    return datetime.fromtimestamp(NOON - seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def workload(annotations=None, checks=(), **facts) -> dict:
    template = pod(annotations)
    template["metadata"].pop("name")
    return {
        "metadata": {"name": "train", "namespace": "team-a", "creationTimestamp": ago(30)} | facts,
        "spec": {"podSets": [{"name": "main", "count": 8, "template": template}]},
        "status": {"admissionChecks": list(checks)},
    }


def entry(state="Pending", since=30.0, **facts) -> dict:
    return {"name": "cachefs", "state": state, "lastTransitionTime": ago(since), **facts}


def test_a_workload_whose_data_is_close_is_ready_and_carries_the_hint():
    assert review(workload(), THREE) == {
        "name": "cachefs",
        "state": "Ready",
        "message": "ready in about 3 s; the longest part is nvme:n1",
        "lastTransitionTime": "2027-01-15T08:00:00Z",
        "podSetUpdates": [{"name": "main", "annotations": {"cachefs.io/hint-id": "h-01"}}],
    }


def test_a_workload_whose_data_comes_soon_waits_with_its_quota():
    status = review(workload(checks=[entry()]), COMING)
    assert (status["state"], status["message"]) == ("Pending", "the data is close in about 40 s")
    assert status["lastTransitionTime"] == ago(30)


def test_a_workload_whose_data_takes_long_gives_its_quota_back():
    status = review(workload(checks=[entry()]), LONG)
    assert (status["state"], status["requeueAfterSeconds"]) == ("Retry", 190)
    assert status["lastTransitionTime"] == ago(0)


@pytest.mark.parametrize("answer", [COMING, LONG])
def test_no_one_waits_longer_than_its_patience(answer):
    hold = {"cachefs.io/datasets": "llama", "cachefs.io/hold": "2m"}
    assert review(workload(hold, [entry(since=119)]), answer)["state"] != "Ready"
    assert review(workload(hold, [entry(since=120)]), answer)["state"] == "Ready"
    tried = [entry("Retry", since=1)]
    assert review(workload(hold, tried, creationTimestamp=ago(119)), answer)["state"] != "Ready"
    assert review(workload(hold, tried, creationTimestamp=ago(120)), answer)["state"] == "Ready"


def test_a_workload_may_refuse_to_wait():
    hold = {"cachefs.io/datasets": "llama", "cachefs.io/hold": "0s"}
    assert review(workload(hold), COMING)["state"] == "Ready"


@pytest.mark.parametrize(
    "made",
    [
        workload({}),
        workload({"cachefs.io/datasets": "No"}),
        workload({"cachefs.io/hold": "x"}),
        None,
    ],
)
def test_a_workload_that_is_not_understood_is_ready(made):
    status = review(made, COMING)
    assert status["state"] == "Ready"
    assert status["message"].startswith("no opinion: ")
    assert "podSetUpdates" not in status


def test_without_an_opinion_a_workload_is_ready():
    assert review(workload(checks=[entry()]), NOTHING)["state"] == "Ready"
    assert unanswered(NOON, "nobody answered") == {
        "name": "cachefs",
        "state": "Ready",
        "message": "no opinion: nobody answered",
        "lastTransitionTime": "2027-01-15T08:00:00Z",
    }


def test_a_check_of_another_name_is_answered_under_it():
    status = review(workload(checks=[entry(since=9000)]), COMING, check="data")
    assert (status["name"], status["state"]) == ("data", "Pending")


def test_a_workload_is_asked_for_as_a_gang_of_those_that_read():
    made = workload({"cachefs.io/datasets": "llama", "cachefs.io/weights": "3"})
    driver = {"name": "driver", "count": 1, "template": pod({})}
    other = {"name": "eval", "count": 2, "template": pod({"cachefs.io/datasets": "tokens llama"})}
    made["spec"]["podSets"] += [driver, other]
    asked = question_of_workload(made)
    assert asked is not None
    assert asked.gang is not None
    assert asked.gang.size == 10
    assert [(str(each.dataset), each.weight) for each in asked.readings] == [
        ("llama", 3.0),
        ("tokens", 1.0),
    ]
    assert (asked.job, asked.tenant, asked.prefetch) == ("team-a/train", "team-a", True)


def test_a_pod_set_that_selects_a_zone_keeps_it():
    made = workload({"cachefs.io/datasets": "llama", "cachefs.io/affinity": "required"})
    assert review(made, THREE)["podSetUpdates"][0]["nodeSelector"] == {
        "topology.kubernetes.io/zone": "a"
    }
    made["spec"]["podSets"][0]["template"]["spec"]["nodeSelector"] = {
        "topology.kubernetes.io/zone": "b"
    }
    assert "nodeSelector" not in review(made, THREE)["podSetUpdates"][0]


def test_what_pods_have_already_is_not_given_to_them_again():
    made = workload({"cachefs.io/datasets": "llama", "cachefs.io/hint-id": "h-00"})
    assert review(made, THREE)["podSetUpdates"] == [{"name": "main"}]


def test_the_seconds_of_a_retry_begin_now():
    status = review(workload(checks=[entry("Retry", since=20)]), LONG)
    assert (status["state"], status["lastTransitionTime"]) == ("Retry", ago(0))
