"""The nemesis: breaks things in a simulated cluster, and after a while lets go of them again."""

from collections.abc import Callable

from cachefs.testing.simulation.cluster import SimCluster
from cachefs.testing.simulation.processes.worker import SimWorker
from cachefs.testing.simulation.world.control import COORDINATOR
from cachefs.testing.simulation.world.drive import DiskFaults, SimDrive
from cachefs.testing.simulation.world.origin import OriginFaults

FAULTS = (
    "kill",
    "power",
    "stop",
    "cut",
    "liar",
    "lost",
    "slow",
    "coordinator",
    "origin",
    "lie",
    "update",
    "disk",
    "damage",
    "drain",
    "join",
    "leave",
    "warm",
    "crash",
    "clock",
    "pin",
)
"""Every kind of fault there is."""

Undo = Callable[[], None]


class Nemesis:
    """Does harm at random times."""

    def __init__(self, cluster: SimCluster, faults: tuple[str, ...]) -> None:
        """Use only the given kinds of faults."""
        self._cluster = cluster
        self._faults = faults
        self._random = cluster.random
        self._kinds: dict[str, Callable[[], Undo | None]] = {
            "kill": lambda: self._kill(power=False),
            "power": lambda: self._kill(power=True),
            "stop": self._stop,
            "cut": self._cut,
            "liar": self._liar,
            "lost": self._lose_connections,
            "slow": self._slow_down,
            "coordinator": self._kill_coordinator,
            "origin": self._trouble_origin,
            "lie": self._make_origin_lie,
            "update": self._update,
            "disk": self._trouble_disk,
            "damage": self._damage,
            "drain": self._drain,
            "join": self._join,
            "leave": self._leave,
            "warm": self._warm,
            "crash": self._crash_reader,
            "clock": self._move_clock,
            "pin": self._pin,
        }

    def run(self, events: int) -> None:
        """Cause so many events; what is still broken at the end, others must mend."""
        undoing: list[tuple[float, Undo]] = []
        world = self._cluster.world
        for _ in range(events):
            world.sleep(self._random.uniform(0.0, 1.5))
            due = [undo for at, undo in undoing if at <= world.monotonic()]
            undoing = [(at, undo) for at, undo in undoing if at > world.monotonic()]
            for undo in due:
                undo()
            kind = self._random.choice(self._faults)
            undo_this = self._kinds[kind]()
            if undo_this is not None:
                undoing.append((world.monotonic() + self._random.uniform(0.2, 5.0), undo_this))

    def _note(self, text: str) -> None:
        self._cluster.world.note(f"nemesis: {text}")

    def _worker(self) -> SimWorker:
        return self._random.choice(list(self._cluster.workers.values()))

    def _drive(self, worker: SimWorker) -> SimDrive:
        return self._random.choice(list(worker.drives.values()))

    def _kill(self, *, power: bool) -> Undo | None:
        worker = self._worker()
        if worker.process is None or worker.leaving:
            return None
        self._note(f"{'power cut' if power else 'kill'} {worker.name}")
        worker.kill(power=power)
        return lambda: self._start(worker)

    def _start(self, worker: SimWorker) -> None:
        if worker.process is None and worker.name not in self._cluster.retired:
            self._note(f"start {worker.name}")
            worker.start()

    def _stop(self) -> Undo | None:
        worker = self._worker()
        process = worker.process
        if process is None or worker.leaving:
            return None
        self._note(f"stop {worker.name}")
        process.stop()

        def resume() -> None:
            if process.stopped and not process.dead:
                self._note(f"resume {worker.name}")
                process.resume()

        return resume

    def _cut(self) -> Undo:
        names = [
            COORDINATOR,
            *self._cluster.workers,
            *(one.process.name for one in self._cluster.readers),
        ]
        one, other = self._random.sample(names, 2)
        self._note(f"cut {one} from {other}")
        self._cluster.network.cut(one, other)
        return lambda: self._cluster.network.mend(one, other)

    def _liar(self) -> Undo:
        name = self._worker().name
        self._note(f"{name} lies")
        self._cluster.network.liars.add(name)
        return lambda: self._cluster.network.liars.discard(name)

    def _lose_connections(self) -> Undo:
        self._note("connections break")
        faults = self._cluster.network.faults
        faults.lost = self._random.choice((0.1, 0.5))

        def end() -> None:
            faults.lost = 0.0

        return end

    def _slow_down(self) -> Undo:
        self._note("the network is slow")
        faults = self._cluster.network.faults
        faults.latency_seconds = (0.001, self._random.choice((0.05, 0.5)))

        def end() -> None:
            faults.latency_seconds = (0.0001, 0.001)

        return end

    def _kill_coordinator(self) -> Undo | None:
        coordinator = self._cluster.coordinator
        if coordinator.process is None:
            return None
        self._note("kill the coordinator")
        coordinator.kill()

        def start() -> None:
            if coordinator.process is None:
                self._note("start the coordinator")
                coordinator.start()

        return start

    def _trouble_origin(self) -> Undo:
        origin = self._cluster.origin
        origin.faults = OriginFaults(
            unavailable=self._random.choice((0.0, 0.3, 1.0)),
            protocol=self._random.choice((0.0, 0.1)),
            slow=self._random.choice((0.0, 0.3, 1.0)),
        )
        self._note(f"origin in trouble: {origin.faults}")

        def end() -> None:
            origin.faults = OriginFaults()

        return end

    def _make_origin_lie(self) -> Undo:
        faults = self._cluster.origin.faults
        faults.lie = self._random.choice((0.1, 1.0))
        self._note(f"the origin lies: {faults.lie}")

        def end() -> None:
            faults.lie = 0.0

        return end

    def _update(self) -> Undo:
        self._note("the origin changes")
        self._cluster.update_dataset()
        return self._cluster.list_origin

    def _trouble_disk(self) -> Undo:
        worker = self._worker()
        drive = self._drive(worker)
        kind = self._random.choice(("write_error", "read_error", "full"))
        self._note(f"disk of {worker.name} in trouble: {kind}")
        drive.faults = DiskFaults(**{kind: self._random.choice((0.1, 0.5, 1.0))})

        def end() -> None:
            drive.faults = DiskFaults()

        return end

    def _damage(self) -> None:
        worker = self._worker()
        self._note(f"damage on {worker.name}: {self._drive(worker).damage()}")

    def _drain(self) -> Undo | None:
        cluster = self._cluster
        worker = self._worker()
        staying = cluster.workers.keys() - {record.worker for record in cluster.drains}
        if worker.leaving or not staying - {worker.name} or worker.name not in staying:
            return None
        self._note(f"drain {worker.name}")
        cluster.drain(worker.name)

        def come_back() -> None:
            if worker.name in cluster.retired and worker.process is None:
                cluster.retired.discard(worker.name)
                self._start(worker)

        return come_back

    def _join(self) -> None:
        workers = self._cluster.workers
        if len(workers) < 6:
            worker = self._cluster.add_worker(f"worker-{len(workers)}")
            self._note(f"{worker.name} joins")
            worker.start()

    def _warm(self) -> None:
        self._note("warm the current version")
        self._cluster.warm("nemesis")

    def _move_clock(self) -> Undo:
        alive = [one.process for one in self._cluster.readers if not one.process.dead]
        alive += [worker.process for worker in self._cluster.workers.values() if worker.process]
        process = self._random.choice(alive)
        process.skew_seconds = self._random.choice((-1.0, 1.0)) * self._random.uniform(1.0, 1e6)
        self._note(f"the clock of {process.name} is off by {process.skew_seconds:.0f} s")

        def set_right() -> None:
            process.skew_seconds = 0.0

        return set_right

    def _pin(self) -> None:
        paths = [path for path in sorted(self._cluster.plan.files) if self._random.random() < 0.4]
        self._note(f"pin {', '.join(paths) or 'nothing'}")
        self._cluster.coordinator.pin(paths)

    def _crash_reader(self) -> None:
        alive = [one for one in self._cluster.readers if not one.process.dead]
        if len(self._cluster.readers) < 6:
            one = self._random.choice(alive)
            self._note(f"{one.process.name} crashes")
            self._cluster.crash(one)

    def _leave(self) -> Undo | None:
        worker = self._worker()
        if worker.process is None or not worker.ready or worker.leaving or worker.process.stopped:
            return None
        self._note(f"{worker.name} leaves")
        self._cluster.world.start(f"close {worker.name}", worker.close)
        return lambda: self._start(worker)
