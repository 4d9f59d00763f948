"""Admission webhooks. Held to "Dynamic Admission Control", sections by name."""

import base64
import json
import ssl
from contextlib import contextmanager

import pytest

from cachefs.testing.kubernetes.certificates import Authority
from cachefs.testing.loopback import LoopbackHandler, LoopbackServer
from tests.contract.kubernetes.clients import MAPS, PODS, config_map, thing
from tests.contract.kubernetes.test_reading import pod

GROUP = "admissionregistration.k8s.io/v1"


class Hook(LoopbackServer):
    """A webhook over HTTPS that answers as a function says, and keeps what it was asked."""

    def __init__(self, decide, folder, authority, *names):
        super().__init__(Answering)
        self.decide = decide
        self.asked = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.write(folder, *names))
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )

    @property
    def port(self):
        return self._server.server_address[1]


class Answering(LoopbackHandler):
    def do_POST(self):  # noqa: N802 - as http.server calls it
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = review["request"]
        self.owner.asked.append(request)
        response = {"uid": request["uid"], "allowed": True, **self.owner.decide(request)}
        body = json.dumps({**review, "response": response}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def authority():
    return Authority()


@pytest.fixture
def hooked(server, tmp_path, authority):
    """Run a webhook as service ``hook`` of namespace ``default``, and configure it."""

    @contextmanager
    def running(decide, *, kind="Mutating", names=("hook.default.svc",), **more):
        with Hook(decide, tmp_path, authority, *names) as hook:
            server.route("default", "hook", "127.0.0.1", hook.port)
            server.install(configuration(authority, kind=kind, **more))
            yield hook

    return running


def configuration(authority, *, kind="Mutating", name="hook", resources=("configmaps",), **more):
    client = {
        "service": {"namespace": "default", "name": "hook", "path": "/mutate"},
        "caBundle": base64.b64encode(authority.pem).decode(),
    }
    rules = [
        {
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "operations": ["CREATE", "UPDATE", "DELETE"],
            "resources": list(resources),
        }
    ]
    hook = {
        "name": f"{name}.example.com",
        "clientConfig": client,
        "rules": rules,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **more,
    }
    return {
        "apiVersion": GROUP,
        "kind": f"{kind}WebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [hook],
    }


def patch(*operations):
    coded = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"patchType": "JSONPatch", "patch": coded}


def add(path, value):
    return {"op": "add", "path": path, "value": value}


def test_a_mutating_webhook_changes_what_is_stored(api, hooked):
    """ "Response": patchType JSONPatch, the patch in base64."""
    with hooked(lambda _: patch(add("/metadata/labels", {"seen": "yes"}))):
        assert api.post(MAPS, config_map("a"))["metadata"]["labels"] == {"seen": "yes"}
    assert api.get(f"{MAPS}/a")["metadata"]["labels"] == {"seen": "yes"}


def test_a_webhook_is_told_who_wants_what(api, hooked):
    """ "Webhook request and response": operation, resource, userInfo, object, oldObject, dryRun."""
    with hooked(lambda _: {}) as hook:
        api.post(MAPS, config_map("a", x="1"), dryRun="All")
        api.post(MAPS, config_map("a", x="1"))
        api.merge(f"{MAPS}/a", {"data": {"x": "2"}})
        dry, create, update = hook.asked
    assert (dry["dryRun"], create["dryRun"]) == (True, False)
    assert (create["operation"], update["operation"]) == ("CREATE", "UPDATE")
    assert create["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert (create["name"], create["namespace"]) == ("a", "default")
    assert create["userInfo"]["username"] == "kubernetes-admin"
    assert create["oldObject"] is None
    assert (update["oldObject"]["data"], update["object"]["data"]) == ({"x": "1"}, {"x": "2"})


def test_a_generated_name_is_not_known_to_mutating_webhooks(api, hooked):
    """Names and uids are given after mutation: pods of controllers arrive with generateName only."""
    with hooked(lambda _: {}) as hook:
        api.post(MAPS, {"metadata": {"generateName": "a-"}})
    assert "name" not in hook.asked[0]
    assert "uid" not in hook.asked[0]["object"]["metadata"]


def test_a_pod_reaches_webhooks_with_its_defaults(api, hooked):
    """Defaults are filled in before admission."""
    with hooked(lambda _: {}, resources=("pods",)) as hook:
        api.post(PODS, pod("a"))
    assert hook.asked[0]["object"]["spec"]["restartPolicy"] == "Always"


def test_a_denial_reaches_the_client_with_its_words(api, hooked):
    """ "Response": allowed false, status.message, status.code."""
    no = {"allowed": False, "status": {"message": "not today", "code": 418}}
    with hooked(lambda _: no, kind="Validating"):
        refused = api.post(MAPS, config_map("a"))
    assert refused.code == 418
    assert (
        refused["message"] == 'admission webhook "hook.example.com" denied the request: not today'
    )


def test_a_warning_reaches_the_client(api, hooked):
    """ "Response": warnings become Warning headers."""
    with hooked(lambda _: {"warnings": ["mind the gap"]}):
        assert "mind the gap" in api.post(MAPS, config_map("a")).headers["Warning"]


@pytest.mark.parametrize(("policy", "code"), [("Fail", 500), ("Ignore", 201)])
def test_a_webhook_that_cannot_be_reached_refuses_all_or_nothing(
    server, api, authority, policy, code
):
    """ "Failure policy": Fail refuses, Ignore goes on."""
    server.install(configuration(authority, failurePolicy=policy))
    answer = api.post(MAPS, config_map("a"))
    assert answer.code == code
    if code == 500:
        assert 'failed calling webhook "hook.example.com"' in answer["message"]


def test_a_certificate_of_another_name_or_authority_is_not_trusted(api, hooked, server, authority):
    """ "Contacting the webhook": verified as <svc>.<ns>.svc against caBundle."""
    with hooked(lambda _: {}, names=("other.default.svc",)):
        refused = api.post(MAPS, config_map("a"))
    assert "certificate" in refused["message"]
    stranger = configuration(Authority(), kind="Validating", name="stranger")
    with hooked(lambda _: {}, name="second"):
        server.install(stranger)
        assert api.post(MAPS, config_map("a")).code == 500


@pytest.mark.slow
def test_a_slow_webhook_has_its_timeout(server, api, hooked):
    """ "Timeouts": timeoutSeconds, then the failure policy."""

    def slow(_):
        server.api.runtime.sleep(1.5)
        return {}

    with hooked(slow, timeoutSeconds=1):
        refused = api.post(MAPS, config_map("a"))
    assert "context deadline exceeded" in refused["message"]


def test_selectors_choose_which_objects_and_namespaces_are_asked_about(server, api, hooked):
    """ "Matching requests": objectSelector and namespaceSelector."""
    wanted = {"matchLabels": {"inject": "yes"}}
    elsewhere = {"matchExpressions": [{"key": "skip", "operator": "DoesNotExist"}]}
    skipped = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "s", "labels": {"skip": ""}},
    }
    server.install(skipped)
    with hooked(lambda _: {}, objectSelector=wanted, namespaceSelector=elsewhere) as hook:
        api.post(MAPS, config_map("plain"))
        api.post("/api/v1/namespaces/s/configmaps", config_map("skipped", labels={"inject": "yes"}))
        api.post(MAPS, config_map("chosen", labels={"inject": "yes"}))
    assert [asked["name"] for asked in hook.asked] == ["chosen"]


