"""Clusters under test: a coordinator and workers, as real processes.

They are started with the same configuration files that ``cachefs up`` writes, but one by one, so
that a scenario may put each into a network namespace, stop it, and start it again. The folder is a
state folder: ``cachefs --state FOLDER …`` and the SDK find the cluster by it.
"""

import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cachefs.benchmarks.processes import Process
from cachefs.benchmarks.readers import open_reader
from cachefs.client.reader import Reader
from cachefs.config.files import to_document, write_process_config
from cachefs.config.schema import (
    ClusterConfig,
    CoordinatorConfig,
    HeatConfig,
    HintsConfig,
    ReaderConfig,
    TierConfig,
    WorkerConfig,
)
from cachefs.config.secrets import make_token
from cachefs.errors import CacheFSError
from cachefs.ports import Closing
from cachefs.transport.api import Api

DATASET = "checkpoint"
_ADD_SECONDS = 600.0
_WARM_SECONDS = 900.0
_JOIN_SECONDS = 30.0
_POLL_SECONDS = 0.05
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the kernel's tmpfs


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlan:
    """One worker to start."""

    name: str = "worker-1"
    medium: str = "disk"
    capacity_bytes: int
    host: str = "127.0.0.1"
    command_prefix: tuple[str, ...] = ()
    """Put before the command, to run it in a network namespace."""
    heat: HeatConfig = field(default_factory=HeatConfig)
    node_name: str = ""
    """What hints call the machine."""
    link_bytes_rate: float = 0.0
    """Of the machine's network, as hints are told; 0 for what its card says."""


