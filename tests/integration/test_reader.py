"""The reader over real connections, against workers that behave."""

import random
import threading

import pytest

from cachefs.config.schema import ReaderConfig
from cachefs.errors import CoordinatorUnavailableError, NotKnownError
from cachefs.testing.memory.cluster import DATASET, MemoryCluster

BLOCK = 4096
FILES = {
    "config.json": b'{"layers": 3}',
    "empty": b"",
    "model-00001-of-00002.safetensors": random.Random(1).randbytes(40 * BLOCK + 17),
    "model-00002-of-00002.safetensors": random.Random(2).randbytes(8 * BLOCK),
}
SHARD = "model-00001-of-00002.safetensors"
CONTENT = FILES[SHARD]


@pytest.fixture
def cluster():
    with MemoryCluster(FILES, block_size=BLOCK) as cluster:
        yield cluster


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, len(CONTENT)),
        (0, 1),
        (1, 2 * BLOCK),
        (BLOCK - 1, 2),
        (BLOCK, BLOCK),
        (len(CONTENT) - 5, 5),
        (len(CONTENT) - 5, 500),
        (len(CONTENT), 10),
        (len(CONTENT) + 10**9, 10),
        (3, 0),
    ],
)
def test_every_range_reads_as_pread_would(cluster, offset, length):
    file = cluster.reader().open(DATASET).file(SHARD)
    assert file.read(offset, length) == CONTENT[offset : offset + length]


def test_a_buffer_longer_than_the_file_keeps_its_end(cluster):
    file = cluster.reader().open(DATASET).file("config.json")
    buffer = bytearray(b"x" * 40)
    assert file.read_into(0, memoryview(buffer)) == 13
    assert buffer == FILES["config.json"] + b"x" * 27


def test_an_empty_file_is_read_without_asking_anybody(cluster):
    assert cluster.reader().open(DATASET).file("empty").read(0, 100) == b""
    assert not any(worker.requests for worker in cluster.workers)


def test_a_file_that_is_not_there_is_not_known(cluster):
    dataset = cluster.reader().open(DATASET)
    with pytest.raises(NotKnownError):
        dataset.file("model.bin")


def test_a_large_read_asks_each_blocks_owner_once(cluster):
    file = cluster.reader().open(DATASET).file(SHARD)
    assert file.read(0, len(CONTENT)) == CONTENT
    for index in range(41):
        asked = [
            worker.name
            for worker in cluster.workers
            for request in worker.requests
            if request.index == index
        ]
        assert asked == [cluster.order(SHARD, index)[0].name]


def test_bytes_by_source_and_by_zone_add_up_to_what_was_delivered(cluster):
    file_version = cluster.version.manifest.find(SHARD).file_version
    for worker in cluster.workers:
        worker.missing = {(file_version, index) for index in range(10)}
    reader = cluster.reader()
    file = reader.open(DATASET).file(SHARD)
    file.read(0, len(CONTENT))
    file.read(100, 50)
    file.read(150, 50)
    statistics = reader.statistics()
    assert statistics.bytes_by_source == {
        "local": 0,
        "origin": 10 * BLOCK,
        "peer": len(CONTENT) - 10 * BLOCK + 50,
        "memory": 50,
    }
    assert statistics.bytes_delivered == len(CONTENT) + 100
    assert sum(statistics.bytes_by_zone.values()) == len(CONTENT) + 50
    assert statistics.reads == 3


def test_small_reads_of_one_block_fetch_it_once(cluster):
    file = cluster.reader(ReaderConfig(readahead_bytes=0)).open(DATASET).file(SHARD)
    for offset in range(0, BLOCK, 256):
        assert file.read(offset, 256) == CONTENT[offset : offset + 256]
    assert sum(len(worker.requests) for worker in cluster.workers) == 1


def test_reading_forward_in_small_steps_reads_ahead(cluster):
    reader = cluster.reader()
    file = reader.open(DATASET).file(SHARD)
    read = b"".join(file.read(offset, 1000) for offset in range(0, len(CONTENT), 1000))
    assert read == CONTENT
    assert reader.statistics().readahead_blocks > 20
    assert sum(len(worker.requests) for worker in cluster.workers) <= 41 + 8


def test_readahead_goes_on_in_the_next_shard(cluster):
    reader = cluster.reader()
    file = reader.open(DATASET).file(SHARD)
    for offset in range(0, len(CONTENT), 1000):
        file.read(offset, 1000)
    following = cluster.version.manifest.find("model-00002-of-00002.safetensors").file_version
    until = cluster.runtime.monotonic() + 5
    while cluster.runtime.monotonic() < until:
        if any(r.file_version == following for w in cluster.workers for r in w.requests):
            return
        cluster.runtime.sleep(0.01)
    pytest.fail("nobody asked for the next shard")


def test_random_reads_do_not_read_ahead(cluster):
    reader = cluster.reader()
    file = reader.open(DATASET).file(SHARD)
    for index in (30, 3, 17, 39, 9, 24):
        file.read(index * BLOCK, 10)
    assert reader.statistics().readahead_blocks == 0


def test_one_reader_serves_many_threads(cluster):
    reader = cluster.reader()
    dataset = reader.open(DATASET)
    file = dataset.file(SHARD)
    wrong = []

    def read(seed: int) -> None:
        chosen = random.Random(seed)
        for _ in range(30):
            offset, length = chosen.randrange(len(CONTENT)), chosen.randrange(5 * BLOCK)
            if file.read(offset, length) != CONTENT[offset : offset + length]:
                wrong.append((offset, length))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    statistics = reader.statistics()
    assert sum(statistics.bytes_by_source.values()) == statistics.bytes_delivered


def test_closing_a_reader_ends_its_threads(cluster):
    before = {thread.name for thread in threading.enumerate()}
    reader = cluster.reader()
    file = reader.open(DATASET).file(SHARD)
    for offset in range(0, 20 * BLOCK, 1000):
        file.read(offset, 1000)
    reader.close()
    left = {t.name for t in threading.enumerate() if t.name.startswith("cachefs-")} - before
    assert left == set()


def test_a_file_reads_at_its_version_while_the_dataset_moves_on(cluster):
    reader = cluster.reader()
    dataset = reader.open(DATASET)
    for worker in cluster.workers:
        worker.versions = {}
    with pytest.raises((NotKnownError, CoordinatorUnavailableError)):
        reader.open("another")
    assert dataset.file(SHARD).read(0, 10) == CONTENT[:10]


def test_the_last_known_version_opens_when_nobody_answers(cluster):
    reader = cluster.reader()
    version = reader.open(DATASET).version
    for worker in cluster.workers:
        worker.close()
    assert reader.open(DATASET).version == version
    assert reader.open(DATASET, version).version == version


def test_a_reader_without_anybody_to_ask_says_so(cluster):
    reader = cluster.reader()
    for worker in cluster.workers:
        worker.close()
    with pytest.raises(CoordinatorUnavailableError):
        reader.open(DATASET)
