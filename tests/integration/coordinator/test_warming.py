"""Warm-ups: driven tick by tick, with coordinators and workers that come and go."""

from dataclasses import replace
from itertools import pairwise

import pytest

from cachefs.coordinator.warming import FailedFill, WarmOptions
from cachefs.core.names import DatasetName
from cachefs.errors import (
    CapacityError,
    NotKnownError,
    OriginChangedError,
    OriginNotFoundError,
    OriginUnavailableError,
)
from cachefs.wire import failures
from tests.integration.coordinator.conftest import (
    CLUSTER,
    Kit,
    declared,
    join,
    member,
    renew,
    report,
)

NAME = DatasetName("default", "d")


@pytest.fixture
def warmable(kit: Kit) -> Kit:
    kit.origin("memory://a", {"a/x": b"x" * 950, "a/y": b"y" * 150, "z": b"", "empty/e": b""})
    return kit


def prepared(kit: Kit, *workers: str, **fields):
    coordinator = kit.coordinator()
    coordinator.catalogue.add(declared("d", **fields), {})
    join(coordinator, *workers)
    return coordinator


def fill(coordinator, kit: Kit, job: str, worker: str) -> None:
    """Let a worker do what it was told."""
    told = kit.workers.told.get((job, worker), {})
    renew(coordinator, worker, *(report(file, mask) for file, mask in told.items()))


def test_a_warm_up_is_done_when_every_owner_holds_its_blocks(warmable: Kit):
    coordinator = prepared(warmable, "one", "two", replicas=2)
    job = coordinator.warming.start(NAME, None, ())
    assert (job.state, job.blocks_total, job.bytes_total) == ("waiting", 12, 1100)
    warmable.settle(coordinator)
    assert coordinator.warming.get(job.id).state == "running"
    fill(coordinator, warmable, job.id, "one")
    warmable.settle(coordinator)
    assert coordinator.warming.get(job.id).blocks_done == 0
    fill(coordinator, warmable, job.id, "two")
    warmable.settle(coordinator)
    done = coordinator.warming.get(job.id)
    assert (done.state, done.blocks_done, done.bytes_done) == ("done", 12, 1100)
    assert done.ended_at >= done.started_at > 0
    assert warmable.workers.told[job.id, "one"] == {}


def test_a_worker_is_told_its_whole_share_once_while_it_makes_progress(warmable: Kit):
    coordinator = prepared(warmable, "one")
    job = coordinator.warming.start(NAME, None, ())
    warmable.settle(coordinator, 5)
    assert warmable.workers.calls.count(("warm", "one")) == 1
    shares = warmable.workers.told[job.id, "one"]
    assert sum(mask.bit_count() for mask in shares.values()) == 12


def test_only_the_paths_that_were_asked_for_are_warmed(warmable: Kit):
    coordinator = prepared(warmable, "one")
    job = coordinator.warming.start(NAME, None, ["a/y", "z"])
    assert (job.blocks_total, job.bytes_total) == (2, 150)
    with pytest.raises(NotKnownError):
        coordinator.warming.start(NAME, None, ["nothing"])


def test_files_without_bytes_are_warm_at_once(warmable: Kit):
    coordinator = prepared(warmable, "one")
    job = coordinator.warming.start(NAME, None, ["empty"])
    warmable.settle(coordinator)
    assert coordinator.warming.get(job.id).state == "done"


def test_what_is_resident_already_is_not_asked_for_again(warmable: Kit):
    coordinator = prepared(warmable, "one")
    first = coordinator.warming.start(NAME, None, ())
    warmable.settle(coordinator)
    fill(coordinator, warmable, first.id, "one")
    again = coordinator.warming.start(NAME, None, ())
    warmable.settle(coordinator)
    assert coordinator.warming.get(again.id).state == "done"
    assert (again.id, "one") not in warmable.workers.told or not warmable.workers.told[
        again.id, "one"
    ]


