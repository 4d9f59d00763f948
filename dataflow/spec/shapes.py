"""Shapes: what a value in a document must look like, and what it becomes.

A shape is a function from a value and its place to what it stands for. It notes what is wrong and raises
:class:`.Misfit`; whoever checks a mapping or a list goes on with the next item, so that one reading finds
every problem. A text with a template in it is passed over where that is allowed (:attr:`.At.lenient`): its
value is not known yet.
"""

import dataclasses
import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from cachefs.core.names import parse_name
from cachefs.dataflow.spec import units
from cachefs.dataflow.spec.functions import text_of
from cachefs.dataflow.spec.model import Value
from cachefs.dataflow.spec.problems import At, Misfit, kind_of, quoted
from cachefs.errors import ConfigError

T = TypeVar("T")
Shape = Callable[[Value, At], T]

TEXT_LENGTH_MAX = 64 * 1024
ITEMS_MAX = 10_000
ID_LENGTH_MAX = 63
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}", re.ASCII)
_STEP_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:-[A-Za-z0-9_]+)*", re.ASCII)
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_YAML_1_1 = {"yes": "true", "on": "true", "no": "false", "off": "false"}


def fit(shape: Shape[T], value: Value, at: At) -> T:
    """Return what a value stands for.

    Raises:
        Misfit: It does not fit, or is a template that is let pass.
    """
    if at.lenient and isinstance(value, str) and "${" in value:
        raise Misfit
    return shape(value, at)


def text(value: Value, at: At) -> str:
    """Text that is not empty."""
    if not isinstance(value, str):
        hint = "put it in quotes" if isinstance(value, int | float) else ""
        raise at.fault(f"{kind_of(value)}, where text is needed", hint)
    if not value:
        raise at.fault("an empty text")
    if len(value) > TEXT_LENGTH_MAX:
        raise at.fault(f"a text of more than {TEXT_LENGTH_MAX} characters")
    return value


def identifier(value: Value, at: At) -> str:
    """Letters, digits and ``_``, as names are in expressions."""
    if isinstance(value, str) and _IDENTIFIER.fullmatch(value):
        return value
    shown = quoted(value) if isinstance(value, str) else kind_of(value)
    raise at.fault(f"not a name: {shown}", "use letters, digits and _")


def step_id(value: Value, at: At) -> str:
    """An identifier that may have a ``-`` between its letters."""
    if isinstance(value, str) and len(value) <= ID_LENGTH_MAX and _STEP_ID.fullmatch(value):
        return value
    shown = quoted(value) if isinstance(value, str) else kind_of(value)
    hint = f"use at most {ID_LENGTH_MAX} letters, digits, _ and -, beginning with a letter"
    raise at.fault(f"not an id: {shown}", hint)


def flag(value: Value, at: At) -> bool:
    """``true`` or ``false``."""
    if isinstance(value, bool):
        return value
    meant = _YAML_1_1.get(value.lower()) if isinstance(value, str) else None
    raise at.fault(
        f"{kind_of(value)}, where true or false is needed", f"write {meant}" if meant else ""
    )


def whole(least: int, most: int = 2**53) -> Shape[int]:
    """Return the shape of a whole number."""

    def shape(value: Value, at: At) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise at.fault(f"{kind_of(value)}, where a whole number is needed")
        if not least <= value <= most:
            raise at.fault(f"{value} is not from {least} to {most}")
        return value

    return shape


def number(least: float, most: float) -> Shape[float]:
    """Return the shape of a number."""

    def shape(value: Value, at: At) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise at.fault(f"{kind_of(value)}, where a number is needed")
        if not least <= value <= most:
            raise at.fault(f"{value:g} is not from {least:g} to {most:g}")
        return float(value)

    return shape


def one_of(*words: str) -> Shape[Any]:  # Any: each use has its own Literal type
    """Return the shape of one of some words."""

    def shape(value: Value, at: At) -> str:
        if isinstance(value, str) and value in words:
            return value
        if isinstance(value, str):
            raise at.unknown("word", value, words)
        raise at.fault(f"{kind_of(value)}, where one of {', '.join(words)} is needed")

    return shape


