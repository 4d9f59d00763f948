"""An operator's process: it waits for the lease, and then looks after objects until it ends or loses it."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cachefs.config.secrets import read_token
from cachefs.errors import ConfigError
from cachefs.k8s.cluster import Cluster, open_cluster
from cachefs.k8s.installation import Installation, installed
from cachefs.k8s.kinds import PODS
from cachefs.k8s.observing.token import MetricsToken
from cachefs.k8s.operator.carrying import Carrier
from cachefs.k8s.operator.datasets.keeper import DatasetKeeper
from cachefs.k8s.operator.datasets.ledger import Ledger
from cachefs.k8s.operator.desk import Desk
from cachefs.k8s.operator.flows.flowkeeper import FlowKeeper
from cachefs.k8s.operator.flows.runkeeper import RunKeeper
from cachefs.k8s.operator.keepers import Keeper
from cachefs.k8s.operator.leading import Leading, Times
from cachefs.k8s.operator.pods.admitting import CheckKeeper, served_version
from cachefs.k8s.operator.pods.following import Follower
from cachefs.k8s.operator.pods.gates import GateKeeper
from cachefs.k8s.operator.pods.prefetching import PrefetchKeeper
from cachefs.k8s.operator.pools.keeper import PoolKeeper
from cachefs.k8s.operator.programs.executing import Executor
from cachefs.k8s.operator.serving import Answers, samples
from cachefs.k8s.operator.shell import Shell
from cachefs.k8s.operator.tending import Tended, TendingKeeper
from cachefs.k8s.webhook.renewing import Renewal
from cachefs.ports import Runtime
from cachefs.telemetry.metrics import Metrics
from cachefs.transport.api import Api
from cachefs.transport.running import say_ready
from cachefs.transport.runtime import ThreadRuntime

LOST = 3
"""The exit status of an operator that has lost its lease."""
PORT = 9090
_POLL_SECONDS = 0.5
_log = logging.getLogger("cachefs.operator")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator is told."""

    installation: Installation
    coordinator: str
    """``host:port`` of its HTTP API."""
    token_file: Path
    identity: str
    """Nobody else's: the pod's name."""
    kubeconfig: Path | None = None
    """For one that runs outside of a cluster."""
    address: tuple[str, int] = ("0.0.0.0", PORT)
    """Where ``/healthz`` and ``/metrics`` are answered."""
    times: Times = field(default_factory=Times)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Settings":
        """Read what a pod's environment says.

        Raises:
            ConfigError: Something is missing.
        """
        try:
            return cls(
                installation=installed(environment),
                coordinator=environment["CACHEFS_COORDINATOR"],
                token_file=Path(environment["CACHEFS_TOKEN_FILE"]),
                identity=environment["POD_NAME"],
            )
        except KeyError as error:
            raise ConfigError(
                "the environment lacks a value", subject=str(error.args[0])
            ) from error


def keepers_of(
    settings: Settings, runtime: Runtime, cluster: Cluster, api: Api
) -> tuple[Keeper, ...]:
    """Return everybody who looks after objects of a kind."""
    installation = settings.installation
    ledger = Ledger(cluster, installation.namespace)
    carrier = Carrier(cluster, api, ledger)
    kueue = served_version(cluster)
    return (
        DatasetKeeper(runtime, cluster, api, ledger, carrier, has_volumes=installation.has_csi),
        PoolKeeper(runtime, cluster, api, carrier, installation),
        FlowKeeper(runtime, cluster, api, carrier),
        RunKeeper(runtime, cluster, api, carrier),
        GateKeeper(runtime, cluster, api),
        PrefetchKeeper(cluster, api),
        *((CheckKeeper(runtime, cluster, api, kueue),) if kueue is not None else ()),
        TendingKeeper(installation.namespace, _tended(settings, runtime, cluster)),
    )


def _tended(settings: Settings, runtime: Runtime, cluster: Cluster) -> tuple[Tended, ...]:
    """Return what the installation needs besides its objects."""
    token, namespace = read_token(settings.token_file), settings.installation.namespace
    metrics = MetricsToken(cluster, namespace=namespace, token=token)
    if not settings.installation.webhook:
        return (metrics,)
    return (Renewal(cluster, runtime, namespace=namespace, token=token), metrics)


def run(settings: Settings) -> int:
    """Run an operator until a signal ends it; return the exit status.

    Raises:
        ConfigError: The token cannot be read, or it is not said which cluster is meant.
        OSError: Somebody else has the port.
    """
    runtime = ThreadRuntime()
    cluster = open_cluster(settings.kubeconfig)
    api = Api(settings.coordinator, read_token(settings.token_file))
    keepers = keepers_of(settings, runtime, cluster, api)
    stop = threading.Event()
    with ExitStack() as stack:
        leading = stack.enter_context(
            Leading(
                runtime,
                cluster,
                namespace=settings.installation.namespace,
                identity=settings.identity,
                lost=_end_at_once,
                times=settings.times,
            )
        )
        desk = stack.enter_context(Desk(runtime, keepers))
        namespace = settings.installation.namespace
        started: list[Executor | Follower] = []
        if settings.installation.programs:
            executor = Executor(runtime, cluster, api, namespace=namespace)
            started.append(stack.enter_context(executor))
        started += [
            stack.enter_context(
                Follower(runtime, cluster, desk, keeper=keeper.name, kind=PODS, label=keeper.label)
            )
            for keeper in keepers
            if isinstance(keeper, GateKeeper | PrefetchKeeper)
        ]
        metrics = Metrics(lambda: samples(desk, leading))
        answers = stack.enter_context(Answers(runtime, settings.address, metrics))
        say_ready({"http": f"{settings.address[0]}:{answers.port}"})
        shell = Shell(cluster, desk, keepers)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        # The desk closes before the lease is given back: what follows is in that order.
        if leading.acquire(stop.is_set):
            desk.start()
            for each in started:
                each.start()
            # Not in this thread, where kopf would take the signals for itself.
            watches = runtime.start("watches", partial(shell.run, stop))
            while not watches.join(_POLL_SECONDS):
                continue
    return 0 if stop.is_set() else 1


def _end_at_once() -> None:
    """End the process as it stands: whoever has the lease now must not meet us."""
    logging.shutdown()
    sys.stderr.flush()
    os._exit(LOST)
