"""Custom resources: schemas, defaults, pruning, rules, and which definitions are accepted.

Held to "Extend the Kubernetes API with CustomResourceDefinitions".
"""

import copy

import pytest

from tests.contract.kubernetes.clients import THINGS, definition, thing

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def causes(answer):
    return [(cause["reason"], cause["field"]) for cause in answer.causes]


def test_a_definition_is_established_and_served_at_once(api, things):
    """The conditions NamesAccepted and Established say when the kind can be used."""
    said = api.get(f"{DEFINITIONS}/things.example.com")["status"]
    assert {each["type"]: each["status"] for each in said["conditions"]} == {
        "NamesAccepted": "True",
        "Established": "True",
    }
    assert said["storedVersions"] == ["v1"]
    assert api.get(things)["kind"] == "ThingList"


def test_defaults_are_filled_in_and_what_the_schema_does_not_name_is_dropped(api, things):
    """ "Defaulting" and "Field pruning"."""
    made = api.post(things, thing("a", size=1, odd=2))
    assert made["spec"] == {"size": 1, "color": "red"}
    strict = api.post(things, thing("b", odd=2), fieldValidation="Strict")
    assert (strict.code, 'unknown field "spec.odd"' in strict["message"]) == (400, True)


def test_what_breaks_the_schema_is_invalid_with_one_cause_per_place(api, things):
    """ "Validation": 422, reason Invalid, details.causes."""
    refused = api.post(things, thing("a", size=-1, color=3, names="x"))
    assert (refused.code, refused.reason) == (422, "Invalid")
    assert sorted(causes(refused)) == [
        ("FieldValueInvalid", "spec.size"),
        ("FieldValueTypeInvalid", "spec.color"),
        ("FieldValueTypeInvalid", "spec.names"),
    ]
    assert 'Thing.example.com "a" is invalid' in refused["message"]


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string", "enum": ["a", "b"]}, "a", "c"),
        ({"type": "string", "pattern": "^a+$"}, "aa", "b"),
        ({"type": "string", "maxLength": 2}, "ab", "abc"),
        ({"type": "string", "minLength": 1}, "a", ""),
        ({"type": "string", "format": "date-time"}, "2026-01-01T00:00:00Z", "yesterday"),
        ({"type": "integer", "maximum": 3}, 3, 4),
        ({"type": "number", "minimum": 0, "exclusiveMinimum": True}, 0.5, 0),
        ({"type": "integer", "format": "int32"}, 1, 1.5),
        ({"type": "boolean"}, False, "no"),
        ({"type": "array", "maxItems": 1, "items": {"type": "string"}}, ["a"], ["a", "b"]),
        (
            {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            ["a", "b"],
            ["a", "a"],
        ),
        ({"x-kubernetes-int-or-string": True}, "5%", 1.5),
        ({"type": "string", "nullable": True}, None, 1),
        (
            {"type": "object", "maxProperties": 1, "additionalProperties": {"type": "string"}},
            {"a": "b"},
            {"a": "b", "c": "d"},
        ),
        (
            {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}},
            {"a": ""},
            {},
        ),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
            },
            {"a": "1"},
            {"a": "1", "b": "2"},
        ),
    ],
)
def test_a_schema_takes_what_fits_and_refuses_what_does_not(server, api, schema, good, bad):
    """ "Specifying a structural schema": the keywords of OpenAPI v3 that are allowed."""
    server.install(definition({"value": schema}))
    assert api.post(THINGS, thing("good", value=good)).code == 201
    assert api.post(THINGS, thing("bad", value=bad)).code == 422


