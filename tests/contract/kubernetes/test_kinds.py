"""What Kubernetes' own kinds demand, what they fill in, and what their namespaces keep out.

Held to the API reference of each kind, and to "Pod Security Standards".
"""

import copy

import pytest

from tests.contract.kubernetes.clients import PODS
from tests.contract.kubernetes.test_patching import DEPLOYMENTS, deployment
from tests.contract.kubernetes.test_reading import pod

HARDENED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def changed(body, path, value):
    """Return a copy of a document with one thing changed; ``...`` takes it away."""
    body = copy.deepcopy(body)
    place = body
    *way, last = path
    for name in way:
        place = place[name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return body


CONTAINER = ("spec", "containers", 0)


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("spec", "containers"), [], "spec.containers"),
        ((*CONTAINER, "name"), "A_b", "spec.containers[0].name"),
        ((*CONTAINER, "image"), "", "spec.containers[0].image"),
        ((*CONTAINER, "imagePullPolicy"), "Soon", "spec.containers[0].imagePullPolicy"),
        (
            (*CONTAINER, "ports"),
            [{"containerPort": 70000}],
            "spec.containers[0].ports[0].containerPort",
        ),
        (
            (*CONTAINER, "ports"),
            [{"containerPort": 1, "name": "much-too-long-a-name"}],
            "spec.containers[0].ports[0].name",
        ),
        (
            (*CONTAINER, "volumeMounts"),
            [{"name": "none", "mountPath": "/x"}],
            "spec.containers[0].volumeMounts[0].name",
        ),
        (
            (*CONTAINER, "resources"),
            {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}},
            "spec.containers[0].resources.requests",
        ),
        ((*CONTAINER, "livenessProbe"), {"periodSeconds": 1}, "spec.containers[0].livenessProbe"),
        (
            (*CONTAINER, "securityContext"),
            {"privileged": True, "allowPrivilegeEscalation": False},
            "spec.containers[0].securityContext",
        ),
        (("spec", "restartPolicy"), "Sometimes", "spec.restartPolicy"),
        (("spec", "volumes"), [{"name": "v"}], "spec.volumes[0]"),
        (
            ("spec", "volumes"),
            [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}],
            "spec.volumes[0].hostPath",
        ),
        (("spec", "tolerations"), [{"operator": "Equal"}], "spec.tolerations[0].operator"),
        (
            ("spec", "initContainers"),
            [{"name": "i", "image": "i:1", "readinessProbe": {"exec": {"command": ["x"]}}}],
            "spec.initContainers[0].readinessProbe",
        ),
    ],
)
def test_a_pod_that_breaks_a_rule_is_invalid(api, path, value, field):
    """Pod v1 core: 422, the cause names the field."""
    assert api.post(PODS, pod("good")).code == 201
    refused = api.post(PODS, changed(pod("bad"), path, value))
    assert refused.code == 422
    assert field in [cause["field"] for cause in refused.causes]


def test_bidirectional_mounts_are_for_privileged_containers(api):
    """Volumes, "Mount propagation"."""
    body = pod("a")
    body["spec"]["volumes"] = [{"name": "v", "hostPath": {"path": "/x", "type": "Directory"}}]
    mount = {"name": "v", "mountPath": "/x", "mountPropagation": "Bidirectional"}
    body["spec"]["containers"][0]["volumeMounts"] = [mount]
    assert api.post(PODS, body).code == 422
    body["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    assert api.post(PODS, body).code == 201


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("spec", "selector"), {"matchLabels": {"app": "x"}}, "spec.template.metadata.labels"),
        (("spec", "selector"), {"matchLabels": {}}, "spec.selector"),
        (
            ("spec", "template", "spec", "restartPolicy"),
            "Never",
            "spec.template.spec.restartPolicy",
        ),
        (
            ("spec", "strategy"),
            {"type": "Recreate", "rollingUpdate": {}},
            "spec.strategy.rollingUpdate",
        ),
        (("spec", "replicas"), -1, "spec.replicas"),
    ],
)
def test_a_deployment_that_breaks_a_rule_is_invalid(api, path, value, field):
    """Deployment v1 apps: the selector fits the template, pods are restarted always."""
    refused = api.post(DEPLOYMENTS, changed(deployment(), path, value))
    assert (refused.code, refused.causes[0]["field"]) == (422, field)