def test_a_coordinator_that_was_killed_goes_on_to_the_same_end(warmable: Kit):
    first = prepared(warmable, "one", "two")
    job = first.warming.start(NAME, None, ())
    warmable.settle(first)
    fill(first, warmable, job.id, "one")
    first.tick()
    before = first.warming.get(job.id)
    warmable.workers.told.clear()
    second = warmable.coordinator()
    for _ in range(6):  # where several may lead, the killed one does so for one more lease
        warmable.settle(second, 1)
        warmable.runtime.skip(CLUSTER.lease_seconds / 4)
        for worker in ("one", "two"):
            renew(second, worker)
    assert second.warming.get(job.id).blocks_done == before.blocks_done > 0
    fill(second, warmable, job.id, "two")
    warmable.settle(second)
    done = second.warming.get(job.id)
    assert (done.state, done.bytes_done) == ("done", 1100)


def test_a_worker_that_comes_back_is_told_again(warmable: Kit):
    coordinator = prepared(warmable, "one")
    job = coordinator.warming.start(NAME, None, ())
    warmable.settle(coordinator)
    warmable.workers.told.clear()
    coordinator.members.register(member("one", incarnation="2"), CLUSTER.fingerprint())
    warmable.settle(coordinator)
    assert warmable.workers.told[job.id, "one"]


def test_a_worker_that_cannot_be_told_is_told_when_it_can(warmable: Kit):
    coordinator = prepared(warmable, "one")
    warmable.workers.down.add("one")
    job = coordinator.warming.start(NAME, None, ())
    warmable.settle(coordinator)
    assert warmable.workers.told == {}
    warmable.workers.down.clear()
    warmable.runtime.skip(1.1)
    warmable.settle(coordinator)
    assert warmable.workers.told[job.id, "one"]


def test_a_worker_that_gets_no_further_is_told_again_at_growing_intervals(warmable: Kit):
    coordinator = prepared(warmable, "one")
    coordinator.warming.start(NAME, None, ())
    warmable.settle(coordinator)
    told = []
    for second in range(1, 41):
        warmable.runtime.skip(1)
        renew(coordinator, "one", failures=[])
        before = len(warmable.workers.calls)
        warmable.settle(coordinator, 1)
        if len(warmable.workers.calls) > before:
            told.append(second)
    gaps = [later - earlier for earlier, later in pairwise([0, *told])]
    assert gaps[0] in (5, 6)
    assert all(later > 1.5 * earlier for earlier, later in pairwise(gaps))
    assert len(gaps) >= 3
    assert renew(coordinator, "one").want_residency  # what is recorded of it may be wrong


def failed(coordinator, job, error, path="a/x"):
    entry = coordinator.catalogue.manifest(job.version).find(path)
    return FailedFill(job.dataset, job.version, entry.file_version, 3, error)


def test_a_permanent_failure_of_a_wanted_block_fails_the_job(warmable: Kit):
    coordinator = prepared(warmable, "one")
    job = coordinator.warming.start(NAME, None, ["a/x"])
    other = coordinator.warming.start(NAME, None, ["a/y"])
    warmable.settle(coordinator)
    error = OriginChangedError("it has changed", subject="a/x")
    renew(coordinator, "one", failures=[failed(coordinator, job, error)])
    ended = coordinator.warming.get(job.id)
    assert ended.state == "failed"
    assert isinstance(failures.decode(ended.failure.encode()), OriginChangedError)
    assert coordinator.warming.get(other.id).state == "running"


def test_a_retryable_failure_does_not_fail_the_job(warmable: Kit):
    coordinator = prepared(warmable, "one")
    job = coordinator.warming.start(NAME, None, ())
    warmable.settle(coordinator)
    error = OriginUnavailableError("wait")
    renew(coordinator, "one", failures=[failed(coordinator, job, error)])
    assert coordinator.warming.get(job.id).state == "running"


def test_a_failure_of_another_version_does_not_fail_the_job(warmable: Kit):
    coordinator = prepared(warmable, "one")
    job = coordinator.warming.start(NAME, None, ())
    stranger = replace(failed(coordinator, job, OriginNotFoundError("gone")), version="0" * 40)
    renew(coordinator, "one", failures=[stranger])
    assert coordinator.warming.get(job.id).active


