"""Symbols: values that stand for what a user of the chart will say.

Each is what the installation takes for a text or a number of its kind, and so unlike any other that it is
recognised wherever it ends up. A value that may be absent is a *switch*: it is there or it is not.
"""

import re
from collections.abc import Mapping
from typing import Any

from cachefs.config.schema import GIB
from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.parts import Document
from cachefs.k8s.manifests.whole import namespaces, objects
from cachefs.k8s.values import VALUES, Value

_MARK = "zq9"
"""Around the name in a symbol; in no text of ours."""
_RELEASE = f"{_MARK}-release-{_MARK}"
_NUMBER = 7_310_001
"""The first symbol that is a number of things; the next is one more."""
_SIZE = 7 * GIB + 1009
"""The first that is a number of bytes: no whole number of MiB, so that it is written as it is."""


class Symbols:
    """All symbols, and what they are in a template."""

    def __init__(self) -> None:
        """Make a symbol for each value."""
        self._symbols: dict[str, Any] = {}
        self._expressions: dict[str, str] = {_RELEASE: ".Release.Namespace"}
        self._collections: dict[str, str] = {}
        for at, value in enumerate(VALUES):
            path = f".Values.{value.path}"
            symbol, mark = _symbol(value, at)
            if value.form in ("texts", "labels", "objects"):
                self._collections[mark] = path
            elif mark:
                self._expressions[mark] = path
            self._symbols[value.field] = symbol
        alternatives = "|".join(re.escape(mark) for mark in self._expressions)
        self.pattern = re.compile(alternatives)
        """Matches any symbol in a text."""

    @property
    def switches(self) -> list[str]:
        """The fields that may be there or not."""
        return [value.field for value in VALUES if value.form != "number" and not _is_needed(value)]

    def condition(self, switch: str) -> str:
        """Return the expression that is true where a field is there."""
        return next(f".Values.{value.path}" for value in VALUES if value.field == switch)

    def expression(self, mark: str) -> str:
        """Return the expression for a symbol that the pattern matched."""
        return self._expressions[mark]

    def collection(self, value: object) -> str | None:
        """Return the expression for a list or a mapping that is a symbol as a whole."""
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, Mapping) and len(value) == 1:
            value = next(iter(value))
        return self._collections.get(value) if isinstance(value, str) else None

    def documents(self, switches: Mapping[str, bool]) -> list[Document]:
        """Return what the chart installs: all but the definitions, and the release's own namespace."""
        given = {
            value.field: self._symbols[value.field]
            for value in VALUES
            if switches.get(value.field, True) and value.form != "switch"
        }
        given |= {value.field: switches[value.field] for value in VALUES if value.form == "switch"}
        wanted = Installation(namespace=_RELEASE, **given)
        ours = [each for each in namespaces(wanted) if each["metadata"]["name"] != wanted.namespace]
        return [*ours, *objects(wanted)]


def _is_needed(value: Value) -> bool:
    """Say whether a value is always there: it has a default, or the schema insists on it."""
    return value.form in ("text", "size") and (bool(value.default) or value.path == "image")


def _symbol(value: Value, at: int) -> tuple[Any, str]:
    """Return a value's symbol, and the text by which it is recognised."""
    if value.form in ("number", "size"):
        number = at + (_NUMBER if value.form == "number" else _SIZE)
        return number, str(number)
    word = f"{_MARK}-{at}-{_MARK}"
    if str(value.default).startswith("/"):
        word = f"/{word}"
    forms = {
        "text": word,
        "texts": (word,),
        "labels": {word: ""},
        "objects": ({word: ""},),
    }
    return (forms[value.form], word) if value.form in forms else (True, "")
