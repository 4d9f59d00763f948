"""The webhook as an installation has it: rendered, renewed with the operator's rights, called by an API server."""

import base64
import os
import signal
import socket
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

from cachefs.benchmarks.processes import Process
from cachefs.config.secrets import Secret
from cachefs.errors import CacheFSError
from cachefs.k8s import kinds
from cachefs.k8s.cluster import open_cluster
from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.whole import documents
from cachefs.k8s.webhook.renewing import (
    AUTHORITY_SECRET,
    CONFIGURATION,
    SERVING_SECRET,
    Renewal,
)
from cachefs.testing.kubernetes import ApiServer
from tests.integration.systems import RUNTIME, wait_for
from tests.unit.k8s.webhook.objects import mount
from tests.unit.k8s.webhook.pods import pod
from tests.unit.k8s.webhook.test_certificates import verifies

pytestmark = pytest.mark.slow

NAMESPACE = "cachefs"
KINDS = {
    "Namespace",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "Secret",
    "ConfigMap",
    "MutatingWebhookConfiguration",
}


@pytest.fixture(scope="module")
def server():
    with ApiServer(authorizing=True, tls=True) as server:
        rendered = documents(Installation(image="example.com/cachefs:1"))
        server.install(
            *(each for each in rendered if each["kind"] in KINDS),
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a"}},
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "default", "namespace": "team-a"},
            },
        )
        yield server


@pytest.fixture(scope="module")
def admin(server, tmp_path_factory):
    return open_cluster(server.kubeconfig(tmp_path_factory.mktemp("admin") / "config"))


@pytest.fixture(scope="module")
def renewal(server, tmp_path_factory):
    """Return the operator's part, with the rights that the installation gives it and no other."""
    token = server.account(NAMESPACE, "cachefs-operator")
    config = server.kubeconfig(tmp_path_factory.mktemp("operator") / "config", token=token)
    return Renewal(open_cluster(config), RUNTIME, namespace=NAMESPACE, token=Secret("cluster's"))


@pytest.fixture(scope="module")
def webhook(server, admin, renewal, tmp_path_factory):
    """Return a process whose secret is brought by a kubelet, and which the service leads to."""
    folder = tmp_path_factory.mktemp("webhook")
    serving = folder / "serving"
    serving.mkdir()
    renewal.work()
    data = admin.get(kinds.SECRETS, SERVING_SECRET, NAMESPACE)["data"]
    mount(serving, {name: base64.b64decode(value) for name, value in data.items()})
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        gone = f"127.0.0.1:{nobody.getsockname()[1]}"
    words = ["--host", "127.0.0.1", "--port", "0", "--http-port", "0", "--coordinator", gone]
    words += ["--serving-folder", str(serving), "--image", "example.com/cachefs:1"]
    process = Process(
        [sys.executable, "-m", "cachefs.k8s.webhook", *words], log=folder / "log", environment={}
    )
    host, _, port = process.addresses["https"].partition(":")
    server.api.webhooks.services[NAMESPACE, "cachefs-webhook"] = (host, int(port))
    yield process
    process.stop(kill=True)


HARDENED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def created(admin, name, inject="files", namespace="team-a", **labels):
    made = pod(inject)
    made["metadata"] |= {"name": name, "namespace": namespace}
    made["metadata"]["labels"] |= labels
    if namespace == NAMESPACE:  # which takes no others: Pod Security "restricted"
        made["spec"]["containers"][0]["securityContext"] = HARDENED
    return admin.create(made)


def given(made):
    return made["metadata"].get("annotations", {}).get("cachefs.io/injected")


def test_a_pod_that_asks_for_it_is_injected_into_when_it_is_created(admin, webhook):
    made = created(admin, "asks")
    assert given(made) == "files"
    assert made["spec"]["initContainers"][0]["name"] == "cachefs-copy"
    assert made["spec"]["containers"][0]["volumeMounts"][0]["mountPath"] == "/models/llama"


def test_a_pod_that_asks_for_both_is_reviewed_once(admin, webhook, server):
    before = _reviews(webhook)
    made = created(admin, "both", **{"cachefs.io/hint": "true"})
    assert given(made) == "files"
    assert _reviews(webhook) == before + 1


