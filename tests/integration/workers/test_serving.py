"""The data plane of a real worker, asked over real sockets."""

import http.client
import json
import socket
import threading
import time

from cachefs.config.reading import reading_token
from cachefs.config.secrets import Secret
from cachefs.transport.serving import conversation
from cachefs.wire import digests
from cachefs.wire.http import decode_view

AUTHORIZED = {"Authorization": "Bearer the-token"}


def connect(worker):
    host, port = worker.member.data_address.split(":")
    return http.client.HTTPConnection(host, int(port), timeout=10)


def ask(worker, path, *, method="GET", headers=AUTHORIZED, connection=None):
    connection = connection or connect(worker)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


def target(site, path="model.bin"):
    file = site.file(path)
    return f"/v1/files/{file.entry.file_version}?dataset=m&version={file.version}"


def test_a_whole_file_is_served(site, worker):
    for path in ("model.bin", "small", "empty") * 2:
        status, headers, body = ask(worker, target(site, path))
        assert (status, body) == (200, site.files[path])
        assert headers["Content-Length"] == str(len(body))


def test_a_range_is_served_wherever_the_blocks_end(site, worker):
    content = site.files["model.bin"]
    for asked, start, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=0-65535", 0, 65536),
        ("bytes=65535-65536", 65535, 65537),
        ("bytes=100-200000", 100, 200001),
        ("bytes=-10", -10, None),
        ("bytes=300000-", 300000, None),
    ):
        status, headers, body = ask(worker, target(site), headers={**AUTHORIZED, "Range": asked})
        assert (status, body) == (206, content[start:end])
        first = start % len(content)
        assert headers["Content-Range"] == f"bytes {first}-{first + len(body) - 1}/{len(content)}"


def test_whole_blocks_come_with_their_digests(site, worker):
    digest = digests.digester("xxh3-128")
    content = site.files["model.bin"]
    size = site.cluster.block_size
    asked = {**AUTHORIZED, "Range": f"bytes={4 * size}-"}
    _, headers, _ = ask(worker, target(site), headers=asked)
    assert headers["X-CacheFS-Digests"] == ",".join(
        digest(content[at : at + size]).hex() for at in (4 * size, 5 * size)
    )
    _, headers, _ = ask(worker, target(site), headers={**AUTHORIZED, "Range": "bytes=1-5"})
    assert "X-CacheFS-Digests" not in headers
    assert headers["X-CacheFS-Source"] == "origin"


def test_a_range_beyond_the_file_is_416(site, worker):
    asked = {**AUTHORIZED, "Range": "bytes=5-"}
    status, headers, _ = ask(worker, target(site, "small"), headers=asked)
    assert (status, headers["Content-Range"]) == (416, "bytes */5")


def test_a_head_request_fills_nothing(site, worker):
    status, headers, body = ask(worker, target(site), method="HEAD")
    assert (status, headers["Content-Length"], body) == (
        200,
        str(len(site.files["model.bin"])),
        b"",
    )
    assert site.origin_bytes() == 0


def test_only_cached_fills_nothing(site, worker):
    only_cached = {**AUTHORIZED, "Cache-Control": "only-if-cached", "Range": "bytes=0-9"}
    status, headers, _ = ask(worker, target(site), headers=only_cached)
    assert status == 504
    assert not headers["Content-Type"].startswith("application/json")
    assert site.origin_bytes() == 0
    ask(worker, target(site), headers={**AUTHORIZED, "Range": "bytes=0-9"})
    status, headers, body = ask(worker, target(site), headers=only_cached)
    assert (status, body) == (206, site.files["model.bin"][:10])
    assert headers["X-CacheFS-Source"] == "disk"


