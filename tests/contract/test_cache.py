"""What the port ``Cache`` of flows promises, of the coordinator's service and of the one in memory."""

from dataclasses import replace

import pytest

from cachefs.core.names import DatasetName, WorkerId
from cachefs.dataflow.incoordinator import CoordinatorCache
from cachefs.errors import ConfigError, NotKnownError, OriginNotFoundError
from cachefs.testing.memory.cache import BLOCK_SIZE, MemoryCache
from tests.integration.coordinator.conftest import (
    BLOCK,
    CLUSTER,
    Kit,
    member,
    renew,
    report,
)

NAME = DatasetName.parse("llama")
FILES = {"a/x": 950, "a/y": 150, "z": 0}
URL = "memory://v1"
OTHER = "memory://v2"


class InMemory:
    """The one in memory, with what a test does to it."""

    def __init__(self):
        self.cache = MemoryCache({URL: FILES, OTHER: {**FILES, "b": 300}})

    def add_worker(self, name, zone=""):
        self.cache.add_worker(name, zone)

    def lose_worker(self, name):
        self.cache.remove_worker(name)

    def fill(self):
        self.cache.fill()

    def close(self):
        pass


class InCoordinator:
    """The coordinator's service, with workers that do what they are told when the test says so."""

    def __init__(self, folder):
        self.kit = Kit(f"sqlite:///{folder / 'store.db'}")
        for url, files in ((URL, FILES), (OTHER, {**FILES, "b": 300})):
            self.kit.origin(url, {path: path.encode()[:1] * size for path, size in files.items()})
        self.coordinator = self.kit.coordinator()
        self.cache = CoordinatorCache(self.coordinator)
        self.workers = {}

    def add_worker(self, name, zone=""):
        joined = replace(member(name), zone=zone)
        self.coordinator.members.register(joined, CLUSTER.fingerprint())
        renew(self.coordinator, name, whole=True)
        self.workers[name] = {}

    def lose_worker(self, name):
        self.coordinator.members.leave(WorkerId(name), "1")
        del self.workers[name]

    def fill(self):
        for _ in range(3):
            self.kit.settle(self.coordinator)
            for (_, name), told in list(self.kit.workers.told.items()):
                if name in self.workers:
                    held = self.workers[name]
                    for file, mask in told.items():
                        held[file] = held.get(file, 0) | mask
                    renew(self.coordinator, name, *(report(*one) for one in held.items()))
        self.kit.settle(self.coordinator)

    def close(self):
        self.kit.close()


@pytest.fixture(params=["memory", "coordinator"])
def site(request, tmp_path):
    made = InMemory() if request.param == "memory" else InCoordinator(tmp_path)
    yield made
    made.close()


@pytest.fixture
def cache(site):
    site.cache.publish(NAME, URL, {}, label="v1")
    return site.cache


def test_blocks_are_of_the_same_size_in_both():
    assert BLOCK_SIZE == BLOCK


def test_what_is_published_first_is_current_and_the_next_is_not(site, cache):
    first = cache.resolve(NAME, None)
    second = cache.publish(NAME, OTHER, {}, label="v2")
    assert cache.resolve(NAME, None).manifest.id == first.manifest.id != second.manifest.id
    assert cache.resolve(NAME, "v2").manifest.id == second.manifest.id
    cache.make_current(NAME, "v2")
    assert cache.resolve(NAME, None).manifest.id == second.manifest.id


def test_publishing_the_same_again_is_nothing(cache):
    first = cache.resolve(NAME, "v1")
    assert cache.publish(NAME, URL, {}, label="v1").manifest.id == first.manifest.id


def test_versions_with_labels_are_told_once(cache):
    second = cache.publish(NAME, OTHER, {}, label="v2").manifest.id
    cache.publish(NAME, OTHER, {}, label="next")
    labelled = cache.labelled(NAME)
    assert second in labelled
    assert len(labelled) == len(set(labelled))
    with pytest.raises(NotKnownError):
        cache.labelled(DatasetName.parse("nothing"))


def test_an_origin_that_holds_nothing_cannot_be_published(cache):
    with pytest.raises(OriginNotFoundError):
        cache.publish(NAME, "memory://nowhere", {}, label="")


def test_what_is_not_known_is_an_error(cache):
    with pytest.raises(NotKnownError):
        cache.resolve(NAME, "v9")
    with pytest.raises(NotKnownError):
        cache.resolve(DatasetName.parse("ghost"), None)
    with pytest.raises(NotKnownError):
        cache.warm_job("ffff")
    with pytest.raises(NotKnownError):
        cache.residency(NAME, None, ["no/such"])


