"""Patches: JSON patch, JSON merge patch, strategic merge patch.

Held to RFC 6902, RFC 7396 and "Update API Objects in Place Using kubectl patch".
"""

import pytest

from tests.contract.kubernetes.clients import MAPS, PODS, config_map, thing

DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def deployment(name="d", **spec):
    labels = {"app": name}
    container = {
        "name": "main",
        "image": "main:1",
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        "ports": [{"containerPort": 80}],
    }
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }


def patch(api, path, operations):
    return api.request("PATCH", path, operations, kind="application/json-patch+json")


def in_template(**spec):
    return {"spec": {"template": {"spec": spec}}}


def container_of(answer, index=0):
    return answer["spec"]["template"]["spec"]["containers"][index]


def test_a_merge_patch_merges_objects_and_null_removes(api):
    """RFC 7396: members are merged, null deletes, everything else replaces."""
    api.post(MAPS, config_map("a", x="1", y="2"))
    assert api.merge(f"{MAPS}/a", {"data": {"x": None, "z": "3"}})["data"] == {"y": "2", "z": "3"}


def test_a_merge_patch_with_a_version_is_conditional(api):
    """api-conventions, "Concurrency Control": a resourceVersion in a patch is a precondition."""
    first = api.post(MAPS, config_map("a"))
    stale = {"metadata": {"resourceVersion": first.version}, "data": {"x": "1"}}
    assert api.merge(f"{MAPS}/a", stale).code == 200
    assert api.merge(f"{MAPS}/a", {**stale, "data": {"x": "2"}}).code == 409


@pytest.mark.parametrize(
    ("operation", "data"),
    [
        ({"op": "add", "path": "/data/z", "value": "3"}, {"x": "1", "a/b": "2", "z": "3"}),
        ({"op": "remove", "path": "/data/a~1b"}, {"x": "1"}),
        ({"op": "replace", "path": "/data/x", "value": "9"}, {"x": "9", "a/b": "2"}),
        ({"op": "move", "from": "/data/x", "path": "/data/y"}, {"y": "1", "a/b": "2"}),
        ({"op": "copy", "from": "/data/x", "path": "/data/y"}, {"x": "1", "y": "1", "a/b": "2"}),
        ({"op": "test", "path": "/data/x", "value": "1"}, {"x": "1", "a/b": "2"}),
    ],
)
def test_a_json_patch_carries_out_its_operations(api, operation, data):
    """RFC 6902, section 4."""
    body = config_map("m", x="1")
    body["data"]["a.b"] = "2"
    sent = {
        **body,
        "data": {"x": "1"},
        "metadata": {"name": "m", "annotations": {"x": "1", "a/b": "2"}},
    }
    api.post(MAPS, sent)
    moved = {
        key: value.replace("/data/", "/metadata/annotations/") if key in ("path", "from") else value
        for key, value in operation.items()
    }
    assert patch(api, f"{MAPS}/m", [moved])["metadata"]["annotations"] == data


def test_a_json_patch_is_carried_out_whole_or_not_at_all(api):
    """RFC 6902, section 5: a failed test fails the whole patch; Kubernetes answers 422."""
    api.post(MAPS, config_map("a", x="1"))
    operations = [
        {"op": "replace", "path": "/data/x", "value": "2"},
        {"op": "test", "path": "/data/x", "value": "1"},
    ]
    refused = patch(api, f"{MAPS}/a", operations)
    assert (refused.code, refused.reason) == (422, "Invalid")
    assert api.get(f"{MAPS}/a")["data"] == {"x": "1"}
    assert patch(api, f"{MAPS}/a", [{"op": "remove", "path": "/data/none"}]).code == 422
    assert patch(api, f"{MAPS}/a", [{"op": "jump", "path": "/data"}]).code == 400


def test_a_strategic_patch_merges_containers_by_name_and_their_env(api):
    """ "Use a strategic merge patch": patchMergeKey name, for containers and env alike."""
    api.post(DEPLOYMENTS, deployment())
    change = {"name": "main", "env": [{"name": "B", "value": "9"}, {"name": "C", "value": "3"}]}
    patched = api.strategic(
        f"{DEPLOYMENTS}/d", in_template(containers=[change, {"name": "side", "image": "side:1"}])
    )
    containers = patched["spec"]["template"]["spec"]["containers"]
    assert [each["name"] for each in containers] == ["main", "side"]
    assert containers[0]["image"] == "main:1"
    assert containers[0]["env"] == [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "9"},
        {"name": "C", "value": "3"},
    ]


