"""The simulation: from a seed to a cluster, a schedule of faults, and a verdict.

A seed decides everything: how the cluster is made and which kinds of faults may happen at all
(:mod:`.plans`), when they happen and when they end, what readers read, and every interleaving. Readers
read at random while a *nemesis* breaks things; then all is mended, the cluster is given a moment, and
every file must be readable by everybody.

    report = simulate(81231)

raises :class:`SimulationError` if a promise of :mod:`.checkers` is broken, with the last events and the
line that runs it again. The same seed gives the same events, on any machine.
"""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from cachefs.client.reader import OpenFile
from cachefs.core.blocks import FileVersionId
from cachefs.core.membership import RENEWALS_PER_LEASE
from cachefs.errors import CacheFSError, NotKnownError, OriginChangedError, OriginNotFoundError
from cachefs.testing.simulation.checkers import (
    POISON,
    LoggedErrors,
    ReadRecord,
    ViolationError,
    check_buffers,
    check_delivered,
    check_origin_paid_once,
    check_read,
    check_requests,
    check_single_flight,
)
from cachefs.testing.simulation.cluster import Parts, SimCluster
from cachefs.testing.simulation.holdings import (
    check_capacity,
    check_drained,
    check_expired,
    check_guests,
    check_idle,
    check_jobs,
    check_openers,
    check_scrubbed,
    check_spread,
)
from cachefs.testing.simulation.nemesis import Nemesis
from cachefs.testing.simulation.plans import Plan, plan_of
from cachefs.testing.simulation.processes.reader import SimReader
from cachefs.testing.simulation.processes.stored_coordinator import STALL_SECONDS
from cachefs.testing.simulation.topology import CLUSTER
from cachefs.testing.simulation.world.control import DATASET
from cachefs.testing.simulation.world.scheduling import SimTask

EVENTS_SHOWN = 80
"""How much of the trace a failure shows."""
SETTLE_SECONDS = CLUSTER.lease_seconds / RENEWALS_PER_LEASE
"""Within it, every worker has heard of every other one."""
DRAIN_SECONDS = 100.0
"""Within it, a drain in a calm cluster has ended."""
PEACEFUL = frozenset({"update", "warm", "pin", "clock"})
"""What a reader may notice only by being told that its version is gone."""
GONE = (OriginChangedError, OriginNotFoundError, NotKnownError)
"""How it is told."""
SCRUB_ROUNDS = 2
"""A round that was under way when something decayed may have passed it; the next one has not."""
UNTIL_SECONDS = 900.0
"""No run takes longer, in simulated time."""


class SimulationError(AssertionError):
    """A seed broke a promise."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a seed did."""

    seed: int
    calm: bool
    faults: tuple[str, ...]
    reads: int
    failed_reads: int
    origin_requests: int
    local_bytes: int
    """Read through descriptors."""
    referrals: int
    """Askers of a hot block who were sent to a replica."""
    evictions: int
    """Blocks that were chosen to go."""
    drained: int
    """Workers that handed over everything."""
    switches: int
    seconds: float
    """Simulated."""
    trace: str
    """A digest of all events: equal for equal runs."""


def simulate(seed: int, *, parts: Parts | None = None, plan: Plan | None = None) -> Report:
    """Run a seed.

    Args:
        seed: Which.
        parts: Classes other than the real ones, for tests of the checkers.
        plan: Another plan than the seed's own.

    Raises:
        SimulationError: A promise was broken.
    """
    simulation = Simulation(seed, plan or plan_of(seed), parts or Parts())
    logged = LoggedErrors()
    logger = logging.getLogger("cachefs")
    logger.addHandler(logged)
    propagates, logger.propagate = logger.propagate, False
    try:
        simulation.run(logged)
    except Exception as error:
        raise SimulationError(simulation.describe(error, logged)) from error
    finally:
        logger.removeHandler(logged)
        logger.propagate = propagates
        simulation.cluster.coordinator.dispose()
    return simulation.report()