def test_a_cancelled_job_is_forgotten_by_the_workers(warmable: Kit):
    coordinator = prepared(warmable, "one")
    job = coordinator.warming.start(NAME, None, ())
    warmable.settle(coordinator)
    assert coordinator.warming.cancel(job.id).state == "cancelled"
    warmable.settle(coordinator)
    assert warmable.workers.told[job.id, "one"] == {}
    assert coordinator.warming.cancel(job.id).state == "cancelled"
    calls = len(warmable.workers.calls)
    warmable.settle(coordinator)
    assert len(warmable.workers.calls) == calls
    with pytest.raises(NotKnownError):
        coordinator.warming.cancel("none")


def test_only_so_many_jobs_run_at_once(warmable: Kit):
    warmable.config = replace(warmable.config, warm_jobs_limit=2)
    coordinator = prepared(warmable, "one")
    jobs = [coordinator.warming.start(NAME, None, ()) for _ in range(3)]
    warmable.settle(coordinator)
    assert coordinator.warming.counts() == {"waiting": 1, "running": 2}
    coordinator.warming.cancel(jobs[0].id)
    warmable.settle(coordinator)
    assert coordinator.warming.counts() == {"waiting": 0, "running": 2}


def test_a_job_without_progress_fails_in_the_end(warmable: Kit):
    coordinator = prepared(warmable)
    job = coordinator.warming.start(NAME, None, ())
    warmable.settle(coordinator)
    warmable.runtime.skip(warmable.config.warm_stall_seconds + 1)
    warmable.settle(coordinator)
    ended = coordinator.warming.get(job.id)
    assert ended.state == "failed"
    assert "no worker" in failures.decode(ended.failure.encode()).message


def hold(coordinator, job, mask: int, *, incarnation="1", whole=False) -> None:
    """Have the one worker hold some blocks of the first file, and no others of it."""
    entry = coordinator.catalogue.manifest(job.version).find("a/x")
    reported = report(entry.file_version, mask)
    renew(coordinator, "one", reported, incarnation=incarnation, whole=whole)


def test_a_job_whose_blocks_go_as_fast_as_they_come_fails_in_the_end(small_kit: Kit):
    small_kit.origin("memory://a", {"a/x": b"x" * 950})
    coordinator = prepared(small_kit, "one")
    job = coordinator.warming.start(NAME, None, ())
    for turn in range(12):
        hold(coordinator, job, 0b111111 if turn % 2 else 0b1111)
        small_kit.settle(coordinator)
        small_kit.runtime.skip(small_kit.config.warm_stall_seconds / 8)
    ended = coordinator.warming.get(job.id)
    assert ended.state == "failed"
    message = failures.decode(ended.failure.encode()).message
    assert "no progress" in message
    assert "one lacks" in message


def test_a_job_that_stalls_for_want_of_room_says_that(small_kit: Kit):
    small_kit.origin("memory://a", {"a/x": b"x" * 950})
    coordinator = prepared(small_kit)
    job = coordinator.warming.start(NAME, None, ())
    small_kit.settle(coordinator)
    join(coordinator, "one")
    small_kit.workers.full.add("one")
    small_kit.settle(coordinator)
    assert coordinator.warming.get(job.id).state == "running", "another may be on its way"
    small_kit.runtime.skip(small_kit.config.warm_stall_seconds + 1)
    renew(coordinator, "one")
    small_kit.settle(coordinator)
    ended = coordinator.warming.get(job.id)
    assert isinstance(failures.decode(ended.failure.encode()), CapacityError)