def test_what_selects_pods_cannot_be_changed(api):
    """ "Deployments", "Label selector updates": the selector is immutable."""
    api.post(DEPLOYMENTS, deployment())
    more = {"matchLabels": {"app": "d", "more": "x"}}
    refused = api.merge(f"{DEPLOYMENTS}/d", {"spec": {"selector": more}})
    assert (refused.code, refused.causes[0]["field"]) == (422, "spec.selector")


def test_of_a_stateful_set_little_can_be_changed(api):
    """StatefulSet v1 apps: updates for other fields than a few are forbidden."""
    path = "/apis/apps/v1/namespaces/default/statefulsets"
    body = {**deployment("s"), "kind": "StatefulSet"}
    body["spec"]["serviceName"] = "s"
    api.post(path, body)
    assert api.merge(f"{path}/s", {"spec": {"replicas": 3}}).code == 200
    refused = api.merge(f"{path}/s", {"spec": {"serviceName": "other"}})
    assert (refused.code, refused.causes[0]["reason"]) == (422, "FieldValueForbidden")


def test_a_running_pod_keeps_its_spec(api):
    """Pod v1 core: of a pod's spec, only images and a few other fields can be changed."""
    api.post(PODS, pod("a"))
    image = {"spec": {"containers": [{"name": "a", "image": "a:2"}]}}
    assert api.strategic(f"{PODS}/a", image).code == 200
    assert api.merge(f"{PODS}/a", {"spec": {"hostNetwork": True}}).code == 422


def test_a_value_of_another_type_cannot_be_read(api):
    """What cannot be decoded into the kind's types is a bad request."""
    refused = api.post(DEPLOYMENTS, changed(deployment(), ("spec", "replicas"), "three"))
    assert (refused.code, refused.reason) == (400, "BadRequest")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (
            "/api/v1/namespaces/default/services",
            {"kind": "Service", "spec": {"selector": {"a": "b"}}},
            "spec.ports",
        ),
        (
            "/api/v1/namespaces/default/persistentvolumeclaims",
            {"kind": "PersistentVolumeClaim", "spec": {"accessModes": ["ReadOnlyMany"]}},
            "spec.resources[storage]",
        ),
        (
            "/api/v1/persistentvolumes",
            {
                "kind": "PersistentVolume",
                "spec": {
                    "capacity": {"storage": "1Gi"},
                    "accessModes": ["ReadOnlyMany"],
                    "csi": {"driver": "x.io", "volumeHandle": ""},
                },
            },
            "spec.csi.volumeHandle",
        ),
        (
            "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
            {"kind": "PodDisruptionBudget", "spec": {"minAvailable": 1, "maxUnavailable": 1}},
            "spec",
        ),
        (
            "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
            {
                "kind": "HorizontalPodAutoscaler",
                "spec": {
                    "minReplicas": 3,
                    "maxReplicas": 2,
                    "scaleTargetRef": {"kind": "Thing", "name": "a"},
                },
            },
            "spec.maxReplicas",
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterroles",
            {"kind": "ClusterRole", "rules": [{"verbs": ["get"], "resources": ["pods"]}]},
            "rules[0].apiGroups",
        ),
        (
            "/api/v1/namespaces/default/configmaps",
            {"kind": "ConfigMap", "data": {"a/b": "c"}},
            "data[a/b]",
        ),
        (
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
            {
                "kind": "MutatingWebhookConfiguration",
                "webhooks": [
                    {
                        "name": "short",
                        "sideEffects": "None",
                        "admissionReviewVersions": ["v1"],
                        "clientConfig": {"url": "https://x"},
                    }
                ],
            },
            "webhooks[0].name",
        ),
    ],
)
def test_other_kinds_have_their_rules_too(api, path, body, field):
    """The API reference of each kind; 422, the cause names the field."""
    refused = api.post(path, {**body, "metadata": {"name": "a"}})
    assert refused.code == 422
    assert field in [cause["field"] for cause in refused.causes]


