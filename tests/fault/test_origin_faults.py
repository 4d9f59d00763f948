"""What origins do wrong, and what comes of it: the right error, in time, and never a wrong byte."""

import logging
import os
import socket
import time
from dataclasses import replace

import pytest
from huggingface_hub import HfFileSystem

from cachefs.config.schema import OriginConfig
from cachefs.core.backoff import Backoff
from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import FileEntry, name_file_version
from cachefs.core.urls import HostRules
from cachefs.errors import (
    CacheFSError,
    ConfigError,
    OriginChangedError,
    OriginDeniedError,
    OriginNotFoundError,
    OriginProtocolError,
    OriginUnavailableError,
)
from cachefs.origins import LimitedOrigin, RetryingOrigin, check_spec, open_origin
from cachefs.origins.addresses import Addresses
from cachefs.testing.faulty_origin import Fault, FaultyOrigin, etag
from cachefs.testing.hub import FakeHub
from cachefs.testing.memory.origin import MemoryOrigin
from cachefs.testing.s3 import ENVIRONMENT
from cachefs.transport.runtime import ThreadRuntime

CONTENT = bytes(range(256)) * 16
CONFIG = OriginConfig(timeout_seconds=5, deadline_seconds=10)
IMPATIENT = OriginConfig(timeout_seconds=0.3, deadline_seconds=0.6)
KEY = "bucket/d/model.bin"


def _entry(path, content=CONTENT, *, token=None, digest=""):
    token = token or etag(content)
    version = name_file_version("x", path=path, size=len(content), token=token)
    return FileEntry(path, len(content), token, digest, version)


ENTRY = _entry("model.bin")


@pytest.fixture
def server():
    with FaultyOrigin({KEY: CONTENT, "bucket/d/other.bin": b"other"}) as running:
        yield running


@pytest.fixture(params=["http", "direct", "obstore", "fsspec"])
def client(request, monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return request.param


def _open(server, client, config=CONFIG):
    if client == "http":
        return open_origin(OriginSpec(f"{server.url}/bucket/d/"), config, ThreadRuntime())
    spec = OriginSpec("s3://bucket/d", {"endpoint_url": server.url})
    return open_origin(spec, config, ThreadRuntime(), client=client)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("short"), OriginUnavailableError),
        (Fault("long"), OriginProtocolError),
        (Fault("wrong_range"), OriginProtocolError),
        (Fault("html"), OriginProtocolError),
        (Fault("gzip"), OriginProtocolError),
        (Fault("changed"), OriginChangedError),
        (Fault("ignored_condition"), OriginChangedError),
        (Fault("status", 429), OriginUnavailableError),
        (Fault("status", 500), OriginUnavailableError),
        (Fault("status", 503), OriginUnavailableError),
        (Fault("status", 403), OriginDeniedError),
        (Fault("status", 404), OriginNotFoundError),
        (Fault("reset"), OriginUnavailableError),
        (Fault("loop"), OriginProtocolError),
        (Fault("garbage"), (OriginProtocolError, OriginUnavailableError)),
        (Fault("no_etag"), (OriginProtocolError, OriginChangedError)),
    ],
    ids=lambda value: f"{value.kind}-{value.status}" if isinstance(value, Fault) else "",
)
def test_a_fault_is_the_right_error_and_the_next_read_is_right(server, client, fault, expected):
    origin = _open(server, client)
    server.fail_always(KEY, fault)
    with pytest.raises(expected) as raised:
        origin.read_range(ENTRY, 100, 1000)
    assert raised.value.message
    server.heal()
    assert bytes(origin.read_range(ENTRY, 100, 1000)) == CONTENT[100:1100]
    origin.close()


@pytest.mark.parametrize("kind", ["stall", "stall_in_body", "drip"])
def test_a_silent_origin_is_given_up_in_time(server, client, kind):
    origin = _open(server, client, IMPATIENT)
    server.fail_always(KEY, Fault(kind))
    begun = time.monotonic()  # noqa: TID251 - the promise is about real time
    with pytest.raises(OriginUnavailableError):
        origin.read_range(ENTRY, 100, 1000)
    # Far below what it would be if nothing ended the wait, far above what a busy machine adds.
    assert time.monotonic() - begun < 10  # noqa: TID251 - likewise
    origin.close()