def test_a_worker_that_lost_everything_may_take_its_time_to_fill_it_again(small_kit: Kit):
    small_kit.origin("memory://a", {"a/x": b"x" * 950})
    coordinator = prepared(small_kit, "one")
    job = coordinator.warming.start(NAME, None, ())
    hold(coordinator, job, 0b111111111)
    small_kit.settle(coordinator)
    coordinator.members.register(member("one", incarnation="2"), CLUSTER.fingerprint())
    hold(coordinator, job, 0, incarnation="2", whole=True)
    for count in range(1, 10):
        small_kit.settle(coordinator)
        assert coordinator.warming.get(job.id).state == "running"
        small_kit.runtime.skip(small_kit.config.warm_stall_seconds / 3)
        hold(coordinator, job, (1 << count) - 1, incarnation="2")
    hold(coordinator, job, (1 << 10) - 1, incarnation="2")
    small_kit.settle(coordinator)
    assert coordinator.warming.get(job.id).state == "done"


def test_a_job_whose_share_does_not_fit_fails_and_says_so(warmable: Kit):
    coordinator = prepared(warmable, "one")
    warmable.workers.full.add("one")
    job = coordinator.warming.start(NAME, None, ())
    warmable.settle(coordinator)
    ended = coordinator.warming.get(job.id)
    assert ended.state == "failed"
    failure = failures.decode(ended.failure.encode())
    assert isinstance(failure, CapacityError)
    assert (failure.subject, failure.hint) == ("one", "add a worker")


def test_a_share_that_does_not_fit_while_a_worker_is_away_fails_no_job(warmable: Kit):
    coordinator = prepared(warmable, "one", "two")
    job = coordinator.warming.start(NAME, None, ())
    warmable.settle(coordinator)
    coordinator.members.leave("two", "1")
    warmable.workers.full.add("one")
    warmable.settle(coordinator)
    assert ("warm", "one") in warmable.workers.calls[2:]
    assert coordinator.warming.get(job.id).state == "running"
    join(coordinator, "two")
    warmable.workers.full.clear()
    warmable.runtime.skip(1.1)
    warmable.settle(coordinator)
    for worker in ("one", "two"):
        fill(coordinator, warmable, job.id, worker)
    warmable.settle(coordinator)
    assert coordinator.warming.get(job.id).state == "done"


def test_a_job_whose_dataset_is_removed_fails(warmable: Kit):
    coordinator = prepared(warmable, "one")
    job = coordinator.warming.start(NAME, None, ())
    warmable.settle(coordinator)
    coordinator.catalogue.remove(NAME)
    warmable.settle(coordinator)
    assert coordinator.warming.get(job.id).state == "failed"


def test_a_version_that_is_being_warmed_is_kept(warmable: Kit):
    coordinator = prepared(warmable, "one", versions_kept=1)
    job = coordinator.warming.start(NAME, None, ())
    warmable.origins["memory://a"].put("new", b"new")
    coordinator.catalogue.update(NAME)
    assert coordinator.catalogue.manifest(job.version)


def test_of_two_coordinators_one_tells_the_workers(kit: Kit):
    kit.origin("memory://a", {"x": b"x" * 100})
    here = prepared(kit, "one")
    there = kit.coordinator()
    job = here.warming.start(NAME, None, ())
    for coordinator in (here, there, here, there):
        kit.settle(coordinator, 1)
    if not here._store.is_shared:
        return  # two coordinators on one SQLite store are not supported, only harmless
    assert kit.workers.calls.count(("warm", "one")) == 1
    there.residency.refresh()
    fill(there, kit, job.id, "one")
    kit.settle(here)
    assert there.warming.get(job.id).state == "done"


@pytest.mark.postgres
def test_another_coordinator_takes_over_when_the_leader_is_gone(postgres_url):
    kit = Kit(postgres_url)
    kit.origin("memory://a", {"x": b"x" * 100})
    here = prepared(kit, "one")
    here.tick()
    there = kit.coordinator()
    job = there.warming.start(NAME, None, ())
    for _ in range(10):
        kit.runtime.skip(CLUSTER.lease_seconds / 4)
        renew(there, "one")
        kit.settle(there, 1)
    assert kit.workers.told[job.id, "one"]
    kit.close()


