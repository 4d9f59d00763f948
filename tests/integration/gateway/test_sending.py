"""Bodies by every way there is: whole files, parts of several workers, the network; and broken ones."""

import http.client
import random
import socket
import urllib.error
import urllib.request

import pytest

from cachefs.client.reader import OpenFile
from cachefs.errors import OriginChangedError
from cachefs.gateway import files, sending
from tests.integration.gateway.conftest import open_gateway, write
from tests.integration.systems import MIB, PacedOrigin, System, wait_for

pytestmark = pytest.mark.slow
SIZE = 5 * MIB + 11
CUT_SHORT = "a body was cut short"


def fetch(gateway, path, headers=None):
    request = urllib.request.Request(
        f"http://{gateway.addresses['s3']}/default/{path}", headers=headers or {}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own URL
        return answer.read()


@pytest.fixture(scope="module")
def content():
    return random.Random(7).randbytes(SIZE)


@pytest.fixture(scope="module", params=[1, 3], ids=["one worker", "three workers"])
def shared_system(request, tmp_path_factory, content):
    """Return a system with the dataset ``m``, of which it has all or nothing."""
    folder = tmp_path_factory.mktemp("sending")
    write(folder / "data", {"w.bin": content, "small": b"x" * 1000})
    with System(folder, block_size=256 * 1024) as made:
        made.start_coordinator()
        names = [f"worker-{number}" for number in range(request.param)]
        for name in names:
            made.start_worker(name)
        made.wait_for_members(*names)
        made.add("m", f"file://{folder}/data")
        yield made


@pytest.fixture
def system(shared_system):
    """Return the system, which has nothing of ``m``."""
    shared_system.api.post("/v1/evict", {"dataset": "m"})
    return shared_system


one_worker = pytest.mark.parametrize("shared_system", [1], indirect=True, ids=["one worker"])


@pytest.mark.parametrize("local", [True, False], ids=["descriptors", "network"])
def test_ranges_are_right_cold_and_warm(system, content, local):
    with open_gateway(system, local=local, anonymous=True) as gateway:
        chosen = random.Random(3)
        for _ in range(2):
            assert fetch(gateway, "m/w.bin") == content
            assert fetch(gateway, "m/small") == b"x" * 1000
            for _ in range(20):
                first = chosen.randrange(SIZE)
                last = min(SIZE - 1, first + chosen.choice([0, 10, 70_000, 200_000, 2 * MIB]))
                got = fetch(gateway, "m/w.bin", {"Range": f"bytes={first}-{last}"})
                assert got == content[first : last + 1]


def test_a_whole_file_leaves_by_sendfile_and_is_let_go_when_idle(system, monkeypatch):
    sent = []
    original = sending.Sender._send_file

    def watched(self, head, file, wanted, whole):
        sent.append(wanted.length)
        original(self, head, file, wanted, whole)

    monkeypatch.setattr(sending.Sender, "_send_file", watched)
    monkeypatch.setattr(files, "IDLE_SECONDS", 0.4)
    one = len(system.members()) == 1
    with open_gateway(system, anonymous=True) as gateway:
        fetch(gateway, "m/w.bin")
        fetch(gateway, "m/w.bin")
        assert sent[-1:] == ([SIZE] if one else [])
        wait_for(lambda: len(gateway.files) == 0, what="the file is kept open")


@one_worker
def test_a_file_that_is_written_to_while_it_is_sent_never_looks_whole(
    system, tmp_path, content, monkeypatch, caplog
):
    mine = content[: SIZE - 1]
    write(tmp_path / "data", {"w.bin": mine})
    system.add("written", f"file://{tmp_path}/data")
    with open_gateway(system, anonymous=True) as gateway:
        fetch(gateway, "written/w.bin")
        (stored,) = (
            path
            for path in (system.folder / "worker-0" / "tier").rglob("*")
            if path.is_file() and path.stat().st_size == len(mine)
        )
        original = sending.Conversation.send_file

        def damage_first(self, descriptor, offset, length):
            with stored.open("r+b") as file:
                file.seek(offset)
                file.write(b"damaged")
            original(self, descriptor, offset, length)

        monkeypatch.setattr(sending.Conversation, "send_file", damage_first)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            fetch(gateway, "written/w.bin")
        wait_for(lambda: CUT_SHORT in caplog.messages)
        monkeypatch.undo()
        assert fetch(gateway, "written/w.bin") == mine


@one_worker
def test_what_cannot_be_read_is_an_answer_with_a_reason(system, tmp_path, content):
    write(tmp_path / "data", {"w.bin": content})
    with PacedOrigin(tmp_path / "data") as origin:
        system.add("changed", f"{origin.url}/w.bin")
        with open_gateway(system, anonymous=True) as gateway:
            got = fetch(gateway, "changed/w.bin", {"Range": "bytes=0-200000"})
            assert got == content[:200_001]
            (tmp_path / "data" / "w.bin").write_bytes(bytes(SIZE))
            with pytest.raises(urllib.error.HTTPError) as caught:
                fetch(gateway, "changed/w.bin", {"Range": f"bytes={4 * MIB}-"})
            assert caught.value.code == 409
            assert b"OriginChanged" in caught.value.read()


def test_a_body_that_cannot_be_had_to_its_end_stays_short(system, content, monkeypatch, caplog):
    original = OpenFile.lend

    def fail_later(self, offset, length, borrow):
        if offset >= 2 * sending.PIECE_BYTES:
            raise OriginChangedError("it has changed")
        return original(self, offset, length, borrow)

    monkeypatch.setattr(OpenFile, "lend", fail_later)
    monkeypatch.setattr(OpenFile, "whole", lambda _: None)
    with open_gateway(system, anonymous=True) as gateway:
        host, port = gateway.addresses["s3"].split(":")
        with socket.create_connection((host, int(port)), timeout=30) as raw:
            raw.sendall(b"GET /default/m/w.bin HTTP/1.1\r\nHost: x\r\n\r\n")
            received = b""
            while part := raw.recv(1 << 20):
                received += part
        head, _, body = received.partition(b"\r\n\r\n")
        assert f"Content-Length: {SIZE}".encode() in head
        assert body == content[: 2 * sending.PIECE_BYTES]
        assert CUT_SHORT in caplog.messages
