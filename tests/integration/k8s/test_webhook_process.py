"""The webhook as a process: over TLS with certificates that change, beside a real coordinator.

The API server is played by clients that trust what the webhook's configuration says at that moment.
"""

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

from cachefs.benchmarks.processes import Process
from cachefs.config.schema import HintsConfig
from cachefs.config.secrets import Secret
from cachefs.hints.consumers.tokens import scheduler_token
from cachefs.k8s.webhook.certificates import AUTHORITY_SECONDS, DAY_SECONDS, SETTLE_SECONDS
from cachefs.k8s.webhook.renewing import Renewal
from tests.integration.systems import RUNTIME, System, wait_for
from tests.unit.k8s.webhook.objects import NAMESPACE, Clock, Objects, mount
from tests.unit.k8s.webhook.pods import operations_of, patched, pod, review

pytestmark = pytest.mark.slow

NAME = f"cachefs-webhook.{NAMESPACE}.svc"
SECONDS = 20
BLOCK = 64 * 1024


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    folder = tmp_path_factory.mktemp("webhook")
    with System(folder, block_size=BLOCK, duties=True) as system:
        nodes = folder / "nodes.yaml"
        nodes.write_text("nodes:\n  other: {zone: far, nic: 1000}\n")
        system.start_coordinator(hints=HintsConfig(nodes_file=str(nodes)))
        system.start_worker("w1", node_name="node-w1")
        system.wait_for_members("w1")
        origin = folder / "llama"
        origin.mkdir()
        (origin / "model.bin").write_bytes(os.urandom(4 * BLOCK))
        system.add("llama", f"file://{origin}")
        question = {"datasets": [{"name": "llama"}], "renderings": []}
        system.api.post("/v1/warm", {"dataset": "llama", "paths": []})
        asked = lambda: system.api.post("/v1/hints", question)["nodes"]  # noqa: E731
        wait_for(lambda: [each["node"] for each in asked()] == ["node-w1", "other"], what=asked)
        wait_for(
            lambda: asked()[0]["ready_s"]["p50"] + 5 < asked()[1]["ready_s"]["p50"], what=asked
        )
        yield system


class Webhook:
    """A process with a mounted secret, the operator's part, and calls as an API server makes them."""

    def __init__(self, folder, coordinator, token):
        self.objects, self.clock = Objects(), Clock(RUNTIME.wall())
        self.renewal = Renewal(self.objects, self.clock, namespace=NAMESPACE, token=token)
        self.folder = folder / "serving"
        self.folder.mkdir()
        words = ["--host", "127.0.0.1", "--port", "0", "--http-port", "0", "--log-json"]
        words += ["--serving-folder", str(self.folder), "--coordinator", coordinator]
        words += [
            "--image",
            "example.com/cachefs:1",
            "--linger-seconds",
            "1",
            "--look-seconds",
            "0.2",
        ]
        command = [sys.executable, "-m", "cachefs.k8s.webhook", *words]
        self.log = folder / "webhook.log"
        self.process = Process(command, log=self.log, environment={})

    def renew(self, *, at):
        """Have the operator work at a time, and the kubelet bring what came of it."""
        self.clock.now = at
        self.renewal.work()
        mount(self.folder, self.objects.serving)

    def plain(self, path):
        address = self.process.addresses["http"]
        try:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def connect(self, *, bundle=None):
        """Open a connection as an API server does: to the address, by the service's name."""
        context = ssl.create_default_context(cadata=(bundle or self.objects.bundle).decode())
        host, _, port = self.process.addresses["https"].partition(":")
        plain = socket.create_connection((host, int(port)), timeout=SECONDS)
        connection = http.client.HTTPConnection(NAME, timeout=SECONDS)
        connection.sock = context.wrap_socket(plain, server_hostname=NAME)
        return connection

    def post(self, path, body, *, headers=None, connection=None):
        connection = connection or self.connect()
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **(headers or {})}
        connection.request("POST", path, encoded, sent)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")

    def close(self):
        self.process.stop(kill=True)


@pytest.fixture
def webhook(system, tmp_path):
    made = Webhook(tmp_path, system.processes["coordinator"].addresses["http"], system.token)
    yield made
    made.close()


def ready(webhook):
    return webhook.plain("/readyz")[0] == 200


def hinted(inject=""):
    made = pod(inject, {"cachefs.io/datasets": "llama=/models/more"}, volumes=[])
    made["metadata"]["labels"]["cachefs.io/hint"] = "true"
    return made


def test_a_pod_is_hinted_and_injected_into_in_one_call(webhook):
    assert webhook.plain("/healthz")[0] == 200
    assert not ready(webhook)
    webhook.renew(at=RUNTIME.wall())
    wait_for(lambda: ready(webhook), what="it is never ready")
    status, answer = webhook.post("/mutate?timeout=3s", review(hinted("files")))
    after = patched(hinted("files"), operations_of(answer))
    assert (status, answer["response"].get("warnings")) == (200, None)
    assert after["metadata"]["annotations"].keys() >= {"cachefs.io/hint-id", "cachefs.io/injected"}
    terms = after["spec"]["affinity"]["nodeAffinity"]
    assert "node-w1" in json.dumps(terms)
    exposition = webhook.plain("/metrics")[1]
    assert 'cachefs_webhook_reviews_total{hint="hinted"} 1.0' in exposition
    assert 'cachefs_webhook_injected_total{mode="files"} 1.0' in exposition


def test_a_scheduler_is_answered_over_tls_with_its_own_token(webhook, system):
    webhook.renew(at=RUNTIME.wall())
    wait_for(lambda: ready(webhook))
    asked = {"Pod": hinted(), "Nodes": None, "NodeNames": ["node-w1", "other"]}
    password = base64.b64encode(f"cachefs:{scheduler_token(system.token).reveal()}".encode())
    known = {"Authorization": f"Basic {password.decode()}"}
    status, scores = webhook.post("/extender/prioritize", asked, headers=known)
    assert status == 200
    assert {each["Host"] for each in scores} == {"node-w1", "other"}
    assert max(each["Score"] for each in scores) > 0
    for headers in ({}, {"Authorization": "Basic !!"}, {"Authorization": "Bearer wrong"}):
        status, scores = webhook.post("/extender/prioritize", asked, headers=headers)
        assert (status, {each["Score"] for each in scores}) == (200, {0})
        status, passed = webhook.post("/extender/filter", asked, headers=headers)
        assert (status, passed["NodeNames"]) == (200, ["node-w1", "other"])
    assert webhook.post("/extender/filter", b"{}", headers=known)[0] == 400
    assert webhook.post("/extender/bind", b"{}", headers=known)[0] == 404


def test_whatever_is_sent_no_pod_is_refused(webhook):
    webhook.renew(at=RUNTIME.wall())
    wait_for(lambda: ready(webhook))
    for body in (b"", b"{", b"[]", b"\xff" * 100, b"x" * (4 << 20), b"[" * 200_000):
        status, answer = webhook.post("/mutate", body)
        assert (status, answer["response"]["allowed"]) == (200, True)
        assert "warnings" in answer["response"]


def waiting_in(listening):
    """Return how many have connected."""
    listening.setblocking(False)
    found = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listening.accept()[0].close()
            found += 1
    return found


def test_without_a_coordinator_pods_are_made_at_once_and_still_injected_into(tmp_path, system):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts, and says nothing
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        webhook = Webhook(tmp_path, address, system.token)
        try:
            webhook.renew(at=RUNTIME.wall())
            wait_for(lambda: ready(webhook))
            answers = [webhook.post("/mutate", review(hinted("files")))[1] for _ in range(20)]
        finally:
            webhook.close()
        asked = waiting_in(silent)
    for answer in answers:
        assert answer["response"]["allowed"] is True
        assert "does not answer" in answer["response"]["warnings"][0]
        after = patched(hinted("files"), operations_of(answer))
        assert after["metadata"]["annotations"]["cachefs.io/injected"] == "files"
    assert asked < len(answers)  # who is silent is not asked for each pod


class Calls:
    """API servers that call without a pause, each call on a connection of its own."""

    def __init__(self, webhook, threads=2):
        self.webhook = webhook
        self.made = 0
        self.failures = []
        self.serials = set()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self):
        while not self._stop.is_set():
            # What it trusts may be some writes old when it connects.
            bundle = self.webhook.objects.bundle
            try:
                connection = self.webhook.connect(bundle=bundle)
                self.serials.add(connection.sock.getpeercert()["serialNumber"])
                status, answer = self.webhook.post("/mutate", review(pod()), connection=connection)
                connection.close()
                assert status == 200
                assert answer["response"]["allowed"] is True
            except (OSError, AssertionError) as error:
                self.failures.append(repr(error))
            self.made += 1


def test_no_call_fails_while_certificates_and_authorities_change(webhook):
    now = RUNTIME.wall()
    # An installation of half a year ago, whose operator was there until some days ago.
    webhook.renew(at=now - AUTHORITY_SECONDS / 2 - DAY_SECONDS)
    webhook.renew(at=now - 16 * DAY_SECONDS)
    wait_for(lambda: ready(webhook))
    kept = webhook.connect()
    with Calls(webhook) as calls:
        wait_for(lambda: calls.made > 20)
        for at in (now - SETTLE_SECONDS - 60, now, now + 60):
            before = webhook.objects.serving["tls.crt"]
            webhook.renew(at=at)
            if webhook.objects.serving["tls.crt"] != before:
                seen = len(calls.serials)
                wait_for(lambda seen=seen: len(calls.serials) > seen, what="it is not taken up")
            made = calls.made
            wait_for(lambda made=made: calls.made > made + 20)
            status, answer = webhook.post("/mutate", review(pod()), connection=kept)
            assert (status, answer["response"]["allowed"]) == (200, True)
    assert calls.failures == []
    assert len(calls.serials) >= 3
    assert len(webhook.objects.bundle.split(b"BEGIN")) > 2


def test_a_spoilt_secret_changes_nothing(webhook):
    webhook.renew(at=RUNTIME.wall())
    wait_for(lambda: ready(webhook))
    good = webhook.objects.serving
    other = Objects()
    Renewal(other, Clock(RUNTIME.wall()), namespace=NAMESPACE, token=Secret("another's")).work()
    for spoilt in (
        {**good, "tls.crt": b"rubbish"},
        {**good, "tls.key": other.serving["tls.key"]},
        {"token": b"x"},
    ):
        mount(webhook.folder, spoilt)
        RUNTIME.sleep(0.5)  # two looks
        assert webhook.post("/mutate", review(pod()))[1]["response"]["allowed"] is True


def test_it_goes_on_for_a_moment_after_it_was_told_to_end(webhook):
    webhook.renew(at=RUNTIME.wall())
    wait_for(lambda: ready(webhook))
    os.kill(webhook.process.pid, signal.SIGTERM)
    assert webhook.post("/mutate", review(pod()))[1]["response"]["allowed"] is True
    wait_for(lambda: not Path(f"/proc/{webhook.process.pid}/cmdline").read_bytes(), what="it stays")


def test_no_secret_is_in_its_log(webhook, system):
    webhook.renew(at=RUNTIME.wall())
    wait_for(lambda: ready(webhook))
    webhook.post("/mutate", review(hinted("files")))
    webhook.post("/mutate", b"{")
    log = webhook.log.read_text()
    assert "took up a certificate" in log
    assert scheduler_token(system.token).reveal() not in log
    assert "PRIVATE KEY" not in log
