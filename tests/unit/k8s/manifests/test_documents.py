"""What is rendered is what Kubernetes takes, is in its namespace, and shows no secret."""

import json
from dataclasses import replace

import kubernetes_validate
import pytest

from cachefs.config.files import from_document
from cachefs.config.schema import GIB, ClusterConfig, CoordinatorConfig, WorkerConfig
from cachefs.errors import ConfigError
from cachefs.k8s.installation import Installation, installed
from cachefs.k8s.manifests.parts import quantity
from cachefs.k8s.manifests.whole import documents
from tests.unit.k8s.manifests.installations import (
    DEFAULT,
    FULL,
    PLAIN,
    PLAIN_FULL,
    each,
    found,
    workloads,
)

OTHERS = ("cachefs.io/", "monitoring.coreos.com/")


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [FULL, PLAIN_FULL], ids=["full", "plain-full"])
@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_every_object_is_valid(wanted, version):
    for document in documents(wanted):
        if not document["apiVersion"].startswith(OTHERS):
            kubernetes_validate.validate(document, version, strict=True)


@each
def test_every_object_is_in_one_of_the_namespaces_and_named_once(wanted):
    keys = [
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"])
        for one in documents(wanted)
    ]
    assert len(keys) == len(set(keys))
    of_the_cluster = {kind for kind, namespace, _ in keys if namespace is None}
    assert of_the_cluster <= {
        "Namespace",
        "CustomResourceDefinition",
        "ClusterRole",
        "ClusterRoleBinding",
        "CSIDriver",
        "MutatingWebhookConfiguration",
    }
    assert {namespace for _, namespace, _ in keys} - {None} <= {
        wanted.namespace,
        wanted.node_namespace,
    }


@each
def test_definitions_and_namespaces_come_before_what_needs_them(wanted):
    order = ["CustomResourceDefinition", "Namespace", "ServiceAccount"]
    places = [order.index(one["kind"]) if one["kind"] in order else 3 for one in documents(wanted)]
    assert places == sorted(places)


