"""The worker process: puts the parts together, starts them in order, and ends them in order.

Start: the tiers recover what an earlier process left; the ports are bound; the data plane serves;
then the worker registers. So nobody is told of a worker that cannot answer. A coordinator that is
down does not keep a worker from starting: it serves what it has, and registers later. Nor does a disk
that is full.

End, at SIGTERM or SIGINT: the worker says goodbye, ends its connections and with them its leases,
lets running fills end for a moment, and closes its tiers clean. Each step is bounded, so the end
comes within a few seconds whatever the others do.
"""

import ctypes
import logging
import resource
import secrets
import socket
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from cachefs.config.schema import ClusterConfig, WorkerConfig
from cachefs.config.secrets import Secret
from cachefs.core.blocks import BlockId
from cachefs.core.membership import RENEWALS_PER_LEASE, Member
from cachefs.core.names import DatasetName, WorkerId, parse_name
from cachefs.errors import ConfigError, CoordinatorUnavailableError
from cachefs.origins.opening import open_origin
from cachefs.ports import FileRef, Origin, ResolvedVersion, Runtime
from cachefs.telemetry.metrics import Metrics
from cachefs.transport.blocks import HttpBlockSource
from cachefs.transport.control import (
    ControlMetadata,
    ControlServer,
    coordinator_channel,
    worker_channel,
)
from cachefs.transport.metadata import HttpMetadata
from cachefs.transport.node import node_identity
from cachefs.transport.running import StopSignals, say_ready
from cachefs.transport.runtime import ThreadRuntime
from cachefs.transport.serving.listening import Listener, listen
from cachefs.wire import digests
from cachefs.wire.proto import cachefs_pb2_grpc as rpc
from cachefs.workers.control import WorkerControl
from cachefs.workers.drain import Drain
from cachefs.workers.filling.filler import Filler
from cachefs.workers.handover import Handover
from cachefs.workers.knowledge import Knowledge
from cachefs.workers.moving import Mover
from cachefs.workers.pins import Pins
from cachefs.workers.proving.proofs import Proofs
from cachefs.workers.proving.prover import Prover
from cachefs.workers.renewal import Renewal
from cachefs.workers.reporting.survey import Survey
from cachefs.workers.reporting.traffic import Traffic
from cachefs.workers.serving.dataplane import DataPlane
from cachefs.workers.serving.handout import Handout, open_socket
from cachefs.workers.serving.spreading import Spreading
from cachefs.workers.statistics import WorkerStatistics, sampler
from cachefs.workers.storage.scrub import Scrubber
from cachefs.workers.storage.store import TieredStore
from cachefs.workers.uses import Uses

LOCAL_CONNECTIONS_LIMIT = 1024
"""Processes on this node that may hold descriptors at once, counted by connections."""
LARGE_BUFFER_BYTES = 1024 * 1024
"""From this size on, a buffer has a mapping of its own."""
_M_MMAP_THRESHOLD = -3  # as malloc.h has it
OPEN_FILES_MAX = 65536
"""More descriptors than all limits together can ask for."""

_log = logging.getLogger("cachefs.worker")


