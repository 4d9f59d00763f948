"""Origins of namespaces that are not trusted: what is asked, and who is sent the platform's credentials."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from cachefs.config.schema import OriginConfig
from cachefs.core.datasets import OriginSpec
from cachefs.core.tenants import Tenants
from cachefs.core.urls import CONFINED
from cachefs.errors import ConfigError, OriginDeniedError
from cachefs.origins import check_spec, open_origin
from cachefs.origins.destinations.opening import open_destination
from cachefs.transport.runtime import ThreadRuntime

CONFIG = OriginConfig(timeout_seconds=2, deadline_seconds=4)


class Handler(BaseHTTPRequestHandler):
    """Answers a file, or sends everybody elsewhere."""

    def do_GET(self):
        self.server.asked.append(self.path)
        body = b"internal"
        self.send_response(302 if self.server.elsewhere else 200)
        if self.server.elsewhere:
            self.send_header("Location", self.server.elsewhere)
            body = b""
        self.send_header("ETag", '"e"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def log_message(self, *_):
        """Stay quiet."""


@pytest.fixture
def web():
    servers = []

    def start(elsewhere=""):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.elsewhere, server.asked = elsewhere, []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return server

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def listed(spec, *sources):
    """Return what is listed as a coordinator and its workers would, for a namespace of these sources."""
    spec = Tenants((), [f"team={each}" for each in sources]).confined("team", spec)
    origin = open_origin(spec, CONFIG, ThreadRuntime())
    try:
        assert CONFINED not in origin.pin().options
        return [file.path for file in origin.list_files()]
    finally:
        origin.close()


def test_a_private_address_is_asked_only_if_a_source_names_it(web):
    inside = web()
    spec = OriginSpec(f"{inside.url}/admin/x.bin")
    with pytest.raises(OriginDeniedError, match="private"):
        listed(spec, "http://*")
    assert not inside.asked
    assert listed(spec, f"{inside.url}/*") == ["x.bin"]


def test_a_redirect_leads_only_to_what_a_source_lists(web):
    inside = web()
    outside = web(f"{inside.url}/admin/x.bin")
    spec = OriginSpec(f"{outside.url}/model.bin")
    with pytest.raises(OriginDeniedError, match="redirect"):
        listed(spec, f"{outside.url}/*")
    assert outside.asked
    assert not inside.asked
    assert listed(spec, f"{outside.url}/*", f"{inside.url}/*")


@pytest.mark.parametrize("scheme", ["s3", "gs", "az", "hf"])
def test_an_endpoint_at_a_private_address_is_not_asked(web, scheme):
    inside = web()
    spec = OriginSpec(f"{scheme}://org/model", {"endpoint_url": inside.url, "anon": "true"})
    with pytest.raises(OriginDeniedError, match="private"):
        listed(spec, f"{scheme}://*", "http://*")
    assert not inside.asked


def test_nothing_is_written_to_a_private_address_that_nobody_named(web):
    inside = web()
    spec = OriginSpec("s3://bucket/x", {"endpoint_url": inside.url, "anon": "true"})
    with pytest.raises(OriginDeniedError, match="private"):
        open_destination(Tenants((), ()).confined("team", spec), CONFIG)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("az://c/x", {"account": "127.0.0.1:80/"}),
        ("az://c/x", {"account": "evil.org"}),
        ("s3://b/x", {"region": "evil.org/"}),
        ("s3://b/x", {"region": "x@evil"}),
        ("s3://evil.org?/x", {}),
        ("s3://127.0.0.1:80#/x", {}),
        ("hf://org/model", {CONFINED: "https://*"}),
    ],
)
def test_no_option_or_bucket_becomes_another_host(url, options):
    with pytest.raises(ConfigError):
        check_spec(OriginSpec(url, options))


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("az://$web/x", {"account": "devstoreaccount1"}),
        ("s3://my.bucket_1/x", {"region": "us-gov-west-1"}),
        ("s3://b/x", {"region": "auto"}),
    ],
)
def test_real_accounts_regions_and_buckets_are_taken(url, options):
    check_spec(OriginSpec(url, options))


@pytest.mark.parametrize("scheme", ["hf", "gs", "az"])
def test_the_platforms_own_token_is_not_sent_over_plain_http(monkeypatch, scheme):
    monkeypatch.setenv("HF_TOKEN", "hf_ours")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "ours")
    monkeypatch.setenv("AZURE_STORAGE_TOKEN", "ours")
    spec = OriginSpec(f"{scheme}://org/model", {"endpoint_url": "http://192.0.2.1"})
    with pytest.raises(OriginDeniedError, match="plain HTTP"):
        open_origin(spec, CONFIG, ThreadRuntime())
