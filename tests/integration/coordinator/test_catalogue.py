"""Datasets and versions: declared, listed, changed, dropped."""

import threading
from dataclasses import replace

import pytest

from cachefs.coordinator.declaring import DatasetChange, listed_from
from cachefs.core.datasets import Consistency, OriginSpec, Version
from cachefs.core.names import DatasetName
from cachefs.errors import (
    CapacityError,
    ConfigError,
    ConflictError,
    NotKnownError,
    OriginDeniedError,
    OriginNotFoundError,
    OriginUnavailableError,
)
from tests.integration.coordinator.conftest import (
    BLOCK,
    Kit,
    declared,
    digest_of,
    join,
    renew,
    report,
)

URL = "memory://a"
NAME = DatasetName("default", "d")


@pytest.fixture
def filled(kit: Kit) -> Kit:
    kit.origin(URL, {"x.bin": b"x" * 250, "y/z.bin": b"z"})
    return kit


def versions(coordinator) -> list[str]:
    return [version.id for version in coordinator.catalogue.versions(NAME)]


def test_a_dataset_is_added_with_its_first_version(filled: Kit):
    coordinator = filled.coordinator()
    added = coordinator.catalogue.add(declared("d", replicas=2), {})
    resolved = coordinator.catalogue.resolve(NAME, None)
    assert resolved.version.id == added.current
    assert (resolved.replicas, resolved.version.file_count, resolved.version.size) == (2, 2, 251)
    assert resolved.version.client == "memory"
    manifest = coordinator.catalogue.manifest(resolved.version.id)
    assert [entry.path for entry in manifest.files] == ["x.bin", "y/z.bin"]
    assert filled.coordinator().catalogue.get(NAME) == added


def test_an_origin_that_cannot_be_listed_leaves_nothing(kit: Kit):
    coordinator = kit.coordinator()
    with pytest.raises(OriginNotFoundError):
        coordinator.catalogue.add(declared("d"), {})
    assert coordinator.catalogue.every() == ()
    assert coordinator.events.after(0, limit=10) == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"replicas": 0},
        {"replicas": 65},
        {"pool": "No"},
        {"versions_kept": 0},
        {"ttl_seconds": -1.0},
        {"pins": ("../x",)},
        {"name": DatasetName("default", "../x")},
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(small_kit: Kit, fields):
    small_kit.origin(URL, {"x": b""})
    with pytest.raises(ConfigError):
        small_kit.coordinator().catalogue.add(replace(declared("d"), **fields), {})
    assert small_kit.listings == 0


def test_names_of_datasets_and_namespaces_stay_apart(filled: Kit):
    coordinator = filled.coordinator()
    coordinator.catalogue.add(declared("d"), {})
    coordinator.catalogue.add(declared("space/name"), {})
    for name in ("d", "space", "d/x"):
        with pytest.raises(ConflictError):
            coordinator.catalogue.add(declared(name), {})
    coordinator.catalogue.add(declared("space/d"), {})


def test_checksums_become_digests_and_stay_with_unchanged_files(filled: Kit):
    coordinator = filled.coordinator()
    added = coordinator.catalogue.add(declared("d"), {"x.bin": "sha256:ab"})
    first = coordinator.catalogue.manifest(added.current)
    assert first.find("x.bin").digest == "sha256:ab"
    filled.origins[URL].put("new", b"new")
    second = coordinator.catalogue.manifest(coordinator.catalogue.update(NAME).id)
    assert second.find("x.bin") == first.find("x.bin")
    filled.origins[URL].put("x.bin", b"changed")
    third = coordinator.catalogue.manifest(coordinator.catalogue.update(NAME).id)
    assert third.find("x.bin").digest == ""


def test_a_checksum_of_a_file_that_is_not_listed_is_an_error_that_names_it(filled: Kit):
    coordinator = filled.coordinator()
    with pytest.raises(ConfigError, match=r"missing\.bin"):
        coordinator.catalogue.add(declared("d"), {"missing.bin": "sha256:ab"})
    with pytest.raises(ConfigError):
        coordinator.catalogue.add(declared("d"), {"x.bin": "no digest"})
    assert coordinator.catalogue.every() == ()


def test_an_update_that_finds_the_same_makes_no_version(filled: Kit):
    coordinator = filled.coordinator()
    added = coordinator.catalogue.add(declared("d"), {})
    assert coordinator.catalogue.update(NAME).id == added.current
    assert versions(coordinator) == [added.current]