def test_a_warm_up_ends_when_everything_is_observed_resident(site, cache):
    site.add_worker("one")
    site.add_worker("two")
    job = cache.warm(NAME, None, [], key="run/step")
    assert (job.state, job.bytes_total) == ("waiting", 1100)
    assert cache.residency(NAME, None, []).bytes_resident == 0
    site.fill()
    assert cache.warm_job(job.id).state == "done"
    found = cache.residency(NAME, None, [])
    assert (found.bytes_total, found.bytes_resident, found.copies) == (1100, 1100, 1)
    assert found.bytes_by_tier == {"disk": 1100}


def test_when_a_worker_is_lost_residency_shrinks_although_the_job_said_done(site, cache):
    for name in ("one", "two"):
        site.add_worker(name)
    job = cache.warm(NAME, None, [], key="k")
    site.fill()
    site.lose_worker("one")
    assert cache.warm_job(job.id).state == "done"
    found = cache.residency(NAME, None, [])
    assert found.bytes_resident < 1100
    assert found.copies == 0


def test_one_key_is_one_warm_up_as_long_as_it_runs(site, cache):
    first = cache.warm(NAME, None, [], key="k")
    assert cache.warm(NAME, None, [], key="k").id == first.id
    assert cache.warm(NAME, None, [], key="other").id != first.id
    cache.cancel_warm(first.id)
    assert cache.warm_job(first.id).state == "cancelled"
    assert cache.warm(NAME, None, [], key="k").id != first.id


def test_a_warm_up_of_a_zone_fills_there_alone(site, cache):
    for name, zone in (("a1", "a"), ("b1", "b"), ("b2", "b")):
        site.add_worker(name, zone)
    job = cache.warm(NAME, None, [], key="k", zone="b")
    site.fill()
    assert cache.warm_job(job.id).state == "done"
    found = cache.residency(NAME, None, [])
    assert found.bytes_by_zone == {"a": 0, "b": 1100}
    assert found.copies_by_zone == {"a": 0, "b": 1}


def test_copies_are_as_many_as_the_warm_up_says(site, cache):
    for name in ("one", "two", "three"):
        site.add_worker(name)
    cache.warm(NAME, None, ["a"], key="k", copies=2)
    site.fill()
    assert cache.residency(NAME, None, ["a"]).copies == 2


def test_a_part_of_a_version_is_warmed_and_asked_for_by_its_paths(site, cache):
    site.add_worker("one")
    cache.warm(NAME, None, ["a/y"], key="k")
    site.fill()
    assert cache.residency(NAME, None, ["a/y"]).bytes_resident == 150
    assert cache.residency(NAME, None, ["a"]).bytes_resident == 150
    assert cache.residency(NAME, None, ["a"]).bytes_total == 1100


def test_a_pool_is_scaled_by_saying_so(site, cache):
    assert cache.pool_of(NAME) == "default"
    assert (cache.pool("default").wanted, cache.pool("default").live) == (None, 0)
    cache.scale("default", 4, by_zone={"a": 2})
    cache.scale("default", 4, by_zone={"a": 2})
    status = cache.pool("default")
    assert (status.wanted, dict(status.wanted_by_zone), status.live) == (4, {"a": 2}, 0)
    site.add_worker("one", "a")
    assert dict(cache.pool("default").live_by_zone) == {"a": 1}
    with pytest.raises(ConfigError):
        cache.scale("default", 1, by_zone={"a": 2})


def test_who_is_a_member_is_seen(site, cache):
    site.add_worker("one")
    assert [each.worker for each in cache.view().members] == ["one"]


def test_the_memory_cache_provides_what_is_wanted_and_loses_what_leaves():
    site = InMemory()
    cache = site.cache
    cache.publish(NAME, URL, {}, label="")
    cache.scale("default", 2, by_zone={})
    cache.provide()
    cache.warm(NAME, None, [], key="k")
    cache.fill(blocks=3)
    assert cache.origin_bytes == cache.residency(NAME, None, []).bytes_resident == 300
    cache.fill()
    assert cache.origin_bytes == 1100
    cache.scale("default", 0, by_zone={})
    cache.provide()
    assert cache.residency(NAME, None, []).bytes_resident == 0


def test_eviction_makes_room_and_says_how_much(site, cache):
    site.add_worker("one")
    cache.warm(NAME, None, [], key="k")
    site.fill()
    assert cache.evict(NAME, None, ["a/y"]) > 0


def test_who_holds_what_is_known_while_they_are_members_and_digests_once_it_was_filled(site, cache):
    for name in ("one", "two"):
        site.add_worker(name)
    resolved = cache.resolve(NAME, None)
    file = resolved.file(resolved.manifest.find("a/y"))
    assert cache.holders(file) == {}
    assert list(cache.digests(file)) == [None, None]
    cache.warm(NAME, None, ["a/y"], key="k", copies=2)
    site.fill()
    assert cache.holders(file) == {WorkerId("one"): 0b11, WorkerId("two"): 0b11}
    assert all(cache.digests(file))
    site.lose_worker("one")
    assert cache.holders(file) == {WorkerId("two"): 0b11}
