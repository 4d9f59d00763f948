"""The functions of expressions: few, pure, quick, and bounded in what they return."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cachefs.dataflow.spec import units
from cachefs.dataflow.spec.model import Value
from cachefs.dataflow.spec.problems import kind_of

TEXT_LENGTH_MAX = 1024 * 1024
LIST_LENGTH_MAX = 10_000
_INTEGER_MAX = 2**63
_ANY_NUMBER_OF = 64


@dataclass(frozen=True, slots=True)
class Function:
    """A function, with how many arguments it takes."""

    call: Callable[..., Value]
    least: int
    most: int

    def arity_fault(self, count: int) -> str:
        """Return what is wrong with a number of arguments; empty if nothing is."""
        if self.least <= count <= self.most:
            return ""
        if self.least == self.most:
            return f"takes {self.least} argument{'s' if self.least != 1 else ''}, not {count}"
        return f"takes {self.least} to {self.most} arguments, not {count}"


def bounded(value: Value) -> Value:
    """Return a value, if it is not too large.

    Raises:
        OverflowError: It is.
    """
    if isinstance(value, str) and len(value) > TEXT_LENGTH_MAX:
        raise OverflowError(f"a text of more than {TEXT_LENGTH_MAX} characters")
    if isinstance(value, list) and len(value) > LIST_LENGTH_MAX:
        raise OverflowError(f"a list of more than {LIST_LENGTH_MAX} items")
    if isinstance(value, float) and not math.isfinite(value):
        raise OverflowError("a number that is too large")
    if isinstance(value, int) and abs(value) > _INTEGER_MAX:
        raise OverflowError("a number beyond 64 bits")
    return value


def text_of(value: Value) -> str:
    """Return a value as it is written within a text.

    Raises:
        ValueError: It is nothing, a list or a mapping.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    raise ValueError(f"{kind_of(value)} cannot be put into a text")


def _length(value: Value) -> int:
    if isinstance(value, str | list | Mapping):
        return len(value)
    raise ValueError(f"{kind_of(value)} has no length")


def _numbers(*values: Value) -> list[Value]:
    known = values[0] if len(values) == 1 and isinstance(values[0], list) else list(values)
    if not known:
        raise ValueError("an empty list")
    for value in known:
        _number(value)
    return list(known)


def _number(value: Value) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise ValueError(f"{kind_of(value)}, where a number is needed")


def _text(value: Value) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"{kind_of(value)}, where text is needed")


def equal(left: Value, right: Value) -> bool:
    """Say whether two values are the same; ``true`` is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)


def contains(whole: Value, part: Value) -> bool:
    """Say whether a text, a list or a mapping's keys have a part.

    Raises:
        ValueError: Nothing can be in it.
    """
    if isinstance(whole, str):
        return _text(part) in whole
    if isinstance(whole, list):
        return any(equal(item, part) for item in whole)
    if isinstance(whole, Mapping):
        return isinstance(part, str) and part in whole
    raise ValueError(f"{kind_of(whole)}, where a list or text is needed")


def _to_number(value: Value) -> Value:
    if not isinstance(value, str):
        return _number(value)
    if len(value) > 40 or not value.isascii() or "_" in value:
        raise ValueError("not a number")
    try:
        return int(value)
    except ValueError:
        try:
            return bounded(float(value))
        except ValueError:
            raise ValueError(f"not a number: {value!r}") from None


def _split(value: Value, separator: Value) -> list[str]:
    if not _text(separator):
        raise ValueError("an empty separator")
    return _text(value).split(_text(separator))


def _join(values: Value, separator: Value) -> str:
    if isinstance(values, list):
        texts = [text_of(value) for value in values]
        if sum(len(text) + len(_text(separator)) for text in texts) > TEXT_LENGTH_MAX:
            raise OverflowError(f"a text of more than {TEXT_LENGTH_MAX} characters")
        return _text(separator).join(texts)
    raise ValueError(f"{kind_of(values)}, where a list is needed")


def _range(count: Value) -> list[int]:
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= LIST_LENGTH_MAX:
        raise ValueError(f"not a number from 0 to {LIST_LENGTH_MAX}")
    return list(range(count))


FUNCTIONS: Mapping[str, Function] = {
    "len": Function(_length, 1, 1),
    "min": Function(lambda *values: min(_numbers(*values)), 1, _ANY_NUMBER_OF),
    "max": Function(lambda *values: max(_numbers(*values)), 1, _ANY_NUMBER_OF),
    "sum": Function(lambda values: sum(_numbers(values)) if values != [] else 0, 1, 1),
    "round": Function(lambda value: round(_number(value)), 1, 1),
    "floor": Function(lambda value: math.floor(_number(value)), 1, 1),
    "ceil": Function(lambda value: math.ceil(_number(value)), 1, 1),
    "contains": Function(contains, 2, 2),
    "starts_with": Function(lambda value, part: _text(value).startswith(_text(part)), 2, 2),
    "ends_with": Function(lambda value, part: _text(value).endswith(_text(part)), 2, 2),
    "lower": Function(lambda value: _text(value).lower(), 1, 1),
    "upper": Function(lambda value: _text(value).upper(), 1, 1),
    "trim": Function(lambda value: _text(value).strip(), 1, 1),
    "split": Function(_split, 2, 2),
    "join": Function(_join, 2, 2),
    "text": Function(text_of, 1, 1),
    "number": Function(_to_number, 1, 1),
    "bytes": Function(units.size, 1, 1),
    "seconds": Function(units.duration, 1, 1),
    "default": Function(lambda value, other: other if value is None else value, 2, 2),
    "range": Function(_range, 1, 1),
}
"""By name; :mod:`.names` has those that ask how steps ended."""