def test_old_versions_are_dropped_but_never_the_current_one(filled: Kit):
    coordinator = filled.coordinator()
    first = coordinator.catalogue.add(declared("d", versions_kept=2), {}).current
    found = []
    for number in range(3):
        filled.origins[URL].put("x.bin", bytes([number]))
        found.append(coordinator.catalogue.update(NAME).id)
    assert versions(coordinator) == [found[2], found[1]]
    with pytest.raises(NotKnownError):
        coordinator.catalogue.manifest(first)
    coordinator.catalogue.change(NAME, DatasetChange(current=found[1][:8]))
    assert coordinator.catalogue.resolve(NAME, None).version.id == found[1]


def test_content_that_returns_is_the_old_version_again(filled: Kit):
    coordinator = filled.coordinator()
    first = coordinator.catalogue.add(declared("d"), {}).current
    filled.origins[URL].put("x.bin", b"other")
    second = coordinator.catalogue.update(NAME).id
    filled.origins[URL].put("x.bin", b"x" * 250)
    assert coordinator.catalogue.update(NAME).id == first
    assert versions(coordinator) == [first, second]


def test_versions_are_found_by_prefix(filled: Kit):
    coordinator = filled.coordinator()
    current = coordinator.catalogue.add(declared("d"), {}).current
    assert coordinator.catalogue.resolve(NAME, current[:4]).version.id == current
    with pytest.raises(NotKnownError, match="no version"):
        coordinator.catalogue.resolve(NAME, "0" * 40)
    with pytest.raises(NotKnownError, match="no such dataset"):
        coordinator.catalogue.resolve(DatasetName("default", "none"), None)


def test_changes_are_stored_and_what_is_absent_stays(filled: Kit):
    coordinator = filled.coordinator()
    coordinator.catalogue.add(declared("d", pins=("x.bin",), ttl_seconds=5.0), {})
    coordinator.catalogue.change(
        NAME, DatasetChange(replicas=3, pin=("y", "x.bin"), ttl_seconds=0.0)
    )
    changed = coordinator.catalogue.change(NAME, DatasetChange(unpin=("x.bin",), pool="fast"))
    assert (changed.replicas, changed.pool, changed.pins) == (3, "fast", ("y",))
    assert changed.ttl_seconds is None
    with pytest.raises(ConfigError):
        coordinator.catalogue.change(NAME, DatasetChange(replicas=-1))
    assert filled.coordinator().catalogue.get(NAME) == changed


def test_max_age_lists_again_when_the_listing_is_old(filled: Kit):
    coordinator = filled.coordinator()
    coordinator.catalogue.add(declared("d", consistency=Consistency(60.0)), {})
    filled.origins[URL].put("new", b"new")
    assert coordinator.catalogue.resolve(NAME, None).version.file_count == 2
    filled.runtime.skip(61)
    assert coordinator.catalogue.resolve(NAME, None).version.file_count == 3
    assert filled.listings == 2
    coordinator.catalogue.resolve(NAME, None)
    assert filled.listings == 2


def test_a_listing_that_is_still_to_come_by_the_calendar_is_made_again_over_a_restart(filled: Kit):
    filled.coordinator().catalogue.add(declared("d", consistency=Consistency(60.0)), {})
    filled.origins[URL].put("new", b"new")
    filled.runtime.skip_wall(-86400.0)
    again = filled.coordinator()
    assert again.catalogue.resolve(NAME, None).version.file_count == 3


def test_max_age_serves_the_last_version_while_the_origin_is_down_and_says_so_once(filled: Kit):
    coordinator = filled.coordinator()
    added = coordinator.catalogue.add(declared("d", consistency=Consistency(60.0)), {})

    def down(*_):
        raise OriginUnavailableError("down")

    filled.origins[URL].hook = down
    filled.runtime.skip(61)
    for _ in range(3):
        assert coordinator.catalogue.resolve(NAME, None).version.id == added.current
    assert filled.listings == 2  # a failed listing is not tried again at once
    filled.runtime.skip(6)
    coordinator.catalogue.resolve(NAME, None)
    assert filled.listings == 3
    filled.origins[URL].hook = None
    filled.runtime.skip(6)
    coordinator.catalogue.resolve(NAME, None)
    kinds = [event.kind for event in coordinator.events.after(0, limit=10)]
    assert kinds == ["dataset-added", "origin-unavailable", "origin-available"]


