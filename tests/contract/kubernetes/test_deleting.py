"""Deletion: finalizers, preconditions, owners, namespaces, grace.

Held to "Finalizers", "Garbage Collection", "Owners and Dependents", "Namespaces" and "Pod Lifecycle".
"""

import pytest

from tests.contract.kubernetes.clients import MAPS, PODS, config_map
from tests.contract.kubernetes.test_reading import pod


def owned(name, owner, **more):
    body = config_map(name)
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        **more,
    }
    body["metadata"]["ownerReferences"] = [reference]
    return body


def held(name, *finalizers):
    body = config_map(name)
    body["metadata"]["finalizers"] = list(finalizers)
    return body


def test_a_delete_answers_success_with_the_uid_of_what_went(api):
    """api-conventions, "Response Status Kind": Success, details of the object."""
    made = api.post(MAPS, config_map("a"))
    gone = api.delete(f"{MAPS}/a")
    assert (gone.code, gone["status"]) == (200, "Success")
    assert gone["details"]["uid"] == made["metadata"]["uid"]
    assert api.delete(f"{MAPS}/a").code == 404


def test_finalizers_hold_an_object_until_the_last_is_removed(api):
    """ "How finalizers work": deletionTimestamp is set; it goes when the list is empty."""
    api.post(MAPS, held("a", "x.io/one", "x.io/two"))
    marked = api.delete(f"{MAPS}/a")
    assert marked["metadata"]["deletionTimestamp"]
    assert api.merge(f"{MAPS}/a", {"metadata": {"finalizers": ["x.io/two"]}}).code == 200
    assert api.get(f"{MAPS}/a").code == 200
    last = api.merge(f"{MAPS}/a", {"metadata": {"finalizers": None}})
    assert last.code == 200
    assert api.get(f"{MAPS}/a").code == 404


def test_nothing_new_holds_what_is_being_deleted(api):
    """ "Finalizers": no new ones once a deletion has begun; others may still be changed."""
    api.post(MAPS, held("a", "x.io/one"))
    api.delete(f"{MAPS}/a")
    refused = api.merge(f"{MAPS}/a", {"metadata": {"finalizers": ["x.io/one", "x.io/two"]}})
    assert (refused.code, refused.causes[0]["reason"]) == (422, "FieldValueForbidden")
    assert api.merge(f"{MAPS}/a", {"data": {"x": "1"}}).code == 200


def test_a_delete_holds_to_its_preconditions(api):
    """DeleteOptions: preconditions.uid and preconditions.resourceVersion; 409."""
    made = api.post(MAPS, config_map("a"))
    for wrong in ({"uid": "other"}, {"resourceVersion": "1"}):
        refused = api.delete(f"{MAPS}/a", {"preconditions": wrong})
        assert (refused.code, refused.reason) == (409, "Conflict")
    right = {"uid": made["metadata"]["uid"], "resourceVersion": made.version}
    assert api.delete(f"{MAPS}/a", {"preconditions": right}).code == 200


def test_dependents_go_after_their_owner(server, api):
    """ "Background cascading deletion": the owner goes at once, dependents after it."""
    owner = api.post(MAPS, config_map("owner"))
    api.post(MAPS, owned("child", owner))
    api.delete(f"{MAPS}/owner", {"propagationPolicy": "Background"})
    server.settle()
    assert api.get(f"{MAPS}/child").code == 404


def test_a_dependent_of_another_object_of_the_same_name_goes(server, api):
    """ "Owners and Dependents": an owner is told by its uid."""
    owner = api.post(MAPS, config_map("owner"))
    other = {"metadata": {"name": "owner", "uid": "00000000-0000-0000-0000-000000000000"}}
    api.post(MAPS, owned("stray", other))
    api.post(MAPS, owned("child", owner))
    server.settle()
    assert (api.get(f"{MAPS}/stray").code, api.get(f"{MAPS}/child").code) == (404, 200)


