"""What belongs to an installation is filled by the operator that leads, within its rights; Prometheus gets its answers."""

import base64
import http.client
import re
from dataclasses import replace

import pytest

from cachefs.k8s import crds, observing
from cachefs.k8s.kinds import MUTATING_WEBHOOKS, SECRETS
from cachefs.k8s.manifests import permissions, webhook
from cachefs.k8s.observing.panels import ROWS
from cachefs.k8s.observing.token import KEY, SECRET
from cachefs.k8s.observing.warnings import ALERTS
from cachefs.telemetry.metrics import DECLARED
from cachefs.testing.kubernetes import ApiServer
from tests.integration.k8s.operators import INSTALLATION, Objects, Operator, namespace
from tests.integration.systems import System, wait_for

pytestmark = pytest.mark.slow
WANTED = replace(INSTALLATION, observing=True)
BY_EVENT_ONLY = {"action", "client", "source", "state"}
"""Labels whose metrics have no sample before something has happened."""


@pytest.fixture
def server():
    def of(documents, *kinds):
        return [each for each in documents if each["kind"] in kinds]

    roles = permissions.documents(WANTED)
    with ApiServer(authorizing=True, tls=True) as server:
        server.install(
            namespace("cachefs"),
            namespace("cachefs-node"),
            *crds.documents(),
            *(each for each in roles if "rules" in each),
            *(each for each in roles if "roleRef" in each),
            *of(observing.documents(WANTED), "Secret"),
            *of(webhook.documents(WANTED), "Secret", "ConfigMap", "MutatingWebhookConfiguration"),
        )
        yield server


def secret(objects, name, key):
    found = objects.cluster.get(SECRETS, name, "cachefs")
    return base64.b64decode((found.get("data") or {}).get(key, "")).decode()


def scraped(address, token, path="/metrics"):
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def asked_of(component):
    """Return the metrics of a component that alerts and panels ask for, and that have a sample from the beginning."""
    texts = [alert.expression for alert in ALERTS]
    texts += [series.expression for row in ROWS for panel in row.panels for series in panel.series]
    names = set(re.findall(r"cachefs_\w+", " ".join(texts)))
    own = {name for name in names if name.startswith(component)}
    return {name for name in own if not BY_EVENT_ONLY & set(DECLARED[name].labels)}


def test_prometheus_is_given_a_token_and_the_webhook_a_certificate(tmp_path, server):
    objects = Objects(tmp_path, server)
    account = server.account("cachefs", "cachefs-operator")
    with System(tmp_path, duties=True) as system:
        system.start_coordinator()
        system.start_worker("w1")
        system.wait_for_members("w1")
        with Operator(tmp_path, server, system, token=account) as operator:
            token = wait_for(lambda: secret(objects, SECRET, KEY), what=operator.log)
            wait_for(lambda: secret(objects, "cachefs-webhook", "tls.crt"), what=operator.log)
            hook = objects.cluster.get(MUTATING_WEBHOOKS, "cachefs")
            assert all(each["clientConfig"]["caBundle"] for each in hook["webhooks"])
            measured = operator.ask("/metrics")

        assert token != system.token.reveal()
        coordinator = system.processes["coordinator"].addresses["http"]
        worker = system.processes["w1"].addresses["data"]
        for address, parts in (
            (coordinator, ("cachefs_coordinator", "cachefs_flow", "cachefs_hint")),
            (worker, ("cachefs_worker", "cachefs_origin")),
        ):
            status, text = scraped(address, token)
            assert status == 200
            for name in asked_of(parts):
                assert re.search(rf"^{name}\b", text, re.MULTILINE), name
            assert scraped(address, token, "/v1/view")[0] in (401, 403)
            assert scraped(address, "", "/metrics")[0] in (401, 403)
        assert "cachefs_operator_leads" in measured
