"""The real kubectl, where it is installed: what people type finds what it expects."""

import json
import shutil
import subprocess

import pytest
import yaml

from cachefs.testing.kubernetes import ApiServer
from tests.contract.kubernetes.clients import MAPS, config_map, definition, thing
from tests.contract.kubernetes.test_patching import DEPLOYMENTS, deployment
from tests.contract.kubernetes.test_permissions import binding, role, rule

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
COLUMNS = [
    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
    {
        "name": "Ready",
        "type": "string",
        "jsonPath": '.status.conditions[?(@.type=="Ready")].status',
    },
    {"name": "Color", "type": "string", "jsonPath": ".spec.color", "priority": 1},
]


@pytest.fixture
def kubectl(server, tmp_path):
    """Run kubectl, and return what it says; what it is given goes to its input."""
    return kubectl_of(server, tmp_path)


def kubectl_of(server, folder, **more):
    path = server.kubeconfig(folder / "config", **more)
    fixed = ["kubectl", "--kubeconfig", str(path), "--cache-dir", str(folder / "cache")]

    def run(*words, given=None, fails=False):
        text = yaml.safe_dump(given) if given is not None else None
        done = subprocess.run(
            [*fixed, *words], input=text, capture_output=True, text=True, timeout=30, check=False
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture
def scalable(server):
    scale = {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}
    fields = {"size": {"type": "integer"}, "color": {"type": "string", "default": "red"}}
    subresources = {"status": {}, "scale": scale}
    found = definition(fields, subresources=subresources, additionalPrinterColumns=COLUMNS)
    found["spec"]["names"]["shortNames"] = ["th"]
    server.install(found)


def test_apply_creates_changes_and_leaves_unchanged(kubectl):
    body = deployment()
    assert kubectl("apply", "-f", "-", given=body) == "deployment.apps/d created\n"
    assert kubectl("apply", "-f", "-", given=body) == "deployment.apps/d unchanged\n"
    environment = body["spec"]["template"]["spec"]["containers"][0]["env"]
    environment[:] = [environment[1], {"name": "C", "value": "3"}]
    assert kubectl("apply", "-f", "-", given=body) == "deployment.apps/d configured\n"
    found = json.loads(kubectl("get", "deployment", "d", "-o", "json"))
    shown = found["spec"]["template"]["spec"]["containers"][0]["env"]
    assert [each["name"] for each in shown] == ["B", "C"]


def test_apply_has_unknown_fields_refused_by_the_server(kubectl, scalable):
    said = kubectl("apply", "-f", "-", given=thing("a", odd=1), fails=True)
    assert 'unknown field "spec.odd"' in said
    said = kubectl("apply", "-f", "-", given=thing("a", size="x"), fails=True)
    assert "spec.size: Invalid value" in said


def test_apply_on_the_server_shows_conflicts_and_takes_over(kubectl, api, scalable):
    applied = ("apply", "--server-side", "-f", "-")
    assert kubectl(*applied, given=thing("a", size=1)) == "thing.example.com/a serverside-applied\n"
    kubectl("scale", "thing/a", "--replicas=5")
    said = kubectl(*applied, given=thing("a", size=2), fails=True)
    assert ".spec.size" in said
    kubectl(*applied, "--force-conflicts", given=thing("a", size=2))
    assert kubectl("get", "thing", "a", "-o", "jsonpath={.spec.size}") == "2"


def test_get_shows_the_columns_of_a_definition(kubectl, api, scalable):
    kubectl("create", "-f", "-", given=thing("a", size=3))
    told = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    api.merge("/apis/example.com/v1/namespaces/default/things/a/status", told)
    lines = kubectl("get", "th").splitlines()
    assert [line.split() for line in lines] == [["NAME", "SIZE", "READY"], ["a", "3", "True"]]
    assert "COLOR" in kubectl("get", "th", "-o", "wide")
    assert kubectl("get", "things", "-o", "name") == "thing.example.com/a\n"


@pytest.mark.slow
def test_get_watches(kubectl, api):
    api.post(MAPS, config_map("a"))
    shown = kubectl("get", "configmaps", "-w", "--request-timeout=1s", "-o", "name")
    assert "configmap/a" in shown


def test_wait_sees_a_condition(kubectl, api, scalable):
    kubectl("create", "-f", "-", given=thing("a", size=3))
    told = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    api.merge("/apis/example.com/v1/namespaces/default/things/a/status", told)
    said = kubectl("wait", "thing/a", "--for=condition=Ready", "--timeout=5s")
    assert said == "thing.example.com/a condition met\n"
    definition_name = "crd/things.example.com"
    assert "met" in kubectl("wait", definition_name, "--for=condition=Established", "--timeout=5s")


def test_delete_waits_until_it_is_gone(kubectl, api):
    kubectl(
        "create",
        "-f",
        "-",
        given={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "gone"}},
    )
    api.post("/api/v1/namespaces/gone/configmaps", config_map("a"))
    assert 'namespace "gone" deleted' in kubectl("delete", "namespace", "gone")
    assert api.get("/api/v1/namespaces/gone").code == 404


def test_label_annotate_patch_scale_and_rollout_work(kubectl, api):
    api.post(DEPLOYMENTS, deployment())
    kubectl("label", "deployment", "d", "a=b")
    kubectl("annotate", "deployment", "d", "c=d")
    kubectl("patch", "deployment", "d", "-p", '{"spec": {"paused": true}}')
    kubectl("scale", "deployment/d", "--replicas=4")
    kubectl("rollout", "resume", "deployment/d")
    kubectl("set", "image", "deployment/d", "main=main:2")
    found = api.get(f"{DEPLOYMENTS}/d")
    assert found["metadata"]["labels"] == {"a": "b"}
    assert found["spec"]["replicas"] == 4
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "main:2"
    assert "paused" not in found["spec"]


def test_explain_and_describe_read_the_schema_and_the_object(kubectl, scalable):
    assert "size" in kubectl("explain", "things.spec")
    kubectl("create", "-f", "-", given=thing("a", size=3))
    assert "Size:" in kubectl("describe", "thing", "a")


def test_a_token_is_sent_over_tls_and_held_to_the_roles(tmp_path):
    with ApiServer(authorizing=True, tls=True) as server:
        server.install(role(rule(["list"], ["pods"])), binding())
        kubectl = kubectl_of(server, tmp_path, token=server.account("default", "robot"))
        said = kubectl("get", "configmaps", fails=True)
        assert 'User "system:serviceaccount:default:robot" cannot list' in said
        assert kubectl("get", "pods") == "No resources found in default namespace.\n"