def test_a_strategic_patch_merges_ports_by_number_and_replaces_tolerations(api):
    """The merge keys of Kubernetes' schemas: containerPort; tolerations have none."""
    spec = {"tolerations": [{"key": "a", "operator": "Exists"}]}
    body = deployment()
    body["spec"]["template"]["spec"].update(spec)
    api.post(DEPLOYMENTS, body)
    ports = [{"containerPort": 80, "name": "web"}, {"containerPort": 81}]
    patched = api.strategic(
        f"{DEPLOYMENTS}/d",
        in_template(
            containers=[{"name": "main", "ports": ports}],
            tolerations=[{"key": "b", "operator": "Exists"}],
        ),
    )
    assert container_of(patched)["ports"] == [
        {"containerPort": 80, "name": "web", "protocol": "TCP"},
        {"containerPort": 81, "protocol": "TCP"},
    ]
    assert patched["spec"]["template"]["spec"]["tolerations"] == [
        {"key": "b", "operator": "Exists"}
    ]


def test_a_strategic_patch_deletes_and_replaces_by_directive(api):
    """ "Notes on the strategic merge patch": $patch: delete and $patch: replace."""
    api.post(DEPLOYMENTS, deployment())
    less = {"name": "main", "env": [{"name": "A", "$patch": "delete"}]}
    patched = api.strategic(f"{DEPLOYMENTS}/d", in_template(containers=[less]))
    assert container_of(patched)["env"] == [{"name": "B", "value": "2"}]
    whole = {"name": "main", "env": [{"$patch": "replace"}, {"name": "Z", "value": "0"}]}
    patched = api.strategic(f"{DEPLOYMENTS}/d", in_template(containers=[whole]))
    assert container_of(patched)["env"] == [{"name": "Z", "value": "0"}]
    recreate = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert api.strategic(f"{DEPLOYMENTS}/d", recreate)["spec"]["strategy"] == {"type": "Recreate"}


def test_a_strategic_patch_orders_and_lessens_lists_by_directive(api):
    """$setElementOrder and $deleteFromPrimitiveList, as kubectl apply sends them."""
    api.post(DEPLOYMENTS, deployment())
    ordered = {"$setElementOrder/env": [{"name": "B"}, {"name": "A"}], "name": "main"}
    patched = api.strategic(f"{DEPLOYMENTS}/d", in_template(containers=[ordered]))
    assert [each["name"] for each in container_of(patched)["env"]] == ["B", "A"]
    api.strategic(f"{DEPLOYMENTS}/d", {"metadata": {"finalizers": ["a.b/c", "a.b/d"]}})
    more = api.strategic(f"{DEPLOYMENTS}/d", {"metadata": {"finalizers": ["a.b/e"]}})
    assert more["metadata"]["finalizers"] == ["a.b/e", "a.b/c", "a.b/d"]
    less = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a.b/d"]}}
    assert api.strategic(f"{DEPLOYMENTS}/d", less)["metadata"]["finalizers"] == ["a.b/e", "a.b/c"]


def test_a_strategic_patch_gives_a_list_its_order_and_leaves_others_their_place(api):
    """Items of the patch in its order; another one before the first that stood behind it."""
    body = deployment()
    body["spec"]["template"]["spec"]["containers"] = [
        {"name": name, "image": "a:1"} for name in "bac"
    ]
    api.post(DEPLOYMENTS, body)
    change = in_template(containers=[{"name": "c"}, {"name": "a"}])
    patched = api.strategic(f"{DEPLOYMENTS}/d", change)
    containers = patched["spec"]["template"]["spec"]["containers"]
    assert [each["name"] for each in containers] == ["b", "c", "a"]


def test_a_strategic_patch_of_a_custom_object_is_not_understood(api, things):
    """ "Custom resources": strategic merge patch is not supported; 415."""
    api.post(things, thing("a"))
    assert api.strategic(f"{things}/a", {"spec": {"size": 1}}).code == 415
    assert api.request("PATCH", f"{things}/a", "{}", kind="text/plain").code == 415


def test_conditions_are_merged_by_their_type(api):
    """The merge key of conditions is their type."""
    spec = {"containers": [{"name": "a", "image": "a:1"}]}
    api.post(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
    for kind, status in (("Ready", "False"), ("Initialized", "True"), ("Ready", "True")):
        told = {"status": {"conditions": [{"type": kind, "status": status}]}}
        patched = api.strategic(f"{PODS}/p/status", told)
    assert patched["status"]["conditions"] == [
        {"type": "Initialized", "status": "True"},
        {"type": "Ready", "status": "True"},
    ]
