"""The coordinator that ``cachefs up`` runs: the bare one, and the duties that are composed with it.

``python -m cachefs.cli.system.coordinating --config FILE`` is started and ended as
``python -m cachefs.coordinator`` is, which coordinates and does nothing else.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cachefs.config.discovery import FLOWS_FOLDER
from cachefs.config.schema import ClusterConfig, CoordinatorConfig
from cachefs.config.secrets import Secret
from cachefs.coordinator.duties import Duty, Surroundings
from cachefs.coordinator.process import run
from cachefs.core.tenants import Tenants
from cachefs.dataflow.copying.carrying import sizes
from cachefs.dataflow.copying.datasets import DataPlane
from cachefs.dataflow.copying.ends import Place, Sites
from cachefs.dataflow.copying.plans import CopySizes
from cachefs.dataflow.engine.service import FlowService
from cachefs.dataflow.handing.programs import HandedOutPrograms
from cachefs.dataflow.handing.targets import HandedOutTargets
from cachefs.dataflow.incoordinator import CoordinatorCache
from cachefs.dataflow.inhints import ServiceHints
from cachefs.dataflow.planning.planner import CachePlanner
from cachefs.dataflow.ports import Hints, StepKind
from cachefs.dataflow.serving.duty import FlowDuty
from cachefs.dataflow.spec.arguments import Backup, Migrate
from cachefs.dataflow.steps.programs.inrooms import RoomPrograms
from cachefs.dataflow.steps.programs.places import Places, ProgramSettings
from cachefs.dataflow.steps.programs.rooms import Rooms
from cachefs.dataflow.steps.registry import Parts, open_kinds
from cachefs.dataflow.steps.rollouts.targets import NoCluster
from cachefs.dataflow.triggers.store import find
from cachefs.fuse.keeping.servers import CODE, module_command
from cachefs.hints.duty import HintDuty
from cachefs.transport.running import main


def run_with_duties(config: CoordinatorConfig, cluster: ClusterConfig, token: Secret) -> int:
    """Run a coordinator that carries out flows and answers for hints, too; return the exit status."""
    return run(config, cluster, token, duties=_duties())


def _duties() -> Sequence[Callable[[Surroundings], Duty]]:
    opened: list[HintDuty] = []

    def hints(parts: Surroundings) -> Duty:
        opened.append(HintDuty(parts))
        return opened[0]

    return (hints, lambda parts: _flows(parts, ServiceHints(opened[0].service)))


def _flows(parts: Surroundings, hints: Hints) -> Duty:
    cache = CoordinatorCache(parts.coordinator)
    plane = DataPlane(cache, parts.cluster, parts.token)
    places = Places(Rooms(parts.runtime), parts.runtime, _program_settings(parts))
    programs, cluster = _elsewhere(parts) or (RoomPrograms(places), NoCluster())

    def open_steps(service: FlowService) -> Mapping[str, StepKind]:
        return open_kinds(
            Parts(
                cache=cache,
                service=service,
                registered=lambda name: _registered(parts, name),
                places=places,
                programs=programs,
                cluster=cluster,
                plane=plane,
                config=parts.config,
                environment=os.environ,
                hints=hints,
            )
        )

    named = parts.config.tenants
    tenants = Tenants(named.trusted, named.sources, named.destinations)

    def measure(namespace: str, given: Migrate | Backup) -> CopySizes:
        sites = Sites(cache, parts.config.origin, plane, tenants=tenants)
        return sizes(sites, Place(parts.runtime, namespace), given)

    planner = CachePlanner(cache, parts.config.flows.planning, measure)
    logs = places if isinstance(programs, RoomPrograms) else programs
    return FlowDuty(parts, open_steps, environment=os.environ, planner=planner, logs=logs)


def _elsewhere(parts: Surroundings) -> tuple[HandedOutPrograms, HandedOutTargets] | None:
    """Return what hands programs and rollouts out; ``None`` where that is not wanted."""
    flows = parts.config.flows
    if not flows.handed_out:
        return None
    patience = flows.executor_seconds
    return (
        HandedOutPrograms(parts.store, parts.runtime, executor_seconds=patience),
        HandedOutTargets(parts.store, parts.runtime, executor_seconds=patience),
    )


def _program_settings(parts: Surroundings) -> ProgramSettings:
    state = os.environ.get("CACHEFS_STATE")
    return ProgramSettings(
        folder=Path(state).absolute() / FLOWS_FOLDER if state else None,
        allowed=parts.config.flows.processes and not parts.config.flows.handed_out,
        environment=os.environ,
        state=Path(state).absolute() if state else None,
        log_bytes=parts.config.flows.process_log_bytes,
        kept_seconds=parts.config.flows.runs_kept_seconds,
        tethered=parts.store.is_shared,
        mounting=(*module_command("cachefs.cli"), "mount", "--foreground"),
        code=CODE,
    )


def _registered(parts: Surroundings, name: str) -> str | None:
    with parts.store.read() as connection:
        found = find(connection, name)
    return found.document if found is not None else None


if __name__ == "__main__":
    sys.exit(main("coordinator", CoordinatorConfig, run_with_duties))
