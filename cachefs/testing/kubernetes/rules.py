"""The rules of custom resources: ``x-kubernetes-validations``.

A rule sees the place that it stands at as ``self``. One that names ``oldSelf`` compares, and so is held against
updates only, and only where the old value can be told: in fields, and in items of lists that have keys.
"""

import json
from collections.abc import Iterator
from typing import Final

from cachefs.testing.kubernetes.cel import RuleError, compiled, evaluate
from cachefs.testing.kubernetes.documents import Document, Json
from cachefs.testing.kubernetes.failures import Cause, shown_value
from cachefs.testing.kubernetes.owned import element
from cachefs.testing.kubernetes.shapes import Shape

_RULES: Final = "x-kubernetes-validations"
_HIDDEN: Final = "\0"
"""Before the names of fields that no expression can spell."""
_ROOT_METADATA: Final = ("name", "generateName")


def has_rules(schema: Document) -> bool:
    """Whether a schema has rules anywhere."""
    inner = [*(schema.get("properties") or {}).values()]
    inner += [schema[name] for name in ("items", "additionalProperties") if schema.get(name)]
    return bool(schema.get(_RULES)) or any(
        has_rules(each) for each in inner if isinstance(each, dict)
    )


def faults_by_rules(schema: Document, new: Document, old: Document | None) -> Iterator[Cause]:
    """Go through the rules of a schema that an object breaks."""
    yield from _faults(Shape(schema, root=True), new, old, "")


def _faults(shape: Shape, new: Json, old: Json, path: str) -> Iterator[Cause]:
    if new is None:
        return
    for rule in shape.schema.get(_RULES) or ():
        yield from _fault(rule, shape, (new, old), path)
    if isinstance(new, dict):
        before = old if isinstance(old, dict) else {}
        for name, value in new.items():
            if not (shape.is_root and name == "metadata"):
                inside = f"{path}.{name}" if path else name
                yield from _faults(shape.field(name), value, before.get(name), inside)
    elif isinstance(new, list):
        kept = _by_key(shape, old)
        for index, item in enumerate(new):
            was = kept.get(element(item, shape)) if kept else None
            yield from _faults(shape.items, item, was, f"{path}[{index}]")


def _by_key(shape: Shape, items: Json) -> dict[str, Json]:
    if shape.list_type != "map" or not isinstance(items, list):
        return {}
    return {element(item, shape): item for item in items}


def _fault(rule: Document, shape: Shape, values: tuple[Json, Json], path: str) -> Iterator[Cause]:
    new, old = (_seen(value, shape) for value in values)
    seen = {"self": new}
    if "oldSelf" in rule["rule"]:
        if old is None:
            return
        seen["oldSelf"] = old
    try:
        if evaluate(rule["rule"], seen):
            return
        said = _message(rule, seen)
    except RuleError as error:
        said = f"rule evaluation error: {error}: {rule['rule']}"
    reason = rule.get("reason", "FieldValueInvalid")
    shown = shown_value(new)
    text = {
        "FieldValueInvalid": f"Invalid value: {shown}: {said}",
        "FieldValueForbidden": f"Forbidden: {said}",
        "FieldValueRequired": f"Required value: {said}",
        "FieldValueDuplicate": f"Duplicate value: {shown}",
    }[reason]
    yield Cause(reason, text, f"{path}{rule.get('fieldPath', '')}".lstrip("."))


def _message(rule: Document, seen: Document) -> str:
    expression = rule.get("messageExpression")
    if expression:
        try:
            return str(evaluate(expression, seen))
        except RuleError:
            pass  # the API server falls back to the message, too
    return str(rule.get("message") or f"failed rule: {rule['rule']}")


def _seen(value: Json, shape: Shape) -> Json:
    """Return what a rule may see of a value: of the metadata only names, and numbers as the schema has them.

    What the schema does not know cannot be named, but counts where values are compared.
    """
    if isinstance(value, dict):
        shown: Document = {}
        for name, inner in value.items():
            if shape.is_root and name == "metadata":
                shown[name] = {key: inner[key] for key in _ROOT_METADATA if key in inner}
            elif shape.is_visible(name) and inner is not None:
                shown[_escaped(name) if name in shape.properties else name] = _seen(
                    inner, shape.field(name)
                )
            elif inner is not None:
                shown[f"{_HIDDEN}{name}"] = json.dumps(inner, sort_keys=True)
        return shown
    if isinstance(value, list):
        return [_seen(item, shape.items) for item in value]
    if shape.types == ("number",) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


_KEYWORDS: Final = frozenset(
    [
        *("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for"),
        *("function", "if", "import", "let", "loop", "package", "namespace", "return"),
    ]
)


def _escaped(name: str) -> str:
    """Return how expressions spell a field: keywords and odd characters are escaped."""
    if name in _KEYWORDS:
        return f"__{name}__"
    escapes = (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__"))
    for odd, plain in escapes:
        name = name.replace(odd, plain)
    return name


def rules_that_fail_to_compile(schema: Document, path: str) -> Iterator[Cause]:
    """Go through the rules of a schema that are no expressions."""
    for index, rule in enumerate(schema.get(_RULES) or ()):
        for name in ("rule", "messageExpression"):
            try:
                if rule.get(name):
                    compiled(rule[name])
            except RuleError as error:
                text = f"Invalid value: {rule[name]!r}: compilation failed: {error}"
                yield Cause("FieldValueInvalid", text, f"{path}.{_RULES}[{index}].{name}")
    for name, inside in (schema.get("properties") or {}).items():
        yield from rules_that_fail_to_compile(inside, f"{path}.properties[{name}]")
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from rules_that_fail_to_compile(schema[name], f"{path}.{name}")
