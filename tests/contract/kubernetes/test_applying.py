"""Server-side apply. Held to "Server-Side Apply" of Kubernetes' documentation, sections by name."""

from tests.contract.kubernetes.clients import MAPS, THINGS, config_map, definition, thing
from tests.contract.kubernetes.test_patching import DEPLOYMENTS, container_of, deployment


def owners(answer):
    return {
        (each["manager"], each["operation"]): each["fieldsV1"]
        for each in answer["metadata"].get("managedFields") or ()
    }


def test_what_is_applied_first_is_created_and_owned(api):
    """ "Field management": the applied fields, and only they, belong to the manager."""
    made = api.apply(f"{MAPS}/a", config_map("a", x="1"))
    assert made.code == 201
    assert owners(made) == {("me", "Apply"): {"f:data": {"f:x": {}}}}
    again = api.apply(f"{MAPS}/a", config_map("a", x="1"))
    assert (again.code, again.version) == (200, made.version)


def test_a_field_that_is_applied_no_more_is_removed(api):
    """ "Merge strategy": a field in the live object that its only manager gave up is removed."""
    api.apply(f"{MAPS}/a", config_map("a", x="1", y="2"))
    assert api.apply(f"{MAPS}/a", config_map("a", y="2"))["data"] == {"y": "2"}
    nothing = api.apply(f"{MAPS}/a", config_map("a"))
    assert "data" not in nothing.body


def test_a_field_that_somebody_else_applies_too_stays(api):
    """ "Conflicts": equal values are co-owned; it is removed when the last gives it up."""
    api.apply(f"{MAPS}/a", config_map("a", x="1"))
    assert api.apply(f"{MAPS}/a", config_map("a", x="1"), "other").code == 200
    assert api.apply(f"{MAPS}/a", config_map("a"))["data"] == {"x": "1"}
    assert "data" not in api.apply(f"{MAPS}/a", config_map("a"), "other").body


def test_another_value_is_a_conflict_that_names_who_and_what(api):
    """ "Conflicts": 409, one cause FieldManagerConflict for each field; nothing changes."""
    api.apply(f"{MAPS}/a", config_map("a", x="1"), "first")
    refused = api.apply(f"{MAPS}/a", config_map("a", x="2"), "second")
    assert (refused.code, refused.reason) == (409, "Conflict")
    assert refused.causes == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "first"', "field": ".data.x"}
    ]
    assert refused["message"] == 'Apply failed with 1 conflict: conflict with "first": .data.x'
    assert api.get(f"{MAPS}/a")["data"] == {"x": "1"}


def test_who_forces_takes_the_field_over(api):
    """ "Overwrite value, become sole manager": force=true."""
    api.apply(f"{MAPS}/a", config_map("a", x="1", y="1"), "first")
    taken = api.apply(f"{MAPS}/a", config_map("a", x="2"), "second", force="true")
    assert taken["data"] == {"x": "2", "y": "1"}
    assert owners(taken) == {
        ("first", "Apply"): {"f:data": {"f:y": {}}},
        ("second", "Apply"): {"f:data": {"f:x": {}}},
    }


def test_an_update_takes_over_what_it_changes_without_conflict(api):
    """ "Operations": Update never conflicts, and who applied loses the field."""
    api.apply(f"{MAPS}/a", config_map("a", x="1"))
    changed = api.merge(f"{MAPS}/a", {"data": {"x": "2"}}, fieldManager="editor")
    assert owners(changed) == {("editor", "Update"): {"f:data": {"f:x": {}}}}
    refused = api.apply(f"{MAPS}/a", config_map("a", x="1"))
    assert refused.causes[0]["message"] == 'conflict with "editor" using v1'


def test_an_update_owns_the_object_that_it_adds_and_what_is_in_it(api):
    """ "Operations": a map that was not there before is the updater's, beside its keys."""
    api.apply(f"{MAPS}/a", config_map("a", x="1"))
    labelled = api.merge(f"{MAPS}/a", {"metadata": {"labels": {"a": "b"}}}, fieldManager="editor")
    fields = owners(labelled)["editor", "Update"]
    assert fields == {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}


def test_a_removed_field_belongs_to_nobody(api):
    """ "Operations": what an update removes leaves every manager's set."""
    api.apply(f"{MAPS}/a", config_map("a", x="1", y="2"))
    changed = api.merge(f"{MAPS}/a", {"data": {"x": None}}, fieldManager="editor")
    assert owners(changed) == {("me", "Apply"): {"f:data": {"f:y": {}}}}