@pytest.mark.parametrize(
    ("name", "inject", "namespace"), [("asks-not", "", "team-a"), ("of-ours", "files", NAMESPACE)]
)
def test_other_pods_are_not_sent_to_us(admin, webhook, name, inject, namespace):
    before = _reviews(webhook)
    made = created(admin, name, inject, namespace)
    assert given(made) is None
    assert _reviews(webhook) == before


def test_all_modes_make_pods_that_an_api_server_takes(admin, webhook):
    for mode in ("csi", "files", "endpoint", "sidecar"):
        assert given(created(admin, f"mode-{mode}", mode)) == mode


def test_a_pod_that_makes_no_sense_to_us_is_created_as_it_is(admin, webhook):
    made = created(admin, "nonsense", "everything")
    assert given(made) is None
    assert made["metadata"]["labels"]["cachefs.io/inject"] == "everything"


def test_the_operator_may_not_touch_anybody_elses_secrets(admin, server, tmp_path, renewal):
    theirs = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "theirs"}}
    theirs["metadata"]["namespace"] = "team-a"
    admin.create(theirs)
    token = server.account(NAMESPACE, "cachefs-operator")
    operator = open_cluster(server.kubeconfig(tmp_path / "config", token=token))
    with pytest.raises(CacheFSError):
        operator.get(kinds.SECRETS, "theirs", "team-a")
    found = admin.get(kinds.MUTATING_WEBHOOKS, CONFIGURATION)
    with pytest.raises(CacheFSError):
        operator.create({**found, "metadata": {"name": "another"}})


def test_a_second_pass_of_the_operator_changes_nothing(admin, renewal, webhook):
    def versions():
        return [
            admin.get(kind, name, namespace)["metadata"]["resourceVersion"]
            for kind, name, namespace in (
                (kinds.SECRETS, SERVING_SECRET, NAMESPACE),
                (kinds.SECRETS, "cachefs-webhook-ca", NAMESPACE),
                (kinds.CONFIG_MAPS, "cachefs-webhook-ca", NAMESPACE),
                (kinds.MUTATING_WEBHOOKS, CONFIGURATION, ""),
            )
        ]

    before = versions()
    renewal.work()
    assert versions() == before


def test_four_operators_at_once_leave_everything_in_order(
    admin, server, tmp_path, renewal, webhook
):
    before = admin.get(kinds.SECRETS, SERVING_SECRET, NAMESPACE)
    for name in (SERVING_SECRET, AUTHORITY_SECRET):
        found = admin.get(kinds.SECRETS, name, NAMESPACE)
        admin.replace({**found, "data": {}})
    failures = []

    def work():
        try:
            renewal.work()
        except CacheFSError as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failures == []
    after = admin.get(kinds.SECRETS, SERVING_SECRET, NAMESPACE)
    hooks = admin.get(kinds.MUTATING_WEBHOOKS, CONFIGURATION)["webhooks"]
    (bundle,) = {each["clientConfig"]["caBundle"] for each in hooks}
    # What was lost is trusted on: servers show it until the kubelet has brought them the new one.
    for secret in (before, after):
        shown = base64.b64decode(secret["data"]["tls.crt"])
        name = f"cachefs-webhook.{NAMESPACE}.svc"
        assert verifies(base64.b64decode(bundle), shown, RUNTIME.wall(), name)
    assert given(created(admin, "meanwhile")) == "files"


def test_a_webhook_that_is_gone_keeps_no_pod_from_being_created(admin, webhook):
    os.kill(webhook.pid, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{webhook.pid}/cmdline").read_bytes())
    made = created(admin, "without", "files", **{"cachefs.io/hint": "true"})
    assert given(made) is None
    assert made["spec"]["volumes"][0]["csi"]["driver"] == "cachefs.io"


def _reviews(process):
    with urllib.request.urlopen(
        f"http://{process.addresses['http']}/metrics", timeout=20
    ) as answer:
        lines = answer.read().decode().splitlines()
    counts = [line for line in lines if line.startswith("cachefs_webhook_reviews_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in counts)
