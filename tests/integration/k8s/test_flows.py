"""Flows on a cluster, end to end: an operator's process, a coordinator's, workers, and an API server.

Programs run as Jobs, which a stand-in for controller and kubelet carries out as processes of this machine.
"""

import os

import pytest

from cachefs.config.schema import FlowConfig, HintsConfig
from cachefs.k8s import crds
from cachefs.k8s.cluster import open_cluster
from cachefs.k8s.kinds import DEPLOYMENTS, EVENTS, JOBS, PODS
from cachefs.k8s.manifests import permissions
from cachefs.k8s.names import FLOW_RUNS, FLOWS, PROGRAM
from cachefs.testing.kubernetes import ApiServer
from tests.integration.k8s.controllers import Controllers
from tests.integration.k8s.operators import INSTALLATION, Operator, namespace
from tests.integration.systems import MIB, System, wait_for

pytestmark = pytest.mark.slow

SECONDS = 40.0
TEAM = "team"
HANDED_OUT = FlowConfig(handed_out=True, executor_seconds=60.0)


class Site:
    """A cluster with one operator, held to its roles, that a test may kill."""

    def __init__(self, folder, server, system):
        self.folder = folder
        self.system = system
        self.server = server
        self.kubeconfig = server.kubeconfig(folder / "kubeconfig")
        self.cluster = open_cluster(self.kubeconfig)
        self.operator = None

    def start_operator(self):
        token = self.server.account("cachefs", "cachefs-operator")
        self.operator = Operator(self.folder, self.server, self.system, token=token)

    def make(self, kind, name, spec):
        return self.cluster.create(
            {
                "apiVersion": kind.api_version,
                "kind": kind.kind,
                "metadata": {"name": name, "namespace": TEAM},
                "spec": spec,
            }
        )

    def status(self, kind, name):
        return (self.cluster.get(kind, name, TEAM) or {}).get("status") or {}

    def log(self):
        return self.operator.log()[-4000:]

    def wait_for_phase(self, name, *phases):
        def reached():
            status = self.status(FLOW_RUNS, name)
            return status if status.get("phase") in phases else None

        return wait_for(reached, SECONDS, lambda: f"{self.status(FLOW_RUNS, name)}\n{self.log()}")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    with ApiServer(authorizing=True, tls=True) as server, System(folder, duties=True) as system:
        server.install(
            *(namespace(name) for name in ("cachefs", "cachefs-node", TEAM)),
            *crds.documents(),
            *(one for one in permissions.documents(INSTALLATION) if "rules" in one),
            *(one for one in permissions.documents(INSTALLATION) if "roleRef" in one),
        )
        # A second node, far away, so that hints have something to say.
        nodes = folder / "nodes.yaml"
        nodes.write_text("nodes:\n  other: {zone: far, nic: 1000}\n")
        system.start_coordinator(flows=HANDED_OUT, hints=HintsConfig(nodes_file=str(nodes)))
        system.start_worker("w1", node_name="node-w1")
        system.wait_for_members("w1")
        made = Site(folder, server, system)
        made.start_operator()
        try:
            yield made
            assert "forbidden" not in made.operator.log()
        finally:
            made.operator.process.stop(kill=True)


@pytest.fixture
def controllers(site, tmp_path):
    with Controllers(site.kubeconfig, tmp_path / "jobs", {"PATH": os.environ["PATH"]}) as made:
        yield made
    assert not [str(one) for one in made.troubles]


def process(name, text, **more):
    command = ["/bin/sh", "-c", text]
    return {"id": name, "kind": "process", "with": {"command": command, "image": "t:1"}, **more}


