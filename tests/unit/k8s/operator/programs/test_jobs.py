"""Programs as Jobs: what is made, and what is told of what is seen."""

import copy

import kubernetes_validate
import pytest

from cachefs.errors import ConfigError
from cachefs.k8s.operator.programs import jobs
from cachefs.k8s.operator.programs.jobs import Program, judge

WANTED = {
    "command": ["train", "--home=$(HOME)", "$$(HF_TOKEN)", "x"],
    "image": "trainer:1",
    "variables": {"BATCH": "16", "COST": "$(5)"},
    "secrets": {"HF_TOKEN": "secret:hub/token"},
    "workdir": "/job",
    "mounts": [
        {"dataset": "team/llama", "version": "v2", "path": "/llama"},
        {"dataset": "other/tokens", "version": "", "path": "/tokens"},
    ],
    "resources": {"cpu": 1.5, "memory": 1024, "gpu": 2.0},
    "queue": "gpu",
    "seconds": 90.2,
}


def program(state="wanted", *, stop=False, **wanted):
    return Program(
        id="ab12",
        run="nightly-0123456789",
        step="train[0]",
        namespace="team",
        state=state,
        stop=stop,
        wanted={**WANTED, **wanted},
    )


def made(**wanted):
    return jobs.job_of(program(**wanted), owner="cachefs", affinity={})


