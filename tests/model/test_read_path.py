"""The read path against a dictionary: whatever happens in whatever order, a read gives its bytes."""

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cachefs.errors import CacheFSError
from cachefs.testing.simulation.cluster import BLOCK_BYTES, ClusterPlan, Parts, SimCluster
from cachefs.testing.simulation.processes.coordinator import DATASET

PATHS = ("a", "b/c", "empty")
SIZES = {"a": 5 * BLOCK_BYTES, "b/c": 2 * BLOCK_BYTES + 100, "empty": 0}
WORKERS = 3

numbers = st.integers(0, WORKERS - 1)
operations = st.one_of(
    st.tuples(
        st.just("read"),
        st.sampled_from(PATHS),
        st.integers(0, 6 * BLOCK_BYTES),
        st.integers(0, 6 * BLOCK_BYTES),
    ),
    st.tuples(st.just("write"), st.sampled_from(PATHS), st.integers(0, 3 * BLOCK_BYTES)),
    st.tuples(st.just("evict"), numbers),
    st.tuples(st.just("warm")),
    st.tuples(st.just("kill"), numbers),
    st.tuples(st.just("power"), numbers),
    st.tuples(st.just("damage"), numbers),
    st.tuples(st.just("wait"), st.floats(0.0, 6.0)),
)


class Machine:
    """A cluster, and the dictionary that cannot be wrong."""

    def __init__(self, seed):
        random = Random(seed)
        self.truth = {path: random.randbytes(SIZES[path]) for path in PATHS}
        self.random = random
        self.cluster = SimCluster(
            seed,
            ClusterPlan(
                workers=WORKERS,
                readers=1,
                replicas=1,
                capacity_blocks=4,
                eviction="lru",
                files=self.truth,
            ),
            Parts(),
        )

    def run(self, wanted):
        self.cluster.world.run(lambda: self._main(wanted), until_seconds=10_000)

    def _main(self, wanted):
        self.cluster.start()
        self.cluster.world.sleep(1.0)
        for name, *arguments in wanted:
            getattr(self, f"_{name}")(*arguments)
        self.cluster.close()

    def _read(self, path, offset, length):
        process = self.cluster.readers[0].process
        given = []

        def body():
            file = self.cluster.readers[0].reader.open(DATASET).file(path)
            with file:
                given.append(file.read(offset, length))

        process.start("read", body).join()
        assert given == [self.truth[path][offset : offset + length]]

    def _write(self, path, size):
        self.truth[path] = self.random.randbytes(size)
        self.cluster.origin.memory.put(path, self.truth[path])
        self.cluster.list_origin()

    def _evict(self, number):
        store = self._worker(number).store
        if store is not None:
            names = [each.file_version for each in store.residency()]
            self.cluster.workers[f"worker-{number}"].process.start(
                "evict", lambda: store.evict(names)
            ).join()

    def _warm(self):
        self.cluster.warm("model")

    def _kill(self, number):
        self._restart(number, power=False)

    def _power(self, number):
        self._restart(number, power=True)

    def _restart(self, number, *, power):
        worker = self._worker(number)
        worker.kill(power=power)
        worker.start()

    def _damage(self, number):
        self._worker(number).drive.damage()

    def _wait(self, seconds):
        self.cluster.world.sleep(seconds)

    def _worker(self, number):
        return self.cluster.workers[f"worker-{number}"]


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(operations, max_size=25), st.integers(0, 2**16))
def test_a_read_gives_the_bytes_of_the_current_version_whatever_came_before(wanted, seed):
    Machine(seed).run(wanted)


def test_the_model_finds_a_reader_that_gives_wrong_bytes():
    machine = Machine(1)
    machine.truth["a"] = bytes(SIZES["a"])
    with pytest.raises(AssertionError):
        machine.run([("read", "a", 0, 100)])


def test_the_model_finds_a_read_that_fails():
    machine = Machine(1)
    machine.cluster.origin.memory.remove("a")
    with pytest.raises((CacheFSError, AssertionError)):
        machine.run([("read", "a", 0, 100)])
