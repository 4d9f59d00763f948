"""The inventory over a real coordinator and store; nobody ticks but the test."""

import json
from dataclasses import replace

import pytest

from cachefs.config.schema import HintsConfig
from cachefs.config.secrets import Secret
from cachefs.coordinator.duties import Surroundings
from cachefs.core.hints.asking import Reading
from cachefs.core.hints.estimate import Link
from cachefs.core.hints.nodes import Gpu
from cachefs.core.names import DatasetName
from cachefs.errors import ConfigError, CoordinatorUnavailableError
from cachefs.hints.inventory import Facts, Inventory
from cachefs.hints.inventory import inventory as module
from cachefs.testing.memory.nodes import MemoryNodes
from cachefs.wire.nodereports import Awaited, NodeReport, TrafficReport
from tests.integration.coordinator.conftest import (
    CLUSTER,
    Kit,
    declared,
    join,
    kit,
    member,
    postgres,
    postgres_url,
    renew,
    report,
    small_kit,
    store_url,
)

__all__ = ["kit", "postgres", "postgres_url", "small_kit", "store_url"]  # fixtures

GPUS = tuple(Gpu(index=index, model="H100", numa=index // 4) for index in range(8))
MODEL = DatasetName.parse("model")
READING = Reading(dataset=MODEL)


class World:
    """A coordinator with a dataset of four files of 250 bytes, and an inventory."""

    def __init__(self, kit: Kit, **config):
        self.kit = kit
        self.coordinator = kit.coordinator()
        self.origin = kit.origin("memory://a", {f"f{n}.bin": bytes(250) for n in range(4)})
        self.dataset = self.coordinator.catalogue.add(declared("model"), {})
        self.nodes = MemoryNodes()
        self.inventory = self.another(self.coordinator, **config)

    def another(self, coordinator, **config):
        settings = replace(self.kit.config, hints=HintsConfig(**config))
        parts = Surroundings(
            coordinator,
            coordinator._store,
            self.kit.runtime,
            settings,
            CLUSTER,
            Secret("token"),
        )
        return Inventory(parts, sources=[self.nodes])

    @property
    def files(self):
        return [
            entry.file_version
            for entry in self.coordinator.catalogue.manifest(self.dataset.current).files
        ]

    def say(self, worker, *residency, node="", traffic=None, coordinator=None, **facts):
        statistics = {
            "node": NodeReport(name=node or worker, **facts).to_document(),
            "traffic": (traffic or TrafficReport()).to_document(),
        }
        renew(
            coordinator or self.coordinator, worker, *residency, statistics=json.dumps(statistics)
        )

    def look(self, seconds=1.5):
        self.kit.runtime.skip(seconds)
        self.inventory.tick()

    def seen(self, node, reading=READING, **share):
        found = self.inventory.find(reading, **share)
        return found.spread.nodes[node].split

    def node(self, name):
        return self.inventory.fleet.node(name)


@pytest.fixture
def world(small_kit):
    return World(small_kit)


def test_a_block_that_was_reported_is_in_the_spread_at_the_next_tick(world):
    join(world.coordinator, "w1")
    world.look()
    world.say("w1", report(world.files[0], 0b11))
    world.look()
    assert world.seen("w1").nvme == 200
    world.say("w1", report(world.files[0], 0b111))
    world.inventory.tick()  # the store is not looked at yet: residency is in memory
    assert world.seen("w1").nvme == 250


def test_what_is_awaited_is_arriving_until_it_is_there(world):
    world.look()
    join(world.coordinator, "w1", "w2")
    awaited = (Awaited(world.files[0], 0b111, 4.0),)
    world.say("w1", traffic=TrafficReport(awaited=awaited))
    world.say("w2")
    world.look()
    found = world.inventory.find(READING).spread
    assert found.nodes["w1"].split.arriving == 250
    assert 0 < found.nodes["w1"].arriving_seconds <= 4.0
    assert found.zones[""].split.peer_zone == 250
    world.say("w1", report(world.files[0], 0b111))
    world.look()
    assert (world.seen("w1").arriving, world.seen("w1").nvme) == (0, 250)


def test_a_worker_that_has_not_reported_everything_holds_nothing(world):
    join(world.coordinator, "w1", whole=[report(world.files[0], 1)])
    world.look()
    assert world.seen("node").nvme == 100
    world.coordinator.members.register(member("w1", incarnation="2"), CLUSTER.fingerprint())
    world.coordinator.residency.refresh()
    world.look()
    assert world.inventory.find(READING).spread.nodes == {}


def test_workers_of_one_machine_are_one_node(world):
    join(world.coordinator, "w1", "w2")
    world.say("w1", report(world.files[0], 0b111), node="n1", gpus=GPUS, rack="r1")
    world.say("w2", report(world.files[1], 0b111), node="n1", labels={"pool": "x"})
    world.look()
    assert world.inventory.fleet.names == ["n1"]
    assert (world.node("n1").rack, len(world.node("n1").gpus)) == ("r1", 8)
    assert world.node("n1").labels == {"pool": "x"}
    assert world.seen("n1").nvme == 500
    world.coordinator.members.leave("w1", "1")
    world.look()
    assert world.seen("n1").nvme == 250
    assert world.node("n1").gpus == ()


def test_a_worker_that_says_nothing_of_its_node_is_on_the_one_that_it_registered_with(world):
    join(world.coordinator, "w1", whole=[report(world.files[0], 1)])
    world.look()
    assert world.seen("node").nvme == 100


def test_a_worker_that_has_only_registered_is_nowhere_yet(world):
    world.coordinator.members.register(member("w1"), CLUSTER.fingerprint())
    world.look()
    assert world.inventory.fleet.names == []
    world.say("w1")
    world.look()
    assert world.inventory.fleet.names == ["w1"]


def test_memory_behind_another_numa_node_is_told_apart(world):
    join(world.coordinator, "w1", "w2")
    for worker, bound in (("w1", 0), ("w2", 1)):
        held = report(world.files[0], 1, tier="memory")
        world.say(worker, held, gpus=GPUS[:4], numa_nodes=2, memory_numa=bound)
    world.look()
    assert (world.seen("w1").dram, world.seen("w2").dram_far) == (100, 100)


def test_what_a_source_says_wins_over_what_a_worker_found_out(world):
    join(world.coordinator, "w1")
    world.say("w1", rack="r1", nic_bytes_rate=1e9, gpus=GPUS)
    world.nodes.put(Facts(name="w1", rack="r2", rates={"nic": 5e9}))
    world.nodes.put(Facts(name="bare", zone="z"))
    world.look()
    node = world.node("w1")
    assert (node.rack, node.rates.nic, len(node.gpus)) == ("r2", 5e9, 8)
    assert world.node("bare").zone == "z"
    assert world.inventory.age("bare") < 1
    world.nodes.remove("bare")
    world.look()
    assert world.node("bare") is None
    assert world.inventory.age("bare") == float("inf")


def test_a_node_without_a_worker_grows_old_when_its_source_is_out_of_date(world):
    world.nodes.put(Facts(name="bare"))
    world.look()
    world.nodes.fail("the cluster does not answer")
    world.look(10)
    assert world.inventory.age("bare") >= 10
    assert world.inventory.problems == ("the cluster does not answer",)
    assert world.node("bare") is not None


def test_the_age_of_a_node_is_that_of_its_worker_s_last_renewal(world):
    world.look()
    join(world.coordinator, "w1")
    world.say("w1")
    world.look()
    world.look(3)
    assert 3 <= world.inventory.age("w1") < 5
    world.say("w1")
    world.look()
    assert world.inventory.age("w1") < 1


def test_a_worker_that_becomes_a_member_after_it_was_heard_of_is_as_old_as_what_it_said(kit):
    world = World(kit)
    other = kit.coordinator()
    elsewhere = world.another(other)
    elsewhere.tick()
    join(world.coordinator, "w1")
    world.say("w1")
    kit.runtime.skip(1)
    elsewhere.tick()  # the renewal is in the store, and the view of this coordinator is an older one
    assert elsewhere.fleet.names == []
    kit.runtime.skip(CLUSTER.lease_seconds / 4)
    other.members.tick()
    other.residency.refresh()
    elsewhere.tick()
    assert elsewhere.age("w1") < CLUSTER.lease_seconds


def test_what_is_stored_before_it_begins_may_be_as_old_as_a_lease(world):
    join(world.coordinator, "w1")
    world.say("w1")
    world.inventory.tick()
    assert world.inventory.age("w1") >= CLUSTER.lease_seconds


def test_streams_are_counted_on_nodes_and_links(small_kit):
    world = World(small_kit, origin_bytes_rate=1e9, rack_bytes_rate=5e9)
    join(world.coordinator, "w1", "w2")
    world.say("w1", rack="r1", traffic=TrafficReport(from_origins={"model": 4}))
    world.say("w2", rack="r2", traffic=TrafficReport(from_workers={"w1": 2}))
    world.look()
    fleet = world.inventory.fleet
    assert fleet.column("streams_in").tolist() == [1, 1]
    assert fleet.column("streams_out")[fleet.row("w1")] == 1
    links = world.inventory.links
    assert links.origins == {"memory://a": Link(rate=1e9, streams=1)}
    assert links.racks["", "r1"] == Link(rate=5e9, streams=2)
    assert world.inventory.find(READING).spread.origin == "memory://a"
    world.look()
    assert world.inventory.links is links
    world.say("w1", rack="r1")
    world.look()
    assert world.inventory.links.origins["memory://a"].streams == 0


def test_an_expected_release_outlasts_the_next_report(world):
    join(world.coordinator, "w1")
    world.say("w1", gpus=GPUS)
    world.look()
    world.inventory.expect_release("w1", 2, 77.0)
    assert world.node("w1").gpus[2].free_at == 77.0
    world.say("w1", gpus=(replace(GPUS[0], used=0.5), *GPUS[1:]))
    world.look()
    assert [gpu.free_at for gpu in world.node("w1").gpus[:3]] == [None, None, 77.0]
    assert world.node("w1").gpus[0].used == 0.5
    world.inventory.expect_release("w1", 2, None)
    assert world.node("w1").gpus[2].free_at is None


def test_labels_of_fluid_count_a_little_where_no_more_is_known(world):
    join(world.coordinator, "w1", "w2", "w3")
    label = {"fluid.io/s-default-model": "true"}
    world.say("w1", labels=label)
    world.say("w2")
    world.say("w3", report(world.files[0], 0b111), labels=label)
    world.look()
    assert world.seen("w1").nvme == 100
    assert world.seen("w1").total == 1000
    assert "w2" not in world.inventory.find(READING).spread.nodes
    assert world.seen("w3").nvme == 250
    world.say("w1")
    world.look()
    assert "w1" not in world.inventory.find(READING).spread.nodes


def test_patterns_and_ranks_choose_files(world):
    some = Reading(dataset=MODEL, paths=("f0.bin", "f3.bin"))
    assert world.inventory.find(some).spread.total == 500
    by_rank = Reading(dataset=MODEL, by_rank=True)
    join(world.coordinator, "w1", whole=[report(world.files[1], 1), report(world.files[3], 0b11)])
    world.look()
    shares = [world.inventory.find(by_rank, rank=rank, ranks=3) for rank in range(3)]
    assert [(found.files, found.spread.total) for found in shares] == [(2, 500), (1, 250), (1, 250)]
    assert world.seen("node", by_rank, rank=0, ranks=3).nvme == 200
    assert world.seen("node", by_rank, rank=1, ranks=3).nvme == 100


def test_a_pattern_that_can_match_nothing_is_refused(world):
    with pytest.raises(ConfigError, match="an empty pattern"):
        world.inventory.find(Reading(dataset=MODEL, paths=("",)))


def test_what_there_is_not_is_none(world):
    find = world.inventory.find
    assert find(Reading(dataset=DatasetName.parse("missing"))) is None
    assert find(Reading(dataset=MODEL, version="0000")) is None
    assert world.inventory.spread(Reading(dataset=DatasetName.parse("missing"))) is None


def test_versions_are_named_by_id_prefix_or_not_at_all(world):
    version = world.dataset.current
    for text in (None, version, version[:8]):
        assert world.inventory.find(Reading(dataset=MODEL, version=text)).version == version


def test_a_dataset_that_is_removed_is_unknown_at_the_next_look(world):
    world.look()
    assert world.inventory.find(READING) is not None
    world.coordinator.catalogue.remove(MODEL)
    world.look()
    assert world.inventory.find(READING) is None


def test_a_new_version_is_found_at_the_next_look(world):
    world.look()
    before = world.inventory.find(READING)
    world.kit.origin("memory://a", {"other.bin": bytes(70)})
    world.coordinator.catalogue.update(MODEL)
    world.look()
    after = world.inventory.find(READING)
    assert (after.version != before.version, after.spread.total) == (True, 70)
    old = world.inventory.find(Reading(dataset=MODEL, version=before.version))
    assert old.spread.total == 1000


def test_a_dataset_that_was_added_a_moment_ago_is_known(world):
    world.look()
    world.kit.origin("memory://b", {"x": bytes(30)})
    world.coordinator.catalogue.add(declared("late", "memory://b"), {})
    assert world.inventory.find(Reading(dataset=DatasetName.parse("late"))).spread.total == 30


def test_many_files_are_sorted_behind_who_asks(world, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE_FILES", 2)
    join(world.coordinator, "w1", whole=[report(world.files[0], 0b111)])
    world.look()
    some = Reading(dataset=MODEL, paths=("f0.bin",))
    found = world.inventory.find(some)
    assert (found.exact, found.spread.total, found.spread.elsewhere.split.origin) == (
        False,
        1000,
        1000,
    )
    world.inventory._sort_what_waits()
    found = world.inventory.find(some)
    assert (found.exact, found.spread.total) == (True, 250)
    assert world.inventory.find(READING).exact
    share = world.inventory.find(Reading(dataset=MODEL, by_rank=True), rank=0, ranks=4)
    assert (share.exact, share.spread.total) == (False, 250)


def test_current_versions_are_sorted_before_anybody_asks(world):
    world.look()
    world.inventory._sort_what_waits()
    (spreads,) = (value for name, _, value in world.inventory.samples() if name.endswith("spreads"))
    assert spreads == 1


def test_a_store_that_does_not_answer_is_a_problem_until_it_does(world, monkeypatch):
    world.look()
    with monkeypatch.context() as patched:
        patched.setattr(world.inventory._hearing, "listen", _unavailable)
        world.kit.runtime.skip(5)
        world.inventory._try(world.inventory.tick)
        assert "the store sleeps" in world.inventory.problems[0]
        assert world.inventory.behind_seconds >= 5
        assert world.inventory.find(READING) is not None
    world.look()
    assert world.inventory.problems == ()
    assert world.inventory.behind_seconds < 1


def test_who_waits_is_told_of_a_change(world):
    join(world.coordinator, "w1")
    world.look()
    before = world.inventory.revision
    assert world.inventory.wait(before, timeout_seconds=0.0) == before
    world.say("w1", report(world.files[0], 1))
    world.look()
    assert world.inventory.wait(before, timeout_seconds=5.0) > before


def test_what_one_coordinator_heard_the_other_one_s_inventory_knows(kit):
    world = World(kit)
    other = kit.coordinator()
    elsewhere = world.another(other)
    join(world.coordinator, "w1")
    if not world.coordinator._store.is_shared:
        other.residency.refresh()
    world.say("w1", report(world.files[0], 0b11), node="n1", rack="r1")
    kit.runtime.skip(CLUSTER.lease_seconds / 4)
    other.members.tick()
    if not world.coordinator._store.is_shared:
        other.residency.refresh()
    elsewhere.tick()
    assert elsewhere.find(READING).spread.nodes["n1"].split.nvme == 200
    assert elsewhere.fleet.node("n1").rack == "r1"


def test_it_looks_on_its_own_until_it_is_closed(world):
    with world.inventory as inventory:
        inventory.start()
        before = inventory.revision
        join(world.coordinator, "w1")
        world.say("w1", report(world.files[0], 1))
        assert inventory.wait(before, timeout_seconds=10.0) > before
    assert world.nodes.closed
    inventory.close()


def _unavailable(_now):
    raise CoordinatorUnavailableError("the store sleeps")
