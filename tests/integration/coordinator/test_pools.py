"""Pools: who says how many workers there shall be, and how it stands; driven without a provider."""

import threading

import pytest

from cachefs.coordinator.warming import WarmOptions
from cachefs.core.names import DatasetName, WorkerId
from cachefs.core.pools import PoolChange
from cachefs.errors import ConfigError, ConflictError, NotKnownError
from tests.integration.coordinator.conftest import Kit, declared, join, renew, report

NAME = DatasetName.parse("d")


@pytest.fixture
def coordinator(kit: Kit):
    kit.origin("memory://a", {"x": b"x" * 1000})
    return kit.coordinator()


def events(coordinator, kind):
    return [one for one in coordinator.events.after(0, limit=1000) if one.kind == kind]


def test_a_pool_that_nobody_named_wants_nothing_and_counts_its_members(coordinator):
    join(coordinator, "one", "two")
    (standing,) = coordinator.pools.every()
    assert (standing.pool.name, standing.pool.wanted, standing.live) == ("default", None, 2)
    assert standing.settled


def test_who_changed_a_pool_and_why_is_an_event(coordinator):
    coordinator.pools.change("default", PoolChange(wanted=2, by="alice", reason="the launch"))
    coordinator.pools.change("default", PoolChange(wanted=4, by="bob"))
    told = [(one.subject, one.message) for one in events(coordinator, "pool-changed")]
    assert told == [
        ("default", "2 workers, by alice, because the launch"),
        ("default", "2 → 4 workers, by bob"),
    ]


def test_a_pool_outlives_its_coordinator(kit: Kit):
    kit.coordinator().pools.change(
        "gpu", PoolChange(wanted=3, wanted_by_zone={"a": 1}, least=1, most=5, exclusive="team")
    )
    pool = kit.coordinator().pools.get("gpu").pool
    assert (pool.wanted, pool.wanted_by_zone, pool.least, pool.most) == (3, {"a": 1}, 1, 5)
    assert pool.exclusive == "team"


def test_of_many_that_add_a_worker_at_once_each_adds_one(coordinator):
    coordinator.pools.change("default", PoolChange(wanted=0))
    threads = [
        threading.Thread(
            target=coordinator.pools.grow,
            args=("default", 1),
            kwargs={"zone": "", "by": "", "reason": ""},
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert coordinator.pools.get("default").pool.wanted == 8


def test_workers_that_shall_leave_are_named_until_they_are_reported_gone(coordinator):
    join(coordinator, "one", "two")
    standing = coordinator.pools.shrink("default", [WorkerId("one")], by="me", reason="")
    assert (standing.pool.wanted, standing.pool.leaving) == (1, ("one",))
    assert not standing.settled
    reported = coordinator.pools.report("default", left=[WorkerId("one")], problem="")
    assert reported.pool.leaving == ()
    assert [one.subject for one in events(coordinator, "worker-removed")] == ["one"]


def test_who_is_no_member_cannot_be_made_to_leave(coordinator):
    with pytest.raises(NotKnownError, match="no such worker"):
        coordinator.pools.shrink("default", [WorkerId("ghost")], by="", reason="")


def test_a_provider_that_cannot_says_why_once(coordinator):
    for _ in range(3):
        coordinator.pools.report("default", left=[], problem="the disk is full")
    assert coordinator.pools.get("default").pool.problem == "the disk is full"
    assert [one.message for one in events(coordinator, "pool-short")] == ["the disk is full"]


def test_who_was_stopped_too_early_is_an_event_that_says_why(coordinator):
    stopped = {WorkerId("one"): "it still held 5 blocks"}
    coordinator.pools.report("default", left=[], problem="", stopped=stopped)
    (event,) = events(coordinator, "worker-stopped")
    assert (event.subject, event.message) == ("one", "it still held 5 blocks")


def test_bounds_hold_for_everybody(coordinator):
    coordinator.pools.change("default", PoolChange(wanted=2, least=1, most=3))
    with pytest.raises(ConfigError, match="bounds"):
        coordinator.pools.grow("default", 2, zone="", by="", reason="")
    assert coordinator.pools.get("default").pool.wanted == 2


def test_an_exclusive_pool_takes_only_its_namespace(coordinator):
    coordinator.pools.change("gpu", PoolChange(exclusive="team"))
    with pytest.raises(ConflictError, match="exclusive to the namespace team"):
        coordinator.catalogue.add(declared("d", pool="gpu"), {})
    coordinator.catalogue.add(declared("team/d", pool="gpu"), {})


def test_a_pool_in_use_by_others_cannot_become_exclusive(coordinator):
    coordinator.catalogue.add(declared("d"), {})
    with pytest.raises(ConflictError, match="other namespaces are in the pool: default"):
        coordinator.pools.change("default", PoolChange(exclusive="team"))


def test_a_plan_counts_what_the_leaver_alone_holds(coordinator):
    coordinator.catalogue.add(declared("d"), {})
    (entry,) = coordinator.catalogue.manifest(coordinator.catalogue.get(NAME).current).files
    join(coordinator, "one", "two")
    renew(coordinator, "one", report(entry.file_version, 0b11_1100_0000), whole=True)
    renew(coordinator, "two", report(entry.file_version, 0b00_0100_0001), whole=True)
    plan = coordinator.pools.plan("default", leaving=[WorkerId("one")])
    assert plan.difference.leave == ("one",)
    assert (plan.handover.blocks, plan.handover.size, plan.handover.lost) == (3, 300, 0)
    nobody = coordinator.pools.plan("default", PoolChange(wanted=0))
    assert (nobody.handover.blocks, nobody.handover.lost) == (0, 500)
    assert coordinator.pools.get("default").pool.wanted is None


def test_a_plan_for_newcomers_says_about_how_much_they_would_get(coordinator):
    coordinator.catalogue.add(declared("d"), {})
    (entry,) = coordinator.catalogue.manifest(coordinator.catalogue.get(NAME).current).files
    join(coordinator, "one")
    renew(coordinator, "one", report(entry.file_version, 0b11_1111_1111), whole=True)
    plan = coordinator.pools.plan("default", PoolChange(wanted=4))
    assert plan.difference.start == ("", "", "")
    assert plan.handover.size == 750


def test_a_map_brings_back_what_was_resident_and_nothing_else(kit: Kit, coordinator):
    coordinator.catalogue.add(declared("d"), {})
    (entry,) = coordinator.catalogue.manifest(coordinator.catalogue.get(NAME).current).files
    join(coordinator, "one", "two")
    renew(coordinator, "one", report(entry.file_version, 0b101), whole=True)
    renew(coordinator, "two", report(entry.file_version, 0b110), whole=True)
    head = coordinator.maps.save(NAME, None)
    assert (head.blocks, head.size) == (3, 300)
    renew(coordinator, "one", whole=True)
    renew(coordinator, "two", whole=True)
    job = coordinator.warm(NAME, None, (), WarmOptions(map="latest"))
    assert (job.map, job.blocks_total, job.bytes_total) == (head.id, 3, 300)
    kit.settle(coordinator)
    told = [kit.workers.told.get((job.id, WorkerId(w)), {}) for w in ("one", "two")]
    wanted = [shares.get(entry.file_version, 0) for shares in told]
    assert (wanted[0] | wanted[1], wanted[0] & wanted[1]) == (0b111, 0)


def test_there_is_no_warming_from_a_map_that_nobody_saved(coordinator):
    coordinator.catalogue.add(declared("d"), {})
    with pytest.raises(NotKnownError, match="no such residency map"):
        coordinator.warm(NAME, None, (), WarmOptions(map="latest"))
