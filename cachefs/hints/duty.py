"""Hints as a duty of the coordinator's process.

A thread of its own follows what other coordinators keep, retires what has expired, and stores what
outcomes have taught: within a second, so that a process which is killed has forgotten nearly nothing.
Lessons are of the coordinator that was told; of several, each learns from its own outcomes.
"""

import logging
from collections.abc import Iterable, Sequence

from fastapi import APIRouter

from cachefs.coordinator.duties import Duty, Surroundings
from cachefs.core.tenants import Tenants
from cachefs.hints.actions import Prefetches
from cachefs.hints.consumers import routers as consumer_routers
from cachefs.hints.consumers.tokens import scheduler_door
from cachefs.hints.control import add_service
from cachefs.hints.deciding import Prices
from cachefs.hints.inventory import Inventory
from cachefs.hints.keeping import Keeper, load_lessons, save_lessons
from cachefs.hints.renderings.marks import HOSTNAME
from cachefs.hints.routes import hint_routers
from cachefs.hints.service import HintService, Rules
from cachefs.hints.watching import Watchers
from cachefs.hints.wishing import Wishes
from cachefs.telemetry.metrics import Sample
from cachefs.transport.control import ControlServer
from cachefs.transport.rounds import Rounds

_LOG = logging.getLogger("cachefs.hints")

LOOK_SECONDS = 0.5
_CLOSE_SECONDS = 5.0
_CALLERS_WATCHING = 8
"""Watchers by gRPC: each keeps one of the control server's threads, which members need, too."""


class HintDuty(Duty):
    """Answers for hints. Its owner calls ``start`` once and ``close`` at the end."""

    def __init__(self, parts: Surroundings) -> None:
        """Begin nothing yet.

        Raises:
            CoordinatorUnavailableError: The store does not answer.
        """
        self._store = parts.store
        self._runtime = parts.runtime
        self._admits = scheduler_door(parts.token)
        config = parts.config.hints
        self._gates = config.gates
        self._tenants = Tenants(parts.config.tenants.trusted, parts.config.tenants.sources)
        self.inventory = Inventory(parts)
        self._keeper = Keeper(parts.store, parts.runtime)
        wishes = Wishes(parts.coordinator, self.inventory)
        self.service = HintService(
            self.inventory,
            self._keeper,
            load_lessons(parts.store),
            parts.runtime,
            rules=Rules(
                prices=Prices(
                    egress_usd_per_gb=parts.config.flows.planning.egress_usd_per_gb,
                    gpu_usd_per_hour=config.gpu_usd_per_hour,
                ),
                fresh_seconds=parts.cluster.lease_seconds,
                stale_seconds=config.stale_seconds,
                valid_seconds=config.valid_seconds,
                remembered_nodes=config.remembered_nodes,
                block_bytes=parts.cluster.block_size,
            ),
            prefetches=Prefetches(wishes.warm, wishes.nodes),
        )
        self._watchers = Watchers(self.service, parts.runtime, limit=config.watchers_limit)
        self._callers = Watchers(self.service, parts.runtime, limit=_CALLERS_WATCHING)
        self._saved = self.service.lessons_revision
        self._rounds = Rounds(parts.runtime, "hints", self._tick, every_seconds=LOOK_SECONDS)

    @property
    def routers(self) -> Sequence[APIRouter]:
        """Its routes, and those that schedulers call in forms of their own."""
        return (
            *hint_routers(self.service, self._watchers),
            *consumer_routers(
                self.service.answer,
                self._runtime.wall,
                hostname=self._hostname,
                gates=self._gates,
                tenants=self._tenants,
            ),
        )

    def admits(self, path: str, token: str) -> bool:
        """Let in schedulers with their token, where they ask."""
        return self._admits(path, token)

    def add_services(self, server: ControlServer) -> Sequence[str]:
        """Answer by gRPC, too."""
        return (add_service(server, self.service, self._callers, self._runtime),)

    def start(self) -> None:
        """Begin to follow what hints are reckoned from."""
        self.inventory.start()
        self._rounds.start()

    def close(self) -> None:
        """End, and store what was learned."""
        self._watchers.close()
        self._callers.close()
        self._rounds.close(wait_seconds=_CLOSE_SECONDS)
        self._rounds.look()  # stores what was learned since
        self.inventory.close()

    def samples(self) -> Iterable[Sample]:
        """Yield what is measured."""
        yield from self.service.samples()
        yield from self.inventory.samples()

    def _hostname(self, node: str) -> str:
        """Return the value of a node's label ``kubernetes.io/hostname``: its name, if nobody says else."""
        with self.inventory.turn():
            known = self.inventory.fleet.node(node)
            return node if known is None else known.labels.get(HOSTNAME, node)

    def _tick(self) -> None:
        self._keeper.refresh()
        revision = self.service.lessons_revision
        if revision != self._saved:
            save_lessons(self._store, self.service.lessons_document())
            self._saved = revision
