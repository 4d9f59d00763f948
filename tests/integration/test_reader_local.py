"""The reader through descriptors: what the stamp lets pass, and what it catches."""

import contextlib
import os
import random
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cachefs.config.schema import ReaderConfig
from cachefs.config.secrets import Secret
from cachefs.errors import DeniedError
from cachefs.testing.memory.cluster import DATASET, TOKEN, MemoryCluster
from cachefs.transport.local import LocalNode
from cachefs.transport.node import node_identity
from cachefs.wire import failures, local
from cachefs.wire.digests import digester, pack

BLOCK = 4096
CONTENT = random.Random(5).randbytes(10 * BLOCK + 99)
NODE = "this-node"
COUNT = 11


class Lender:
    """A worker's Unix socket over one sparse file, whose blocks the test decides."""

    def __init__(self, folder: Path, name: str, resident: set[int]) -> None:
        self.name = name
        self.resident = set(resident)
        self.trusted_stamp = 0
        self.asked: list[str] = []
        self.silent = False
        self.slow_seconds = 0.0
        """How long it thinks before it lends."""
        self.path = folder / f"{name}.sparse"
        with self.path.open("wb") as file:
            file.truncate(len(CONTENT))
        for index in resident:
            self.write(index)
        self.socket_path = str(folder / f"{name}.socket")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.socket_path)
        self._listener.listen()
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def write(self, index: int, content: bytes | None = None) -> None:
        """Write a block as the worker does, which knows its own stamp."""
        self.damage(index, content or CONTENT[index * BLOCK : (index + 1) * BLOCK])
        self.resident.add(index)
        self.trusted_stamp = self.path.stat().st_ctime_ns

    def damage(self, index: int, content: bytes) -> None:
        """Write as somebody else does."""
        before = self.path.stat().st_ctime_ns
        while self.path.stat().st_ctime_ns == before:
            with self.path.open("r+b") as file:
                file.seek(index * BLOCK)
                file.write(content)

    def close(self) -> None:
        for one in [self._listener, *self._connections]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        while header := self._read(connection, 4):
            request = local.decode(self._read(connection, local.decode_length(header)))
            self.asked.append(request["op"])
            if self.silent:
                continue
            answer, descriptor = self._answer(request)
            if descriptor is None:
                connection.sendall(local.encode(answer))
            else:
                socket.send_fds(connection, [local.encode(answer)], [descriptor])
                os.close(descriptor)

    def _read(self, connection: socket.socket, length: int) -> bytes:
        got = b""
        while len(got) < length:
            try:
                part = connection.recv(length - len(got))
            except OSError:
                return b""
            if not part:
                return b""
            got += part
        return got

    def _answer(self, request):
        if request["op"] == "hello":
            if request["token"] != TOKEN:
                return {"failure": failures.to_document(DeniedError("wrong token"))}, None
            return {"worker": self.name, "block_size": BLOCK}, None
        if request["op"] == "open":
            time.sleep(self.slow_seconds)  # noqa: TID251 - a worker of another process
            return {"lease": 1, **self._state()}, os.open(self.path, os.O_RDONLY)
        if request["op"] == "report":
            self.resident.discard(request["index"])
            return {"stamp": self.trusted_stamp}, None
        if request["op"] == "check":
            return self._state(), None
        return {}, None

    def _state(self):
        """Verify anew what is not trusted, as a worker does."""
        digest = digester("xxh3-128")
        known = []
        # The stamp first: what is damaged in between is then seen, or makes the stamp differ.
        stamp = self.path.stat().st_ctime_ns
        content = self.path.read_bytes()
        for index in range(COUNT):
            right = CONTENT[index * BLOCK : (index + 1) * BLOCK]
            if content[index * BLOCK : (index + 1) * BLOCK] != right:
                self.resident.discard(index)
            known.append(digest(right) if index in self.resident else None)
        return {"stamp": stamp, "digests": pack(known, 16).hex()}


