"""The reader against workers that die, stall, lie and answer nonsense: right bytes, or an error."""

import random
import threading
from dataclasses import replace

import pytest

from cachefs.client import remote
from cachefs.config.schema import ReaderConfig
from cachefs.errors import (
    CapacityError,
    CoordinatorUnavailableError,
    DeadlineError,
    DeniedError,
    IntegrityError,
    OriginChangedError,
    OriginUnavailableError,
    WorkerUnavailableError,
)
from cachefs.testing.memory.cluster import DATASET, MemoryCluster
from cachefs.transport.metadata import HttpMetadata

BLOCK = 4096
CONTENT = random.Random(3).randbytes(12 * BLOCK + 5)
IMPATIENT = ReaderConfig(
    deadline_seconds=5.0,
    stall_seconds=0.3,
    hedge_seconds_min=0.05,
    readahead_bytes=0,
    attempts_limit=8,
)
UNHEDGED = ReaderConfig(
    deadline_seconds=5.0, stall_seconds=0.3, hedge_seconds_min=60.0, readahead_bytes=0
)


@pytest.fixture
def cluster():
    with MemoryCluster({"a": CONTENT}, block_size=BLOCK) as cluster:
        yield cluster


def always(fault):
    return lambda _: fault


@pytest.mark.parametrize(
    "fault",
    [
        "close",
        "stall",
        "stall_in_body",
        "close_in_body",
        "short",
        "other_range",
        "garbage",
        "html",
        "corrupt",
        "lie",
    ],
)
def test_a_worker_with_a_fault_costs_no_byte(cluster, fault):
    cluster.workers[0].fault = always(fault)
    reader = cluster.reader(UNHEDGED)
    assert reader.open(DATASET).file("a").read(0, len(CONTENT)) == CONTENT
    assert cluster.workers[0].requests
    assert reader.statistics().retries >= 1


@pytest.mark.parametrize("fault", ["corrupt", "lie"])
def test_wrong_bytes_are_counted_and_their_server_is_named(cluster, fault):
    cluster.workers[1].fault = always(fault)
    reader = cluster.reader(UNHEDGED)
    reader.open(DATASET).file("a").read(0, len(CONTENT))
    statistics = reader.statistics()
    assert statistics.integrity_failures >= 1
    assert set(statistics.suspects) == {"w1"}


def test_without_a_digest_beforehand_damage_on_the_way_is_still_found(cluster):
    for worker in cluster.workers:
        worker.digest_lists = False
    cluster.workers[1].fault = always("corrupt")
    reader = cluster.reader(UNHEDGED)
    assert reader.open(DATASET).file("a").read(0, len(CONTENT)) == CONTENT
    assert set(reader.statistics().suspects) == {"w1"}


def test_if_everybody_serves_wrong_bytes_it_is_an_integrity_error(cluster):
    for worker in cluster.workers:
        worker.fault = always("corrupt")
    file = cluster.reader(IMPATIENT).open(DATASET).file("a")
    with pytest.raises(IntegrityError, match="a block"):
        file.read(0, 10)


def test_a_worker_that_is_killed_in_the_middle_of_a_read_costs_no_byte(cluster):
    reader = cluster.reader(UNHEDGED)
    file = reader.open(DATASET).file("a")
    file.read(0, 100)
    cluster.workers[2].fault = lambda _: threading.Thread(target=cluster.workers[2].close).start()
    assert file.read(0, len(CONTENT)) == CONTENT


def test_with_all_workers_dead_the_error_names_whom_it_asked(cluster):
    reader = cluster.reader(IMPATIENT)
    file = reader.open(DATASET).file("a")
    file.read(0, 1)
    for worker in cluster.workers:
        worker.close()
    with pytest.raises((DeadlineError, WorkerUnavailableError), match=r"w0: .*w1: |w1: .*w0: "):
        file.read(BLOCK, 10)


def test_a_read_ends_by_its_deadline_though_everybody_stalls(cluster):
    for worker in cluster.workers:
        worker.fault = always("stall")
    config = ReaderConfig(deadline_seconds=1.0, stall_seconds=30.0, readahead_bytes=0)
    reader = cluster.reader(config)
    file = reader.open(DATASET).file("a")
    began = cluster.runtime.monotonic()
    with pytest.raises(DeadlineError):
        file.read(0, len(CONTENT))
    assert cluster.runtime.monotonic() - began < 3.0


def test_the_deadline_holds_however_slowly_bytes_drip(cluster):
    """Each byte is progress, and yet the read must end."""
    for worker in cluster.workers:
        worker.fault = always("fill")
        worker.fill_seconds = 60.0
    config = ReaderConfig(deadline_seconds=0.8, stall_seconds=0.3, readahead_bytes=0)
    file = cluster.reader(config).open(DATASET).file("a")
    began = cluster.runtime.monotonic()
    with pytest.raises(DeadlineError):
        file.read(0, 10)
    assert cluster.runtime.monotonic() - began < 2.5