@pytest.mark.parametrize("client", ["http", "direct", "obstore"], indirect=True)
def test_the_whole_file_for_a_range_is_refused(server, client):
    origin = _open(server, client)
    server.fail_always(KEY, Fault("whole"))
    with pytest.raises(OriginProtocolError):
        origin.read_range(ENTRY, 100, 1000)


def test_the_http_reader_says_that_ranges_are_not_served_but_takes_a_whole_file(server):
    origin = _open(server, "http")
    server.fail_always(KEY, Fault("whole"))
    with pytest.raises(OriginProtocolError, match="does not serve ranges"):
        origin.read_range(ENTRY, 0, 10)
    assert bytes(origin.read_range(ENTRY, 0, len(CONTENT))) == CONTENT


def test_a_server_without_ranges_gets_the_client_that_can_take_it(server, monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    spec = OriginSpec("s3://bucket/d", {"endpoint_url": server.url})
    good = open_origin(spec, CONFIG, ThreadRuntime())
    assert good.client == "direct"
    assert "probe" in good.reason
    for key in (KEY, "bucket/d/other.bin"):
        server.fail_always(key, Fault("whole"))
    origin = open_origin(spec, CONFIG, ThreadRuntime())
    assert origin.client == "fsspec"
    assert "obstore failed the probe" in origin.reason
    assert bytes(origin.read_range(ENTRY, 1000, 77)) == CONTENT[1000:1077]
    origin.close()


def test_retry_after_is_kept_and_pauses_the_origin_for_everybody(server):
    origin = _open(server, "http")
    server.fail(KEY, [Fault("status", 429, retry_after="60")])
    with pytest.raises(OriginUnavailableError) as raised:
        origin.read_range(ENTRY, 0, 10)
    assert raised.value.retry_after_seconds == 60
    asked = server.requests.total()
    with pytest.raises(OriginUnavailableError, match="asked us to wait") as again:
        origin.read_range(_entry("other.bin", b"other"), 0, 1)
    assert again.value.retry_after_seconds > 50
    assert server.requests.total() == asked


def test_retry_after_may_be_a_date(server):
    origin = _open(server, "http")
    server.fail(KEY, [Fault("status", 503, retry_after="Wed, 21 Oct 2099 07:28:00 GMT")])
    with pytest.raises(OriginUnavailableError) as raised:
        origin.read_range(ENTRY, 0, 10)
    assert raised.value.retry_after_seconds > 10**6


def test_a_closed_port_is_unavailable():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    origin = open_origin(OriginSpec(url), CONFIG, ThreadRuntime())
    with pytest.raises(OriginUnavailableError):
        origin.read_range(ENTRY, 0, 10)


def test_a_connection_that_died_while_idle_is_replaced_unseen(server):
    origin = _open(server, "http")
    origin.read_range(ENTRY, 0, 10)
    server.fail(KEY, [Fault("reset")])
    assert bytes(origin.read_range(ENTRY, 0, 10)) == CONTENT[:10]


def test_a_redirect_to_another_place_is_checked_and_gets_no_credentials(server, monkeypatch):
    monkeypatch.setenv("LAB_TOKEN", "canary")
    spec = OriginSpec(f"{server.url}/bucket/d/", {"credentials": "env:LAB"})
    origin = open_origin(spec, CONFIG, ThreadRuntime())
    with FaultyOrigin({"away": CONTENT}) as away:
        server.fail(KEY, [Fault("redirect", location=f"{away.url}/away")])
        assert bytes(origin.read_range(ENTRY, 5, 5)) == CONTENT[5:10]
        assert server.heads[-1]["Authorization"] == "Bearer canary"
        assert "Authorization" not in away.heads[-1]
    server.fail(KEY, [Fault("redirect", location="http://169.254.169.254/latest/meta-data")])
    with pytest.raises(OriginDeniedError, match="metadata"):
        origin.read_range(ENTRY, 5, 5)
    server.fail(KEY, [Fault("redirect", location="file:///etc/passwd")])
    with pytest.raises(OriginProtocolError):
        origin.read_range(ENTRY, 5, 5)


def test_a_page_instead_of_a_file_is_not_listed_as_one(server):
    server.fail_always("bucket/d/login", Fault("html"))
    spec = OriginSpec(f"{server.url}/bucket/d/login")
    with pytest.raises(OriginProtocolError, match="HTML"):
        list(open_origin(spec, CONFIG, ThreadRuntime()).list_files())


def test_a_file_without_any_validator_is_not_listed(server):
    server.fail_always(KEY, Fault("no_etag"))
    with pytest.raises(OriginProtocolError, match="neither ETag nor Last-Modified"):
        list(_open(server, "http").list_files())


def test_a_name_that_resolves_to_a_forbidden_address_is_refused():
    def resolve(_host, port):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", port))]

    addresses = Addresses(HostRules(), resolve=resolve)
    with pytest.raises(OriginDeniedError):
        addresses.connect("innocent.example.org", 80, 1.0)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest",
        "http://[fd00:ec2::254]/latest",
        "http://2852039166/",
        "http://metadata.google.internal/",
    ],
)
def test_metadata_services_cannot_be_opened(url):
    with pytest.raises((OriginDeniedError, OriginUnavailableError)):
        open_origin(OriginSpec(url), CONFIG, ThreadRuntime())