class Local:
    """A cluster whose first two workers are on this node."""

    def __init__(self, folder: Path, resident: list[set[int]]) -> None:
        self.cluster = MemoryCluster({"a": CONTENT}, block_size=BLOCK)
        self.lenders = [Lender(folder, f"w{at}", blocks) for at, blocks in enumerate(resident)]
        view = self.cluster.workers[0].view
        members = tuple(
            replace(member, node=NODE, socket_path=lender.socket_path)
            for member, lender in zip(view.members, self.lenders, strict=False)
        )
        view = replace(view, members=members + view.members[len(members) :])
        for worker in self.cluster.workers:
            worker.view = view
        self.node = LocalNode(
            self.cluster.runtime,
            Secret(TOKEN),
            block_size=BLOCK,
            digest="xxh3-128",
            node=NODE,
            timeout_seconds=0.5,
        )
        self.reader = self.cluster.reader(ReaderConfig(readahead_bytes=0), local=self.node)
        self.file = self.reader.open(DATASET).file("a")

    def requests(self) -> int:
        return sum(len(worker.requests) for worker in self.cluster.workers)

    def sources(self) -> dict[str, int]:
        return dict(self.reader.statistics().bytes_by_source)

    def close(self) -> None:
        self.node.close()
        self.cluster.close()
        for lender in self.lenders:
            lender.close()


@pytest.fixture
def lent(tmp_path):
    opened = []

    def open_local(*resident: set[int]) -> Local:
        opened.append(Local(tmp_path, list(resident)))
        return opened[-1]

    yield open_local
    for each in opened:
        each.close()


def open_descriptors(path: Path) -> int:
    """Count this process's descriptors of a file."""
    count = 0
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += each.readlink() == path
    return count


EVERYTHING = set(range(COUNT))


def test_a_file_that_is_whole_on_this_node_is_read_without_a_request(lent):
    here = lent(EVERYTHING)
    assert here.file.read(0, len(CONTENT)) == CONTENT
    assert here.file.read(BLOCK - 3, 2 * BLOCK) == CONTENT[BLOCK - 3 : 3 * BLOCK - 3]
    assert here.requests() == 0
    assert here.sources()["local"] == len(CONTENT) + 2 * BLOCK
    assert here.lenders[0].asked == ["hello", "open"]


