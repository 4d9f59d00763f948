"""Members: leases over a store, one coordinator after another, and several at once."""

from dataclasses import replace

import pytest

from cachefs.config.schema import ClusterConfig
from cachefs.errors import ConfigError, ConflictError, LeaseExpiredError, NotKnownError
from cachefs.wire.http import decode_view
from tests.integration.coordinator.conftest import CLUSTER, Kit, join, member, renew

LEASE = CLUSTER.lease_seconds


def names(coordinator) -> list[str]:
    return [one.worker for one in coordinator.members.view.members]


def test_a_worker_is_a_member_while_it_renews(kit: Kit):
    coordinator = kit.coordinator()
    join(coordinator, "one", "two")
    for _ in range(6):
        kit.runtime.skip(LEASE / 4)
        renew(coordinator, "one")
        coordinator.tick()
    assert names(coordinator) == ["one"]
    with pytest.raises(LeaseExpiredError):
        renew(coordinator, "two")
    kinds = [event.kind for event in coordinator.events.after(0, limit=100)]
    assert kinds == ["worker-joined", "worker-joined", "worker-gone"]


def test_every_change_of_the_members_raises_the_epoch(kit: Kit):
    coordinator = kit.coordinator()
    epochs = [coordinator.members.view.epoch]
    coordinator.members.register(member("one"), CLUSTER.fingerprint())
    epochs.append(coordinator.members.view.epoch)
    coordinator.members.register(member("one"), CLUSTER.fingerprint())
    assert coordinator.members.view.epoch == epochs[-1]
    coordinator.members.register(member("one", incarnation="2"), CLUSTER.fingerprint())
    epochs.append(coordinator.members.view.epoch)
    coordinator.members.leave("one", "1")
    assert coordinator.members.view.epoch == epochs[-1]
    coordinator.members.leave("one", "2")
    epochs.append(coordinator.members.view.epoch)
    assert epochs == [0, 1, 2, 3]


def test_the_served_view_is_the_view(kit: Kit):
    coordinator = kit.coordinator()
    join(coordinator, "one")
    assert decode_view(coordinator.members.encoded_view) == coordinator.members.view
    join(coordinator, "two")
    assert decode_view(coordinator.members.encoded_view) == coordinator.members.view


def test_a_worker_with_another_cluster_configuration_is_refused(kit: Kit):
    coordinator = kit.coordinator()
    other = ClusterConfig(block_size=1).fingerprint()
    with pytest.raises(ConfigError, match="cluster configuration differs"):
        coordinator.members.register(member("one"), other)
    assert names(coordinator) == []


@pytest.mark.parametrize(
    "fields", [{"worker": "no name"}, {"pool": "../x"}, {"weight": -1.0}, {"data_address": "x"}]
)
def test_a_member_that_makes_no_sense_is_refused(small_kit: Kit, fields):
    coordinator = small_kit.coordinator()
    with pytest.raises(ConfigError):
        coordinator.members.register(replace(member("one"), **fields), CLUSTER.fingerprint())


def test_an_older_incarnation_stands_down(kit: Kit):
    coordinator = kit.coordinator()
    join(coordinator, "one")
    coordinator.members.register(member("one", incarnation="2"), CLUSTER.fingerprint())
    with pytest.raises(ConflictError):
        renew(coordinator, "one", incarnation="1")
    renew(coordinator, "one", incarnation="2")


def test_a_restarted_coordinator_has_the_same_view_and_gives_full_leases(kit: Kit):
    first = kit.coordinator()
    join(first, "one", "two")
    kit.runtime.skip(LEASE * 5)
    second = kit.coordinator()
    second.tick()
    assert second.members.view == first.members.view
    kit.runtime.skip(LEASE * 0.4)
    renew(second, "one")
    second.tick()
    assert names(second) == ["one", "two"]


def test_a_coordinator_that_was_stopped_for_long_retires_nobody_for_its_own_absence(kit: Kit):
    coordinator = kit.coordinator()
    join(coordinator, "one")
    kit.runtime.skip(LEASE * 3)
    coordinator.tick()
    assert names(coordinator) == ["one"]
    for _ in range(5):
        kit.runtime.skip(LEASE / 4)
        coordinator.tick()
    assert names(coordinator) == []


def test_a_worker_may_renew_with_any_coordinator(kit: Kit):
    here, there = kit.coordinator(), kit.coordinator()
    join(here, "one", "two")
    for _ in range(8):
        kit.runtime.skip(LEASE / 4)
        renew(there, "one")
        here.tick()
        there.tick()
    assert names(here) == names(there) == ["one"]
    assert here.members.view == there.members.view


def test_two_coordinators_never_make_the_same_epoch_twice(kit: Kit):
    here, there = kit.coordinator(), kit.coordinator()
    views = {}
    for number in range(6):
        view = (here, there)[number % 2].members.register(
            member(f"w{number}"), CLUSTER.fingerprint()
        )
        assert views.setdefault(view.epoch, view) == view
    assert len(views) == 6
    here.members.tick()
    kit.runtime.skip(LEASE / 4)
    here.tick()
    there.tick()
    assert names(here) == names(there) == [f"w{number}" for number in range(6)]


def test_a_draining_worker_serves_on_and_owns_nothing(kit: Kit):
    coordinator = kit.coordinator()
    join(coordinator, "one")
    planned = coordinator.drain("one", dry_run=True)
    assert (planned.blocks, planned.size, planned.done) == (2, 200, False)
    assert not coordinator.members.view.members[0].draining
    assert coordinator.drain("one", dry_run=False).done
    assert coordinator.members.view.members[0].draining
    renew(coordinator, "one")
    again = kit.coordinator()
    assert again.members.view.members[0].draining
    with pytest.raises(NotKnownError):
        coordinator.drain("nobody", dry_run=False)


def test_statistics_and_suspicions_are_listed(kit: Kit):
    coordinator = kit.coordinator()
    join(coordinator, "one", "two")
    renew(coordinator, "one", statistics='{"tiers": []}', suspects=("two", "nobody"))
    one, two = coordinator.member_statuses()
    assert (one.statistics, one.suspicions) == ({"tiers": []}, 0)
    assert (two.suspicions, two.suspicion) == (1, "one found that it served bad bytes")
    with pytest.raises(ConfigError):
        renew(coordinator, "one", statistics="[]")


def test_a_worker_with_the_newest_view_is_not_sent_it(kit: Kit):
    coordinator = kit.coordinator()
    join(coordinator, "one")
    view = renew(coordinator, "one").view
    assert view is not None
    assert view.epoch == 1