def a_deployment(site, name, replicas):
    labels = {"app": name}
    containers = [{"name": "server", "image": "llama:1"}]
    site.make(
        DEPLOYMENTS,
        name,
        {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    )


def pods_with(site, app):
    found = [
        one
        for one in site.cluster.find(PODS, TEAM, labels={"app": app})
        if not one["metadata"].get("deletionTimestamp")
    ]
    return sorted(
        (
            one["metadata"].get("annotations", {}).get("cachefs.io/version", ""),
            one["spec"]["containers"][0]["image"],
        )
        for one in found
    )


def test_a_flow_migrates_prefetches_runs_programs_and_rolls_out(site, controllers):
    origin = site.folder / "llama"
    origin.mkdir()
    (origin / "model.bin").write_bytes(os.urandom(2 * MIB))
    a_deployment(site, "llama", 3)
    wait_for(lambda: len(pods_with(site, "llama")) == 3)
    text = "echo measured; echo '{\"score\": 0.9}' > $CACHEFS_OUTPUTS"
    steps = [
        {
            "id": "copy",
            "kind": "migrate",
            "with": {"from": f"file://{origin}", "to": "dataset:llama@v2"},
        },
        {"id": "warm", "kind": "prefetch", "needs": ["copy"], "with": {"dataset": "llama@v2"}},
        process("measure", text, needs=["warm"]),
        process(
            "accept",
            'test "$SCORE" = 0.9',
            needs=["measure"],
        ),
        {
            "id": "roll",
            "kind": "rollout",
            "needs": ["accept"],
            "with": {
                "target": "deployment/llama",
                "revision": "v2",
                "image": "llama:2",
                "replicas": 3,
                "batch": [1, 3],
            },
        },
    ]
    steps[2]["with"]["mounts"] = [{"dataset": "llama@v2", "path": "/llama"}]
    steps[3]["with"]["env"] = {"SCORE": "${steps.measure.outputs.score}"}
    site.make(FLOWS, "publish", {"steps": steps})
    site.make(FLOW_RUNS, "publish-1", {"flow": "publish"})
    status = site.wait_for_phase("publish-1", "Succeeded", "Failed", "RolledBack")
    assert (status["phase"], status["progress"].partition(",")[0]) == ("Succeeded", "5/5 steps")
    assert status["bytes"] >= 2 * MIB
    assert [(one["id"], one["phase"]) for one in status["steps"]] == [
        (one["id"], "Succeeded") for one in steps
    ]
    assert controllers.begun == ["measure", "accept"]
    (measuring,) = site.cluster.find(JOBS, TEAM, labels={"cachefs.io/step": "measure"})
    pod = measuring["spec"]["template"]["spec"]
    attributes = {"dataset": "team/llama", "version": "v2"}
    assert pod["volumes"][0]["csi"]["volumeAttributes"] == attributes
    terms = pod["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert "node-w1" in str(terms[0]), "it is drawn to where its data is"
    assert pods_with(site, "llama") == [("v2", "llama:2")] * 3
    assert all(ready >= 3 for _, old, ready in controllers.shapes if old), "never too few"
    run = site.system.api.get(f"/v1/runs/{status['run']}")
    (measured,) = [one for one in run["steps"] if one["id"] == "measure"]
    assert measured["outputs"]["score"] == 0.9
    conditions = site.status(FLOWS, "publish")["conditions"]
    assert [(one["type"], one["status"]) for one in conditions] == [
        ("Valid", "True"),
        ("Registered", "False"),
    ]


def test_a_rollout_that_fails_goes_back_to_what_was_there(site, controllers):
    a_deployment(site, "mistral", 2)
    wait_for(lambda: len(pods_with(site, "mistral")) == 2)
    roll = {
        "id": "roll",
        "kind": "rollout",
        "with": {
            "target": "deployment/mistral",
            "revision": "v2",
            "image": "llama:2",
            "replicas": 2,
        },
        "compensate": {"to_revision": "v1"},
    }
    bad = process("smoke", "echo it smokes; exit 3", needs=["roll"], on_failure="rollback")
    site.make(FLOW_RUNS, "back", {"document": {"steps": [roll, bad]}})
    status = site.wait_for_phase("back", "Succeeded", "Failed", "RolledBack")
    assert status["phase"] == "RolledBack"
    assert "it smokes" in status["steps"][1]["message"]
    assert [image for _, image in pods_with(site, "mistral")] == ["llama:1"] * 2


def test_a_cancelled_run_ends_its_programs_and_a_deleted_one_too(site, controllers):
    for name in ("cancelled", "deleted"):
        site.make(FLOW_RUNS, name, {"document": {"steps": [process("long", "sleep 600")]}})
        wait_for(lambda: controllers.begun.count("long") == 1, SECONDS, site.log)
        if name == "cancelled":
            patch = {"spec": {"cancel": True}}
            site.cluster.patch(FLOW_RUNS, name, TEAM, patch)
            assert site.wait_for_phase(name, "Cancelled", "Failed")["phase"] == "Cancelled"
        else:
            run = wait_for(lambda: site.status(FLOW_RUNS, "deleted").get("run"))
            site.cluster.delete(FLOW_RUNS, name, TEAM)
            wait_for(
                lambda run=run: (
                    site.system.api.get(f"/v1/runs/{run}")["run"]["state"] == "Cancelled"
                ),
                SECONDS,
                site.log,
            )
        wait_for(lambda: not _active_jobs(site), SECONDS, site.log)
        controllers.begun.clear()


def test_operators_and_coordinators_are_killed_and_no_program_runs_twice(site, controllers):
    starts = site.folder / "starts"
    steps = [process("p0", f"echo 0 >> {starts}")]
    for number in range(1, 6):
        text = f"sleep 0.4; echo {number} >> {starts}"
        steps.append(process(f"p{number}", text, needs=[f"p{number - 1}"]))
    site.make(FLOW_RUNS, "many", {"document": {"steps": steps}})
    wait_for(lambda: "p0" in controllers.begun, SECONDS, site.log)
    site.operator.process.stop(kill=True)
    site.start_operator()
    wait_for(lambda: "p2" in controllers.begun, SECONDS, site.log)
    site.system.processes["coordinator"].stop(kill=True)
    site.system.start_coordinator(flows=HANDED_OUT)
    wait_for(lambda: "p4" in controllers.begun, SECONDS, site.log)
    site.operator.process.stop(kill=True)
    site.start_operator()
    assert site.wait_for_phase("many", "Succeeded", "Failed")["phase"] == "Succeeded"
    assert starts.read_text().split() == [str(number) for number in range(6)]


def test_what_is_wrong_with_a_flow_is_said_at_the_object(site):
    site.make(FLOWS, "wrong", {"steps": [{"id": "a", "kind": "prefetch", "needs": ["b"]}]})
    status = wait_for(lambda: site.status(FLOWS, "wrong"), SECONDS, site.log)
    assert status["conditions"][0]["status"] == "False"
    assert any("unknown step 'b'" in one for one in status["problems"])
    site.make(FLOW_RUNS, "wrong-1", {"flow": "wrong"})
    message = site.wait_for_phase("wrong-1", "Failed")["message"]
    assert message.startswith("Flow wrong: spec.steps.a")
    site.make(FLOW_RUNS, "nowhere", {"flow": "nope"})
    assert site.wait_for_phase("nowhere", "Pending")["message"] == (
        f"there is no Flow nope in namespace {TEAM}"
    )
    about = lambda: [  # noqa: E731
        one["message"]
        for one in site.cluster.find(EVENTS, TEAM)
        if one["involvedObject"]["name"] == "nowhere"
    ]
    told = wait_for(about, SECONDS, site.log)
    assert told == [f"there is no Flow nope in namespace {TEAM}"]


def test_a_flow_with_triggers_is_registered_as_long_as_it_is_there(site):
    spec = {"triggers": [{"cron": "0 3 * * *"}], "steps": [process("a", "true")]}
    site.make(FLOWS, "nightly", spec)
    registered = lambda: [one["flow"] for one in site.system.api.get("/v1/flows")["flows"]]  # noqa: E731
    wait_for(lambda: registered() == ["team/nightly"], SECONDS, site.log)
    site.cluster.delete(FLOWS, "nightly", TEAM)
    wait_for(lambda: registered() == [], SECONDS, site.log)


def _active_jobs(site):
    return [
        one
        for one in site.cluster.find(JOBS, TEAM)
        if PROGRAM in one["metadata"]["labels"] and not (one.get("status") or {}).get("conditions")
    ]


def test_a_pod_is_prefetched_for_and_one_that_is_gated_goes_at_once(site):
    def pod(name, labels, annotations, **spec):
        head = {"name": name, "namespace": TEAM, "labels": labels, "annotations": annotations}
        containers = [{"name": "main", "image": "vllm:1"}]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": head,
            "spec": {"containers": containers, **spec},
        }

    marks = {"cachefs.io/prefetch": "nowhere"}
    site.cluster.create(pod("reads", {"cachefs.io/prefetch": "true"}, marks))
    gates = {"schedulingGates": [{"name": "cachefs.io/data-ready"}]}
    hints = {"cachefs.io/datasets": "nowhere"}
    site.cluster.create(pod("waits", {"cachefs.io/hint": "true"}, hints, **gates))

    def done():
        reads = site.cluster.get(PODS, "reads", TEAM)["metadata"]["annotations"]
        waits = site.cluster.get(PODS, "waits", TEAM)["spec"]
        return "cachefs.io/prefetched" in reads and not waits.get("schedulingGates")

    wait_for(done, 20, site.log)