def test_what_is_privileged_has_a_namespace_of_its_own():
    levels = {
        one["metadata"]["name"]: one["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for one in documents(FULL)
        if one["kind"] == "Namespace"
    }
    assert levels == {"models": "restricted", "models-node": "privileged"}


@each
def test_no_secret_is_rendered(wanted):
    for document in documents(wanted):
        if document["kind"] == "Secret":
            assert not {"data", "stringData"} & set(document), "the operator fills it"
    for _, pod in workloads(wanted):
        for variable in pod["containers"][0].get("env", ()):
            name = variable["name"]
            assert "value" not in variable or name.endswith("_FILE") or "TOKEN" not in name


@each
def test_configurations_are_those_of_the_processes(wanted):
    for document in documents(wanted):
        if document["kind"] != "ConfigMap" or "data" not in document:
            continue
        ((file, text),) = document["data"].items()
        if file not in ("worker.json", "coordinator.json"):
            continue
        config = json.loads(text)
        from_document(ClusterConfig, config["cluster"])
        if file == "worker.json":
            from_document(WorkerConfig, {"name": "w", "host": "10.0.0.1", **config["worker"]})
        else:
            from_document(CoordinatorConfig, {"host": "10.0.0.1", **config["coordinator"]})


@each
def test_selectors_services_and_budgets_mean_the_same_pods(wanted):
    by_component = {}
    for workload, _ in workloads(wanted):
        spec = workload["spec"]
        marks = spec["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"].items() <= marks.items()
        by_component[marks["app.kubernetes.io/component"]] = (
            marks,
            spec["template"]["spec"]["containers"][0].get("ports", ()),
        )
    for document in documents(wanted):
        spec, name = document.get("spec", {}), document["metadata"]["name"]
        if document["kind"] == "Service":
            marks, ports = by_component[name]
            assert spec["selector"].items() <= marks.items()
            named = {port["name"] for port in ports}
            assert {port["targetPort"] for port in spec["ports"]} == named
        elif document["kind"] == "PodDisruptionBudget":
            assert spec["selector"]["matchLabels"].items() <= by_component[name][0].items()


def test_coordinators_are_made_anew_when_their_configuration_changes_and_only_then():
    def mark(wanted):
        deployment = found(wanted, "Deployment", "cachefs-coordinator")
        return deployment["spec"]["template"]["metadata"]["annotations"]

    assert mark(DEFAULT) == mark(replace(DEFAULT, workers=7))
    assert mark(DEFAULT) != mark(replace(DEFAULT, store_secret="store"))


def test_programs_of_flows_are_handed_out_where_somebody_runs_them_and_refused_elsewhere():
    def flows(wanted):
        config = found(wanted, "ConfigMap", "cachefs-coordinator")["data"]["coordinator.json"]
        return json.loads(config)["coordinator"]["flows"]

    assert flows(DEFAULT) == {"handed_out": True}
    for wanted in (PLAIN, replace(DEFAULT, programs=False)):
        assert flows(wanted) == {"processes": False}


def test_a_shared_store_makes_two_coordinators_that_need_no_volume():
    for one, two in ((PLAIN, PLAIN_FULL), (DEFAULT, FULL)):
        assert found(one, "Deployment", "cachefs-coordinator")["spec"]["replicas"] == 1
        assert found(two, "Deployment", "cachefs-coordinator")["spec"]["replicas"] == 2
        assert not [each for each in documents(two) if each["kind"] == "PersistentVolumeClaim"]


def test_the_pool_asks_for_what_the_installation_does():
    assert found(FULL, "CachePool", "default")["spec"] == {
        "mode": "Workers",
        "workers": 0,
        "tiers": [
            {"medium": "memory", "size": "2Gi"},
            {"medium": "disk", "size": "100Gi", "storageClassName": "local-nvme"},
        ],
        "zones": ["a", "b"],
        "nodeSelector": {"gpu": "h100"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
    }


def test_the_operator_is_told_what_it_needs_to_make_workers_as_they_are_rendered():
    container = found(FULL, "Deployment", "cachefs-operator")["spec"]["template"]["spec"][
        "containers"
    ][0]
    environment = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    told = installed(environment)
    fields = ("image", "namespace", "node_namespace", "csi", "webhook", "programs")
    for field in (*fields, "origins_secret"):
        assert getattr(told, field) == getattr(FULL, field)
    assert told.image_pull_secret == "pull"
    del environment["CACHEFS_IMAGE"]
    with pytest.raises(ConfigError, match="CACHEFS_IMAGE"):
        installed(environment)


def test_the_webhook_fails_open_and_sees_nothing_that_nobody_asked_for():
    configuration = found(FULL, "MutatingWebhookConfiguration", "cachefs")
    for webhook in configuration["webhooks"]:
        assert webhook["failurePolicy"] == "Ignore"
        assert 1 <= webhook["timeoutSeconds"] <= 5
        assert webhook["objectSelector"]
        assert "caBundle" not in webhook["clientConfig"]
        (not_in,) = webhook["namespaceSelector"]["matchExpressions"]
        assert {"kube-system", "models", "models-node"} <= set(not_in["values"])


def test_the_driver_is_told_whose_pod_a_volume_is_for():
    spec = found(DEFAULT, "CSIDriver", "cachefs.io")["spec"]
    assert spec["podInfoOnMount"]
    assert not spec["attachRequired"]
    assert set(spec["volumeLifecycleModes"]) == {"Persistent", "Ephemeral"}


@pytest.mark.parametrize(
    ("size", "written"), [(GIB, "1Gi"), (1 << 20, "1Mi"), (GIB + 1, str(GIB + 1)), (0, "0Gi")]
)
def test_sizes_are_written_as_kubernetes_does(size, written):
    assert quantity(size) == written


@pytest.mark.parametrize(
    "wrong",
    [
        {"namespace": "Models"},
        {"namespace": "-"},
        {"namespace": "cachefs-node"},
        {"node_namespace": "a.b"},
        {"zones": ("a b",)},
        {"image": "a b"},
        {"image": ""},
        {"kubelet_folder": "var/lib"},
        {"kubelet_folder": "/var/lib/$(x)"},
        {"plain": True, "observing": True},
        {"workers": -1},
        {"disk_bytes": 1},
        {"memory_bytes": -1},
    ],
)
def test_what_cannot_be_installed_is_refused(wrong):
    with pytest.raises(ConfigError):
        Installation(**{"image": "example/cachefs:1", **wrong})