def test_a_reader_that_was_served_a_wrong_block_makes_the_worker_look_and_fill_it_anew(
    site, worker
):
    whole = {**AUTHORIZED, "Range": f"bytes=0-{site.cluster.block_size - 1}"}
    doubting = {**whole, "Cache-Control": "no-cache"}
    ask(worker, target(site), headers=whole)
    _, headers, _ = ask(worker, target(site), headers=doubting)
    assert headers["X-CacheFS-Source"] == "disk"
    # Rot below the file system leaves no trace but this: the bytes do not match their digest.
    [tier] = worker.store._tiers
    tier.books.files[site.file("model.bin").entry.file_version].blocks[0].digest = bytes(16)
    _, headers, body = ask(worker, target(site), headers=doubting)
    assert headers["X-CacheFS-Source"] == "origin"
    assert body == site.files["model.bin"][: site.cluster.block_size]


def test_without_the_token_nothing_is_said(worker):
    connection = connect(worker)
    for path in ("/v1/view", "/v1/files/x", "/metrics", "/nowhere", "/v1/versions?dataset=m"):
        for value in (None, "Bearer wrong", "Basic the-token", "Bearer", "Bearer  "):
            headers = {"Authorization": value} if value else {}
            status, answered, _ = ask(worker, path, headers=headers, connection=connection)
            assert (status, answered["WWW-Authenticate"]) == (401, "Bearer")


def test_health_needs_no_token(worker):
    assert ask(worker, "/healthz", headers={})[0] == 200


def test_metadata_is_served_and_goes_on_while_the_coordinator_is_down(site, worker):
    ask(worker, target(site))
    site.coordinator.close()
    status, _, body = ask(worker, "/v1/view")
    assert (status, decode_view(body).members[0].worker) == (200, "w1")
    status, _, body = ask(worker, "/v1/versions?dataset=m")
    assert json.loads(body)["version"] == site.version.manifest.id
    assert ask(worker, f"/v1/manifests/{site.version.manifest.id}")[2] == (
        site.version.manifest.encoded
    )
    file_version = site.file("model.bin").entry.file_version
    known = digests.unpack(ask(worker, f"/v1/digests/{file_version}")[2], 16)
    assert len(known) == 6
    assert all(known)
    assert ask(worker, target(site, "small"))[2] == b"hello"


def test_what_is_not_there_is_a_failure_with_a_reason(worker):
    for path, status in (
        ("/v1/files/../../etc/passwd?dataset=m&version=0", 404),
        (f"/v1/files/{'0' * 40}?dataset=..&version={'0' * 40}", 400),
        (f"/v1/files/{'0' * 40}?dataset=m&version={'0' * 40}", 404),
        ("/v1/manifests/nothing", 404),
        ("/v1/nothing", 404),
        ("/v2/view", 404),
    ):
        answered, headers, body = ask(worker, path)
        assert (answered, headers["Content-Type"]) == (status, "application/json")
        assert json.loads(body)["message"]


def test_who_reads_some_datasets_is_told_nothing_of_anothers_by_its_ids(site, worker):
    assert ask(worker, target(site))[0] == 200
    mine = reading_token(Secret("the-token"), ["default/m"]).reveal()
    others = reading_token(Secret("the-token"), ["team-b/*"]).reveal()
    file = site.file("model.bin")
    version = f"version={file.version}"
    for path in (f"/v1/manifests/{file.version}", f"/v1/digests/{file.entry.file_version}"):
        for token, query, status in (
            (mine, f"?dataset=m&{version}", 200),
            (mine, "", 401),
            (others, "", 401),
            (others, f"?dataset=m&{version}", 404),
            (others, f"?dataset=team-b/nothing&{version}", 404),
        ):
            headers = {"Authorization": f"Bearer {token}"}
            assert ask(worker, path + query, headers=headers)[0] == status, (path, query)


def test_other_methods_are_refused(worker):
    assert ask(worker, "/v1/view", method="DELETE")[0] == 405


def test_a_connection_is_used_again_after_a_failure(site, worker):
    connection = connect(worker)
    assert ask(worker, "/v1/nothing", connection=connection)[0] == 404
    assert ask(worker, target(site, "small"), connection=connection)[2] == b"hello"


