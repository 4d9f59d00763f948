"""A filler with everything around it, for the tests of filling."""

import threading
from contextlib import contextmanager

from cachefs.config.schema import ClusterConfig, FillConfig
from cachefs.core.blocks import FileVersionId
from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import FileEntry, Manifest
from cachefs.core.membership import EMPTY_VIEW, Member
from cachefs.core.names import DatasetName, WorkerId
from cachefs.errors import (
    CapacityError,
    CoordinatorUnavailableError,
)
from cachefs.ports import FetchedBlock, ResolvedVersion
from cachefs.testing.memory.origin import MemoryOrigin
from cachefs.transport.runtime import ThreadRuntime
from cachefs.wire.digests import digester
from cachefs.workers.filling.filler import Filler

BLOCK = 1000
CLUSTER = ClusterConfig(block_size=BLOCK, lease_seconds=0.01)
CONTENT = bytes(range(256)) * 20
DIGEST = digester("xxh3-128")
OWN = WorkerId("own")
FAST = FillConfig(backoff_seconds=0.001, peer_timeout_seconds=0.5, failure_memory_seconds=30.0)


def block(index):
    return CONTENT[index * BLOCK : (index + 1) * BLOCK]


class Held:
    """A block of the store below."""

    medium = "memory"

    def __init__(self, digest):
        self.digest = digest

    def __exit__(self, *_):
        pass


class Store:
    """As much of a block store as a filler needs: a dictionary with room for some blocks."""

    def __init__(self, room=1000):
        self.room = room
        self.reserved = 0
        self.blocks = {}
        self.guests = set()

    def find(self, file, index):
        data = self.blocks.get((file.entry.file_version, index))
        return None if data is None else Held(DIGEST(data))

    def holds(self, file_version, index):
        return (file_version, index) in self.blocks

    def mark_guest(self, file_version, index):
        self.guests.add((file_version, index))

    @contextmanager
    def reserve(self, file, index):
        if self.reserved + len(self.blocks) >= self.room:
            raise CapacityError("no room")
        self.reserved += 1
        store = self

        class Reservation:
            def commit(self, data, digest):
                assert DIGEST(data) == digest
                store.blocks[file.entry.file_version, index] = bytes(data)

        try:
            yield Reservation()
        finally:
            self.reserved -= 1


class Peers:
    """Other workers: what each holds, and whom was asked."""

    def __init__(self):
        self.held = {}
        self.asked = []

    def fetch(self, member, request):
        self.asked.append((member.worker, request.only_cached))
        answer = self.held.get((member.worker, request.index))
        if answer is None and not request.only_cached:
            answer = self.held.get((member.worker, "fills"))
        if answer is None:
            return None
        if isinstance(answer, Exception):
            raise answer
        data, digest = answer
        request.into[:] = data
        return FetchedBlock(digest, "memory")


class Metadata:
    """What the coordinator knows, or that it is down."""

    def __init__(self, resolved):
        self.resolved = resolved
        self.members = EMPTY_VIEW
        self.known = []
        self.held = {}
        self.down = False

    def view(self, *, deadline):
        return self.members

    def resolve(self, name, version, *, deadline):
        return self.resolved

    def digests(self, file, *, deadline):
        if self.down:
            raise CoordinatorUnavailableError("down")
        return self.known

    def holders(self, file, *, deadline):
        if self.down:
            raise CoordinatorUnavailableError("down")
        return self.held


def member(name):
    return Member(
        worker=WorkerId(name), incarnation="1", node="n", zone="", pool="default", weight=1.0,
        data_address=name, control_address="", socket_path="",
    )  # fmt: skip


class World:
    """A filler with everything around it."""

    def __init__(self, config=FAST, room=1000, replicas=1, content=CONTENT, digest=""):
        self.origin = MemoryOrigin({"a": content})
        (listed,) = self.origin.list_files()
        entry = FileEntry("a", listed.size, listed.token, digest, FileVersionId("1" * 40))
        self.resolved = ResolvedVersion(
            DatasetName("default", "m"),
            OriginSpec("memory://"),
            "memory",
            "default",
            replicas,
            Manifest.of([entry]),
        )
        self.file = self.resolved.file(entry)
        self.runtime = ThreadRuntime()
        self.store = Store(room)
        self.peers = Peers()
        self.metadata = Metadata(self.resolved)
        self.filler = Filler(
            self.runtime,
            self.store,
            self.peers,
            self.metadata,
            lambda _: self.origin,
            config,
            cluster=CLUSTER,
            own=OWN,
        )

    def obtain(self, index=0, *, only_cached=False, from_peers=False, seconds=5.0, on_wait=None):
        return self.filler.obtain(
            self.file,
            index,
            only_cached=only_cached,
            from_peers=from_peers,
            deadline=self.runtime.monotonic() + seconds,
            on_wait=on_wait,
        )

    def reads(self, index=0):
        return self.origin.reads["a", index * BLOCK]

    def wait_until(self, condition, seconds=5.0):
        deadline = self.runtime.monotonic() + seconds
        while not condition():
            assert self.runtime.monotonic() < deadline, "it did not happen"
            self.runtime.sleep(0.002)


class Gate:
    """Holds the origin's answers back until it is opened."""

    def __init__(self, world):
        self.opened = threading.Event()
        self.order = []
        world.origin.hook = self.hook

    def hook(self, operation, path, offset, length):
        self.order.append(offset // BLOCK)
        assert self.opened.wait(10)
