"""The definitions are what an API server takes: valid, structural, bounded where rules look."""

import re

import jsonschema
import kubernetes_validate
import pytest

from cachefs.k8s import names
from cachefs.k8s.crds import documents
from tests.unit.k8s.crds.judging import FREE, RULES, pruned, schema_of, walk, with_defaults

DEFINITIONS = documents()
every = pytest.mark.parametrize(
    "definition", DEFINITIONS, ids=lambda each: each["spec"]["names"]["kind"]
)

FORBIDDEN = {
    "$ref",
    "additionalItems",
    "definitions",
    "dependencies",
    "deprecated",
    "discriminator",
    "id",
    "patternProperties",
    "readOnly",
    "uniqueItems",
    "writeOnly",
    "xml",
}
INT_OR_STRING = "x-kubernetes-int-or-string"
LIST_TYPE, MAP_KEYS = "x-kubernetes-list-type", "x-kubernetes-list-map-keys"
UNSAID = {"description", "type", "default", "additionalProperties", "nullable", "items"}


def structural_faults(schema, path=""):
    """Yield what makes a schema not structural, or less than we ask of ours."""
    for name, node in walk(schema, path):
        if "type" not in node and not node.get(INT_OR_STRING) and not node.get(FREE):
            yield f"{name}: no type"
        for word in FORBIDDEN & node.keys():
            yield f"{name}: {word}"
        if "properties" in node and "additionalProperties" in node:
            yield f"{name}: properties and additionalProperties"
        if node.get("additionalProperties") is False:
            yield f"{name}: additionalProperties is false"
        if FREE in node and (node.get("type") != "object" or node[FREE] is not True):
            yield f"{name}: {FREE} of something else than an object"
        if "description" not in node and name != "metadata":
            yield f"{name}: no description"
        yield from _combined_faults(name, node)
        yield from _list_faults(name, node)


def _combined_faults(name, node):
    """Yield faults of what stands in ``anyOf`` and the like: it may only narrow what stands outside."""
    for word in ("allOf", "anyOf", "oneOf"):
        inner = node.get(word, ())
        if word == "anyOf" and node.get(INT_OR_STRING):
            if inner != [{"type": "integer"}, {"type": "string"}]:
                yield f"{name}: {INT_OR_STRING} with other alternatives"
            continue
        for each in inner:
            for key in UNSAID & each.keys():
                yield f"{name}: {key} within {word}"
    for key in UNSAID & node.get("not", {}).keys():
        yield f"{name}: {key} within not"


def _list_faults(name, node):
    if node.get("type") != "array":
        return
    items = node.get("items", {})
    if node.get(LIST_TYPE) == "set" and items.get("type") in ("object", "array", None):
        yield f"{name}: a set of what is no plain value"
    if node.get(LIST_TYPE) == "map":
        for key in node[MAP_KEYS]:
            inner = items["properties"].get(key, {})
            if key not in items.get("required", ()) and "default" not in inner:
                yield f"{name}: the key {key} may be absent"
    elif LIST_TYPE not in node:
        yield f"{name}: no list type"


def reached(schema, rule):
    """Yield the paths that a rule names, with their schemas."""
    for word in set(re.findall(r"\b(?:self|oldSelf)((?:\.[a-zA-Z]\w*)*)", rule)):
        node, path = schema, ""
        for name in word.split(".")[1:]:
            inner = node.get("properties", {}).get(name)
            if inner is None:
                break  # a function, or a name that the API server would refuse
            node, path = inner, f"{path}.{name}"
        yield path, node


def unbounded(schema):
    """Yield what has no bound although a rule looks at it, or at something around it."""
    for path, node in walk(schema):
        for rule in node.get(RULES, ()):
            for inside, found in reached(node, rule["rule"]):
                if inside.startswith(".metadata"):
                    continue  # its bounds are the API server's own
                is_root = path == "" and inside == ""
                for where, each in [("", found)] if is_root else walk(found):
                    if not _is_bounded(each):
                        yield f"{path}{inside}{where}"


def _is_bounded(node):
    if node.get(INT_OR_STRING) or node.get("type") == "string":
        return "maxLength" in node or "enum" in node
    if node.get("type") == "array":
        return "maxItems" in node
    return "additionalProperties" not in node or "maxProperties" in node


@pytest.mark.slow
@every
@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_a_definition_is_what_kubernetes_takes(definition, version):
    kubernetes_validate.validate(definition, version, strict=True)


@every
def test_a_definition_is_structural(definition):
    assert list(structural_faults(schema_of(definition))) == []


@every
def test_what_a_rule_looks_at_is_bounded(definition):
    assert list(unbounded(schema_of(definition))) == []


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({"description": "d"}, "no type"),
        ({"type": "string"}, "no description"),
        (
            {"type": "object", "description": "d", "x-kubernetes-preserve-unknown-fields": False},
            FREE,
        ),
        ({"type": "array", "description": "d", "items": {"type": "string"}}, "no list type"),
        ({"type": "object", "description": "d", "additionalProperties": False}, "is false"),
        ({"type": "object", "description": "d", "anyOf": [{"type": "object"}]}, "within anyOf"),
        ({"type": "string", "description": "d", "readOnly": True}, "readOnly"),
        (
            {
                "type": "array",
                "description": "d",
                LIST_TYPE: "map",
                MAP_KEYS: ["a"],
                "items": {"type": "object", "properties": {"a": {"type": "string"}}},
            },
            "may be absent",
        ),
    ],
)
def test_the_look_at_structure_can_fail(schema, fault):
    assert any(fault in found for found in structural_faults(schema, "x"))