class Worker:
    """One worker, in whatever process: the tests run several in one."""

    def __init__(
        self, config: WorkerConfig, cluster: ClusterConfig, token: Secret, runtime: Runtime
    ) -> None:
        """Recover the tiers and bind the ports; :meth:`start` begins to serve.

        Raises:
            ConfigError: A folder, a name or an address cannot be used.
            ClusterError: A port is taken.
        """
        self._config = config
        self._cluster = cluster
        self._token = token
        self._runtime = runtime
        self._versions_folder = config.state_folder / "versions"
        self._proofs_folder = config.state_folder / "proofs"
        self._own = WorkerId(parse_name(config.name, kind="worker"))
        for folder in (config.state_folder, self._versions_folder, self._proofs_folder):
            _make_folder(folder)
        with ExitStack() as stack:
            self._build(stack)
            self._stack = stack.pop_all()

    def _build(self, stack: ExitStack) -> None:
        """Make the parts; what was made first is closed last."""
        config, cluster, token, runtime = self._config, self._cluster, self._token, self._runtime
        self.store = TieredStore(config.tiers, cluster=cluster, runtime=runtime)
        stack.callback(self.store.close)
        self.store.recover()
        self._warn_of_full_disks()
        channel = stack.enter_context(coordinator_channel(config.coordinator, token))
        proofs = Proofs(cluster, self._proofs_folder)
        self.knowledge = Knowledge(
            runtime,
            ControlMetadata(runtime, channel, digest_size=digests.digest_size(cluster.digest)),
            ask_members=self._ask_members,
            folder=self._versions_folder,
            proofs=proofs,
        )
        blocks = HttpBlockSource(runtime, token, block_size=cluster.block_size, unproven=True)
        stack.callback(blocks.close)
        self.filler = Filler(
            runtime,
            self.store,
            blocks,
            self.knowledge,
            self._open_origin,
            config.fill,
            cluster=cluster,
            own=self._own,
        )
        stack.callback(self.filler.close)
        self.prover = Prover(
            runtime,
            self.store,
            self.filler,
            blocks,
            self.knowledge,
            config=config.fill,
            cluster=cluster,
            own=self._own,
            proofs=proofs,
        )
        stack.callback(self.prover.close)
        self._data_socket = listen(config.host, config.data_port, setting="worker.data_port")
        stack.callback(self._data_socket.close)
        self._local_socket, socket_path = open_socket(_socket_home(config))
        stack.callback(_remove_socket, self._local_socket, socket_path)
        self._control = ControlServer(config.host, config.control_port, token)
        stack.callback(self._control.close)
        self.member = self._describe(socket_path)
        self._pins = Pins(runtime, self.store)
        self.spreading = Spreading(
            runtime, self.store, self.knowledge, own=self._own, config=config.heat
        )
        self._uses = Uses(runtime)
        self._survey = stack.enter_context(Survey(runtime, config))
        self.renewal = Renewal(
            runtime,
            channel,
            self.member,
            cluster=cluster,
            store=self.store,
            filler=self.filler,
            prover=self.prover,
            knowledge=self.knowledge,
            pins=self._pins,
            spreading=self.spreading,
            statistics=self._said_with_renewals,
        )
        stack.callback(self.renewal.close)
        self._add_servers(stack)

    def _describe(self, socket_path: Path) -> Member:
        config = self._config
        return Member(
            worker=self._own,
            incarnation=secrets.token_hex(8),
            node=node_identity(),
            zone=config.zone,
            pool=config.pool,
            weight=float(sum(tier.capacity_bytes for tier in config.tiers)),
            data_address=f"{config.host}:{self._data_socket.getsockname()[1]}",
            control_address=f"{config.host}:{self._control.port}",
            socket_path=str(socket_path),
        )

    def _warn_of_full_disks(self) -> None:
        for tier in self.store.statistics().tiers:
            if tier.lacking_bytes:
                _log.warning(
                    "a tier's disk is full: it serves what it holds, and evicts to make room",
                    extra={"folder": tier.folder, "lacking_bytes": tier.lacking_bytes},
                )

    def _add_servers(self, stack: ExitStack) -> None:
        cluster, token, runtime = self._cluster, self._token, self._runtime
        self._metrics = Metrics(sampler(self.statistics))
        self._plane = DataPlane(
            runtime,
            self.filler,
            self.prover,
            self.knowledge,
            spreading=self.spreading,
            token=token,
            cluster=cluster,
            config=self._config,
            exposition=self._metrics.exposition,
            own_digests=self._own_digests,
            uses=self._uses,
        )
        self._handout = Handout(
            runtime,
            self.store,
            self.prover,
            self.knowledge,
            token=token,
            cluster=cluster,
            own=self._own,
            uses=self._uses,
        )
        self._traffic = Traffic(
            runtime,
            block_size=cluster.block_size,
            underway=self.filler.underway,
            filled_bytes=lambda: sum(self.filler.filled.total().values()),
            sending=self._plane.sending,
        )
        drain = self._hand_over(stack)
        control = WorkerControl(
            runtime,
            self.store,
            self.filler,
            self.knowledge,
            drain,
            prover=self.prover,
            pins=self._pins,
            block_size=cluster.block_size,
            served=self._plane.served,
            statistics=lambda: self.statistics().to_document(),
            tell=self.renewal.tell,
        )
        rpc.add_WorkerServicer_to_server(control, self._control.server)  # type: ignore[no-untyped-call]  # generated
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._control.server)
        self._data_listener: Listener | None = None
        self._local_listener: Listener | None = None

    def _hand_over(self, stack: ExitStack) -> Drain:
        """Make what gives blocks to newcomers; return what drains the worker."""
        cluster, token, runtime = self._cluster, self._token, self._runtime
        handover = Handover(
            runtime,
            self.store,
            self.knowledge,
            own=self._own,
            block_size=cluster.block_size,
            open_channel=lambda address: worker_channel(address, token),
        )
        self._mover = Mover(
            runtime,
            handover,
            self.knowledge,
            own=self._own,
            bytes_rate=self._config.move_bytes_rate,
            delay_seconds=self._config.move_delay_seconds,
        )
        stack.callback(self._mover.close)
        drain = Drain(
            runtime,
            handover,
            self.knowledge,
            own=self._own,
            # One renewal, and half of one more for a busy machine.
            settle_seconds=1.5 * cluster.lease_seconds / RENEWALS_PER_LEASE,
            leave=self.renewal.leave,
        )
        stack.callback(drain.close)
        return drain

    def start(self) -> None:
        """Serve, then register; returns at once."""
        self._data_listener = Listener(
            self._runtime,
            self._data_socket,
            self._plane.serve,
            name="data",
            connections_limit=self._config.connections_limit,
        )
        self._stack.callback(self._data_listener.close)
        self._local_listener = Listener(
            self._runtime,
            self._local_socket,
            self._handout.serve,
            name="local",
            connections_limit=LOCAL_CONNECTIONS_LIMIT,
        )
        self._stack.callback(self._local_listener.close)
        self._control.start()
        self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        self._stack.callback(self._start_scrubber().close)
        self._survey.start()
        self.renewal.start()
        self._mover.start()

    def _start_scrubber(self) -> Scrubber:
        return Scrubber(
            self._runtime,
            self.store,
            period_seconds=self._config.scrub_period_seconds,
            bytes_rate=self._config.scrub_bytes_rate,
            refill=self._refill,
        )

    def _refill(self, block: BlockId) -> None:
        """Fill a block again that was found bad."""
        file = self.knowledge.known_file(block.file_version)
        if file is not None:
            self.filler.warm(f"scrub {block.file_version} {block.index}", {file: [block.index]})

    def close(self) -> None:
        """Say goodbye and end everything; idempotent."""
        self.renewal.leave()
        self._stack.close()

    def statistics(self) -> WorkerStatistics:
        """Return what all parts say of themselves."""
        return WorkerStatistics(
            store=self.store.statistics(),
            fill=self.filler.statistics(),
            proof=self.prover.statistics(),
            served_bytes=self._plane.served.total(),
            connections=self._data_listener.connections if self._data_listener else 0,
            leases=self._handout.leases,
            moving_blocks=self._mover.left_blocks,
            guest_blocks=len(self.store.guests),
            referred=self.spreading.referred,
            used_seconds_ago={
                str(name): round(ago, 1) for name, ago in self._uses.seconds_ago().items()
            },
        )

    def _said_with_renewals(self) -> dict[str, Any]:  # Any: JSON
        return {
            **self.statistics().to_document(),
            "node": self._survey.report.to_document(),
            "traffic": self._traffic.report().to_document(),
        }

    def _open_origin(self, resolved: ResolvedVersion) -> Origin:
        return open_origin(
            resolved.origin, self._config.origin, self._runtime, client=resolved.client
        )

    def _own_digests(self, file: FileRef) -> list[bytes | None]:
        resident = self.store.inspect(file.entry.file_version)
        if resident is None:
            return []
        known = iter(resident.digests)
        own = [
            next(known) if resident.resident >> index & 1 else None
            for index in range(resident.resident.bit_length())
        ]
        return list(self.prover.vouched(file, own))

    def _ask_members(
        self, name: DatasetName, version: str | None, deadline: float
    ) -> ResolvedVersion:
        view = self.knowledge.view(deadline=0.0)
        others = [each.data_address for each in view.members if each.worker != self._own]
        if not others:
            raise CoordinatorUnavailableError(
                "no coordinator answers, and no other worker is known"
            )
        asked = HttpMetadata(
            self._runtime, None, self._token, workers=others, digest=self._cluster.digest
        )
        with closing(asked):
            return asked.resolve(name, version, deadline=deadline)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the folder cannot be made: {error.strerror}", subject=str(folder)
        ) from error


