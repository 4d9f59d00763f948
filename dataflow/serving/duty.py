"""Flows as a duty of the coordinator's process."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from fastapi import APIRouter

from cachefs.coordinator.duties import Duty, Surroundings
from cachefs.core.tenants import Tenants
from cachefs.dataflow.engine.answers import Planner
from cachefs.dataflow.engine.documents import Documents
from cachefs.dataflow.engine.service import FlowService
from cachefs.dataflow.engine.ticking import Engine
from cachefs.dataflow.handing.desk import Desk
from cachefs.dataflow.ports import StepKind
from cachefs.dataflow.serving.handing import handing_routers
from cachefs.dataflow.serving.hooks import trigger_routers
from cachefs.dataflow.serving.logs import Logs, log_routers
from cachefs.dataflow.serving.routes import run_routers
from cachefs.dataflow.serving.watching import Watchers
from cachefs.dataflow.triggers.firing import Triggers
from cachefs.dataflow.triggers.registering import Register
from cachefs.telemetry.metrics import Sample, by_label

OpenKinds = Callable[[FlowService], Mapping[str, StepKind]]
"""Makes what carries steps out, by kind; some of it looks at runs, or starts others."""


class FlowDuty(Duty):
    """Carries out flows, and answers for them."""

    def __init__(
        self,
        parts: Surroundings,
        open_kinds: OpenKinds,
        *,
        environment: Mapping[str, str],
        planner: Planner | None = None,
        logs: Logs | None = None,
    ) -> None:
        """Begin nothing yet.

        Args:
            parts: The process.
            open_kinds: Makes what carries steps out.
            environment: Where webhooks' secrets are looked up.
            planner: Estimates runs.
            logs: Where what programs wrote is found, if it is kept.
        """
        self._logs = logs
        self._desk = Desk(parts.store, parts.runtime) if parts.config.flows.handed_out else None
        config = parts.config.flows
        documents = Documents(parts.runtime)
        tenants = Tenants(parts.config.tenants.trusted, parts.config.tenants.sources)
        kinds: dict[str, StepKind] = {}
        self._engine = Engine(
            parts.store,
            parts.runtime,
            kinds=kinds,
            documents=documents,
            config=config,
            tenants=tenants,
        )
        self.service = FlowService(
            parts.store,
            parts.runtime,
            self._engine,
            documents=documents,
            config=config,
            planner=planner,
            tenants=tenants,
        )
        kinds.update(open_kinds(self.service))
        self._register = Register(parts.store, parts.runtime, self.service, tenants=tenants)
        self._triggers = Triggers(
            parts.store,
            parts.runtime,
            self.service,
            self._register,
            events=parts.coordinator.events,
            environment=environment,
            tenants=tenants,
        )
        self._watchers = Watchers(self.service, limit=config.watchers_limit)

    @property
    def routers(self) -> Sequence[APIRouter]:
        """Its routes."""
        return (
            *run_routers(self.service, self._watchers),
            *trigger_routers(self._register, self._triggers),
            *(log_routers(self.service, self._logs) if self._logs is not None else ()),
            *(handing_routers(self._desk) if self._desk is not None else ()),
        )

    def admits(self, path: str, token: str) -> bool:
        """Let in who calls a webhook with its token."""
        return self._triggers.admits(path, token)

    def start(self) -> None:
        """Go on with the runs that there are."""
        self._engine.start()
        self._triggers.start()

    def close(self) -> None:
        """Leave the runs to whoever comes next."""
        self._watchers.close()
        self._triggers.close()
        self._engine.close()

    def samples(self) -> Iterable[Sample]:
        """Yield what is measured."""
        statistics = self._engine.statistics()
        yield from by_label("cachefs_flow_runs", self.service.counts())
        yield "cachefs_flow_attempts", (), statistics.attempts
        yield "cachefs_flow_left_behind_total", (), statistics.left_behind
