"""The Common Expression Language, with what Kubernetes adds to it.

Only what ``celpy`` lacks is here: strings' and lists' functions of Kubernetes' libraries, and quantities. Programs
are compiled once. Optional values (``self.?a``) are not understood.
"""

import functools
import itertools
import re
from collections.abc import Mapping
from typing import Any, Final

import celpy
from celpy import celtypes
from celpy.adapter import json_to_cel
from celpy.celparser import CELParseError
from celpy.evaluation import CELEvalError

from cachefs.testing.kubernetes.documents import Json
from cachefs.testing.kubernetes.quantities import quantity

_ENVIRONMENT: Final = celpy.Environment()


class RuleError(Exception):
    """An expression cannot be compiled, or fails on what it is given."""


class Quantity(celtypes.DoubleType):
    """A quantity of Kubernetes (``100Gi``) that expressions compare."""


def evaluate(expression: str, values: Mapping[str, Json]) -> Json:
    """Return what an expression comes to.

    Raises:
        RuleError: it fails.
    """
    program = compiled(expression)
    try:
        return program.evaluate({name: json_to_cel(value) for name, value in values.items()})
    except (CELEvalError, ValueError, TypeError, ArithmeticError) as error:
        raise RuleError(str(error.args[0]).partition(" (in activation")[0]) from error


@functools.lru_cache(maxsize=2048)
def compiled(expression: str) -> celpy.Runner:
    """Return an expression's program.

    Raises:
        RuleError: it is none.
    """
    try:
        tree = _ENVIRONMENT.compile(expression)
    except CELParseError as error:
        raise RuleError(f"syntax error: {error.args[0]}") from error
    return _ENVIRONMENT.program(tree, functions=_FUNCTIONS)


Value = Any  # Any: celpy's values


def _quantity(text: Value) -> Value:
    number = quantity(text)
    if number is None:
        raise ValueError(f"quantities must match the regular expression: {text}")
    return Quantity(float(number))


def _is_quantity(text: Value) -> Value:
    return celtypes.BoolType(quantity(text) is not None)


def _compare(left: Value, right: Value) -> Value:
    return celtypes.IntType((left > right) - (left < right))


def _index_of(holder: Value, part: Value) -> Value:
    if isinstance(holder, str):
        return celtypes.IntType(str(holder).find(str(part)))
    return celtypes.IntType(holder.index(part) if part in holder else -1)


def _last_index_of(holder: Value, part: Value) -> Value:
    if isinstance(holder, str):
        return celtypes.IntType(str(holder).rfind(str(part)))
    places = [index for index, item in enumerate(holder) if item == part]
    return celtypes.IntType(places[-1] if places else -1)


def _split(text: Value, separator: Value, most: Value = -1) -> Value:
    parts = str(text).split(str(separator)) if separator else list(str(text))
    if 0 < most < len(parts):
        parts = [*parts[: most - 1], str(separator).join(parts[most - 1 :])]
    return celtypes.ListType([celtypes.StringType(part) for part in parts])


def _join(items: Value, separator: Value = "") -> Value:
    return celtypes.StringType(str(separator).join(str(item) for item in items))


def _replace(text: Value, old: Value, new: Value, most: Value = -1) -> Value:
    return celtypes.StringType(str(text).replace(str(old), str(new), int(most)))


def _substring(text: Value, start: Value, end: Value = None) -> Value:
    return celtypes.StringType(str(text)[int(start) : None if end is None else int(end)])


def _format(text: Value, values: Value) -> Value:
    return celtypes.StringType(str(text) % tuple(values))


def _is_sorted(items: Value) -> Value:
    return celtypes.BoolType(all(a <= b for a, b in itertools.pairwise(items)))


def _find(text: Value, pattern: Value) -> Value:
    found = re.search(str(pattern), str(text))
    return celtypes.StringType(found[0] if found else "")


def _find_all(text: Value, pattern: Value) -> Value:
    found = re.finditer(str(pattern), str(text))
    return celtypes.ListType([celtypes.StringType(each[0]) for each in found])


def _is_url(text: Value) -> Value:
    return celtypes.BoolType(
        re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s]+|/", str(text)) is not None
    )


_FUNCTIONS: Final[dict[str, Any]] = {  # Any: as celpy takes them
    "quantity": _quantity,
    "isQuantity": _is_quantity,
    "isGreaterThan": lambda left, right: celtypes.BoolType(left > right),
    "isLessThan": lambda left, right: celtypes.BoolType(left < right),
    "compareTo": _compare,
    "asInteger": lambda value: celtypes.IntType(int(value)),
    "asApproximateFloat": lambda value: celtypes.DoubleType(float(value)),
    "isInteger": lambda value: celtypes.BoolType(float(value).is_integer()),
    "sign": lambda value: celtypes.IntType((value > 0) - (value < 0)),
    "indexOf": _index_of,
    "lastIndexOf": _last_index_of,
    "split": _split,
    "join": _join,
    "replace": _replace,
    "substring": _substring,
    "charAt": lambda text, index: celtypes.StringType(str(text)[int(index) : int(index) + 1]),
    "trim": lambda text: celtypes.StringType(str(text).strip()),
    "lowerAscii": lambda text: celtypes.StringType(str(text).lower()),
    "upperAscii": lambda text: celtypes.StringType(str(text).upper()),
    "format": _format,
    "isSorted": _is_sorted,
    "sum": lambda items: sum(items[1:], items[0]) if items else celtypes.IntType(0),
    "min": min,
    "max": max,
    "find": _find,
    "findAll": _find_all,
    "isURL": _is_url,
}
