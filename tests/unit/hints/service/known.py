"""A service over an inventory that a test fills by hand, on a clock that it moves."""

import threading
from contextlib import contextmanager

from cachefs.core.hints.asking import Question, Reading
from cachefs.core.hints.estimate import Link, Links
from cachefs.core.hints.fleet import Fleet
from cachefs.core.hints.learning import Lessons
from cachefs.core.hints.nodes import GIB, Gpu, Node, Rates
from cachefs.core.hints.reserving import Reservations
from cachefs.core.hints.spread import Seen, Split, Spread
from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName
from cachefs.errors import CoordinatorUnavailableError
from cachefs.hints.actions import Prefetches
from cachefs.hints.deciding import Prices
from cachefs.hints.inventory import Found
from cachefs.hints.keeping import KeptPlace
from cachefs.hints.service import HintService, Rules
from cachefs.transport.runtime import ThreadRuntime

LLAMA = DatasetName.parse("llama")
VERSION = VersionId("c" * 40)
SIZE = 30 * GIB
NIC, DISK, LOAD = 3e9, 3e9, 12e9


class Clock(ThreadRuntime):
    """A clock that stands still until a test moves it."""

    def __init__(self):
        super().__init__()
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def wall(self):
        return 1_800_000_000.0 + self.now


class Known:
    """An inventory with what a test says."""

    def __init__(self, clock):
        self._clock = clock
        self._lock = threading.RLock()
        self.fleet = Fleet()
        self.links = Links(origins={"s3": Link(rate=1e9)})
        self.epoch = 7
        self.revision = 1
        self.problems = ()
        self.behind_seconds = 0.1
        self.found = {}
        self.asked = []
        self.expected = []
        self.is_down = False

    def turn(self):
        return self._lock

    def put(self, name, *, gpus=8, busy=0, free_in=None, rack="r1", zone="a", **facts):
        """Add a node; of its accelerators some are busy, for so many seconds."""
        free_at = None if free_in is None else self._clock.now + free_in
        devices = tuple(
            Gpu(
                index=index,
                model="NVIDIA H100 80GB HBM3",
                used=float(index < busy),
                free_at=free_at if index < busy else None,
            )
            for index in range(gpus)
        )
        rates = Rates(nic=NIC, disk=DISK, load=LOAD)
        node = Node(name=name, rack=rack, zone=zone, gpus=devices, rates=rates, **facts)
        self.fleet.put(node, now=self._clock.now)
        self.revision += 1

    def hold(self, dataset, total, exact=True, **shares):
        """Say which nodes hold how much of a dataset on disk; all others read from the origin."""
        nodes = {
            name: Seen(Split(nvme=share * total, origin=(1 - share) * total))
            for name, share in shares.items()
        }
        spread = Spread(
            total=total,
            nodes=nodes,
            elsewhere=Seen(Split(origin=total)),
            origin="s3",
        )
        self.found[dataset] = Found(
            dataset=dataset, version=VERSION, spread=spread, files=1, exact=exact
        )
        self.revision += 1

    def arrive(self, dataset, total, name, *, seconds):
        """Say that all of a dataset is on its way to a node, and nowhere else."""
        nodes = {name: Seen(Split(arriving=total), seconds)}
        spread = Spread(total=total, nodes=nodes, elsewhere=Seen(Split(origin=total)), origin="s3")
        self.found[dataset] = Found(dataset=dataset, version=VERSION, spread=spread, files=1)
        self.revision += 1

    def find(self, reading):
        self.asked.append(reading)
        if self.is_down:
            raise CoordinatorUnavailableError("the coordinator's store does not answer")
        return self.found.get(reading.dataset)

    def expect_release(self, node, gpu, at):
        self.expected.append((node, gpu, at))


class Memory:
    """Keeps reservations as long as the test runs."""

    def __init__(self, clock):
        self._clock = clock
        self.state = Reservations()
        self.is_down = False
        self.changes = 0

    @contextmanager
    def changing(self):
        if self.is_down:
            raise CoordinatorUnavailableError("the coordinator's store does not answer")
        yield
        self.changes += 1

    @contextmanager
    def reservations(self):
        yield self.state

    def taken(self, *, but_for=""):
        return self.state.taken(now=self._clock.now, but_for=but_for)

    def held(self):
        return tuple(
            KeptPlace(
                each.token,
                each.job,
                tuple(place.node for place in each.places for _ in range(place.members)),
                each.expires_at,
            )
            for each in self.state.held(now=self._clock.now)
        )


class Site:
    """A service with all that it rests on."""

    def __init__(self, *, remembered_nodes=1000, **prices):
        self.clock = Clock()
        self.known = Known(self.clock)
        self.memory = Memory(self.clock)
        self.lessons = Lessons()
        self.warmed = []
        self.keeping = set()
        """The nodes with workers; all for none."""
        self.service = HintService(
            self.known,
            self.memory,
            self.lessons,
            self.clock,
            rules=Rules(
                prices=Prices(**prices),
                fresh_seconds=5.0,
                stale_seconds=30.0,
                valid_seconds=5.0,
                remembered_nodes=remembered_nodes,
                block_bytes=8 << 20,
            ),
            prefetches=Prefetches(self._warm, lambda: self.keeping or self.known.fleet.names),
        )

    def _warm(self, found, wanted):
        self.warmed.append((str(found.dataset), wanted))
        return _Job()

    def ask(self, *datasets, **facts):
        """Ask about datasets, llama if none is named."""
        names = datasets or ("llama",)
        readings = tuple(
            each if isinstance(each, Reading) else Reading(dataset=DatasetName.parse(each))
            for each in names
        )
        return self.service.answer(Question(readings=readings, **facts))


class _Job:
    id = "w1"


def names(hint):
    return [node.node for node in hint.nodes]
