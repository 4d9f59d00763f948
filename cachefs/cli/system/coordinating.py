"""The coordinator that ``cachefs up`` runs: the bare one, and the duties that are composed with it.

``python -m cachefs.cli.system.coordinating --config FILE`` is started and ended as
``python -m cachefs.coordinator`` is, which coordinates and does nothing else.
"""

import os
import sys

from cachefs.config.schema import ClusterConfig, CoordinatorConfig
from cachefs.config.secrets import Secret
from cachefs.coordinator.duties import Duty, Surroundings
from cachefs.coordinator.process import run
from cachefs.dataflow.incoordinator import CoordinatorCache
from cachefs.dataflow.planning.planner import CachePlanner
from cachefs.dataflow.ports import StepKind
from cachefs.dataflow.serving.duty import FlowDuty
from cachefs.dataflow.steps.evicting import EvictStep
from cachefs.dataflow.steps.prefetching import PrefetchStep
from cachefs.dataflow.steps.scaling import ScaleStep
from cachefs.dataflow.steps.waiting import WaitStep
from cachefs.transport.running import main


def run_with_duties(config: CoordinatorConfig, cluster: ClusterConfig, token: Secret) -> int:
    """Run a coordinator that carries out flows, too; return the exit status."""
    return run(config, cluster, token, duties=(_flows,))


def _flows(parts: Surroundings) -> Duty:
    cache = CoordinatorCache(parts.coordinator)
    kinds: dict[str, StepKind] = {
        "scale": ScaleStep(cache),
        "prefetch": PrefetchStep(cache),
        "wait": WaitStep(cache),
        "evict": EvictStep(cache),
    }
    planner = CachePlanner(cache, parts.config.flows.planning)
    return FlowDuty(parts, lambda _: kinds, environment=os.environ, planner=planner)


if __name__ == "__main__":
    sys.exit(main("coordinator", CoordinatorConfig, run_with_duties))