@pytest.mark.parametrize("url", ["s3://bucket/x", "gs://bucket/x", "hf://org/model"])
def test_an_endpoint_is_checked_as_every_url(url):
    spec = OriginSpec(url, {"endpoint_url": "http://169.254.169.254"})
    with pytest.raises(OriginDeniedError):
        open_origin(spec, CONFIG, ThreadRuntime())


def test_private_addresses_and_other_hosts_are_refused_when_configured(server):
    spec = OriginSpec(f"{server.url}/bucket/d/")
    for config in (
        replace(CONFIG, allow_private=False),
        replace(CONFIG, allowed_hosts=("*.example.org",)),
    ):
        with pytest.raises(OriginDeniedError):
            open_origin(spec, config, ThreadRuntime())


@pytest.mark.parametrize(
    "url",
    [
        "local:///etc",
        "simplecache::s3://bucket/x",
        "cachefs://model",
        "zip://a::file:///etc/x.zip",
        "dir:///etc",
        "reference://x",
        "nosuchprotocol://x",
        "file://otherhost/x",
        "s3://key:secret@bucket/x",
        "hf://model",
    ],
)
def test_urls_that_go_around_a_check_are_refused(url):
    with pytest.raises(ConfigError):
        open_origin(OriginSpec(url), CONFIG, ThreadRuntime())


@pytest.mark.parametrize(
    "options",
    [
        {"secret": "canary"},
        {"aws_secret_access_key": "canary"},
        {"password": "canary"},
        {"token": "canary"},
        {"key": "canary"},
        {"credentials": "canary"},
        {"endpoint_url": "http://me:canary@host"},
        {"nonsense": "canary"},
        {"anon": "canary-yes"},
    ],
)
def test_an_option_that_holds_a_secret_or_is_unknown_is_refused(options):
    with pytest.raises(ConfigError) as refused:
        check_spec(OriginSpec("s3://bucket/x", options))
    if "nonsense" not in options and "anon" not in options:
        assert "canary" not in str(refused.value)


def test_credentials_that_are_not_here_are_a_clear_error():
    for reference in ("env:NOTHING_HERE", "file:/nowhere/at/all"):
        spec = OriginSpec("s3://bucket/x", {"credentials": reference})
        with pytest.raises(ConfigError, match="here"):
            open_origin(spec, CONFIG, ThreadRuntime())