class Simulation:
    """One run of one seed."""

    def __init__(self, seed: int, plan: Plan, parts: Parts) -> None:
        """Build the cluster."""
        self.seed = seed
        self.plan = plan
        self.cluster = SimCluster(seed, plan.cluster, parts)
        self.random = Random(f"readers {seed}")
        self.reads: list[ReadRecord] = []
        self._fresh: set[int] = set()
        """Readers that came after the last fault."""

    def run(self, logged: LoggedErrors) -> None:
        """Run it, and check everything.

        Args:
            logged: What our own code logs as an error meanwhile.

        Raises:
            ViolationError: A promise was broken.
            AssertionError: Something hung, leaked or failed.
        """
        self.cluster.world.run(self._main, until_seconds=UNTIL_SECONDS)
        cluster, reads = self.cluster, self.reads
        found = [*check_buffers(reads), *check_capacity(cluster), *check_requests(cluster)]
        found += [*check_delivered(cluster, reads), *check_single_flight(cluster)]
        found += [*cluster.watch.seen, *check_drained(cluster, calm=self.plan.calm)]
        found += check_openers(cluster)
        found += [f"an unexpected exception was logged: {message}" for message in logged.messages]
        if self.plan.calm:
            found += check_origin_paid_once(cluster, times=2 if self.plan.drain else 1)
        if found:
            raise ViolationError("\n".join(found))

    def report(self) -> Report:
        """Return what happened."""
        world = self.cluster.world
        events = "\n".join(f"{at:.9f} {who} {what}" for at, who, what in world.trace)
        return Report(
            seed=self.seed,
            calm=self.plan.calm,
            faults=self.plan.faults,
            reads=len(self.reads),
            failed_reads=sum(read.error is not None for read in self.reads),
            origin_requests=len(self.cluster.origin.requests),
            local_bytes=sum(
                one.reader.statistics().bytes_by_source["local"] for one in self.cluster.readers
            ),
            referrals=self.cluster.network.referrals,
            evictions=self.cluster.watch.evictions,
            drained=sum(record.done for record in self.cluster.drains),
            switches=world.switches,
            seconds=world.monotonic(),
            trace=hashlib.blake2b(events.encode(), digest_size=16).hexdigest(),
        )

    def describe(self, error: Exception, logged: LoggedErrors) -> str:
        """Return what went wrong, the events before, and how to see it again."""
        trace = self.cluster.world.trace[-EVENTS_SHOWN:]
        events = "\n".join(f"  {at:9.4f} {who:12} {what}" for at, who, what in trace)
        messages = "".join(f"logged: {message}\n" for message in logged.messages[:3])
        return (
            f"{type(error).__name__}: {error}\n{events}\n{messages}"
            f"faults: {', '.join(self.plan.faults) or 'none'}\n"
            f"replay: pytest tests/simulation --seed={self.seed}"
        )

    def _main(self) -> None:
        cluster = self.cluster
        cluster.start()
        # Without faults, the origin pays once as soon as all agree on who is a member.
        cluster.world.sleep(2 * SETTLE_SECONDS if self.plan.calm else 0.2)
        if self.plan.warm:
            cluster.warm("first")
        nemesis = Nemesis(cluster, self.plan.faults)
        hunting = cluster.world.start("nemesis", lambda: nemesis.run(self.plan.events))
        reading = self._start_readers("reads", self._read_at_random)
        if self.plan.drain:
            self._drain_one()
        for task in reading:
            task.join()
        hunting.join()
        if not self.plan.calm:
            cluster.retired.clear()
        cluster.mend()
        cluster.world.note("mended")
        if not self.plan.calm:
            # Long enough for leases to run out, suspicions to fade and damage to be found.
            cluster.world.sleep(4 * self.plan.cluster.cluster.lease_seconds)
        if self.plan.cluster.local:
            fresh = cluster.add_reader()
            if self.plan.cluster.scrub_seconds:  # else nobody has looked for what media forgot
                self._fresh.add(fresh)
        for task in self._start_readers("verifies", self._verify):
            task.join()
        self._check_rest()
        cluster.close()

    def _drain_one(self) -> None:
        """Drain a worker while everybody reads, and wait until it has left."""
        cluster = self.cluster
        cluster.world.sleep(cluster.random.uniform(0.0, 3.0))
        draining = cluster.drain(cluster.random.choice(sorted(cluster.workers)))
        if draining is None or not draining.join(DRAIN_SECONDS):
            raise ViolationError("a drain without any fault does not end")

    def _check_rest(self) -> None:
        """Check what is true once nobody reads any more."""
        cluster = self.cluster
        rounds = SCRUB_ROUNDS * self.plan.cluster.scrub_seconds
        cluster.world.sleep(max(self.plan.cluster.fill.fill_seconds, rounds) + 1)
        if any(job.active for job in cluster.coordinator.jobs()):
            cluster.world.sleep(2 * STALL_SECONDS)
        found = [*check_idle(cluster), *check_scrubbed(cluster)]
        found += [*check_jobs(cluster, calm=self.plan.calm), *check_expired(cluster)]
        found += check_guests(cluster)
        if self.plan.calm and self.plan.warm and not self.plan.drain:
            found += check_spread(cluster)
        if found:
            raise ViolationError("\n".join(found))

    def _start_readers(self, name: str, body: Callable[[SimReader, Random], None]) -> list[SimTask]:
        tasks = []
        for one in self.cluster.readers:
            for number in range(0 if one.process.dead else self.plan.readers_tasks):
                random = Random(self.random.getrandbits(64))
                tasks.append(one.process.start(f"{name}-{number}", partial(body, one, random)))
        return tasks

    def _read_at_random(self, one: SimReader, random: Random) -> None:
        for _ in range(self.plan.reads):
            if not self.plan.calm:
                one.process.sleep(random.uniform(0.0, 3.0))
            self._read_some(one, random)

    def _read_some(self, one: SimReader, random: Random) -> None:
        paths = sorted(self.plan.cluster.files)
        path = random.choice(paths)
        error = self._open_and_read(one, path, random)
        if error is not None:
            self._check_expected(one, error)
            one.process.note(f"failed to read {path}: {error}")

    def _verify(self, one: SimReader, random: Random) -> None:
        paths = sorted(self.plan.cluster.files)
        random.shuffle(paths)
        for path in paths:
            error = self._open_and_read(one, path, None)
            if error is not None:
                raise ViolationError(f"{path} cannot be read after all was mended: {error!r}")

    def _check_expected(self, one: SimReader, error: CacheFSError) -> None:
        if self.plan.calm:
            raise ViolationError(f"{one.process.name} failed without any fault: {error!r}")
        if PEACEFUL.issuperset(self.plan.faults) and not isinstance(error, GONE):
            raise ViolationError(f"{one.process.name} failed after an update: {error!r}")

    def _open_and_read(
        self, one: SimReader, path: str, random: Random | None
    ) -> CacheFSError | None:
        """Open the current version and read a random range, or all of the file."""
        try:
            dataset = one.reader.open(DATASET)
            file = dataset.file(path)
        except CacheFSError as error:
            return error
        with file:
            if random is None:
                return self._read(one, file, 0, file.size)
            for turn in range(random.choice((1, 1, 2, 4) if self.plan.linger else (1, 1, 2))):
                if self.plan.linger and turn:
                    one.process.sleep(random.uniform(0.0, 2.0))
                offset = random.randrange(file.size + 1)
                length = random.randrange(file.size + 2)
                failure = self._read(one, file, offset, length)
                if failure is not None:
                    return failure
            return None

    def _read(
        self, one: SimReader, file: OpenFile, offset: int, length: int
    ) -> CacheFSError | None:
        buffer = bytearray((POISON,)) * length
        began = one.process.monotonic()
        error: CacheFSError | None = None
        count = 0
        try:
            count = file.read_into(offset, memoryview(buffer))
        except CacheFSError as failure:
            error = failure
        read = ReadRecord(
            one.process.name,
            file.path,
            FileVersionId(file.ref.entry.file_version),
            offset,
            length,
            began,
            one.process.monotonic(),
            buffer,
            error,
            count,
        )
        self.reads.append(read)
        one.process.note(str(read))
        node = None if self.cluster.readers.index(one) in self._fresh else one.node
        check_read(self.cluster, read, node=node)
        return error
