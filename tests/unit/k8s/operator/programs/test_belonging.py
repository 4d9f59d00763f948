"""The operator carries out only what an object of the namespace wants; what it meets besides stops nobody else."""

import copy

import pytest

from cachefs.errors import NotKnownError
from cachefs.k8s.kinds import DEPLOYMENTS, JOBS
from cachefs.k8s.names import FLOW_RUNS, FLOWS, MANAGED_BY, OPERATOR, PROGRAM
from cachefs.k8s.operator.programs.executing import Executor
from cachefs.transport.runtime import ThreadRuntime

RUN, PROGRAM_ID = "train-01", "ab12"
OURS = {MANAGED_BY: "cachefs", OPERATOR: "cachefs", PROGRAM: PROGRAM_ID}
WANTED = {
    "command": ["train"],
    "image": "trainer:1",
    "variables": {},
    "secrets": {},
    "workdir": "",
    "mounts": [],
    "resources": {"cpu": 0.0, "memory": 0, "gpu": 0.0},
    "queue": "",
    "seconds": 60.0,
}


class Coordinator:
    """Hands out what it is told to, and keeps what it is told."""

    def __init__(self):
        self.runs = {}
        self.flows = []
        self.programs = []
        self.targets = []
        self.told = {}

    def run(self, name, *, key="", cause="manual", flow="team/train"):
        self.runs[name] = {"id": name, "key": key, "cause": cause, "flow": flow}

    def program(self, namespace="team", run=RUN, state="wanted"):
        head = {"id": PROGRAM_ID, "run": run, "step": "p", "namespace": namespace}
        self.programs = [{**head, "state": state, "stop": False, "wanted": WANTED}]

    def target(self, name, by=f"{RUN}/r"):
        self.targets.append({"name": name, "asked": 1, "by": by, "shape": {}})

    def get(self, path):
        if path == "/v1/handed":
            return {"programs": copy.deepcopy(self.programs), "targets": self.targets}
        if path == "/v1/flows":
            return {"flows": self.flows}
        name = path.removeprefix("/v1/runs/")
        if name not in self.runs:
            raise NotKnownError("no such run", subject=name)
        return {"run": self.runs[name]}

    def post(self, path, body):
        self.told[path.removeprefix("/v1/handed/")] = body
        return {"stop": False, **body}


class Cluster:
    """Objects in memory."""

    def __init__(self):
        self.objects = {}
        self.pods = []

    def put(self, kind, namespace, name, uid="u-1", **more):
        head = {"name": name, "namespace": namespace, "uid": uid, **more.pop("head", {})}
        self.objects[kind.plural, namespace, name] = {"metadata": head, **more}

    def get(self, kind, name, namespace):
        return self.objects.get((kind.plural, namespace, name))

    def find(self, kind, namespace=None, *, labels):
        del labels, namespace
        if kind is JOBS:
            return self.jobs()
        return self.pods

    def create(self, document):
        head = document["metadata"]
        self.objects[JOBS.plural, head["namespace"], head["name"]] = document

    def jobs(self):
        return [one for (kind, *_), one in self.objects.items() if kind == JOBS.plural]


class Site:
    """An operator's executor between the two."""

    def __init__(self):
        self.coordinator = Coordinator()
        self.cluster = Cluster()
        self.executor = Executor(
            ThreadRuntime(), self.cluster, self.coordinator, namespace="cachefs"
        )

    def failure(self):
        self.executor.look()
        assert not self.cluster.jobs()
        return self.coordinator.told.get(f"programs/{PROGRAM_ID}", {}).get("failure", "")

    def begins(self):
        self.executor.look()
        return [one["metadata"]["namespace"] for one in self.cluster.jobs()]

    def flow_run(self, namespace="team", uid="u-1", run=RUN, **more):
        status = {"run": run} if run else {}
        self.cluster.put(FLOW_RUNS, namespace, "train", uid, status=status, **more)


@pytest.fixture
def site():
    made = Site()
    made.coordinator.program()
    made.coordinator.run(RUN, key="kubernetes team/train u-1")
    return made


def test_a_program_of_a_run_that_is_an_object_of_its_namespace_runs(site):
    site.flow_run()
    assert site.begins() == ["team"]


def test_a_program_of_a_run_that_no_object_wants_does_not_run(site):
    site.coordinator.run(RUN)
    assert "of no FlowRun" in site.failure()


def test_a_program_of_a_run_that_is_not_there_does_not_run(site):
    site.coordinator.runs.clear()
    assert "there is no run" in site.failure()


