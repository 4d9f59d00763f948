"""Objects: identity, versions, and what a status says of a refusal.

Held to kubernetes/community ``api-conventions.md`` (named per test) and "Kubernetes API Concepts".
"""

import re

from tests.contract.kubernetes.clients import MAPS, PODS, config_map, thing


def test_a_created_object_has_what_only_the_server_gives(api):
    """api-conventions, "Metadata": uid, resourceVersion and creationTimestamp are the system's."""
    made = api.post(MAPS, config_map("a", x="1"))
    assert made.code == 201
    metadata = made["metadata"]
    assert re.fullmatch(r"[0-9a-f-]{36}", metadata["uid"])
    assert metadata["resourceVersion"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", metadata["creationTimestamp"])
    assert metadata["namespace"] == "default"
    assert api.get(f"{MAPS}/a").body == made.body


def test_a_name_is_taken_once(api):
    """api-conventions, "Types": names are unique within a namespace; 409 AlreadyExists."""
    api.post(MAPS, config_map("a"))
    again = api.post(MAPS, config_map("a"))
    assert (again.code, again.reason) == (409, "AlreadyExists")
    assert again["message"] == 'configmaps "a" already exists'
    assert again["details"] == {"name": "a", "kind": "configmaps"}


def test_what_is_not_there_is_not_found(api):
    """api-conventions, "Response Status Kind": kind Status, status Failure, reason, details, code."""
    missing = api.get(f"{MAPS}/none")
    assert missing.body == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'configmaps "none" not found',
        "reason": "NotFound",
        "details": {"name": "none", "kind": "configmaps"},
        "code": 404,
    }


def test_a_stale_update_conflicts_and_changes_nothing(api):
    """api-conventions, "Concurrency Control and Consistency": 409, read again and apply again."""
    first = api.post(MAPS, config_map("a", x="1")).body
    api.put(f"{MAPS}/a", {**first, "data": {"x": "2"}})
    stale = api.put(f"{MAPS}/a", {**first, "data": {"x": "3"}})
    assert (stale.code, stale.reason) == (409, "Conflict")
    assert "the object has been modified" in stale["message"]
    assert api.get(f"{MAPS}/a")["data"] == {"x": "2"}


def test_an_update_without_a_version_overwrites_kinds_of_the_core(api):
    """api-conventions, "Concurrency Control": without resourceVersion there is no check."""
    api.post(MAPS, config_map("a", x="1"))
    assert api.put(f"{MAPS}/a", config_map("a", x="2"))["data"] == {"x": "2"}


def test_a_custom_object_is_not_replaced_without_its_version(api, things):
    """Custom resources: metadata.resourceVersion must be specified for an update."""
    made = api.post(things, thing("a", size=1))
    refused = api.put(f"{things}/a", thing("a", size=2))
    assert (refused.code, refused.reason) == (422, "Invalid")
    assert refused.causes[0]["field"] == "metadata.resourceVersion"
    assert api.put(f"{things}/a", {**made.body, "spec": {"size": 2}}).code == 200


def test_every_write_has_a_newer_version_and_a_write_of_the_same_none(api):
    """API Concepts, "Resource versions": it changes whenever the object does, and only then."""
    first = api.post(MAPS, config_map("a", x="1"))
    second = api.merge(f"{MAPS}/a", {"data": {"x": "2"}})
    same = api.merge(f"{MAPS}/a", {"data": {"x": "2"}})
    assert first.version != second.version
    assert second.version == same.version


def test_a_generated_name_begins_as_asked(api):
    """api-conventions, "Idempotency": generateName gets a suffix of five characters."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "job-"}}
    names = {api.post(MAPS, body)["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(re.fullmatch(r"job-[a-z0-9]{5}", name) for name in names)


def test_an_object_goes_to_the_namespace_of_its_path_only(api):
    """API Concepts: the namespace of object and request must agree; an unknown one is not found."""
    elsewhere = config_map("a")
    elsewhere["metadata"]["namespace"] = "kube-system"
    assert api.post(MAPS, elsewhere).code == 400
    missing = api.post("/api/v1/namespaces/none/configmaps", config_map("a"))
    assert (missing.code, missing["details"]["kind"]) == (404, "namespaces")


def test_a_name_must_fit_into_the_domain_name_system(api):
    """Object Names and IDs: most names are RFC 1123 subdomains."""
    refused = api.post(MAPS, config_map("A_b"))
    assert refused.code == 422
    assert refused.causes[0]["field"] == "metadata.name"


def test_the_generation_counts_changes_of_the_spec_only(api, things):
    """api-conventions, "Metadata": generation is a sequence number of the desired state."""
    made = api.post(things, thing("a", size=1))
    assert made["metadata"]["generation"] == 1
    labelled = api.merge(f"{things}/a", {"metadata": {"labels": {"a": "b"}}})
    assert labelled["metadata"]["generation"] == 1
    told = api.merge(f"{things}/a/status", {"status": {"ready": True}})
    assert told["metadata"]["generation"] == 1
    assert api.merge(f"{things}/a", {"spec": {"size": 2}})["metadata"]["generation"] == 2


def test_the_main_resource_leaves_the_status_alone_and_status_the_rest(api, things):
    """api-conventions, "Spec and Status": PUT to the main endpoint ignores status, and vice versa."""
    made = api.post(things, {**thing("a", size=1), "status": {"ready": True}})
    assert "status" not in made.body
    told = api.put(f"{things}/a/status", {**made.body, "spec": {"size": 9}, "status": {"n": 1}})
    assert (told["spec"]["size"], told["status"]) == (1, {"n": 1})
    written = api.put(f"{things}/a", {**told.body, "spec": {"size": 2}, "status": {"n": 2}})
    assert (written["spec"]["size"], written["status"]) == (2, {"n": 1})


def test_a_dry_run_answers_as_if_and_keeps_nothing(api):
    """API Concepts, "Dry-run": the request is processed, and not persisted."""
    assert api.post(MAPS, config_map("a"), dryRun="All").code == 201
    assert api.get(f"{MAPS}/a").code == 404
    api.post(MAPS, config_map("b", x="1"))
    assert api.merge(f"{MAPS}/b", {"data": {"x": "2"}}, dryRun="All")["data"] == {"x": "2"}
    assert api.delete(f"{MAPS}/b", dryRun="All").code == 200
    assert api.get(f"{MAPS}/b")["data"] == {"x": "1"}
    assert api.post(MAPS, config_map("c"), dryRun="Some").code == 400


def test_unknown_fields_are_dropped_with_a_warning_or_refused_strictly(api):
    """API Concepts, "Validation for unrecognized or duplicate fields": Ignore, Warn, Strict."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "a", "image": "a:1", "imige": "b"}]},
    }
    strict = api.post(PODS, pod, fieldValidation="Strict")
    assert strict.code == 400
    assert 'unknown field "spec.containers[0].imige"' in strict["message"]
    warned = api.post(PODS, pod)
    assert "imige" in warned.headers["Warning"]
    assert "imige" not in warned["spec"]["containers"][0]


def test_a_resource_that_nobody_serves_is_not_found(api):
    """api-conventions, "HTTP Status codes": 404 for paths as for objects."""
    assert api.get("/apis/nobody.example.com/v1/namespaces/default/things").code == 404
    assert api.get("/api/v1/namespaces/default/pods/a/nothing").code == 404
