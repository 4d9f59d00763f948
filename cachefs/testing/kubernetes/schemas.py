"""Holding objects to OpenAPI schemas, and filling in their defaults: those of custom resources, and Kubernetes' own.

What is wrong is said as the API server says it, one cause for each place.
"""

import copy
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

from cachefs.testing.kubernetes.documents import Document, Json
from cachefs.testing.kubernetes.failures import Cause, shown_value
from cachefs.testing.kubernetes.rules import faults_by_rules, has_rules
from cachefs.testing.kubernetes.shapes import Shape

_QUANTITY: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?")


def default_by_schema(document: Json, schema: Document) -> Json:
    """Return a document with the defaults that its schema gives to what is absent."""
    if isinstance(document, dict):
        filled = dict(document)
        for name, inside in (schema.get("properties") or {}).items():
            if (
                filled.get(name) is None
                and "default" in inside
                and not (name in filled and inside.get("nullable"))
            ):
                filled[name] = copy.deepcopy(inside["default"])
            if name in filled:
                filled[name] = default_by_schema(filled[name], inside)
        more = schema.get("additionalProperties")
        if isinstance(more, dict):
            known = schema.get("properties") or {}
            for name in filled.keys() - known.keys():
                filled[name] = default_by_schema(filled[name], more)
        return filled
    if isinstance(document, list) and isinstance(schema.get("items"), dict):
        return [default_by_schema(item, schema["items"]) for item in document]
    return document


def faults_by_schema(
    schema: Document, new: Document, old: Document | None, *, status_only: bool = False
) -> list[Cause]:
    """Return what is wrong with an object by its schema, and by its rules unless they would rest on what is broken.

    Args:
        schema: Of the whole object.
        new: The object.
        old: What it was, for rules that compare; ``None`` when it is created.
        status_only: Only the status was sent: what else may be wrong is not the sender's.
    """
    found = list(_faults(Shape(schema, root=True), new, ""))
    if status_only:
        found = [cause for cause in found if cause.field.startswith("status")]
    if any(cause.reason in _BLOCKING for cause in found):
        return [*found, _UNCHECKED] if has_rules(schema) else found
    return [*found, *faults_by_rules(schema, new, old)]


def type_faults(shape: Shape, value: Json, path: str) -> list[Cause]:
    """Return where a document has values of types that its shape does not."""
    found = _faults(shape, value, path)
    return [cause for cause in found if cause.reason == "FieldValueTypeInvalid"]


_BLOCKING: Final = frozenset(
    [
        "FieldValueNotSupported",
        "FieldValueRequired",
        "FieldValueTooLong",
        "FieldValueTooMany",
        "FieldValueTypeInvalid",
    ]
)
"""After these, rules are not evaluated: they may rest on what is broken."""
_UNCHECKED: Final = Cause(
    "FieldValueInvalid",
    'Invalid value: "null": some validation rules were not checked because the object was invalid; '
    "correct the existing errors to complete validation",
    "<nil>",
)


def _faults(shape: Shape, value: Json, path: str) -> Iterator[Cause]:
    schema = shape.schema
    if value is None:
        if schema.get("nullable") or not shape.types or "null" in shape.types:
            return
        yield _wrong_type(path, value, shape)
        return
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield _wrong_type(path, value, shape)
            return
    elif shape.types and not any(_is(value, name) for name in shape.types):
        yield _wrong_type(path, value, shape)
        yield from _enum_faults(schema, value, path)
        yield from _combined_faults(schema, value, path)
        return
    yield from _plain_faults(schema, value, path)
    yield from _combined_faults(schema, value, path)
    if isinstance(value, dict):
        yield from _object_faults(shape, value, path)
    elif isinstance(value, list):
        yield from _list_faults(shape, value, path)


def _is(value: Json, name: str) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return {
        "object": isinstance(value, dict),
        "array": isinstance(value, list),
        "string": isinstance(value, str),
        "boolean": isinstance(value, bool),
        "number": is_number,
        "integer": is_number and float(value).is_integer(),
        "null": value is None,
    }[name]


def _wrong_type(path: str, value: Json, shape: Shape) -> Cause:
    """Say that a value has another type; where the format is what fails, that is named in the type's place."""
    names = ("null", "object", "array", "string", "boolean", "integer", "number")
    found = next(name for name in names if _is(value, name))
    wanted = next((name for name in shape.types if name != "null"), "integer,string")
    if shape.schema.get("format") and (wanted == "string" or found == "boolean"):
        wanted, found = shape.schema["format"], ""
    where = path or "object"
    text = f'Invalid value: "{found}": {where} in body must be of type {wanted}: "{found}"'
    return Cause("FieldValueTypeInvalid", text, path)


def _invalid(path: str, value: Json, why: str) -> Cause:
    return Cause(
        "FieldValueInvalid", f"Invalid value: {shown_value(value)}: {path} in body {why}", path
    )


def _enum_faults(schema: Document, value: Json, path: str) -> Iterator[Cause]:
    if "enum" in schema and value not in schema["enum"]:
        allowed = ", ".join(json.dumps(each) for each in schema["enum"])
        text = f"Unsupported value: {shown_value(value)}: supported values: {allowed}"
        yield Cause("FieldValueNotSupported", text, path)