def test_the_server_fills_in_what_objects_leave_out(api):
    """api-conventions, "Defaulting": defaults are part of the stored object."""
    job = {
        "kind": "Job",
        "metadata": {"name": "j"},
        "spec": {"template": {"spec": {**pod("x")["spec"], "restartPolicy": "Never"}}},
    }
    made = api.post("/apis/batch/v1/namespaces/default/jobs", job)
    labels = made["spec"]["template"]["metadata"]["labels"]
    assert made["spec"]["backoffLimit"] == 6
    assert labels["batch.kubernetes.io/controller-uid"] == made["metadata"]["uid"]
    secret = api.post(
        "/api/v1/namespaces/default/secrets",
        {"kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}},
    )
    assert (secret["type"], secret["data"]) == ("Opaque", {"a": "Yg=="})
    service = {"kind": "Service", "metadata": {"name": "v"}, "spec": {"ports": [{"port": 80}]}}
    spec = api.post("/api/v1/namespaces/default/services", service)["spec"]
    assert (spec["type"], spec["ports"][0]["targetPort"]) == ("ClusterIP", 80)
    assert spec["clusterIP"].startswith("10.")
    api.merge("/api/v1/namespaces/default/services/v", {"spec": {"sessionAffinity": "ClientIP"}})
    assert (
        api.get("/api/v1/namespaces/default/services/v")["spec"]["clusterIP"] == spec["clusterIP"]
    )


def labelled(server, **levels):
    labels = {f"pod-security.kubernetes.io/{mode}": level for mode, level in levels.items()}
    metadata = {"name": "guarded", "labels": labels}
    server.install({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})


INSIDE = "/api/v1/namespaces/guarded/pods"


def test_a_restricted_namespace_takes_hardened_pods_only(server, api):
    """ "Restricted": non-root, no escalation, no capabilities, a seccomp profile, few kinds of volumes."""
    labelled(server, enforce="restricted")
    refused = api.post(INSIDE, pod("plain"))
    assert (refused.code, refused.reason) == (403, "Forbidden")
    assert 'violates PodSecurity "restricted:latest"' in refused["message"]
    for word in ("allowPrivilegeEscalation", "capabilities", "runAsNonRoot", "seccompProfile"):
        assert word in refused["message"]
    hardened = changed(pod("hard"), (*CONTAINER, "securityContext"), HARDENED)
    assert api.post(INSIDE, hardened).code == 201
    hardened["metadata"]["name"] = "host"
    hardened["spec"]["volumes"] = [{"name": "h", "hostPath": {"path": "/x"}}]
    assert "hostPath" in api.post(INSIDE, hardened)["message"]


def test_a_baseline_namespace_keeps_out_what_leads_to_the_node(server, api):
    """ "Baseline": no host namespaces, host ports, host paths, privileges."""
    labelled(server, enforce="baseline")
    assert api.post(INSIDE, pod("plain")).code == 201
    for name, path, value in (
        ("network", ("spec", "hostNetwork"), True),
        ("privileged", (*CONTAINER, "securityContext"), {"privileged": True}),
        ("port", (*CONTAINER, "ports"), [{"containerPort": 80, "hostPort": 80}]),
        ("capability", (*CONTAINER, "securityContext"), {"capabilities": {"add": ["SYS_ADMIN"]}}),
    ):
        assert api.post(INSIDE, changed(pod(name), path, value)).code == 403


def test_a_workload_is_warned_of_and_a_privileged_namespace_takes_all(server, api):
    """ "Pod Security Admission": enforce concerns pods, warn also what makes them."""
    labelled(server, enforce="privileged", warn="restricted")
    warned = api.post(DEPLOYMENTS.replace("default", "guarded"), deployment())
    assert warned.code == 201
    assert "would violate PodSecurity" in warned.headers["Warning"]
    assert api.post(INSIDE, changed(pod("a"), ("spec", "hostNetwork"), True)).code == 201