def test_what_is_preserved_is_neither_dropped_nor_checked(server, api):
    """ "Controlling pruning": x-kubernetes-preserve-unknown-fields."""
    server.install(
        definition({"any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}})
    )
    made = api.post(THINGS, thing("a", any={"x": {"y": [1, None, "z"]}}))
    assert made["spec"]["any"] == {"x": {"y": [1, None, "z"]}}


def test_rules_hold_between_fields_with_their_message_reason_and_field(server, api):
    """ "Validation rules": rule, message, reason, fieldPath."""
    server.install(
        definition(
            {"low": {"type": "integer"}, "high": {"type": "integer"}},
            rules=[
                {
                    "rule": "self.low <= self.high",
                    "message": "low is at most high",
                    "reason": "FieldValueForbidden",
                    "fieldPath": ".low",
                }
            ],
        )
    )
    assert api.post(THINGS, thing("a", low=1, high=2)).code == 201
    refused = api.post(THINGS, thing("b", low=3, high=2))
    assert refused.causes == [
        {
            "reason": "FieldValueForbidden",
            "message": "Forbidden: low is at most high",
            "field": "spec.low",
        }
    ]


def test_a_rule_without_a_message_is_quoted_and_an_expression_can_make_one(server, api):
    """ "The message field" and "The messageExpression field"."""
    rules = [
        {"rule": "self.size < 5"},
        {"rule": "self.size != 7", "messageExpression": "'not ' + string(self.size)"},
    ]
    server.install(definition({"size": {"type": "integer"}}, rules=rules))
    refused = api.post(THINGS, thing("a", size=7))
    assert [cause["message"] for cause in refused.causes] == [
        'Invalid value: "object": failed rule: self.size < 5',
        'Invalid value: "object": not 7',
    ]


def test_rules_are_not_evaluated_on_what_has_the_wrong_type(server, api):
    """ "Validation rules": whoever corrects the types is told what is left to check."""
    fields = {"size": {"type": "integer", "minimum": 0}, "color": {"type": "string"}}
    server.install(definition(fields, rules=[{"rule": "self.color == 'red'", "message": "red"}]))
    typed = api.post(THINGS, thing("a", size="x", color="blue"))
    assert causes(typed) == [("FieldValueTypeInvalid", "spec.size"), ("FieldValueInvalid", "<nil>")]
    ranged = api.post(THINGS, thing("a", size=-1, color="blue"))
    assert causes(ranged) == [("FieldValueInvalid", "spec.size"), ("FieldValueInvalid", "spec")]


def test_a_transition_rule_is_held_against_updates_only(server, api):
    """ "Transition rules": a rule with oldSelf is not evaluated when the object is created."""
    fixed = {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}
    growing = {"type": "integer", "x-kubernetes-validations": [{"rule": "self > oldSelf"}]}
    server.install(definition({"mode": fixed, "size": growing}))
    assert api.post(THINGS, thing("a", mode="x", size=1)).code == 201
    assert api.merge(f"{THINGS}/a", {"spec": {"size": 2}}).code == 200
    refused = api.merge(f"{THINGS}/a", {"spec": {"mode": "y", "size": 3}})
    assert causes(refused) == [("FieldValueInvalid", "spec.mode")]


def test_a_transition_rule_in_a_list_with_keys_compares_items_of_one_key(server, api):
    """ "Transition rules": old values are told by the keys of lists of type map."""
    item = {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string"},
            "size": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf"}]},
        },
    }
    tiers = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": item,
    }
    server.install(definition({"tiers": tiers}))
    api.post(THINGS, thing("a", tiers=[{"name": "x", "size": 2}, {"name": "y", "size": 9}]))
    turned = [{"name": "y", "size": 9}, {"name": "x", "size": 3}]
    assert api.merge(f"{THINGS}/a", {"spec": {"tiers": turned}}).code == 200
    turned[1]["size"] = 1
    assert causes(api.merge(f"{THINGS}/a", {"spec": {"tiers": turned}})) == [
        ("FieldValueInvalid", "spec.tiers[1].size")
    ]


def test_a_rule_at_the_root_sees_the_name_and_no_other_metadata(server, api):
    """ "Validation rules": metadata.name and metadata.generateName are accessible at the root."""
    found = definition({"size": {"type": "integer"}})
    schema = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["x-kubernetes-validations"] = [
        {"rule": "self.metadata.name.size() < 4 && !has(self.metadata.labels)"}
    ]
    server.install(found)
    named = thing("abc")
    named["metadata"]["labels"] = {"a": "b"}
    assert api.post(THINGS, named).code == 201
    assert api.post(THINGS, thing("abcd")).code == 422


