"""The registry: which kind of step carries out what, for whoever composes a coordinator."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cachefs.config.schema import CoordinatorConfig
from cachefs.core.tenants import Tenants
from cachefs.core.urls import HostRules
from cachefs.dataflow.copying.datasets import DataPlane
from cachefs.dataflow.copying.ends import Sites
from cachefs.dataflow.engine.service import FlowService
from cachefs.dataflow.ports import Cache, Hints, NoHints, StepKind
from cachefs.dataflow.spec.model import Kind, Value
from cachefs.dataflow.steps.backing_up import BackupStep
from cachefs.dataflow.steps.confining import ConfinedStep
from cachefs.dataflow.steps.evicting import EvictStep
from cachefs.dataflow.steps.migrating import MigrateStep
from cachefs.dataflow.steps.notifying import NotifyStep
from cachefs.dataflow.steps.prefetching import PrefetchStep
from cachefs.dataflow.steps.processing import ProcessStep
from cachefs.dataflow.steps.programs.places import Places
from cachefs.dataflow.steps.programs.running import Programs
from cachefs.dataflow.steps.publishing import PublishStep
from cachefs.dataflow.steps.rollingout import RolloutStep
from cachefs.dataflow.steps.rollouts.local import LocalTargets
from cachefs.dataflow.steps.rollouts.targets import NoCluster, Targets
from cachefs.dataflow.steps.scaling import ScaleStep
from cachefs.dataflow.steps.subflows import FlowStep, Registered
from cachefs.dataflow.steps.verifying import VerifyStep
from cachefs.dataflow.steps.waiting import WaitStep
from cachefs.origins.addresses import Addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What steps are made from."""

    cache: Cache
    service: FlowService
    registered: Registered
    places: Places
    programs: Programs
    """Runs those of steps."""
    plane: DataPlane
    config: CoordinatorConfig
    environment: Mapping[str, str]
    """Where secrets are looked up."""
    hints: Hints = field(default_factory=NoHints)
    """Whether replicas would be ready in time."""
    cluster: Targets = field(default_factory=NoCluster)
    """Finds the targets that are not of this machine."""


def open_kinds(parts: Parts) -> dict[str, StepKind]:
    """Return what carries out each kind; ``approve`` needs nobody but the machine."""
    origin = parts.config.origin
    addresses = Addresses(HostRules(origin.allowed_hosts, origin.allow_private))

    def summarise(run: str) -> Mapping[str, Value]:
        status = parts.service.get(run)
        return {
            "run": run,
            "flow": status.run.flow,
            # While ``finally`` runs, what it will end as says more than that it runs.
            "state": status.run.ending or status.run.state,
            "failure": status.run.failure,
            "steps": {one.id: one.state for one in status.steps},
        }

    named = parts.config.tenants
    tenants = Tenants(named.trusted, named.sources, named.destinations)
    sites = Sites(parts.cache, origin, parts.plane, tenants=tenants)
    found: dict[Kind, StepKind] = {
        "migrate": MigrateStep(parts.cache, sites),
        "backup": BackupStep(sites),
        "verify": VerifyStep(parts.cache, parts.plane),
        "scale": ScaleStep(parts.cache),
        "prefetch": PrefetchStep(parts.cache),
        "wait": WaitStep(parts.cache),
        "publish": PublishStep(parts.cache),
        "evict": EvictStep(parts.cache),
        "notify": NotifyStep(addresses, parts.environment, summarise, tenants=tenants),
        "process": ProcessStep(parts.programs),
        "rollout": RolloutStep(
            LocalTargets(parts.places, parts.cluster), parts.programs, parts.hints
        ),
        "flow": FlowStep(parts.service, parts.registered),
    }
    return {
        kind: ConfinedStep(
            kind,
            step,
            tenants=tenants,
            cache=parts.cache,
            programs_here=not parts.config.flows.handed_out,
        )
        for kind, step in found.items()
    }
