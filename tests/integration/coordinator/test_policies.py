"""Policies in a coordinator whose clocks the test pushes: what is seen, what is decided, what is done."""

import json

import pytest

from cachefs.config.secrets import Secret
from cachefs.coordinator.duties import Surroundings
from cachefs.coordinator.elastic.duty import Elastic
from cachefs.coordinator.elastic.forms import parse_change
from cachefs.core.names import DatasetName, WorkerId
from cachefs.core.pools import PoolChange
from cachefs.errors import ConfigError, ConflictError
from tests.integration.coordinator.conftest import CLUSTER, Kit, declared, join, renew, report

NAME = DatasetName.parse("d")
IDLE = {"rules": [{"idle": "10m"}], "least": 0, "most": 4, "cooldown": "10s"}
QUEUE = {"rules": [{"target": {"queued_fills": 4}}], "most": 4, "cooldown": "10s", "calm": "60s"}


class Bench:
    """A coordinator with its elastic part, ticked by hand."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.restart()

    def restart(self) -> None:
        self.coordinator = self.kit.coordinator()
        self.elastic = Elastic(
            Surroundings(
                self.coordinator,
                self.kit._stores[-1],
                self.kit.runtime,
                self.kit.config,
                CLUSTER,
                Secret("token"),
            )
        )

    def set(self, **document):
        return self.elastic.policies.change(parse_change(document))

    def passes(self, seconds: float) -> None:
        self.kit.runtime.skip(seconds)
        self.kit.runtime.skip_wall(seconds)

    def tick(self) -> None:
        self.elastic.tick()
        if self.elastic._recovering is not None:
            assert self.elastic._recovering.join(10.0)

    def settle(self) -> None:
        """Let the time pass within which nothing is taken for idle."""
        self.tick()
        self.passes(CLUSTER.lease_seconds + 1)
        self.tick()

    def says(self, worker: str, **statistics) -> None:
        renew(self.coordinator, worker, statistics=json.dumps(statistics))

    def wanted(self, pool="default"):
        return self.coordinator.pools.get(pool).pool.wanted

    def outlook(self, **document):
        return self.elastic.outlook(parse_change(document) if document else None)

    def told(self, kind):
        return [
            (each.subject, each.message)
            for each in self.coordinator.events.after(0, limit=1000)
            if each.kind == kind
        ]


def open_bench(kit: Kit) -> Bench:
    kit.origin("memory://a", {"x": b"x" * 1000, "y": b"y" * 150})
    kit.origin("memory://b", {"z": b"z" * 300})
    return Bench(kit)


@pytest.fixture
def bench(small_kit: Kit):
    return open_bench(small_kit)


@pytest.fixture
def stored_bench(kit: Kit):
    """On each engine."""
    return open_bench(kit)


def test_a_policy_is_kept_over_a_restart_and_every_change_is_an_event(stored_bench: Bench):
    bench = stored_bench
    bench.set(pools={"default": QUEUE}, datasets={"*": {"evict_after": "7d"}, "team": {}})
    bench.restart()
    kept = bench.elastic.policies.every()
    assert kept.pools["default"].most == 4
    assert set(kept.datasets) == {"", "team"}
    bench.set(pools={"default": None}, datasets={"team": None})
    left = bench.elastic.policies.every()
    assert (list(left.pools), list(left.datasets)) == ([], [""])
    subjects = [subject for subject, _ in bench.told("policy-changed")]
    assert subjects.count("pool default") == 2


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"pools": {"default": {"rules": [{"idle": "1m"}]}}}, "required"),
        ({"pools": {"default": IDLE | {"mots": 3}}}, "not permitted"),
        ({"pools": {"default": IDLE | {"rules": [{}]}}}, "one of target, schedule, idle"),
        ({"pools": {"default": IDLE | {"least": 5}}}, "cannot be"),
        ({"pools": {"default": IDLE | {"cooldown": "1 fortnight"}}}, "not a duration"),
        ({"pools": {"no pool": IDLE}}, "pool"),
        ({"datasets": {"*": {"demote_after": "2h", "evict_after": "1h"}}}, "before it is demoted"),
        ({"datasets": {"a/b/c": {}}}, "dataset"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_and_nothing_is_stored(bench, document, message):
    with pytest.raises(ConfigError, match=message):
        bench.set(**{"pools": {"other": QUEUE}, **document})
    assert bench.elastic.policies.every().is_empty


def test_a_queue_of_fills_grows_the_pool_as_the_dry_run_said_with_the_reason(bench: Bench):
    bench.coordinator.catalogue.add(declared("d"), {})
    join(bench.coordinator, "one", "two")
    bench.coordinator.pools.change("default", PoolChange(wanted=2))
    bench.passes(60)
    bench.says("one", queued_fills=7)
    bench.says("two", queued_fills=5)
    (verdict,) = bench.outlook(pools={"default": QUEUE}).pools
    assert bench.wanted() == 2, "a dry run changes nothing"
    bench.set(pools={"default": QUEUE})
    bench.tick()
    assert verdict.change is not None
    assert bench.wanted() == verdict.change.wanted == 3
    _, message = bench.told("pool-changed")[-1]
    assert message == (
        "2 → 3 workers, by policy, because 6 fills are queued a worker, 4 are aimed at"
    )


def test_between_two_changes_lies_the_cooldown_also_over_a_restart(bench: Bench):
    join(bench.coordinator, "one")
    bench.coordinator.pools.change("default", PoolChange(wanted=1))
    bench.passes(60)
    bench.says("one", queued_fills=8)
    bench.set(pools={"default": QUEUE})
    bench.tick()
    assert bench.wanted() == 2
    bench.says("one", queued_fills=40)
    bench.restart()
    bench.tick()
    assert bench.wanted() == 2
    (verdict,) = bench.outlook().pools
    assert "a moment ago" in verdict.why
    bench.passes(11)
    bench.tick()
    assert bench.wanted() == 4, "and no more than the policy's most"


def test_a_pool_shrinks_only_after_the_calm_time(bench: Bench):
    bench.coordinator.catalogue.add(declared("d"), {})
    join(bench.coordinator, "one")
    bench.coordinator.pools.change("default", PoolChange(wanted=4))
    bench.set(pools={"default": QUEUE})
    for _ in range(6):
        bench.passes(11)
        bench.tick()
    assert bench.wanted() == 4
    bench.passes(11)
    bench.tick()
    assert bench.wanted() == 3


def test_the_bounds_of_a_pool_hold_its_policy_back(bench: Bench):
    join(bench.coordinator, "one")
    bench.coordinator.pools.change("default", PoolChange(wanted=2, most=2))
    bench.passes(60)
    bench.says("one", queued_fills=100)
    bench.set(pools={"default": QUEUE})
    bench.tick()
    assert bench.wanted() == 2
    (verdict,) = bench.outlook().pools
    assert "the pool's own bounds" in verdict.why


def test_an_idle_pool_goes_to_zero_and_the_next_reader_wakes_it(bench: Bench):
    bench.coordinator.catalogue.add(declared("d"), {})
    join(bench.coordinator, "one")
    bench.set(pools={"default": IDLE})
    bench.settle()
    bench.passes(500)
    bench.says("one", used_seconds_ago={"d": 0.0})
    bench.tick()
    bench.passes(400)
    bench.tick()
    assert bench.wanted() is None, "it was read a moment ago"
    bench.passes(300)
    bench.tick()
    assert bench.wanted() == 0
    assert "nothing was read for 11" in bench.told("pool-changed")[-1][1]
    bench.passes(5)
    bench.tick()
    assert bench.wanted() == 0, "nobody wants to read"
    bench.coordinator.uses.note(NAME)
    bench.tick()
    assert bench.wanted() == 1
    assert bench.told("pool-changed")[-1][1].endswith("by policy, because somebody reads")


def test_who_read_before_a_pool_was_scaled_to_zero_by_hand_does_not_wake_it(bench: Bench):
    bench.coordinator.catalogue.add(declared("d"), {})
    join(bench.coordinator, "one")
    bench.set(pools={"default": IDLE})
    bench.coordinator.uses.note(NAME)
    bench.tick()
    bench.passes(3)
    bench.coordinator.pools.change("default", PoolChange(wanted=0, by="alice"))
    bench.passes(20)
    bench.tick()
    assert bench.wanted() == 0


def test_a_schedule_holds_workers_from_one_minute_to_another(bench: Bench):
    join(bench.coordinator, "one")
    day = 86400
    now = bench.kit.runtime.wall()
    bench.kit.runtime.skip_wall(day - now % day + 7.9 * 3600)
    rule = {"schedule": {"begins": "0 8 * * *", "ends": "0 18 * * *", "workers": 3}}
    bench.set(pools={"default": {"rules": [rule], "least": 1, "most": 3, "calm": "0s"}})
    bench.tick()
    assert bench.wanted() is None
    bench.passes(0.2 * 3600)
    bench.tick()
    assert bench.wanted() == 3
    assert "3 from `0 8 * * *` to `0 18 * * *`" in bench.told("pool-changed")[-1][1]
    for hours in (10, 0.1):
        bench.passes(hours * 3600)
        bench.tick()
    assert bench.wanted() < 3


def test_what_was_used_lately_is_known_after_a_restart(stored_bench: Bench):
    bench = stored_bench
    bench.coordinator.catalogue.add(declared("d"), {})
    bench.tick()
    bench.passes(1000)
    bench.coordinator.uses.note(NAME)
    bench.tick()
    bench.passes(50)
    bench.restart()
    assert 50 <= bench.coordinator.uses.idle_seconds(NAME) < 60


def test_a_use_that_another_coordinator_saw_counts(stored_bench: Bench):
    bench = stored_bench
    bench.coordinator.catalogue.add(declared("d"), {})
    bench.tick()
    other = Bench(bench.kit)
    bench.passes(1000)
    other.coordinator.uses.note(NAME)
    other.tick()
    assert bench.coordinator.uses.idle_seconds(NAME) > 900
    bench.tick()
    assert bench.coordinator.uses.idle_seconds(NAME) < 60


def files(bench: Bench, name="d"):
    dataset = bench.coordinator.catalogue.get(DatasetName.parse(name))
    return {
        entry.path: entry.file_version
        for entry in bench.coordinator.catalogue.manifest(str(dataset.current)).files
    }


def test_idle_datasets_are_demoted_and_then_evicted_as_the_dry_run_said(bench: Bench):
    bench.coordinator.catalogue.add(declared("d"), {})
    held = files(bench)
    memory = report(held["x"], 1, tier="memory")
    join(bench.coordinator, "one", whole=[memory, report(held["y"], 1)])
    bench.set(datasets={"*": {"demote_after": "1h", "evict_after": "1d"}})
    bench.settle()
    assert bench.outlook().recoveries == ()
    bench.passes(3600)
    (planned,) = bench.outlook().recoveries
    assert (str(planned.dataset), planned.action, planned.size) == ("d", "demote", 100)
    assert ("demote", "one") not in bench.kit.workers.calls
    bench.tick()
    assert ("demote", "one") in bench.kit.workers.calls
    ((subject, message),) = bench.told("idle-demoted")
    assert subject == "d"
    assert "went from memory to disk: unused for" in message
    bench.passes(86400)
    bench.tick()
    assert ("evict", "one") in bench.kit.workers.calls
    assert len(bench.told("idle-evicted")) == 1


def test_what_is_pinned_and_what_a_dataset_in_use_shares_is_left_alone(bench: Bench):
    bench.coordinator.catalogue.add(declared("d", pins=("x",)), {})
    bench.coordinator.catalogue.add(declared("twin"), {})
    bench.coordinator.catalogue.add(declared("alone", url="memory://b"), {})
    held = files(bench)
    join(
        bench.coordinator,
        "one",
        whole=[report(held["x"], 1), report(held["y"], 1), report(files(bench, "alone")["z"], 1)],
    )
    bench.set(datasets={"*": {"evict_after": "1h"}, "twin": {}})
    bench.settle()
    bench.passes(7200)
    assert [str(one.dataset) for one in bench.outlook().recoveries] == ["alone"]
    twin = {"twin": {"evict_after": "1h"}}
    planned = {str(one.dataset): one.size for one in bench.outlook(datasets=twin).recoveries}
    assert planned == {"alone": 100, "d": 100, "twin": 100}, "y, and never x"


def test_the_policy_of_a_dataset_of_the_default_namespace_is_found_by_its_name(bench: Bench):
    bench.coordinator.catalogue.add(declared("d"), {})
    join(bench.coordinator, "one", whole=[report(files(bench)["x"], 1)])
    bench.set(datasets={"*": {"evict_after": "1h"}, "d": {}})
    bench.settle()
    bench.passes(7200)
    assert bench.outlook().recoveries == ()


def test_a_coordinator_that_has_just_begun_takes_nothing_for_idle(bench: Bench):
    bench.coordinator.catalogue.add(declared("d"), {})
    join(bench.coordinator, "one", whole=[report(files(bench)["x"], 1)])
    bench.set(pools={"default": IDLE}, datasets={"*": {"evict_after": "1h"}})
    bench.coordinator.pools.change("default", PoolChange(wanted=1))
    bench.tick()
    bench.passes(7200)
    bench.restart()
    bench.tick()
    assert bench.wanted() == 1
    assert ("evict", "one") not in bench.kit.workers.calls
    bench.says("one", used_seconds_ago={"d": 60.0})
    bench.passes(CLUSTER.lease_seconds + 1)
    bench.tick()
    assert ("evict", "one") not in bench.kit.workers.calls, "it was read meanwhile"


def test_another_namespace_does_not_get_into_an_exclusive_pool(bench: Bench):
    bench.coordinator.pools.change("gpu", PoolChange(exclusive="team"))
    bench.coordinator.catalogue.add(declared("team/d", pool="gpu"), {})
    with pytest.raises(ConflictError, match="exclusive to the namespace team"):
        bench.coordinator.catalogue.add(declared("other/d", pool="gpu"), {})


def test_of_two_coordinators_only_the_one_that_leads_acts_and_both_know_why(small_kit: Kit):
    small_kit.origin("memory://a", {"x": b"x"})
    bench = Bench(small_kit)
    join(bench.coordinator, "one")
    bench.coordinator.pools.change("default", PoolChange(wanted=1))
    bench.passes(60)
    bench.says("one", queued_fills=8)
    bench.set(pools={"default": QUEUE})
    other = Bench(small_kit)
    other.elastic._leadership._own = "another"
    bench.tick()
    bench.passes(11)
    bench.says("one", queued_fills=12)
    other.tick()
    assert bench.wanted() == 2, "who does not lead does nothing"
    (verdict,) = other.outlook().pools
    assert verdict.change is not None
    bench.tick()
    assert bench.wanted() == verdict.change.wanted


def test_where_nothing_could_be_freed_it_is_tried_again_after_a_while_or_a_use(bench: Bench):
    bench.coordinator.catalogue.add(declared("d"), {})
    join(bench.coordinator, "one", whole=[report(files(bench)["x"], 1)])
    bench.kit.workers.down.add(WorkerId("one"))
    bench.set(datasets={"*": {"evict_after": "1h"}})
    bench.settle()

    def tried():
        bench.tick()
        return bench.kit.workers.calls.count(("evict", WorkerId("one")))

    bench.passes(7200)
    assert [tried(), tried()] == [1, 1]
    bench.passes(61)
    assert tried() == 2
    bench.coordinator.uses.note(NAME)
    bench.passes(30)
    assert tried() == 2
    bench.passes(3600)
    assert tried() == 3


def test_an_evicted_dataset_is_looked_at_again_once_it_was_used(bench: Bench):
    bench.coordinator.catalogue.add(declared("d"), {})
    held = report(files(bench)["x"], 1)
    join(bench.coordinator, "one")
    bench.set(datasets={"*": {"evict_after": "10s"}})
    bench.settle()
    bench.passes(20)
    bench.tick()
    assert bench.kit.workers.calls == []
    bench.coordinator.uses.note(NAME)
    renew(bench.coordinator, "one", held)
    bench.tick()
    bench.passes(11)
    bench.tick()
    assert ("evict", WorkerId("one")) in bench.kit.workers.calls
