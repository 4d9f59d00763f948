"""Workers that never return: what is recorded of them goes after a while."""

import pytest

from cachefs.coordinator.store import residency as rows
from cachefs.core.names import DatasetName
from tests.integration.coordinator.conftest import (
    BLOCK,
    CLUSTER,
    Kit,
    declared,
    join,
    member,
    renew,
    report,
)

NAME = DatasetName("default", "d")
WEEK = 7 * 86400.0
MINUTES = 300.0
"""More than there are between two looks for the gone."""


@pytest.fixture
def filled(kit: Kit) -> Kit:
    kit.origin("memory://a", {"x.bin": b"x" * 250})
    assert kit.config.residency_kept_seconds == WEEK
    return kit


def file_of(coordinator) -> str:
    current = coordinator.catalogue.get(NAME).current
    return coordinator.catalogue.manifest(current).find("x.bin").file_version


def gone_with_two_blocks(kit: Kit):
    """Return a coordinator that one worker has left, which held two blocks."""
    coordinator = kit.coordinator()
    coordinator.catalogue.add(declared("d"), {})
    join(coordinator, "one", whole=[report(file_of(coordinator), 0b11)])
    coordinator.members.leave("one", "1")
    pass_time(kit, 0.0, coordinator)
    return coordinator


def pass_time(kit: Kit, seconds: float, *coordinators) -> None:
    """Let time go by on all clocks, and let each coordinator look around in it."""
    kit.runtime.skip(seconds)
    kit.runtime.skip_wall(seconds)
    for _ in range(4):  # whoever was away for long learns first who leads
        for coordinator in coordinators:
            coordinator.tick()
        kit.runtime.skip(CLUSTER.lease_seconds / 2)


def recorded(coordinator) -> int:
    with coordinator._store.read() as connection:
        return len(list(rows.since(connection, "one", 0)))


def forgotten(coordinator) -> list[str]:
    events = coordinator.events.after(0, limit=100)
    return [event.subject for event in events if event.kind == "worker-forgotten"]


def test_what_a_worker_held_is_forgotten_once_it_has_been_gone_for_a_week(filled: Kit):
    coordinator = gone_with_two_blocks(filled)
    pass_time(filled, WEEK - MINUTES, coordinator)
    assert (recorded(coordinator), forgotten(coordinator)) == (1, [])
    pass_time(filled, 2 * MINUTES, coordinator)
    assert (recorded(coordinator), forgotten(coordinator)) == (0, ["one"])
    pass_time(filled, 2 * WEEK, coordinator)
    assert forgotten(coordinator) == ["one"]
    (event,) = [e for e in coordinator.events.after(0, limit=100) if e.kind == "worker-forgotten"]
    assert event.message == "it has been gone for 168 h 0 min, and what it held is forgotten"


def test_a_worker_that_was_back_in_between_is_counted_from_its_last_leave(filled: Kit):
    coordinator = gone_with_two_blocks(filled)
    pass_time(filled, WEEK - MINUTES, coordinator)
    join(coordinator, "one", whole=[report(file_of(coordinator), 0b11)])
    filled.runtime.skip(MINUTES)
    coordinator.residency.forget_gone(kept_seconds=WEEK)
    coordinator.members.leave("one", "1")
    pass_time(filled, 2 * MINUTES, coordinator)
    assert (recorded(coordinator), forgotten(coordinator)) == (1, [])
    pass_time(filled, WEEK, coordinator)
    assert (recorded(coordinator), forgotten(coordinator)) == (0, ["one"])


def test_a_member_is_never_forgotten(filled: Kit):
    coordinator = filled.coordinator()
    coordinator.catalogue.add(declared("d"), {})
    join(coordinator, "one", whole=[report(file_of(coordinator), 0b11)])
    for _ in range(3):
        filled.runtime.skip(MINUTES)
        filled.runtime.skip_wall(WEEK)
        coordinator.residency.forget_gone(kept_seconds=WEEK)
    assert (recorded(coordinator), forgotten(coordinator)) == (1, [])


def test_a_worker_that_returns_after_all_is_known_with_what_it_reports(filled: Kit):
    coordinator = gone_with_two_blocks(filled)
    pass_time(filled, WEEK + MINUTES, coordinator)
    assert forgotten(coordinator) == ["one"]
    coordinator.members.register(member("one", incarnation="2"), CLUSTER.fingerprint())
    assert renew(coordinator, "one", incarnation="2").want_residency
    held = report(file_of(coordinator), 0b1)
    renew(coordinator, "one", held, whole=True, incarnation="2")
    assert coordinator.summary(NAME, None)[1].bytes_resident == BLOCK
    assert filled.coordinator().summary(NAME, None)[1].bytes_resident == BLOCK


def test_other_coordinators_forget_with_the_one_that_leads(filled: Kit):
    here = gone_with_two_blocks(filled)
    there = filled.coordinator()
    pass_time(filled, WEEK + MINUTES, here, there)
    assert forgotten(there) == ["one"]
    for coordinator in (here, there):
        coordinator.residency.refresh()
        assert list(coordinator.residency._index.recorded("one")) == []
