"""The plan of ``cachefs up``: how many processes, with what, at which addresses.

Memory and disk are totals, divided evenly among the workers that ``up`` was asked for; one that is added
later has as much as each of these. How many there are at a time is the business of their pools
(:mod:`.following`), and who, of the roster. A flag wins over what the last ``up``
on the same state folder was asked for, and that over the defaults: no memory tier, because the
kernel already keeps what is read from the disk tier in memory and gives it back when others need
it; and half of the free disk, at most 50 GiB. Addresses are kept from one start to the next where
they are still free.
"""

import os
import shutil
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cachefs.cli.system.children import Addresses
from cachefs.cli.system.roster import Entry, Roster
from cachefs.cli.system.statefolder import StateFolder, check_private, read_json, write_json
from cachefs.config.files import to_document, write_process_config
from cachefs.config.load import Settings
from cachefs.config.schema import (
    GIB,
    ClusterConfig,
    CoordinatorConfig,
    GatewayConfig,
    GatewayPlan,
    ReaderConfig,
    TierConfig,
    WorkerConfig,
)
from cachefs.config.units import format_size
from cachefs.core.datasets import DEFAULT_POOL
from cachefs.errors import CapacityError, ConfigError

WORKERS_LIMIT = 64
"""More processes than that on one machine help nobody."""
_DISK_BYTES = 50 * GIB
_BLOCKS_MIN = 8
"""A worker's tier holds at least so many blocks, or fills would wait for each other's room."""
_FAILURES_BEFORE_NEW_PORT = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What ``cachefs up`` was asked for."""

    workers: int
    memory_bytes: int
    """Of all workers together; 0 for no memory tier."""
    disk_bytes: int
    """Of all workers together."""
    store_url: str
    """Empty for the embedded store in the state folder."""
    gateway: bool = True
    """Whether there are endpoints for programs that know S3 or the Hugging Face Hub."""

    def check(self, folder: StateFolder, cluster: ClusterConfig) -> None:
        """Make sure that the machine can do it.

        Raises:
            ConfigError: A number makes no sense.
            CapacityError: The machine has less.
        """
        if not 1 <= self.workers <= WORKERS_LIMIT:
            raise ConfigError(f"--workers must be from 1 to {WORKERS_LIMIT}, not {self.workers}")
        least = _BLOCKS_MIN * cluster.block_size * self.workers
        for flag, size in (("--disk", self.disk_bytes), ("--memory", self.memory_bytes)):
            if size < least and (flag == "--disk" or size):
                raise ConfigError(
                    f"{flag} {format_size(size)} is too little",
                    hint=f"at least {format_size(least)}: {_BLOCKS_MIN} blocks for each worker",
                )
        there = shutil.disk_usage(folder.path).total
        if self.disk_bytes > there:
            raise CapacityError(
                f"--disk {format_size(self.disk_bytes)} is more than the disk has",
                subject=str(folder.path),
                hint=f"it has {format_size(there)}",
            )
        if self.memory_bytes > (there := shutil.disk_usage(folder.memory.parent).total):
            raise CapacityError(
                f"--memory {format_size(self.memory_bytes)} is more than the tmpfs has",
                subject=str(folder.memory.parent),
                hint=f"it has {format_size(there)}; `mount -o remount,size=…` changes that",
            )


def make_plan(folder: StateFolder, **flags: int | str | None) -> Plan:
    """Return the plan: flags (``None`` where not given) over the last one over the defaults."""
    values: dict[str, Any] = {  # Any: each as the plan's field of that name
        "workers": 1,
        "memory_bytes": 0,
        "disk_bytes": min(_DISK_BYTES, shutil.disk_usage(folder.path).free // 2),
        "store_url": "",
        "gateway": True,
    }
    saved = read_json(folder.plan)
    for source in (saved if isinstance(saved, dict) else {}, flags):
        for name, value in source.items():
            if type(value) is type(values.get(name)):
                values[name] = value
    return Plan(**values)


def save_plan(folder: StateFolder, plan: Plan) -> None:
    """Remember the plan for the next ``up``; a store's URL may hold a password and is left out."""
    document = asdict(plan)
    if "@" in plan.store_url:
        del document["store_url"]
    write_json(folder.plan, document)