def test_rules_have_the_functions_of_kubernetes(server, api):
    """ "Kubernetes CEL libraries": strings, lists, quantities."""
    rules = [
        {"rule": "quantity(self.size).isGreaterThan(quantity('1Gi'))"},
        {"rule": "self.names.all(n, n.split('/').size() == 2) && self.names.isSorted()"},
        {"rule": "self.names.map(n, n.lowerAscii()).join(',').indexOf('a') == 0"},
    ]
    fields = {"size": {"type": "string"}, "names": {"type": "array", "items": {"type": "string"}}}
    server.install(definition(fields, rules=rules))
    assert api.post(THINGS, thing("a", size="1.5Gi", names=["a/b", "c/d"])).code == 201
    assert len(api.post(THINGS, thing("b", size="1000M", names=["c/d", "a"])).causes) == 3


def test_versions_of_a_kind_share_their_objects(server, api):
    """ "Versions in CustomResourceDefinitions": strategy None changes apiVersion only."""
    found = definition({"size": {"type": "integer"}})
    older = copy.deepcopy(found["spec"]["versions"][0])
    found["spec"]["versions"].append({**older, "name": "v1beta1", "storage": False})
    server.install(found)
    api.post(THINGS, thing("a", size=1))
    beta = api.get(THINGS.replace("/v1/", "/v1beta1/") + "/a")
    assert (beta["apiVersion"], beta["spec"]) == ("example.com/v1beta1", {"size": 1})
    unserved = [{"op": "replace", "path": "/spec/versions/1/served", "value": False}]
    kind = "application/json-patch+json"
    api.request("PATCH", f"{DEFINITIONS}/things.example.com", unserved, kind=kind)
    assert api.get(THINGS.replace("/v1/", "/v1beta1/")).code == 404


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda d: d["metadata"].update(name="others.example.com"), "metadata.name"),
        (lambda d: d["spec"]["versions"][0].update(storage=False), "spec.versions"),
        (lambda d: spec_of(d).pop("type"), ".type"),
        (lambda d: spec_of(d)["properties"].update(a={"type": "text"}), ".type"),
        (lambda d: spec_of(d)["properties"].update(a={"type": "array"}), ".items"),
        (
            lambda d: spec_of(d)["properties"].update(a={"type": "string", "default": 1}),
            ".default",
        ),
        (lambda d: spec_of(d).update(additionalProperties=False), ".additionalProperties"),
        (lambda d: spec_of(d).update(anyOf=[{"type": "object"}]), ".anyOf[0].type"),
        (lambda d: spec_of(d).update({"x-kubernetes-validations": [{"rule": "self +"}]}), ".rule"),
        (
            lambda d: d["spec"]["versions"][0].update(
                additionalPrinterColumns=[{"name": "A", "type": "text", "jsonPath": ".a"}]
            ),
            ".type",
        ),
    ],
)
def test_a_definition_that_is_not_structural_is_refused(api, change, field):
    """ "Specifying a structural schema": the rules that a definition is held to."""
    found = definition({"size": {"type": "integer"}})
    change(found)
    refused = api.post(DEFINITIONS, found)
    assert refused.code == 422
    assert any(cause["field"].endswith(field) for cause in refused.causes)


def spec_of(found):
    version = found["spec"]["versions"][0]
    return version["schema"]["openAPIV3Schema"]["properties"]["spec"]


def test_objects_go_with_their_definition(server, api, things):
    """ "Delete a CustomResourceDefinition": it and all objects of it go; the kind is served no more."""
    api.post(things, thing("a"))
    api.delete(f"{DEFINITIONS}/things.example.com")
    server.settle()
    assert api.get(things).code == 404
    assert server.store.get(("example.com", "things", "default", "a")) is None


def test_a_changed_definition_counts_at_once(server, api, things):
    """A new schema holds for what is written from then on."""
    api.post(things, thing("a", size=1))
    narrower = definition({"size": {"type": "integer", "maximum": 5}})
    read = api.get(f"{DEFINITIONS}/things.example.com").body
    assert (
        api.put(f"{DEFINITIONS}/things.example.com", {**read, "spec": narrower["spec"]}).code == 200
    )
    assert api.post(things, thing("b", size=6)).code == 422
    assert api.get(f"{things}/a").code == 200
