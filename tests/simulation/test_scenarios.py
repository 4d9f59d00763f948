"""What seeds have found, told again step by step: a seed's meaning changes with the simulation."""

import random

import pytest

from cachefs.errors import IntegrityError
from cachefs.testing.simulation.cluster import Parts, SimCluster
from cachefs.testing.simulation.topology import BLOCK_BYTES, ClusterPlan
from cachefs.testing.simulation.world.control import DATASET

CONTENT = random.Random(1).randbytes(6 * BLOCK_BYTES)


def cluster_of(workers):
    plan = ClusterPlan(
        workers=workers,
        readers=2,
        replicas=1,
        capacity_blocks=20,
        eviction="lru",
        files={"a": CONTENT},
    )
    return SimCluster(1, plan, Parts())


def read(cluster, number):
    """Read everything in a reader's process; return the bytes, or the error."""
    one = cluster.readers[number]
    outcome = []

    def body():
        with one.reader.open(DATASET).file("a") as file:
            try:
                outcome.append(file.read(0, len(CONTENT)))
            except IntegrityError as error:
                outcome.append(error)

    one.process.start("read", body).join()
    return outcome[0]


def rot(cluster):
    """Flip a bit in every block on every drive; nobody wrote, so no stamp changes."""
    for worker in cluster.workers.values():
        for name, inode in worker.drive.files.items():
            if name.endswith(".data"):
                for page in inode.allocated:
                    inode.content[page * BLOCK_BYTES + 7] ^= 4


@pytest.mark.parametrize("workers", [1, 3])
def test_rot_in_every_copy_is_healed_by_the_first_read_that_meets_it(workers):
    cluster = cluster_of(workers)

    def main():
        cluster.start()
        cluster.world.sleep(2.0)
        assert read(cluster, 0) == CONTENT
        rot(cluster)
        paid = cluster.origin.memory.bytes_read
        assert read(cluster, 1) == CONTENT
        assert cluster.origin.memory.bytes_read == 2 * paid
        assert cluster.readers[1].reader.statistics().integrity_failures == 6
        cluster.readers[0].reader.close()
        cluster.readers[1].reader.close()
        fresh = cluster.add_reader()
        assert read(cluster, fresh) == CONTENT
        assert cluster.readers[fresh].reader.statistics().integrity_failures == 0
        cluster.close()

    cluster.world.run(main)


def test_a_worker_that_lies_whatever_it_is_told_is_an_error_and_not_a_wrong_byte():
    cluster = cluster_of(1)

    def main():
        cluster.start()
        cluster.world.sleep(2.0)
        cluster.network.liars.add("worker-0")
        assert isinstance(read(cluster, 0), IntegrityError)
        cluster.network.heal()
        assert read(cluster, 1) == CONTENT
        cluster.close()

    cluster.world.run(main)