def _plain_faults(schema: Document, value: Json, path: str) -> Iterator[Cause]:
    yield from _enum_faults(schema, value, path)
    if isinstance(value, str):
        yield from _text_faults(schema, value, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        low, high = schema.get("minimum"), schema.get("maximum")
        if low is not None and (value < low or (value == low and schema.get("exclusiveMinimum"))):
            word = "greater than" if schema.get("exclusiveMinimum") else "greater than or equal to"
            yield _invalid(path, value, f"should be {word} {low}")
        if high is not None and (
            value > high or (value == high and schema.get("exclusiveMaximum"))
        ):
            word = "less than" if schema.get("exclusiveMaximum") else "less than or equal to"
            yield _invalid(path, value, f"should be {word} {high}")
        step = schema.get("multipleOf")
        if step and not float(value / step).is_integer():
            yield _invalid(path, value, f"should be a multiple of {step}")


def _text_faults(schema: Document, value: str, path: str) -> Iterator[Cause]:
    if len(value) > schema.get("maxLength", len(value)):
        yield Cause(
            "FieldValueTooLong", f"Too long: may not be more than {schema['maxLength']} bytes", path
        )
    if len(value) < schema.get("minLength", 0):
        yield _invalid(path, value, f"should be at least {schema['minLength']} chars long")
    pattern = schema.get("pattern")
    if pattern and not re.search(pattern, value):
        yield _invalid(path, value, f"should match '{pattern}'")
    form = schema.get("format", "")
    if form in _FORMATS and not _FORMATS[form](value):
        text = f"Invalid value: {json.dumps(value)}: {path} in body must be of type {form}: "
        yield Cause("FieldValueTypeInvalid", text + json.dumps(value), path)


def _is_time(value: str) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _is_day(value: str) -> bool:
    return re.fullmatch(r"\d{4}-\d{2}-\d{2}", value) is not None


def _is_duration(value: str) -> bool:
    return (
        value == "0"
        or re.fullmatch(r"[+-]?((\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h|d|w))+", value) is not None
    )


def _is_uuid(value: str) -> bool:
    return re.fullmatch(r"(?i)[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", value) is not None


_FORMATS: Final[Mapping[str, Callable[[str], bool]]] = {
    "date-time": _is_time,
    "date": _is_day,
    "duration": _is_duration,
    "uuid": _is_uuid,
    "quantity": lambda value: _QUANTITY.fullmatch(value) is not None,
}
"""Formats that are checked; unknown ones are not."""


def _combined(path: str, why: str) -> Cause:
    """Return a cause that is about no field: so the API server says it of combinations."""
    return Cause("FieldValueInvalid", f'Invalid value: "": "{path}" {why}', "<nil>")


def _combined_faults(schema: Document, value: Json, path: str) -> Iterator[Cause]:
    def fits(part: Document) -> bool:
        return not any(_faults(Shape(part), value, path))

    for part in schema.get("allOf") or ():
        yield from _faults(Shape(part), value, path)
    ways = schema.get("anyOf") or ()
    if ways and not any(fits(part) for part in ways):
        yield _combined(path, "must validate at least one schema (anyOf)")
        yield from _faults(Shape(ways[0]), value, path)
    ways = schema.get("oneOf") or ()
    found = sum(fits(part) for part in ways)
    if ways and found != 1:
        many = f"{found} valid alternatives" if found else "none valid"
        yield _combined(path, f"must validate one and only one schema (oneOf). Found {many}")
        if not found:
            yield from _faults(Shape(ways[0]), value, path)
    if schema.get("not") and fits(schema["not"]):
        yield _combined(path, "must not validate the schema (not)")


def _object_faults(shape: Shape, value: Document, path: str) -> Iterator[Cause]:
    schema = shape.schema
    for name in schema.get("required") or ():
        if value.get(name) is None and not (name in value and shape.field(name).keeps_null):
            inside = f"{path}.{name}" if path else name
            yield Cause("FieldValueRequired", "Required value", inside)
    yield from _count_faults("Properties", schema, len(value), path)
    for name, inner in value.items():
        inside = f"{path}.{name}" if path else name
        if (
            inner is None
            and not shape.field(name).keeps_null
            and name in (schema.get("required") or ())
        ):
            continue
        if shape.is_root and name == "metadata":
            continue
        yield from _faults(shape.field(name), inner, inside)


def _list_faults(shape: Shape, value: list[Json], path: str) -> Iterator[Cause]:
    yield from _count_faults("Items", shape.schema, len(value), path)
    if shape.list_type in ("set", "map"):
        yield from _twice(shape, value, path)
    for index, item in enumerate(value):
        yield from _faults(shape.items, item, f"{path}[{index}]")


def _count_faults(what: str, schema: Document, count: int, path: str) -> Iterator[Cause]:
    most, least = schema.get(f"max{what}"), schema.get(f"min{what}")
    word = what.lower()
    if most is not None and count > most:
        yield Cause(
            "FieldValueTooMany", f"Too many: {count}: must have at most {most} {word}", path
        )
    if least is not None and count < least:
        yield _invalid(path, count, f"should have at least {least} {word}")


def _twice(shape: Shape, value: Iterable[Json], path: str) -> Iterator[Cause]:
    seen: list[Json] = []
    for index, item in enumerate(value):
        name = item
        if shape.list_type == "map" and isinstance(item, dict):
            name = {key: item.get(key, shape.key_default(key)) for key in shape.list_keys}
        if name in seen:
            yield Cause(
                "FieldValueDuplicate", f"Duplicate value: {json.dumps(name)}", f"{path}[{index}]"
            )
        seen.append(name)