@pytest.mark.parametrize(
    "inner",
    [
        {"type": "string"},
        {"type": "array", "items": {}},
        {"additionalProperties": {"type": "string"}},
    ],
)
def test_the_look_at_bounds_can_fail(inner):
    schema = {"properties": {"a": inner}, RULES: [{"rule": "self.a.size() > 0"}]}
    assert "spec.a" in list(unbounded({"properties": {"spec": schema}}))


@every
def test_a_rule_is_asked_for_few_items(definition):
    """The cost of a rule is multiplied by the items that it may be asked for."""

    def look(schema, times):
        assert times <= 64 or RULES not in schema
        for inner in schema.get("properties", {}).values():
            look(inner, times)
        if "items" in schema:
            look(schema["items"], times * schema["maxItems"])

    look(schema_of(definition), 1)


@every
def test_a_rule_has_a_message_and_is_about_a_field_that_is_there(definition):
    for _, node in walk(schema_of(definition)):
        for rule in node.get(RULES, ()):
            assert rule["message"]
            assert "\n" not in rule["message"] + rule["rule"]
            # What makes text of a number is taken for unbounded, and refused for its cost.
            assert "messageExpression" not in rule
            if "fieldPath" in rule:
                assert rule["fieldPath"].removeprefix(".") in node["properties"]


@every
def test_a_rule_that_compares_can_find_what_was(definition):
    """Below a list whose items are not told apart, there is no `oldSelf`."""

    def look(schema, *, comparable):
        compares = any("oldSelf" in rule["rule"] for rule in schema.get(RULES, ()))
        assert comparable or not compares
        for inner in schema.get("properties", {}).values():
            look(inner, comparable=comparable)
        if "items" in schema:
            look(schema["items"], comparable=comparable and schema[LIST_TYPE] == "map")

    look(schema_of(definition), comparable=True)


@every
def test_a_default_is_what_its_schema_takes_and_keeps(definition):
    for path, node in walk(schema_of(definition)):
        for name, inner in node.get("properties", {}).items():
            if "default" in inner:
                filled = with_defaults(inner, inner["default"])
                jsonschema.Draft4Validator(inner).validate(filled)
                assert pruned(inner, filled) == [], f"{path}.{name}"


@every
def test_a_kind_is_where_the_other_parts_look_for_it(definition):
    spec = definition["spec"]
    known = {
        kind.kind: kind
        for kind in (names.DATASETS, names.CACHE_POOLS, names.FLOWS, names.FLOW_RUNS)
    }
    kind = known[spec["names"]["kind"]]
    assert (spec["group"], spec["names"]["plural"]) == (names.GROUP, kind.plural)
    assert definition["metadata"]["name"] == f"{kind.plural}.{names.GROUP}"
    assert spec["names"]["categories"] == ["cachefs"]
    assert spec["versions"][0]["name"] == names.VERSION
    assert "status" in spec["versions"][0]["subresources"]


@every
def test_columns_show_fields_that_are_there(definition):
    schema = schema_of(definition)
    for column in definition["spec"]["versions"][0]["additionalPrinterColumns"]:
        path = column["jsonPath"].removeprefix(".")
        if path.startswith("metadata.") or "?(@" in path:
            continue
        assert path in {each for each, _ in walk(schema)}, column["name"]


def test_short_names_and_columns_are_those_that_people_were_told():
    found = {}
    for each in DEFINITIONS:
        columns = each["spec"]["versions"][0]["additionalPrinterColumns"]
        shown = [one["name"] for one in columns if not one.get("priority")]
        found[each["spec"]["names"]["shortNames"][0]] = shown
    assert found == {
        "cds": ["Phase", "Cached", "Size", "Version", "Age"],
        "cpool": ["Phase", "Workers", "Wanted", "Used", "Capacity", "Age"],
        "cflow": ["Valid", "Registered", "Last run", "Age"],
        "crun": ["Flow", "Phase", "Progress", "Age"],
    }


def test_a_pool_can_be_scaled():
    (pool,) = (each for each in DEFINITIONS if each["spec"]["names"]["kind"] == "CachePool")
    scale = pool["spec"]["versions"][0]["subresources"]["scale"]
    paths = {path for path, _ in walk(schema_of(pool))}
    assert {each.removeprefix(".") for each in scale.values()} <= paths
    assert scale["specReplicasPath"] == ".spec.workers"
    assert scale["labelSelectorPath"] == ".status.selector"


def test_a_condition_is_as_all_of_kubernetes_has_it():
    for each in DEFINITIONS:
        found = dict(walk(schema_of(each)))
        conditions = found["status.conditions"]
        assert conditions[LIST_TYPE] == "map"
        assert conditions[MAP_KEYS] == ["type"]
        assert set(conditions["items"]["required"]) == {
            "type",
            "status",
            "reason",
            "message",
            "lastTransitionTime",
        }
