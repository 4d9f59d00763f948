"""What an API server makes of an object: defaults, the schema, and the rules, each rule by cel-python."""

from collections.abc import Iterator
from copy import deepcopy
from functools import cache

import celpy
import jsonschema
from celpy.adapter import json_to_cel

RULES = "x-kubernetes-validations"
FREE = "x-kubernetes-preserve-unknown-fields"


def schema_of(definition):
    (version,) = definition["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]


def walk(schema, path="") -> Iterator[tuple[str, dict]]:
    """Yield each schema within a schema, with its path; items are ``[]``, values of a mapping ``{}``."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from walk(inner, f"{path}.{name}".lstrip("."))
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from walk(schema["additionalProperties"], f"{path}{{}}")


def with_defaults(schema, value):
    value = deepcopy(value)
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if name not in value and "default" in inner:
                value[name] = deepcopy(inner["default"])
            if name in value:
                value[name] = with_defaults(inner, value[name])
    if isinstance(value, list) and "items" in schema:
        value = [with_defaults(schema["items"], one) for one in value]
    return value


def pruned(schema, value, path=""):
    """Return the fields of a value that the schema does not know, and the API server would drop."""
    if isinstance(value, list):
        return [each for one in value for each in pruned(schema.get("items", {}), one, f"{path}[]")]
    if not isinstance(value, dict) or "additionalProperties" in schema or path == "metadata":
        return []
    known = schema.get("properties", {})
    found = [] if schema.get(FREE) else [f"{path}.{name}" for name in value if name not in known]
    return found + [
        each
        for name, inner in known.items()
        if name in value
        for each in pruned(inner, value[name], f"{path}.{name}".lstrip("."))
    ]


def judge(definition, new, old=None):
    """Return what is wrong with an object: messages of the schema, or of the rules if it fits the schema."""
    schema = schema_of(definition)
    new = with_defaults(schema, new)
    faults = [error.message for error in jsonschema.Draft4Validator(schema).iter_errors(new)]
    faults += [f"unknown field {name}" for name in pruned(schema, new)]
    if faults:
        return faults
    old = None if old is None else with_defaults(schema, old)
    return [rule["message"] for rule, holds in ruled(schema, new, old) if not holds]


def ruled(schema, new, old):
    """Yield each rule that is asked, and whether it holds."""
    for rule in schema.get(RULES, ()):
        if "oldSelf" not in rule["rule"] or old is not None:
            yield rule, holds(rule["rule"], new, old)
    if isinstance(new, dict):
        for name, inner in schema.get("properties", {}).items():
            if name in new:
                before = old.get(name) if isinstance(old, dict) else None
                yield from ruled(inner, new[name], before)
    if isinstance(new, list) and "items" in schema:
        for one in new:
            yield from ruled(schema["items"], one, _partner(schema, one, old))


def _partner(schema, item, old):
    """Return what an item of a list was before, if its list says how to tell."""
    keys = schema.get("x-kubernetes-list-map-keys")
    if keys is None or old is None:
        return None
    same = [one for one in old if all(one.get(key) == item.get(key) for key in keys)]
    return same[0] if same else None


@cache
def _program(rule):
    environment = celpy.Environment()
    return environment.program(environment.compile(rule))


def holds(rule, new, old=None):
    values = {"self": json_to_cel(new)}
    if old is not None:
        values["oldSelf"] = json_to_cel(old)
    return bool(_program(rule).evaluate(values))