@pytest.mark.parametrize(
    "there",
    [
        {"uid": "u-2"},
        {"namespace": "other"},
        {"head": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
    ],
)
def test_an_object_of_that_name_is_not_enough(site, there):
    site.flow_run(**there)
    assert "of no FlowRun in namespace team" in site.failure()


@pytest.mark.parametrize("namespace", ["kube-system", "cachefs", "other"])
def test_an_object_opens_no_namespace_but_its_own(site, namespace):
    site.flow_run()
    site.coordinator.program(namespace)
    assert f"of no FlowRun in namespace {namespace}" in site.failure()


def test_a_run_that_has_taken_the_key_of_an_object_does_not_have_its_rights(site):
    site.flow_run(run="train-02")
    assert "has another run" in site.failure()


def test_a_run_that_is_not_yet_noted_waits(site):
    site.flow_run(run="")
    assert site.failure() == ""
    assert not site.coordinator.told
    site.flow_run()
    assert site.begins() == ["team"]


def test_a_flow_within_a_flow_is_its_outermost_run(site):
    site.flow_run()
    site.coordinator.run("inner-01", cause=f"flow {RUN}/sub", key=f"{RUN}/sub")
    site.coordinator.run("inner-02", cause="flow inner-01/sub", key="inner-01/sub")
    site.coordinator.program(run="inner-02")
    assert site.begins() == ["team"]


def test_what_a_trigger_started_belongs_to_the_flow_that_has_it(site):
    site.coordinator.run(RUN, cause="cron 60", key="cron 60")
    site.coordinator.flows = [{"flow": "team/train", "owner": "kubernetes u-9 3"}]
    site.cluster.put(FLOWS, "team", "train", "u-9")
    assert site.begins() == ["team"]


@pytest.mark.parametrize("owner", ["", "kubernetes u-8 3", "somebody u-9 3"])
def test_what_a_trigger_started_of_a_flow_that_is_no_object_does_not_run(site, owner):
    site.coordinator.run(RUN, cause="cron 60", key="cron 60")
    site.coordinator.flows = [{"flow": "team/train", "owner": owner}]
    site.cluster.put(FLOWS, "team", "train", "u-9")
    assert "is no Flow in namespace team" in site.failure()


def test_a_rollout_that_no_object_wants_is_refused(site):
    site.coordinator.programs = []
    site.cluster.put(DEPLOYMENTS, "kube-system", "coredns")
    site.coordinator.target("kube-system/deployment/coredns")
    site.flow_run()
    site.executor.look()
    told = site.coordinator.told["targets/kube-system/deployment/coredns"]
    assert "of no FlowRun in namespace kube-system" in told["failure"]


def test_a_rollout_of_which_nobody_says_who_asks_waits(site):
    site.coordinator.target("team/deployment/llama", by="")
    site.executor.look()
    assert "targets/team/deployment/llama" not in site.coordinator.told


def test_a_target_that_makes_no_sense_stops_no_other(site):
    site.flow_run()
    for name in ("team/deployment/a/b", "team/nonsense/x", "team", "team/deployment/llama"):
        site.coordinator.target(name)
    site.executor.look()
    assert "there is no" in site.coordinator.told["targets/team/deployment/llama"]["failure"]
    assert "cannot do it" in site.coordinator.told["targets/team/nonsense/x"]["failure"]


FORGED = {
    "phase": "Succeeded",
    "containerStatuses": [
        {
            "name": "program",
            "state": {
                "terminated": {
                    "exitCode": 0,
                    "startedAt": "2026-01-01T00:00:00Z",
                    "finishedAt": "2026-01-01T00:00:01Z",
                }
            },
        }
    ],
}


@pytest.mark.parametrize(("namespace", "owner"), [("other", "u-1"), ("team", "u-2"), ("team", "")])
def test_a_pod_that_its_job_has_not_made_ends_no_program(site, namespace, owner):
    site.coordinator.program(state="starting")
    site.cluster.put(JOBS, "team", f"cachefs-{PROGRAM_ID}", "u-1", head={"labels": OURS})
    owners = [{"uid": owner, "controller": True}] if owner else []
    head = {"name": "forged", "namespace": namespace, "labels": OURS, "ownerReferences": owners}
    site.cluster.pods = [{"metadata": head, "status": FORGED}]
    site.executor.look()
    assert site.coordinator.told[f"programs/{PROGRAM_ID}"]["state"] == "starting"


def test_a_job_of_another_namespace_is_not_a_programs(site):
    site.flow_run()
    over = {"conditions": [{"type": "Complete", "status": "True"}]}
    site.cluster.put(
        JOBS, "other", f"cachefs-{PROGRAM_ID}", "u-7", head={"labels": OURS}, status=over
    )
    assert site.begins() == ["other", "team"]
