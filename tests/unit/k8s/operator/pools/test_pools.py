"""Pools, reconciled on a model of the world: the sets follow the wish, and the object changes it once."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachefs.errors import CoordinatorUnavailableError
from cachefs.k8s.crds.pools import parse
from cachefs.k8s.installation import Installation
from cachefs.k8s.operator.actions import Apply
from cachefs.k8s.operator.pools import pools
from cachefs.k8s.operator.quantities import says
from tests.unit.k8s.operator.worlds import World

INSTALLATION = Installation(image="cachefs:1")
SET = "StatefulSet"


def an_object(namespace="cachefs", **spec):
    return {
        "apiVersion": "cachefs.io/v1alpha1",
        "kind": "CachePool",
        "metadata": {"name": "default", "namespace": namespace, "uid": "u", "generation": 1},
        "spec": {"tiers": [{"medium": "disk", "size": "10Gi"}], **spec},
    }


def a_pool():
    return {
        "name": "default",
        "wanted": None,
        "wanted_by_zone": {},
        "exclusive": "",
        "leaving": [],
        "problem": "",
        "live": 0,
        "draining": [],
    }


def start(namespace="cachefs", **spec):
    world = World()
    world.pools["default"] = a_pool()
    world.put(an_object(namespace, **spec))
    settle(world)
    return world


def change(world, **spec):
    (document,) = [one for key, one in world.objects.items() if key[0] == "CachePool"]
    document["spec"] |= spec
    document["metadata"]["generation"] += 1


def members(world):
    """What stateful sets would have made, and the coordinator would know of."""
    found = []
    for (kind, _, name), one in world.objects.items():
        if kind == SET:
            for ordinal in range(one.get("status", {}).get("replicas", 0)):
                statistics = {"tiers": [{"capacity_bytes": 10, "used_bytes": 4}]}
                found.append({"worker": f"{name}-{ordinal}", "statistics": statistics})
    return found


def seen(world, *, at=1000.0):
    here = members(world)
    world.pools["default"]["live"] = len(here)
    (document,) = [one for key, one in world.objects.items() if key[0] == "CachePool"]
    namespace = document["metadata"]["namespace"]
    objects = {
        (kind, name): copy.deepcopy(one)
        for (kind, where, name), one in world.objects.items()
        if where == namespace and kind != "CachePool"
    }
    return pools.Seen(
        at=at,
        pool=copy.deepcopy(world.pools["default"]),
        members=here,
        policy=world.policies.get("default"),
        objects=objects,
    )


def look(world, **how):
    (document,) = [one for key, one in world.objects.items() if key[0] == "CachePool"]
    document = copy.deepcopy(document)
    return pools.reconcile(document, parse(document), INSTALLATION, seen(world, **how))


def obey(world, *, slowly=False):
    """Do what the controllers of Kubernetes do."""
    for (kind, _, _), one in world.objects.items():
        if kind == SET:
            one["status"] = {"replicas": one["spec"]["replicas"]}
            if slowly:
                return


def settle(world, *, obeying=True):
    for _ in range(30):
        if obeying:
            obey(world)
        actions = look(world)
        if not actions:
            return
        world.do(actions)
    raise AssertionError(f"it never ends: {actions}")


def replicas(world):
    return {
        key[2].removeprefix("cachefs-worker").removeprefix("-"): one["spec"]["replicas"]
        for key, one in world.objects.items()
        if key[0] == SET
    }


def status(world):
    (document,) = [one for key, one in world.objects.items() if key[0] == "CachePool"]
    return document["status"]


def condition(world, kind="Ready"):
    return next(one for one in status(world)["conditions"] if one["type"] == kind)


def test_a_pool_becomes_a_set_with_what_belongs_to_it():
    world = start(workers=3)
    kinds = sorted(key[0] for key in world.objects if key[0] != "CachePool")
    assert kinds == ["ConfigMap", "PodDisruptionBudget", "Service", SET]
    assert (replicas(world), world.pools["default"]["wanted"]) == ({"": 3}, 3)
    assert (status(world)["workers"], status(world)["wanted"]) == (3, 3)
    assert (status(world)["capacityBytes"], status(world)["usedBytes"]) == (30, 12)
    assert status(world)["selector"].startswith("app.kubernetes.io/component=cachefs-worker")
    owners = world.objects[SET, "cachefs", "cachefs-worker"]["metadata"]["ownerReferences"]
    assert [(one["uid"], one["controller"]) for one in owners] == [("u", True)]


def test_the_object_is_carried_out_once_and_then_the_wish_counts():
    world = start(workers=3)
    world.pools["default"] |= {"wanted": 5, "changed_by": "a flow"}
    settle(world)
    assert (replicas(world), world.pools["default"]["wanted"]) == ({"": 5}, 5)
    change(world, nodeSelector={"disk": "fast"})
    settle(world)
    assert replicas(world) == {"": 5}
    change(world, workers=2)
    settle(world)
    assert (replicas(world), world.pools["default"]["wanted"]) == ({"": 2}, 2)


def test_a_pool_of_no_workers_has_none_though_absent_means_that_nobody_said():
    world = start(workers=0)
    assert (replicas(world), status(world)["appliedWorkers"]) == ({"": 0}, 0)


@pytest.mark.parametrize(
    ("wanted", "asked", "zones"),
    [
        (5, {}, {"a": 2, "b": 2, "c": 1}),
        (5, {"c": 4}, {"a": 1, "b": 0, "c": 4}),
        (0, {}, {"a": 0, "b": 0, "c": 0}),
        (2, {"gone": 1}, {"a": 1, "b": 1, "c": 0}),
    ],
)
def test_zones_have_as_many_as_asked_for_and_the_rest_evenly(wanted, asked, zones):
    world = start(workers=1, zones=["a", "b", "c"])
    world.pools["default"] |= {"wanted": wanted, "wanted_by_zone": asked}
    settle(world)
    assert replicas(world) == zones
    # Whoever is told to end looks there whether it is one too many.
    assert world.pools["default"]["wanted_by_zone"] == {z: n for z, n in zones.items() if n}


def test_the_wish_says_how_many_a_zone_has_before_any_set_is_changed():
    world = start(workers=4, zones=["a", "b"])
    world.pools["default"] |= {"wanted": 2, "wanted_by_zone": {}}
    actions = look(world)
    assert not any(isinstance(one, Apply) for one in actions)
    world.do(actions)
    assert world.pools["default"]["wanted_by_zone"] == {"a": 1, "b": 1}


def test_one_zone_after_the_other_has_fewer_workers():
    world = start(workers=4, zones=["a", "b"])
    change(world, workers=2)
    settle(world, obeying=False)
    assert replicas(world) == {"a": 1, "b": 2}
    obey(world, slowly=True)
    settle(world, obeying=False)
    assert replicas(world) == {"a": 1, "b": 1}


def test_a_zone_that_is_none_of_the_pools_any_more_is_emptied_and_then_goes():
    world = start(workers=4, zones=["a", "b"])
    change(world, zones=["a"])
    settle(world, obeying=False)
    assert replicas(world) == {"a": 4, "b": 0}
    obey(world)
    settle(world)
    assert replicas(world) == {"a": 4}
    assert world.find("ConfigMap", "cachefs-worker-b", "cachefs") is None


def test_a_tier_of_another_size_keeps_the_claims_and_says_so():
    world = start(workers=1)
    before = world.find(SET, "cachefs-worker", "cachefs")["spec"]["volumeClaimTemplates"]
    change(world, tiers=[{"medium": "disk", "size": "20Gi"}], workers=2)
    settle(world)
    after = world.find(SET, "cachefs-worker", "cachefs")["spec"]
    assert (after["volumeClaimTemplates"], after["replicas"]) == (before, 2)
    config = world.find("ConfigMap", "cachefs-worker", "cachefs")["data"]["worker.json"]
    assert str(int(0.95 * 10 * 2**30)) in config
    assert (condition(world)["reason"], condition(world)["status"]) == ("ClaimsKept", "True")


def test_another_number_of_disks_changes_nothing_but_the_number_of_workers():
    world = start(workers=1)
    before = world.find(SET, "cachefs-worker", "cachefs")
    two = [{"medium": "disk", "size": "10Gi"}] * 2
    change(world, tiers=two, workers=2)
    settle(world)
    after = world.find(SET, "cachefs-worker", "cachefs")
    assert after["spec"] == {**before["spec"], "replicas": 2}
    assert condition(world)["reason"] == "ClaimsKept"


def test_a_server_that_writes_quantities_its_own_way_is_not_asked_again():
    world = start(workers=1, resources={"requests": {"memory": "2048Mi", "cpu": "0.5"}})
    one = world.objects[SET, "cachefs", "cachefs-worker"]
    resources = one["spec"]["template"]["spec"]["containers"][0]["resources"]
    resources["requests"] |= {"memory": "2Gi", "cpu": "500m"}
    one["spec"]["volumeClaimTemplates"][0]["spec"]["volumeMode"] = "Filesystem"
    assert look(world) == ()


def test_what_somebody_changed_is_changed_back():
    world = start(workers=2)
    world.objects[SET, "cachefs", "cachefs-worker"]["spec"]["replicas"] = 9
    settle(world)
    assert replicas(world) == {"": 2}


def test_a_pool_per_node_is_a_daemon_set_of_which_nobody_says_how_many():
    world = start("cachefs-node", mode="PerNode")
    found = world.find("DaemonSet", "cachefs-worker", "cachefs-node")
    assert "replicas" not in found["spec"]
    assert world.pools["default"]["wanted"] is None


def test_a_pool_per_node_has_a_set_for_each_zone_that_is_named():
    world = start("cachefs-node", mode="PerNode", zones=["a", "b"])
    for zone in ("a", "b"):
        found = world.find("DaemonSet", f"cachefs-worker-{zone}", "cachefs-node")
        selector = found["spec"]["template"]["spec"]["nodeSelector"]
        assert selector == {"topology.kubernetes.io/zone": zone}
    change(world, zones=["b"])
    settle(world)
    assert world.find("DaemonSet", "cachefs-worker-a", "cachefs-node") is None


def test_what_we_did_not_make_is_not_removed_whatever_its_labels_say():
    world = start(workers=1)
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "by-hand",
            "namespace": "cachefs",
            "labels": {"cachefs.io/pool": "default"},
        },
    }
    world.put(theirs)
    settle(world)
    assert world.find("Service", "by-hand", "cachefs") is not None


def test_a_pool_of_a_foreign_namespace_is_refused():
    world = start("team", workers=3)
    assert condition(world)["reason"] == "ForeignNamespace"
    assert (len(world.objects), world.pools["default"]["wanted"]) == (1, None)


def test_a_set_of_another_pool_is_not_taken():
    world = World()
    world.pools["default"] = a_pool()
    world.put(an_object(workers=1))
    theirs = {
        "apiVersion": "apps/v1",
        "kind": SET,
        "metadata": {
            "name": "cachefs-worker",
            "namespace": "cachefs",
            "labels": {"cachefs.io/pool": "another"},
        },
        "spec": {"replicas": 7},
    }
    world.put(theirs)
    settle(world, obeying=False)
    assert replicas(world) == {"": 7}
    assert condition(world)["reason"] == "NameTaken"


def test_a_policy_is_given_to_the_coordinator_and_taken_back():
    rules = [{"target": {"queuedFills": 4}}]
    world = start(autoscaling={"min": 2, "max": 8, "rules": rules})
    assert world.policies["default"]["rules"] == [{"target": {"queued_fills": 4.0}}]
    assert replicas(world) == {"": 2}
    assert condition(world, "Scaling")["reason"] == "SteadyByPolicy"
    (document,) = [one for key, one in world.objects.items() if key[0] == "CachePool"]
    del document["spec"]["autoscaling"]
    settle(world)
    assert (world.policies, replicas(world)) == ({}, {"": 2})


def test_a_policy_that_somebody_else_set_stays():
    world = start(workers=2)
    world.policies["default"] = {"most": 3}
    assert look(world) == ()


def test_a_horizontal_autoscaler_writes_the_objects_own_number():
    horizontal = {"minReplicas": 1, "maxReplicas": 4, "metrics": [{"type": "Resource"}]}
    world = start(horizontalPodAutoscaler=horizontal)
    found = world.find("HorizontalPodAutoscaler", "cachefs-worker", "cachefs")
    assert found["spec"]["scaleTargetRef"]["kind"] == "CachePool"
    (document,) = [one for key, one in world.objects.items() if key[0] == "CachePool"]
    del document["spec"]["horizontalPodAutoscaler"]
    settle(world)
    assert world.find("HorizontalPodAutoscaler", "cachefs-worker", "cachefs") is None


def test_who_was_named_to_leave_and_is_not_the_last_stays_and_the_coordinator_hears_of_it():
    world = start(workers=3)
    world.pools["default"] |= {"wanted": 2, "leaving": ["cachefs-worker-0"]}
    actions = look(world)
    (report,) = [one for one in actions if getattr(one, "path", "").endswith("/report")]
    assert report.body["left"] == ["cachefs-worker-0"]
    assert "cachefs-worker-0" in report.body["problem"]
    settle(world)
    assert (world.pools["default"]["leaving"], replicas(world)) == ([], {"": 2})


def test_the_last_one_is_waited_for_when_it_was_named_to_leave():
    world = start(workers=3)
    world.pools["default"] |= {"wanted": 2, "leaving": ["cachefs-worker-2"]}
    settle(world, obeying=False)
    assert world.pools["default"]["leaving"] == ["cachefs-worker-2"]
    obey(world)
    settle(world)
    assert (world.pools["default"]["leaving"], replicas(world)) == ([], {"": 2})


def test_a_pool_is_exclusive_as_its_object_says():
    world = start(workers=1, exclusiveTo="team")
    assert world.pools["default"]["exclusive"] == "team"
    change(world, exclusiveTo="")
    settle(world)
    assert world.pools["default"]["exclusive"] == ""


def test_a_coordinator_that_is_away_takes_nothing_off():
    world = start(workers=2)
    (document,) = [one for key, one in world.objects.items() if key[0] == "CachePool"]
    before = dict(document["status"])
    error = CoordinatorUnavailableError("gone")
    world.do(pools.failed(copy.deepcopy(document), error, at=5.0))
    assert {**status(world), "conditions": []} == {**before, "conditions": []}
    assert condition(world)["status"] == "Unknown"
    assert replicas(world) == {"": 2}


def test_a_pool_whose_object_is_gone_wants_nobody():
    world = start(workers=2)
    world.do(pools.gone("default", world.pools["default"]))
    assert world.pools["default"]["wanted"] == 0
    assert pools.gone("default", world.pools["default"]) == ()


@pytest.mark.parametrize(
    ("found", "wanted", "same"),
    [
        ("1Gi", "1024Mi", True),
        ("500m", "0.5", True),
        (1, "1", True),
        ("1G", "1Gi", False),
        (None, "", True),
        (None, "x", False),
        ({"a": 1, "b": 2}, {"a": 1}, True),
        (None, {"a": {}}, True),
        ([1, 2], [1], False),
        (None, [], True),
        ([{"a": 1, "x": 0}], [{"a": 1}], True),
    ],
)
def test_what_a_server_shows_is_compared_as_it_writes_it(found, wanted, same):
    assert says(found, wanted) is same


SPECS = st.fixed_dictionaries(
    {"workers": st.integers(0, 4), "zones": st.sampled_from([[], ["a"], ["a", "b"]])},
    optional={"exclusiveTo": st.sampled_from(["", "team"])},
)
WISHES = st.none() | st.fixed_dictionaries(
    {"wanted": st.integers(0, 4), "wanted_by_zone": st.just({})},
    optional={"leaving": st.just(["cachefs-worker-0"])},
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SPECS, WISHES), min_size=1, max_size=5), st.integers(0, 4))
def test_whatever_was_wished_it_comes_to_rest_with_as_many(steps, killed_after):
    world = World()
    world.pools["default"] = a_pool()
    world.put(an_object())
    for spec, wish in steps:
        change(world, **spec)
        settle(world)
        wanted = world.pools["default"]["wanted"]
        if wish is not None:
            world.pools["default"] |= wish
            wanted = wish["wanted"]
        world.do(look(world)[:killed_after])
        settle(world)
        assert sum(replicas(world).values()) == wanted == world.pools["default"]["wanted"]
        assert set(replicas(world)) == set(spec["zones"] or [""])
        assert world.pools["default"]["leaving"] == []
