"""The driver, put together: what the kubelet calls, the shelf, and looks at the node's mount.

It starts without the coordinator, the API server and the node's mount: each call says what it misses. The
registration socket comes last: the kubelet calls as soon as it is there.
"""

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import grpc

from cachefs.errors import ClusterError
from cachefs.fuse.keeping.shelf import Shelf
from cachefs.k8s.csi.asking import HttpVersions, Objects, SharedDatasets
from cachefs.k8s.csi.controller import Controller
from cachefs.k8s.csi.health import Health
from cachefs.k8s.csi.identity import Identity
from cachefs.k8s.csi.leaving import Successors
from cachefs.k8s.csi.node import Node
from cachefs.k8s.csi.places import Places, prepare_run_folder
from cachefs.k8s.csi.proto import csi_pb2_grpc as rpc
from cachefs.k8s.csi.proto import registration_pb2_grpc
from cachefs.k8s.csi.publishing import Publisher
from cachefs.k8s.csi.registration import Registration
from cachefs.k8s.csi.statistics import samples
from cachefs.ports import Runtime
from cachefs.telemetry.metrics import Metrics
from cachefs.transport.api import Api
from cachefs.transport.rounds import Rounds

LOOK_SECONDS = 1.0
SUCCESSORS_SECONDS = 0.5
_CALLS = 16
"""At once; each may start a child."""
_CALLS_MAX = 128
"""Taken at once; more are refused, and the kubelet asks again."""
_STOP_SECONDS = 5.0

_log = logging.getLogger("cachefs.csi")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a driver is told."""

    places: Places
    node: str
    """What the kubelet calls this node."""
    targets: Path
    port: int
    """Of health and metrics; 0 for any free one."""
    give_up_seconds: float
    system_namespace: str
    sockets_owner: int
    """User and group of the workers, whose sockets are in a folder of theirs."""


class Driver:
    """One node's driver."""

    def __init__(
        self, runtime: Runtime, settings: Settings, api: Api, objects: Objects | None
    ) -> None:
        """Begin to serve.

        Raises:
            ConfigError: A folder cannot be used.
            ClusterError: A socket or a port cannot be had.
        """
        self._runtime = runtime
        self._settings = settings
        self._refused = False
        with ExitStack() as owned:
            self._build(owned, api, objects)
            self._owned = owned.pop_all()

    @property
    def refused(self) -> bool:
        """Whether the kubelet will not have us."""
        return self._refused

    @property
    def port(self) -> int:
        """Of health and metrics."""
        return self._health.port

    def _build(self, owned: ExitStack, api: Api, objects: Objects | None) -> None:
        runtime, settings, places = self._runtime, self._settings, self._settings.places
        prepare_run_folder(places)
        _make_sockets_folder(places.sockets, settings.sockets_owner)
        places.plugin.mkdir(mode=0o700, parents=True, exist_ok=True)
        places.registration.parent.mkdir(parents=True, exist_ok=True)
        self._shelf = Shelf(runtime, places.shelf, give_up_seconds=settings.give_up_seconds)
        owned.callback(self._shelf.close)
        versions = HttpVersions(runtime, api)
        self._publisher = Publisher(
            runtime,
            places,
            versions,
            SharedDatasets(runtime, objects).namespaces,
            targets=settings.targets,
            system_namespace=settings.system_namespace,
        )
        self._keep_looking(owned, "mount", self._publisher.tend, LOOK_SECONDS)
        successors = Successors(runtime, places.leaving, self._shelf)
        self._keep_looking(owned, "successors", successors.look, SUCCESSORS_SECONDS)
        metrics = Metrics(lambda: samples(self._publisher.statistics(), self._shelf.statistics()))
        self._health = Health(
            runtime,
            settings.port,
            {
                "/healthz": lambda: (200, b"well\n") if self._shelf.is_well else (503, b"stuck\n"),
                "/readyz": lambda: (200, b"ready\n") if self._is_ready() else (503, b"no mount\n"),
                "/metrics": lambda: (200, metrics.exposition()),
            },
        )
        owned.enter_context(closing(self._health))
        server = _server(owned, places.socket)
        controller = Controller(runtime, versions, places.volumes)
        node = Node(runtime, self._publisher, settings.node)
        rpc.add_IdentityServicer_to_server(Identity(self._is_ready), server)  # type: ignore[no-untyped-call]  # generated
        rpc.add_ControllerServicer_to_server(controller, server)  # type: ignore[no-untyped-call]  # generated
        rpc.add_NodeServicer_to_server(node, server)  # type: ignore[no-untyped-call]  # generated
        server.start()
        known = _server(owned, places.registration)
        registration = Registration(places.socket, self._refuse)
        registration_pb2_grpc.add_RegistrationServicer_to_server(registration, known)  # type: ignore[no-untyped-call]  # generated
        known.start()
        _log.info("serving", extra={"socket": str(places.socket), "port": self._health.port})

    def _keep_looking(
        self, owned: ExitStack, name: str, look: Callable[[], None], seconds: float
    ) -> None:
        rounds = Rounds(self._runtime, name, look, every_seconds=seconds)
        rounds.start()
        owned.callback(lambda: rounds.close(wait_seconds=_STOP_SECONDS))

    def _is_ready(self) -> bool:
        return self._publisher.mounted

    def _refuse(self) -> None:
        self._refused = True

    def close(self) -> None:
        """Take no more calls, let those at hand end for a moment, and let go of the shelf; idempotent."""
        self._owned.close()


def _server(owned: ExitStack, path: Path) -> grpc.Server:
    """Return a server on a Unix socket that only root can reach; it is to be started."""
    server = grpc.server(
        ThreadPoolExecutor(_CALLS, thread_name_prefix="csi"), maximum_concurrent_rpcs=_CALLS_MAX
    )
    path.unlink(missing_ok=True)
    if not server.add_insecure_port(f"unix:{path}"):
        raise ClusterError("cannot listen", subject=str(path))
    owned.callback(lambda: server.stop(_STOP_SECONDS).wait(_STOP_SECONDS + 1))
    return server


def _make_sockets_folder(path: Path, owner: int) -> None:
    path.mkdir(mode=0o770, exist_ok=True)
    os.chown(path, owner, owner, follow_symlinks=False)
    path.chmod(0o770)