def test_first_reads_of_many_threads_at_once_share_one_lease(lent):
    here = lent(EVERYTHING)
    here.lenders[0].slow_seconds = 0.2
    together = threading.Barrier(4)
    parts = {}

    def read(at: int) -> None:
        together.wait(5)
        parts[at] = here.file.read(at * 2 * BLOCK, 2 * BLOCK)

    threads = [threading.Thread(target=read, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert b"".join(parts[at] for at in range(4)) == CONTENT[: 8 * BLOCK]
    assert here.requests() == 0
    assert here.lenders[0].asked == ["hello", "open"]


def test_blocks_of_two_workers_on_this_node_make_one_file(lent):
    here = lent({0, 1, 2, 6, 10}, EVERYTHING - {0, 1, 2, 6, 10})
    assert here.file.read(0, len(CONTENT)) == CONTENT
    assert here.requests() == 0


def test_blocks_that_are_not_here_come_over_the_network(lent):
    here = lent(EVERYTHING - {3, 4, 10})
    assert here.file.read(0, len(CONTENT)) == CONTENT
    assert here.requests() == 3
    assert here.sources() == {
        "local": 8 * BLOCK,
        "peer": 2 * BLOCK + 99,
        "origin": 0,
        "memory": 0,
    }


def test_blocks_that_came_in_meanwhile_are_found_at_the_next_read(lent):
    here = lent(EVERYTHING - {3, 4})
    here.file.read(0, len(CONTENT))
    here.lenders[0].write(3)
    here.lenders[0].write(4)
    asked = here.requests()
    assert here.file.read(0, len(CONTENT)) == CONTENT
    assert here.requests() == asked


def test_a_block_that_somebody_damaged_is_not_delivered(lent):
    here = lent(EVERYTHING)
    here.file.read(0, 10)
    here.lenders[0].damage(5, b"x" * BLOCK)
    assert here.file.read(0, len(CONTENT)) == CONTENT
    assert "report" in here.lenders[0].asked
    assert here.requests() == 1
    assert here.file.read(5 * BLOCK + 7, 20) == CONTENT[5 * BLOCK + 7 : 5 * BLOCK + 27]


def test_damage_within_a_block_is_seen_by_a_read_of_another_part_of_it(lent):
    here = lent(EVERYTHING)
    here.file.read(0, 10)
    here.lenders[0].damage(5, b"x")
    assert here.file.read(5 * BLOCK + 100, 50) == CONTENT[5 * BLOCK + 100 : 5 * BLOCK + 150]
    assert here.sources()["local"] == 10


def test_a_file_cut_short_under_the_reader_is_read_elsewhere(lent):
    here = lent(EVERYTHING)
    here.file.read(0, 10)
    os.truncate(here.lenders[0].path, 3 * BLOCK)
    assert here.file.read(0, len(CONTENT)) == CONTENT


def test_a_block_punched_out_by_a_worker_without_a_lease_reads_right(lent):
    here = lent(EVERYTHING)
    here.file.read(0, 10)
    here.lenders[0].close()
    here.lenders[0].damage(2, bytes(BLOCK))
    assert here.file.read(0, len(CONTENT)) == CONTENT


def test_descriptors_outlive_their_worker_as_long_as_the_stamp_agrees(lent):
    here = lent(EVERYTHING)
    here.file.read(0, 10)
    here.lenders[0].close()
    assert here.file.read(0, len(CONTENT)) == CONTENT
    assert here.requests() == 0


def test_a_worker_that_is_silent_on_its_socket_costs_a_moment_and_no_byte(lent):
    here = lent(EVERYTHING)
    here.lenders[0].silent = True
    began = here.cluster.runtime.monotonic()
    assert here.file.read(0, len(CONTENT)) == CONTENT
    assert here.cluster.runtime.monotonic() - began < 2.0


def test_another_workers_socket_is_not_believed(lent):
    here = lent(EVERYTHING)
    here.lenders[0].name = "somebody-else"
    assert here.file.read(0, len(CONTENT)) == CONTENT
    assert here.sources()["local"] == 0


def test_workers_of_other_nodes_are_not_asked_for_descriptors(lent, tmp_path):
    here = lent(EVERYTHING)
    other = LocalNode(
        here.cluster.runtime, Secret(TOKEN), block_size=BLOCK, digest="xxh3-128", node="another"
    )
    assert other.open(here.file.ref, here.cluster.workers[0].view) is None


def test_closing_a_file_gives_its_descriptor_back(lent):
    here = lent(EVERYTHING)
    here.file.read(0, 10)
    here.cluster.runtime.sleep(0.05)  # The lender closes its own a moment after it sent it.
    assert open_descriptors(here.lenders[0].path) == 1
    here.file.close()
    assert open_descriptors(here.lenders[0].path) == 0
    assert here.lenders[0].asked[-1] == "close"


def test_many_threads_read_while_blocks_come_and_go(lent):
    here = lent(set())
    stop = threading.Event()
    wrong = []

    def read(seed: int) -> None:
        chosen = random.Random(seed)
        while not stop.is_set():
            offset, length = chosen.randrange(len(CONTENT)), chosen.randrange(4 * BLOCK)
            if here.file.read(offset, length) != CONTENT[offset : offset + length]:
                wrong.append((offset, length))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    chosen = random.Random(9)
    for _ in range(60):
        index = chosen.randrange(COUNT)
        if index in here.lenders[0].resident:
            here.lenders[0].damage(index, b"z" * 10)
        else:
            here.lenders[0].write(index)
        here.cluster.runtime.sleep(0.005)
    stop.set()
    for thread in threads:
        thread.join(20)
    assert wrong == []
    assert here.sources()["local"] > 0


def test_a_nodes_identity_is_stable_and_tells_machines_apart(tmp_path):
    one, two = tmp_path / "machine", tmp_path / "boot"
    one.write_text("abc\n")
    two.write_text("1\n")
    first = node_identity((one, two))
    assert first == node_identity((one, two))
    two.write_text("2\n")
    assert node_identity((one, two)) != first
    assert node_identity((tmp_path / "missing", two)) != first
    assert len(node_identity()) == 16