def test_conditions_choose_by_expression(api, hooked):
    """ "Matching requests: matchConditions"."""
    condition = {"name": "big", "expression": "has(object.data) && object.data.size() > 1"}
    with hooked(lambda _: {}, matchConditions=[condition]) as hook:
        api.post(MAPS, config_map("a", x="1"))
        api.post(MAPS, config_map("b", x="1", y="2"))
    assert [asked["name"] for asked in hook.asked] == ["b"]


def test_what_a_webhook_makes_is_held_to_the_kinds_rules(api, hooked):
    """Validation comes after mutation."""
    with hooked(lambda _: patch(add("/metadata/labels", {"bad": "-"}))):
        assert api.post(MAPS, config_map("a")).code == 422


def test_what_a_webhook_takes_away_gets_its_default_back(api, hooked, things):
    """Defaults of a definition are filled in again after mutation."""
    rule = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["things"]}
    with hooked(lambda _: patch({"op": "remove", "path": "/spec/color"}), rules=[rule]):
        assert api.post(things, thing("a", color="blue"))["spec"] == {"color": "red"}


def test_a_patch_is_tried_again_when_others_write_meanwhile(api, hooked):
    """A patch without a version never conflicts: it is made again of what is there then."""
    api.post(MAPS, config_map("a", x="1"))
    others = ["y"]

    def decide(_):
        if others:
            api.merge(f"{MAPS}/a", {"data": {others.pop(): "2"}})
        return {}

    with hooked(decide):
        patched = api.merge(f"{MAPS}/a", {"data": {"x": "3"}})
    assert (patched.code, patched["data"]) == (200, {"x": "3", "y": "2"})


def test_a_patch_that_does_not_fit_counts_as_a_failure(api, hooked):
    """ "Response": an unusable patch is a failure of the webhook."""
    with hooked(lambda _: patch({"op": "remove", "path": "/none"})):
        assert api.post(MAPS, config_map("a")).code == 500


def test_an_early_webhook_is_asked_again_when_a_later_one_changed_something(
    server, api, hooked, authority
):
    """ "Reinvocation policy": IfNeeded."""

    def decide(request):
        count = request["object"].get("data", {}).get("count", "")
        return patch(add("/data", {"count": count + "x"})) if len(count) < 2 else {}

    with hooked(decide, name="first", reinvocationPolicy="IfNeeded") as hook:
        server.install(configuration(authority, name="second"))
        api.post(MAPS, config_map("a"))
        assert len(hook.asked) == 3


def test_deletions_are_judged_with_the_object_that_goes(api, hooked):
    """ "Webhook request and response": a DELETE has its object in oldObject."""
    api.post(MAPS, config_map("a", x="1"))
    with hooked(lambda _: {"allowed": False}, kind="Validating") as hook:
        assert api.delete(f"{MAPS}/a").code == 403
    assert (hook.asked[0]["operation"], hook.asked[0]["object"]) == ("DELETE", None)
    assert hook.asked[0]["oldObject"]["data"] == {"x": "1"}