def test_items_of_lists_with_keys_are_owned_one_by_one(api):
    """ "Merge strategy", lists of type map: containers by name, env by name."""
    api.apply(f"{DEPLOYMENTS}/d", deployment())
    extra = {"name": "main", "env": [{"name": "C", "value": "3"}]}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {"template": {"spec": {"containers": [extra]}}},
    }
    merged = api.apply(f"{DEPLOYMENTS}/d", body, "injector")
    assert [each["name"] for each in container_of(merged)["env"]] == ["A", "B", "C"]
    assert container_of(merged)["image"] == "main:1"
    body["spec"]["template"]["spec"]["containers"] = []
    freed = api.apply(f"{DEPLOYMENTS}/d", body, "injector")
    assert [each["name"] for each in container_of(freed)["env"]] == ["A", "B"]


def test_an_item_that_is_applied_no_more_goes_with_what_the_server_filled_in(api):
    """ "Merge strategy": a container goes whole, with the defaults that nobody owns."""
    both = deployment()
    side = {"name": "side", "image": "side:1"}
    both["spec"]["template"]["spec"]["containers"].append(side)
    made = api.apply(f"{DEPLOYMENTS}/d", both)
    assert "terminationMessagePath" in container_of(made, 1)
    one = api.apply(f"{DEPLOYMENTS}/d", deployment())
    assert [each["name"] for each in one["spec"]["template"]["spec"]["containers"]] == ["main"]


def test_ports_have_two_keys_of_which_one_has_a_default(api):
    """ "Merge strategy": the keys of ports are containerPort and protocol, which is TCP unless said."""
    body = deployment()
    container = body["spec"]["template"]["spec"]["containers"][0]
    container["ports"] = [{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}]
    assert len(container_of(api.apply(f"{DEPLOYMENTS}/d", body))["ports"]) == 2
    container["ports"] = [{"containerPort": 53, "protocol": "UDP"}]
    assert container_of(api.apply(f"{DEPLOYMENTS}/d", body))["ports"] == [
        {"containerPort": 53, "protocol": "UDP"}
    ]


def test_a_list_without_a_type_is_owned_as_a_whole(api, things):
    """ "Merge strategy": lists of custom resources are atomic unless they say otherwise."""
    api.apply(f"{things}/a", thing("a", names=["x"]))
    refused = api.apply(f"{things}/a", thing("a", names=["y"]), "other")
    assert refused.causes[0]["field"] == ".spec.names"


def test_a_custom_list_of_type_map_and_one_of_type_set_merge(server, api):
    """ "Merge strategy": x-kubernetes-list-type and x-kubernetes-list-map-keys in a definition."""
    item = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "size": {"type": "integer"}},
    }
    keyed = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    tiers = {"type": "array", "items": item, **keyed}
    tags = {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}
    server.install(definition({"tiers": tiers, "tags": tags}))
    api.apply(f"{THINGS}/a", thing("a", tiers=[{"name": "x", "size": 1}], tags=["p"]))
    both = api.apply(f"{THINGS}/a", thing("a", tiers=[{"name": "y"}], tags=["q"]), "other")
    assert both["spec"] == {
        "tiers": [{"name": "x", "size": 1}, {"name": "y"}],
        "tags": ["p", "q"],
    }
    assert owners(both)["other", "Apply"] == {
        "f:spec": {
            "f:tags": {'v:"q"': {}},
            "f:tiers": {'k:{"name":"y"}': {".": {}, "f:name": {}}},
        }
    }
    one = api.apply(f"{THINGS}/a", thing("a"), "other")
    assert one["spec"] == {"tiers": [{"name": "x", "size": 1}], "tags": ["p"]}


def test_items_come_in_the_order_in_which_they_are_applied(server, api):
    """ "Merge strategy": who applies orders its items; those of others stay before what stood behind them."""
    item = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
    keyed = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    server.install(definition({"tiers": {"type": "array", "items": item, **keyed}}))
    api.apply(f"{THINGS}/a", thing("a", tiers=[{"name": name} for name in "abcd"]))
    both = api.apply(f"{THINGS}/a", thing("a", tiers=[{"name": name} for name in "cad"]), "other")
    assert "".join(each["name"] for each in both["spec"]["tiers"]) == "bcad"