def test_no_secret_reaches_the_logs(server, monkeypatch, caplog):
    monkeypatch.setenv("LAB_ACCESS_KEY_ID", "identity")
    monkeypatch.setenv("LAB_SECRET_ACCESS_KEY", "canary-secret")
    caplog.set_level(logging.DEBUG)
    for client in ("direct", "obstore", "fsspec"):
        spec = OriginSpec("s3://bucket/d", {"endpoint_url": server.url, "credentials": "env:LAB"})
        origin = open_origin(spec, CONFIG, ThreadRuntime(), client=client)
        assert bytes(origin.read_range(ENTRY, 0, 9)) == CONTENT[:9]
        assert "identity" in server.heads[-1]["Authorization"]
        assert "canary-secret" not in repr(origin.statistics())
        origin.close()
    assert "canary-secret" not in caplog.text


def _local(root, **config):
    return open_origin(OriginSpec(f"file://{root}"), replace(CONFIG, **config), ThreadRuntime())


def test_links_that_leave_the_folder_are_absent_and_those_inside_are_files(tmp_path, caplog):
    outside = tmp_path / "secret"
    outside.write_bytes(b"secret")
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "file").write_bytes(b"inside")
    (root / "inside").symlink_to("file")
    (root / "outside").symlink_to(outside)
    (root / "dangling").symlink_to("nowhere")
    (root / "sub" / "loop").symlink_to("..")
    (root / "linked").symlink_to("sub")
    (root / "self").symlink_to("self")
    (root / "sub" / "x").write_bytes(b"x")
    os.mkfifo(root / "pipe")
    origin = _local(root)
    listed = {file.path: file for file in origin.list_files()}
    assert sorted(listed) == ["file", "inside", "linked/x", "sub/x"]
    assert "left out" in caplog.text
    entry = _entry("inside", b"inside", token=listed["inside"].token)
    assert bytes(origin.read_range(entry, 0, 6)) == b"inside"
    with pytest.raises(OriginNotFoundError, match="leads outside"):
        origin.read_range(_entry("outside", b"secret"), 0, 6)
    with pytest.raises(CacheFSError):
        origin.read_range(_entry("pipe", b"x"), 0, 1)


def test_a_link_swapped_after_the_listing_does_not_lead_outside(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_bytes(b"public")
    origin = _local(root)
    (file,) = origin.list_files()
    (root / "file").unlink()
    (root / "file").symlink_to(tmp_path / "secret")
    with pytest.raises(OriginNotFoundError):
        origin.read_range(_entry("file", b"public", token=file.token), 0, 6)


def test_only_configured_folders_are_opened(tmp_path):
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "up").symlink_to("..")
    (tmp_path / "allowed2").mkdir()
    roots = (str(tmp_path / "allowed"),)
    for path in ("allowed2", "allowed/../allowed2", "allowed/up", ""):
        with pytest.raises(ConfigError, match="file_roots"):
            _local(tmp_path / path, file_roots=roots)
    _local(tmp_path / "allowed", file_roots=roots)


def test_a_name_that_no_dataset_can_hold_is_refused_unless_excluded(tmp_path):
    (tmp_path / "good").write_bytes(b"1")
    (tmp_path / "line\nbreak").write_bytes(b"1")
    (tmp_path / os.fsdecode(b"bad\xff")).write_bytes(b"1")
    spec = OriginSpec(f"file://{tmp_path}")
    with pytest.raises(ConfigError, match="--exclude"):
        list(open_origin(spec, CONFIG, ThreadRuntime()).list_files())
    origin = open_origin(spec, CONFIG, ThreadRuntime(), exclude=["bad*"])
    assert sorted(file.path for file in origin.list_files()) == ["good", "line\nbreak"]


def test_a_retrying_origin_asks_again_only_where_that_may_help():
    failures = [OriginUnavailableError("busy"), OriginUnavailableError("busy")]

    def hook(*_call):
        if failures:
            raise failures.pop()

    origin = MemoryOrigin({"a": b"12"}, hook=hook)
    plan = Backoff(attempts_limit=3, first_seconds=0.001)
    retrying = RetryingOrigin(origin, plan, ThreadRuntime())
    (file,) = retrying.list_files()
    failures += [OriginUnavailableError("busy")] * 2
    entry = _entry("a", b"12", token=file.token)
    assert bytes(retrying.read_range(entry, 0, 2)) == b"12"
    assert origin.reads["a", 0] == 3
    failures += [OriginUnavailableError("busy")] * 3
    with pytest.raises(OriginUnavailableError):
        retrying.read_range(entry, 0, 2)
    failures += [OriginChangedError("changed")]
    with pytest.raises(OriginChangedError):
        retrying.read_range(entry, 1, 1)
    assert origin.reads["a", 1] == 1


