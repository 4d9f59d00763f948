"""The coordinator that ``cachefs up`` runs: the bare one, and the duties that are composed with it.

``python -m cachefs.cli.system.coordinating --config FILE`` is started and ended as
``python -m cachefs.coordinator`` is, which coordinates and does nothing else.
"""

import sys

from cachefs.config.schema import ClusterConfig, CoordinatorConfig
from cachefs.config.secrets import Secret
from cachefs.coordinator.duties import Duty, Surroundings
from cachefs.coordinator.process import run
from cachefs.dataflow.serving.duty import FlowDuty
from cachefs.transport.running import main


def run_with_duties(config: CoordinatorConfig, cluster: ClusterConfig, token: Secret) -> int:
    """Run a coordinator that carries out flows, too; return the exit status."""
    return run(config, cluster, token, duties=(_flows,))


def _flows(parts: Surroundings) -> Duty:
    return FlowDuty(parts, {})


if __name__ == "__main__":
    sys.exit(main("coordinator", CoordinatorConfig, run_with_duties))
