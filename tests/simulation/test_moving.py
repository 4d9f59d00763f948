"""Joins and drains under readers: what must move does, nothing else does, and the origin pays nothing."""

from random import Random

import pytest

from cachefs.core import placement
from cachefs.core.blocks import BlockId, block_count, block_range
from cachefs.errors import CacheFSError
from cachefs.testing.simulation.cluster import Parts, SimCluster
from cachefs.testing.simulation.processes.worker import WorkerParts
from cachefs.testing.simulation.topology import BLOCK_BYTES, ClusterPlan
from cachefs.testing.simulation.world.control import DATASET
from cachefs.workers.moving import Mover

MOVED_MAX = 1.1
"""Bytes moved ÷ bytes that must move."""
SETTLE_SECONDS = 20.0


def cluster_of(seed, *, workers=3, zones=1, replicas=1, parts=None):
    random = Random(seed)
    files = {f"f{n}": random.randbytes(random.randrange(1, 24 * BLOCK_BYTES)) for n in range(4)}
    plan = ClusterPlan(
        workers=workers,
        readers=2,
        replicas=replicas,
        zones=zones,
        capacity_blocks=200,
        eviction="lru",
        files=files,
    )
    return SimCluster(seed, plan, parts or Parts())


class Moves:
    """What moves between two moments, and what must."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.must = 0
        self.began = self._taken()

    def _taken(self):
        return {
            name: worker.filler.statistics().filled_bytes["peer"]
            for name, worker in self.cluster.workers.items()
            if worker.filler is not None
        }

    def add(self, members):
        """Add what these members will own and lack, of what anybody holds."""
        version = self.cluster.coordinator.known_version(None)
        for entry in version.manifest.files:
            for index in range(block_count(entry.size, BLOCK_BYTES)):
                holders = {
                    name
                    for name, worker in self.cluster.workers.items()
                    if worker.store is not None and worker.store.holds(entry.file_version, index)
                }
                block = BlockId(entry.file_version, index)
                owners = placement.owners(
                    block, members, pool=version.pool, replicas=version.replicas
                )
                lacking = [owner for owner in owners if owner.worker not in holders]
                size = block_range(index, entry.size, BLOCK_BYTES).length
                self.must += size * len(lacking) if holders else 0

    @property
    def moved(self):
        return sum(size - self.began.get(name, 0) for name, size in self._taken().items())


def read_on(cluster, number, wrong, ended):
    """Read at random in a reader's process until told to end."""
    one = cluster.readers[number]
    random = Random(number)
    contents = cluster.plan.files

    def body():
        dataset = one.reader.open(DATASET)
        while not ended:
            path = random.choice(sorted(contents))
            with dataset.file(path) as file:
                offset = random.randrange(len(contents[path]))
                length = random.randrange(1, 3 * BLOCK_BYTES)
                try:
                    if file.read(offset, length) != contents[path][offset : offset + length]:
                        wrong.append((path, offset))
                except CacheFSError as error:
                    wrong.append(error)
            one.process.sleep(random.uniform(0.0, 0.2))

    return one.process.start("read", body)


def played(seed, story, *, reading=True, **options):
    """Warm everything, play a story under readers, and return the moves; all bytes were right."""
    cluster = cluster_of(seed, **options)
    outcome = []

    def main():
        cluster.start()
        cluster.world.sleep(3.0)
        cluster.warm("all")
        cluster.world.sleep(5.0)
        paid = cluster.origin.memory.bytes_read
        assert paid == sum(map(len, cluster.plan.files.values()))
        wrong, ended = [], []
        readers = [read_on(cluster, number, wrong, ended) for number in range(2 * reading)]
        moves = Moves(cluster)
        story(cluster, moves)
        cluster.world.sleep(SETTLE_SECONDS)
        ended.append(True)
        for reader in readers:
            reader.join()
        assert wrong == []
        assert cluster.origin.memory.bytes_read == paid, "it cost the origin bytes"
        outcome.append(moves.moved / max(1, moves.must))
        _check_owners_hold(cluster)
        cluster.close()

    cluster.world.run(main)
    return outcome[0]


def _check_owners_hold(cluster):
    version = cluster.coordinator.known_version(None)
    for entry in version.manifest.files:
        for index in range(block_count(entry.size, BLOCK_BYTES)):
            for name in cluster.owners(version, BlockId(entry.file_version, index)):
                held = cluster.workers[name].store.holds(entry.file_version, index)
                assert held, f"{name} owns {entry.path}#{index} and lacks it"


def join(count):
    def story(cluster, moves):
        names = [f"worker-{len(cluster.workers) + n}" for n in range(count)]
        joining = [cluster.add_worker(name) for name in names]
        members = [*cluster.view().members, *(worker._member() for worker in joining)]
        moves.add(members)
        for worker in joining:
            worker.start()

    return story


def drain(name):
    def story(cluster, moves):
        moves.add([each for each in cluster.view().members if each.worker != name])
        cluster.drain(name).join()

    return story


def join_and_drain(cluster, moves):
    join(1)(cluster, moves)
    cluster.world.sleep(SETTLE_SECONDS)
    drain("worker-0")(cluster, moves)


def test_a_newcomer_gets_its_share_although_nobody_reads():
    assert played(1, join(1), reading=False) == 1.0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("story", [join(1), join(3), drain("worker-1"), join_and_drain])
def test_only_what_must_move_moves(seed, story):
    options = {"zones": 1 + seed % 3, "replicas": 1 + seed % 2}
    assert 0.9 <= played(seed, story, **options) <= MOVED_MAX


def test_the_story_is_noticed_if_nothing_is_moved():
    class Idle(Mover):
        def _look(self):
            pass

    with pytest.raises(AssertionError, match="and lacks it"):
        played(1, join(1), reading=False, parts=Parts(worker=WorkerParts(mover=Idle)))