def test_validate_on_open_never_serves_what_it_could_not_validate(filled: Kit):
    coordinator = filled.coordinator()
    coordinator.catalogue.add(declared("d", consistency=Consistency(0.0)), {})
    filled.origins[URL].put("new", b"new")
    assert coordinator.catalogue.resolve(NAME, None).version.file_count == 3
    for failure in (OriginUnavailableError("down"), OriginDeniedError("no")):

        def refuse(*_, failure=failure):
            raise failure

        filled.origins[URL].hook = refuse
        with pytest.raises(type(failure)):
            coordinator.catalogue.resolve(NAME, None)


def test_opens_that_must_list_at_the_same_time_list_once(filled: Kit):
    coordinator = filled.coordinator()
    coordinator.catalogue.add(declared("d", consistency=Consistency(0.0)), {})
    listing, go_on = threading.Event(), threading.Event()

    def slowly(*_):
        listing.set()
        assert go_on.wait(10)

    filled.origins[URL].hook = slowly
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(coordinator.catalogue.resolve(NAME, None)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    assert listing.wait(10)
    while len(coordinator.catalogue._flights._turn._condition._waiters) < 8:
        filled.runtime.sleep(0.005)
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert filled.listings == 2


def test_a_listing_that_takes_too_long_is_an_error_and_not_a_hang(filled: Kit):
    filled.config = replace(filled.config, listing_wait_seconds=0.05)
    coordinator = filled.coordinator()
    coordinator.catalogue.add(declared("d", consistency=Consistency(0.0)), {})
    go_on = threading.Event()
    filled.origins[URL].hook = lambda *_: go_on.wait(10)
    with pytest.raises(OriginUnavailableError, match="not listed within"):
        coordinator.catalogue.resolve(NAME, None)
    go_on.set()
    coordinator.catalogue.close()


def test_too_many_files_are_refused(small_kit: Kit):
    small_kit.config = replace(small_kit.config, manifest_limit_bytes=1000)
    small_kit.origin(URL, {f"{number}": b"" for number in range(20)})
    with pytest.raises(CapacityError):
        small_kit.coordinator().catalogue.add(declared("d"), {})


def test_a_dataset_that_follows_its_origin_cannot_be_rolled_back(filled: Kit):
    coordinator = filled.coordinator()
    first = coordinator.catalogue.add(declared("d", consistency=Consistency(60.0)), {}).current
    filled.origins[URL].put("new", b"new")
    coordinator.catalogue.update(NAME)
    with pytest.raises(ConfigError, match="follows its origin"):
        coordinator.catalogue.change(NAME, DatasetChange(current=first))
    pinned = DatasetChange(current=first, consistency=Consistency(None))
    assert coordinator.catalogue.change(NAME, pinned).current == first


def test_pins_and_times_to_live_reach_the_workers(filled: Kit):
    coordinator = filled.coordinator()
    added = coordinator.catalogue.add(declared("d", pins=("x.bin",), ttl_seconds=9.0), {})
    join(coordinator, "one")
    files = {
        entry.path: entry.file_version
        for entry in coordinator.catalogue.manifest(added.current).files
    }
    pins = renew(coordinator, "one").pins
    assert (pins.pinned, pins.ttls) == ({files["x.bin"]}, {files["y/z.bin"]: 9.0})
    coordinator.catalogue.change(NAME, DatasetChange(unpin=("x.bin",), ttl_seconds=0.0))
    pins = renew(coordinator, "one").pins
    assert (pins.pinned, pins.ttls) == (frozenset(), {})


def test_workers_are_told_to_drop_what_no_dataset_has_until_it_is_gone(filled: Kit):
    coordinator = filled.coordinator()
    added = coordinator.catalogue.add(declared("d"), {})
    file = coordinator.catalogue.manifest(added.current).find("x.bin").file_version
    join(coordinator, "one", whole=[report(file, 0b111)])
    assert renew(coordinator, "one").dropped == ()
    coordinator.catalogue.remove(NAME)
    assert renew(coordinator, "one").dropped == (file,)
    assert renew(filled.coordinator(), "one").dropped == (file,)
    coordinator.residency.refresh()
    gone = replace(report(file, 0), tier="")
    assert renew(coordinator, "one", gone).dropped == ()


def test_what_an_unknown_dataset_left_on_a_worker_is_dropped_too(filled: Kit):
    coordinator = filled.coordinator()
    stray = "e" * 40
    join(coordinator, "one", whole=[report(stray, 0b1)])
    assert renew(coordinator, "one").dropped == (stray,)


def test_the_first_digest_stands_and_who_contradicts_it_is_suspect(filled: Kit):
    coordinator = filled.coordinator()
    added = coordinator.catalogue.add(declared("d"), {})
    file = coordinator.catalogue.manifest(added.current).find("x.bin").file_version
    join(coordinator, "one", "two")
    renew(coordinator, "one", report(file, 0b001))
    assert coordinator.digests(file) == [digest_of(0), None, None]
    renew(coordinator, "two", replace(report(file, 0b101), digests=b"\xff" * 32))
    assert coordinator.digests(file) == [digest_of(0), None, b"\xff" * 16]
    suspicions = {one.member.worker: one.suspicions for one in coordinator.member_statuses()}
    assert suspicions == {"one": 0, "two": 1}
    (event,) = [e for e in coordinator.events.after(0, limit=50) if e.kind == "digest-contradicted"]
    assert event.subject == "two"
    assert f"block 0 of {file}" in event.message


def test_a_report_that_makes_no_sense_changes_nothing(filled: Kit):
    coordinator = filled.coordinator()
    added = coordinator.catalogue.add(declared("d"), {})
    file = coordinator.catalogue.manifest(added.current).find("x.bin").file_version
    join(coordinator, "one")
    for bad in (
        report(file, 0b1000),
        replace(report(file, 0b1), digests=b"short"),
        replace(report(file, 0b1), tier="tape"),
    ):
        with pytest.raises(ConfigError):
            renew(coordinator, "one", report(file, 0b1), bad)
    assert coordinator.digests(file) == [None, None, None]
    assert coordinator.summary(NAME, None)[1].bytes_resident == 0


def test_residency_is_asked_for_after_a_registration_and_summed_up(filled: Kit):
    coordinator = filled.coordinator()
    added = coordinator.catalogue.add(declared("d"), {})
    file = coordinator.catalogue.manifest(added.current).find("x.bin").file_version
    join(coordinator, "one", whole=[report(file, 0b11)])
    assert not renew(coordinator, "one").want_residency
    _, summary = coordinator.summary(NAME, None)
    assert (summary.blocks_resident, summary.bytes_resident) == (2, 2 * BLOCK)
    join(coordinator, "two")
    coordinator.members.register(
        replace(coordinator.members.view.members[0], incarnation="2"),
        coordinator.cluster.fingerprint(),
    )
    coordinator.residency.refresh()
    assert coordinator.summary(NAME, None)[1].bytes_resident == 0
    assert renew(coordinator, "one", incarnation="2").want_residency
    renew(coordinator, "one", report(file, 0b1), whole=True, incarnation="2")
    assert coordinator.summary(NAME, None)[1].bytes_resident == BLOCK
    other = filled.coordinator()
    assert other.summary(NAME, None)[1] == coordinator.summary(NAME, None)[1]


def test_a_file_is_explained(filled: Kit):
    coordinator = filled.coordinator()
    added = coordinator.catalogue.add(declared("d"), {})
    file = coordinator.catalogue.manifest(added.current).find("x.bin").file_version
    join(coordinator, "one", whole=[report(file, 0b10)])
    filled.workers.down.add("two")
    join(coordinator, "two")
    found = coordinator.explain(NAME, None, "x.bin", limit=10)
    assert [(block.index, block.size, block.digest_known) for block in found.blocks] == [
        (0, 100, False),
        (1, 100, True),
        (2, 50, False),
    ]
    assert found.blocks[1].holders == (("one", "disk"),)
    assert all(len(block.owners) == 1 for block in found.blocks)
    assert (found.served_bytes, found.filled_bytes) == ({"disk": 7}, {"origin": 3})
    assert found.unreachable == ("two",)
    assert len(coordinator.explain(NAME, None, "x.bin", first=2, limit=10).blocks) == 1


def test_evicting_asks_every_worker_and_names_what_stayed(filled: Kit):
    coordinator = filled.coordinator()
    coordinator.catalogue.add(declared("d"), {})
    join(coordinator, "one", "two")
    evicted = coordinator.evict(NAME, None, ["y"])
    assert (evicted.size, evicted.refused) == (20, ("y/z.bin",))
    with pytest.raises(NotKnownError):
        coordinator.evict(NAME, None, ["nothing"])


def test_a_version_is_published_from_elsewhere_and_becomes_current_when_told(filled: Kit):
    filled.origin("memory://b", {"x.bin": b"other"})
    coordinator = filled.coordinator()
    catalogue = coordinator.catalogue
    first = catalogue.add(declared("d"), {})
    second = catalogue.publish(NAME, OriginSpec("memory://b"), "v2")
    assert second.id != first.current
    assert catalogue.get(NAME) == first
    assert catalogue.resolve(NAME, "v2").version == second
    assert catalogue.labels(NAME) == {second.id: ("v2",)}
    assert catalogue.publish(NAME, OriginSpec("memory://b"), "v2").id == second.id

    catalogue.change(NAME, DatasetChange(current="v2"))
    moved = catalogue.get(NAME)
    assert (moved.current, moved.origin.url) == (second.id, "memory://b")
    assert catalogue.update(NAME).id == second.id  # of where it is now


def test_by_its_id_a_version_takes_its_origin_along_too_and_going_back_brings_the_old_one_back(
    filled: Kit,
):
    catalogue = filled.coordinator().catalogue
    first = catalogue.add(declared("d"), {})
    for url, label in (("memory://b", "v2"), ("memory://c", "")):
        filled.origin(url, {"x.bin": url.encode()})
        second = catalogue.publish(NAME, OriginSpec(url), label)
        catalogue.change(NAME, DatasetChange(current=second.id))
        assert catalogue.get(NAME).origin.url == url
        assert catalogue.update(NAME).id == second.id
        catalogue.change(NAME, DatasetChange(current=first.current))
        assert catalogue.get(NAME).origin.url == URL
        assert catalogue.update(NAME).id == first.current


@pytest.mark.parametrize(
    ("declared_as", "listed_at", "same"),
    [
        ("hf://org/m", "hf://org/m@c0ffee", True),
        ("hf://org/m@main", "hf://org/m@c0ffee", True),
        ("hf://org/m/folder", "hf://org/m@c0ffee/folder", True),
        ("hf://org/m", "hf://org/other@c0ffee", False),
        ("hf://org/m2", "hf://org/m@c0ffee", False),
        ("s3://models/v1", "s3://models/v1", True),
        ("s3://models/v1", "s3://models/v2", False),
        ("s3://models/v1/more", "s3://models/v1", False),
    ],
)
def test_going_back_to_a_commit_does_not_leave_the_branch(declared_as, listed_at, same):
    dataset = declared("d", origin=OriginSpec(declared_as))
    version = Version(
        id="1",
        dataset=NAME,
        origin=OriginSpec(listed_at),
        client="",
        client_reason="",
        file_count=1,
        size=1,
        listed_at=0.0,
    )
    assert (listed_from(dataset, version) is dataset.origin) == same


def test_publishing_declares_a_dataset_that_is_not_there(filled: Kit):
    catalogue = filled.coordinator().catalogue
    version = catalogue.publish(NAME, OriginSpec(URL), "v1")
    assert catalogue.get(NAME).current == version.id


def test_a_label_moves_and_goes_with_its_version(filled: Kit):
    catalogue = filled.coordinator().catalogue
    catalogue.add(replace(declared("d"), versions_kept=1), {})
    for number in range(3):
        filled.origin(URL, {"x.bin": bytes([number])})
        published = catalogue.publish(NAME, OriginSpec(URL), "latest")
        catalogue.publish(NAME, OriginSpec(URL), f"v{number}")
        catalogue.change(NAME, DatasetChange(current="latest"))
    assert catalogue.resolve(NAME, "latest").version.id == published.id
    assert catalogue.labels(NAME)[published.id] == ("latest", "v2")
    with pytest.raises(NotKnownError):
        catalogue.resolve(NAME, "v0")


@pytest.mark.parametrize("label", ["beef", "", "a b", "../x", "-v"])
def test_what_could_be_an_id_or_a_path_is_no_label(filled: Kit, label):
    catalogue = filled.coordinator().catalogue
    catalogue.add(declared("d"), {})
    if not label:
        assert catalogue.publish(NAME, OriginSpec(URL), label)
        assert catalogue.labels(NAME) == {}
    else:
        with pytest.raises(ConfigError):
            catalogue.publish(NAME, OriginSpec(URL), label)
