"""What the port ``BlockSource`` promises, over sockets and in the simulation alike."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from cachefs.config.secrets import Secret
from cachefs.core.manifest import FileEntry, VersionId, name_file_version
from cachefs.core.membership import Member
from cachefs.core.names import DatasetName, WorkerId
from cachefs.errors import (
    CacheFSError,
    CapacityError,
    DeadlineError,
    DeniedError,
    NotKnownError,
    OriginChangedError,
    OriginUnavailableError,
    WorkerUnavailableError,
)
from cachefs.ports import BlockRequest, BlockSource, CancelToken, FileRef, Referral, Runtime
from cachefs.testing.memory.worker import MemoryWorker
from cachefs.testing.simulation.world.fetches import SimBlockSource
from cachefs.testing.simulation.world.network import SimNetwork
from cachefs.testing.simulation.world.runtime import SimRuntime
from cachefs.transport.blocks import HttpBlockSource
from cachefs.transport.runtime import ThreadRuntime
from cachefs.wire.digests import digester

BLOCK = 4096
CONTENT = bytes(range(256)) * 40
"""Two whole blocks and a short one."""
STALL_SECONDS = 0.25
POISON = 0xEE


def file_ref() -> FileRef:
    version = name_file_version("memory", path="a", size=len(CONTENT), token="1")
    entry = FileEntry("a", len(CONTENT), "1", "", version)
    return FileRef(DatasetName.parse("d"), VersionId("0" * 40), entry, "default", 1)


FILE = file_ref()


def block(index: int) -> bytes:
    return CONTENT[index * BLOCK : (index + 1) * BLOCK]


@dataclass
class Harness:
    """A block source, one worker that it can ask, and switches for what that worker does."""

    runtime: Runtime
    source: BlockSource
    member: Member
    run: Callable[[Callable[[], None]], None]
    behave: Callable[[str | CacheFSError], None]
    """``hold``, ``fill`` (for longer than a stall), ``refer``, ``stall``, or an error to raise."""
    leave: Callable[[], None]
    """End the worker."""

    def fetch(
        self,
        index: int,
        into: bytearray,
        *,
        only_cached: bool = False,
        from_peers: bool = False,
        zone: str | None = None,
        seconds: float = 10.0,
        cancel: CancelToken | None = None,
    ) -> Any:
        request = BlockRequest(
            file=FILE,
            index=index,
            into=memoryview(into),
            only_cached=only_cached,
            from_peers=from_peers,
            zone=zone,
            deadline=self.runtime.monotonic() + seconds,
            cancel=cancel or CancelToken(),
        )
        return self.source.fetch(self.member, request)


class SimServer:
    """A worker in the simulation."""

    def __init__(self, process: SimRuntime) -> None:
        self.process = process
        self.behaviour: str | CacheFSError = "hold"

    @contextmanager
    def serve(self, request: BlockRequest, *, unproven: bool) -> Iterator[Any]:
        if isinstance(self.behaviour, CacheFSError):
            raise self.behaviour
        if self.behaviour == "refer" and request.zone is not None:
            yield Referral(WorkerId("other"))
            return
        if self.behaviour == "fill":
            if request.only_cached or request.from_peers:
                yield None
                return
            self.process.sleep(3 * STALL_SECONDS)
        yield SimServed(block(request.index), "origin" if self.behaviour == "fill" else "memory")


class SimServed:
    def __init__(self, content: bytes, source: str) -> None:
        self.content = content
        self.digest = digester("xxh3-128")(content)
        self.source = source

    def read_into(self, into: memoryview, offset: int) -> None:
        into[:] = self.content[offset : offset + len(into)]


def over_sockets() -> Iterator[Harness]:
    worker = MemoryWorker(
        "w", "secret", BLOCK, {FILE.entry.file_version: CONTENT}, fill_seconds=3 * STALL_SECONDS
    )
    runtime = ThreadRuntime()
    source = HttpBlockSource(
        runtime, Secret("secret"), block_size=BLOCK, stall_seconds=STALL_SECONDS
    )

    def behave(how: str | CacheFSError) -> None:
        worker.refers_to = "other" if how == "refer" else ""
        behaves = how in ("hold", "refer")
        worker.fault = lambda _: None if behaves else how  # type: ignore[assignment,return-value]

    yield Harness(runtime, source, worker.member, lambda body: body(), behave, worker.close)
    source.close()
    worker.close()


def in_the_simulation() -> Iterator[Harness]:
    world = SimRuntime(11)
    reader, process = world.process("reader"), world.process("worker")
    network = SimNetwork(world.random, stall_seconds=STALL_SECONDS)
    server = SimServer(process)
    network.listen("worker:1", process, server)
    member = Member(
        worker=WorkerId("w"),
        incarnation="1",
        node="n",
        zone="",
        pool="default",
        weight=1.0,
        data_address="worker:1",
        control_address="",
        socket_path="",
    )

    def behave(how: str | CacheFSError) -> None:
        if how == "stall":
            process.stop()
        else:
            server.behaviour = how

    def run(body: Callable[[], None]) -> None:
        failures: list[BaseException] = []

        def guarded() -> None:
            try:
                body()
            except BaseException as error:  # noqa: BLE001 - raised again outside
                failures.append(error)

        def main() -> None:
            reader.start("test", guarded).join(None)
            process.kill()

        world.run(main, until_seconds=120)
        if failures:
            raise failures[0]

    yield Harness(
        reader,
        SimBlockSource(network, reader),
        member,
        run,
        behave,
        lambda: network.close("worker:1"),
    )


@pytest.fixture(params=[over_sockets, in_the_simulation], ids=["sockets", "simulation"])
def harness(request):
    yield from request.param()


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_whole_block_arrives_with_its_digest_and_where_it_was(harness, index):
    def body():
        into = bytearray(len(block(index)))
        fetched = harness.fetch(index, into)
        assert bytes(into) == block(index)
        assert fetched.digest == digester("xxh3-128")(block(index))
        assert fetched.source == "memory"

    harness.run(body)


def test_the_same_source_serves_one_block_after_the_other(harness):
    def body():
        for index in (2, 0, 1, 0):
            into = bytearray(len(block(index)))
            harness.fetch(index, into)
            assert bytes(into) == block(index)

    harness.run(body)


def test_a_block_that_is_not_held_is_nothing_if_only_cached_ones_are_wanted(harness):
    def body():
        harness.behave("fill")
        assert harness.fetch(0, bytearray(BLOCK), only_cached=True) is None

    harness.run(body)


def test_a_copy_that_no_other_worker_has_is_nothing(harness):
    def body():
        harness.behave("fill")
        assert harness.fetch(0, bytearray(BLOCK), from_peers=True) is None
        harness.behave("hold")
        into = bytearray(BLOCK)
        assert harness.fetch(0, into, from_peers=True).source == "memory"
        assert bytes(into) == block(0)

    harness.run(body)


def test_who_says_where_it_is_may_be_referred_and_the_buffer_is_left_alone(harness):
    def body():
        harness.behave("refer")
        for zone in ("", "a zone"):
            into = bytearray([POISON]) * BLOCK
            assert harness.fetch(0, into, zone=zone) == Referral(WorkerId("other"))
            assert into == bytearray([POISON]) * BLOCK

    harness.run(body)


def test_who_does_not_say_so_is_served(harness):
    def body():
        harness.behave("refer")
        into = bytearray(BLOCK)
        assert harness.fetch(0, into).source == "memory"
        assert bytes(into) == block(0)

    harness.run(body)


def test_a_fill_that_takes_longer_than_a_stall_is_waited_for(harness):
    def body():
        harness.behave("fill")
        into = bytearray(BLOCK)
        assert harness.fetch(0, into).source == "origin"
        assert bytes(into) == block(0)

    harness.run(body)


@pytest.mark.parametrize(
    "error",
    [
        OriginChangedError("the object has moved on", subject="a"),
        OriginUnavailableError("busy", retry_after_seconds=7.0),
        CapacityError("no room"),
        DeniedError("the token is wrong"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_worker_says_about_the_block_comes_through(harness, error):
    def body():
        harness.behave(error)
        with pytest.raises(type(error), match=error.message):
            harness.fetch(0, bytearray(BLOCK))

    harness.run(body)


@pytest.mark.parametrize(
    "error",
    [NotKnownError("never heard of it"), DeadlineError("the worker's own deadline")],
    ids=lambda error: type(error).__name__,
)
def test_what_a_worker_says_about_itself_means_that_another_must_be_asked(harness, error):
    def body():
        harness.behave(error)
        with pytest.raises(WorkerUnavailableError):
            harness.fetch(0, bytearray(BLOCK))

    harness.run(body)


def test_a_worker_that_is_not_there_is_unavailable(harness):
    def body():
        harness.leave()
        with pytest.raises(WorkerUnavailableError):
            harness.fetch(0, bytearray(BLOCK))

    harness.run(body)


def test_a_worker_that_falls_silent_is_given_up(harness):
    def body():
        harness.behave("stall")
        began = harness.runtime.monotonic()
        with pytest.raises(WorkerUnavailableError):
            harness.fetch(0, bytearray(BLOCK))
        taken = harness.runtime.monotonic() - began
        assert 0.9 * STALL_SECONDS <= taken <= 10 * STALL_SECONDS

    harness.run(body)


def test_a_fetch_ends_by_its_deadline(harness):
    def body():
        harness.behave("fill")
        began = harness.runtime.monotonic()
        with pytest.raises(DeadlineError):
            harness.fetch(0, bytearray(BLOCK), seconds=STALL_SECONDS / 2)
        assert harness.runtime.monotonic() - began <= 3 * STALL_SECONDS

    harness.run(body)


def test_a_cancelled_fetch_returns_and_leaves_the_buffer_alone(harness):
    def body():
        harness.behave("fill")
        into = bytearray([POISON]) * BLOCK
        cancel = CancelToken()

        def cancel_soon() -> None:
            harness.runtime.sleep(0.05)
            cancel.cancel()

        task = harness.runtime.start("cancel", cancel_soon)
        began = harness.runtime.monotonic()
        with pytest.raises(WorkerUnavailableError):
            harness.fetch(0, into, cancel=cancel)
        assert harness.runtime.monotonic() - began < STALL_SECONDS
        task.join(None)
        harness.runtime.sleep(4 * STALL_SECONDS)
        assert into == bytearray([POISON]) * BLOCK

    harness.run(body)


def test_a_fetch_cancelled_before_it_began_fails_at_once(harness):
    def body():
        cancel = CancelToken()
        cancel.cancel()
        with pytest.raises(WorkerUnavailableError):
            harness.fetch(0, bytearray(BLOCK), cancel=cancel)

    harness.run(body)