def parsed(parse: Callable[[Value], T]) -> Shape[T]:
    """Return the shape of what a function parses that raises ``ConfigError``."""

    def shape(value: Value, at: At) -> T:
        try:
            return parse(value)
        except ConfigError as error:
            shown = f": {quoted(str(value))}" if isinstance(value, str | int | float) else ""
            told = error.message if "'" in error.message else f"{error.message}{shown}"
            raise at.fault(told, error.hint) from error

    return shape


duration = parsed(units.duration)
size = parsed(units.size)
rate = parsed(units.rate)


def name(kind: str) -> Shape[str]:
    """Return the shape of a name, of a dataset, a namespace, a pool."""

    def parse(value: Value) -> str:
        if not isinstance(value, str):
            raise ConfigError(f"{kind_of(value)}, where the name of a {kind} is needed")
        return parse_name(value, kind=kind)

    return parsed(parse)


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetRef:
    """A dataset, as a flow names it: ``[namespace/]name[@version]``."""

    name: str
    namespace: str | None = None
    """``None`` for the flow's own."""
    version: str | None = None
    """A version's id, a prefix of it, or a revision of the origin; ``None`` for the current one."""


def _dataset(value: Value) -> DatasetRef:
    if not isinstance(value, str):
        raise ConfigError(f"{kind_of(value)}, where the name of a dataset is needed")
    whole_name, at, version = value.partition("@")
    if at and not _VERSION.fullmatch(version):
        raise ConfigError(f"not a version: {quoted(version)}", hint="write NAME or NAME@VERSION")
    namespace, slash, last = whole_name.rpartition("/")
    return DatasetRef(
        parse_name(last, kind="dataset"),
        parse_name(namespace, kind="namespace") if slash else None,
        version or None,
    )


dataset = parsed(_dataset)


def anything(value: Value, at: At) -> Value:
    """Whatever JSON has."""
    del at
    return value


def list_of(shape: Shape[T], *, least: int = 0, most: int = ITEMS_MAX) -> Shape[tuple[T, ...]]:
    """Return the shape of a list whose items have a shape."""

    def check(value: Value, at: At) -> tuple[T, ...]:
        if not isinstance(value, list):
            hint = f"write [{value}]" if isinstance(value, str) and len(value) < 40 else ""
            raise at.fault(f"{kind_of(value)}, where a list is needed", hint)
        if not least <= len(value) <= most:
            raise at.fault("an empty list" if not value else f"more than {most} items")
        return tuple(_all([(shape, item, at[index]) for index, item in enumerate(value)]))

    return check


def mapping_of(shape: Shape[T]) -> Shape[Mapping[str, T]]:
    """Return the shape of a mapping with any keys, whose values have a shape."""

    def check(value: Value, at: At) -> Mapping[str, T]:
        known = mapping(value, at)
        items = _all([(shape, item, at[key]) for key, item in known.items()])
        return dict(zip(known, items, strict=True))

    return check


def mapping(value: Value, at: At) -> Mapping[str, Value]:
    """Return a value that must be a mapping."""
    if isinstance(value, Mapping):
        return value
    raise at.fault(f"{kind_of(value)}, where a mapping is needed")


def command(value: Value, at: At) -> tuple[str, ...]:
    """A program and its arguments; there is no shell anywhere that could take a line apart."""
    if isinstance(value, str):
        words = ", ".join(value.split()[:8])
        raise at.fault(
            "a command is a list: the program, then each argument; it goes through no shell",
            f"write [{words}]" if words and not re.search(r"[][|&;<>$`'\"{}#:]", words) else "",
        )
    return list_of(_argument, least=1)(value, at)