def test_who_asks_with_the_same_key_gets_the_warm_up_that_runs(warmable: Kit):
    coordinator = prepared(warmable, "one")
    first = coordinator.warming.start(NAME, None, (), WarmOptions(key="run/step"))
    again = coordinator.warming.start(NAME, None, (), WarmOptions(key="run/step"))
    other = coordinator.warming.start(NAME, None, (), WarmOptions(key="run/other"))
    assert first.id == again.id != other.id
    coordinator.warming.cancel(first.id)
    assert coordinator.warming.start(NAME, None, (), WarmOptions(key="run/step")).id != first.id


def test_a_warm_up_of_a_zone_is_done_by_its_workers_alone(warmable: Kit):
    coordinator = prepared(warmable)
    for name, zone in (("one", "a"), ("two", "b"), ("three", "b")):
        coordinator.members.register(replace(member(name), zone=zone), CLUSTER.fingerprint())
        renew(coordinator, name, whole=True)
    job = coordinator.warming.start(NAME, None, (), WarmOptions(zone="b"))
    warmable.settle(coordinator)
    told = {worker for (name, worker) in warmable.workers.told if name == job.id}
    assert told <= {"two", "three"}
    for worker in sorted(told):
        fill(coordinator, warmable, job.id, worker)
    warmable.settle(coordinator)
    assert coordinator.warming.get(job.id).state == "done"


def test_a_warm_up_of_some_workers_brings_everything_there(warmable: Kit):
    coordinator = prepared(warmable, "one", "two", "three")
    job = coordinator.warming.start(NAME, None, (), WarmOptions(workers=("two",)))
    warmable.settle(coordinator)
    assert {worker for (name, worker) in warmable.workers.told if name == job.id} == {"two"}
    fill(coordinator, warmable, job.id, "two")
    warmable.settle(coordinator)
    assert (coordinator.warming.get(job.id).state, job.blocks_total) == ("done", 12)


def test_the_copies_of_a_warm_up_are_its_own(warmable: Kit):
    coordinator = prepared(warmable, "one", "two", "three")
    job = coordinator.warming.start(NAME, None, (), WarmOptions(copies=3))
    warmable.settle(coordinator)
    for worker in ("one", "two", "three"):
        shares = warmable.workers.told[job.id, worker]
        assert sum(mask.bit_count() for mask in shares.values()) == 12


def test_a_warm_up_that_is_to_be_slow_may_take_as_long_for_a_block(warmable: Kit):
    """At a byte a second a block of 100 bytes takes 100 s more than others may stand still."""
    coordinator = prepared(warmable, "one")
    job = coordinator.warming.start(NAME, None, (), WarmOptions(rate=1))
    warmable.settle(coordinator)
    warmable.runtime.skip(60)
    renew(coordinator, "one")
    warmable.settle(coordinator)
    assert warmable.workers.calls.count(("warm", "one")) == 1
    for seconds, state in ((warmable.config.warm_stall_seconds - 10, "running"), (60, "failed")):
        warmable.runtime.skip(seconds)
        warmable.settle(coordinator)
        assert coordinator.warming.get(job.id).state == state


def test_who_holds_its_blocks_already_leaves_the_rate_to_those_who_do_not(warmable: Kit):
    """Else a warm-up of what one new worker lacks would take as many times its plan as there are workers."""
    coordinator = prepared(warmable, "one", "two", replicas=2)
    first = coordinator.warming.start(NAME, None, ())
    warmable.settle(coordinator)
    fill(coordinator, warmable, first.id, "one")
    coordinator.warming.cancel(first.id)
    coordinator.warming.start(NAME, None, (), WarmOptions(rate=1000))
    warmable.settle(coordinator)
    rates = warmable.workers.rates
    assert rates["two"] > 900
    assert sum(rates.values()) <= 1000


def test_a_rate_is_shared_out_among_the_workers(warmable: Kit):
    coordinator = prepared(warmable, "one", "two", replicas=2)
    coordinator.warming.start(NAME, None, (), WarmOptions(rate=1000))
    warmable.settle(coordinator)
    assert sum(warmable.workers.rates.values()) == 1000