def test_a_key_of_a_map_goes_with_what_was_applied_in_it(server, api):
    """ "Merge strategy": keys of maps are owned by themselves; an object that was left empty goes."""
    inner = {"type": "object", "properties": {"size": {"type": "integer"}}}
    server.install(definition({"pools": {"type": "object", "additionalProperties": inner}}))
    api.apply(f"{THINGS}/a", thing("a", pools={"x": {"size": 1}, "y": {"size": 2}}))
    one = api.apply(f"{THINGS}/a", thing("a", pools={"y": {"size": 2}}))
    assert one["spec"] == {"pools": {"y": {"size": 2}}}
    assert api.apply(f"{THINGS}/a", thing("a"))["spec"] == {}


def test_what_was_there_before_anybody_applied_has_an_owner(api):
    """ "Transferring ownership": fields of unknown origin belong to before-first-apply."""
    api.post(MAPS, config_map("a", x="1"))
    api.merge(f"{MAPS}/a", {"metadata": {"managedFields": [{}]}})
    refused = api.apply(f"{MAPS}/a", config_map("a", x="2"))
    assert refused.causes[0]["message"] == 'conflict with "before-first-apply" using v1'


def test_the_status_has_owners_of_its_own(api, things):
    """ "Field management": entries are kept per subresource; neither resets the other."""
    api.apply(f"{things}/a", thing("a", size=1))
    told = {**thing("a"), "status": {"ready": True}}
    del told["spec"]
    said = api.apply(f"{things}/a/status", told, "operator")
    assert (said["spec"]["size"], said["status"]) == (1, {"ready": True})
    entries = {
        each["manager"]: each.get("subresource") for each in said["metadata"]["managedFields"]
    }
    assert entries == {"me": None, "operator": "status"}
    again = api.apply(f"{things}/a", thing("a", size=2))
    assert again["status"] == {"ready": True}


def test_labels_and_owners_are_merged_and_identity_is_nobodys(api):
    """ "Field management": metadata that the system sets is not tracked."""
    body = config_map("a", labels={"x": "1"})
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}
    uid = api.post("/api/v1/nodes", node)["metadata"]["uid"]
    body["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": uid}
    ]
    made = api.apply(f"{MAPS}/a", body)
    fields = owners(made)["me", "Apply"]["f:metadata"]
    assert fields["f:labels"] == {"f:x": {}}
    assert list(fields["f:ownerReferences"]) == [f'k:{{"uid":"{uid}"}}']
    other = api.apply(f"{MAPS}/a", config_map("a", labels={"y": "2"}), "other")
    assert other["metadata"]["labels"] == {"x": "1", "y": "2"}
    assert other["metadata"]["uid"] == made["metadata"]["uid"]


def test_an_apply_says_who_applies_and_no_managed_fields(api):
    """ "Using server-side apply": fieldManager is required, managedFields must be nil."""
    kind = "application/apply-patch+yaml"
    anonymous = api.request("PATCH", f"{MAPS}/a", config_map("a"), kind=kind)
    assert (anonymous.code, anonymous.causes[0]["field"]) == (422, "fieldManager")
    made = api.apply(f"{MAPS}/a", config_map("a", x="1"))
    assert api.apply(f"{MAPS}/a", made.body).code == 400
    assert api.apply(f"{MAPS}/a", "kind: ConfigMap\napiVersion: v1\ndata: {x: '1'}\n").code == 200


def test_defaults_belong_to_nobody_who_applies(api, things):
    """ "Merge strategy": a default that was not applied can be taken by another without conflict."""
    api.apply(f"{things}/a", thing("a", size=1))
    taken = api.apply(f"{things}/a", thing("a", color="blue"), "other")
    assert (taken.code, taken["spec"]) == (200, {"size": 1, "color": "blue"})


def test_a_field_that_was_given_up_gets_its_default_back(api, things):
    """ "Merge strategy": a removed field with a default is reset to it."""
    api.apply(f"{things}/a", thing("a", color="blue"))
    assert api.apply(f"{things}/a", thing("a"))["spec"] == {"color": "red"}


def test_an_unknown_field_cannot_be_applied(api, things):
    """A typed patch needs a schema for every field: field not declared in schema."""
    api.apply(f"{things}/a", thing("a"))
    refused = api.apply(f"{things}/a", thing("a", odd=1))
    assert "field not declared in schema" in refused["message"]


def test_an_apply_with_a_stale_version_conflicts(api):
    """ "Conflicts": a resourceVersion in what is applied is a precondition."""
    made = api.apply(f"{MAPS}/a", config_map("a", x="1"))
    api.merge(f"{MAPS}/a", {"data": {"y": "1"}})
    stale = config_map("a", x="2")
    stale["metadata"]["resourceVersion"] = made.version
    assert api.apply(f"{MAPS}/a", stale).code == 409
