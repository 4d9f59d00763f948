"""A worker of a simulated cluster: the real parts in a process that can die.

Simulated are only the shell around them (recover, register, serve, drain, end) and what they stand on:
network, sockets, disks. The drives outlive the process, so a start after a kill is a recovery; what
is in memory survives a kill, and no power cut.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import cast

from cachefs.config.schema import ClusterConfig, FillConfig, HeatConfig, TierConfig
from cachefs.config.secrets import Secret
from cachefs.core.blocks import BlockId
from cachefs.core.membership import EMPTY_VIEW, RENEWALS_PER_LEASE, Member
from cachefs.core.names import WorkerId
from cachefs.errors import CapacityError
from cachefs.testing.simulation.processes.serving import SimServing
from cachefs.testing.simulation.world.control import COORDINATOR, Directory, SimChannel, SimMetadata
from cachefs.testing.simulation.world.disk import SimDisk
from cachefs.testing.simulation.world.drive import SimDrive
from cachefs.testing.simulation.world.fetches import SimBlockSource
from cachefs.testing.simulation.world.local import SimHandout, SimSockets
from cachefs.testing.simulation.world.network import SimNetwork
from cachefs.testing.simulation.world.origin import SimOrigin
from cachefs.testing.simulation.world.runtime import SimRuntime
from cachefs.testing.simulation.world.scheduling import SimTask
from cachefs.transport.control import ControlChannel
from cachefs.workers.control import WorkerControl
from cachefs.workers.drain import Drain
from cachefs.workers.filling.accounts import ByteAccounts
from cachefs.workers.filling.filler import Filler
from cachefs.workers.handover import Handover
from cachefs.workers.knowledge import Knowledge
from cachefs.workers.moving import Mover
from cachefs.workers.pins import Pins
from cachefs.workers.proving.proofs import Proofs
from cachefs.workers.proving.prover import Prover
from cachefs.workers.renewal import Renewal
from cachefs.workers.serving.spreading import Spreading
from cachefs.workers.storage.scrub import Scrubber
from cachefs.workers.storage.store import TieredStore
from cachefs.workers.uses import Uses

TOKEN = Secret("simulated")
"""The cluster's."""
SCRUB_BYTES_RATE = 1e9
"""So fast that the period alone sets the pace."""


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """The classes a worker is built of."""

    store: type[TieredStore] = TieredStore
    filler: type[Filler] = Filler
    prover: type[Prover] = Prover
    handout: type[SimHandout] = SimHandout
    drain: type[Drain] = Drain
    mover: type[Mover] = Mover
    scrubber: type[Scrubber] = Scrubber
    spreading: type[Spreading] = Spreading


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker is, and on what."""

    node: str
    zone: str
    tiers: tuple[TierConfig, ...]
    scrub_seconds: float


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all processes of a cluster share."""

    world: SimRuntime
    network: SimNetwork
    directory: Directory
    sockets: SimSockets
    origin: SimOrigin
    cluster: ClusterConfig
    fill: FillConfig
    heat: HeatConfig
    random: Random
    move_bytes_rate: float = 0.0
    move_delay_seconds: float = 0.5


