"""Lists, pages, selectors and watches.

Held to "Kubernetes API Concepts" ("Resource versions", "Efficient detection of changes", "Retrieving large
results sets in chunks") and "Labels and Selectors", "Field Selectors".
"""

import threading

import pytest

from tests.contract.kubernetes.clients import MAPS, PODS, config_map


def pod(name, node="", **more):
    spec = {"containers": [{"name": "a", "image": "a:1"}]}
    spec.update({"nodeName": node} if node else {})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **more}, "spec": spec}


def names(answer):
    return [item["metadata"]["name"] for item in answer["items"]]


def told(events):
    return [(event["type"], event["object"]["metadata"].get("name")) for event in events]


def test_a_list_says_of_which_version_it_is(api):
    """ "Resource versions": metadata.resourceVersion of a list can be watched from."""
    api.post(MAPS, config_map("a"))
    listed = api.get(MAPS)
    assert listed["kind"] == "ConfigMapList"
    assert names(listed) == ["a"]
    api.post(MAPS, config_map("b"))
    api.delete(f"{MAPS}/a")
    assert told(api.watch(MAPS, resourceVersion=listed.version)) == [
        ("ADDED", "b"),
        ("DELETED", "a"),
    ]


def test_a_list_over_all_namespaces_has_those_of_each(api):
    """API Concepts, "Resource URIs": a list without a namespace spans all."""
    api.post(MAPS, config_map("a"))
    api.post("/api/v1/namespaces/kube-system/configmaps", config_map("b"))
    assert names(api.get("/api/v1/configmaps")) == ["a", "b"]


def test_pages_are_of_one_version_whatever_is_written_between(api):
    """ "Retrieving large results sets in chunks": the list is consistent; deleted items still show."""
    for name in "abcde":
        api.post(MAPS, config_map(name))
    first = api.get(MAPS, limit=2)
    assert names(first) == ["a", "b"]
    assert first["metadata"]["remainingItemCount"] == 3
    api.delete(f"{MAPS}/d")
    api.post(MAPS, config_map("f"))
    second = api.get(MAPS, limit=2, **{"continue": first["metadata"]["continue"]})
    last = api.get(MAPS, limit=2, **{"continue": second["metadata"]["continue"]})
    assert names(second) + names(last) == ["c", "d", "e"]
    assert "continue" not in last["metadata"]
    assert first.version == last.version


def test_a_page_of_a_compacted_version_has_expired(server, api):
    """ "Retrieving large results sets in chunks": 410 ResourceExpired, begin again."""
    for name in "abc":
        api.post(MAPS, config_map(name))
    first = api.get(MAPS, limit=1)
    api.post(MAPS, config_map("d"))
    server.compact()
    gone = api.get(MAPS, limit=1, **{"continue": first["metadata"]["continue"]})
    assert (gone.code, gone.reason) == (410, "Expired")
    assert api.get(MAPS, **{"continue": "nonsense"}).code == 400


def test_the_version_asked_for_decides_what_a_list_shows(api):
    """ "Semantics for get and list": unset, 0, exact, not older than, too large."""
    first = api.post(MAPS, config_map("a"))
    api.post(MAPS, config_map("b"))
    exact = {"resourceVersion": first.version, "resourceVersionMatch": "Exact"}
    assert names(api.get(MAPS, **exact)) == ["a"]
    newer = {"resourceVersion": first.version, "resourceVersionMatch": "NotOlderThan"}
    assert names(api.get(MAPS, **newer)) == ["a", "b"]
    assert names(api.get(MAPS, resourceVersion="0")) == ["a", "b"]
    future = api.get(MAPS, resourceVersion="99999999")
    assert (future.code, future.reason) == (504, "Timeout")
    assert future.causes[0]["reason"] == "ResourceVersionTooLarge"
    assert api.get(MAPS, resourceVersionMatch="Exact").code == 422


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("app=a", ["x"]),
        ("app==a", ["x"]),
        ("app!=a", ["y", "z"]),
        ("app in (a, b)", ["x", "y"]),
        ("app notin (a)", ["y", "z"]),
        ("app", ["x", "y"]),
        ("!app", ["z"]),
        ("app=b,tier", ["y"]),
        ("app in (a,b),tier=one,app!=b", []),
    ],
)
def test_label_selectors_choose(api, selector, found):
    """ "Labels and Selectors": equality-based and set-based requirements, joined by and."""
    api.post(MAPS, config_map("x", labels={"app": "a"}))
    api.post(MAPS, config_map("y", labels={"app": "b", "tier": "one"}))
    api.post(MAPS, config_map("z"))
    assert names(api.get(MAPS, labelSelector=selector)) == found


def test_a_selector_that_is_none_is_a_bad_request(api):
    """ "Labels and Selectors": what cannot be parsed is refused."""
    assert api.get(MAPS, labelSelector="a b").code == 400
    assert api.get(MAPS, fieldSelector="data.x=1").code == 400


def test_field_selectors_choose_by_the_fields_of_the_kind(api):
    """ "Field Selectors": metadata.name and namespace of anything; a pod's node and phase."""
    api.post(PODS, pod("a", node="n1"))
    api.post(PODS, pod("b", node="n2"))
    api.merge(f"{PODS}/b/status", {"status": {"phase": "Running"}})
    assert names(api.get(PODS, fieldSelector="spec.nodeName=n1")) == ["a"]
    assert names(api.get(PODS, fieldSelector="status.phase!=Pending")) == ["b"]
    assert names(api.get(PODS, fieldSelector="metadata.name=b,metadata.namespace=default")) == ["b"]


