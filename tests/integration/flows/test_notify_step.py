"""``notify`` against a real server: each message is accepted once, and nothing secret is told."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cachefs.core.tenants import Tenants
from cachefs.core.urls import HostRules
from cachefs.dataflow.steps.notifying import NotifyStep
from cachefs.errors import ConfigError, FlowError, OriginDeniedError, OriginUnavailableError
from cachefs.origins.addresses import Addresses
from tests.unit.dataflow.steps.contexts import Steps, carry_out


class Hook(ThreadingHTTPServer):
    """Answers with one status after another, then 204; keeps what came."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = []
        self.came = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/hooks/T0P?x=1"

    def end(self):
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def _answer(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.came.append((self.command, self.path, dict(self.headers), json.loads(body)))
        status = self.server.answers.pop(0) if self.server.answers else 204
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://elsewhere.example/")
        self.end_headers()

    do_POST = do_PUT = _answer  # noqa: N815 - http.server calls them so


@pytest.fixture
def hook():
    server = Hook()
    yield server
    server.end()


def kind(*hosts, private=True, **environment):
    return NotifyStep(
        Addresses(HostRules(hosts or ("*",), private)), environment, lambda run: {"run": run}
    )


def test_a_message_is_sent_once_under_the_steps_key(hook):
    step = Steps()
    arguments = {"url": hook.url, "body": {"text": "hello"}, "headers": {"X-From": "us"}}
    observed = carry_out(kind(), step.attempt(), arguments)
    assert observed.outputs == {"status": 204}
    assert kind().observe(step.attempt(2), arguments).done
    ((method, path, headers, body),) = hook.came
    assert (method, path, body) == ("POST", "/hooks/T0P?x=1", {"text": "hello"})
    assert headers["Idempotency-Key"] == "run-1/step"
    assert headers["X-From"] == "us"
    assert headers["Content-Type"] == "application/json"


def test_without_a_body_the_run_is_told_about(hook):
    carry_out(kind(), Steps().attempt(), {"url": hook.url, "method": "PUT"})
    assert hook.came[0][0] == "PUT"
    assert hook.came[0][3] == {"run": "run-1"}


def test_what_may_pass_is_tried_again_with_the_same_key(hook):
    hook.answers = [503, 429]
    step = Steps()
    for number in (1, 2):
        with pytest.raises(OriginUnavailableError) as raised:
            carry_out(kind(), step.attempt(number), {"url": hook.url})
        assert raised.value.retryable
    carry_out(kind(), step.attempt(3), {"url": hook.url})
    assert {headers["Idempotency-Key"] for _, _, headers, _ in hook.came} == {"run-1/step"}
    assert len(hook.came) == 3


@pytest.mark.parametrize("status", [302, 400, 404])
def test_what_will_not_pass_fails_and_no_redirect_is_followed(hook, status):
    hook.answers = [status]
    with pytest.raises(FlowError, match=f"answered {status}"):
        carry_out(kind(), Steps().attempt(), {"url": hook.url})
    assert len(hook.came) == 1


def test_nobody_there_may_pass(hook):
    url = hook.url
    hook.end()
    hook.end = lambda: None
    with pytest.raises(OriginUnavailableError):
        carry_out(kind(), Steps().attempt(), {"url": url})


def test_secrets_are_sent_and_never_told(hook, tmp_path):
    (tmp_path / "token").write_text("t0k3n\n")
    hook.answers = [500]
    step = Steps()
    context = step.attempt()
    arguments = {
        "url": "env:HOOK",
        "secret_headers": {"Authorization": f"file:{tmp_path}/token"},
        "body": {},
    }
    with pytest.raises(OriginUnavailableError) as raised:
        carry_out(kind(HOOK=hook.url), context, arguments)
    assert hook.came[0][2]["Authorization"] == "t0k3n"
    told = f"{raised.value} {context.take_told()} {step.checkpoint}"
    assert "T0P" not in told
    assert "t0k3n" not in told
    with pytest.raises(ConfigError, match="no such secret"):
        carry_out(kind(), Steps().attempt(), arguments)


def test_hosts_that_may_not_be_contacted_are_not(hook):
    with pytest.raises(OriginDeniedError):
        carry_out(kind("hooks.example"), Steps().attempt(), {"url": hook.url})
    with pytest.raises(OriginDeniedError):
        carry_out(kind(private=False), Steps().attempt(), {"url": hook.url})
    assert hook.came == []


def test_a_namespace_that_is_not_trusted_reaches_only_private_hosts_that_a_source_names(hook):
    def of(source):
        addresses = Addresses(HostRules())
        tenants = Tenants((), [f"*={source}"])
        return NotifyStep(addresses, {}, lambda run: {"run": run}, tenants=tenants)

    with pytest.raises(OriginDeniedError, match="private"):
        carry_out(of("http://*"), Steps().attempt(), {"url": hook.url})
    assert not hook.came
    carry_out(of(f"{hook.url.partition('/hooks')[0]}/*"), Steps().attempt(), {"url": hook.url})
    assert len(hook.came) == 1