def test_no_more_requests_are_under_way_than_allowed():
    runtime = ThreadRuntime()
    inside, most = [], []

    def hook(*_call):
        inside.append(1)
        most.append(len(inside))
        runtime.sleep(0.01)
        inside.pop()

    origin = MemoryOrigin({"a": bytes(8)}, hook=hook)
    limited = LimitedOrigin(origin, replace(CONFIG, requests_limit=2), runtime)
    entry = _entry(
        "a", bytes(8), token=next(iter(MemoryOrigin({"a": bytes(8)}).list_files())).token
    )
    tasks = [
        runtime.start("read", lambda: limited.read_range(entry, 0, 8) and None) for _ in range(8)
    ]
    assert all(task.join(5) for task in tasks)
    assert max(most) == 2
    assert origin.reads["a", 0] == 8


def test_a_rate_beyond_the_deadline_fails_at_once():
    origin = LimitedOrigin(
        MemoryOrigin({"a": bytes(100)}), replace(IMPATIENT, bytes_rate=10.0), ThreadRuntime()
    )
    with pytest.raises(OriginUnavailableError, match="rate"):
        origin.read_range(_entry("a", bytes(100)), 0, 100)


HUB_FILES = {"config.json": b"{}", "model.safetensors": CONTENT, "onnx/model.onnx": CONTENT * 2}


def test_the_fake_hub_is_one_to_the_real_client():
    with FakeHub("org/model", HUB_FILES) as hub:
        files = HfFileSystem(endpoint=hub.url, token=False, skip_instance_cache=True)
        found = files.find("org/model@main", detail=True)
        sizes = {path.partition("/")[2]: info["size"] for path, info in found.items()}
        assert sizes == {f"model@main/{path}": len(content) for path, content in HUB_FILES.items()}


def test_a_hub_version_stays_at_its_commit_and_a_branch_that_moved_is_noticed():
    with FakeHub("org/model", HUB_FILES, token="canary") as hub:
        os.environ["LAB_TOKEN"] = "canary"
        spec = OriginSpec("hf://org/model", {"endpoint_url": hub.url, "credentials": "env:LAB"})
        try:
            origin = open_origin(spec, CONFIG, ThreadRuntime())
            pinned = origin.pin()
            assert pinned.url == f"hf://org/model@{hub.head}"
            files = {file.path: file for file in origin.list_files()}
            large = files["model.safetensors"]
            assert large.digest.startswith("sha256:")
            assert files["config.json"].digest == ""
            entry = _entry("model.safetensors", token=large.token)
            hub.commit({**HUB_FILES, "model.safetensors": CONTENT[::-1]})
            at_commit = open_origin(pinned, CONFIG, ThreadRuntime())
            assert bytes(at_commit.read_range(entry, 7, 9)) == CONTENT[7:16]
            with pytest.raises(OriginChangedError):
                open_origin(spec, CONFIG, ThreadRuntime()).read_range(entry, 7, 9)
            anonymous = OriginSpec("hf://org/model", {"endpoint_url": hub.url, "anon": "true"})
            with pytest.raises(OriginDeniedError):
                open_origin(anonymous, CONFIG, ThreadRuntime()).pin()
        finally:
            del os.environ["LAB_TOKEN"]


def test_a_repository_that_does_not_exist_is_not_found():
    with FakeHub("org/model", HUB_FILES) as hub:
        for url in ("hf://org/other", "hf://org/model@nobranch", "hf://org/model/nofolder"):
            spec = OriginSpec(url, {"endpoint_url": hub.url, "anon": "true"})
            with pytest.raises(OriginNotFoundError):
                list(open_origin(spec, CONFIG, ThreadRuntime()).list_files())