class SimWorker:
    """A worker, with its process while that runs."""

    def __init__(
        self, name: str, place: Place, surroundings: Surroundings, parts: WorkerParts
    ) -> None:
        """Own empty drives; nothing runs yet."""
        self.name = name
        self.address = f"{name}:1"
        self.place = place
        self.drives: dict[Path, SimDrive] = {
            tier.folder: SimDrive(surroundings.random, capacity_bytes=4 * tier.capacity_bytes)
            for tier in place.tiers
        }
        self.on_store: Callable[[TieredStore], None] = lambda _store: None
        """Is told of each store when it begins."""
        self.process: SimRuntime | None = None
        self.filler: Filler | None = None
        self.prover: Prover | None = None
        self.store: TieredStore | None = None
        self.knowledge: Knowledge | None = None
        self.renewal: Renewal | None = None
        self.serving: SimServing | None = None
        self.spreading: Spreading | None = None
        self.starts = 0
        self.ready = False
        self.leaving = False
        self._boots = 1
        self._endings: list[Callable[[], None]] = []
        self._closing: SimTask | None = None
        self._around = surroundings
        self._parts = parts

    @property
    def drive(self) -> SimDrive:
        """The drive of the last tier, which every worker has: its disk."""
        return self.drives[self.place.tiers[-1].folder]

    def start(self) -> None:
        """Start a process on the drives as they are."""
        self.starts += 1
        self.ready = self.leaving = False
        self._closing = None
        self._endings = []
        self.process = self._around.world.process(self.name)
        self.process.start("main", self._main)

    def kill(self, *, power: bool = False) -> None:
        """End the process at once; with ``power``, the machine loses what was not synced."""
        process = self.process
        if process is None:
            return
        process.kill()
        if self.ready:
            if power:
                self._around.network.without_power.add(self.address)
            self._stop_listening()
        self.process = self.filler = self.store = self.knowledge = self.renewal = None
        self.prover = self.serving = self.spreading = None
        if power:
            self._boots += 1
            for tier in self.place.tiers:
                drive = self.drives[tier.folder]
                if tier.medium == "memory":
                    drive.forget()
                else:
                    drive.cut_power()

    def close(self) -> None:
        """End the process in good order, from a task that may wait."""
        process = self.process
        if process is None:
            return
        if self.renewal is not None:  # else it has not come up yet
            self.leaving = True
            if self._closing is None:
                self._closing = process.start("close", self._close)
            self._closing.join()
        if self.process is process:
            self.kill()

    def _stop_listening(self) -> None:
        self.ready = False
        self._around.network.close(self.address)
        self._around.sockets.close(self.address)
        self._around.directory.pop(self.address, None)

    def _close(self) -> None:
        assert self.renewal is not None
        assert self.store is not None
        self.renewal.leave()
        self._stop_listening()
        for end in reversed(self._endings):
            end()
        self.store.close()

    def _channel(self, process: SimRuntime, address: str) -> SimChannel:
        return SimChannel(process, self._around.network, self._around.directory, address)

    def _main(self) -> None:
        process, around = self.process, self._around
        assert process is not None
        store = self._open_store(process)
        members = SimMetadata(
            process,
            around.network,
            around.directory,
            asks_coordinator=False,
            workers=lambda: knowledge.view(deadline=0.0),
        )
        proofs = Proofs(around.cluster)
        knowledge = Knowledge(
            process,
            SimMetadata(process, around.network, around.directory, workers=lambda: EMPTY_VIEW),
            ask_members=lambda name, version, deadline: members.resolve(
                name, version, deadline=deadline
            ),
            proofs=proofs,
        )
        source = SimBlockSource(around.network, process, unproven=True)
        filler = self._parts.filler(
            process,
            store,
            source,
            knowledge,
            lambda _resolved: around.origin.open(process),
            around.fill,
            cluster=around.cluster,
            own=WorkerId(self.name),
        )
        prover = self._parts.prover(
            process,
            store,
            filler,
            source,
            knowledge,
            config=around.fill,
            cluster=around.cluster,
            own=WorkerId(self.name),
            proofs=proofs,
        )
        pins = Pins(process, store)
        spreading = self._parts.spreading(
            process, store, knowledge, own=WorkerId(self.name), config=around.heat
        )
        renewal = Renewal(
            process,
            cast("ControlChannel", self._channel(process, COORDINATOR)),
            self._member(),
            cluster=around.cluster,
            store=store,
            filler=filler,
            prover=prover,
            knowledge=knowledge,
            pins=pins,
            spreading=spreading,
            statistics=dict,
        )
        self.spreading = spreading
        self.store, self.knowledge, self.filler, self.prover = store, knowledge, filler, prover
        self._endings += [filler.close, prover.close, renewal.close]
        self._serve(
            process, store, knowledge, filler=filler, prover=prover, pins=pins, renewal=renewal
        )
        self.renewal = renewal
        renewal.start()

    def _serve(
        self,
        process: SimRuntime,
        store: TieredStore,
        knowledge: Knowledge,
        *,
        filler: Filler,
        prover: Prover,
        pins: Pins,
        renewal: Renewal,
    ) -> None:
        """Begin to answer, on the network and on the node's socket, and to scrub."""
        around, spreading = self._around, self.spreading
        assert spreading is not None
        drain = self._hand_over(process, store, knowledge, renewal)
        control = WorkerControl(
            process,
            store,
            filler,
            knowledge,
            drain,
            prover=prover,
            pins=pins,
            block_size=around.cluster.block_size,
            served=ByteAccounts(),
            statistics=dict,
            tell=renewal.tell,
        )
        self.serving = SimServing(
            process,
            around.cluster,
            filler=filler,
            prover=prover,
            knowledge=knowledge,
            control=control,
            spreading=spreading,
        )
        handout = self._parts.handout(
            process,
            store,
            prover,
            knowledge,
            token=TOKEN,
            cluster=around.cluster,
            own=WorkerId(self.name),
            uses=Uses(process),
        )
        around.network.listen(self.address, process, self.serving)
        around.sockets.listen(self.address, process, handout)
        around.directory[self.address] = self.serving
        self.ready = True
        scrubber = self._parts.scrubber(
            process,
            store,
            period_seconds=self.place.scrub_seconds,
            bytes_rate=SCRUB_BYTES_RATE,
            refill=lambda block: self._refill(block, filler, knowledge),
        )
        self._endings += [drain.close, scrubber.close]

    def _hand_over(
        self, process: SimRuntime, store: TieredStore, knowledge: Knowledge, renewal: Renewal
    ) -> Drain:
        """Begin to give newcomers what is theirs; return what drains the worker."""
        around = self._around
        handover = Handover(
            process,
            store,
            knowledge,
            own=WorkerId(self.name),
            block_size=around.cluster.block_size,
            open_channel=lambda address: cast("ControlChannel", self._channel(process, address)),
        )
        mover = self._parts.mover(
            process,
            handover,
            knowledge,
            own=WorkerId(self.name),
            bytes_rate=around.move_bytes_rate,
            delay_seconds=around.move_delay_seconds,
        )
        mover.start()
        self._endings.append(mover.close)
        return self._parts.drain(
            process,
            handover,
            knowledge,
            own=WorkerId(self.name),
            settle_seconds=1.5 * around.cluster.lease_seconds / RENEWALS_PER_LEASE,
            leave=renewal.leave,
        )

    @staticmethod
    def _refill(block: BlockId, filler: Filler, knowledge: Knowledge) -> None:
        """Fill a block again that was found bad."""
        file = knowledge.known_file(block.file_version)
        if file is not None:
            filler.warm(f"scrub {block.file_version} {block.index}", {file: [block.index]})

    def _open_store(self, process: SimRuntime) -> TieredStore:
        store = self._parts.store(
            list(self.place.tiers),
            cluster=self._around.cluster,
            runtime=process,
            open_disk=lambda folder: SimDisk(
                self.drives[folder], check_alive=process.check_alive, pause=process.preempt
            ),
            boot_id=f"boot {self._boots}",
        )
        self.on_store(store)
        try:
            store.recover()
        except CapacityError as error:
            # The process ends, and whoever supervises it starts another.
            process.note(f"cannot start: {error}")
            self.process = None
            process.kill()
        return store

    def _member(self) -> Member:
        return Member(
            worker=WorkerId(self.name),
            incarnation=f"{self.name}.{self.starts}",
            node=self.place.node,
            zone=self.place.zone,
            pool="default",
            weight=float(sum(tier.capacity_bytes for tier in self.place.tiers)),
            data_address=self.address,
            control_address=self.address,
            socket_path=self.address,
        )
