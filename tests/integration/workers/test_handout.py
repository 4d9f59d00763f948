"""Descriptors over the Unix socket of a real worker."""

import os
import socket
import stat
from pathlib import Path

import pytest

from cachefs.errors import ConfigError
from cachefs.wire import digests, local
from cachefs.workers.serving import handout
from cachefs.workers.serving.handout import open_socket

DIGEST = digests.digester("xxh3-128")


class Reader:
    """A process on the node, in the words of the protocol."""

    def __init__(self, worker, *, token="the-token"):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(5)
        self.socket.connect(worker.member.socket_path)
        self.greeting = self.ask({"op": "hello", "token": token})[0]

    def ask(self, message):
        self.socket.sendall(local.encode(message))
        header, descriptors, _, _ = socket.recv_fds(self.socket, 4, 1)
        if not header:
            return None, None
        body = b""
        while len(body) < local.decode_length(header):
            body += self.socket.recv(local.decode_length(header) - len(body))
        return local.decode(body), descriptors[0] if descriptors else None

    def open(self, site, path="model.bin"):
        file = site.file(path)
        names = {"dataset": "m", "version": file.version, "file": file.entry.file_version}
        return self.ask({"op": "open", **names})

    def close(self):
        self.socket.close()


@pytest.fixture
def reader(worker):
    opened = Reader(worker)
    yield opened
    opened.close()


def test_a_descriptor_is_read_only_and_has_the_right_bytes(site, worker, reader):
    assert reader.greeting == {"worker": "w1", "block_size": site.cluster.block_size}
    answer, descriptor = reader.open(site)
    assert digests.unpack(bytes.fromhex(answer["digests"]), 16).count(None) in (0, 6)
    filled, _ = reader.ask(
        {"op": "fill", "lease": answer["lease"], "index": 5, "deadline_seconds": 5}
    )
    content = site.files["model.bin"]
    expected = content[5 * site.cluster.block_size :]
    assert filled["source"] == "origin"
    assert filled["digest"] == DIGEST(expected).hex()
    assert os.pread(descriptor, 1 << 20, 5 * site.cluster.block_size) == expected
    assert os.fstat(descriptor).st_ctime_ns == filled["stamp"]
    assert os.fstat(descriptor).st_size == len(content)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(descriptor, b"x", 0)
    os.close(descriptor)


def test_check_says_which_blocks_are_here(site, worker, reader):
    answer, descriptor = reader.open(site)
    reader.ask({"op": "fill", "lease": answer["lease"], "index": 1, "deadline_seconds": 5})
    checked, _ = reader.ask({"op": "check", "lease": answer["lease"]})
    known = digests.unpack(bytes.fromhex(checked["digests"]), 16)
    assert [index for index, digest in enumerate(known) if digest] == [1]
    assert checked["stamp"] == os.fstat(descriptor).st_ctime_ns
    os.close(descriptor)


def test_a_damaged_block_is_quarantined_and_filled_again(site, worker, reader):
    answer, descriptor = reader.open(site, "small")
    reader.ask({"op": "fill", "lease": answer["lease"], "index": 0, "deadline_seconds": 5})
    (tier,) = worker._config.tiers
    (data,) = [
        path for path in tier.folder.rglob("*") if path.is_file() and path.stat().st_size == 5
    ]
    data.write_bytes(b"WRONG")
    reported, _ = reader.ask({"op": "report", "lease": answer["lease"], "index": 0})
    assert "stamp" in reported
    filled, _ = reader.ask(
        {"op": "fill", "lease": answer["lease"], "index": 0, "deadline_seconds": 5}
    )
    assert filled["source"] == "origin"
    assert os.pread(descriptor, 5, 0) == b"hello"
    os.close(descriptor)


def test_a_lease_ends_with_close_and_with_the_connection(site, worker):
    file_version = site.file("small").entry.file_version
    reader = Reader(worker)
    answer, descriptor = reader.open(site, "small")
    os.close(descriptor)
    assert worker.store.is_leased(file_version)
    assert worker.statistics().leases == 1
    assert reader.ask({"op": "close", "lease": answer["lease"]})[0] == {}
    assert not worker.store.is_leased(file_version)
    os.close(reader.open(site, "small")[1])
    assert worker.store.is_leased(file_version)
    reader.close()
    site.wait_until(lambda: worker.statistics().leases == 0)
    assert not worker.store.is_leased(file_version)


def test_nothing_is_lent_without_the_token(site, worker):
    reader = Reader(worker, token="wrong")
    assert reader.greeting["failure"]["error"] == "DeniedError"
    assert reader.socket.recv(1) == b""
    reader.close()


def test_hello_comes_first_and_soon(site, worker, monkeypatch):
    raw = socket.socket(socket.AF_UNIX)
    raw.settimeout(5)
    raw.connect(worker.member.socket_path)
    raw.sendall(local.encode({"op": "open"}))
    assert b"DeniedError" in raw.recv(4096)
    assert raw.recv(1) == b""
    raw.close()
    monkeypatch.setattr(handout, "HELLO_SECONDS", 1)
    silent = socket.socket(socket.AF_UNIX)
    silent.settimeout(5)
    silent.connect(worker.member.socket_path)
    assert silent.recv(1) == b""
    silent.close()


@pytest.mark.parametrize(
    "request_",
    [
        {"op": "open", "dataset": "../x", "version": "0", "file": "0"},
        {"op": "open", "dataset": "m", "version": "0", "file": "../../etc/passwd"},
        {"op": "open"},
        {"op": "fill", "lease": 99, "index": 0, "deadline_seconds": 1},
        {"op": "fill", "lease": 1, "index": 99, "deadline_seconds": 1},
        {"op": "fill", "lease": 1, "index": -1, "deadline_seconds": 1},
        {"op": "fill", "lease": 1, "index": True, "deadline_seconds": 1},
        {"op": "fill", "lease": 1, "index": 0, "deadline_seconds": 1e9},
        {"op": "fill", "lease": 1, "index": 0},
        {"op": "nothing", "lease": 1},
        {"op": ["x"], "lease": 1},
        {},
    ],
)
def test_what_makes_no_sense_is_a_failure_and_the_connection_goes_on(
    site, worker, reader, request_
):
    answer, descriptor = reader.open(site)
    os.close(descriptor)
    assert answer["lease"] == 1
    assert "failure" in reader.ask(request_)[0]
    assert "stamp" in reader.ask({"op": "check", "lease": 1})[0]


def test_only_its_owner_can_reach_the_socket(worker):
    path = Path(worker.member.socket_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_deep_state_folder_gets_a_short_socket_path(tmp_path):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    listening, path = open_socket(deep)
    try:
        assert len(str(path)) <= 107
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    finally:
        listening.close()
        path.unlink()
        path.parent.rmdir()


def test_a_link_in_the_place_of_the_sockets_folder_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "socket").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="not ours"):
        open_socket(tmp_path / "state")