class Cluster(Closing):
    """A coordinator, workers, and what is needed to use them."""

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        config: ClusterConfig | None = None,
        hints: HintsConfig | None = None,
    ) -> None:
        """Start the coordinator in a new state folder; it gives hints if it is told how."""
        self.folder = folder
        self.config = config or ClusterConfig()
        self._host = host
        self._hints = hints
        self._memory = _SHARED_MEMORY / f"cachefs-bench-{folder.name}"
        self.remove()
        for path in (folder, folder / "coordinator"):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.token = make_token(folder / "token")
        self._environment = {"CACHEFS_TOKEN_FILE": str(folder / "token")}
        self.workers: dict[str, Process] = {}
        self._coordinator = self._start_coordinator(control_port=0, http_port=0)

    def _start_coordinator(self, *, control_port: int, http_port: int) -> Process:
        store = self.folder / "coordinator" / "cachefs.db"
        config = CoordinatorConfig(
            store_url=f"sqlite:///{store}",
            host=self._host,
            control_port=control_port,
            http_port=http_port,
            hints=self._hints or HintsConfig(),
        )
        return self._start("coordinator", "coordinator", config, ())

    def _start(self, name: str, section: str, config: object, prefix: Sequence[str]) -> Process:
        path = self.folder / f"{name}.json"
        write_process_config(path, section, self.config, config)
        # Hints and flows are duties that only the program behind `cachefs up` composes.
        coordinator = "cachefs.cli.system.coordinating" if self._hints else "cachefs.coordinator"
        module = coordinator if section == "coordinator" else "cachefs.workers"
        command = [*prefix, sys.executable, "-m", module, "--config", str(path)]
        log = self.folder / f"{name}.log"
        return Process(command, log=log, environment=self._environment)

    def start_worker(self, plan: WorkerPlan) -> Process:
        """Start a worker and wait until it is a member."""
        own = self.folder / plan.name
        tiers = self._memory if plan.medium == "memory" else own
        tier = TierConfig(
            folder=tiers / f"{plan.name}-blocks",
            medium=plan.medium,
            capacity_bytes=plan.capacity_bytes,
        )
        for path in (own, tiers, tier.folder):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = WorkerConfig(
            name=plan.name,
            state_folder=own,
            tiers=(tier,),
            coordinator=self._coordinator.addresses["control"],
            host=plan.host,
            scrub_period_seconds=0.0,
            heat=plan.heat,
            node_name=plan.node_name,
            link_bytes_rate=plan.link_bytes_rate,
        )
        worker = self._start(plan.name, "worker", config, plan.command_prefix)
        self.workers[plan.name] = worker
        self._publish()
        self._wait_until_member(plan.name)
        return worker

    def _wait_until_member(self, name: str) -> None:
        deadline = time.perf_counter() + _JOIN_SECONDS
        while time.perf_counter() < deadline:
            members = self.api.get("/v1/view")["members"]
            if any(member["worker"] == name for member in members):
                return
            pause()
        raise CacheFSError("the worker did not join", hint=self.workers[name].log_end())

    def _publish(self) -> None:
        document = {
            "coordinator": dict(self._coordinator.addresses),
            "cluster": to_document(self.config),
            "workers": {name: dict(worker.addresses) for name, worker in self.workers.items()},
        }
        (self.folder / "cluster.json").write_text(json.dumps(document))

    @property
    def api(self) -> Api:
        """The coordinator's HTTP API."""
        return Api(self._coordinator.addresses["http"], self.token)

    def processes(self) -> list[Process]:
        """Return all processes."""
        return [self._coordinator, *self.workers.values()]

    def tier_folders(self) -> list[Path]:
        """Return the folders that blocks are in."""
        return [path for base in (self._memory, self.folder) for path in base.rglob("*-blocks")]

    def restart_coordinator(self) -> float:
        """Stop the coordinator and start it at the same addresses; return the seconds to ready."""
        control, http = (
            int(self._coordinator.addresses[which].rpartition(":")[2])
            for which in ("control", "http")
        )
        self._coordinator.stop()
        started = time.perf_counter()
        self._coordinator = self._start_coordinator(control_port=control, http_port=http)
        return time.perf_counter() - started

    def restart_worker(self, plan: WorkerPlan) -> float:
        """Stop a worker and start it again; return the seconds until it is a member."""
        self.workers.pop(plan.name).stop()
        started = time.perf_counter()
        self.start_worker(plan)
        return time.perf_counter() - started

    def add_dataset(self, endpoint: str, url: str, name: str = DATASET) -> dict[str, Any]:
        """Declare a dataset on an S3 server without signatures, and list it."""
        options = {"endpoint_url": endpoint, "anon": "true", "region": "us-east-1"}
        body = {"name": name, "origin": {"url": url, "options": options}}
        return dict(self.api.post("/v1/datasets", body, timeout_seconds=_ADD_SECONDS))

    def warm(self, name: str = DATASET, paths: Sequence[str] = ()) -> float:
        """Bring a dataset, or some folders of it, in; return the seconds that it took."""
        started = time.perf_counter()
        body = {"dataset": name, "version": "", "paths": list(paths)}
        job = self.api.post("/v1/warm", body)
        deadline = started + _WARM_SECONDS
        while job["state"] in ("waiting", "running"):
            if time.perf_counter() > deadline:
                raise CacheFSError("the warm-up did not end", hint=str(job))
            pause()
            job = self.api.get(f"/v1/warm/{job['id']}")
        if job["state"] != "done":
            raise CacheFSError(f"the warm-up {job['state']}", hint=str(job["failure"]))
        return time.perf_counter() - started

    def evict(self, name: str = DATASET) -> None:
        """Evict every block of a dataset."""
        self.api.post("/v1/evict", {"dataset": name, "version": "", "paths": []})

    @contextmanager
    def reader(self, config: ReaderConfig) -> Iterator[Reader]:
        """Open the reader library on the cluster."""
        with open_reader(self.folder, config) as reader:
            yield reader

    def remove(self) -> None:
        """Remove everything that a cluster left in its folders."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self._memory, ignore_errors=True)

    def close(self) -> None:
        """End all processes and remove what they stored; the logs stay."""
        for process in reversed(self.processes()):
            process.stop()
        for folder in self.tier_folders():
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self._memory, ignore_errors=True)


def pause(seconds: float = _POLL_SECONDS) -> None:
    """Wait for other processes, in real time."""
    time.sleep(seconds)  # noqa: TID251 - what is waited for here are other programs