def test_digests_that_nobody_tells_in_time_are_not_waited_for_by_every_read(cluster, monkeypatch):
    asked = []

    def wait_in_vain(self, file, *, deadline):
        asked.append(file)
        cluster.runtime.sleep(deadline - cluster.runtime.monotonic())
        raise CoordinatorUnavailableError("its store stands still")

    monkeypatch.setattr(HttpMetadata, "digests", wait_in_vain)
    monkeypatch.setattr(remote, "_DIGESTS_SECONDS", 0.6)
    config = ReaderConfig(view_seconds=0.5, block_cache_bytes=0, readahead_bytes=0)
    file = cluster.reader(config).open(DATASET).file("a")
    for _ in range(5):
        assert file.read(0, 10) == CONTENT[:10]
    assert len(asked) == 1


def test_a_slow_owner_is_overtaken_by_the_next_that_holds_the_block(cluster):
    owner = cluster.order("a", 0)[0]
    owner.fault = always("stall")
    reader = cluster.reader(ReaderConfig(stall_seconds=5.0, hedge_seconds_min=0.05))
    began = cluster.runtime.monotonic()
    assert reader.open(DATASET).file("a").read(0, BLOCK) == CONTENT[:BLOCK]
    assert cluster.runtime.monotonic() - began < 2.0
    statistics = reader.statistics()
    assert statistics.hedges == statistics.hedges_won == 1
    assert sum(statistics.bytes_by_source.values()) == BLOCK


def test_a_hedge_never_causes_a_fill(cluster):
    file_version = cluster.version.manifest.find("a").file_version
    for worker in cluster.workers:
        worker.missing = {(file_version, 0)}
        worker.fill_seconds = 0.4
    reader = cluster.reader(ReaderConfig(stall_seconds=5.0, hedge_seconds_min=0.02))
    assert reader.open(DATASET).file("a").read(0, BLOCK) == CONTENT[:BLOCK]
    owner, second = cluster.order("a", 0)[:2]
    assert [request.only_cached for request in owner.requests] == [False]
    assert [request.only_cached for request in second.requests] == [True]
    assert (file_version, 0) in second.missing


def losing(cluster):
    """Read while one worker answers nothing; return how many blocks it owns, and how often it was asked."""
    slow = cluster.workers[0]
    slow.fault = always("stall")
    reader = cluster.reader(
        ReaderConfig(stall_seconds=5.0, hedge_seconds_min=0.02, connections_limit=1)
    )
    file = reader.open(DATASET).file("a")
    assert file.read(0, len(CONTENT)) == CONTENT
    owned = sum(1 for index in range(13) if cluster.order("a", index)[0] is slow)
    return owned, len([request for request in slow.requests if not request.only_cached])


def test_a_worker_that_keeps_losing_to_replicas_is_asked_last_for_a_while():
    with MemoryCluster({"a": CONTENT}, block_size=BLOCK, replicas=2) as cluster:
        owned, asked = losing(cluster)
        assert owned > 3 == asked


def test_an_owner_that_loses_to_copies_for_a_crowd_is_busy_and_stays_the_first_who_is_asked(
    cluster,
):
    owned, asked = losing(cluster)
    assert owned == asked > 3


@pytest.fixture
def referring(cluster):
    """Return a cluster in which each worker refers those who may be to the next one."""
    for worker, following in zip(
        cluster.workers, cluster.workers[1:] + cluster.workers[:1], strict=True
    ):
        worker.refers_to = following.name
    return cluster


def asked_as_replicas(cluster):
    return [
        request for worker in cluster.workers for request in worker.requests if request.from_peers
    ]


def test_a_reader_goes_where_it_is_referred_to_and_no_further(referring):
    reader = referring.reader(UNHEDGED)
    assert reader.open(DATASET).file("a").read(0, len(CONTENT)) == CONTENT
    asked = [request for worker in referring.workers for request in worker.requests]
    assert len(asked_as_replicas(referring)) == 13
    assert len(asked) == 26
    assert reader.statistics().bytes_by_source["peer"] == len(CONTENT)


def test_a_replica_that_has_no_copy_leads_back_to_the_owner(referring):
    file_version = referring.version.manifest.find("a").file_version
    for worker in referring.workers:
        worker.fault = lambda request: "close" if request.only_cached else None
    owner = referring.order("a", 0)[0]
    for worker in referring.workers:
        if worker is not owner:
            worker.missing = {(file_version, 0)}
    reader = referring.reader(UNHEDGED)
    assert reader.open(DATASET).file("a").read(0, BLOCK) == CONTENT[:BLOCK]
    assert [request.from_peers for request in owner.requests] == [False, False]
    assert reader.statistics().retries == 0


