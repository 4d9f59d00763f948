"""What is rendered is what Kubernetes takes, and asks for no right and shows no secret."""

import json
from dataclasses import replace

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from cachefs.cli import main
from cachefs.config.files import from_document
from cachefs.config.schema import GIB, ClusterConfig, CoordinatorConfig, WorkerConfig
from cachefs.errors import ConfigError
from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests import documents
from cachefs.k8s.manifests.parts import quantity

PLAIN = Installation(image="example/cachefs@sha256:00")
FULL = Installation(
    image="example/cachefs:1",
    namespace="models",
    workers=0,
    disk_bytes=GIB,
    memory_bytes=2 * GIB,
    storage_class="local-nvme",
    node_selector={"gpu": "h100"},
    store_secret="store",
    origins_secret="buckets",
)
both = pytest.mark.parametrize("wanted", [PLAIN, FULL], ids=["plain", "full"])


def _pods(wanted):
    for document in documents(wanted):
        if document["kind"] in ("Deployment", "StatefulSet"):
            yield document, document["spec"]["template"]["spec"]


def _bytes(quantity):
    return int(quantity[:-2]) * {"Gi": 1 << 30, "Mi": 1 << 20}[quantity[-2:]]


def _found(wanted, kind, name):
    (found,) = (
        each
        for each in documents(wanted)
        if (each["kind"], each["metadata"]["name"]) == (kind, name)
    )
    return found


@pytest.mark.slow
@both
@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_every_object_is_valid(wanted, version):
    for document in documents(wanted):
        kubernetes_validate.validate(document, version, strict=True)


@both
def test_every_object_is_in_the_namespace_and_named_once(wanted):
    names = [(each["kind"], each["metadata"]["name"]) for each in documents(wanted)]
    assert len(names) == len(set(names))
    for document in documents(wanted)[1:]:
        assert document["metadata"]["namespace"] == wanted.namespace


@both
def test_pods_are_as_restricted_as_the_namespace_enforces(wanted):
    for _, pod in _pods(wanted):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not any("hostPath" in volume for volume in pod["volumes"])
        for container in pod["containers"]:
            limits = container["securityContext"]
            assert limits["readOnlyRootFilesystem"]
            assert not limits["allowPrivilegeEscalation"]
            assert limits["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


@both
def test_nothing_has_a_right_in_the_cluster(wanted):
    assert not [each for each in documents(wanted) if "Role" in each["kind"]]
    for _, pod in _pods(wanted):
        assert pod["automountServiceAccountToken"] is False


@both
def test_no_secret_is_rendered(wanted):
    assert not [each for each in documents(wanted) if each["kind"] == "Secret"]
    for _, pod in _pods(wanted):
        for variable in pod["containers"][0]["env"]:
            assert "value" not in variable


@both
def test_configurations_are_those_of_the_processes(wanted):
    for component, form in (("coordinator", CoordinatorConfig), ("worker", WorkerConfig)):
        text = _found(wanted, "ConfigMap", f"cachefs-{component}")["data"][f"{component}.json"]
        document = json.loads(text)
        from_document(ClusterConfig, document["cluster"])
        own = (
            {"name": "w", "host": "10.0.0.1", **document["worker"]}
            if form is WorkerConfig
            else {"host": "10.0.0.1", **document["coordinator"]}
        )
        from_document(form, own)


@both
def test_selectors_services_and_policies_mean_the_same_pods(wanted):
    for workload, _ in _pods(wanted):
        spec, name = workload["spec"], workload["metadata"]["name"]
        labels = spec["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"] == labels
        assert _found(wanted, "Service", name)["spec"]["selector"] == labels
        policy = _found(wanted, "NetworkPolicy", name)["spec"]
        assert policy["podSelector"]["matchLabels"] == labels
        ports = {
            port["containerPort"] for port in spec["template"]["spec"]["containers"][0]["ports"]
        }
        assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == ports


def test_control_is_open_to_the_other_component_alone():
    policy = _found(PLAIN, "NetworkPolicy", "cachefs-worker")["spec"]
    assert policy["ingress"][1]["from"] == [
        {
            "podSelector": {
                "matchLabels": _found(PLAIN, "Service", "cachefs-coordinator")["spec"]["selector"]
            }
        }
    ]


def test_pods_are_made_anew_when_their_configuration_changes_and_only_then():
    def marks(wanted):
        return [
            workload["spec"]["template"]["metadata"]["annotations"] for workload, _ in _pods(wanted)
        ]

    assert marks(PLAIN) == marks(replace(PLAIN, workers=7))
    larger = marks(replace(PLAIN, disk_bytes=200 * GIB))
    assert larger[0] == marks(PLAIN)[0]
    assert larger[1] != marks(PLAIN)[1]


@pytest.mark.parametrize(
    ("size", "written"), [(GIB, "1Gi"), (1 << 20, "1Mi"), (GIB + 1, str(GIB + 1)), (0, "0Gi")]
)
def test_sizes_are_written_as_kubernetes_does(size, written):
    assert quantity(size) == written


def test_a_shared_store_makes_two_coordinators_that_need_no_volume():
    assert _found(PLAIN, "Deployment", "cachefs-coordinator")["spec"]["replicas"] == 1
    assert _found(FULL, "Deployment", "cachefs-coordinator")["spec"]["replicas"] == 2
    assert not [each for each in documents(FULL) if each["kind"] == "PersistentVolumeClaim"]


def test_tiers_fit_into_what_holds_them():
    text = _found(FULL, "ConfigMap", "cachefs-worker")["data"]["worker.json"]
    memory, disk = json.loads(text)["worker"]["tiers"]
    pod = _found(FULL, "StatefulSet", "cachefs-worker")["spec"]["template"]["spec"]
    room = next(each["emptyDir"] for each in pod["volumes"] if each["name"] == "memory")
    limit = _bytes(pod["containers"][0]["resources"]["limits"]["memory"])
    assert memory["capacity_bytes"] < _bytes(room["sizeLimit"]) < limit
    assert disk["capacity_bytes"] < FULL.disk_bytes


@pytest.mark.parametrize(
    "wrong",
    [
        {"namespace": "Models"},
        {"namespace": "-"},
        {"image": "a b"},
        {"image": ""},
        {"workers": -1},
        {"disk_bytes": 1},
        {"memory_bytes": -1},
    ],
)
def test_what_cannot_be_installed_is_refused(wrong):
    with pytest.raises(ConfigError):
        Installation(**{"image": "example/cachefs:1", **wrong})


def test_the_command_prints_what_kubectl_takes():
    words = "k8s render --image example/cachefs:1 --namespace models --workers 5 --memory 1GiB"
    done = CliRunner().invoke(main.app, [*words.split(), "--node-selector", "gpu=h100"])
    assert done.exit_code == 0, done.output
    assert "    {\n" in done.stdout, "a configuration is written line by line"
    printed = list(yaml.safe_load_all(done.stdout))
    wanted = Installation(
        image="example/cachefs:1",
        namespace="models",
        workers=5,
        memory_bytes=GIB,
        node_selector={"gpu": "h100"},
    )
    assert printed == documents(wanted)