def there(**status):
    job = {**made(), "status": status}
    job["metadata"] = {**job["metadata"], "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return job


def condition(kind, **more):
    return {"type": kind, "status": "True", **more}


def pod(phase="Running", state=None, **status):
    found = {"metadata": {"name": "ab12-x"}, "status": {"phase": phase, **status}}
    if state is not None:
        found["status"]["containerStatuses"] = [{"name": jobs.CONTAINER, "state": state}]
    return found


def terminated(code, **more):
    times = {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:30Z"}
    return {"terminated": {"exitCode": code, **times, **more}}


def told(verdict):
    report = {name: value for name, value in verdict.report.items() if value}
    return verdict.state, report


def test_a_job_is_one_that_kubernetes_takes():
    affinity = {"preferredDuringSchedulingIgnoredDuringExecution": []}
    job = jobs.job_of(program(), owner="cachefs", affinity=affinity, hint="h-1")
    kubernetes_validate.validate(job, "1.32", strict=True)
    assert job["spec"]["template"]["spec"]["affinity"] == {"nodeAffinity": affinity}
    assert job["spec"]["template"]["metadata"]["annotations"]["cachefs.io/hint-id"] == "h-1"


def test_a_program_runs_once_and_not_for_ever():
    spec = made()["spec"]
    assert spec["backoffLimit"] == 0
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] == 91
    assert spec["ttlSecondsAfterFinished"] >= 3600


def test_its_pod_may_do_nothing_on_the_cluster_and_passes_the_restricted_profile():
    spec = made()["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {next(iter(set(one) - {"name"})) for one in spec["volumes"]} == {"csi"}


def test_datasets_are_volumes_and_only_read():
    spec = made()["spec"]["template"]["spec"]
    assert [one["csi"] for one in spec["volumes"]] == [
        {
            "driver": "cachefs.io",
            "readOnly": True,
            "volumeAttributes": {"dataset": "team/llama", "version": "v2"},
        },
        {
            "driver": "cachefs.io",
            "readOnly": True,
            "volumeAttributes": {"dataset": "other/tokens"},
        },
    ]
    mounts = spec["containers"][0]["volumeMounts"]
    assert [(one["mountPath"], one["readOnly"]) for one in mounts] == [
        ("/llama", True),
        ("/tokens", True),
    ]


def test_what_the_flow_wrote_reaches_the_program_as_it_was_written():
    (container,) = made()["spec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one for one in container["env"]}
    assert container["command"] == ["train", "--home=$$(HOME)", "$$$$(HF_TOKEN)", "x"]
    assert variables["COST"]["value"] == "$$(5)"
    assert variables["HF_TOKEN"]["valueFrom"] == {"secretKeyRef": {"name": "hub", "key": "token"}}
    assert container["workingDir"] == "/job"
    assert container["resources"] == {
        "requests": {"cpu": "1500m", "memory": "1024"},
        "limits": {"memory": "1024", "nvidia.com/gpu": "2"},
    }


def test_labels_are_what_kubernetes_takes_and_annotations_say_the_rest():
    head = made()["metadata"]
    assert head["name"] == "cachefs-ab12"
    assert head["labels"]["cachefs.io/run"] == "nightly-0123456789"
    assert "cachefs.io/step" not in head["labels"], "train[0] cannot be a label"
    assert head["annotations"]["cachefs.io/step"] == "train[0]"
    assert head["labels"]["kueue.x-k8s.io/queue-name"] == "gpu"
    assert "kueue.x-k8s.io/queue-name" not in made(queue="")["metadata"]["labels"]


@pytest.mark.parametrize(
    "wanted",
    [{"resources": {"cpu": 0, "memory": 0, "gpu": 0.5}}, {"secrets": {"A": "env:A"}}],
)
def test_what_kubernetes_has_not_is_refused(wanted):
    with pytest.raises(ConfigError):
        made(**wanted)


@pytest.mark.parametrize("state", ["wanted", "claimed"])
def test_without_a_job_one_is_made(state):
    assert judge(program(state), None, []) == jobs.Verdict(begin=True)


@pytest.mark.parametrize("state", ["starting", "running"])
def test_a_job_that_was_made_and_is_gone_is_never_made_again(state):
    what, report = told(judge(program(state), None, []))
    assert (what, report["lost"]) == ("ended", True)


@pytest.mark.parametrize("state", ["wanted", "claimed", "starting", "running"])
def test_what_is_to_end_and_has_no_job_has_ended(state):
    assert told(judge(program(state, stop=True), None, [])) == ("ended", {"stopped": True})


def test_what_is_to_end_loses_its_job_and_has_ended_when_its_pod_has():
    stopped, job = program("running", stop=True), there()
    assert judge(stopped, job, [pod(state={"running": {}})]).remove == job
    leaving = copy.deepcopy(job)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert judge(stopped, leaving, [pod(state={"running": {}})]) == jobs.Verdict()
    assert judge(stopped, None, [pod(state={"running": {}})]) == jobs.Verdict()
    assert told(judge(stopped, None, [pod("Failed", terminated(143))]))[1] == {"stopped": True}


def test_a_job_of_another_that_has_the_name_is_a_failure_and_ours_is_where_we_go_on():
    foreign = there()
    foreign["metadata"]["labels"] = {}
    assert "another Job" in jobs.taken(program(), foreign).report["failure"]
    assert told(jobs.taken(program(), there()))[0] == "starting"


STARTED = 1767225600.0
SEEN = [
    ("it has no pod", there(), None, "starting", {"note": "Job cachefs-ab12 has no pod yet"}),
    (
        "no node takes it",
        there(),
        pod(
            "Pending",
            conditions=[
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "message": "no GPU",
                }
            ],
        ),
        "starting",
        {"note": "Job cachefs-ab12: Unschedulable: no GPU"},
    ),
    (
        "its image cannot be pulled",
        there(),
        pod("Pending", {"waiting": {"reason": "ImagePullBackOff", "message": "who?"}}),
        "starting",
        {"note": "Job cachefs-ab12: ImagePullBackOff: who?"},
    ),
    (
        "a secret is missing",
        there(),
        pod("Pending", {"waiting": {"reason": "CreateContainerConfigError", "message": "hub"}}),
        "ended",
        {"failure": "CreateContainerConfigError: hub"},
    ),
    (
        "it runs",
        there(),
        pod(state={"running": {"startedAt": "2026-01-01T00:00:00Z"}}),
        "running",
        {"started_at": STARTED, "note": "Job cachefs-ab12"},
    ),
    (
        "it ended well",
        there(),
        pod("Succeeded", terminated(0, reason="Completed", message='{"a": 1}')),
        "ended",
        {"started_at": STARTED, "seconds": 30.0, "outputs": '{"a": 1}'},
    ),
    (
        "it failed",
        there(),
        pod("Failed", terminated(3, reason="Error", message="oh")),
        "ended",
        {"code": 3, "started_at": STARTED, "seconds": 30.0, "log": "oh"},
    ),
    (
        "it took too much memory",
        there(),
        pod("Failed", terminated(137, reason="OOMKilled")),
        "ended",
        {"code": 137, "started_at": STARTED, "seconds": 30.0, "note": "OOMKilled"},
    ),
    (
        "its program is not there",
        there(),
        pod("Failed", terminated(128, reason="StartError", message="no such file")),
        "ended",
        {"failure": "StartError: no such file", "started_at": STARTED, "seconds": 30.0},
    ),
    (
        "its node was drained",
        there(),
        pod(
            "Failed",
            terminated(143),
            conditions=[condition("DisruptionTarget", reason="EvictionByEvictionAPI")],
        ),
        "ended",
        {
            "code": 143,
            "lost": True,
            "note": "EvictionByEvictionAPI",
            "started_at": STARTED,
            "seconds": 30.0,
        },
    ),
    (
        "its node was full",
        there(),
        pod("Failed", reason="Evicted", message="disk"),
        "ended",
        {"lost": True, "note": "Evicted: disk"},
    ),
    (
        "its pod is gone and the Job failed",
        there(conditions=[condition("Failed", reason="BackoffLimitExceeded", message="b")]),
        None,
        "ended",
        {"lost": True, "note": "BackoffLimitExceeded: b"},
    ),
    (
        "its pod is gone and it ended well",
        there(conditions=[condition("Complete")]),
        None,
        "ended",
        {},
    ),
]


@pytest.mark.parametrize(
    ("job", "seen", "state", "report"),
    [one[1:] for one in SEEN],
    ids=[one[0] for one in SEEN],
)
def test_what_is_seen_is_told(job, seen, state, report):
    found = judge(program("starting"), job, [] if seen is None else [seen])
    assert told(found) == (state, report)


def test_a_job_in_a_queue_waits_for_its_turn():
    job = there()
    job["spec"] = {**job["spec"], "suspend": True}
    assert judge(program("starting"), job, []).report["note"].endswith("waits in queue gpu")