def test_an_owner_in_the_foreground_waits_for_those_that_block_it(server, api):
    """ "Foreground cascading deletion": finalizer foregroundDeletion, blockOwnerDeletion."""
    owner = api.post(MAPS, config_map("owner"))
    child = owned("child", owner, blockOwnerDeletion=True)
    child["metadata"]["finalizers"] = ["x.io/one"]
    api.post(MAPS, child)
    api.delete(f"{MAPS}/owner", {"propagationPolicy": "Foreground"})
    server.settle()
    waiting = api.get(f"{MAPS}/owner")
    assert waiting["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert api.get(f"{MAPS}/child")["metadata"]["deletionTimestamp"]
    api.merge(f"{MAPS}/child", {"metadata": {"finalizers": None}})
    server.settle()
    assert api.get(f"{MAPS}/owner").code == 404


def test_orphans_stay_and_forget_their_owner(server, api):
    """ "Orphaned dependents": propagationPolicy Orphan."""
    owner = api.post(MAPS, config_map("owner"))
    api.post(MAPS, owned("child", owner))
    api.delete(f"{MAPS}/owner", {"propagationPolicy": "Orphan"})
    server.settle()
    assert api.get(f"{MAPS}/owner").code == 404
    child = api.get(f"{MAPS}/child")
    assert child.code == 200
    assert not child["metadata"].get("ownerReferences")


def test_a_paused_collector_leaves_everything(server, api):
    """The garbage collector is a controller: objects outlive their owners until it runs."""
    server.pause_collecting()
    owner = api.post(MAPS, config_map("owner"))
    api.post(MAPS, owned("child", owner))
    api.delete(f"{MAPS}/owner")
    assert api.get(f"{MAPS}/child").code == 200
    server.pause_collecting(paused=False)
    server.settle()
    assert api.get(f"{MAPS}/child").code == 404


def test_a_namespace_goes_when_all_in_it_has_gone(server, api):
    """ "Namespaces": phase Terminating, nothing new, gone when it is empty."""
    api.post("/api/v1/namespaces", {"kind": "Namespace", "metadata": {"name": "n"}})
    inside = "/api/v1/namespaces/n/configmaps"
    api.post(inside, config_map("free"))
    api.post(inside, held("held", "x.io/one"))
    api.delete("/api/v1/namespaces/n")
    server.settle()
    assert api.get("/api/v1/namespaces/n")["status"]["phase"] == "Terminating"
    assert api.get(f"{inside}/free").code == 404
    refused = api.post(inside, config_map("new"))
    assert (refused.code, refused.causes[0]["reason"]) == (403, "NamespaceTerminating")
    api.merge(f"{inside}/held", {"metadata": {"finalizers": None}})
    server.settle()
    assert api.get("/api/v1/namespaces/n").code == 404


def test_a_pod_on_a_node_is_marked_and_goes_when_its_kubelet_says_so(api):
    """ "Termination of Pods": deletionTimestamp is now plus the grace period; grace 0 removes."""
    api.post(PODS, pod("a", node="n"))
    marked = api.delete(f"{PODS}/a")
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    assert api.get(f"{PODS}/a").code == 200
    shorter = api.delete(f"{PODS}/a", {"gracePeriodSeconds": 5})
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 5
    assert api.delete(f"{PODS}/a", {"gracePeriodSeconds": 0}).code == 200
    assert api.get(f"{PODS}/a").code == 404


def test_a_pod_without_a_node_goes_at_once(api):
    """ "Termination of Pods": no kubelet has to stop anything."""
    api.post(PODS, pod("a"))
    assert api.delete(f"{PODS}/a")["metadata"]["name"] == "a"
    assert api.get(f"{PODS}/a").code == 404


def test_a_collection_is_deleted_by_selector(api):
    """API Concepts: deletecollection takes the selectors of a list."""
    api.post(MAPS, config_map("a", labels={"app": "x"}))
    api.post(MAPS, config_map("b"))
    api.delete(MAPS, labelSelector="app=x")
    assert [item["metadata"]["name"] for item in api.get(MAPS)["items"]] == ["b"]


@pytest.mark.parametrize("policy", ["Sideways", "background"])
def test_a_policy_that_is_none_is_refused(api, policy):
    """DeleteOptions: propagationPolicy is Orphan, Background or Foreground."""
    api.post(MAPS, config_map("a"))
    assert api.delete(f"{MAPS}/a", {"propagationPolicy": policy}).code in (400, 422)
