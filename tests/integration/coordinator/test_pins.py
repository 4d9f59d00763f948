"""Pins: their revision, and who hears of them when."""

import pytest

from cachefs.coordinator import pins as pins_module
from cachefs.coordinator.declaring import DatasetChange
from cachefs.core.names import DatasetName
from cachefs.errors import CapacityError, ConfigError
from tests.integration.coordinator.conftest import (
    CLUSTER,
    Kit,
    declared,
    join,
    member,
    renew,
    report,
)

URL = "memory://a"
NAME = DatasetName("default", "d")
PIN = DatasetChange(pin=("x.bin",))


@pytest.fixture
def filled(kit: Kit) -> Kit:
    kit.origin(URL, {"x.bin": b"x" * 250, "y/z.bin": b"z"})
    return kit


def revision(coordinator) -> int:
    with coordinator._store.read() as connection:
        return coordinator.catalogue.pins.read(connection).revision


def file_of(coordinator, path: str = "x.bin") -> str:
    current = coordinator.catalogue.get(NAME).current
    return coordinator.catalogue.manifest(current).find(path).file_version


def test_the_revision_grows_with_each_change_of_pins_and_with_no_other(filled: Kit):
    coordinator = filled.coordinator()
    seen = [revision(coordinator)]
    coordinator.catalogue.add(declared("d"), {})
    coordinator.catalogue.change(NAME, DatasetChange(replicas=2))
    filled.origins[URL].put("new", b"new")
    coordinator.catalogue.update(NAME)
    assert revision(coordinator) == seen[0] > 0
    for change in (PIN, DatasetChange(ttl_seconds=9.0), DatasetChange(unpin=("x.bin",))):
        coordinator.catalogue.change(NAME, change)
        seen.append(revision(coordinator))
    filled.origins[URL].put("newer", b"newer")
    coordinator.catalogue.update(NAME)
    seen.append(revision(coordinator))
    coordinator.catalogue.remove(NAME)
    seen.append(revision(coordinator))
    assert seen == sorted(set(seen))
    assert revision(filled.coordinator()) == seen[-1]


def test_a_change_that_changes_nothing_leaves_the_revision(filled: Kit):
    coordinator = filled.coordinator()
    coordinator.catalogue.add(declared("d", pins=("x.bin",)), {})
    before = revision(coordinator)
    coordinator.catalogue.change(NAME, PIN)
    assert revision(coordinator) == before


def test_a_renewal_carries_pins_only_to_who_has_others(filled: Kit):
    coordinator = filled.coordinator()
    coordinator.catalogue.add(declared("d", pins=("x.bin",)), {})
    join(coordinator, "one")
    told = renew(coordinator, "one").pins
    assert told.pinned == {file_of(coordinator)}
    assert renew(coordinator, "one", pins_revision=told.revision).pins is None
    coordinator.catalogue.change(NAME, DatasetChange(pin=("y",)))
    newer = renew(coordinator, "one", pins_revision=told.revision).pins
    assert newer.revision > told.revision
    assert newer.pinned == {file_of(coordinator), file_of(coordinator, "y/z.bin")}
    # A worker may come from a store that was set back since.
    assert renew(coordinator, "one", pins_revision=newer.revision + 5).pins == newer


def test_a_pin_is_stronger_than_a_time_to_live_in_any_dataset(filled: Kit):
    coordinator = filled.coordinator()
    coordinator.catalogue.add(declared("d", ttl_seconds=9.0), {})
    coordinator.catalogue.add(declared("other", pins=("x.bin",)), {})
    join(coordinator, "one")
    told = renew(coordinator, "one").pins
    assert told.pinned == {file_of(coordinator)}
    assert told.ttls == {file_of(coordinator, "y/z.bin"): 9.0}


def test_the_workers_that_matter_hear_of_pins_at_once(filled: Kit):
    coordinator = filled.coordinator()
    coordinator.catalogue.add(declared("d", pool="fast"), {})
    holding = report(file_of(coordinator), 0b1)
    for worker, pool in (("owner", "fast"), ("holder", "slow"), ("stranger", "slow")):
        coordinator.members.register(member(worker, pool=pool), CLUSTER.fingerprint())
    renew(coordinator, "holder", holding, whole=True)
    coordinator.change(NAME, PIN)
    assert set(filled.workers.pinned) == {"owner", "holder"}
    for told in filled.workers.pinned.values():
        assert told.pinned == {file_of(coordinator)}
        assert told.revision == revision(coordinator)


def test_a_change_of_other_things_is_pushed_to_nobody(filled: Kit):
    coordinator = filled.coordinator()
    coordinator.catalogue.add(declared("d"), {})
    join(coordinator, "one")
    coordinator.change(NAME, DatasetChange(replicas=2))
    assert filled.workers.calls == []


def test_a_worker_that_cannot_be_told_hinders_nobody_and_hears_later(filled: Kit):
    coordinator = filled.coordinator()
    coordinator.catalogue.add(declared("d"), {})
    join(coordinator, "one", "two")
    filled.workers.down.add("one")
    assert coordinator.change(NAME, PIN).pins == ("x.bin",)
    assert set(filled.workers.pinned) == {"two"}
    assert renew(coordinator, "one").pins.pinned == {file_of(coordinator)}


def test_pins_of_one_coordinator_reach_the_workers_of_another(filled: Kit):
    here, there = filled.coordinator(), filled.coordinator()
    here.catalogue.add(declared("d"), {})
    join(there, "one")
    before = renew(there, "one").pins
    here.change(NAME, PIN)
    assert renew(there, "one", pins_revision=before.revision).pins.pinned == {file_of(there)}


def test_more_pins_than_a_message_holds_are_refused_and_nothing_has_changed(
    filled: Kit, monkeypatch: pytest.MonkeyPatch
):
    coordinator = filled.coordinator()
    coordinator.catalogue.add(declared("d"), {})
    before = revision(coordinator)
    monkeypatch.setattr(pins_module, "FILES_LIMIT", 1)
    coordinator.catalogue.change(NAME, PIN)
    with pytest.raises(CapacityError, match="more than 1 files"):
        coordinator.catalogue.change(NAME, DatasetChange(pin=("y",)))
    assert coordinator.catalogue.get(NAME).pins == ("x.bin",)
    assert revision(coordinator) == before + 1


def test_a_refused_change_is_pushed_to_nobody(filled: Kit):
    coordinator = filled.coordinator()
    coordinator.catalogue.add(declared("d"), {})
    join(coordinator, "one")
    with pytest.raises(ConfigError):
        coordinator.change(NAME, DatasetChange(pin=("../x",)))
    assert filled.workers.calls == []