def test_events_are_selected_by_what_they_are_about(api):
    """ "Field Selectors": involvedObject; both groups serve the same events."""
    about = {"kind": "Pod", "name": "a", "namespace": "default"}
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "involvedObject": about,
        "reason": "Made",
        "message": "it was made",
    }
    api.post("/api/v1/namespaces/default/events", event)
    selected = api.get("/api/v1/namespaces/default/events", fieldSelector="involvedObject.name=a")
    assert names(selected) == ["e"]
    newer = api.get("/apis/events.k8s.io/v1/namespaces/default/events/e")
    assert (newer["regarding"], newer["note"]) == (about, "it was made")


def test_a_watch_without_a_version_begins_with_what_is_there(api):
    """ "Semantics for watch": unset and 0 begin with synthetic ADDED events."""
    api.post(MAPS, config_map("a"))
    assert told(api.watch(MAPS)) == [("ADDED", "a")]
    assert told(api.watch(MAPS, resourceVersion="0")) == [("ADDED", "a")]


def test_a_watch_from_a_version_brings_each_change_once_and_in_order(api):
    """ "Efficient detection of changes": every change after the version."""
    version = api.get(MAPS).version
    api.post(MAPS, config_map("a", x="1"))
    api.merge(f"{MAPS}/a", {"data": {"x": "2"}})
    gone = api.delete(f"{MAPS}/a")
    assert gone["status"] == "Success"
    events = api.watch(MAPS, resourceVersion=version)
    assert told(events) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))
    assert events[2]["object"]["data"] == {"x": "2"}


@pytest.mark.slow
def test_a_watch_brings_what_happens_while_it_lasts(api):
    """ "Efficient detection of changes": the stream stays open."""
    version = api.get(MAPS).version
    events = []
    thread = threading.Thread(
        target=lambda: events.extend(api.watch(MAPS, resourceVersion=version, seconds=1))
    )
    thread.start()
    api.post(MAPS, config_map("a"))
    thread.join()
    assert told(events) == [("ADDED", "a")]


def test_a_watch_by_labels_sees_objects_come_and_go_as_their_labels_change(api):
    """A selector's watch: MODIFIED becomes ADDED or DELETED where the selector begins or ceases to fit."""
    version = api.get(MAPS).version
    api.post(MAPS, config_map("a"))
    api.merge(f"{MAPS}/a", {"metadata": {"labels": {"app": "x"}}})
    api.merge(f"{MAPS}/a", {"data": {"x": "1"}})
    api.merge(f"{MAPS}/a", {"metadata": {"labels": None}})
    events = api.watch(MAPS, resourceVersion=version, labelSelector="app=x")
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED"]


def test_a_watch_from_before_the_compaction_ends_with_410(server, api):
    """ "410 Gone responses": an ERROR event with a Status of code 410; list again."""
    version = api.get(MAPS).version
    api.post(MAPS, config_map("a"))
    server.compact()
    (event,) = api.watch(MAPS, resourceVersion=version)
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


def test_bookmarks_tell_a_quiet_watch_how_far_it_is(api):
    """ "Watch bookmarks": type BOOKMARK, an object with nothing but a resourceVersion."""
    version = api.get(MAPS).version
    newer = api.post(PODS, pod("a")).version
    events = api.watch(MAPS, resourceVersion=version, allowWatchBookmarks="true")
    assert {event["type"] for event in events} == {"BOOKMARK"}
    assert events[-1]["object"]["metadata"]["resourceVersion"] >= newer
    assert "data" not in events[-1]["object"]


def test_a_streamed_list_ends_with_a_marked_bookmark(api):
    """ "Streaming lists": sendInitialEvents, then the annotation k8s.io/initial-events-end."""
    api.post(MAPS, config_map("a"))
    asked = {"sendInitialEvents": "true", "allowWatchBookmarks": "true"}
    events = api.watch(MAPS, resourceVersionMatch="NotOlderThan", **asked)
    assert [event["type"] for event in events[:2]] == ["ADDED", "BOOKMARK"]
    annotations = events[1]["object"]["metadata"]["annotations"]
    assert annotations == {"k8s.io/initial-events-end": "true"}
    refused = api.get(MAPS, watch="1", **asked)
    assert refused.code == 422


def test_discovery_names_what_is_served(api, things):
    """ "API discovery": /api, /apis and the resource lists, with verbs and subresources."""
    assert api.get("/version")["gitVersion"].startswith("v1.")
    assert api.get("/api")["versions"] == ["v1"]
    groups = [group["name"] for group in api.get("/apis")["groups"]]
    assert {"apps", "batch", "example.com"} <= set(groups)
    listed = api.get("/apis/example.com/v1")["resources"]
    assert [each["name"] for each in listed] == ["things", "things/status"]
    assert "watch" in listed[0]["verbs"]
    paths = api.get("/openapi/v3")["paths"]
    schema = api.get(paths["apis/example.com/v1"]["serverRelativeURL"].partition("?")[0])
    assert "com.example.v1.Thing" in schema["components"]["schemas"]
