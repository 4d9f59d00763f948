"""Every pod that is rendered: what it may do on its node, what it asks for, how it is looked after."""

from cachefs.k8s.manifests.whole import documents
from tests.unit.k8s.manifests.installations import (
    EVERY,
    FULL,
    PRIVILEGED,
    each,
    found,
    workloads,
)


def _containers(pod):
    return [*pod.get("initContainers", ()), *pod["containers"]]


@each
def test_pods_are_as_restricted_as_their_namespace_enforces(wanted):
    for workload, pod in workloads(wanted):
        if workload["metadata"]["name"] in PRIVILEGED:
            assert workload["metadata"]["namespace"] == wanted.node_namespace
            continue
        assert workload["metadata"]["namespace"] == wanted.namespace
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not any("hostPath" in volume for volume in pod["volumes"])
        for container in _containers(pod):
            limits = container["securityContext"]
            assert not limits["allowPrivilegeEscalation"]
            assert limits["capabilities"] == {"drop": ["ALL"]}
            assert "privileged" not in limits
            assert container["resources"]["limits"]["memory"]


@each
def test_no_root_file_system_can_be_written_and_no_node_is_shared(wanted):
    for _, pod in workloads(wanted):
        assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(pod)
        for container in _containers(pod):
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["image"] == wanted.image
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}


@each
def test_what_is_mounted_is_there_and_what_is_there_is_mounted(wanted):
    for workload, pod in workloads(wanted):
        volumes = {volume["name"] for volume in pod["volumes"]} | {
            claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())
        }
        mounted = [mount["name"] for mount in pod["containers"][0]["volumeMounts"]]
        assert sorted(mounted) == sorted(volumes)
        paths = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
        assert len(paths) == len(set(paths))


@each
def test_who_starts_is_waited_for_and_who_ends_is_given_time(wanted):
    for _, pod in workloads(wanted):
        assert pod["terminationGracePeriodSeconds"] >= 30
        assert pod["enableServiceLinks"] is False
        for container in pod["containers"]:
            start = container["startupProbe"]
            assert start["periodSeconds"] * start["failureThreshold"] >= 60
            assert container["livenessProbe"]["timeoutSeconds"] >= 2
            assert container["readinessProbe"]
            ports = {port["name"] for port in container.get("ports", ())}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                asked = container[probe].get("httpGet")
                assert asked is None or asked["port"] in ports
                assert asked is not None or container[probe]["exec"]["command"][0] == "python"


@each
def test_only_those_with_a_right_have_a_token_of_the_api_server(wanted):
    bound = {
        subject["name"]
        for one in documents(wanted)
        if one["kind"].endswith("RoleBinding")
        for subject in one["subjects"]
    }
    for _, pod in workloads(wanted):
        assert pod["automountServiceAccountToken"] == (pod["serviceAccountName"] in bound)


@each
def test_every_service_account_that_is_used_exists_beside_its_pods(wanted):
    accounts = {
        (one["metadata"]["namespace"], one["metadata"]["name"])
        for one in documents(wanted)
        if one["kind"] == "ServiceAccount"
    }
    for workload, pod in workloads(wanted):
        assert (workload["metadata"]["namespace"], pod["serviceAccountName"]) in accounts


def test_images_are_pulled_with_the_secret_that_was_given():
    for wanted in EVERY.values():
        for _, pod in workloads(wanted):
            expected = [{"name": "pull"}] if wanted.image_pull_secret else None
            assert pod.get("imagePullSecrets") == expected


def test_the_daemons_find_the_kubelet_where_it_is():
    for name in PRIVILEGED:
        pod = found(FULL, "DaemonSet", name)["spec"]["template"]["spec"]
        container = pod["containers"][0]
        assert "--kubelet=/var/lib/k0s/kubelet" in container["command"]
        paths = {one["hostPath"]["path"] for one in pod["volumes"] if "hostPath" in one}
        assert "/var/lib/k0s/kubelet/plugins/cachefs.io" in paths
        assert not any("/var/lib/kubelet" in path for path in paths)


def test_what_is_mounted_by_a_daemon_reaches_its_node_and_the_other_daemon():
    def propagation(name):
        pod = found(FULL, "DaemonSet", name)["spec"]["template"]["spec"]
        mounts = pod["containers"][0]["volumeMounts"]
        return {one["name"]: one.get("mountPropagation") for one in mounts}

    assert propagation("cachefs-mounts")["plugin"] == "Bidirectional"
    assert propagation("cachefs-csi")["plugin"] == "HostToContainer"
    assert propagation("cachefs-csi")["pods"] == "Bidirectional"


def test_several_pods_of_a_component_are_on_several_nodes_and_drained_one_by_one():
    for name in ("cachefs-operator", "cachefs-webhook"):
        deployment = found(FULL, "Deployment", name)
        assert deployment["spec"]["replicas"] == 2
        (wish,) = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert wish["topologyKey"] == "kubernetes.io/hostname"
        assert found(FULL, "PodDisruptionBudget", name)["spec"]["maxUnavailable"] == 1
