"""Volcano's extender plugin, as Volcano speaks to it."""

from datetime import UTC, datetime

import pytest

from tests.unit.hints.consumers.schedulers import Knowing, broken, ignorant, pod, scheduler
from tests.unit.hints.making import COMING, NOON, THREE

HOLD = {"cachefs.io/datasets": "llama", "cachefs.io/hold": "10m"}


def prioritize(ask, annotations=None, names=("n1", "n2", "n3"), verb="prioritize"):
    nodes = [{"Name": name, "Node": {"metadata": {"name": name}}, "Idle": {}} for name in names]
    task = {"UID": "u", "Job": "team-a/job", "Name": "job-1", "Pod": pod(annotations)}
    answered = scheduler(ask).post(f"/volcano/{verb}", json={"task": task, "nodes": nodes})
    assert answered.status_code == 200
    return answered


def test_every_node_has_a_score_of_0_to_100():
    assert prioritize(Knowing()).content == (
        b'{"nodeScore":{"n1":100.0,"n2":40.66,"n3":0.11},"errorMessage":""}'
    )


def test_the_weight_is_in_the_verb():
    answered = prioritize(Knowing(), verb="prioritize?weight=0.5").json()
    assert answered["nodeScore"] == {"n1": 50.0, "n2": 20.33, "n3": 0.06}


@pytest.mark.parametrize("ask", [broken, ignorant])
def test_without_an_opinion_every_node_scores_nothing_and_it_is_no_error(ask):
    answered = prioritize(ask).json()
    assert answered == {"nodeScore": {"n1": 0.0, "n2": 0.0, "n3": 0.0}, "errorMessage": ""}


@pytest.mark.parametrize("annotations", [{}, {"cachefs.io/datasets": "No"}])
def test_a_task_that_is_not_understood_scores_nothing_anywhere(annotations):
    assert set(prioritize(Knowing(), annotations).json()["nodeScore"].values()) == {0.0}


def test_volcano_has_found_room_so_no_accelerators_are_asked_for():
    knowing = Knowing()
    prioritize(knowing)
    (asked,) = knowing.asked
    assert (asked.gpu, asked.candidates, asked.every) == (None, ("n1", "n2", "n3"), True)


def job(annotations=None, group=None, tasks=2, since=0.0, **facts) -> dict:
    """Return a ``JobInfo`` that was created some seconds before the hint."""
    created = datetime.fromtimestamp(NOON - since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "UID": "team-a/job",
        "Name": "job",
        "Namespace": "team-a",
        "MinAvailable": tasks,
        "Tasks": {f"t{index}": {"Pod": pod(annotations)} for index in range(tasks)},
        "CreationTimestamp": created,
        # Go writes an embedded struct without a name for it as fields of its own.
        "PodGroup": {"name": "job", "annotations": group or {}, "Spec": {}, "Version": "v1beta1"},
        **facts,
    }


def vote(ask, job) -> int:
    answered = scheduler(ask).post("/volcano/jobEnqueueable", json={"job": job})
    assert answered.status_code == 200
    assert set(answered.json()) == {"status"}
    return answered.json()["status"]


def coming(question):
    return COMING


def test_a_job_is_kept_out_of_the_queue_while_its_data_comes():
    assert vote(coming, job(HOLD)) == -1


def test_a_job_whose_pods_are_not_made_yet_is_known_by_its_group():
    spec = {"MinMember": 4, "MinResources": {"nvidia.com/gpu": "32", "memory": "8Gi", "cpu": "16"}}
    group = {"annotations": HOLD, "labels": {}, "Spec": spec, "Status": {"Phase": "Pending"}}
    made = job(tasks=0, MinAvailable=4) | {"PodGroup": group}
    assert vote(coming, made) == -1
    knowing = Knowing()
    vote(knowing, made)
    (asked,) = knowing.asked
    assert asked.gpu is not None
    assert asked.gang is not None
    assert (asked.gpu.count, asked.gang.size, asked.gang.least) == (8, 4, 4)


def test_a_group_of_older_volcanos_has_metadata():
    assert vote(coming, job() | {"PodGroup": {"metadata": {"annotations": HOLD}}}) == -1


def test_the_pod_group_may_say_so_for_its_pods():
    assert vote(coming, job(group={"cachefs.io/hold": "10m"})) == -1
    assert vote(coming, job(HOLD, group={"cachefs.io/hold": "0s"})) == 0


@pytest.mark.parametrize("ask", [lambda _: THREE, broken, ignorant])
def test_a_job_whose_data_is_close_or_unknown_is_not_kept(ask):
    assert vote(ask, job(HOLD)) == 0


def test_a_job_that_does_not_ask_for_it_is_not_kept():
    assert vote(coming, job()) == 0
    knowing = Knowing()
    assert vote(knowing, job()) == 0
    assert knowing.asked == []


def test_nobody_is_kept_longer_than_said():
    assert vote(coming, job(HOLD, since=599.0)) == -1
    assert vote(coming, job(HOLD, since=600.0)) == 0


def test_a_job_that_says_not_since_when_it_waits_is_not_kept():
    assert vote(coming, job(HOLD) | {"CreationTimestamp": None}) == 0


@pytest.mark.parametrize(
    "odd", [None, [], {}, {"Tasks": []}, {"Tasks": {"t": 3}}, {"PodGroup": 3, "MinAvailable": "x"}]
)
def test_a_job_of_a_strange_shape_is_not_kept(odd):
    assert vote(coming, odd) == 0


def test_a_job_is_asked_for_as_a_gang_and_its_data_is_brought():
    knowing = Knowing()
    vote(knowing, job(HOLD, tasks=4, MinAvailable=3))
    (asked,) = knowing.asked
    assert asked.gang is not None
    assert (asked.gang.size, asked.gang.least) == (4, 3)
    assert (asked.job, asked.prefetch) == ("team-a/job", True)


@pytest.mark.parametrize("body", [b"", b"[]"])
def test_what_is_no_call_of_volcano_is_refused(body):
    for verb in ("prioritize", "jobEnqueueable"):
        with pytest.raises(ValueError, match="body"):
            scheduler(Knowing()).post(f"/volcano/{verb}", content=body)