class Blueprint:
    """What the supervised processes are told, and where they turned out to be."""

    def __init__(self, folder: StateFolder, plan: Plan, settings: Settings) -> None:
        """Lay out the processes; addresses of an earlier run are tried again."""
        self.folder = folder
        self.plan = plan
        self.settings = settings
        self.cluster = settings.build("cluster", ClusterConfig)
        saved = read_json(folder.path / "addresses.json")
        self.addresses: dict[str, dict[str, str]] = saved if isinstance(saved, dict) else {}
        self.coordinator = CoordinatorService(self)
        self.zone = settings.build(
            "worker", WorkerConfig, name="any", state_folder=folder.path, tiers=(), coordinator=""
        ).zone
        """Where workers are unless somebody says otherwise."""
        self.roster = Roster(folder.roster, earlier=self._earlier())
        self.gateways = [GatewayService(self)] if plan.gateway else []
        self.published = False
        """Whether clients can find the system."""

    def _earlier(self) -> list[Entry]:
        """Return the workers of a state folder that no roster was kept in yet."""
        names = sorted(path.name for path in self.folder.path.glob("workers/worker-*"))
        return [Entry(name, DEFAULT_POOL, self.zone) for name in names]

    @property
    def workers(self) -> list["WorkerService"]:
        """The workers of this machine, but those that only have to be cleared away."""
        return [self.worker(one) for one in self.roster.entries() if one.state != "stopped"]

    def worker(self, entry: Entry) -> "WorkerService":
        """Return a worker of the roster as a process."""
        return WorkerService(self, entry)

    def share(self) -> list[tuple[str, int]]:
        """Return what each worker has: a medium and bytes, for each of its tiers."""
        plan = self.plan
        tiers = [("disk", plan.disk_bytes // plan.workers)]
        if plan.memory_bytes:
            tiers.insert(0, ("memory", plan.memory_bytes // plan.workers))
        return tiers

    def tier_folder(self, medium: str, name: str) -> Path:
        """Return where a worker's tier is."""
        if medium == "memory":
            return self.folder.memory / name
        return self.folder.worker(name) / "blocks"

    def clear_away(self, name: str) -> None:
        """Remove what a worker held that has ended for good; its log stays."""
        for path in (self.folder.worker(name), self.tier_folder("memory", name)):
            shutil.rmtree(path, ignore_errors=True)
        self.folder.config(name).unlink(missing_ok=True)
        self.forget(name)

    def learn(self, name: str, addresses: Addresses) -> None:
        """Keep the addresses of a process that is ready."""
        self.addresses[name] = dict(addresses)
        write_json(self.folder.path / "addresses.json", self.addresses)

    def publish(self) -> None:
        """Write what clients need to find the system; nothing in it is secret."""
        document: dict[str, Any] = {  # Any: a JSON document
            "coordinator": self.addresses[self.coordinator.name],
            "cluster": to_document(self.cluster),
            "workers": {
                worker.name: self.addresses[worker.name]
                for worker in self.workers
                if worker.name in self.addresses
            },
        }
        if self.gateways:
            document["gateway"] = self.addresses["gateway"]
        write_json(self.folder.cluster, document)
        self.published = True

    def port(self, name: str, purpose: str, wanted: int, host: str) -> int:
        """Return the port to use: the configured one, else the earlier one if it is free, else 0."""
        if wanted:
            return wanted
        address = self.addresses.get(name, {}).get(purpose, "")
        port = int(address.rpartition(":")[2] or 0)
        return port if port and _is_free(host, port) else 0

    def forget(self, name: str) -> None:
        """Give up the addresses of a process that cannot start with them."""
        self.addresses.pop(name, None)


class CoordinatorService:
    """The coordinator, as a supervised process."""

    name = "coordinator"

    def __init__(self, blueprint: Blueprint) -> None:
        """Take part in a blueprint."""
        self._blueprint = blueprint
        self.log = blueprint.folder.logs / "coordinator.log"

    def command(self, failures: int) -> Sequence[str]:
        """Write its configuration and return its arguments; its address never changes."""
        del failures
        own, settings = self._blueprint, self._blueprint.settings
        config = settings.build("coordinator", CoordinatorConfig, store_url=self._store_url())
        config = replace(
            config,
            http_port=own.port(self.name, "http", config.http_port, config.host),
            control_port=own.port(self.name, "control", config.control_port, config.host),
        )
        return _command(own, self.name, "coordinator", config)

    def became_ready(self, addresses: Addresses) -> None:
        """Keep its addresses."""
        self._blueprint.learn(self.name, addresses)

    def _store_url(self) -> str:
        return self._blueprint.plan.store_url or f"sqlite:///{self._blueprint.folder.store}"


class WorkerService:
    """One worker, as a supervised process."""

    def __init__(self, blueprint: Blueprint, entry: Entry) -> None:
        """Take part in a blueprint."""
        self.name = entry.name
        self._entry = entry
        self._blueprint = blueprint
        self.log = blueprint.folder.logs / f"{entry.name}.log"

    def command(self, failures: int) -> Sequence[str]:
        """Write its configuration and return its arguments."""
        own = self._blueprint
        if failures >= _FAILURES_BEFORE_NEW_PORT:  # somebody may have taken its port meanwhile
            own.forget(self.name)
        config = own.settings.build(
            "worker",
            WorkerConfig,
            name=self.name,
            state_folder=own.folder.worker(self.name),
            tiers=(),
            coordinator=own.addresses[own.coordinator.name]["control"],
        )
        config = replace(
            config,
            tiers=tuple(self._tiers()),
            pool=self._entry.pool,
            zone=self._entry.zone,
            data_port=own.port(self.name, "data", config.data_port, config.host),
            control_port=own.port(self.name, "control", config.control_port, config.host),
        )
        if own.plan.memory_bytes:
            own.folder.memory.mkdir(mode=0o700, exist_ok=True)
            check_private(own.folder.memory)
        for folder in (config.state_folder, *(tier.folder for tier in config.tiers)):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _command(own, self.name, "worker", config)

    def became_ready(self, addresses: Addresses) -> None:
        """Keep its addresses, and let those know who look for them while the system runs."""
        self._blueprint.learn(self.name, addresses)
        if self._blueprint.published:
            self._blueprint.publish()

    def _tiers(self) -> list[TierConfig]:
        own = self._blueprint
        return [
            own.settings.build(
                "tier",
                TierConfig,
                folder=own.tier_folder(medium, self.name),
                medium=medium,
                capacity_bytes=size,
            )
            for medium, size in own.share()
        ]


class GatewayService:
    """The endpoints for other programs, as a supervised process."""

    name = "gateway"

    def __init__(self, blueprint: Blueprint) -> None:
        """Take part in a blueprint."""
        self._blueprint = blueprint
        self.log = blueprint.folder.logs / "gateway.log"

    def command(self, failures: int) -> Sequence[str]:
        """Write its configuration and return its arguments."""
        own = self._blueprint
        if failures >= _FAILURES_BEFORE_NEW_PORT:  # somebody may have taken its port meanwhile
            own.forget(self.name)
        settings = own.settings.build("gateway", GatewayConfig)
        settings = replace(
            settings,
            s3_port=own.port(self.name, "s3", settings.s3_port, settings.host),
            hub_port=own.port(self.name, "hub", settings.hub_port, settings.host),
        )
        plan = GatewayPlan(
            coordinator=own.addresses[own.coordinator.name]["http"],
            workers=tuple(
                own.addresses[worker.name]["data"]
                for worker in own.workers
                if worker.name in own.addresses
            ),
            settings=settings,
            reader=own.settings.build("reader", ReaderConfig),
        )
        return _command(own, self.name, "gateway", plan)

    def became_ready(self, addresses: Addresses) -> None:
        """Keep its addresses."""
        self._blueprint.learn(self.name, addresses)


_MODULES = {
    "coordinator": "cachefs.cli.system.coordinating",
    "worker": "cachefs.workers",
    "gateway": "cachefs.gateway",
}


def _command(own: Blueprint, name: str, section: str, config: object) -> Sequence[str]:
    path: Path = own.folder.config(name)
    write_process_config(path, section, own.cluster, config)
    return [sys.executable, "-m", _MODULES[section], "--config", os.fspath(path)]


def _is_free(host: str, port: int) -> bool:
    """Say whether a port can be bound now; a connection in TIME_WAIT does not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