def test_metrics_count_what_was_served(site, worker):
    ask(worker, target(site, "small"))
    text = ask(worker, "/metrics")[2].decode()
    assert 'cachefs_worker_served_bytes_total{source="origin"} 5.0' in text
    assert 'cachefs_worker_filled_bytes_total{source="origin"} 5.0' in text


def test_a_reader_that_doubts_a_block_has_it_verified(site, worker):
    ask(worker, target(site, "small"))
    (tier,) = worker._config.tiers
    (data,) = [
        each for each in tier.folder.rglob("*") if each.is_file() and each.stat().st_size == 5
    ]
    with data.open("r+b") as file:
        file.write(b"WRONG")
    doubting = {**AUTHORIZED, "Cache-Control": "no-cache"}
    status, headers, body = ask(worker, target(site, "small"), headers=doubting)
    assert (status, body, headers["X-CacheFS-Source"]) == (200, b"hello", "origin")


def test_a_changed_file_is_an_error_and_not_a_mixture(site, worker):
    (site.data / "small").write_bytes(b"HELLO")
    status, _, body = ask(worker, target(site, "small"))
    assert (status, json.loads(body)["error"]) == (502, "OriginChangedError")


def test_while_a_fill_is_waited_for_the_worker_says_that_it_is_alive(site, worker, monkeypatch):
    monkeypatch.setattr("cachefs.workers.filling.fills.PROGRESS_SECONDS", 0.02)
    release = threading.Event()
    bring = worker.filler._bringer.bring

    def slow(errand):
        assert release.wait(10)
        return bring(errand)

    monkeypatch.setattr(worker.filler._bringer, "bring", slow)
    host, port = worker.member.data_address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(
            f"GET {target(site, 'small')} HTTP/1.1\r\nAuthorization: Bearer the-token\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        assert raw.recv(64).startswith(b"HTTP/1.1 102 Processing\r\n\r\n")
        release.set()
        received = b""
        while part := raw.recv(4096):
            received += part
    assert b"HTTP/1.1 200 OK\r\n" in received
    assert received.endswith(b"hello")


def exchange(worker, data, *, seconds=5.0):
    """Send raw bytes; return what came back until the worker closed the connection."""
    host, port = worker.member.data_address.split(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as raw:
        raw.sendall(data)
        received = b""
        while part := raw.recv(4096):
            received += part
        return received


def test_nonsense_is_answered_once_and_the_connection_closed(worker):
    for data in (
        b"\x16\x03\x01 not http\r\n\r\n",
        b"GET /v1/view HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    ):
        assert exchange(worker, data).startswith(b"HTTP/1.1 400 ")


def test_a_head_that_drips_is_given_up(worker, monkeypatch):
    monkeypatch.setattr(conversation, "HEAD_SECONDS", 0.2)
    began = time.perf_counter()
    assert exchange(worker, b"GET /v1/view HT") == b""
    assert time.perf_counter() - began < 3


def test_idle_connections_make_room_for_others(site):
    worker = site.add("w2", connections_limit=3)
    host, port = worker.member.data_address.split(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(6)]
    try:
        for _ in range(3):
            assert ask(worker, target(site, "small"))[2] == b"hello"
    finally:
        for each in idle:
            each.close()
    assert worker.statistics().connections <= 3


def test_a_reader_that_takes_nothing_is_given_up(site, worker, monkeypatch):
    monkeypatch.setattr(conversation, "STALL_SECONDS", 0.2)
    monkeypatch.setattr(conversation, "TRICKLE_BYTES_RATE", 1e12)
    (site.data / "large").write_bytes(bytes(24 * 1024 * 1024))
    site.version = site.list_again()
    host, port = worker.member.data_address.split(":")
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect((host, int(port)))
        raw.sendall(
            f"GET {target(site, 'large')} HTTP/1.1\r\n"
            "Authorization: Bearer the-token\r\n\r\n".encode()
        )
        raw.recv(10)
        site.wait_until(lambda: worker.statistics().connections == 0)