@pytest.mark.parametrize("fault", ["close", "stall", "close_in_body", "corrupt", "lie", "garbage"])
def test_a_replica_with_a_fault_costs_no_byte_and_is_left_alone_for_a_while(referring, fault):
    for worker in referring.workers:
        worker.fault = lambda request: fault if request.from_peers else None
    reader = referring.reader(replace(UNHEDGED, stall_seconds=0.6, connections_limit=1))
    assert reader.open(DATASET).file("a").read(0, 4 * BLOCK) == CONTENT[: 4 * BLOCK]
    asked = {(worker.name, each.index) for worker in referring.workers for each in worker.requests}
    as_replica = [each.index for each in asked_as_replicas(referring)]
    assert as_replica
    assert len(set(as_replica)) < 4, "a worker that failed was asked again"
    assert {index for _, index in asked} == {0, 1, 2, 3}


@pytest.mark.parametrize("name", ["nobody", "w0 w1", ""])
def test_a_referral_to_nobody_leads_back_to_the_owner(cluster, name):
    for worker in cluster.workers:
        worker.refers_to = name
    reader = cluster.reader(UNHEDGED)
    assert reader.open(DATASET).file("a").read(0, len(CONTENT)) == CONTENT
    assert not asked_as_replicas(cluster)


def test_what_the_origin_says_at_a_replica_is_not_the_last_word(referring):
    for worker in referring.workers:
        worker.fault = lambda request: (
            OriginUnavailableError("it is down") if request.from_peers else None
        )
    reader = referring.reader(UNHEDGED)
    assert reader.open(DATASET).file("a").read(0, len(CONTENT)) == CONTENT
    assert reader.statistics().retries == 0


def test_an_error_of_the_origin_is_final(cluster):
    for worker in cluster.workers:
        worker.fault = always(OriginChangedError("it has moved on", subject="a"))
    reader = cluster.reader(IMPATIENT)
    file = reader.open(DATASET).file("a")
    with pytest.raises(OriginChangedError, match="it has moved on"):
        file.read(0, 10)
    assert sum(len(worker.requests) for worker in cluster.workers) == 1


def test_a_replica_that_holds_the_block_makes_up_for_the_origin():
    with MemoryCluster({"a": CONTENT}, block_size=BLOCK, replicas=2) as cluster:
        cluster.order("a", 0)[0].fault = always(OriginUnavailableError("down"))
        reader = cluster.reader(IMPATIENT)
        assert reader.open(DATASET).file("a").read(0, 10) == CONTENT[:10]
        assert [request.only_cached for request in cluster.order("a", 0)[1].requests] == [True]


def test_a_worker_at_its_limit_is_passed_over(cluster):
    cluster.order("a", 0)[0].fault = always(CapacityError("no room"))
    reader = cluster.reader(IMPATIENT)
    assert reader.open(DATASET).file("a").read(0, 10) == CONTENT[:10]


def test_a_wrong_token_ends_the_read_at_once(cluster):
    reader = cluster.reader(IMPATIENT)
    file = reader.open(DATASET).file("a")
    file.read(0, 1)
    for worker in cluster.workers:
        worker.token = "changed"
    with pytest.raises(DeniedError):
        file.read(BLOCK, 10)


def test_connections_that_were_closed_while_idle_are_replaced(cluster):
    reader = cluster.reader(UNHEDGED)
    file = reader.open(DATASET).file("a")
    file.read(0, len(CONTENT))
    for worker in cluster.workers:
        worker.drop_connections()
    cluster.runtime.sleep(0.05)
    assert file.read(0, len(CONTENT)) == CONTENT
    assert reader.statistics().retries == 0


def test_a_view_without_the_dead_is_taken_up(cluster):
    reader = cluster.reader(ReaderConfig(view_seconds=0.05, readahead_bytes=0))
    file = reader.open(DATASET).file("a")
    file.read(0, 10)
    cluster.show(*cluster.workers[1:], epoch=2)
    cluster.workers[0].close()
    file.read(0, len(CONTENT))
    cluster.runtime.sleep(0.3)
    file.read(0, 10)
    view = reader.views.current(deadline=cluster.runtime.monotonic() + 5)
    assert [member.worker for member in view.members] == ["w1", "w2"]


def test_an_interrupt_leaves_nobody_writing_into_the_buffer(cluster):
    class Interrupted(BaseException):
        pass

    def interrupt(_):
        raise Interrupted

    reader = cluster.reader(UNHEDGED)
    file = reader.open(DATASET).file("a")
    file.read(0, 1)
    inner = reader.fetcher.fetch
    calls = []

    def fetch(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            interrupt(None)
        return inner(*arguments, **options)

    reader.fetcher.fetch = fetch
    buffer = bytearray(len(CONTENT))
    with pytest.raises(Interrupted):
        file.read_into(0, memoryview(buffer))
    before = bytes(buffer)
    cluster.runtime.sleep(0.2)
    assert bytes(buffer) == before
    reader.fetcher.fetch = inner
    assert file.read(0, len(CONTENT)) == CONTENT
