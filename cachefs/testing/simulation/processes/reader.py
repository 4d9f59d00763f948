"""A process that reads, with the real reader and the real local path in it."""

from dataclasses import replace

from cachefs.client.reader import Reader
from cachefs.ports import BlockSource
from cachefs.testing.simulation.processes.worker import TOKEN, Surroundings
from cachefs.testing.simulation.topology import ClusterPlan
from cachefs.testing.simulation.world.control import SimMetadata
from cachefs.testing.simulation.world.fetches import SimBlockSource
from cachefs.transport.local import LocalNode
from cachefs.transport.nearby import NearbyBlockSource


class SimReader:
    """A process that reads."""

    def __init__(  # noqa: PLR0917 - who, where, how, in which world, of what
        self,
        name: str,
        node: str,
        plan: ClusterPlan,
        around: Surroundings,
        make_reader: type[Reader],
        make_local: type[LocalNode],
    ) -> None:
        """Start the process on a node, and a reader in it."""
        self.node = node
        self.process = process = around.world.process(name)
        lines = around.sockets.of(process)
        remote: BlockSource = SimBlockSource(around.network, process)
        self._local = make_local(
            process,
            TOKEN,
            block_size=plan.cluster.block_size,
            digest=plan.cluster.digest,
            node=node,
            timeout_seconds=plan.reader.stall_seconds / 2,
            lines=lines,
        )
        self._nearby = NearbyBlockSource(
            process,
            TOKEN,
            remote,
            block_size=plan.cluster.block_size,
            node=node,
            timeout_seconds=plan.reader.stall_seconds / 2,
            stall_seconds=plan.reader.stall_seconds,
            lines=lines,
        )
        self.reader = make_reader(
            process,
            replace(plan.reader, local=plan.local),
            plan.cluster,
            metadata=SimMetadata(process, around.network, around.directory),
            blocks=self._nearby if plan.local else remote,
            local=self._local,
            node=node,
        )

    def close(self) -> None:
        """End everything in good order, from a task of the process."""
        self.reader.close()
        self._nearby.close()
        self._local.close()