def _socket_home(config: WorkerConfig) -> Path:
    folder = Path(config.socket_folder)
    return folder / config.name if config.socket_folder else config.state_folder


def _remove_socket(listening: socket.socket, path: Path) -> None:
    listening.close()
    path.unlink(missing_ok=True)
    with suppress(OSError):  # A successor may have its socket there by now.
        path.parent.rmdir()


def _give_large_buffers_back() -> None:
    """Make the allocator return the memory of a block as soon as the block is let go.

    Without this, glibc learns from the first buffers to keep later ones in a heap for each thread:
    230 MB after some gigabytes of fills, instead of 80. Another C library has nothing to be told.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BUFFER_BYTES)


def _allow_open_files() -> None:
    """Raise the limit of open files as far as we may.

    The usual soft limit of 1,024 is meant for programs that use ``select``, which we do not.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_MAX)
    if limit > resource.getrlimit(resource.RLIMIT_NOFILE)[0]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def run(config: WorkerConfig, cluster: ClusterConfig, token: Secret) -> int:
    """Run a worker until SIGTERM or SIGINT; return the process's exit status."""
    _give_large_buffers_back()
    _allow_open_files()
    worker = Worker(config, cluster, token, ThreadRuntime())
    with StopSignals() as signals, closing(worker):
        worker.start()
        ready = {
            "data": worker.member.data_address,
            "control": worker.member.control_address,
            "socket": worker.member.socket_path,
        }
        say_ready(ready)
        _log.info("worker ready", extra={"worker": config.name, **ready})
        signals.wait(unless=lambda: worker.renewal.superseded)
    _log.info("worker stopped", extra={"worker": config.name})
    return int(worker.renewal.superseded)
