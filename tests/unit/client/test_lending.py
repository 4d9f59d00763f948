"""Lending: a read's bytes as the reader has them, without a copy where that can be."""

from contextlib import contextmanager

import pytest

from cachefs.client.reader import OpenFile, Reader
from cachefs.config.schema import ClusterConfig, ReaderConfig
from cachefs.core.blocks import Range, clip
from cachefs.core.membership import Member, View
from cachefs.core.names import WorkerId
from cachefs.errors import OriginUnavailableError
from cachefs.ports import FetchedBlock
from cachefs.testing.blocks import block_bytes, block_digest, make_file
from cachefs.testing.simulation.world.runtime import SimRuntime

BLOCK = 4096
FILE = make_file("data.bin", 5 * BLOCK + 77)
CONTENT = b"".join(block_bytes(FILE, index, BLOCK) for index in range(6))
MEMBER = Member(
    worker=WorkerId("w"),
    incarnation="1",
    node="n",
    zone="z",
    pool="default",
    weight=1.0,
    data_address="w:1",
    control_address="w:2",
    socket_path="",
)


class Workers:
    """Metadata and blocks of a cluster of one worker."""

    def __init__(self) -> None:
        self.fetched: list[int] = []
        self.fails = False

    def view(self, *, deadline: float) -> View:
        return View(1, (MEMBER,))

    def digests(self, file, *, deadline: float) -> list[bytes | None]:
        return []

    def fetch(self, member, request) -> FetchedBlock:
        self.fetched.append(request.index)
        if self.fails:
            raise OriginUnavailableError("no such bytes today")
        request.into[:] = block_bytes(request.file, request.index, BLOCK)
        return FetchedBlock(block_digest(request.file, request.index, BLOCK), "disk")


class Local:
    """A worker on this node, which has lent the file's beginning."""

    def __init__(self, resident: int) -> None:
        self.resident = resident

    def open(self, file, view) -> "Local":
        return self

    def read_into(self, offset, into, *, deadline) -> tuple[list[Range], str]:
        here = max(0, min(len(into), self.resident - offset))
        into[:here] = CONTENT[offset : offset + here]
        rest = Range(offset + here, len(into) - here)
        return ([rest] if rest.length else []), "z"

    def expect(self) -> None:
        pass

    def close(self) -> None:
        pass


class World:
    """An open file, and a count of the buffers that were borrowed for it."""

    def __init__(self, local: Local | None = None, *, cache_blocks: int = 16) -> None:
        self.runtime = SimRuntime(7)
        self.workers = Workers()
        self.local = local
        self.config = ReaderConfig(block_cache_bytes=cache_blocks * BLOCK, readahead_bytes=0)
        self.borrowed = 0

    def run(self, body) -> None:
        def main() -> None:
            self.reader = Reader(
                self.runtime,
                self.config,
                ClusterConfig(block_size=BLOCK),
                metadata=self.workers,
                blocks=self.workers,
                local=self.local,
            )
            with self.reader, OpenFile(self.reader, FILE, None) as self.file:
                body()

        self.runtime.run(main)

    @contextmanager
    def borrow(self, length: int):
        self.borrowed += 1
        yield memoryview(bytearray(length))

    def lend(self, offset: int, length: int) -> bytes:
        with self.file.lend(offset, length, self.borrow) as views:
            return b"".join(views)


RANGES = [(0, 10), (0, BLOCK), (BLOCK - 1, 2), (100, 3 * BLOCK), (5 * BLOCK, 1000), (0, 10 * BLOCK)]


@pytest.mark.parametrize(("offset", "length"), RANGES)
@pytest.mark.parametrize("resident", [None, 0, BLOCK, 2 * BLOCK, len(CONTENT)])
def test_the_right_bytes_are_lent_wherever_they_are(offset, length, resident):
    world = World(None if resident is None else Local(resident))
    wanted = clip(offset, length, len(CONTENT))
    expected = CONTENT[wanted.offset : wanted.end]
    world.run(lambda: world.lend(offset, length) == expected or pytest.fail("wrong bytes"))


def test_blocks_of_the_network_are_lent_as_they_were_received():
    world = World()

    def body():
        with world.file.lend(10, 2 * BLOCK, world.borrow) as views:
            assert [len(view) for view in views] == [BLOCK - 10, BLOCK, 10]
        assert world.borrowed == 0

    world.run(body)


def test_what_a_descriptor_has_is_read_into_the_callers_buffer():
    world = World(Local(len(CONTENT)))

    def body():
        assert world.lend(0, BLOCK) == CONTENT[:BLOCK]
        assert world.borrowed == 1
        assert world.workers.fetched == []

    world.run(body)


def test_what_is_lent_does_not_change_while_other_blocks_need_the_room():
    world = World(cache_blocks=1)

    def body():
        with world.file.lend(0, BLOCK, world.borrow) as views:
            for index in range(1, 5):
                assert world.lend(index * BLOCK, 10) == CONTENT[index * BLOCK :][:10]
            assert b"".join(views) == CONTENT[:BLOCK]

    world.run(body)


def test_a_block_leaves_the_cache_when_all_of_it_was_lent():
    world = World()

    def body():
        half = BLOCK // 2
        world.lend(0, half)
        world.lend(half, half)
        assert world.workers.fetched == [0]
        world.lend(0, half)
        assert world.workers.fetched == [0, 0]

    world.run(body)


def test_a_failure_leaves_no_block_in_use():
    world = World(cache_blocks=1)

    def body():
        world.workers.fails = True
        with pytest.raises(OriginUnavailableError):
            world.lend(0, 3 * BLOCK)
        world.workers.fails = False
        assert world.lend(0, 3 * BLOCK) == CONTENT[: 3 * BLOCK]

    world.run(body)