def _argument(value: Value, at: At) -> str:
    try:
        word = text_of(value)
    except ValueError as error:
        raise at.fault(str(error)) from error
    if "\0" in word:
        raise at.fault("a NUL character")
    return word


def _all(checks: Sequence[tuple[Shape[T], Value, At]]) -> list[T]:
    """Return what all of them stand for; each is checked, whatever is wrong with those before it."""
    fitted, misfits = [], 0
    for shape, value, at in checks:
        try:
            fitted.append(fit(shape, value, at))
        except Misfit:
            misfits += 1
    if misfits:
        raise Misfit
    return fitted


def option(
    shape: Shape[Any], default: object = dataclasses.MISSING, *, key: str = ""
) -> Any:  # Any: as dataclasses.field
    """Declare a field of a :class:`Record`; without a default it is required.

    Args:
        shape: What its value must look like.
        default: What it is if it is not given.
        key: What it is called in documents, if not as the field; keywords lose their ``_`` anyway.
    """
    metadata = {"shape": shape, "key": key}
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def options(shape: Shape[Any]) -> Any:  # Any: as dataclasses.field
    """Declare a field that is a mapping whose values have a shape; empty if it is not given."""
    return dataclasses.field(default_factory=dict, metadata={"shape": mapping_of(shape)})


def as_written(shape: Shape[Any]) -> Shape[Any]:
    """Return a shape that checks, and leaves the value as it is: its templates are rendered later."""

    def check(value: Value, at: At) -> Value:
        shape(value, at)
        return value

    return check


class Record(Generic[T]):
    """The shape of a mapping with known keys, which becomes a dataclass."""

    def __init__(
        self,
        cls: type[T],
        *,
        exactly_one: Sequence[Sequence[str]] = (),
        check: Callable[[T, At], None] | None = None,
        hints: Mapping[str, str] | None = None,
    ) -> None:
        """Take the keys from the fields of a dataclass, each an :func:`option`.

        Args:
            cls: The dataclass.
            exactly_one: Groups of keys of which one must be given, and no second.
            check: Notes what is wrong with fields together, once each of them fits.
            hints: What to say of a key that is not there, if the nearest one is not what was meant.
        """
        self.cls = cls
        self._fields: dict[str, dataclasses.Field[Any]] = {}
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # every cls is a dataclass
            bare = field.name.removesuffix("_")
            key = bare if keyword.iskeyword(bare) else field.name
            self._fields[str(field.metadata.get("key") or key)] = field
        self._exactly_one = exactly_one
        self._check = check
        self._hints = hints or {}

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys, in the order of the fields."""
        return tuple(self._fields)

    def __call__(self, value: Value, at: At) -> T:
        """Return the dataclass that a mapping stands for."""
        given = mapping(value, at)
        before = len(at.faults)
        self._keys(given, at)
        known: dict[str, Any] = {}  # Any: as the fields' types say
        complete = len(at.faults) == before
        for key, field in self._fields.items():
            if key not in given:
                continue
            try:
                known[field.name] = fit(field.metadata["shape"], given[key], at[key])
            except Misfit:
                complete = False
        if not complete:
            raise Misfit
        record = self.cls(**known)
        if self._check:
            self._check(record, at)
        if len(at.faults) > before:
            raise Misfit
        return record

    def _keys(self, given: Mapping[str, Value], at: At) -> None:
        for key in given:
            if key not in self._fields:
                self._unknown(key, at[key])
        for key, field in self._fields.items():
            if key not in given and _required(field):
                at.fault(f"{key} is missing")
        for group in self._exactly_one:
            found = [key for key in group if key in given]
            if not found:
                at.fault(f"needs {' or '.join(group)}")
            for key in found[1:]:
                at[key].fault(f"{found[0]} and {key} exclude each other", at_key=True)

    def _unknown(self, key: str, at: At) -> None:
        if key in self._hints:
            at.fault(f"unknown key {quoted(key)}", self._hints[key], at_key=True)
        else:
            at.unknown("key", key, self._fields, at_key=True)


def _required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing
