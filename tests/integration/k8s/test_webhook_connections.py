"""Who connects to the webhook and says nothing, or says it slowly, is not waited for."""

import json
import socket
import ssl

import pytest

from cachefs.config.secrets import Secret
from cachefs.k8s.webhook import bodies
from cachefs.k8s.webhook.connections import BoundedProtocol
from cachefs.k8s.webhook.process import Webhook, WebhookPlan
from cachefs.k8s.webhook.renewing import Renewal
from tests.integration.systems import RUNTIME
from tests.unit.k8s.webhook.objects import NAMESPACE, Objects, mount
from tests.unit.k8s.webhook.pods import pod, review

pytestmark = pytest.mark.slow

SECONDS = 20
NAME = f"cachefs-webhook.{NAMESPACE}.svc"
HEAD = b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"


@pytest.fixture
def connect(tmp_path, monkeypatch):
    monkeypatch.setattr(BoundedProtocol, "head_seconds", 0.3)
    objects = Objects()
    Renewal(objects, RUNTIME, namespace=NAMESPACE, token=Secret("cluster's")).work()
    mount(tmp_path / "serving", objects.serving)
    plan = WebhookPlan(
        host="127.0.0.1",
        port=0,
        http_port=0,
        serving_folder=tmp_path / "serving",
        coordinator="127.0.0.1:1",
        image="example.com/cachefs:1",
    )
    with Webhook(plan, RUNTIME) as webhook:

        def connected():
            context = ssl.create_default_context(cadata=objects.bundle.decode())
            port = int(webhook.addresses["https"].rpartition(":")[2])
            plain = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
            return context.wrap_socket(plain, server_hostname=NAME)

        yield connected


def everything(connection):
    """Return what comes until the other side ends."""
    said = b""
    while part := connection.recv(65536):
        said += part
    return said


def answered(connection):
    """Send a request, and return the answer; the connection stays."""
    connection.sendall(HEAD + b"{}")
    said = b""
    while not said.endswith(b"}}"):
        part = connection.recv(65536)
        assert part, said
        said += part
    return said


@pytest.mark.parametrize("said", [b"", b"P", b"POST /mutate HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_does_not_come_ends_the_connection(connect, said):
    with connect() as connection:
        connection.sendall(said)
        assert everything(connection) == b""


def test_a_second_head_that_does_not_come_ends_it_too(connect):
    with connect() as connection:
        assert answered(connection).startswith(b"HTTP/1.1 200")
        connection.sendall(b"POST")
        assert everything(connection) == b""


def test_a_body_that_does_not_come_is_answered_and_ends_the_connection(connect):
    with connect() as connection:
        connection.sendall(HEAD + b"{")
        said = everything(connection)
        assert said.startswith(b"HTTP/1.1 200")
        assert b'"allowed":true' in said


def test_a_connection_that_is_used_stays(connect):
    with connect() as connection:
        for _ in range(3):
            assert answered(connection).startswith(b"HTTP/1.1 200")
            RUNTIME.sleep(0.4)


def test_bodies_that_are_held_leave_others_without_room_and_no_pod_is_refused(connect, monkeypatch):
    monkeypatch.setattr(bodies, "ROOM_BYTES", 100_000)
    monkeypatch.setattr(bodies, "BODY_SECONDS", 1.0)
    body = json.dumps(review(pod("csi"))).encode()
    whole = HEAD.replace(b"Length: 2", b"Length: %d\r\nConnection: close" % len(body)) + body

    def reviewed():
        with connect() as connection:
            connection.sendall(whole)
            return everything(connection)

    with connect() as greedy:
        greedy.sendall(HEAD.replace(b"Length: 2", b"Length: 100000") + b"x" * 99_990)
        RUNTIME.sleep(0.3)
        said = reviewed()
        assert b'"allowed":true' in said
        assert b"patchType" not in said
        assert b'"allowed":true' in everything(greedy)
    assert b"patchType" in reviewed()  # and then there is room again
