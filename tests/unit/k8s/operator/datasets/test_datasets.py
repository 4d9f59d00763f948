"""Datasets and their volumes, reconciled on a model of the world."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachefs.errors import (
    ConfigError,
    CoordinatorUnavailableError,
    NotAllowedError,
    OriginDeniedError,
)
from cachefs.k8s.crds.datasets import parse
from cachefs.k8s.operator.actions import Ask
from cachefs.k8s.operator.datasets import datasets
from cachefs.k8s.operator.datasets.volumes import volume_name
from tests.unit.k8s.operator.worlds import World

FULL = "team/llama"
VOLUME = volume_name("team", "llama")


def an_object(**spec):
    return {
        "apiVersion": "cachefs.io/v1alpha1",
        "kind": "Dataset",
        "metadata": {"name": "llama", "namespace": "team", "uid": "u", "generation": 1},
        "spec": {"url": "s3://bucket/llama", **spec},
    }


def change(world, **spec):
    document = world.objects["Dataset", "team", "llama"]
    document["spec"] |= spec
    document["metadata"]["generation"] += 1


def seen(world, *, at=1000.0, resident=0, pools=frozenset({"default"})):
    declared = copy.deepcopy(world.datasets.get(FULL))
    residency = None
    if declared is not None:
        residency = {"bytes_total": 200, "bytes_resident": resident}
    return datasets.Seen(
        at=at,
        ledger=world.ledger.get(FULL),
        declared=declared,
        versions=tuple(copy.deepcopy(world.versions.get(FULL, []))),
        residency=residency,
        pools=pools,
        warm_up=next((job for job in world.warm_ups if job["key"] == "kubernetes-u"), None),
        claim=world.find("PersistentVolumeClaim", "llama", "team"),
        volume=world.find("PersistentVolume", VOLUME),
    )


def look(world, **how):
    document = world.find("Dataset", "llama", "team")
    return datasets.reconcile(document, parse(document), seen(world, **how))


def settle(world, **how):
    for _ in range(8):
        actions = look(world, **how)
        if not actions:
            return
        world.do(actions)
    raise AssertionError(f"it never ends: {actions}")


def start(**spec):
    world = World()
    world.put(an_object(**spec))
    settle(world)
    return world


def condition(world, kind):
    document = world.objects["Dataset", "team", "llama"]
    (found,) = [one for one in document["status"]["conditions"] if one["type"] == kind]
    return found


def status(world):
    return world.objects["Dataset", "team", "llama"]["status"]


def test_a_dataset_is_declared_as_its_object_says_and_gets_a_volume():
    world = start(replicas=2, pins=["/"], ttl="1h", exclude=["*.bin"])
    declared = world.datasets[FULL]
    assert (declared["replicas"], declared["pins"], declared["ttl_seconds"]) == (2, [""], 3600)
    assert declared["exclude"] == ["*.bin"]
    claim = world.find("PersistentVolumeClaim", "llama", "team")
    volume = world.find("PersistentVolume", VOLUME)
    assert claim["spec"]["volumeName"] == VOLUME
    assert volume["spec"]["capacity"] == {"storage": "200"}
    assert volume["spec"]["csi"]["volumeHandle"] == FULL
    assert volume["spec"]["claimRef"]["namespace"] == "team"
    assert claim["metadata"]["ownerReferences"][0]["uid"] == "u"
    assert status(world)["claim"] == "llama"
    assert (status(world)["phase"], status(world)["files"]) == ("Ready", 2)


def test_the_ledger_is_written_before_anything_is_declared():
    world = World()
    world.put(an_object())
    world.do(look(world))
    assert (world.ledger, world.datasets) == ({FULL: "Delete"}, {})


@pytest.mark.parametrize(
    ("resident", "percent", "phase", "cached"),
    [(0, 0, "Ready", "False"), (199, 99, "Ready", "False"), (200, 100, "Cached", "True")],
)
def test_the_status_says_how_much_is_cached(resident, percent, phase, cached):
    world = start()
    settle(world, resident=resident)
    assert (status(world)["cachedPercent"], status(world)["phase"]) == (percent, phase)
    assert status(world)["cachedText"] == f"{percent} %"
    assert condition(world, "Cached")["status"] == cached


def test_a_condition_keeps_its_time_as_long_as_its_status_stays():
    world = start()
    before = condition(world, "Cached")["lastTransitionTime"]
    settle(world, at=2000.0, resident=100)
    assert condition(world, "Cached")["lastTransitionTime"] == before
    settle(world, at=3000.0, resident=200)
    assert condition(world, "Cached")["lastTransitionTime"] == "1970-01-01T00:50:00Z"


def test_another_url_is_listed_and_what_is_the_same_is_not():
    world = start()
    change(world, replicas=3)
    settle(world)
    assert (world.listings, world.datasets[FULL]["replicas"]) == (1, 3)
    change(world, url="s3://bucket/other")
    settle(world)
    assert (world.listings, world.datasets[FULL]["origin"]["url"]) == (2, "s3://bucket/other")


def test_a_person_who_changes_what_the_object_says_finds_it_changed_back():
    world = start()
    world.datasets[FULL]["replicas"] = 7
    settle(world)
    assert world.datasets[FULL]["replicas"] == 1


def test_what_a_flow_has_made_current_stays_until_the_object_says_something_new():
    world = start()
    theirs = {"url": "s3://bucket/published", "options": {}}
    published = {"id": "vp", "origin": theirs, "file_count": 3, "labels": ["v2"]}
    world.versions[FULL].insert(0, published)
    world.datasets[FULL] |= {"current": "vp", "origin": theirs}
    settle(world)
    assert (world.datasets[FULL]["current"], world.listings) == ("vp", 1)
    change(world, replicas=2)
    settle(world)
    assert (world.datasets[FULL]["current"], world.datasets[FULL]["replicas"]) == ("vp", 2)
    change(world, url="s3://bucket/newest")
    settle(world)
    assert world.datasets[FULL]["origin"]["url"] == "s3://bucket/newest"
    assert world.datasets[FULL]["current"] != "vp"


def test_a_version_is_held_and_let_go():
    world = start()
    first = world.datasets[FULL]["current"]
    change(world, url="s3://bucket/other")
    settle(world)
    second = world.datasets[FULL]["current"]
    change(world, version=first)
    settle(world)
    assert world.datasets[FULL]["current"] == first
    # The dataset has taken the old version's origin along; that is no difference to be mended.
    assert condition(world, "Synced")["reason"] == "VersionPinned"
    del world.objects["Dataset", "team", "llama"]["spec"]["version"]
    settle(world)
    assert world.datasets[FULL]["current"] == second
    assert condition(world, "Synced")["reason"] == "Declared"


def test_letting_a_version_go_lists_again_even_from_the_same_origin():
    world = start()
    change(world, version=world.datasets[FULL]["current"])
    settle(world)
    listings = world.listings
    del world.objects["Dataset", "team", "llama"]["spec"]["version"]
    settle(world)
    assert world.listings == listings + 1


def test_a_version_that_nobody_has_is_said_and_nothing_changes():
    world = start()
    change(world, version="nosuch")
    settle(world)
    assert condition(world, "Synced")["reason"] == "VersionNotKnown"
    assert condition(world, "Ready")["status"] == "True"


def test_a_dataset_of_somebody_else_is_left_alone():
    world = World()
    world.put(an_object())
    theirs = {"origin": {"url": "s3://theirs", "options": {}}, "current": "v1"}
    world.datasets[FULL] = dict(theirs)
    settle(world)
    assert world.datasets[FULL] == theirs
    assert (condition(world, "Ready")["reason"], world.ledger) == ("DeclaredElsewhere", {})


def test_a_dataset_that_a_person_declared_of_the_same_origin_is_taken_over():
    world = start()
    world.ledger.clear()
    settle(world)
    assert world.ledger[FULL].startswith("Delete ")
    assert world.listings == 1


def test_what_is_kept_warm_is_warmed_once_and_again_when_something_lacks():
    world = start(warm={"rate": "1Gi"})
    assert [job["rate"] for job in world.warm_ups] == [2**30]
    assert status(world)["phase"] == "Warming"
    world.warm_ups[0] |= {"state": "done", "ended_at": 1000.0}
    settle(world, at=1100.0, resident=100)
    assert len(world.warm_ups) == 1
    settle(world, at=1700.0, resident=200)
    assert len(world.warm_ups) == 1
    settle(world, at=1700.0, resident=100)
    assert len(world.warm_ups) == 2


def test_a_new_version_is_warmed_too():
    world = start(warm={})
    world.warm_ups[0] |= {"state": "done", "ended_at": 1000.0}
    change(world, url="s3://bucket/other")
    settle(world)
    assert world.warm_ups[0]["version"] == world.datasets[FULL]["current"]
    assert len(world.warm_ups) == 2


def test_a_claim_that_was_deleted_comes_back_to_the_released_volume():
    world = start()
    volume = world.objects["PersistentVolume", "", VOLUME]
    volume["spec"]["claimRef"] |= {"uid": "old", "resourceVersion": "7"}
    del world.objects["PersistentVolumeClaim", "team", "llama"]
    settle(world)
    held = world.find("PersistentVolume", VOLUME)["spec"]["claimRef"]
    assert ("uid" in held, held["name"]) == (False, "llama")
    assert world.find("PersistentVolumeClaim", "llama", "team") is not None


def test_a_volume_that_is_bound_is_left_as_it_is():
    world = start()
    claim = world.find("PersistentVolumeClaim", "llama", "team")
    volume = world.objects["PersistentVolume", "", VOLUME]
    volume["spec"]["claimRef"] |= {"uid": claim["metadata"]["uid"], "resourceVersion": "7"}
    assert look(world) == ()


def test_a_volume_that_was_deleted_is_made_again_with_the_claims_size():
    world = start(volume={"storage": "1Gi"})
    del world.objects["PersistentVolume", "", VOLUME]
    change(world, volume={"storage": "2Gi"})
    settle(world)
    assert world.find("PersistentVolume", VOLUME)["spec"]["capacity"]["storage"] == str(2**30)


def test_a_dataset_that_grows_changes_nothing_of_what_cannot_be_changed():
    world = start()
    change(world, volume={"storage": "5Gi"})
    settle(world)
    assert world.find("PersistentVolume", VOLUME)["spec"]["capacity"] == {"storage": "200"}


def test_other_settings_wait_until_nobody_claims_the_volume():
    world = start()
    change(world, volume={"followCurrent": True})
    settle(world)
    assert condition(world, "Synced")["reason"] == "VolumeOutdated"
    del world.objects["PersistentVolumeClaim", "team", "llama"]
    settle(world)
    attributes = world.find("PersistentVolume", VOLUME)["spec"]["csi"]["volumeAttributes"]
    assert attributes["followCurrent"] == "true"
    assert condition(world, "Synced")["status"] == "True"


def test_a_claim_of_somebody_else_is_not_touched():
    world = World()
    world.put(an_object())
    theirs = world.put(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "llama", "namespace": "team"},
            "spec": {},
        }
    )
    settle(world)
    assert world.find("PersistentVolumeClaim", "llama", "team") == theirs
    assert world.find("PersistentVolume", VOLUME) is None
    assert condition(world, "Synced")["reason"] == "VolumeOutdated"


def test_without_a_volume_both_go_the_claim_first():
    world = start()
    change(world, volume={"enabled": False})
    world.do(look(world))
    assert world.find("PersistentVolumeClaim", "llama", "team") is None
    assert world.find("PersistentVolume", VOLUME) is not None
    settle(world)
    assert world.find("PersistentVolume", VOLUME) is None
    assert "claim" not in status(world)


def test_a_deleted_dataset_stays_as_long_as_its_claim_does():
    world = start()
    assert datasets.gone("team", "llama", seen(world)) == ()
    del world.objects["PersistentVolumeClaim", "team", "llama"]
    world.do(datasets.gone("team", "llama", seen(world)))
    assert (world.datasets, world.ledger) == ({}, {})
    assert world.find("PersistentVolume", VOLUME) is None
    assert datasets.gone("team", "llama", seen(world)) == ()


def test_a_deleted_dataset_that_shall_be_retained_stays_declared():
    world = start(reclaimPolicy="Retain", volume={"enabled": False})
    world.do(datasets.gone("team", "llama", seen(world)))
    assert (list(world.datasets), world.ledger) == ([FULL], {})


def test_what_the_ledger_does_not_name_is_not_undeclared():
    world = start(volume={"enabled": False})
    world.ledger.clear()
    assert datasets.gone("team", "llama", seen(world)) == ()


@pytest.mark.parametrize(
    ("error", "phase", "ready"),
    [
        (OriginDeniedError("no"), "Failed", "False"),
        (ConfigError("no origin begins with s4://"), "Failed", "False"),
        (NotAllowedError("not of this namespace"), "Failed", "False"),
        (CoordinatorUnavailableError("gone"), "Pending", "Unknown"),
    ],
)
def test_what_fails_is_said_and_why(error, phase, ready):
    world = World()
    world.put(an_object())
    world.do(datasets.failed(world.find("Dataset", "llama", "team"), error, at=5.0))
    assert (status(world)["phase"], condition(world, "Ready")["status"]) == (phase, ready)
    assert condition(world, "Synced")["reason"] == datasets.reason_of(error)
    document = world.find("Dataset", "llama", "team")
    assert datasets.failed(document, error, at=9.0) == ()


def test_a_coordinator_that_is_away_takes_nothing_off_the_status():
    world = start()
    settle(world, resident=200)
    before = dict(status(world))
    error = CoordinatorUnavailableError("gone")
    world.do(datasets.failed(world.find("Dataset", "llama", "team"), error, at=5.0))
    after = status(world)
    assert {**after, "conditions": []} == {**before, "conditions": []}
    assert condition(world, "Cached")["status"] == "True"


def test_a_condition_that_turns_is_an_event_and_one_that_stays_is_none():
    world = start()
    told = [one.reason for one in world.told]
    assert told[-1] == "Served"
    settle(world, at=9000.0, resident=20)
    assert [one.reason for one in world.told] == told


def test_what_failed_stays_shown_while_it_is_tried_again_and_is_told_once():
    world = World()
    world.put(an_object())
    world.do(look(world))
    error = ConfigError("no origin begins with s4://")
    for at in (1.0, 2.0, 3.0):
        document = world.find("Dataset", "llama", "team")
        # It is not shown as being listed, and then nothing is declared.
        world.do(tuple(one for one in look(world) if not isinstance(one, Ask)))
        world.do(datasets.failed(world.find("Dataset", "llama", "team"), error, at=at))
    document = world.find("Dataset", "llama", "team")
    assert [type(one) for one in look(world)] == [Ask], "it is tried again"
    assert (status(world)["phase"], condition(world, "Ready")["reason"]) == ("Failed", "Config")
    assert [one.reason for one in world.told] == ["Listing", "Config"]
    document["metadata"]["generation"] = 2
    actions = datasets.reconcile(document, parse(document), seen(world))
    assert len(actions) > 1, "another object is shown as being listed"


def test_a_pool_that_is_not_there_is_said_until_it_is():
    world = World()
    world.put(an_object(pool="nosuch", warm={}))
    settle(world, pools=frozenset({"default", "fast"}))
    ready = condition(world, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "PoolNotKnown")
    assert ready["message"] == "there is no pool nosuch: there is default, fast"
    assert (status(world)["phase"], world.warm_ups) == ("Pending", [])
    assert [one.reason for one in world.told if one.warning] == ["PoolNotKnown"]
    settle(world, pools=frozenset({"nosuch"}))
    assert condition(world, "Ready")["reason"] == "Served"
    assert (status(world)["phase"], len(world.warm_ups)) == ("Warming", 1)


def test_of_many_pools_a_few_are_named_and_of_none_none():
    world = start(pool="nosuch")
    settle(world, pools=frozenset(f"p{number:02}" for number in range(30)))
    assert condition(world, "Ready")["message"].endswith("p09, …")
    settle(world, pools=frozenset())
    assert condition(world, "Ready")["message"].endswith("there is none at all")


def test_a_version_has_a_short_text_for_columns_beside_it():
    world = start()
    whole = "0123456789abcdef" * 2 + "01234567"
    world.versions[FULL][0]["id"] = world.datasets[FULL]["current"] = whole
    settle(world)
    assert (status(world)["version"], status(world)["versionText"]) == (whole, whole[:12])


SPECS = st.fixed_dictionaries(
    {
        "url": st.sampled_from(["s3://a/1", "s3://a/2"]),
        "replicas": st.integers(1, 3),
        "pins": st.sampled_from([[], ["/"], ["x"]]),
        "include": st.sampled_from([[], ["*.st"]]),
        "reclaimPolicy": st.sampled_from(["Delete", "Retain"]),
        "volume": st.sampled_from([{}, {"enabled": False}, {"followCurrent": True}]),
    },
    optional={"warm": st.sampled_from([{}, {"enabled": False}, {"paths": ["x"]}])},
)
DAMAGE = st.sampled_from(["none", "claim", "volume", "dataset", "ledger", "status", "hold"])


def _damage(world, what):
    match what:
        case "claim":
            world.objects.pop(("PersistentVolumeClaim", "team", "llama"), None)
        case "volume":
            world.objects.pop(("PersistentVolume", "", VOLUME), None)
        case "dataset":
            world.datasets.pop(FULL, None)
        case "status":
            world.objects["Dataset", "team", "llama"].pop("status", None)
        case "hold":
            volume = world.objects.get(("PersistentVolume", "", VOLUME))
            if volume is not None:
                volume["spec"]["claimRef"]["uid"] = "of one that is gone"
        case "ledger":
            world.ledger.clear()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(SPECS, DAMAGE), min_size=1, max_size=5), st.integers(0, 3))
def test_whatever_was_said_and_broken_it_comes_to_rest_as_the_object_says(steps, killed_after):
    world = World()
    world.put(an_object())
    for spec, damage in steps:
        _damage(world, damage)
        document = world.objects["Dataset", "team", "llama"]
        document["spec"] = {**spec}
        document["metadata"]["generation"] += 1
        # Somebody begins, and is killed half way.
        world.do(look(world)[:killed_after])
        settle(world)
        if condition(world, "Synced")["reason"] == "DeclaredElsewhere":
            assert damage == "ledger"
            return
        declared = world.datasets[FULL]
        assert declared["origin"]["url"] == spec["url"]
        assert declared["include"] == spec["include"]
        assert world.ledger[FULL].split()[0] == spec["reclaimPolicy"]
        has_volume = spec["volume"].get("enabled", True)
        assert (world.find("PersistentVolume", VOLUME) is not None) == has_volume
        assert not any(isinstance(one, Ask) for one in look(world, at=1e9, resident=200))
